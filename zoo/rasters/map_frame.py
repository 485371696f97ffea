"""What every printed map has around it: title, coordinates, legend, scale bar, north arrow, where it comes from."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from rasterio.crs import CRS

from zoo.errors import ConfigError
from zoo.files import atomic_path
from zoo.rasters.layers import Bounds, crs_name

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
    aspect = _aspect(crs, bounds)
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
    ax.set_title(title, fontsize=13, loc="left")
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
        )
    return figure, ax


def legend_patch(colour: Any, label: str) -> Patch:
    """A square of one colour and what it stands for."""
    return Patch(facecolor=colour, edgecolor=EDGE, linewidth=0.5, label=label)


def width_on_ground(crs: CRS, bounds: Bounds) -> float:
    """Metres on the ground from the left to the right of ``bounds``, half-way up, on the ellipsoid of ``crs``."""
    left, bottom, right, top = bounds
    # A short way in the middle, scaled: the shortest way across a whole hemisphere would cut its corner.
    middle, step = (left + right) / 2, (right - left) / 200
    xs, ys = [middle - step, middle + step], [(bottom + top) / 2] * 2
    system = pyproj.CRS.from_user_input(crs.to_wkt())
    geographic, ellipsoid = system.geodetic_crs, system.get_geod()
    if geographic is None or ellipsoid is None:
        return (right - left) * float(crs.linear_units_factor[1])
    if not system.is_geographic:
        xs, ys = pyproj.Transformer.from_crs(system, geographic, always_xy=True).transform(xs, ys)
    return 100 * float(ellipsoid.inv(xs[0], ys[0], xs[1], ys[1])[2])


def ground_size(crs: CRS, bounds: Bounds, shape: tuple[int, ...]) -> tuple[float, float]:
    """Metres on the ground (down, across) of a pixel of a picture, (rows, columns), that fills ``bounds``."""
    left, bottom, right, top = bounds
    width = width_on_ground(crs, bounds)
    height = width / (right - left) * (top - bottom) * _aspect(crs, bounds)
    return height / shape[0], width / shape[1]


def _aspect(crs: CRS, bounds: Bounds) -> float:
    """Height of a unit on the page by its width: degrees of longitude are narrower than those of latitude."""
    if not crs.is_geographic:
        return 1.0
    return 1 / max(math.cos(math.radians((bounds[1] + bounds[3]) / 2)), 0.05)


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
