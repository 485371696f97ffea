"""Reduce rasters to pictures and draw the frame of a printed map."""

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

NOTHING = "#e5e7eb"
"""Where there is no data."""

EDGE = "#374151"
_LONGEST = 8.0
"""Inches of the map's longer side."""


def framed_map(
    pictures: Sequence[tuple[NDArray[Any], Bounds]],
    *,
    title: str,
    crs: CRS,
    legend: Sequence[Artist] = (),
    legend_title: str = "",
    footnote: str = "",
) -> tuple[Figure, Axes]:
    """Lay pictures over each other and put a frame around them.

    Args:
        pictures: the lowest first, which the frame fits: RGB or RGBA in 0..1, (H, W, 3 or 4), and (left, bottom, right,
            top) in ``crs``. What is transparent in all of them is grey.
        title: above the map.
        crs: of the coordinates; tells the scale bar's length too.
        legend: entries to the right of the map.
        legend_title: above them.
        footnote: below the map.

    Returns:
        A figure that pyplot does not hold, and the axes of the map.
    """
    bounds = pictures[0][1]
    left, bottom, right, top = bounds
    aspect = page_aspect(crs, bounds)
    # Long strips would leave no room for letters.
    shape = min(max((top - bottom) / (right - left) * aspect, 0.35), 2.5)
    across, down = (_LONGEST, _LONGEST * shape) if shape <= 1 else (_LONGEST / shape, _LONGEST)
    figure = Figure(figsize=(across + 3.0, down + 1.2), layout="constrained")
    ax = figure.subplots()
    ax.set_facecolor(NOTHING)
    for picture, (west, south, east, north) in pictures:
        ax.imshow(picture, extent=(west, east, south, north), interpolation="nearest")
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    ax.set_aspect(aspect)
    # Titles and file names may contain a dollar sign, which would start a formula.
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
    """A square of one colour and what it stands for."""
    return Patch(facecolor=colour, edgecolor=EDGE, linewidth=0.5, label=label)


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
    """The largest 1, 2 or 5 times a power of ten that is not longer."""
    power = 10.0 ** math.floor(math.log10(metres))
    return next(step * power for step in (5, 2, 1) if step * power <= metres * (1 + 1e-9))


def _north(ax: Axes) -> None:
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
    """Give the format of a picture by its name, before any work is done for it.

    Raises:
        ConfigError: for a format that matplotlib does not write.
    """
    form = path.suffix[1:].lower()
    if form not in Figure().canvas.get_supported_filetypes():
        raise ConfigError(f"pictures of type {form!r} are not written", where=path, hint="Name it .png, .pdf or .svg")
    return form


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all; the format is that of the file's name.

    Raises:
        ConfigError: as :func:`check_picture`.
        ZooError: if the folder cannot be written to.
    """
    form = check_picture(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format=form, bbox_inches="tight", pad_inches=0.15)


def shaded(colours: NDArray[np.floating[Any]], light: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Darken RGB or RGBA by what lies in the shade: (H, W, 3 or 4) in 0..1 and :func:`zoo.physics.hillshade`'s (H, W).

    Where the light is not known, colours stay as they are.
    """
    shown = np.array(colours, np.float64)
    shown[..., :3] *= np.where(np.isnan(light), 1.0, 0.55 + 0.45 * np.nan_to_num(light))[..., None]
    return shown


_SIDE = 1024


def reduced(
    shape: tuple[int, int],
    read: Callable[[Window], NDArray[np.float32]],
    longest: int,
    how: Literal["mean", "max"],
) -> tuple[NDArray[np.float32], int]:
    """Make one value of each square of pixels, reading window by window.

    Args:
        shape: (rows, columns) of the raster.
        read: gives float32 (C, rows, columns) of a window, NaN where there is nothing.
        longest: values along the longer side, at most.
        how: "mean" of what is known in a square, or "max", by which a single pixel is still seen.

    Returns:
        float32 (C, rows, columns), NaN where nothing in a square is known; and the pixels along a square's side. The
        last squares may reach beyond the raster.
    """
    step = max(1, -(-max(shape) // longest))
    size = step * max(1, _SIDE // step)
    whole: NDArray[np.float32] | None = None
    for row in range(0, shape[0], size):
        for column in range(0, shape[1], size):
            part = read(Window(column, row, min(size, shape[1] - column), min(size, shape[0] - row)))
            if whole is None:
                whole = np.full((len(part), -(-shape[0] // step), -(-shape[1] // step)), np.nan, np.float32)
            found = _squares(part, step, how)
            top, left = row // step, column // step
            whole[:, top : top + found.shape[1], left : left + found.shape[2]] = found
    assert whole is not None  # no raster is empty
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
    """Stretch each band between its 2nd and 98th percentile.

    Args:
        image: (C, H, W), NaN where there is nothing.

    Returns:
        float32 (H, W, C) in 0..1: white where nothing is known, grey where a band is flat.
    """
    shown = np.ones((*image.shape[1:], len(image)), np.float32)
    for band, values in enumerate(image):
        known = np.isfinite(values)
        if known.any():
            low, high = np.percentile(values[known], (2, 98))
            scaled = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)
            shown[..., band] = np.where(known, np.clip(scaled, 0, 1), 1)
    return shown
