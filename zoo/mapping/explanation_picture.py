"""Figure of an explanation: scene, probability, channels, ground, attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from zoo.mapping.map_picture import ground_bands, paint_ground
from zoo.mapping.probability import probability_text
from zoo.rasters.ground import Bounds, ground_size
from zoo.rasters.map_frame import add_scale_bar

if TYPE_CHECKING:
    from zoo.mapping.explanation import Explanation, SceneExplanation

FOR, AGAINST = "#b2182b", "#2166ac"
_CALLED, _TRUTH = "#00e5ff", "#f7f72a"
_LEAST_MAPS, _MOST_MAPS = 4, 6


def draw_explanation(found: SceneExplanation) -> Figure:
    """Draw an explanation.

    Returns:
        A figure that pyplot does not manage.
    """
    figure = Figure(figsize=(16, 13), layout="constrained")
    figure.suptitle(found.title, fontsize=14)
    rows: Any = figure.subfigures(3, 1, height_ratios=(1.25, 1.0, 0.95))
    top, middle, bottom = rows
    _maps(top, found)
    left, right = middle.subplots(1, 2, width_ratios=(1.5, 1))
    _bars(left, found.explanation)
    _weights(right, found.explanation)
    _attention(bottom, found.explanation, found.bounds)
    return figure


def _maps(figure: SubFigure, window: SceneExplanation) -> None:
    found, bounds, bands = window.explanation, window.bounds, window.bands
    axes = figure.subplots(1, 4)
    chosen = list(ground_bands(bands))
    cell = ground_size(window.crs, bounds, window.image.shape[1:])
    shown, words = paint_ground(window.image[chosen], [bands[one] for one in chosen], cell)
    extent = _extent(bounds)
    axes[0].imshow(shown, extent=extent, interpolation="nearest")
    axes[0].set_title(f"scene: {words}", fontsize=10)
    with np.errstate(invalid="ignore"):
        called = found.probability >= np.float32(window.threshold)
    _outline(axes[0], called, bounds, _CALLED)
    notes = ["classified as landslide: light blue"]
    if window.truth is not None:
        _outline(axes[0], window.truth, bounds, _TRUTH)
        notes.append("reference landslides: yellow")
    axes[0].set_xlabel("; ".join(notes), fontsize=8)
    add_scale_bar(axes[0], window.crs, bounds)
    probability = axes[1].imshow(
        found.probability, extent=extent, cmap="YlOrRd", vmin=0, vmax=1, interpolation="nearest"
    )
    _outline(axes[1], called, bounds, "black")
    axes[1].set_title(f"landslide probability (outline: {probability_text(window.threshold)})", fontsize=10)
    figure.colorbar(probability, ax=axes[1], shrink=0.7)
    target = "the landslide" if found.landslide else "the window"
    _change(figure, axes[2], found.ground, bounds, f"change of the mean probability of\n{target} if a square is hidden")
    _change(figure, axes[3], found.around, bounds, f"the same, for the part of {target}\nthat is not hidden")
    for ax in axes[2:]:
        _outline(ax, called, bounds, "black")
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])


def _change(figure: SubFigure, ax: Axes, values: NDArray[np.float32], bounds: Bounds, title: str) -> None:
    finite = values[np.isfinite(values)]
    most = max(float(np.abs(finite).max(initial=0)), 1e-3)
    shown = ax.imshow(-values, extent=_extent(bounds), cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")
    ax.set_facecolor("#e5e7eb")
    ax.set_title(title, fontsize=10)
    bar = figure.colorbar(shown, ax=ax, shrink=0.7)
    # Red supports a landslide: hiding it lowers the probability.
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{-value:+.2g}")


def _bars(ax: Axes, found: Explanation) -> None:
    rows = sorted(found.channels, key=lambda one: abs(one.change)) + sorted(
        found.together, key=lambda one: abs(one.change)
    )
    places = np.arange(len(rows))
    lengths = np.array([-one.change for one in rows])
    ax.barh(places, lengths, color=[FOR if length > 0 else AGAINST for length in lengths])
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(places, [one.label for one in rows], fontsize=9)
    reach = max(float(np.abs(lengths).max(initial=0)), 0.01)
    ax.set_xlim(min(-0.35 * reach, 1.45 * lengths.min(initial=0)), 1.45 * max(lengths.max(initial=0), 0.25 * reach))
    for place, one in zip(places, rows, strict=True):
        text = f"{one.probability:.2f}" + ("" if one.dice is None else f", Dice {one.dice:.2f}")
        ends_right = one.change <= 0
        ax.text(-one.change, float(place), f" {text} ", va="center", ha="left" if ends_right else "right", fontsize=8)
    target = f"{int(found.target.sum()):,} px " + ("classified as landslide" if found.landslide else "of the window")
    base = f"{found.base.probability:.2f}" + ("" if found.base.dice is None else f", Dice {found.base.dice:.2f}")
    ax.set_title(f"mean probability without a channel, for the {target} ({base} with all channels)", fontsize=10)
    ax.set_xlabel("loss if the channel is replaced by its training mean (red: it supports a landslide)", fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)


def _weights(ax: Axes, found: Explanation) -> None:
    blocks = [one for one in found.attention if one.channel is not None]
    if not blocks:
        _write_note(ax, "the model has no channel attention")
        return
    for number, one in enumerate(blocks):
        assert one.channel is not None
        weights = np.sort(one.channel)[::-1]
        shade = str(0.75 * number / max(len(blocks) - 1, 1))
        ax.plot(np.linspace(0, 1, len(weights)), weights, color=shade, label=f"{one.name} ({len(weights)})")
    ax.set_ylim(0, 1)
    ax.set_xlabel("features of the block, the heaviest first (features, not bands)", fontsize=9)
    ax.set_title("channel attention", fontsize=10)
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


def _attention(figure: SubFigure, found: Explanation, bounds: Bounds) -> None:
    maps = [one for one in found.attention if one.spatial is not None]
    if not maps:
        _write_note(figure.subplots(), "the model has no spatial attention")
        return
    axes = np.atleast_1d(figure.subplots(1, min(max(len(maps), _LEAST_MAPS), _MOST_MAPS)))
    for ax in axes:
        ax.set_axis_off()
    for ax, one in zip(axes, maps, strict=False):
        assert one.spatial is not None
        shown = ax.imshow(one.spatial, extent=_extent(bounds), cmap="viridis", interpolation="nearest")
        how = {"add": "added", "mul": "multiplied", "residual": "multiplied and added"}[one.fusion]
        ax.set_title(f"{one.block} {one.name}\nspatial attention, {how}", fontsize=9)
        figure.colorbar(shown, ax=ax, orientation="horizontal", shrink=0.8)


def _outline(ax: Axes, mask: NDArray[np.bool_], bounds: Bounds, colour: str) -> None:
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
