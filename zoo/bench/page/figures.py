"""The figures of a setting: a chart, its legend, what it means, and the numbers behind it as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from zoo.bench.page.charts import Axis, Chart, Series, draw, swatch
from zoo.bench.page.data import (
    Setting,
    pareto_front,
    recall_by_size,
    reliability_points,
    sizes_of,
    threshold_curve,
    training_curve,
)
from zoo.bench.page.markup import Element, table, tag

TABLE_THRESHOLDS = range(10, 200, 20)
"""Of 200: the rows of the table behind a precision-recall curve."""
TABLE_STEPS = 12


def styles_of(setting: Setting) -> dict[str, int]:
    """A number for colour, marker and dashes of each model, the same in all figures of a setting."""
    return {label: place for place, label in enumerate(setting.trials)}


def trade_off(setting: Setting, figure: str, axis: str, name: str, *, smaller: bool, scale: float = 1.0) -> Element:
    """Pooled Dice against a cost or a speed, with the Pareto front.

    Args:
        setting: to draw.
        figure: of the rows, such as ``fps``.
        axis: its name with the unit.
        name: of the chart, unique in the setting.
        smaller: whether less of it is better.
        scale: that values are divided by.
    """
    styles = styles_of(setting)
    rows = [row for row in setting.rows if row.model in styles]
    points = {
        row.model: (x / scale, y)
        for row in rows
        if (x := row.figures.get(figure)) and (y := row.figures.get("dice")) is not None
    }
    title = f"Dice against {axis}"
    if not points:
        return _absent(title, f"No result file of this table has {axis}.")
    front = pareto_front(points, smaller=smaller)
    intervals = {row.model: row.intervals.get("dice", (math.nan, math.nan)) for row in rows}
    ends = [end for label in points for end in (*intervals[label], points[label][1]) if not math.isnan(end)]
    series = [
        Series(
            label,
            styles[label],
            [point],
            line=False,
            markers=True,
            whiskers=[intervals[label]],
            label=label,
            hollow=label not in front,
        )
        for label, point in points.items()
    ]
    better = "less is better" if smaller else "more is better"
    described = (
        f"{len(points)} models. On the Pareto front, where no other model is better in one and at least as good in the "
        f"other: {', '.join(front)}."
    )
    chart = Chart(
        f"setting-{setting.number}-{name}",
        title,
        described,
        Axis.around(f"{axis}, log scale; {better}", [x for x, _ in points.values()], log=True),
        Axis.around("pooled Dice", ends),
        series,
        guide=_stairs([points[label] for label in front], smaller=smaller),
    )
    cells = [
        (
            row.model,
            f"{points[row.model][0]:,.6g}",
            f"{points[row.model][1]:.3f}",
            _range(intervals[row.model]),
            "yes" if row.model in front else "no",
        )
        for row in rows
        if row.model in points
    ]
    return _figure(
        chart,
        "Filled markers and the dashed line: the Pareto front. Whiskers: 95 % intervals of Dice.",
        table(title, ("model", axis, "Dice", "95 %", "on the front"), cells),
    )


def precision_recall(setting: Setting) -> Element:
    """Precision against recall over all thresholds, with the threshold that validation chose."""
    styles = styles_of(setting)
    rows = {row.model: row for row in setting.rows}
    series, cells = [], []
    for label, trials in setting.trials.items():
        curve = threshold_curve(trials)
        known = ~np.isnan(curve.precision) & ~np.isnan(curve.recall)
        points = list(zip(curve.recall[known].tolist(), curve.precision[known].tolist(), strict=True))
        chosen = [(rows[label].figures.get("recall"), rows[label].figures.get("precision"))]
        marked = [(x, y) for x, y in chosen if x is not None and y is not None]
        series.append(Series(label, styles[label], points, marked=marked))
        cells += [
            (label, f"{curve.threshold[place]:g}", _three(curve.precision[place]), _three(curve.recall[place]))
            for place in TABLE_THRESHOLDS
        ]
    areas = [f"{label} {_three(rows[label].figures.get('pr_auc'))}" for label in setting.trials]
    chart = Chart(
        f"setting-{setting.number}-precision-recall",
        "Precision and recall at every threshold",
        f"Area under the curve: {', '.join(areas)}.",
        Axis("recall", 0, 1),
        Axis("precision", 0, 1.02),
        series,
    )
    caption = (
        "Pixels of the test split, all seeds together. Marker: the threshold that validation chose, mean over seeds."
    )
    headings = ("model", "threshold", "precision", "recall")
    return _figure(chart, caption, table(chart.title, headings, cells), _legend(series))


def reliability(setting: Setting, *, scaled: bool) -> Element:
    """Predicted probability against the share of landslide, before or after temperature scaling."""
    styles = styles_of(setting)
    title = "Reliability " + ("after temperature scaling" if scaled else "as trained")
    series, cells = [], []
    for label, trials in setting.trials.items():
        found = reliability_points(trials, scaled=scaled)
        if found is not None:
            points = [(predicted, observed) for predicted, observed, _ in found]
            series.append(Series(label, styles[label], points, markers=True))
            cells += [(label, _three(p), _three(o), f"{pixels:,}") for p, o, pixels in found]
    if not series:
        why = "no log odds of a validation split" if scaled else "no log odds"
        return _absent(title, f"These results hold {why}.")
    left_out = [label for label in setting.trials if label not in {one.name for one in series}]
    without = f" Without the counts for it, and left out: {', '.join(left_out)}." if left_out else ""
    rows = {row.model: row for row in setting.rows}
    errors = [f"{one.name} {_three(rows[one.name].figures.get('ece_scaled' if scaled else 'ece'))}" for one in series]
    chart = Chart(
        f"setting-{setting.number}-reliability{'-scaled' if scaled else ''}",
        title,
        f"Expected calibration error: {', '.join(errors)}.{without}",
        Axis("predicted probability of a landslide", 0, 1),
        Axis("share of landslide pixels", 0, 1.02),
        series,
        guide=[(0, 0), (1, 1)],
    )
    caption = (
        "Dashed: probabilities that mean what they say. 15 bins of equal width; a bin may hold few pixels." + without
    )
    if scaled:
        caption += " The temperature of each seed was fitted on the validation split."
    headings = ("model", "predicted", "observed", "pixels")
    return _figure(chart, caption, table(title, headings, cells), _legend(series))


def recall_of_sizes(setting: Setting) -> Element:
    """Share of landslides found, by their area."""
    styles, names, found = styles_of(setting), sizes_of(setting), recall_by_size(setting)
    title = "Landslides found, by size"
    if not found:
        return _absent(title, "These results hold no counts of landslides.")
    series, cells = [], []
    for place, (label, shares) in enumerate(found.items()):
        shift = 0.6 * ((place + 0.5) / len(found) - 0.5)
        known = [size for size, share in enumerate(shares.share) if not math.isnan(share)]
        series.append(
            Series(
                label,
                styles[label],
                [(size + shift, shares.share[size]) for size in known],
                line=False,
                markers=True,
                whiskers=[shares.intervals[size] for size in known],
            )
        )
        for size, (name, total) in enumerate(names):
            cells.append((label, name, f"{total:,}", _three(shares.share[size]), _range(shares.intervals[size])))
    best = ", ".join(
        f"{label} {_three(shares.share[0])} to {_three(shares.share[-1])}" for label, shares in found.items()
    )
    unit = names[0][0].rpartition(" ")[2]
    chart = Chart(
        f"setting-{setting.number}-sizes",
        title,
        f"Share found among the smallest and among the largest landslides: {best}.",
        Axis(
            f"area of the landslide in {unit.replace('m2', 'm²')}, and how many there are",
            -0.5,
            len(names) - 0.5,
            names=[f"{name.removesuffix(f' {unit}')}\n{total:,}" for name, total in names],
        ),
        Axis("share found", 0, 1.02),
        series,
    )
    caption = (
        "A landslide is a group of touching pixels; it is found when at least half of its pixels are predicted. Mean "
        "over seeds; whiskers: 95 % intervals."
    )
    headings = ("model", "area", "landslides", "found", "95 %")
    return _figure(chart, caption, table(title, headings, cells), _legend(series, line=False))


def training(setting: Setting) -> Element:
    """Training loss over the optimiser steps."""
    styles, series, cells = styles_of(setting), [], []
    for label, trials in setting.trials.items():
        points = training_curve(trials)
        if points:
            series.append(Series(label, styles[label], points))
            shown = np.unique(np.linspace(0, len(points) - 1, TABLE_STEPS).round().astype(int))
            cells += [(label, f"{points[place][0]:.0f}", f"{points[place][1]:.4f}") for place in shown]
    title = "Training loss"
    if not series:
        return _absent(title, "No trial of this table was trained here.")
    losses = [loss for one in series for _, loss in one.points]
    steps = [step for one in series for step, _ in one.points]
    last = [f"{one.name} {one.points[-1][1]:.3f}" for one in series]
    chart = Chart(
        f"setting-{setting.number}-training",
        title,
        f"Loss at the end: {', '.join(last)}.",
        Axis("optimiser step", 0, max(steps)),
        Axis("training loss", min(0.0, *losses), max(losses) * 1.05 or 1.0),
        series,
    )
    caption = f"The recipe's loss ({setting.results[0].config.recipe.loss}) on training batches, mean over seeds."
    return _figure(chart, caption, table(title, ("model", "step", "loss"), cells), _legend(series))


def _figure(chart: Chart, caption: str, numbers: Element, legend: Element | None = None) -> Element:
    heading = f"{chart.identity}-heading"
    if legend is not None:
        legend.set("aria-label", f"Hide and show series of: {chart.title}")
    summary = tag("summary", "The numbers", tag("span", f" behind: {chart.title}", class_="unseen"))
    return tag(
        "figure",
        tag("h4", chart.title, id=heading),
        draw(chart),
        legend,
        tag("figcaption", caption),
        tag("details", summary, numbers, class_="numbers"),
        aria_labelledby=heading,
    )


def _absent(title: str, why: str) -> Element:
    return tag("div", tag("h4", title), tag("p", why, class_="absent"))


def _legend(series: Iterable[Series], *, line: bool = True) -> Element:
    keys = [
        tag("li", tag("span", swatch(one.style, line=line), one.name, class_="key", data_series=one.style))
        for one in series
    ]
    return tag("ul", *keys, class_="legend")


def _stairs(points: Sequence[tuple[float, float]], *, smaller: bool) -> list[tuple[float, float]]:
    """A front as the border of what it beats."""
    if not points:
        return []
    corners = [points[0]]
    for (x, y), (next_x, next_y) in pairwise(points):
        corners += [(next_x, y) if smaller else (x, next_y), (next_x, next_y)]
    return corners


def _three(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _range(ends: tuple[float, float]) -> str:
    return "-" if math.isnan(ends[0]) else f"{ends[0]:.3f} to {ends[1]:.3f}"
