"""Figures: curves and collinearity of a comparison, and the map of risk classes (Figure 8)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.diagnostics.description import Collinearity, collinearity
from zoo.files import atomic_path, csv_text
from zoo.physics import hillshade
from zoo.rasters.ground import ground_size
from zoo.rasters.map_frame import NODATA_COLOUR, framed_map, legend_patch, shaded
from zoo.rasters.pixel_sample import extent_of
from zoo.rasters.stacks import Stack
from zoo.risk.index import CLASS_COLOURS, CLASS_NAMES
from zoo.risk.models import risk_models
from zoo.risk.scores import rate_curve, reliability
from zoo.risk.tables import RiskTable

if TYPE_CHECKING:
    from zoo.risk.comparison import Comparison, Outcome
    from zoo.risk.mapping import MapReport
    from zoo.risk.rain_thresholds import Thresholds
    from zoo.risk.surfaces import MapInputs

HIGH_VIF = 10.0
_COLOURS = ("#3b6ea5", "#2a9d5c", "#d1495b", "#8a5ca8", "#c98a1b", "#111827", "#0f9fb0", "#b5548b", "#6b7280")
_MUTED_COLOUR = "#6b7280"

Draw = Callable[[Axes, "Outcome", str], None]


def draw_comparison(comparison: Comparison) -> dict[str, Figure]:
    """Return the figures "roc", "rates" and "reliability" by name, with one panel per cross-validation."""
    if not any(outcome.ok for outcome in comparison.outcomes):
        return {}
    return {"roc": draw_roc(comparison), "rates": draw_rates(comparison), "reliability": draw_reliability(comparison)}


def draw_roc(comparison: Comparison) -> Figure:
    """Draw the ROC curve of each model over all held-out rows; the legend shows the mean AUC of the folds."""
    from sklearn.metrics import roc_curve

    def draw(ax: Axes, outcome: Outcome, colour: str) -> None:
        false, true, _ = roc_curve(comparison.data.labels, outcome.probability)
        ax.plot(false, true, color=colour, label=f"{_title(outcome)}  {outcome.scores['auc']:.3f}", linewidth=1.5)

    return _panels(
        comparison,
        "ROC of held-out places (legend: mean AUC over folds)",
        ("false positive rate", "true positive rate"),
        draw,
        [([0, 1], [0, 1])],
    )


def draw_rates(comparison: Comparison) -> Figure:
    """Draw the success rate (training rows, dashed) and prediction rate (held-out rows)."""

    def draw(ax: Axes, outcome: Outcome, colour: str) -> None:
        assert outcome.probability is not None
        x, y = rate_curve(comparison.data.labels, outcome.probability)
        ax.plot(x, y, color=colour, label=_title(outcome), linewidth=1.5)
        if outcome.fitted is not None:
            x, y = rate_curve(*outcome.fitted)
            ax.plot(x, y, color=colour, linestyle="--", linewidth=1)

    share = float(comparison.data.labels.mean())
    return _panels(
        comparison,
        "Prediction rate (held-out places) and success rate (training places, dashed)",
        ("share of places, highest risk first", "share of landslides in them"),
        draw,
        [([0, 1], [0, 1]), ([0, share, 1], [0, 1, 1])],
    )


def draw_reliability(comparison: Comparison) -> Figure:
    """Draw the share of landslides against the mean probability in ten bins; the dot size shows the number of rows."""

    def draw(ax: Axes, outcome: Outcome, colour: str) -> None:
        assert outcome.probability is not None
        bins = reliability(comparison.data.labels, outcome.probability)
        label = f"{_title(outcome)}  {outcome.scores['ece']:.3f}"
        ax.plot(bins.predicted, bins.observed, color=colour, label=label, linewidth=1.2)
        sizes = 4 + 60 * bins.rows / bins.rows.sum()
        ax.scatter(bins.predicted, bins.observed, s=sizes, color=colour, zorder=3)

    return _panels(
        comparison,
        "Reliability of held-out probabilities (legend: calibration error)",
        ("mean probability", "share of landslides"),
        draw,
        [([0, 1], [0, 1])],
    )


def _panels(
    comparison: Comparison,
    title: str,
    labels: tuple[str, str],
    draw: Draw,
    guides: list[tuple[list[float], list[float]]],
) -> Figure:
    """Draw a panel per cross-validation with the curves of all models, guide lines and a legend."""
    kinds = list(comparison.splits)
    figure = Figure(figsize=(5.4 * len(kinds) + 0.4, 5.8), layout="constrained")
    figure.suptitle(title, fontsize=11)
    order = list(risk_models())
    for kind, ax in zip(kinds, np.atleast_1d(np.asarray(figure.subplots(1, len(kinds)), dtype=object)), strict=True):
        for x, y in guides:
            ax.plot(x, y, color=_MUTED_COLOUR, linestyle=":", linewidth=1)
        for outcome in comparison.outcomes:
            if outcome.cv == kind and outcome.ok:
                draw(ax, outcome, _COLOURS[order.index(outcome.model) % len(_COLOURS)])
        ax.legend(fontsize=8, loc="lower right", framealpha=0.9)
        # Without a margin, curves and dots at 0 and 1 would be cut in half.
        ax.set_xlim(-0.015, 1.015)
        ax.set_ylim(-0.015, 1.015)
        ax.set_aspect("equal")
        ax.set_xlabel(labels[0])
        ax.set_ylabel(labels[1])
        ax.set_title(f"{kind} cross-validation", fontsize=10)
    return figure


def _title(outcome: Outcome) -> str:
    return risk_models()[outcome.model].title


def feature_dependence(table: RiskTable) -> Collinearity | None:
    """Return correlation and VIF of the numeric features; None with fewer than two.

    Missing values are replaced by the median.
    """
    numbers = table.features.select_dtypes("number")
    if numbers.shape[1] < 2:
        return None
    filled = numbers.fillna(numbers.median())
    covariance = np.asarray(np.cov(filled.to_numpy(np.float64), rowvar=False))
    names = tuple(str(name) for name in numbers.columns)
    return collinearity(names, covariance, filled.mean().to_numpy(np.float64))


def draw_dependence(found: Collinearity) -> Figure:
    """Draw the correlation heat map and VIF bars of features."""
    count = len(found.names)
    figure = Figure(figsize=(2 * max(5.0, 0.5 * count + 2), max(4.5, 0.5 * count + 1.5)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    image = left.imshow(np.ma.masked_invalid(found.correlation), cmap="RdBu_r", vmin=-1, vmax=1)
    # A name may contain a dollar sign, which would start a formula.
    left.set_xticks(range(count), found.names, rotation=60, ha="right", parse_math=False)
    left.set_yticks(range(count), found.names, parse_math=False)
    if count <= 24:
        for row, column in np.ndindex(count, count):
            value = float(found.correlation[row, column])
            colour = "white" if abs(value) > 0.6 else "black"
            size = 8 if count <= 12 else 6
            text = f"{value:.2f}".replace("-0.00", "0.00")
            left.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    left.set_title("correlation of features")
    figure.colorbar(image, ax=left, shrink=0.8, label="Pearson's r")
    finite = found.vif[np.isfinite(found.vif)]
    edge = 3 * max(HIGH_VIF, float(finite.max(initial=1.0)))
    shown = np.where(np.isnan(found.vif), 1.0, np.minimum(found.vif, edge))
    colours = ["#d1495b" if value >= HIGH_VIF else "#3b6ea5" for value in np.nan_to_num(found.vif)]
    right.barh(range(count), shown - 0.9, left=0.9, color=colours)
    for place, value in enumerate(found.vif):
        text = "infinite" if np.isinf(value) else "constant" if np.isnan(value) else f"{value:.3g}"
        right.text(float(shown[place]) * 1.05, place, text, va="center", fontsize=8)
    right.axvline(HIGH_VIF, color=_MUTED_COLOUR, linestyle="--", linewidth=1)
    right.set_xscale("log")
    right.set_xlim(0.9, edge * 3)
    right.set_yticks(range(count), found.names, parse_math=False)
    right.invert_yaxis()
    right.set_xlabel("VIF = 1 / (1 - R²)")
    right.set_title(f"variance inflation (dashed: {HIGH_VIF:g})")
    return figure


def write_pictures(comparison: Comparison, folder: Path) -> list[Path]:
    """Write roc.png, rates.png, reliability.png and features.png, and features.csv with VIF and correlations.

    Args:
        comparison: results to draw.
        folder: an existing folder.

    Returns:
        The files.
    """
    figures = draw_comparison(comparison)
    found = feature_dependence(comparison.data)
    files = []
    if found is not None:
        figures["features"] = draw_dependence(found)
        names = [csv_text(name) for name in found.names]
        numbers = pd.DataFrame(found.correlation, index=names, columns=names)
        numbers.insert(0, "vif", found.vif)
        with atomic_path(folder / "features.csv") as temporary:
            numbers.to_csv(temporary, index_label="feature", lineterminator="\n")
        files.append(folder / "features.csv")
    for name, figure in figures.items():
        with atomic_path(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=130, format="png")
        files.append(folder / f"{name}.png")
    return files


def draw_thresholds(
    found: Thresholds, hours: NDArray[np.float64], intensity: NDArray[np.float64], slid: NDArray[np.bool_]
) -> Figure:
    """Draw events, fitted thresholds with their bands, and published thresholds.

    Args:
        found: the thresholds.
        hours: duration of each event, (N,).
        intensity: mean intensity of each event, mm/h, (N,).
        slid: whether each event had landslides, (N,).
    """
    figure = Figure(figsize=(7.2, 6.0), layout="constrained")
    ax = figure.subplots()
    ax.set_xscale("log")
    ax.set_yscale("log")
    if not slid.all():
        ax.scatter(hours[~slid], intensity[~slid], s=9, color="#c4c9d1", label=f"{found.others:,} events without")
    ax.scatter(
        hours[slid], intensity[slid], s=12, color="#374151", label=f"{found.landslides:,} events with landslides"
    )
    colours = iter(_COLOURS)
    for curve in found.curves:
        colour = next(colours)
        at = np.array(curve.hours)
        if curve.probability is None:
            label = f"{curve.name}: {curve.scale:.3g} D$^{{-{curve.exponent:.2g}}}$"
            ax.plot(at, curve.intensity(at), color=colour, linestyle="--", linewidth=1.2, label=label)
            continue
        label = f"{curve.name} of landslides below: {curve.scale:.3g} D$^{{-{curve.exponent:.2g}}}$"
        ax.plot(at, curve.intensity(at), color=colour, linewidth=1.6, label=label)
        if curve.band:
            ax.fill_between(at, *np.array(curve.band).T, color=colour, alpha=0.2, linewidth=0)
    ax.set_xlabel("duration D, h")
    ax.set_ylabel("mean intensity I, mm/h")
    ax.set_title("Rain thresholds of landslides (bands: 95 % bootstrap intervals)", fontsize=11, loc="left")
    ax.set_xlim(hours.min() / 1.5, hours.max() * 1.5)
    ax.set_ylim(intensity.min() / 1.5, intensity.max() * 1.5)
    ax.legend(fontsize=8, loc="best", framealpha=0.9)
    ax.grid(which="major", color="#e5e7eb", linewidth=0.6)
    ax.set_axisbelow(True)
    return figure


def draw_map(stack: Stack, prepared: MapInputs, report: MapReport, title: str | None = None) -> Figure:
    """Draw the class preview of a map over shaded relief, with legend, scale bar and north arrow.

    Args:
        stack: the mapped stack.
        prepared: origin of the risk and class breaks.
        report: report of the map, which holds the preview.
        title: title; None for the name of the scene.
    """
    if title is None:
        title = f"Landslide risk: {stack.tags.get('SCENE') or stack.path.stem}"
    if prepared.index is not None and prepared.rain.given:
        title += f"\n{prepared.rain.describe()}"
    classes = report.preview
    colours = ListedColormap([_colour(number) for number in (1, 2, 3)])
    shown = colours(BoundaryNorm([0.5, 1.5, 2.5, 3.5], 3)(np.ma.masked_equal(classes, 0)))
    if report.relief is not None and min(report.relief.shape) >= 2:
        shown = shaded(shown, hillshade(report.relief, ground_size(stack.crs, extent_of(stack), report.relief.shape)))
    shown[classes == 0] = (0, 0, 0, 0)
    figure, _ = framed_map(
        [(shown, extent_of(stack))],
        title=title,
        crs=stack.crs,
        legend=_legend(prepared, report),
        legend_title="share of the area" if report.dry is None else "share of the area (under the reference rain)",
        footnote=prepared.source,
    )
    return figure


def _colour(number: int) -> tuple[float, float, float]:
    red, green, blue = CLASS_COLOURS[number]
    return red / 255, green / 255, blue / 255


def _legend(prepared: MapInputs, report: MapReport) -> list[Artist]:
    breaks = prepared.breaks
    spans = (f"≤ {breaks.low:.3g}", f"{breaks.low:.3g} - {breaks.high:.3g}", f"> {breaks.high:.3g}")
    handles: list[Artist] = []
    for number, (name, span, share) in enumerate(zip(CLASS_NAMES, spans, report.shares, strict=True), 1):
        dry = "" if report.dry is None else f" ({report.dry[number - 1]:.1%})"
        handles.append(legend_patch(_colour(number), f"{name}  ({span}): {share:.1%}{dry}"))
    handles.reverse()
    if report.pixels[0]:
        handles.append(legend_patch(NODATA_COLOUR, "no data"))
    return handles
