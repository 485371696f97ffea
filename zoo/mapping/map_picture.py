"""A map as a picture for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.mapping.scene import Scene
from zoo.physics import Band, hillshade
from zoo.physics.bands import colour_bands
from zoo.rasters.ground import Bounds, ground_size, window_bounds
from zoo.rasters.map_frame import NOTHING, framed_map, legend_patch, reduced, stretch

if TYPE_CHECKING:
    from rasterio.windows import Window


LONGEST = 1200
"""Pixels of the picture's longer side."""

COLOURS = matplotlib.colormaps["YlOrRd"]

FAINTEST = 0.15
"""Share of the threshold below which nothing is drawn, so that the ground is seen where there is no landslide."""


FAINT = 0.55
"""Opacity of what is only just below the threshold."""


@dataclass(frozen=True)
class Peaks:
    """The highest probability in each square of pixels: a landslide of one pixel is still seen.

    Attributes:
        values: float32 (rows, columns), 0..1, NaN where every pixel is nodata.
        step: pixels of the map along a side of a square.
        above: pixels of the map that reach the threshold.
        known: pixels of the map that are not nodata.
    """

    values: NDArray[np.float32]
    step: int
    above: int
    known: int


def find_peaks(
    shape: tuple[int, int],
    read: Callable[[Window], NDArray[np.float32]],
    threshold: float,
    longest: int = LONGEST,
) -> Peaks:
    """Read a map once.

    Args:
        shape: (rows, columns) of the map.
        read: gives float32 (rows, columns) of a window, NaN for nodata.
        threshold: see :attr:`Peaks.above`.
        longest: squares along the longer side, at most.
    """
    counts = np.zeros(2, np.int64)

    def counted(window: Window) -> NDArray[np.float32]:
        part = read(window)
        with np.errstate(invalid="ignore"):
            counts[:] += int((part >= np.float32(threshold)).sum()), int(np.isfinite(part).sum())
        return part[None]

    values, step = reduced(shape, counted, longest, "max")
    return Peaks(values[0], step, int(counts[0]), int(counts[1]))


@dataclass(frozen=True)
class Ground:
    """What lies below the probability.

    Attributes:
        picture: float (H, W, 3) in 0..1.
        step: pixels of the scene along a side of one of the picture.
        words: what it shows.
    """

    picture: NDArray[np.floating[Any]]
    step: int
    words: str


def read_ground(scene: Scene, longest: int = LONGEST) -> Ground:
    """Colours where the scene has red, green and blue, else the shaded relief of its DEM, else its first band.

    Raises:
        DataError: if the scene is truncated.
    """
    raster = scene.mosaic
    chosen = ground_bands(raster.bands)
    values, step = reduced(raster.shape, lambda window: raster.read(window, chosen), longest, "mean")
    cell = ground_size(raster.crs, covered_by(scene, values.shape[1:], step), values.shape[1:])
    picture, words = paint_ground(values, [raster.bands[band] for band in chosen], cell)
    return Ground(picture, step, words)


def ground_bands(bands: Sequence[Band]) -> tuple[int, ...]:
    """Positions of red, green and blue, else of the DEM, else of the first band."""
    names = [band.name.casefold() for band in bands]
    return colour_bands(bands) or (names.index("dem") if "dem" in names else 0,)


def paint_ground(
    values: NDArray[np.float32], bands: Sequence[Band], cell: tuple[float, float]
) -> tuple[NDArray[np.floating[Any]], str]:
    """Paint what :func:`ground_bands` chose.

    Args:
        values: float32 (C, H, W) with C 1 or 3, NaN where nothing is known.
        bands: of the values.
        cell: metres (down, across) of a pixel.

    Returns:
        Float (H, W, 3) in 0..1, white where nothing is known; and what it shows, in words.
    """
    if len(bands) == 3:
        return stretch(values), ", ".join(band.name for band in bands)
    if bands[0].name.casefold() == "dem" and min(values.shape[1:]) >= 2:
        light = np.nan_to_num(0.35 + 0.65 * hillshade(values[0], cell), nan=1.0)
        return np.repeat(light[..., None], 3, axis=2), "hillshade of the DEM"
    return np.repeat(stretch(values), 3, axis=2), bands[0].name


def covered_by(scene: Scene, shape: tuple[int, ...], step: int) -> Bounds:
    """(left, bottom, right, top) of a picture of ``shape``, whose last pixels may reach beyond the scene."""
    return window_bounds(scene.mosaic.transform, (shape[0] * step, shape[1] * step))


def draw_probability(
    peaks: Peaks,
    ground: Ground,
    scene: Scene,
    *,
    threshold: float,
    title: str,
    footnote: str = "",
    found: str = "",
) -> Figure:
    """Draw a map.

    Args:
        peaks: of the probability.
        ground: below it, of the same ``longest``.
        scene: where both lie.
        threshold: probability from which a pixel is called a landslide.
        title: above the map.
        footnote: below the map.
        found: what stands in the legend under the threshold, such as "12 polygons, 0.8 km²".

    Returns:
        A figure that pyplot does not hold.
    """
    covered = covered_by(scene, peaks.values.shape, peaks.step)
    share = peaks.above / max(peaks.known, 1)
    words = [f"landslide, p ≥ {threshold:.3g}", f"{share:.2%} of the area", found]
    legend = [
        legend_patch(COLOURS(0.75), "\n".join(filter(None, words))),
        legend_patch((*COLOURS(0.25)[:3], FAINT), f"below it, from {FAINTEST * threshold:.2g}"),
    ]
    if np.isnan(peaks.values).any():
        legend.append(legend_patch(NOTHING, "no data"))
    below = np.concatenate([ground.picture, np.isfinite(peaks.values)[..., None]], axis=2)
    figure, ax = framed_map(
        [(below, covered), (_tinted(peaks.values, threshold), covered)],
        title=title,
        crs=scene.mosaic.crs,
        legend=legend,
        legend_title=f"on {ground.words}",
        footnote=footnote,
    )
    bar = figure.colorbar(
        ScalarMappable(scale_of(threshold), COLOURS), cax=ax.inset_axes((1.03, 0.06, 0.03, 0.4)), label="probability"
    )
    bar.ax.axhline(threshold, color="black", linewidth=1.5)
    bar.ax.tick_params(labelsize=7)
    bar.ax.yaxis.label.set_fontsize(8)
    return figure


def scale_of(threshold: float) -> TwoSlopeNorm:
    """From probabilities to shares of the colours, half of which lie above the threshold however low that is."""
    return TwoSlopeNorm(min(max(threshold, 0.01), 0.99), 0, 1)


def _tinted(values: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """Opaque from the threshold on; below it the fainter the less likely."""
    known = np.nan_to_num(values)
    least = FAINTEST * threshold
    below = FAINT * np.clip((known - least) / max(threshold - least, 1e-6), 0, 1)
    tinted: NDArray[np.float64] = COLOURS(scale_of(threshold)(known))
    tinted[..., 3] = np.where(np.isnan(values), 0, np.where(known >= threshold, 1.0, below))
    return tinted
