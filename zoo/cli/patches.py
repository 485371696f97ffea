"""``zoo patches``: cut a stack and an inventory into training data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import make_table, note, out, relative, warn
from zoo.cli.progress import stage_progress
from zoo.cli.values import BUFFER, LAYER, PATH, WHERE, parse_names
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.rasters.patches import PatchReport, SceneSummary


@click.command()
@click.argument("stacks", nargs=-1, required=True, type=PATH, metavar="STACK...")
@click.option("--inventory", required=True, type=PATH, help="Landslides: GeoPackage, Shapefile, GeoJSON.")
@click.option("--out", "folder", required=True, type=PATH, help="Folder to create.")
@click.option("--size", type=click.IntRange(8), default=128, show_default=True, help="Side of a patch in pixels.")
@click.option("--stride", type=click.IntRange(1), help="Pixels from one patch to the next; by default the size.")
@click.option("--bands", metavar="A,B", help="Bands to cut, in order; all by default.")
@click.option("--all", "everything", is_flag=True, help="Keep every patch that is valid enough (the default).")
@click.option("--positives", is_flag=True, help="Keep only patches with a landslide.")
@click.option(
    "--negatives-per-positive", type=float, metavar="K", help="Keep those and K times as many others, drawn at random."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed for the negatives.")
@click.option(
    "--min-valid",
    type=float,
    default=0.5,
    show_default=True,
    help="Minimum share of a patch with valid data in all bands.",
)
@click.option(
    "--phase",
    type=click.Choice(["pre", "post"]),
    help="Image before or after the landslides; by default the stack's tag.",
)
@click.option("--date", metavar="ISO", help="Day of the image; by default the stack's tag.")
@click.option("--scene", metavar="NAME", help="Name of the scene; by default the stack's tag, else its file name.")
@LAYER
@WHERE
@click.option(
    "--date-column",
    metavar="COLUMN",
    help="Column with the day or year of a landslide: draw only landslides that the image can show.",
)
@BUFFER
@click.option("--all-touched", is_flag=True, help="Draw every pixel that a landslide touches, not only its centre.")
@click.option("--overwrite", is_flag=True, help="Replace a folder that zoo patches wrote before.")
def patches(
    stacks: tuple[Path, ...],
    inventory: Path,
    folder: Path,
    bands: str | None,
    everything: bool,
    positives: bool,
    negatives_per_positive: float | None,
    **given: Any,
) -> None:
    """Cut stacks and an inventory of landslides into patches and masks that every command reads.

    \b
    zoo patches stack.tif --inventory landslides.gpkg --out patches/ --phase post
    zoo patches a.tif b.tif --inventory all.gpkg --out patches/ --negatives-per-positive 2
    zoo patches stack.tif --inventory slides.shp --out patches/ --where 'Year_obs >= 2010' --size 64
    zoo patches stack.tif --inventory slides.shp --out patches/ --bands NDVI,slope,DEM
    zoo bench --models all --data patches/

    The folder holds images/ and masks/ (GeoTIFF), tiles.csv with scene, place, date and phase of each patch,
    overview.png and patches.json. It appears when it is complete. Exit code 0: done; 2: bad input.
    """
    from zoo.api.preparation import patches as cut

    if everything + positives + (negatives_per_positive is not None) > 1:
        raise ConfigError(
            "--all, --positives and --negatives-per-positive cannot be combined", hint="Give one of them, or none"
        )
    select = "positives" if positives else "all" if negatives_per_positive is None else "sampled"
    if negatives_per_positive is not None:
        given["negatives"] = negatives_per_positive
    with stage_progress("cutting") as show:
        report = cut(
            stacks,
            inventory,
            folder,
            bands=parse_names(bands),
            select=select,
            progress=lambda scene, done, total: show(f"cutting {scene}", done, total),
            **given,
        )
    _print(report)


def _print(report: PatchReport) -> None:
    metres = "" if report.pixel_size is None else f", {report.size * report.pixel_size:,.0f} m"
    bands = ", ".join(name if unit in ("1", "unknown") else f"{name} [{unit}]" for name, unit in report.bands)
    note(f"patches of {report.size} x {report.size} px{metres}; {len(report.bands)} bands: {bands}")
    for scene in report.scenes:
        for text in scene.notes:
            note(f"  {scene.scene}: {text}")
    headings = (
        *("scene", "phase", "date", "patches", "with landslide", "left out", "landslides drawn"),
        *("landslide px", "share", "m2: smallest / median / largest"),
    )
    rows = [_row(scene.scene, scene.phase, scene.date or "unknown", [scene]) for scene in report.scenes]
    if len(rows) > 1:
        rows.append(_row("all", "", "", report.scenes))
    out().print(make_table(headings, rows, right=headings[3:]))
    if report.stride < report.size:
        guard = -(-report.size // report.stride)
        warn(
            f"patches overlap: a split keeps {guard} patches between its parts unless --data-option guard= says "
            "otherwise, and a random split leaks"
        )
    place = relative(report.folder)
    note(f"images, masks, tiles.csv and overview.png are in {place}; train on them: zoo bench --data {place}")


def _row(name: str, phase: str, date: str, scenes: Sequence[SceneSummary]) -> tuple[str, ...]:
    def total(field: str) -> int:
        return sum(int(getattr(scene, field)) for scene in scenes)

    valid = total("valid_pixels")
    return (
        name,
        phase,
        date,
        f"{total('patches'):,}",
        f"{total('positives'):,}",
        f"{total('too_empty') + total('unselected'):,}",
        f"{total('drawn'):,} of {total('landslides'):,}",
        f"{total('kept_pixels'):,}",
        f"{total('mask_pixels') / valid:.2%}" if valid else "",
        " / ".join(f"{area:,.0f}" for area in scenes[0].areas) if len(scenes) == 1 else "",
    )
