"""Picture of a map: the probability over relief or colours, with scale bar, legend and north arrow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.mapping.output import ProbabilityMap
from zoo.mapping.probability import probability_text
from zoo.mapping.scene import Scene
from zoo.physics import Band, hillshade
from zoo.physics.bands import colour_bands
from zoo.rasters.ground import Bounds, ground_size, window_bounds
from zoo.rasters.map_frame import NOTHING, framed_map, legend_patch, reduced, save_picture, stretch

if TYPE_CHECKING:
    from rasterio.windows import Window

LONGEST = 1200
"""Length of the longer side of the picture in pixels."""

COLOURS = matplotlib.colormaps["YlOrRd"]

FAINTEST = 0.15
"""Share of the threshold below which nothing is drawn, so that the background remains visible without landslides."""

FAINT = 0.55
"""Opacity just below the threshold."""


@dataclass(frozen=True)
class Peaks:
    """Highest probability in each square of pixels, so that a landslide of one pixel remains visible.

    Attributes:
        values: float32 (rows, columns), 0..1, NaN where every pixel is nodata.
        step: side of a square in pixels of the map.
        above: number of pixels of the map at or above the threshold.
        known: number of pixels of the map that are not nodata.
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
    """Read a map once and return its peaks.

    Args:
        shape: (rows, columns) of the map.
        read: returns float32 (rows, columns) of a window, NaN for nodata.
        threshold: see :attr:`Peaks.above`.
        longest: maximum number of squares along the longer side.
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
    """Picture of the ground below the probability.

    Attributes:
        picture: float (H, W, 3) in 0..1.
        step: side of a pixel of the picture in pixels of the scene.
        words: description of the picture.
    """

    picture: NDArray[np.floating[Any]]
    step: int
    words: str


def read_ground(scene: Scene, longest: int = LONGEST) -> Ground:
    """Return the scene in red, green and blue; else the shaded relief of its DEM; else its first band.

    Raises:
        DataError: if the scene is truncated.
    """
    raster = scene.mosaic
    chosen = scene.colour_bands or ground_bands(raster.bands)
    values, step = reduced(raster.shape, lambda window: raster.read(window, chosen), longest, "mean")
    cell = ground_size(raster.crs, picture_bounds(scene, values.shape[1:], step), values.shape[1:])
    picture, words = paint_ground(values, [raster.bands[band] for band in chosen], cell)
    words = words if scene.colour_bands is None else "red, green, blue"
    return Ground(picture, step, words)


def ground_bands(bands: Sequence[Band]) -> tuple[int, ...]:
    """Return the indices of red, green and blue; else of the DEM; else of the first band."""
    names = [band.name.casefold() for band in bands]
    return colour_bands(bands) or (names.index("dem") if "dem" in names else 0,)


def paint_ground(
    values: NDArray[np.float32], bands: Sequence[Band], cell: tuple[float, float]
) -> tuple[NDArray[np.floating[Any]], str]:
    """Paint the bands that :func:`ground_bands` chose.

    Args:
        values: float32 (C, H, W), C is 1 or 3, NaN where there is no data.
        bands: bands of the values.
        cell: size of a pixel in metres (down, across).

    Returns:
        Float (H, W, 3) in 0..1, white where there is no data, and a description of the picture.
    """
    if len(bands) == 3:
        return stretch(values), ", ".join(band.name for band in bands)
    if bands[0].name.casefold() == "dem" and min(values.shape[1:]) >= 2:
        light = np.nan_to_num(0.35 + 0.65 * hillshade(values[0], cell), nan=1.0)
        return np.repeat(light[..., None], 3, axis=2), "hillshade of the DEM"
    return np.repeat(stretch(values), 3, axis=2), bands[0].name


def picture_bounds(scene: Scene, shape: tuple[int, ...], step: int) -> Bounds:
    """Return (left, bottom, right, top) of a picture of ``shape``, whose last pixels may extend beyond the scene."""
    return window_bounds(scene.mosaic.transform, (shape[0] * step, shape[1] * step))


def map_picture(
    probability: ProbabilityMap, scene: Scene, out: Path, threshold: float, *, title: str = "", found: str = ""
) -> None:
    """Draw a map over the relief or the colours of its scene, with scale bar, legend and north arrow.

    Args:
        probability: the map.
        scene: the scene that was mapped.
        out: the picture, in the format of its suffix.
        threshold: probability at or above which a pixel counts as landslide.
        title: title of the picture; the scene's name if it is empty.
        found: text in the legend below the threshold, such as ``12 polygons, 0.8 km²``.

    Raises:
        ZooError: if a raster is truncated, or the file cannot be written.
    """
    level = probability.threshold(threshold)
    peaks = find_peaks(probability.stack.shape, probability.read, level)
    tags = probability.stack.tags
    notes = [
        tags.get("DATE", ""),
        tags.get("LABEL", ""),
        f"model {tags['MODEL']}" if "MODEL" in tags else "",
        f"weights {tags['WEIGHTS_SHA256'][:12]}" if "WEIGHTS_SHA256" in tags else "",
        f"each pixel of the picture shows the highest of {peaks.step} x {peaks.step}" if peaks.step > 1 else "",
    ]
    figure = draw_probability(
        peaks,
        read_ground(scene),
        scene,
        threshold=level,
        title=title or f"Landslides: {tags.get('SCENE') or scene.stem}",
        found=found,
        label=tags.get("LABEL", ""),
        footnote="; ".join(note for note in notes if note),
    )
    save_picture(figure, out)


def draw_probability(
    peaks: Peaks,
    ground: Ground,
    scene: Scene,
    *,
    threshold: float,
    title: str,
    footnote: str = "",
    found: str = "",
    label: str = "",
) -> Figure:
    """Draw a map.

    Args:
        peaks: peaks of the probability.
        ground: picture below it, made with the same ``longest``.
        scene: scene of both.
        threshold: probability at or above which a pixel counts as landslide.
        title: title above the map.
        footnote: text below the map.
        found: text in the legend below the threshold.
        label: word in the legend next to ``landslide``, such as ``demo``.

    Returns:
        A figure that pyplot does not manage.
    """
    covered = picture_bounds(scene, peaks.values.shape, peaks.step)
    share = peaks.above / max(peaks.known, 1)
    named = f"landslide ({label})" if label else "landslide"
    words = [f"{named}, p ≥ {probability_text(threshold)}", f"{share:.2%} of the area", found]
    legend = [
        legend_patch(typical_colour(peaks.values, threshold, above=True), "\n".join(filter(None, words))),
        legend_patch(
            typical_colour(peaks.values, threshold, above=False),
            f"p from {FAINTEST * threshold:.2g} to {probability_text(threshold)}",
        ),
    ]
    if np.isnan(peaks.values).any():
        legend.append(legend_patch(NOTHING, "no data"))
    below = np.concatenate([ground.picture, np.isfinite(peaks.values)[..., None]], axis=2)
    figure, ax = framed_map(
        [(below, covered), (tinted(peaks.values, threshold), covered)],
        title=title,
        crs=scene.mosaic.crs,
        legend=legend,
        legend_title=f"on {ground.words}",
        footnote=footnote,
    )
    _add_colour_bar(figure, ax, threshold)
    return figure


def _add_colour_bar(figure: Figure, ax: Axes, threshold: float) -> None:
    """Draw the colour bar below the legend, or to its right if the map is too low for both."""
    figure.draw_without_rendering()
    inches = 1 / figure.dpi
    box, legend = ax.get_window_extent(), ax.get_legend()
    assert legend is not None  # the map's legend has at least two entries
    words = legend.get_window_extent()
    width, height = box.width * inches, box.height * inches
    below = height - words.height * inches - 0.4
    if below >= 1.5:
        length = min(below, 0.45 * height)
        place = (1 + 0.25 / width, 0.2 / height, 0.22 / width, length / height)
    else:
        length = height
        place = (1 + (words.width * inches + 0.5) / width, 0.0, 0.22 / width, 1.0)
    bar = figure.colorbar(ScalarMappable(scale_of(threshold), COLOURS), cax=ax.inset_axes(place), label="probability")
    bar.ax.axhline(threshold, color="black", linewidth=1.5)
    ticks = _ticks(threshold, 0.16 / length)
    bar.set_ticks(ticks, labels=list(map(probability_text, ticks)))
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=7)
    bar.ax.yaxis.label.set_fontsize(8)


def _ticks(threshold: float, apart: float) -> list[float]:
    """Return ticks of the colour bar: the threshold, 0, 1, and round numbers at least ``apart`` (a share) away."""
    scale = scale_of(threshold)
    ticks = [threshold]
    for tick in (0.0, 1.0, 0.5, 0.25, 0.75, 0.1, 0.9):
        if all(abs(float(scale(tick)) - float(scale(other))) > apart for other in ticks):
            ticks.append(tick)
    return sorted(ticks)


def scale_of(threshold: float) -> TwoSlopeNorm:
    """Return the norm from probabilities to shares of the colour map; half of the colours are above the threshold."""
    return TwoSlopeNorm(min(max(threshold, 0.01), 0.99), 0, 1)


def typical_colour(values: NDArray[np.float32], threshold: float, *, above: bool) -> tuple[float, ...]:
    """Return the colour of the median probability above, or below, the threshold."""
    with np.errstate(invalid="ignore"):
        inside = values >= threshold if above else (values >= FAINTEST * threshold) & (values < threshold)
    middle = (threshold + 1) / 2 if above else threshold * (1 + FAINTEST) / 2
    typical = float(np.median(values[inside])) if inside.any() else middle
    return tuple(tinted(np.array([[typical]], dtype=np.float32), threshold)[0, 0].tolist())


def tinted(values: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """Return RGBA (H, W, 4) of probabilities: opaque at and above the threshold, fainter below it."""
    known = np.nan_to_num(values)
    least = FAINTEST * threshold
    below = FAINT * np.clip((known - least) / max(threshold - least, 1e-6), 0, 1)
    colours: NDArray[np.float64] = COLOURS(scale_of(threshold)(known))
    # Compare in float32, as in the counts of the map.
    opacity = np.where(known >= np.float32(threshold), 1.0, below)
    colours[..., 3] = np.where(np.isnan(values), 0, opacity)
    return colours
