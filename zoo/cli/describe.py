"""``zoo describe``: statistics, classes, landslide sizes and redundancy of a data set or a stack."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import make_table, note, out, relative, warn
from zoo.cli.data_options import collect, split_options
from zoo.cli.values import PATH, parse_names

if TYPE_CHECKING:
    from rich.console import Console

    from zoo.diagnostics.description import Collinearity, Description


@click.command()
@click.argument("data", metavar="DATA|STACK.tif")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="train",
    show_default=True,
    help="Split of a data set.",
)
@click.option("--bands", metavar="A,B", help="Channels to describe; all by default.")
@split_options
@click.option("--json", "json_file", type=PATH, help="Write the figures to this file as well.")
@click.option("--picture", type=PATH, help="Draw them into this PNG, PDF or SVG file.")
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
    zoo describe patches/ --group-column scene --train-groups S1 --picture patches.png
    zoo describe stack.tif --bands NDVI,NDWI,slope --json stack.json

    Prints the statistics of each channel, their correlation, variance inflation factors and principal components, the
    balance of the classes and the sizes of the landslides. Pixels are read once, in blocks.
    """
    from zoo.api.preparation import RASTER_SUFFIXES
    from zoo.api.preparation import describe as describe_data
    from zoo.cli.opening import data_warnings
    from zoo.cli.progress import progress
    from zoo.files import check_outputs

    options = collect(data_options, **given)
    check_outputs((json_file, picture), [data], overwrite=True)
    wanted = parse_names(bands)
    is_raster = data.lower().endswith(RASTER_SUFFIXES) and not Path(data).is_dir()
    with data_warnings(), progress(f"describing {Path(data).name}") as show:
        found = describe_data(data, split=split, bands=wanted, picture=picture, progress=show, data_options=options)
    _print_head(found, is_raster)
    console = out()
    _print_channels(found, console)
    _print_dependence(found, console)
    _print_landslides(found, console)
    if json_file is not None:
        from zoo.files import write_json_atomic

        write_json_atomic(json_file, {"data": data, "split": None if is_raster else split, **found.to_dict()})
        note(f"the figures are in {relative(json_file)}")
    if picture is not None:
        note(f"the picture is {relative(picture)}")


def _print_head(found: Description, is_raster: bool) -> None:
    size = "" if found.shape is None else f"{found.shape[0]} x {found.shape[1]} px"
    size += "" if found.pixel_size is None else f" of {found.pixel_size:g} m"
    if is_raster:
        note(f"{found.label}: {size}, {len(found.channels)} bands")
        note("a raster has no masks, so classes and landslide sizes are left out")
    else:
        patches = "" if found.sizes is None else f"{found.sizes.masks} patches of "
        note(f"{found.label}: {patches}{size}, {len(found.channels)} bands")
    for text in found.notes:
        if is_raster:
            warn(text)
        else:
            note(f"  {text}")


def _print_channels(found: Description, console: Console) -> None:
    rows = [
        (
            channel.name,
            channel.unit,
            *(
                _number(value)
                for value in (channel.minimum, channel.low, channel.mean, channel.std, channel.high, channel.maximum)
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
            f"no pixel is valid in every channel, so there is no correlation ({emptiest.name} is missing in "
            f"{emptiest.missing:.0%}); choose channels with --bands"
        )
        return
    note(f"{found.complete} of {found.pixels} pixels are valid in every channel and used below")
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
    _collinearity_note(dependence)


def _collinearity_note(dependence: Collinearity) -> None:
    strongest = dependence.strongest()
    if strongest is not None:
        one, other, value = strongest
        names = {dependence.names[one], dependence.names[other]}
        reason = "; both use the near infrared, so this is expected" if names == {"NDVI", "NDWI"} else ""
        note(f"strongest correlation: {dependence.names[one]} and {dependence.names[other]}, {_fixed(value)}{reason}")
    repeated = [name for name, vif in zip(dependence.names, dependence.vif, strict=True) if vif == math.inf]
    if repeated:
        warn(f"{', '.join(repeated)}: each is determined by the other channels, so one of them adds no information")


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
        note("the pixel size is unknown, so areas are in pixels")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value + 0:.5g}"


def _fixed(value: float) -> str:
    # Adding zero turns the -0.00 of a small negative value into 0.00.
    return "-" if math.isnan(value) else f"{round(value, 2) + 0:.2f}"


def _inflation(value: float) -> str:
    return "constant" if math.isnan(value) else "infinite" if math.isinf(value) else f"{value:.2f}"
