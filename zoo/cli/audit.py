"""``zoo audit``: find leakage between the splits of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import EXIT_LEAK
from zoo.cli.console import make_table, note, out, relative, warn
from zoo.cli.data_options import collect, split_options
from zoo.cli.progress import stage_progress
from zoo.cli.values import PATH
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from zoo.datasets.audit import Audit, AuditSummary, SharedScene

MAX_PRINTED_PAIRS = 10
"""Number of pairs of each kind to print; the JSON file lists all."""


@click.command()
@click.argument("data", metavar="DATA")
@click.option("--split", metavar="group|block|column|random", help="How to split a folder; same as --split-by.")
@split_options
@click.option("--json", "json_file", type=PATH, help="Write all findings to this file.")
def audit(data: str, split: str | None, json_file: Path | None, data_options: tuple[str, ...], **given: Any) -> None:
    """Find what the train, val and test splits of DATA share. DATA is a registered data set, or a folder of images
    and masks.

    \b
    zoo audit synthetic
    zoo audit patches/ --split random
    zoo audit patches/ --group-column scene --train-groups S1 --test-groups S2,S3 --json audit.json

    The audit searches for equal images, copies that were rotated, brightened or compressed, patches that overlap,
    landslides with the same outline, neighbours on the ground, and scenes in two splits. Exit code 0: no leak was
    found; 1: there is a leak; 2: bad input.
    """
    from zoo.api.preparation import audit as audit_data
    from zoo.cli.opening import open_splits
    from zoo.datasets import DataSource
    from zoo.files import check_outputs, write_json_atomic

    source = DataSource.parse(data, collect(data_options, **_with_split(split, given)))
    check_outputs([json_file], [data], overwrite=True)
    splits = open_splits(source)
    with stage_progress("audit") as show:
        found = audit_data(splits, progress=show)
    _print(found, out())
    if json_file is not None:
        write_json_atomic(json_file, {"data": source.to_dict(), **found.to_json()})
        note(f"wrote all findings to {relative(json_file)}")
    if found.leaks:
        click.get_current_context().exit(EXIT_LEAK)


def print_verdict(found: AuditSummary) -> None:
    """Print one line on standard error that states whether splits leak."""
    if found.leaks is False:
        note(f"audit: {found.verdict}")
    else:
        warn(f"audit: {found.verdict}{'; see zoo audit' if found.leaks else ''}")


def _with_split(split: str | None, given: dict[str, Any]) -> dict[str, Any]:
    if split is None:
        return given
    if given["split_by"] not in (None, split):
        raise ConfigError(
            f"--split is {split!r} but --split-by is {given['split_by']!r}", hint="Give one of the two options"
        )
    return {**given, "split_by": split}


def _print(found: Audit, console: Console) -> None:
    rows = [
        (
            entry.kind,
            f"{entry.first} - {entry.second}",
            _pair_count(found, entry.kind, (entry.first, entry.second)),
            f"{entry.patches} of {found.sizes[entry.second]}",
            meaning,
        )
        for kind, meaning in found.kinds.items()
        for entry in found.touched
        if entry.kind == kind
    ]
    if rows:
        headings = ("kind", "splits", "pairs", "patches of the second", "meaning")
        console.print("\n[bold]leakage[/bold]")
        console.print(make_table(headings, rows, right=headings[2:4]))
    for kind in found.kinds:
        _print_pairs(found, kind, console)
    if found.scenes:
        scenes = [
            (
                scene.scene or "(one scene)",
                f"{scene.splits[0]} - {scene.splits[1]}",
                " and ".join(map(str, scene.patches)),
                _describe_distance(scene),
            )
            for scene in found.scenes
        ]
        console.print("\n[bold]shared scenes[/bold]")
        console.print(make_table(("scene", "splits", "patches", "distance"), scenes))
    console.print()
    for text in found.notes:
        note(f"note: {text}")
    console.print(f"audit: {found.verdict()}", style="bold red" if found.leaks else "bold green", markup=False)


def _print_pairs(found: Audit, kind: str, console: Console) -> None:
    pairs = found.of_kind(kind)
    if not pairs:
        return
    measure = pairs[0].measure
    rows = [
        (
            f"{pair.splits[0]} - {pair.splits[1]}",
            *pair.patches,
            f"{pair.value:.3f}" if measure == "correlation" else f"{pair.value:g}",
            "" if pair.landslide_pixels is None else str(pair.landslide_pixels),
            pair.detail,
        )
        for pair in pairs[:MAX_PRINTED_PAIRS]
    ]
    used = [column for column in range(6) if column < 4 or any(row[column] for row in rows)]
    headings = ("splits", "patch", "touches", measure, "landslide px in both", "position of the second")
    console.print(f"\n[bold]{kind}[/bold]")
    shown = [headings[column] for column in used]
    console.print(make_table(shown, [[row[column] for column in used] for row in rows], right=headings[3:5]))
    if len(pairs) > MAX_PRINTED_PAIRS:
        console.print(f"and {len(pairs) - MAX_PRINTED_PAIRS} more (--json FILE writes all)")


def _pair_count(found: Audit, kind: str, splits: tuple[str, str]) -> str:
    count = sum(pair.splits == splits for pair in found.of_kind(kind))
    return str(count) if count else ""


def _describe_distance(scene: SharedScene) -> str:
    if scene.distance is None:
        return "unknown: counted as a leak"
    if scene.distance > scene.reach:
        return f"{scene.distance} patches apart or more: guarded"
    if scene.distance == 0:
        return "the same place: see neighbour"
    return f"{'side by side' if scene.distance == scene.reach else 'overlapping'}: see neighbour"
