"""Pictures of a map and of an explanation.

A map shows the probability over relief or colours, with scale bar, legend and north arrow. An explanation shows the
scene, the probability, the effect of channels and squares, and the attention.
"""

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
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from zoo.mapping.output import ProbabilityMap
from zoo.mapping.probability import probability_text
from zoo.mapping.scene import Scene
from zoo.physics import Band, hillshade
from zoo.physics.bands import colour_bands
from zoo.rasters.ground import Bounds, ground_size, window_bounds
from zoo.rasters.map_frame import NODATA_COLOUR, add_scale_bar, framed_map, legend_patch, reduced, save_picture, stretch

if TYPE_CHECKING:
    from rasterio.windows import Window

    from zoo.mapping.explanation import Explanation, SceneExplanation

MAX_SIDE = 1200
"""Length of the longer side of the picture in pixels."""

COLOURS = matplotlib.colormaps["YlOrRd"]

TRANSPARENT_BELOW = 0.15
"""Share of the threshold below which nothing is drawn, so that the background remains visible without landslides."""

OPACITY_BELOW = 0.55
"""Opacity just below the threshold."""

SUPPORTS_COLOUR, OPPOSES_COLOUR = "#b2182b", "#2166ac"
PREDICTED_OUTLINE, TRUTH_OUTLINE = "#00e5ff", "#f7f72a"
MIN_ATTENTION_MAPS, MAX_ATTENTION_MAPS = 4, 6


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
    max_side: int = MAX_SIDE,
) -> Peaks:
    """Read a map once and return its peaks.

    Args:
        shape: (rows, columns) of the map.
        read: returns float32 (rows, columns) of a window, NaN for nodata.
        threshold: see :attr:`Peaks.above`.
        max_side: maximum number of squares along the longer side.
    """
    counts = np.zeros(2, np.int64)

    def counted(window: Window) -> NDArray[np.float32]:
        part = read(window)
        with np.errstate(invalid="ignore"):
            counts[:] += int((part >= np.float32(threshold)).sum()), int(np.isfinite(part).sum())
        return part[None]

    values, step = reduced(shape, counted, max_side, "max")
    return Peaks(values[0], step, int(counts[0]), int(counts[1]))


@dataclass(frozen=True)
class Ground:
    """Picture of the ground below the probability.

    Attributes:
        picture: float (H, W, 3) in 0..1.
        step: side of a pixel of the picture in pixels of the scene.
        description: what the picture shows.
    """

    picture: NDArray[np.floating[Any]]
    step: int
    description: str


