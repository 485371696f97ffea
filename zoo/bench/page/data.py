"""What the page shows of one setting, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from zoo.bench.comparability import audit_note, comparability_warnings
from zoo.bench.leaderboard import Draws, Row, add_uncertainty, describe_setting, make_rows
from zoo.bench.results import TrialResult, group_by_setting
from zoo.bench.samples import Pictures, load_pictures
from zoo.errors import ResultError
from zoo.evaluation.comparison import interval
from zoo.evaluation.counts import size_names
from zoo.evaluation.histograms import RELIABILITY_BINS, ProbabilityHistogram, ThresholdCurve

CURVE_POINTS = 120
"""Of a training curve that is drawn; a longer one is averaged."""


@dataclass(frozen=True)
class Setting:
    """The trials of one table: same patches, recipe and device.

    Attributes:
        number: from 1.
        results: all trials.
        rows: of the leaderboard, the best first, with intervals.
        pictures: six test patches; ``None`` where the results have none.
        doubts: what a reader should know before comparing.
    """

    number: int
    results: Sequence[TrialResult]
    rows: Sequence[Row]
    pictures: Pictures | None
    doubts: Sequence[str]

    @property
    def heading(self) -> str:
        """Its data and recipe, or the configuration and region."""
        config = self.results[0].config
        named = [config.benchmark, config.setting] if config.benchmark else [config.data.label, config.recipe.name]
        return ", ".join(part for part in named if part)

    @property
    def description(self) -> str:
        """One line on what the rows share."""
        return describe_setting(self.results)

    @cached_property
    def trials(self) -> dict[str, list[TrialResult]]:
        """Trials with figures by label, in the order of the rows; each model's seeds in order."""
        good = sorted((result for result in self.results if result.ok), key=lambda result: result.config.seed)
        grouped = {row.model: [one for one in good if one.config.label == row.model] for row in self.rows}
        return {label: found for label, found in grouped.items() if found}

    @cached_property
    def draws(self) -> Draws | None:
        """The resampling that all intervals are made of."""
        return Draws.of(self.results)


@dataclass(frozen=True)
class SizeRecall:
    """Landslides found by their size.

    Attributes:
        share: found of each size, mean over seeds, NaN where there are none.
        intervals: of each share, NaN where undefined.
    """

    share: list[float]
    intervals: list[tuple[float, float]]


def make_settings(
    results: Sequence[TrialResult], folder: Path, baseline: str | None = None
) -> tuple[list[Setting], list[ResultError]]:
    """Divide results into settings.

    Args:
        results: of a folder.
        folder: where their pictures are.
        baseline: label of the model that others are compared with.

    Returns:
        The settings, and what is wrong with pictures that cannot be used.

    Raises:
        UnknownNameError: if no row is called ``baseline``.
    """
    settings: list[Setting] = []
    problems: list[ResultError] = []
    for number, group in enumerate(group_by_setting(results), start=1):
        rows = add_uncertainty(make_rows(group), group, baseline)
        try:
            pictures = load_pictures(folder, group[0].config)
        except ResultError as error:
            pictures = None
            problems.append(error)
        leaks, audit = audit_note(group)
        cautions = [*comparability_warnings(group), *([audit] if leaks else [])]
        settings.append(Setting(number, group, rows, pictures, cautions))
    return settings, problems


def threshold_curve(trials: Iterable[TrialResult]) -> ThresholdCurve:
    """What every threshold would give, the pixels of all seeds together."""
    histograms = [trial.evaluated.histogram for trial in trials]
    positive = np.sum([one.positive for one in histograms], axis=0)
    negative = np.sum([one.negative for one in histograms], axis=0)
    return ThresholdCurve.from_histogram(ProbabilityHistogram(positive, negative))


def reliability_points(trials: Sequence[TrialResult], *, scaled: bool) -> list[tuple[float, float, int]] | None:
    """Mean probability, share of landslide and pixels of every filled bin, the pixels of all seeds together.

    Args:
        trials: of one model.
        scaled: with each seed's temperature, fitted on validation.

    Returns:
        A triple a bin; ``None`` where log odds were not counted.
    """
    sums = np.zeros((3, RELIABILITY_BINS))
    for trial in trials:
        evaluated = trial.evaluated
        validation = evaluated.validation_logit_histogram
        if evaluated.logit_histogram is None or (scaled and validation is None):
            return None
        temperature = validation.best_temperature() if scaled and validation else 1.0
        curve = evaluated.logit_histogram.reliability(temperature)
        sums += np.nan_to_num(np.stack([curve.predicted * curve.pixels, curve.observed * curve.pixels, curve.pixels]))
    return [(float(p / n), float(o / n), int(n)) for p, o, n in sums.T if n]


def sizes_of(setting: Setting) -> list[tuple[str, int]]:
    """The size bins in words, and how many landslides of the test split each has; empty where nobody counted."""
    for trials in setting.trials.values():
        objects = trials[0].evaluated.objects
        if objects is not None:
            names = size_names(trials[0].measured["data"]["pixel_size"])
            return [(name, int(total)) for name, total in zip(names, objects.total.sum(axis=0), strict=True)]
    return []


def recall_by_size(setting: Setting) -> dict[str, SizeRecall]:
    """Share of landslides of each size with at least half of their pixels predicted, by label."""
    found: dict[str, SizeRecall] = {}
    if setting.draws is None:
        return found
    weights = setting.draws.resampling.weights
    for label, trials in setting.trials.items():
        objects = [one for one in (trial.evaluated.objects for trial in trials) if one is not None]
        if len(objects) < len(trials):
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.mean([one.found.sum(axis=0) / one.total.sum(axis=0) for one in objects], axis=0)
            drawn = [(weights @ one.found) / (weights @ one.total) for one in objects]
        bounds = [
            interval(setting.draws.resampling.over_seeds([one[:, size] for one in drawn]))
            for size in range(len(shares))
        ]
        found[label] = SizeRecall([float(share) for share in shares], bounds)
    return found


def training_curve(trials: Sequence[TrialResult]) -> list[tuple[float, float]]:
    """Training loss over optimiser steps: the mean over seeds that took the same ones, long curves averaged."""
    curves = [np.asarray(trial.measured.get("training", {}).get("curve") or [], dtype=float) for trial in trials]
    curves = [curve for curve in curves if curve.ndim == 2 and curve.shape[1] >= 2]
    if not curves:
        return []
    alike = [curve for curve in curves if len(curve) == len(curves[0]) and (curve[:, 0] == curves[0][:, 0]).all()]
    steps, losses = curves[0][:, 0], np.mean([curve[:, 1] for curve in alike], axis=0)
    parts = np.array_split(np.arange(len(steps)), min(len(steps), CURVE_POINTS))
    points = [(float(steps[part].mean()), float(losses[part].mean())) for part in parts]
    return [(step, loss) for step, loss in points if math.isfinite(loss)]


def pareto_front(points: dict[str, tuple[float, float]], *, smaller: bool) -> list[str]:
    """Labels that no other point beats in one direction without losing in the other, by rising first coordinate.

    Args:
        points: cost or speed, and quality, by label; quality is better when higher.
        smaller: whether the first coordinate is better when smaller.
    """
    sign = -1.0 if smaller else 1.0

    def beaten(label: str) -> bool:
        x, y = points[label]
        return any(
            sign * other_x >= sign * x and other_y >= y and (other_x, other_y) != (x, y)
            for other_x, other_y in points.values()
        )

    return sorted((label for label in points if not beaten(label)), key=lambda label: points[label])
