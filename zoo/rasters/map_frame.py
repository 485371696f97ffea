"""Draw maps with a frame, a scale bar and a legend, and reduce large rasters for them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window

from zoo.errors import ConfigError
from zoo.files import atomic_path
from zoo.rasters.ground import Bounds, crs_name, page_aspect, width_on_ground

NODATA_COLOUR = "#e5e7eb"
"""Colour of pixels without data."""

OUTLINE_COLOUR = "#374151"
"""Colour of outlines."""

_MAP_INCHES = 8.0
"""Length of the longer side of the map in inches."""


def framed_map(
    pictures: Sequence[tuple[NDArray[Any], Bounds]],
    *,
    title: str,
    crs: CRS,
    legend: Sequence[Artist] = (),
    legend_title: str = "",
    footnote: str = "",
) -> tuple[Figure, Axes]:
    """Draw pictures over each other in the frame of a map.

    Args:
        pictures: pairs of a picture, RGB or RGBA in 0..1, (H, W, 3 or 4), and its (left, bottom, right, top) in
            ``crs``. The first pair is the lowest, and the frame fits it. Pixels that are transparent in all pictures
            are grey.
        title: title above the map.
        crs: coordinate reference system of the bounds; it also gives the length of the scale bar.
        legend: legend entries to the right of the map.
        legend_title: title of the legend.
        footnote: text below the map.

    Returns:
        A figure that pyplot does not manage, and the axes of the map.
    """
    bounds = pictures[0][1]
    left, bottom, right, top = bounds
    aspect = page_aspect(crs, bounds)
    # A very long or wide map would leave no room for its labels.
    shape = min(max((top - bottom) / (right - left) * aspect, 0.35), 2.5)
    across, down = (_MAP_INCHES, _MAP_INCHES * shape) if shape <= 1 else (_MAP_INCHES / shape, _MAP_INCHES)
    figure = Figure(figsize=(across + 3.0, down + 1.2), layout="constrained")
    ax = figure.subplots()
    ax.set_facecolor(NODATA_COLOUR)
    for picture, (west, south, east, north) in pictures:
        ax.imshow(picture, extent=(west, east, south, north), interpolation="nearest")
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    ax.set_aspect(aspect)
    # Titles and file names may contain a dollar sign, which starts a formula in matplotlib.
    ax.set_title(title, fontsize=13, loc="left", parse_math=False)
    if legend:
        ax.legend(
            handles=list(legend),
            title=legend_title,
            fontsize=8,
            title_fontsize=8,
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            alignment="left",
            frameon=False,
        )
    add_scale_bar(ax, crs, bounds)
    _north(ax)
    ax.ticklabel_format(useOffset=False, style="plain")
    ax.tick_params(labelsize=7)
    ax.locator_params(nbins=4)
    ax.set_xlabel(crs_name(crs), fontsize=8)
    if footnote:
        ax.annotate(
            textwrap.fill(footnote, max(int(across * 14), 40)),
            (0, 0),
            (0, -34),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=7,
            color="#4b5563",
            va="top",
            parse_math=False,
        )
    return figure, ax


def legend_patch(colour: Any, label: str) -> Patch:
    """Return a legend entry: a coloured square with its label."""
    return Patch(facecolor=colour, edgecolor=OUTLINE_COLOUR, linewidth=0.5, label=label)


def add_scale_bar(ax: Axes, crs: CRS, bounds: Bounds) -> None:
    """Draw a scale bar of a round length in the lower left corner of axes that show ``bounds``."""
    width_metres = width_on_ground(crs, bounds)
    length = round_length(width_metres / 4)
    share = length / width_metres
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    ax.add_patch(
        Rectangle((0.02, 0.02), share + 0.04, 0.075, transform=ax.transAxes, facecolor="white", alpha=0.8, zorder=3)
    )
    for part, colour in ((0, "black"), (1, "white")):
        ax.add_patch(
            Rectangle(
                (0.04 + part * share / 2, 0.035),
                share / 2,
                0.014,
                transform=ax.transAxes,
                facecolor=colour,
                edgecolor="black",
                linewidth=0.8,
                zorder=4,
            )
        )
    ax.text(0.04 + share / 2, 0.055, label, transform=ax.transAxes, ha="center", va="bottom", fontsize=8, zorder=5)


def round_length(metres: float) -> float:
    """Return the largest length of 1, 2 or 5 times a power of ten that is at most ``metres``."""
    power = 10.0 ** math.floor(math.log10(metres))
    return next(step * power for step in (5, 2, 1) if step * power <= metres * (1 + 1e-9))


def _north(ax: Axes) -> None:
    """Draw a north arrow in the upper right corner."""
    ax.annotate(
        "N",
        xy=(0.955, 0.965),
        xytext=(0.955, 0.87),
        xycoords="axes fraction",
        ha="center",
        va="center",
        fontsize=11,
        fontweight="bold",
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        arrowprops={"arrowstyle": "-|>", "facecolor": "black", "linewidth": 1.5},
    )


def check_picture(path: Path) -> str:
    """Return the picture format for the suffix of a file; call it before the work starts.

    Raises:
        ConfigError: if matplotlib cannot write this format.
    """
    form = path.suffix[1:].lower()
    if form not in Figure().canvas.get_supported_filetypes():
        raise ConfigError(
            f"cannot write a picture of type {form!r}", where=path, hint="Use the suffix .png, .pdf or .svg"
        )
    return form


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure atomically, in the format of the file's suffix.

    Raises:
        ConfigError: if matplotlib cannot write this format.
        ZooError: if the folder cannot be written to.
    """
    form = check_picture(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format=form, bbox_inches="tight", pad_inches=0.15)


