"""Table of columns: every figure of a trial with its heading, format, unit, direction and computation.

All terminal, Markdown, CSV, JSON and HTML tables use this table. To add a figure, add a
:class:`Column` to :data:`FIGURES`. A metric that a plugin registers becomes a column automatically.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from zoo.errors import UnknownNameError, one_line
from zoo.evaluation import metrics
from zoo.evaluation.comparison import Metric
from zoo.evaluation.counts import DISTANCES, BoundaryCounts, Counts, FloatArray, IntArray, ObjectCounts
from zoo.evaluation.histograms import RELIABILITY_BINS, LogitHistogram, ProbabilityHistogram, ThresholdCurve
from zoo.registry import MetricSpec, catalogue

Value = float | int | str | None
Direction = Literal["higher", "lower", "none"]
UNDEFINED = "-"
POOLED_NOTE = (
    "from the counts of all test pixels together, at the threshold chosen on validation (moved in adapted models)"
)


class MetricWarning(UserWarning):
    """Warning that the metric of a plugin failed; its column is left empty."""


@dataclass(frozen=True)
class SplitCounts:
    """All counts on a test split.

    Attributes:
        counts: confusion matrix of every image, at the frozen threshold.
        groups: event or scene of every image.
        histogram: pixels by probability.
        objects: landslides found and missed; ``None`` if they were not counted.
        boundaries: boundary pixels; ``None`` if they were not counted.
        logit_histogram: pixels by logit; ``None`` if they were not counted.
        validation_logit_histogram: validation pixels by logit, for the temperature; ``None`` if they were not counted.
    """

    counts: Counts
    groups: tuple[str, ...]
    histogram: ProbabilityHistogram
    objects: ObjectCounts | None = None
    boundaries: BoundaryCounts | None = None
    logit_histogram: LogitHistogram | None = None
    validation_logit_histogram: LogitHistogram | None = None

    @cached_property
    def temperature(self) -> float:
        """Temperature fitted on the validation split; NaN if its logits were not counted."""
        return math.nan if (found := self.validation_logit_histogram) is None else found.best_temperature()


@dataclass(frozen=True)
class FigureInputs:
    """Inputs of the figures of one trial.

    Attributes:
        split: the counts of its test split.
        pixel_size: side of a pixel in metres; ``None`` if it is unknown.
        loss: cross-entropy, averaged over the test pixels.
        parameters: number of trained parameters.
        gmac: multiply-accumulates of one patch, in 10^9.
        seconds: median seconds of one forward pass, by batch size.
    """

    split: SplitCounts
    pixel_size: float | None = None
    loss: float | None = None
    parameters: int | None = None
    gmac: float | None = None
    seconds: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """One column of every table.

    Attributes:
        key: name in CSV, JSON and ``--columns``.
        heading: heading in terminal, Markdown and HTML tables.
        description: what the figure means and how it is averaged.
        format: pattern for a value that is divided by ``scale``.
        unit: unit of the value before scaling; empty for a share or an index.
        direction: whether ``higher`` or ``lower`` values are better; ``none`` if neither is.
        scale: number that values are divided by for display.
        metric: function of the four pooled counts, for bootstrap intervals; ``None`` for other figures.
        compute: function of the inputs of one trial; ``None`` for columns that compare rows.
    """

    key: str
    heading: str
    description: str
    format: str = "{:.3f}"
    unit: str = ""
    direction: Direction = "higher"
    scale: float = 1.0
    metric: Metric | None = None
    compute: Callable[[FigureInputs], float | int | None] | None = None

    def text(self, value: Value) -> str:
        """Return a value formatted for tables; ``-`` if it is undefined."""
        if value is None or value == "":
            return UNDEFINED
        return value if isinstance(value, str) else self.format.format(value / self.scale)

    def of(self, found: FigureInputs) -> float | int | None:
        """Return the figure of one trial; ``None`` if it is undefined."""
        if self.compute is not None:
            value = self.compute(found)
        elif self.metric is not None:
            value = float(self.metric(*found.split.counts.pooled().cells)[0])
        else:
            return None
        return None if value is None or not math.isfinite(value) else value


def _pooled(key: str, heading: str, metric: Metric, formula: str, direction: Direction = "higher") -> Column:
    return Column(key, heading, f"{formula}; {POOLED_NOTE}.", metric=metric, direction=direction)


def _boundary(distance: int, place: int) -> Column:
    def compute(found: FigureInputs) -> float | None:
        boundaries = found.split.boundaries
        return None if boundaries is None else float(boundaries.f1()[place])

    plural = "s" if distance > 1 else ""
    return Column(
        f"boundary_f1_{distance}px",
        f"Boundary F1, {distance} px",
        f"F1 of boundary pixels within {distance} pixel{plural} of the other boundary; all images together.",
        compute=compute,
    )


def _dice_per_event(found: FigureInputs) -> float:
    groups = np.asarray(found.split.groups)
    each = [found.split.counts.select(groups == name) for name in np.unique(groups)]
    values = [metrics.pooled_dice(one) for one in each if one.has_landslide.any()]
    return math.fsum(values) / len(values) if values else math.nan


def _false_pixels(found: FigureInputs) -> float | None:
    size = found.pixel_size
    return None if size is None else metrics.false_positive_rate_per_km2(found.split.counts, size)


def _detection(found: FigureInputs) -> float | None:
    objects = found.split.objects
    if objects is None or not objects.total.sum():
        return None
    return int(objects.found.sum()) / int(objects.total.sum())


def _false_alarms(found: FigureInputs) -> float | None:
    objects, size = found.split.objects, found.pixel_size
    if objects is None or size is None:
        return None
    area_km2 = int(found.split.counts.pixels.sum()) * size**2 / 1e6
    return int(objects.false_alarms.sum()) / area_km2 if area_km2 else None


def _calibration_error(found: FigureInputs, *, scaled: bool) -> float | None:
    histogram, temperature = found.split.logit_histogram, found.split.temperature if scaled else 1.0
    if histogram is None or math.isnan(temperature):
        return None
    return histogram.reliability(temperature).expected_calibration_error


def _images_per_second(found: FigureInputs) -> dict[int, float]:
    return {batch: batch / seconds for batch, seconds in found.seconds.items() if seconds > 0}


def best_batch(found: FigureInputs) -> int | None:
    """Return the batch size with the highest throughput; ``None`` if speed was not measured."""
    rates = _images_per_second(found)
    return max(rates, key=lambda batch: rates[batch]) if rates else None


FIGURES = (
    _pooled("dice", "Dice", metrics.dice, "2TP / (2TP + FP + FN), eq. 19 of the paper; the headline figure"),
    Column(
        "dice_per_image",
        "Dice/img",
        "mean Dice of the test images with a landslide; it is undefined without one.",
        compute=lambda found: metrics.dice_per_image(found.split.counts),
    ),
    Column(
        "dice_per_event",
        "Dice/event",
        "mean of the pooled Dice of each event or scene with a landslide.",
        compute=_dice_per_event,
    ),
    _pooled("iou", "IoU", metrics.iou, "TP / (TP + FP + FN)"),
    _pooled("precision", "Precision", metrics.precision, "TP / (TP + FP)"),
    _pooled("recall", "Recall", metrics.recall, "TP / (TP + FN), eq. 16 of the paper"),
    _pooled("accuracy", "Accuracy", metrics.accuracy, "(TP + TN) / all pixels; compare it with the base rate"),
    _pooled(
        "base_rate", "Base rate", metrics.base_rate, "accuracy of predicting the more frequent class everywhere", "none"
    ),
    _pooled("balanced_accuracy", "Bal. acc.", metrics.balanced_accuracy, "mean of the recall of both classes"),
    _pooled("mcc", "MCC", metrics.mcc, "Matthews correlation coefficient"),
    Column(
        "pr_auc",
        "PR-AUC",
        "area under precision and recall over 200 thresholds, without interpolation.",
        compute=lambda found: ThresholdCurve.from_histogram(found.split.histogram).average_precision,
    ),
    Column(
        "detection",
        "Found",
        "share of the landslides (groups of touching pixels) with at least half of their pixels predicted.",
        compute=_detection,
    ),
    Column(
        "false_alarms_per_km2",
        "False alarms/km²",
        "predicted groups of pixels without any landslide pixel, per area of all test images.",
        "{:.2f}",
        "1/km2",
        "lower",
        compute=_false_alarms,
    ),
    Column(
        "false_positives_per_km2",
        "False pixels/km²",
        "falsely predicted pixels per area of the test images without a landslide.",
        "{:.1f}",
        "1/km2",
        "lower",
        compute=_false_pixels,
    ),
    *(_boundary(distance, place) for place, distance in enumerate(DISTANCES)),
    Column(
        "ece",
        "ECE",
        f"expected calibration error of the probabilities, {RELIABILITY_BINS} bins, all test pixels.",
        "{:.4f}",
        direction="lower",
        compute=lambda found: _calibration_error(found, scaled=False),
    ),
    Column(
        "temperature",
        "Temperature",
        "temperature T of sigmoid(z / T) that is fitted on the validation split; above 1 the model is overconfident.",
        direction="none",
        compute=lambda found: found.split.temperature,
    ),
    Column(
        "ece_scaled",
        "ECE scaled",
        "expected calibration error with that temperature.",
        "{:.4f}",
        direction="lower",
        compute=lambda found: _calibration_error(found, scaled=True),
    ),
    Column("loss", "Loss", "cross-entropy per test pixel.", direction="lower", compute=lambda found: found.loss),
    Column(
        "parameters",
        "Params (M)",
        "trained parameters in millions.",
        "{:.2f}",
        direction="lower",
        scale=1e6,
        compute=lambda found: found.parameters,
    ),
    Column(
        "gmac",
        "GMAC",
        "multiply-accumulates of one test patch in 10⁹: convolutions and matrix products.",
        "{:.2f}",
        "10^9",
        "lower",
        compute=lambda found: found.gmac,
    ),
    Column(
        "fps",
        "FPS b1",
        "patches per second, one at a time: model alone, eager, float32, from the median time of a pass.",
        "{:.1f}",
        "1/s",
        compute=lambda found: _images_per_second(found).get(1),
    ),
    Column(
        "fps_batch",
        "FPS best",
        "patches per second at the fastest batch size.",
        "{:.1f}",
        "1/s",
        compute=lambda found: max(_images_per_second(found).values(), default=None),
    ),
)
"""The built-in figures, in the order of a full table. Tables show means over seeds."""

COMPARISONS = (
    Column("dice_interval", "95 %", "95 % bootstrap interval of the pooled Dice.", direction="none"),
    Column(
        "group",
        "Group",
        "models that share a letter do not differ significantly in Dice: the p-value of their paired difference is "
        "0.05 or more, corrected for all pairs of the table (Romano-Wolf).",
        direction="none",
    ),
    Column(
        "difference",
        "Difference",
        "pooled Dice minus that of the baseline, paired over the same draws of test images and seeds.",
        "{:+.3f}",
    ),
    Column("seeds", "Seeds", "number of trials with figures.", "{:.0f}", direction="none"),
    Column("status", "Status", "ok, or the first status of a trial that has no figures.", direction="none"),
)
"""Columns that are computed by comparing the rows of a table."""

BUILT_IN = frozenset(column.key for column in (*FIGURES, *COMPARISONS))
DEFAULT_COLUMNS = (
    "dice", "dice_interval", "group", "dice_per_image", "precision", "recall", "accuracy", "base_rate",
    "balanced_accuracy", "mcc", "loss", "parameters", "gmac", "fps", "fps_batch",
)  # fmt: skip
"""Columns of terminal and Markdown tables if none are chosen."""


def figure_columns() -> tuple[Column, ...]:
    """Return the built-in figures, followed by a column for every other registered metric."""
    return (*FIGURES, *(_metric_column(spec) for spec in catalogue().metrics.match() if spec.name not in BUILT_IN))


def all_columns() -> tuple[Column, ...]:
    """Return every column that a table can have."""
    return (*figure_columns(), *COMPARISONS)


def choose_columns(keys: Sequence[str] | None = None) -> tuple[Column, ...]:
    """Return the columns with these keys, in this order.

    Args:
        keys: keys of columns; ``all`` means every column. ``None`` chooses :data:`DEFAULT_COLUMNS` and the metrics of
            plugins.

    Raises:
        UnknownNameError: if there is no such column.
    """
    known = {column.key: column for column in all_columns()}
    if keys is None:
        keys = [*DEFAULT_COLUMNS, *(key for key in known if key not in BUILT_IN)]
    chosen: dict[str, Column] = {}
    for key in keys:
        if key == "all":
            chosen |= known
        elif key not in known:
            raise UnknownNameError("column", key, known)
        else:
            chosen[key] = known[key]
    return tuple(chosen.values())


def summarise(counts: Counts, pixel_size: float | None = None) -> dict[str, float | None]:
    """Return every registered metric of the pooled counts, and the two metrics that need individual images.

    Args:
        counts: counts of every test image.
        pixel_size: side of a pixel in metres; ``None`` if it is unknown.

    Returns:
        Values by name; ``None`` if a figure is undefined, because JSON has no NaN.
    """
    cells = counts.pooled().cells
    values = {spec.name: float(registered_metric(spec)(*cells)[0]) for spec in catalogue().metrics.match()}
    values["dice_per_image"] = metrics.dice_per_image(counts)
    if pixel_size is not None:
        values["false_positives_per_km2"] = metrics.false_positive_rate_per_km2(counts, pixel_size)
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def registered_metric(spec: MetricSpec) -> Metric:
    """Return a registered metric as a function that never fails.

    A metric that raises, or returns anything but one number per image, gives NaN and a :class:`MetricWarning`
    that names the metric and its plugin.
    """

    def compute(tp: IntArray, fp: IntArray, fn: IntArray, tn: IntArray) -> FloatArray:
        try:
            # Pass copies, because a metric may modify its arguments.
            found = np.asarray(spec.resolve()(tp.copy(), fp.copy(), fn.copy(), tn.copy()))
            if found.shape != tp.shape or found.dtype.kind not in "iufb":
                what = "a scalar" if not found.shape else f"an array of {found.dtype}"
                raise TypeError(f"returned {what}, expected float64 in the shape of its arguments")
            return found.astype(np.float64)
        except (Exception, SystemExit) as error:
            provider = catalogue().metrics.provider(spec.name)
            warnings.warn(
                f"metric {spec.name!r} of plugin {provider} failed ({one_line(error)}); its column is left empty",
                MetricWarning,
                stacklevel=2,
            )
            return np.full(tp.shape, np.nan)

    return compute


def _metric_column(spec: MetricSpec) -> Column:
    direction: Direction = "higher" if spec.higher_is_better else "lower"
    return _pooled(spec.name, spec.name, registered_metric(spec), spec.summary.rstrip("."), direction)
