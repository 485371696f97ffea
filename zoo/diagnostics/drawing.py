"""Figure of a description of data."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoo.diagnostics.description import SMALL_LANDSLIDE_M2, Collinearity, Description, LandslideSizes

HIGH_VIF = 10.0
"""VIF above which collinearity is usually considered high."""

_BAR = "#3b6ea5"
_WARNING = "#d1495b"
_MUTED_COLOUR = "#6b7280"
_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}


def draw_description(description: Description) -> Figure:
    """Draw the correlation heat map (Figure 7), VIF bars, explained variance, and landslide sizes or loadings.

    Args:
        description: description of a data set or a stack.

    Returns:
        A figure with four panels that is not registered with pyplot. A panel without data shows the reason.
    """
    count = len(description.channels)
    side = max(5.0, 0.55 * count + 2)
    figure = Figure(figsize=(2 * side + 1, 2 * side), layout="constrained")
    axes = figure.subplots(2, 2)
    figure.suptitle(f"{description.label}: {count} channels, {description.complete:,} complete pixels", fontsize=13)
    found = description.dependence
    if found is None:
        for ax in (axes[0, 0], axes[0, 1], axes[1, 0]):
            _show_text(ax, "no pixel has a valid value\nin every channel")
    else:
        _draw_correlation(axes[0, 0], found)
        _draw_vif(axes[0, 1], found)
        _draw_explained(axes[1, 0], found)
    if description.sizes is not None:
        _draw_sizes(axes[1, 1], description.sizes)
    elif found is not None and len(found.explained):
        _draw_loadings(axes[1, 1], found)
    else:
        _show_text(axes[1, 1], "no masks, so no landslide sizes")
    return figure


def _draw_correlation(ax: Axes, found: Collinearity) -> None:
    count = len(found.names)
    shown = np.ma.masked_invalid(found.correlation)
    image = ax.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set_facecolor("#e5e7eb")
    _label_ticks(ax, found.names, found.names)
    size = 9 if count <= 8 else max(5, 72 / count)
    for row in range(count):
        for column in range(count):
            value = float(found.correlation[row, column])
            text, colour = ("-", _MUTED_COLOUR) if np.isnan(value) else (_two_decimals(value), _text_colour(value))
            ax.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    ax.set_title("correlation")
    ax.figure.colorbar(image, ax=ax, shrink=0.8, label="Pearson's r")


def _draw_vif(ax: Axes, found: Collinearity) -> None:
    places = np.arange(len(found.names))
    finite = found.vif[np.isfinite(found.vif)]
    # The axis is logarithmic because VIFs span decades. A bar of infinite length ends at the edge and is labelled.
    edge = max(3 * HIGH_VIF, 3 * float(finite.max(initial=1)))
    lengths = np.where(np.isnan(found.vif), 1, np.minimum(found.vif, edge))
    colours = [_WARNING if value >= HIGH_VIF else _BAR for value in np.nan_to_num(found.vif)]
    ax.barh(places, lengths - 0.9, left=0.9, color=colours)
    ax.set_xscale("log")
    ax.set_xlim(0.9, edge * 2)
    for place, value, length in zip(places, found.vif, lengths, strict=True):
        text = "constant" if np.isnan(value) else "infinite" if np.isinf(value) else f"{value:.3g}"
        ax.text(length * 1.04, float(place), text, va="center", fontsize=9, bbox=_PAPER)
    ax.axvline(HIGH_VIF, color=_MUTED_COLOUR, linestyle="--", linewidth=1)
    ax.text(HIGH_VIF, -0.75, f" {HIGH_VIF:g}", color=_MUTED_COLOUR, fontsize=8, va="center")
    ax.set_yticks(places, found.names)
    ax.set_ylim(len(found.names) - 0.4, -1)
    ax.set_xlabel("VIF = 1 / (1 - R²)")
    ax.set_title("variance inflation")


def _draw_explained(ax: Axes, found: Collinearity) -> None:
    if not len(found.explained):
        _show_text(ax, "all channels are constant")
        return
    numbers = np.arange(1, len(found.explained) + 1)
    percent = 100 * found.explained
    ax.bar(numbers, percent, color=_BAR, label="each component")
    ax.plot(numbers, np.cumsum(percent), color=_WARNING, marker="o", label="cumulative")
    for number, value in zip(numbers, percent, strict=True):
        # The value of a tall bar is drawn inside it, where the line of the cumulative sum does not cross it.
        tall = value > 12
        place, colour = (value - 4, "white") if tall else (value + 1.5, "black")
        ax.text(float(number), float(place), f"{value:.1f}", ha="center", fontsize=8, color=colour)
    ax.set_xticks(numbers, [f"PC{number}" for number in numbers])
    ax.set_ylim(0, 108)
    ax.set_ylabel("explained variance (%)")
    ax.set_title("principal components of the correlation")
    ax.legend(loc="center right")


def _draw_loadings(ax: Axes, found: Collinearity) -> None:
    image = ax.imshow(found.loadings, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    _label_ticks(ax, found.names, [f"PC{number}" for number in range(1, len(found.loadings) + 1)])
    size = 9 if len(found.names) <= 8 else max(5, 72 / len(found.names))
    for row, column in np.ndindex(found.loadings.shape):
        value = float(found.loadings[row, column])
        ax.text(column, row, _two_decimals(value), ha="center", va="center", fontsize=size, color=_text_colour(value))
    ax.set_title("loadings")
    ax.figure.colorbar(image, ax=ax, shrink=0.8)


def _draw_sizes(ax: Axes, sizes: LandslideSizes) -> None:
    ax.set_title("landslide sizes")
    areas = sizes.areas
    if not len(areas):
        _show_text(ax, "the masks contain no landslides")
        return
    low, high = areas.min(), max(areas.max(), areas.min() * 1.01)
    bins = np.geomspace(low * 0.99, high * 1.01, 31)
    border = np.array(sizes.border)
    ax.hist(
        [areas[~border], areas[border]],
        bins=bins.tolist(),
        stacked=True,
        color=[_BAR, "#a9bcd0"],
        label=[f"whole ({int((~border).sum()):,})", f"cut by the border ({int(border.sum()):,})"],
    )
    ax.set_xscale("log")
    median = float(np.median(areas))
    unit = "m²" if sizes.pixel_size is not None else "px"
    ax.axvline(median, color="black", linewidth=1.2, label=f"median {median:,.0f} {unit}")
    if sizes.pixel_size is not None:
        ax.axvline(
            SMALL_LANDSLIDE_M2,
            color=_WARNING,
            linestyle="--",
            linewidth=1.2,
            label=f"{SMALL_LANDSLIDE_M2:,.0f} m²: {sizes.small:.0%} below",
        )
    ax.set_xlabel(f"area ({unit})")
    ax.set_ylabel("landslides")
    ax.legend()


def _label_ticks(ax: Axes, across: tuple[str, ...], down: tuple[str, ...] | list[str]) -> None:
    turned = max(map(len, across)) * len(across) > 40
    ax.set_xticks(range(len(across)), across, rotation=45 if turned else 0, ha="right" if turned else "center")
    ax.set_yticks(range(len(down)), down)


def _two_decimals(value: float) -> str:
    # Adding 0 turns -0.00 into 0.00.
    return f"{round(value, 2) + 0:.2f}"


def _text_colour(value: float) -> str:
    return "white" if abs(value) > 0.6 else "black"


def _show_text(ax: Axes, text: str) -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, color=_MUTED_COLOUR)
    ax.set_xticks([])
    ax.set_yticks([])