def shaded(colours: NDArray[np.floating[Any]], light: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Darken a picture where the relief is in shade.

    Args:
        colours: RGB or RGBA in 0..1, (H, W, 3 or 4).
        light: result of :func:`zoo.physics.hillshade`, (H, W); colours do not change where it is NaN.

    Returns:
        A darkened copy, float64; the alpha channel does not change.
    """
    shown = np.array(colours, np.float64)
    shown[..., :3] *= np.where(np.isnan(light), 1.0, 0.55 + 0.45 * np.nan_to_num(light))[..., None]
    return shown


_WINDOW_SIDE = 1024
"""Approximate side in pixels of the windows in which a raster is reduced."""


def reduced(
    shape: tuple[int, int], read: Callable[[Window], NDArray[np.float32]], max_side: int, how: Literal["mean", "max"]
) -> tuple[NDArray[np.float32], int]:
    """Reduce a raster to one value per square of pixels, window by window.

    Args:
        shape: (rows, columns) of the raster.
        read: function that returns a window as float32 (C, rows, columns), NaN where there is no data.
        max_side: maximum number of values along the longer side.
        how: "mean" of the finite values of a square, or "max", which keeps single pixels visible.

    Returns:
        The reduced raster, float32 (C, rows, columns), NaN where a square has no data, and the side of a square in
        pixels. The last squares may extend beyond the raster.
    """
    step = max(1, -(-max(shape) // max_side))
    size = step * max(1, _WINDOW_SIDE // step)
    whole: NDArray[np.float32] | None = None
    for row in range(0, shape[0], size):
        for column in range(0, shape[1], size):
            part = read(Window(column, row, min(size, shape[1] - column), min(size, shape[0] - row)))
            if whole is None:
                whole = np.full((len(part), -(-shape[0] // step), -(-shape[1] // step)), np.nan, np.float32)
            found = _squares(part, step, how)
            top, left = row // step, column // step
            whole[:, top : top + found.shape[1], left : left + found.shape[2]] = found
    assert whole is not None  # a raster has at least one pixel
    return whole, step


def _squares(part: NDArray[np.float32], step: int, how: Literal["mean", "max"]) -> NDArray[np.float32]:
    if step == 1:
        return part
    rows, columns = -(-part.shape[1] // step), -(-part.shape[2] // step)
    filled = np.full((len(part), rows * step, columns * step), np.nan, np.float32)
    filled[:, : part.shape[1], : part.shape[2]] = part
    squares = filled.reshape(len(part), rows, step, columns, step)
    if how == "max":
        highest: NDArray[np.float32] = np.fmax.reduce(squares, axis=(2, 4))
        return highest
    known = np.isfinite(squares)
    count = known.sum(axis=(2, 4))
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(known, squares, 0).sum(axis=(2, 4), dtype=np.float64) / count
    return mean.astype(np.float32)


def stretch(image: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Stretch each band linearly between its 2nd and 98th percentile.

    Args:
        image: (C, H, W), NaN where there is no data.

    Returns:
        float32 (H, W, C) in 0..1: 1 where there is no data, 0.5 in a constant band.
    """
    shown = np.ones((*image.shape[1:], len(image)), np.float32)
    for band, values in enumerate(image):
        known = np.isfinite(values)
        if known.any():
            low, high = np.percentile(values[known], (2, 98))
            scaled = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)
            shown[..., band] = np.where(known, np.clip(scaled, 0, 1), 1)
    return shown
