"""``zoo describe``: what a data set or a stack is made of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import err, make_table, note, out, relative, warn
from zoo.cli.data_options import collect, split_options
from zoo.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.progress import Progress

    from zoo.datasets.source import DataSource
    from zoo.diagnostics.description import Collinearity, Description
    from zoo.physics.bands import Band

RASTERS = (".tif", ".tiff", ".vrt")


@click.command(short_help="Statistics, classes, landslide sizes and redundancy of a data set or a stack.")
@click.argument("data", metavar="DATA|STACK.tif")
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="train", show_default=True, help="Of a data set."
)
@click.option("--bands", metavar="A,B", help="Channels to describe; all when not given.")
@split_options
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to this file as well.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw them into this PNG, PDF or SVG file.")
def describe(
    data: str,
    split: str,
    bands: str | None,
    json_file: Path | None,
    picture: Path | None,
    data_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Describe a split of a data set, or a raster of several bands.

    \b
    zoo describe synthetic
    zoo describe patches --group-column scene --train-groups S1 --picture patches.png
    zoo describe stack.tif --bands NDVI,NDWI,slope --json stack.json

    Prints each channel's statistics, how channels correlate, their variance inflation factors and principal
    components, the balance of the classes and the sizes of the landslides. Pixels are read once, piece by piece.
    """
    from zoo.files import check_writable_folder

    options = collect(data_options, **given)
    is_raster = Path(data).suffix.lower() in RASTERS and not Path(data).is_dir()
    if is_raster and options:
        raise ConfigError("a raster has no splits", where=f"option {min(options)}", hint="Leave the split options out")
    if picture is not None and picture.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"{picture.name!r} is no picture", where="--picture", hint="Name a .png, .pdf or .svg file")
    for file in (json_file, picture):
        if file is not None:
            check_writable_folder(file.parent)
    wanted = None if bands is None else [name.strip() for name in bands.split(",") if name.strip()]
    if is_raster:
        found = _of_stack(data, wanted)
    else:
        from zoo.datasets.source import DataSource

        found = _of_split(DataSource.parse(data, options), split, wanted)
    console = out()
    _print_channels(found, console)
    _print_dependence(found, console)
    _print_landslides(found, console)
    if json_file is not None:
        from zoo.files import write_json_atomic

        write_json_atomic(json_file, {"data": data, "split": None if is_raster else split, **found.to_dict()})
        note(f"the figures are in {relative(json_file)}")
    if picture is not None:
        from zoo.diagnostics.drawing import draw_description
        from zoo.files import atomic_path

        with atomic_path(picture) as temporary:
            draw_description(found).savefig(temporary, dpi=130)
        note(f"the picture is {relative(picture)}")


def _of_split(source: DataSource, split: str, wanted: Sequence[str] | None) -> Description:
    from zoo.cli.opening import open_split
    from zoo.datasets.base import IGNORE
    from zoo.diagnostics.description import Describer

    dataset = open_split(source, split)
    kept = _positions(dataset.bands, wanted)
    first = dataset.read(0)[1]
    describer = Describer(
        [dataset.bands[band] for band in kept],
        class_names=dataset.class_names,
        pixel_size=dataset.pixel_size,
        expected=first.size * len(dataset),
        ignore=IGNORE,
    )
    with _bar() as bar:
        for index in bar.track(range(len(dataset)), description=f"{source.label}: {split} split"):
            image, mask = dataset.read(index)
            describer.add(image[kept], mask)
    note(f"data {source.label}: {len(dataset)} {split} patches of {first.shape[0]} x {first.shape[1]} px")
    return describer.finish(f"{source.label}, {split} split")


def _of_stack(data: str, wanted: Sequence[str] | None) -> Description:
    from zoo.diagnostics.description import Describer
    from zoo.rasters.reading import small_cache
    from zoo.rasters.stacks import Stack

    with small_cache(), Stack(data) as stack:
        kept = _positions(stack.bands, wanted)
        rows, columns = stack.shape
        describer = Describer(
            [stack.bands[band] for band in kept], pixel_size=stack.pixel_size, expected=rows * columns
        )
        with _bar() as bar:
            for window in bar.track(list(stack.windows()), description=Path(data).name):
                describer.add(stack.read(window)[kept])
        size = "" if stack.pixel_size is None else f" of {stack.pixel_size:g} m"
        note(f"stack {Path(data).name}: {rows} x {columns} px{size}, {len(stack.bands)} bands")
    note("a raster has no masks, so classes and landslide sizes are left out")
    return describer.finish(Path(data).name)


def _positions(bands: Sequence[Band], wanted: Sequence[str] | None) -> list[int]:
    names = [band.name for band in bands]
    if wanted is None:
        return list(range(len(names)))
    if not wanted:
        raise ConfigError("no channel is named", where="--bands")
    for name in wanted:
        if name not in names:
            raise UnknownNameError("band", name, names, where="--bands")
    return [names.index(name) for name in dict.fromkeys(wanted)]