def read_ground(scene: Scene, max_side: int = MAX_SIDE) -> Ground:
    """Return the scene in red, green and blue; else the shaded relief of its DEM; else its first band.

    Raises:
        DataError: if the scene is truncated.
    """
    raster = scene.mosaic
    chosen = scene.colour_bands or ground_bands(raster.bands)
    values, step = reduced(raster.shape, lambda window: raster.read(window, chosen), max_side, "mean")
    cell = ground_size(raster.crs, picture_bounds(scene, values.shape[1:], step), values.shape[1:])
    picture, description = paint_ground(values, [raster.bands[band] for band in chosen], cell)
    description = description if scene.colour_bands is None else "red, green, blue"
    return Ground(picture, step, description)


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
        ground: picture below it, made with the same ``max_side``.
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
    description = [f"{named}, p ≥ {probability_text(threshold)}", f"{share:.2%} of the area", found]
    legend = [
        legend_patch(typical_colour(peaks.values, threshold, above=True), "\n".join(filter(None, description))),
        legend_patch(
            typical_colour(peaks.values, threshold, above=False),
            f"p from {TRANSPARENT_BELOW * threshold:.2g} to {probability_text(threshold)}",
        ),
    ]
    if np.isnan(peaks.values).any():
        legend.append(legend_patch(NODATA_COLOUR, "no data"))
    below = np.concatenate([ground.picture, np.isfinite(peaks.values)[..., None]], axis=2)
    figure, ax = framed_map(
        [(below, covered), (tint_probabilities(peaks.values, threshold), covered)],
        title=title,
        crs=scene.mosaic.crs,
        legend=legend,
        legend_title=f"on {ground.description}",
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
    description = legend.get_window_extent()
    width, height = box.width * inches, box.height * inches
    below = height - description.height * inches - 0.4
    if below >= 1.5:
        length = min(below, 0.45 * height)
        place = (1 + 0.25 / width, 0.2 / height, 0.22 / width, length / height)
    else:
        length = height
        place = (1 + (description.width * inches + 0.5) / width, 0.0, 0.22 / width, 1.0)
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
        inside = values >= threshold if above else (values >= TRANSPARENT_BELOW * threshold) & (values < threshold)
    middle = (threshold + 1) / 2 if above else threshold * (1 + TRANSPARENT_BELOW) / 2
    typical = float(np.median(values[inside])) if inside.any() else middle
    return tuple(tint_probabilities(np.array([[typical]], dtype=np.float32), threshold)[0, 0].tolist())


def tint_probabilities(values: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """Return RGBA (H, W, 4) of probabilities: opaque at and above the threshold, fainter below it."""
    known = np.nan_to_num(values)
    lowest = TRANSPARENT_BELOW * threshold
    below = OPACITY_BELOW * np.clip((known - lowest) / max(threshold - lowest, 1e-6), 0, 1)
    colours: NDArray[np.float64] = COLOURS(scale_of(threshold)(known))
    # Compare in float32, as in the counts of the map.
    opacity = np.where(known >= np.float32(threshold), 1.0, below)
    colours[..., 3] = np.where(np.isnan(values), 0, opacity)
    return colours


def draw_explanation(found: SceneExplanation) -> Figure:
    """Draw an explanation.

    Returns:
        A figure that pyplot does not manage.
    """
    figure = Figure(figsize=(16, 13), layout="constrained")
    figure.suptitle(found.title, fontsize=14)
    rows: Any = figure.subfigures(3, 1, height_ratios=(1.25, 1.0, 0.95))
    top, middle, bottom = rows
    _draw_maps(top, found)
    left, right = middle.subplots(1, 2, width_ratios=(1.5, 1))
    _draw_channel_bars(left, found.explanation)
    _draw_channel_attention(right, found.explanation)
    _draw_spatial_attention(bottom, found.explanation, found.bounds)
    return figure


def _draw_maps(figure: SubFigure, window: SceneExplanation) -> None:
    found, bounds, bands = window.explanation, window.bounds, window.bands
    axes = figure.subplots(1, 4)
    chosen = list(ground_bands(bands))
    cell = ground_size(window.crs, bounds, window.image.shape[1:])
    shown, description = paint_ground(window.image[chosen], [bands[index] for index in chosen], cell)
    extent = _extent(bounds)
    axes[0].imshow(shown, extent=extent, interpolation="nearest")
    axes[0].set_title(f"scene: {description}", fontsize=10)
    with np.errstate(invalid="ignore"):
        predicted = found.probability >= np.float32(window.threshold)
    _draw_outline(axes[0], predicted, bounds, PREDICTED_OUTLINE)
    notes = ["classified as landslide: light blue"]
    if window.truth is not None:
        _draw_outline(axes[0], window.truth, bounds, TRUTH_OUTLINE)
        notes.append("reference landslides: yellow")
    axes[0].set_xlabel("; ".join(notes), fontsize=8)
    add_scale_bar(axes[0], window.crs, bounds)
    probability = axes[1].imshow(
        found.probability, extent=extent, cmap="YlOrRd", vmin=0, vmax=1, interpolation="nearest"
    )
    _draw_outline(axes[1], predicted, bounds, "black")
    axes[1].set_title(f"landslide probability (outline: {probability_text(window.threshold)})", fontsize=10)
    figure.colorbar(probability, ax=axes[1], shrink=0.7)
    target = "the landslide" if found.landslide else "the window"
    _draw_change(
        figure, axes[2], found.ground, bounds, f"change of the mean probability of\n{target} if a square is hidden"
    )
    _draw_change(figure, axes[3], found.around, bounds, f"the same, for the part of {target}\nthat is not hidden")
    for ax in axes[2:]:
        _draw_outline(ax, predicted, bounds, "black")
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])


def _draw_change(figure: SubFigure, ax: Axes, values: NDArray[np.float32], bounds: Bounds, title: str) -> None:
    finite = values[np.isfinite(values)]
    largest = max(float(np.abs(finite).max(initial=0)), 1e-3)
    shown = ax.imshow(
        -values, extent=_extent(bounds), cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest"
    )
    ax.set_facecolor("#e5e7eb")
    ax.set_title(title, fontsize=10)
    bar = figure.colorbar(shown, ax=ax, shrink=0.7)
    # Red supports a landslide: hiding it lowers the probability.
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{-value:+.2g}")


