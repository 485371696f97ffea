"""Pictures of a comparison: ROC, success and prediction rate, reliability, correlation and VIF of the features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoo.diagnostics.description import Collinearity, collinearity
from zoo.files import atomic_path
from zoo.risk.compare import OK, Comparison, Outcome
from zoo.risk.curves import rate_curve, reliability, roc_curve
from zoo.risk.models import risk_models
from zoo.risk.tables import RiskTable

HIGH_VIF = 10.0
_COLOURS = ("#3b6ea5", "#2a9d5c", "#d1495b", "#8a5ca8", "#c98a1b", "#111827", "#0f9fb0", "#b5548b", "#6b7280")
_QUIET = "#6b7280"


def draw_roc(comparison: Comparison) -> Figure:
    """ROC of each model over all held-out rows, a panel a cross-validation; the legend has the mean AUC of folds."""

    def draw(ax: Axes, outcome: Outcome, colour: str) -> None:
        assert outcome.probability is not None
        x, y = roc_curve(comparison.table.labels, outcome.probability)
        ax.plot(x, y, color=colour, label=f"{_title(outcome)}  {outcome.scores['auc']:.3f}", linewidth=1.5)

    figure, axes = _panels(comparison, "ROC of held-out places (legend: mean AUC over folds)")
    for kind, ax in axes.items():
        ax.plot([0, 1], [0, 1], color=_QUIET, linestyle=":", linewidth=1)
        _each(comparison, kind, ax, draw)
        _unit(ax, "false positive rate", "true positive rate", kind)
    return figure


def draw_rates(comparison: Comparison) -> Figure:
    """Success rate (training rows, dashed) and prediction rate (held-out rows), a panel a cross-validation."""

    def draw(ax: Axes, outcome: Outcome, colour: str) -> None:
        assert outcome.probability is not None
        x, y = rate_curve(comparison.table.labels, outcome.probability)
        ax.plot(x, y, color=colour, label=_title(outcome), linewidth=1.5)
        if outcome.fitted is not None:
            x, y = rate_curve(*outcome.fitted)
            ax.plot(x, y, color=colour, linestyle="--", linewidth=1)

    figure, axes = _panels(comparison, "Prediction rate (held-out places) and success rate (training places, dashed)")
    share = float(comparison.table.labels.mean())
    for kind, ax in axes.items():
        ax.plot([0, 1], [0, 1], color=_QUIET, linestyle=":", linewidth=1)
        ax.plot([0, share, 1], [0, 1, 1], color=_QUIET, linestyle=":", linewidth=1)
        _each(comparison, kind, ax, draw)
        _unit(ax, "share of places, most dangerous first", "share of landslides in them", kind)
    return figure


def draw_reliability(comparison: Comparison) -> Figure:
    """Share of landslides against mean probability in ten bins of held-out rows; big dots are bins of many rows."""

    def draw(ax: Axes, outcome: Outcome, colour: str) -> None:
        assert outcome.probability is not None
        bins = reliability(comparison.table.labels, outcome.probability)
        label = f"{_title(outcome)}  {outcome.scores['ece']:.3f}"
        ax.plot(bins.predicted, bins.observed, color=colour, label=label, linewidth=1.2)
        sizes = 4 + 60 * bins.rows / bins.rows.sum()
        ax.scatter(bins.predicted, bins.observed, s=sizes, color=colour, zorder=3)

    figure, axes = _panels(comparison, "Reliability of held-out probabilities (legend: calibration error)")
    for kind, ax in axes.items():
        ax.plot([0, 1], [0, 1], color=_QUIET, linestyle=":", linewidth=1)
        _each(comparison, kind, ax, draw)
        _unit(ax, "mean probability", "share of landslides", kind)
    return figure


def feature_dependence(table: RiskTable) -> Collinearity | None:
    """Correlation and VIF of the numbers of a table, missing ones replaced by the median; None with fewer than two."""
    numbers = table.features.select_dtypes("number")
    if numbers.shape[1] < 2:
        return None
    filled = numbers.fillna(numbers.median())
    covariance = np.asarray(np.cov(filled.to_numpy(np.float64), rowvar=False))
    names = tuple(str(name) for name in numbers.columns)
    return collinearity(names, covariance, filled.mean().to_numpy(np.float64))


def draw_dependence(found: Collinearity) -> Figure:
    """Correlation heat map and VIF bars of features."""
    count = len(found.names)
    figure = Figure(figsize=(2 * max(5.0, 0.5 * count + 2), max(4.5, 0.5 * count + 1.5)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    image = left.imshow(np.ma.masked_invalid(found.correlation), cmap="RdBu_r", vmin=-1, vmax=1)
    left.set_xticks(range(count), found.names, rotation=60, ha="right")
    left.set_yticks(range(count), found.names)
    if count <= 24:
        for row, column in np.ndindex(count, count):
            value = float(found.correlation[row, column])
            colour = "white" if abs(value) > 0.6 else "black"
            size = 8 if count <= 12 else 6
            left.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=size, color=colour)
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
    right.axvline(HIGH_VIF, color=_QUIET, linestyle="--", linewidth=1)
    right.set_xscale("log")
    right.set_xlim(0.9, edge * 3)
    right.set_yticks(range(count), found.names)
    right.invert_yaxis()
    right.set_xlabel("VIF = 1 / (1 - R²)")
    right.set_title(f"variance inflation (dashed: {HIGH_VIF:g})")
    return figure


def write_pictures(comparison: Comparison, folder: Path) -> list[Path]:
    """Write roc.png, rates.png, reliability.png and features.png, and features.csv with VIF and correlations.

    Args:
        comparison: what to draw.
        folder: where; it exists.

    Returns:
        the files.
    """
    figures: dict[str, Figure] = {}
    if any(outcome.status == OK for outcome in comparison.outcomes):
        figures = {
            "roc.png": draw_roc(comparison),
            "rates.png": draw_rates(comparison),
            "reliability.png": draw_reliability(comparison),
        }
    found = feature_dependence(comparison.table)
    files = []
    if found is not None:
        figures["features.png"] = draw_dependence(found)
        numbers = pd.DataFrame(found.correlation, index=found.names, columns=found.names)
        numbers.insert(0, "vif", found.vif)
        with atomic_path(folder / "features.csv") as temporary:
            numbers.to_csv(temporary, index_label="feature", lineterminator="\n")
        files.append(folder / "features.csv")
    for name, figure in figures.items():
        with atomic_path(folder / name) as temporary:
            figure.savefig(temporary, dpi=130, format="png")
        files.append(folder / name)
    return files


def _panels(comparison: Comparison, title: str) -> tuple[Figure, dict[str, Axes]]:
    kinds = list(comparison.splits)
    figure = Figure(figsize=(5.4 * len(kinds) + 0.4, 5.8), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = np.atleast_1d(np.asarray(figure.subplots(1, len(kinds)), dtype=object))
    return figure, dict(zip(kinds, axes, strict=True))


def _each(comparison: Comparison, kind: str, ax: Axes, draw: Any) -> None:
    for outcome in comparison.outcomes:
        if outcome.cv == kind and outcome.status == OK:
            place = list(risk_models()).index(outcome.model)
            draw(ax, outcome, _COLOURS[place % len(_COLOURS)])
    ax.legend(fontsize=8, loc="lower right" if ax.get_lines() else "best", framealpha=0.9)


def _unit(ax: Axes, x: str, y: str, kind: str) -> None:
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_aspect("equal")
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.set_title(f"{kind} cross-validation", fontsize=10)


def _title(outcome: Outcome) -> str:
    return risk_models()[outcome.model].title
