"""The map of risk classes as a picture (Figure 8): relief, classes, legend, scale bar, north arrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.physics import hillshade
from zoo.rasters.ground import Bounds
from zoo.rasters.map_frame import NOTHING, framed_map, legend_patch, shaded
from zoo.risk.classes import CLASS_COLOURS, CLASS_NAMES, ClassBreaks

if TYPE_CHECKING:
    from rasterio.crs import CRS


def draw_map(
    classes: NDArray[np.uint8],
    *,
    title: str,
    breaks: ClassBreaks,
    pixels: NDArray[np.int64],
    extent: Bounds,
    crs: CRS,
    relief: NDArray[np.float32] | None = None,
    pixel_size: float | None = None,
    footnote: str = "",
) -> Figure:
    """Draw a map.

    Args:
        classes: uint8 (H, W), 0 nodata, 1 low, 2 medium, 3 high.
        title: above the map.
        breaks: of the classes, for the legend.
        pixels: number of pixels by class, (4,), for the legend.
        extent: (left, bottom, right, top) in units of ``crs``.
        crs: coordinate reference system.
        relief: elevation in metres, float32 (H, W), shaded below the classes; None for plain colours.
        pixel_size: metres from one pixel of ``classes`` to the next; None for plain colours too.
        footnote: below the map.

    Returns:
        A figure that pyplot does not hold.
    """
    colours = ListedColormap([_colour(number) for number in (1, 2, 3)])
    shown = colours(BoundaryNorm([0.5, 1.5, 2.5, 3.5], 3)(np.ma.masked_equal(classes, 0)))
    if relief is not None and pixel_size is not None and min(relief.shape) >= 2:
        shown = shaded(shown, hillshade(relief, pixel_size))
    shown[classes == 0] = (0, 0, 0, 0)
    figure, _ = framed_map(
        [(shown, extent)],
        title=title,
        crs=crs,
        legend=_legend(breaks, pixels, nodata=bool((classes == 0).any())),
        legend_title="risk (share of area)",
        footnote=footnote,
    )
    return figure


def _colour(number: int) -> tuple[float, float, float]:
    red, green, blue = CLASS_COLOURS[number]
    return red / 255, green / 255, blue / 255


def _legend(breaks: ClassBreaks, pixels: NDArray[np.int64], *, nodata: bool) -> list[Artist]:
    known = max(int(pixels[1:].sum()), 1)
    spans = (f"≤ {breaks.low:.3g}", f"{breaks.low:.3g} - {breaks.high:.3g}", f"> {breaks.high:.3g}")
    handles: list[Artist] = [
        legend_patch(_colour(number), f"{name}  ({spans[number - 1]}): {pixels[number] / known:.1%}")
        for number, name in enumerate(CLASS_NAMES, 1)
    ]
    handles.reverse()
    if nodata:
        handles.append(legend_patch(NOTHING, "no data"))
    return handles