def _draw_channel_bars(ax: Axes, found: Explanation) -> None:
    rows = sorted(found.channels, key=lambda effect: abs(effect.change)) + sorted(
        found.together, key=lambda effect: abs(effect.change)
    )
    places = np.arange(len(rows))
    lengths = np.array([-effect.change for effect in rows])
    ax.barh(places, lengths, color=[SUPPORTS_COLOUR if length > 0 else OPPOSES_COLOUR for length in lengths])
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(places, [effect.label for effect in rows], fontsize=9)
    reach = max(float(np.abs(lengths).max(initial=0)), 0.01)
    ax.set_xlim(min(-0.35 * reach, 1.45 * lengths.min(initial=0)), 1.45 * max(lengths.max(initial=0), 0.25 * reach))
    for place, effect in zip(places, rows, strict=True):
        text = f"{effect.probability:.2f}" + ("" if effect.dice is None else f", Dice {effect.dice:.2f}")
        ends_right = effect.change <= 0
        ax.text(
            -effect.change, float(place), f" {text} ", va="center", ha="left" if ends_right else "right", fontsize=8
        )
    target = f"{int(found.target.sum()):,} px " + ("classified as landslide" if found.landslide else "of the window")
    base = f"{found.base.probability:.2f}" + ("" if found.base.dice is None else f", Dice {found.base.dice:.2f}")
    ax.set_title(f"mean probability without a channel, for the {target} ({base} with all channels)", fontsize=10)
    ax.set_xlabel("loss if the channel is replaced by its training mean (red: it supports a landslide)", fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_channel_attention(ax: Axes, found: Explanation) -> None:
    blocks = [block for block in found.attention if block.channel is not None]
    if not blocks:
        _write_note(ax, "the model has no channel attention")
        return
    for number, block in enumerate(blocks):
        assert block.channel is not None
        weights = np.sort(block.channel)[::-1]
        shade = str(0.75 * number / max(len(blocks) - 1, 1))
        ax.plot(np.linspace(0, 1, len(weights)), weights, color=shade, label=f"{block.name} ({len(weights)})")
    ax.set_ylim(0, 1)
    ax.set_xlabel("features of the block, the heaviest first (features, not bands)", fontsize=9)
    ax.set_title("channel attention", fontsize=10)
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_spatial_attention(figure: SubFigure, found: Explanation, bounds: Bounds) -> None:
    maps = [block for block in found.attention if block.spatial is not None]
    if not maps:
        _write_note(figure.subplots(), "the model has no spatial attention")
        return
    axes = np.atleast_1d(figure.subplots(1, min(max(len(maps), MIN_ATTENTION_MAPS), MAX_ATTENTION_MAPS)))
    for ax in axes:
        ax.set_axis_off()
    for ax, block in zip(axes, maps, strict=False):
        assert block.spatial is not None
        shown = ax.imshow(block.spatial, extent=_extent(bounds), cmap="viridis", interpolation="nearest")
        how = {"add": "added", "mul": "multiplied", "residual": "multiplied and added"}[block.fusion]
        ax.set_title(f"{block.block} {block.name}\nspatial attention, {how}", fontsize=9)
        figure.colorbar(shown, ax=ax, orientation="horizontal", shrink=0.8)


def _draw_outline(ax: Axes, mask: NDArray[np.bool_], bounds: Bounds, colour: str) -> None:
    if not mask.any() or mask.all() or min(mask.shape) < 2:
        return
    # Padding closes the outline of a landslide at the window's edge.
    padded = np.pad(mask, 1).astype(np.uint8)
    left, bottom, right, top = bounds
    rows, columns = mask.shape
    x = left + (np.arange(columns + 2) - 0.5) * (right - left) / columns
    y = top - (np.arange(rows + 2) - 0.5) * (top - bottom) / rows
    ax.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=1.2)


def _extent(bounds: Bounds) -> tuple[float, float, float, float]:
    left, bottom, right, top = bounds
    return left, right, bottom, top


def _write_note(ax: Axes, text: str) -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, color="#6b7280")
    ax.set_axis_off()
