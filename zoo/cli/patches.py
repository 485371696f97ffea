"""``zoo patches``: from a stack and an inventory to training data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import err, make_table, note, out, relative, warn
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.rasters.patches import Report, SceneReport


@click.command(short_help="Cut a stack and an inventory into patches and masks.")
@click.argument("stacks", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="STACK...")
@click.option(
    "--inventory", required=True, type=click.Path(path_type=Path), help="Landslides: GeoPackage, Shapefile, GeoJSON."
)
@click.option("--out", "folder", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option("--size", type=click.IntRange(8), default=128, show_default=True, help="Side of a patch in pixels.")
@click.option("--stride", type=click.IntRange(1), help="Pixels from one patch to the next; by default the size.")
@click.option("--all", "everything", is_flag=True, help="Keep every patch that is valid enough (the default).")
@click.option("--positives", is_flag=True, help="Keep patches with a landslide only.")
@click.option(
    "--negatives-per-positive", type=float, metavar="K", help="Keep those, and K times as many others, at random."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of that draw.")
@click.option(
    "--min-valid", type=float, default=0.5, show_default=True, help="Least share of a patch with all bands known."
)
@click.option("--phase", type=click.Choice(["pre", "post"]), help="Image before or after the landslides; else the tag.")
@click.option("--date", metavar="ISO", help="Day of the image; by default the stack's tag.")
@click.option("--scene", metavar="NAME", help="Name of the scene; by default the stack's tag, else its file name.")
@click.option("--layer", metavar="NAME", help="Layer of the inventory, when it has several.")
@click.option("--where", metavar="SQL", help="Condition on the inventory, such as 'Year_obs >= 2010'.")
@click.option(
    "--date-column", metavar="COLUMN", help="Column with the day or year of a landslide: draw what the image can show."
)
@click.option("--buffer", type=float, metavar="METRES", help="Radius by which points and lines become areas.")
@click.option("--all-touched", is_flag=True, help="Draw every pixel that a landslide touches, not its centre alone.")
@click.option("--overwrite", is_flag=True, help="Replace a folder that zoo patches made before.")
def patches(
    stacks: tuple[Path, ...],
    inventory: Path,
    folder: Path,
    everything: bool,
    positives: bool,
    negatives_per_positive: float | None,
    overwrite: bool,
    **given: Any,
) -> None:
    """Cut stacks and an inventory of landslides into patches and masks that every command reads.

    \b
    zoo patches stack.tif --inventory landslides.gpkg --out patches --phase post
    zoo patches a.tif b.tif --inventory all.gpkg --out patches --negatives-per-positive 2
    zoo patches stack.tif --inventory slides.shp --out patches --where 'Year_obs >= 2010' --size 64
    zoo bench --models all --data patches

    DIR holds images/ and masks/ (GeoTIFF), tiles.csv with scene, place, date and phase of each patch, overview.png
    and patches.json. It appears when it is whole, or not at all. Exit code 0: done; 2: bad input.
    """
    if everything + positives + (negatives_per_positive is not None) > 1:
        raise ConfigError(
            "--all, --positives and --negatives-per-positive exclude each other", hint="Give one of them, or none"
        )
    select = "positives" if positives else "all" if negatives_per_positive is None else "sampled"
    if negatives_per_positive is not None:
        given["negatives"] = negatives_per_positive

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from zoo.rasters.patches import CutOptions, cut_patches

    options = CutOptions(select=select, **given)
    console = err()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def show(scene: str, done: int, total: int) -> None:
            if scene not in tasks:
                tasks[scene] = bar.add_task(f"cutting {scene}", total=total)
            bar.update(tasks[scene], completed=done)

        report = cut_patches(stacks, inventory, folder, options, overwrite=overwrite, progress=show)
    _print(report)


def _print(report: Report) -> None:
    metres = "" if report.pixel_size is None else f", {report.size * report.pixel_size:,.0f} m"
    bands = ", ".join(name if unit in ("1", "unknown") else f"{name} [{unit}]" for name, unit in report.bands)
    note(f"patches of {report.size} x {report.size} px{metres}; {len(report.bands)} bands: {bands}")
    for scene in report.scenes:
        for text in scene.notes:
            note(f"  {scene.scene}: {text}")
    headings = (
        *("scene", "phase", "date", "patches", "with landslide", "left out", "landslides drawn"),
        *("landslide px", "share", "m2: least / median / most"),
    )
    rows = [_row(scene) for scene in report.scenes]
    if len(rows) > 1:
        rows.append(_total(report.scenes))
    out().print(make_table(headings, rows, right=headings[3:]))
    if report.stride < report.size:
        guard = -(-report.size // report.stride)
        warn(
            f"patches overlap: a split keeps {guard} of them apart unless --data-option guard= says otherwise, and a "
            "random one leaks"
        )
    place = relative(report.folder)
    note(f"images, masks, tiles.csv and overview.png are in {place}; train on them: zoo bench --data {place}")


def _row(scene: SceneReport) -> tuple[str, ...]:
    areas = "" if scene.areas is None else " / ".join(f"{area:,.0f}" for area in scene.areas)
    return (
        scene.scene,
        scene.phase,
        scene.date or "unknown",
        f"{scene.patches:,}",
        f"{scene.positives:,}",
        f"{scene.too_empty + scene.unselected:,}",
        f"{scene.drawn:,} of {scene.landslides:,}",
        f"{scene.kept_pixels:,}",
        _share(scene.mask_pixels, scene.valid_pixels),
        areas,
    )


def _total(scenes: tuple[SceneReport, ...]) -> tuple[str, ...]:
    def add(name: str) -> int:
        return sum(int(getattr(scene, name)) for scene in scenes)

    return (
        "all",
        "",
        "",
        f"{add('patches'):,}",
        f"{add('positives'):,}",
        f"{add('too_empty') + add('unselected'):,}",
        f"{add('drawn'):,} of {add('landslides'):,}",
        f"{add('kept_pixels'):,}",
        _share(add("mask_pixels"), add("valid_pixels")),
        "",
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else ""
