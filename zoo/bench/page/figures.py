"""Figures of a setting, each with a chart, a legend, a caption and a table of the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from zoo.bench.leaderboard import Draws, Leaderboard
from zoo.bench.page.svg import Axis, Series, draw, swatch
from zoo.bench.results import TrialResult
from zoo.evaluation.columns import UNDEFINED
from zoo.evaluation.counts import size_names
from zoo.evaluation.histograms import RELIABILITY_BINS, ProbabilityHistogram, ThresholdCurve

TABLE_THRESHOLDS = range(10, 200, 20)
"""Thresholds, in 1/200, of the table behind a precision-recall curve."""
TABLE_STEPS = 12
CURVE_POINTS = 120
"""Maximum number of points of a drawn training curve; longer curves are averaged in bins."""


MIN_VALUE, MAX_VALUE = 1e-9, 1e15
"""Bounds of a value on a logarithmic axis; a value outside means that a result file was edited."""


@dataclass(frozen=True)
class Figure:
    """A chart, or the reason why there is none.

    Attributes:
        title: title of the figure.
        identity: name that is unique on the page.
        chart: the SVG element; ``None`` if the results lack the data.
        caption: what the chart shows, or why there is none.
        headings: headings of the table with the numbers.
        rows: cells of the table with the numbers.
        legend: number, picture and name of each series.
    """

    title: str
    identity: str
    chart: Markup | None
    caption: str
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    legend: Sequence[tuple[int, Markup, str]] = ()


def make_figures(board: Leaderboard, number: int) -> list[tuple[str, list[Figure]]]:
    """Return the figures of a setting under their headings.

    Args:
        board: the leaderboard of the setting; without any figure, nothing is returned.
        number: number of the setting on the page.
    """
    if not board.trials:
        return []
    speed, size = "frames per second at batch 1", "parameters in millions"
    return [
        (
            "Quality against speed and size",
            [
                trade_off(board, f"setting-{number}-fps", "fps", speed, smaller=False),
                trade_off(board, f"setting-{number}-size", "parameters", size, smaller=True, scale=1e6),
            ],
        ),
        (
            "Thresholds and sizes",
            [
                precision_recall(board, f"setting-{number}-precision-recall"),
                recall_of_sizes(board, f"setting-{number}-sizes"),
            ],
        ),
        (
            "Calibration",
            [
                reliability(board, f"setting-{number}-reliability", scaled=False),
                reliability(board, f"setting-{number}-reliability-scaled", scaled=True),
            ],
        ),
        ("Training curves", [training(board, f"setting-{number}-training")]),
    ]


def styles_of(board: Leaderboard) -> dict[str, int]:
    """Return the number for colour, marker and dashes of each model, the same in all figures of a setting."""
    return {label: place for place, label in enumerate(board.trials)}


def trade_off(board: Leaderboard, identity: str, key: str, name: str, *, smaller: bool, scale: float = 1.0) -> Figure:
    """Draw the pooled Dice against a cost or a speed, with the Pareto front.

    Args:
        board: the leaderboard.
        identity: name that is unique on the page.
        key: key of a figure, such as ``fps``.
        name: its name with the unit.
        smaller: whether smaller values are better.
        scale: number by which values are divided.
    """
    styles = styles_of(board)
    rows = [row for row in board.rows if row.model in styles]
    points = {
        row.model: (x / scale, y)
        for row in rows
        if MIN_VALUE < (x := row.figures.get(key) or 0) < MAX_VALUE and (y := row.figures.get("dice")) is not None
    }
    title = f"Dice against {name}"
    if not points:
        return Figure(title, identity, None, f"No result file of this table has {name}.")
    front = pareto_front(points, smaller=smaller)
    intervals = {row.model: row.intervals.get("dice", (math.nan, math.nan)) for row in rows}
    ends = [end for label in points for end in (*intervals[label], points[label][1]) if not math.isnan(end)]
    series = [
        Series(
            label, styles[label], [point], line=False, markers=True, whiskers=[intervals[label]],
            hollow=label not in front,
        )
        for label, point in points.items()
    ]  # fmt: skip
    chart = draw(
        identity,
        title,
        f"{len(points)} models. On the Pareto front, where no other model is better in one and at least as good in the "
        f"other: {', '.join(front)}.",
        Axis.around(
            f"{name}, log scale; {'less' if smaller else 'more'} is better",
            [x for x, _ in points.values()],
            log=True,
        ),
        Axis.around("pooled Dice", ends),
        series,
        guide=_staircase([points[label] for label in front], smaller=smaller),
    )
    cells = [
        (
            label, f"{x:,.6g}", f"{y:.3f}", _range(intervals[label]), "yes" if label in front else "no",
        )
        for label, (x, y) in points.items()
    ]  # fmt: skip
    caption = "Filled markers and the dashed line: the Pareto front. Whiskers: 95 % intervals of Dice."
    return Figure(title, identity, chart, caption, ("model", name, "Dice", "95 %", "on the front"), cells,
                  _legend(series, line=False))  # fmt: skip


def precision_recall(board: Leaderboard, identity: str) -> Figure:
    """Draw precision against recall over all thresholds, and mark the threshold chosen on the validation split."""
    styles, title = styles_of(board), "Precision and recall at every threshold"
    rows = {row.model: row for row in board.rows}
    series, cells = [], []
    for label, trials in board.trials.items():
        curve = threshold_curve(trials)
        known = ~np.isnan(curve.precision) & ~np.isnan(curve.recall)
        points = list(zip(curve.recall[known].tolist(), curve.precision[known].tolist(), strict=True))
        chosen = [(rows[label].figures.get("recall"), rows[label].figures.get("precision"))]
        marked = [(x, y) for x, y in chosen if x is not None and y is not None]
        series.append(Series(label, styles[label], points, marked=marked))
        cells += [
            (
                label,
                f"{curve.threshold[place]:g}",
                _three_decimals(curve.precision[place]),
                _three_decimals(curve.recall[place]),
            )
            for place in TABLE_THRESHOLDS
        ]
    areas = ", ".join(f"{label} {_three_decimals(rows[label].figures.get('pr_auc'))}" for label in board.trials)
    chart = draw(
        identity, title, f"Area under the curve: {areas}.", Axis("recall", 0, 1), Axis("precision", 0, 1.02), series
    )
    caption = (
        "Pixels of the test split, all seeds together. Marker: the threshold that was chosen on validation, mean over "
        "seeds."
    )
    headings = ("model", "threshold", "precision", "recall")
    return Figure(title, identity, chart, caption, headings, cells, _legend(series))


def reliability(board: Leaderboard, identity: str, *, scaled: bool) -> Figure:
    """Draw the share of landslide against the predicted probability, before or after temperature scaling."""
    styles = styles_of(board)
    title = "Reliability " + ("after temperature scaling" if scaled else "as trained")
    series, cells = [], []
    for label, trials in board.trials.items():
        found = reliability_points(trials, scaled=scaled)
        if found is not None:
            points = [(predicted, observed) for predicted, observed, _ in found]
            series.append(Series(label, styles[label], points, markers=True))
            cells += [(label, _three_decimals(p), _three_decimals(o), f"{pixels:,}") for p, o, pixels in found]
    if not series:
        missing = "no log odds of a validation split" if scaled else "no log odds"
        return Figure(title, identity, None, f"These results hold {missing}.")
    left_out = [label for label in board.trials if label not in {line.name for line in series}]
    without = f" Left out, because their result files lack the counts: {', '.join(left_out)}." if left_out else ""
    rows = {row.model: row for row in board.rows}
    key = "ece_scaled" if scaled else "ece"
    errors = ", ".join(f"{line.name} {_three_decimals(rows[line.name].figures.get(key))}" for line in series)
    chart = draw(
        identity,
        title,
        f"Expected calibration error: {errors}.{without}",
        Axis("predicted probability of a landslide", 0, 1),
        Axis("share of landslide pixels", 0, 1.02),
        series,
        guide=[(0, 0), (1, 1)],
    )
    caption = f"Dashed: perfect calibration. {RELIABILITY_BINS} bins of equal width; a bin may hold few pixels."
    if scaled:
        caption += " The temperature of each seed was fitted on the validation split."
    headings = ("model", "predicted", "observed", "pixels")
    return Figure(title, identity, chart, caption + without, headings, cells, _legend(series))


def recall_of_sizes(board: Leaderboard, identity: str) -> Figure:
    """Draw the share of landslides that were found, by area."""
    styles, found = styles_of(board), recall_by_size(board)
    title = "Landslides found, by size"
    if not found:
        return Figure(title, identity, None, "These results hold no counts of landslides.")
    first = board.trials[next(iter(found))][0]
    names = size_names(first.data.pixel_size)
    totals = [] if first.test.objects is None else first.test.objects.total.sum(axis=0).tolist()
    series, cells = [], []
    for place, (label, shares) in enumerate(found.items()):
        shift = 0.6 * ((place + 0.5) / len(found) - 0.5)
        known = [(size + shift, share, ends) for size, (share, ends) in enumerate(shares) if not math.isnan(share)]
        points, whiskers = [(x, share) for x, share, _ in known], [ends for *_, ends in known]
        series.append(Series(label, styles[label], points, line=False, markers=True, whiskers=whiskers))
        cells += [
            (label, name, f"{total:,}", _three_decimals(share), _range(ends))
            for name, total, (share, ends) in zip(names, totals, shares, strict=True)
        ]
    best = ", ".join(
        f"{label} {_three_decimals(one[0][0])} to {_three_decimals(one[-1][0])}" for label, one in found.items()
    )
    unit = names[0].rpartition(" ")[2]
    ticks = [f"{name.removesuffix(f' {unit}')}\n{total:,}" for name, total in zip(names, totals, strict=True)]
    area = f"area of the landslide in {unit.replace('m2', 'm²')}, and number of landslides"
    chart = draw(
        identity,
        title,
        f"Share found among the smallest and among the largest landslides: {best}.",
        Axis(area, -0.5, len(names) - 0.5, names=ticks),
        Axis("share found", 0, 1.02),
        series,
    )
    caption = (
        "A landslide is a group of touching pixels; it is found when at least half of its pixels are predicted. Mean "
        "over seeds; whiskers: 95 % intervals."
    )
    headings = ("model", "area", "landslides", "found", "95 %")
    return Figure(title, identity, chart, caption, headings, cells, _legend(series, line=False))


def training(board: Leaderboard, identity: str) -> Figure:
    """Draw the training loss against the optimiser steps."""
    styles, title = styles_of(board), "Training loss"
    series, cells = [], []
    for label, trials in board.trials.items():
        points = training_curve(trials)
        if points:
            series.append(Series(label, styles[label], points))
            shown = np.unique(np.linspace(0, len(points) - 1, TABLE_STEPS).round().astype(int))
            cells += [(label, f"{points[place][0]:.0f}", f"{points[place][1]:.4f}") for place in shown]
    if not series:
        return Figure(title, identity, None, "No trial of this table was trained here.")
    losses = [loss for line in series for _, loss in line.points]
    steps = [step for line in series for step, _ in line.points]
    last = ", ".join(f"{line.name} {line.points[-1][1]:.3f}" for line in series)
    chart = draw(
        identity,
        title,
        f"Loss at the end: {last}.",
        Axis("optimiser step", 0, max(steps)),
        Axis("training loss", min(0.0, *losses), max(losses) * 1.05 or 1.0),
        series,
    )
    caption = f"The recipe's loss ({board.results[0].config.recipe.loss}) on training batches, mean over seeds."
    return Figure(title, identity, chart, caption, ("model", "step", "loss"), cells, _legend(series))


def threshold_curve(trials: Iterable[TrialResult]) -> ThresholdCurve:
    """Return the figures at every threshold, with the pixels of all seeds pooled."""
    return ThresholdCurve.from_histogram(ProbabilityHistogram.joined(trial.evaluated.histogram for trial in trials))


def reliability_points(trials: Sequence[TrialResult], *, scaled: bool) -> list[tuple[float, float, int]] | None:
    """Return mean probability, share of landslide and pixels of every filled bin, with the pixels of all seeds pooled.

    Args:
        trials: trials of one model.
        scaled: whether to apply each seed's temperature, fitted on the validation split.

    Returns:
        A triple per bin; ``None`` if logits were not counted.
    """
    sums = np.zeros((3, RELIABILITY_BINS))
    for trial in trials:
        found = trial.evaluated
        temperature = found.temperature if scaled else 1.0
        if found.logit_histogram is None or math.isnan(temperature):
            return None
        curve = found.logit_histogram.reliability(temperature)
        sums += np.nan_to_num(np.stack([curve.predicted * curve.pixels, curve.observed * curve.pixels, curve.pixels]))
    return [(float(p / n), float(o / n), int(n)) for p, o, n in sums.T if n]


def recall_by_size(board: Leaderboard) -> dict[str, list[tuple[float, tuple[float, float]]]]:
    """Return the share of landslides with at least half of their pixels predicted, by size and label.

    Returns:
        Share, mean over seeds, and its interval for each size bin; NaN if there is no landslide.
    """
    draws = Draws.of(board.results)
    found: dict[str, list[tuple[float, tuple[float, float]]]] = {}
    for label, trials in board.trials.items() if draws is not None else ():
        objects = [one for one in (trial.test.objects for trial in trials) if one is not None]
        if draws is None or len(objects) < len(trials):
            continue
        resampling = draws.resampling
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.mean([sizes.found.sum(axis=0) / sizes.total.sum(axis=0) for sizes in objects], axis=0)
            drawn = [resampling.sums(sizes.found) / resampling.sums(sizes.total) for sizes in objects]
        found[label] = [
            (float(share), resampling.interval(resampling.over_seeds([one[:, size] for one in drawn])))
            for size, share in enumerate(shares)
        ]
    return found


def training_curve(trials: Sequence[TrialResult]) -> list[tuple[float, float]]:
    """Return the training loss by optimiser step: the mean over seeds with the same steps; long curves are averaged."""
    curves = [np.asarray(trial.training.curve, dtype=float) for trial in trials if trial.training is not None]
    curves = [curve for curve in curves if curve.ndim == 2 and curve.shape[1] >= 2]
    if not curves:
        return []
    alike = [curve for curve in curves if len(curve) == len(curves[0]) and (curve[:, 0] == curves[0][:, 0]).all()]
    steps, losses = curves[0][:, 0], np.mean([curve[:, 1] for curve in alike], axis=0)
    parts = np.array_split(np.arange(len(steps)), min(len(steps), CURVE_POINTS))
    points = [(float(steps[part].mean()), float(losses[part].mean())) for part in parts]
    return [(step, loss) for step, loss in points if math.isfinite(loss)]


def pareto_front(points: Mapping[str, tuple[float, float]], *, smaller: bool) -> list[str]:
    """Return the labels of the Pareto front, in order of increasing x.

    Args:
        points: cost or speed, and quality, by label; higher quality is better.
        smaller: whether a smaller first coordinate is better.
    """
    sign = -1.0 if smaller else 1.0

    def beaten(label: str) -> bool:
        x, y = points[label]
        return any(
            sign * other_x >= sign * x and other_y >= y and (other_x, other_y) != (x, y)
            for other_x, other_y in points.values()
        )

    return sorted((label for label in points if not beaten(label)), key=lambda label: points[label])


def _legend(series: Iterable[Series], *, line: bool = True) -> list[tuple[int, Markup, str]]:
    return [(one.style, swatch(one.style, line=line, hollow=one.hollow), one.name) for one in series]


def _staircase(points: Sequence[tuple[float, float]], *, smaller: bool) -> list[tuple[float, float]]:
    """Return the front as a staircase around the area that it dominates."""
    if not points:
        return []
    corners = [points[0]]
    for (x, y), (next_x, next_y) in pairwise(points):
        corners += [(next_x, y) if smaller else (x, next_y), (next_x, next_y)]
    return corners


def _three_decimals(value: float | None) -> str:
    return UNDEFINED if value is None or math.isnan(value) else f"{value:.3f}"


def _range(ends: tuple[float, float]) -> str:
    return UNDEFINED if math.isnan(ends[0]) else f"{ends[0]:.3f} to {ends[1]:.3f}"