def _print_channels(found: Description, console: Console) -> None:
    rows = [
        (
            channel.name,
            channel.unit,
            *(
                _number(value)
                for value in (
                    channel.minimum,
                    channel.low,
                    channel.mean,
                    channel.std,
                    channel.high,
                    channel.maximum,
                )
            ),
            f"{channel.missing:.2%}",
            "" if channel.outside is None else f"{channel.outside:.2%}",
        )
        for channel in found.channels
    ]
    headings = ("channel", "unit", "min", "0.5 %", "mean", "std", "99.5 %", "max", "missing", "outside range")
    console.print("\n[bold]channels[/bold]")
    console.print(make_table(headings, rows, right=headings[2:]))
    for channel in found.channels:
        if channel.infinite:
            warn(f"{channel.name}: {channel.infinite} values are infinite and count as missing")
        if channel.constant:
            warn(f"{channel.name} is constant ({channel.mean:g}): a model learns nothing from it")
        if channel.outside:
            warn(f"{channel.name}: {channel.outside:.2%} of its values lie outside its valid range; is the unit right?")


def _print_dependence(found: Description, console: Console) -> None:
    dependence = found.dependence
    if dependence is None:
        emptiest = max(found.channels, key=lambda channel: channel.missing)
        warn(
            f"no pixel is valid in every channel, so nothing is said of correlation ({emptiest.name} is missing in "
            f"{emptiest.missing:.0%}); choose channels with --bands"
        )
        return
    note(f"{found.complete} of {found.pixels} pixels are valid in every channel; what follows is over these")
    headings = ("correlation", *dependence.names, "VIF")
    rows = [
        (name, *(_fixed(value) for value in values), _inflation(vif))
        for name, values, vif in zip(dependence.names, dependence.correlation, dependence.vif, strict=True)
    ]
    console.print()
    console.print(make_table(headings, rows, right=headings[1:]))
    components = ("component", "explained", "together", *dependence.names)
    table = [
        (f"PC{number}", f"{share:.1%}", f"{together:.1%}", *(_fixed(value) for value in loadings))
        for number, (share, together, loadings) in enumerate(
            zip(dependence.explained, dependence.explained.cumsum(), dependence.loadings, strict=True), start=1
        )
    ]
    if table:
        console.print()
        console.print(make_table(components, table, right=components[1:]))
    _remark(dependence)


def _remark(dependence: Collinearity) -> None:
    strongest = dependence.strongest()
    if strongest is not None:
        one, other, value = strongest
        names = {dependence.names[one], dependence.names[other]}
        why = "; both hold the near infrared, so this is physics" if names == {"NDVI", "NDWI"} else ""
        note(f"strongest correlation: {dependence.names[one]} and {dependence.names[other]}, {_fixed(value)}{why}")
    repeated = [name for name, vif in zip(dependence.names, dependence.vif, strict=True) if vif == math.inf]
    if repeated:
        warn(f"{', '.join(repeated)}: each is determined by the other channels, so one of them adds nothing")


def _print_landslides(found: Description, console: Console) -> None:
    if found.classes is None or found.sizes is None:
        return
    rows = [
        (name, f"{pixels:,}", "-" if math.isnan(share) else f"{share:.2%}")
        for name, pixels, share in zip(found.classes.names, found.classes.pixels, found.classes.shares, strict=True)
    ]
    if found.classes.ignored:
        rows.append(("(ignored)", f"{found.classes.ignored:,}", ""))
    console.print()
    console.print(make_table(("class", "pixels", "share"), rows, right=("pixels", "share")))
    sizes = found.sizes
    facts = [
        ("patches with landslides", f"{sizes.masks_with:,} of {sizes.masks:,}"),
        ("landslides", f"{len(sizes.pixels):,}"),
        ("cut by the border of their patch", f"{sizes.at_border:,}"),
    ]
    unit = "m2" if sizes.pixel_size is not None else "px"
    facts += [
        ("median area" if share == 0.5 else f"{share:.0%} quantile of area", f"{area:,.0f} {unit}")
        for share, area in sizes.quantiles().items()
    ]
    if sizes.small is not None:
        facts.append(("below 1,600 m2", f"{sizes.small:.1%}"))
    console.print()
    console.print(make_table(("landslides", ""), facts, right=("",)))
    if sizes.pixel_size is None:
        note("the size of a pixel is not known, so areas are in pixels")


def _bar() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = err()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.5g}"


def _fixed(value: float) -> str:
    # Adding zero turns the -0.00 of a small negative value into 0.00.
    return "-" if math.isnan(value) else f"{round(value, 2) + 0:.2f}"


def _inflation(value: float) -> str:
    return "constant" if math.isnan(value) else "infinite" if math.isinf(value) else f"{value:.2f}"
