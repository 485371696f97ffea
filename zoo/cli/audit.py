"""``zoo audit``: what the splits of a data set know of each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import EXIT_LEAK
from zoo.cli.console import err, make_table, note, out, relative, warn
from zoo.cli.data_options import collect, split_options
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from zoo.datasets.audit import Audit, AuditSummary, SharedScene
    from zoo.datasets.base import PatchDataset

SHOWN = 10
"""Pairs of each kind that are printed; all are in the JSON."""


@click.command(short_help="Find leakage between the splits of a data set.")
@click.argument("data", metavar="DATA")
@click.option("--split", metavar="group|block|column|random", help="How to split a folder; the same as --split-by.")
@split_options
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write everything found to this file.")
def audit(data: str, split: str | None, json_file: Path | None, data_options: tuple[str, ...], **given: Any) -> None:
    """Find what train, val and test of DATA share: a registered data set, or a folder of images and masks.

    \b
    zoo audit synthetic
    zoo audit patches --split random
    zoo audit patches --group-column scene --train-groups S1 --test-groups S2,S3 --json audit.json

    Looks for equal images, copies that were turned, brightened or compressed, patches that overlap, landslides of
    one outline, neighbours on the ground, and scenes on both sides. Prints who touches whom. Exit code 0: no leak
    was found; 1: there is one; 2: bad input.
    """
    from zoo.datasets.source import DataSource
    from zoo.files import check_writable_folder, write_json_atomic

    source = DataSource.parse(data, collect(data_options, **_merged(split, given)))
    if json_file is not None:
        check_writable_folder(json_file.parent)

    from zoo.cli.opening import open_splits

    found = _audited(open_splits(source))
    _print(found, out())
    if json_file is not None:
        write_json_atomic(json_file, {"data": source.to_dict(), **found.to_dict()})
        note(f"everything is in {relative(json_file)}")
    if found.leaks:
        click.get_current_context().exit(EXIT_LEAK)


def print_verdict(splits: Mapping[str, PatchDataset], fingerprints: Mapping[str, str]) -> AuditSummary:
    """Tell in one line on standard error whether splits leak; whatever goes wrong, the work goes on."""
    from zoo.datasets.audit import AuditSummary, verdict

    try:
        found = verdict(splits, fingerprints)
    except Exception as error:
        found = AuditSummary(None, f"not done ({error})")
    if found.leaks:
        warn(f"audit: {found.verdict}; see zoo audit")
    elif found.leaks is None:
        warn(f"audit: {found.verdict}")
    else:
        note(f"audit: {found.verdict}")
    return found


def _merged(split: str | None, given: dict[str, Any]) -> dict[str, Any]:
    if split is None:
        return given
    if given["split_by"] not in (None, split):
        raise ConfigError(f"--split says {split} and --split-by says {given['split_by']}", hint="Give one of them")
    return {**given, "split_by": split}


def _audited(splits: dict[str, PatchDataset]) -> Audit:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from zoo.datasets.audit import audit as find_leaks

    console = err()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("audit", total=None)
        return find_leaks(
            splits,
            progress=lambda text, done, total: bar.update(task, description=text, completed=done, total=total),
        )


def _print(found: Audit, console: Console) -> None:
    from zoo.datasets.audit import KINDS

    if found.leaks:
        summary = [
            (kind, f"{pair[0]} - {pair[1]}", _pairs(found, kind, pair), f"{count} of {found.sizes[pair[1]]}", meaning)
            for kind, meaning in KINDS.items()
            for pair, counts in found.touched.items()
            if (count := counts.get(kind, 0))
        ]
        console.print("\n[bold]what leaks[/bold]")
        headings = ("kind", "splits", "pairs", "patches of the second", "what it means")
        console.print(make_table(headings, summary, right=headings[2:4]))
    for kind in KINDS:
        _print_pairs(found, kind, console)
    if found.scenes:
        rows = [
            (
                scene.group or "(one scene)",
                f"{scene.splits[0]} - {scene.splits[1]}",
                " and ".join(map(str, scene.counts)),
                _apart(scene),
            )
            for scene in found.scenes
        ]
        console.print("\n[bold]shared scenes[/bold]")
        console.print(make_table(("scene", "splits", "patches", "how far apart"), rows))
    console.print()
    for text in found.notes:
        note(f"note: {text}")
    console.print(f"audit: {found.verdict()}", style="bold red" if found.leaks else "bold green", markup=False)


def _print_pairs(found: Audit, kind: str, console: Console) -> None:
    touches = found.of_kind(kind)
    if not touches:
        return
    measure = touches[0].measure
    rows = [
        (
            f"{touch.splits[0]} - {touch.splits[1]}",
            touch.one,
            touch.other,
            f"{touch.value:.3f}" if measure == "correlation" else f"{touch.value:g}",
            "" if touch.landslide_pixels is None else str(touch.landslide_pixels),
            touch.detail,
        )
        for touch in touches[:SHOWN]
    ]
    used = [column for column in range(6) if column < 4 or any(row[column] for row in rows)]
    headings = ("splits", "patch", "touches", measure, "landslide px in both", "the second lies")
    console.print(f"\n[bold]{kind}[/bold]")
    shown = [headings[column] for column in used]
    console.print(make_table(shown, [[row[column] for column in used] for row in rows], right=headings[3:5]))
    if len(touches) > SHOWN:
        console.print(f"and {len(touches) - SHOWN} more (all are in what --json FILE writes)")


def _pairs(found: Audit, kind: str, pair: tuple[str, str]) -> str:
    count = sum(touch.splits == pair for touch in found.of_kind(kind))
    return str(count) if count else ""


def _apart(scene: SharedScene) -> str:
    if scene.distance is None:
        return "not known: counted as a leak"
    if scene.distance > scene.reach:
        return f"{scene.distance} patches at the nearest: guarded"
    if scene.distance == 0:
        return "the same place: see neighbour"
    return f"{'side by side' if scene.distance == scene.reach else 'overlapping'}: see neighbour"
