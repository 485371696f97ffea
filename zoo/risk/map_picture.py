"""The map of risk classes as a picture (Figure 8): relief, classes, legend, scale bar, north arrow."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, LightSource, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from zoo.errors import ConfigError
from zoo.files import atomic_path
from zoo.risk.classes import CLASS_COLOURS, CLASS_NAMES, ClassBreaks

_NOTHING = "#e5e7eb"
_LONGEST = 8.0
"""Inches of the map's longer side."""


def draw_map(
    classes: NDArray[np.uint8],
    *,
    title: str,
    breaks: ClassBreaks,
    pixels: NDArray[np.int64],
    relief: NDArray[np.float32] | None = None,
    pixel_size: float | None = None,
    extent: tuple[float, float, float, float] | None = None,
    crs: str = "",
    footnote: str = "",
) -> Figure:
    """Draw a map.

    Args:
        classes: uint8 (H, W), 0 nodata, 1 low, 2 medium, 3 high.
        title: above the map.
        breaks: of the classes, for the legend.
        pixels: number of pixels by class, (4,), for the legend.
        relief: elevation in metres, float32 (H, W), shaded below the classes; None for plain colours.
        pixel_size: metres from one pixel of ``classes`` to the next; None leaves out the scale bar.
        extent: (left, bottom, right, top) for the axes, in units of ``crs``.
        crs: name of the coordinate reference system.
        footnote: below the map.

    Returns:
        A figure that pyplot does not hold.
    """
    height, width = classes.shape
    # Long strips would leave no room for letters.
    shape = min(max(height / width, 0.35), 2.5)
    across, down = (_LONGEST, _LONGEST * shape) if shape <= 1 else (_LONGEST / shape, _LONGEST)
    figure = Figure(figsize=(across + 3.0, down + 1.2), layout="constrained")
    ax = figure.subplots()
    ax.set_facecolor(_NOTHING)
    colours = ListedColormap([_colour(number) for number in (1, 2, 3)])
    shown = colours(BoundaryNorm([0.5, 1.5, 2.5, 3.5], 3)(np.ma.masked_equal(classes, 0)))
    if relief is not None and pixel_size is not None:
        shown[..., :3] *= _shade(relief, pixel_size)[..., None]
    shown[classes == 0] = (0, 0, 0, 0)
    left, bottom, right, top = extent or (0, 0, width, height)
    ax.imshow(shown, extent=(left, right, bottom, top), interpolation="nearest")
    ax.set_title(title, fontsize=13, loc="left")
    _legend(ax, breaks, pixels, nodata=bool((classes == 0).any()))
    if pixel_size is not None:
        _scale_bar(ax, width * pixel_size)
    _north(ax)
    ax.ticklabel_format(useOffset=False, style="plain")
    ax.tick_params(labelsize=7)
    ax.locator_params(nbins=4)
    if crs:
        ax.set_xlabel(crs, fontsize=8)
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
    return figure


def _colour(number: int) -> tuple[float, float, float]:
    red, green, blue = CLASS_COLOURS[number]
    return red / 255, green / 255, blue / 255


def _shade(relief: NDArray[np.float32], pixel_size: float) -> NDArray[np.float64]:
    """Factor of 0.55 to 1 on colours, light from the north-west; 1 where elevation is unknown."""
    unknown = np.isnan(relief)
    if unknown.all() or min(relief.shape) < 2:
        return np.ones(relief.shape)
    filled = np.where(unknown, np.nanmean(relief), relief).astype(np.float64)
    light = LightSource(azdeg=315, altdeg=45).hillshade(filled, dx=pixel_size, dy=pixel_size)
    return np.where(unknown, 1.0, 0.55 + 0.45 * light)


def _legend(ax: Axes, breaks: ClassBreaks, pixels: NDArray[np.int64], *, nodata: bool) -> None:
    known = max(int(pixels[1:].sum()), 1)
    spans = (f"≤ {breaks.low:.3g}", f"{breaks.low:.3g} - {breaks.high:.3g}", f"> {breaks.high:.3g}")
    handles = [
        Patch(
            facecolor=_colour(number),
            edgecolor="#374151",
            linewidth=0.5,
            label=f"{name}  ({spans[number - 1]}): {pixels[number] / known:.1%}",
        )
        for number, name in enumerate(CLASS_NAMES, 1)
    ]
    if nodata:
        handles.append(Patch(facecolor=_NOTHING, edgecolor="#374151", linewidth=0.5, label="no data"))
    ax.legend(
        handles=handles[:3][::-1] + handles[3:],
        title="risk (share of area)",
        fontsize=8,
        title_fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        alignment="left",
        frameon=False,
    )


def _scale_bar(ax: Axes, width_metres: float) -> None:
    length = _round_length(width_metres / 4)
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


def _round_length(metres: float) -> float:
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
