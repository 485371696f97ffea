"""How sure the rows of a table are, and which of them can be told apart.

Every model of a setting is judged on the same test images, so images are drawn once for all of them and differences are
paired. Where each model has the same seeds, those are drawn together too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from zoo.bench.leaderboard import Row
from zoo.bench.results import TrialResult
from zoo.errors import ResultError, UnknownNameError
from zoo.evaluation.comparison import LEVEL, Resampling, adjusted_p_values, interval, letters
from zoo.evaluation.counts import Counts, FloatArray
from zoo.evaluation.metrics import dice
from zoo.registry import catalogue

BASELINE = "unet"
"""What others are compared with where nobody names another [O: the paper's own baseline]."""

HEADLINE = "dice"


@dataclass(frozen=True)
class Difference:
    """One model beside the baseline, in pooled Dice.

    Attributes:
        baseline: the other model.
        mean: model minus baseline.
        low: lower end of the paired interval.
        high: upper end.
        p: that there is no difference, two-sided, corrected for all models of the table (Romano-Wolf).
    """

    baseline: str
    mean: float
    low: float
    high: float
    p: float

    @property
    def certain(self) -> bool:
        """Whether the models can be told apart at the table's level."""
        return self.p < 1 - LEVEL


@dataclass(frozen=True)
class Draws:
    """The trials of one setting under one resampling of the test images.

    Attributes:
        trials: the good ones, by label.
        resampling: shared by all of them.
    """

    trials: dict[str, list[TrialResult]]
    resampling: Resampling

    @classmethod
    def of(cls, results: Sequence[TrialResult]) -> Draws | None:
        """Draw for the good trials of a setting; None when there are none.

        Raises:
            ResultError: if the trials were not tested on the same images.
        """
        good = sorted((result for result in results if result.ok), key=lambda result: result.config.seed)
        if not good:
            return None
        trials: dict[str, list[TrialResult]] = {}
        for result in good:
            if result.measured["test"]["names"] != good[0].measured["test"]["names"]:
                raise ResultError(
                    f"{result.config.label} and {good[0].config.label} were not tested on the same images",
                    hint="Keep the results of different data sets in different folders",
                )
            trials.setdefault(result.config.label, []).append(result)
        return cls(trials, Resampling.draw(good[0].measured["test"]["groups"]))

    @cached_property
    def headline(self) -> dict[str, FloatArray]:
        """Replicates of pooled Dice, means over seeds, by label."""
        return {
            label: self.resampling.over_seeds([self.resampling.pooled(trial.counts, dice) for trial in trials])
            for label, trials in self.trials.items()
        }

    def intervals(self, label: str) -> dict[str, tuple[float, float]]:
        """Intervals of every metric of pooled counts, and of Dice an image, by metric."""
        counts = [trial.counts for trial in self.trials[label]]
        metrics = {spec.name: spec.resolve() for spec in catalogue().metrics.match()}
        drawn = {
            name: self.resampling.over_seeds([self.resampling.pooled(one, metric) for one in counts])
            for name, metric in metrics.items()
        }
        drawn["dice_per_image"] = self.resampling.over_seeds(
            [self.resampling.per_image(_dice_of_images(one)) for one in counts]
        )
        return {name: interval(values) for name, values in drawn.items()}


def add_uncertainty(rows: Sequence[Row], results: Sequence[TrialResult], baseline: str | None = None) -> list[Row]:
    """Add intervals, differences and letters to the rows of one table.

    Args:
        rows: of :func:`zoo.bench.leaderboard.make_rows`.
        results: that they were made from.
        baseline: label of the model that others are compared with; by default the configuration's, else ``unet`` where
            it is, else the best.

    Returns:
        The rows in the same order.

    Raises:
        UnknownNameError: if no row is called ``baseline``.
        ResultError: if the trials were not tested on the same images.
    """
    draws = Draws.of(results)
    if draws is None:
        return list(rows)
    labels = [row.model for row in rows if row.model in draws.trials]
    if baseline is not None and baseline not in labels:
        raise UnknownNameError("model with figures", baseline, labels)
    named = next((name for name in (results[0].config.baseline, BASELINE) if name in labels), labels[0])
    chosen = baseline or named
    differences = _differences(draws, labels, chosen)
    groups = _groups(draws, labels)
    return [
        replace(
            row,
            intervals=draws.intervals(row.model),
            difference=differences.get(row.model),
            group=groups.get(row.model, ""),
        )
        if row.model in draws.trials
        else row
        for row in rows
    ]


def describe_draws(results: Sequence[TrialResult]) -> str:
    """One sentence on what intervals and letters mean, for under a table; empty without figures."""
    draws = Draws.of(results)
    if draws is None:
        return ""
    drawn = draws.resampling
    seeds = min(len(trials) for trials in draws.trials.values())
    over = f"{drawn.units} {drawn.unit}s" + (f" and {seeds} seeds" if seeds > 1 else "")
    caution = "" if seeds > 1 else "; one seed: what another seed would change is not in them"
    return (
        f"[ ]: {LEVEL:.0%} bootstrap intervals over {over}{caution}. Models that share a letter cannot be told apart "
        f"in Dice (paired differences, Romano-Wolf correction for all pairs)."
    )


def _differences(draws: Draws, labels: Sequence[str], baseline: str) -> dict[str, Difference]:
    others = [label for label in labels if label != baseline]
    drawn = {label: draws.headline[label] - draws.headline[baseline] for label in others}
    if not others:
        return {}
    adjusted = adjusted_p_values(np.stack([drawn[label] for label in others], axis=1))
    found = {}
    for label, p in zip(others, adjusted, strict=True):
        low, high = interval(drawn[label])
        mean = _mean_dice(draws.trials[label]) - _mean_dice(draws.trials[baseline])
        found[label] = Difference(baseline, mean, low, high, float(p))
    return found


def _groups(draws: Draws, labels: Sequence[str]) -> dict[str, str]:
    pairs = list(itertools.combinations(labels, 2))
    if not pairs:
        return letters(labels, {})
    adjusted = adjusted_p_values(
        np.stack([draws.headline[first] - draws.headline[second] for first, second in pairs], axis=1)
    )
    return letters(labels, {pair: bool(p < 1 - LEVEL) for pair, p in zip(pairs, adjusted, strict=True)})


def _mean_dice(trials: Sequence[TrialResult]) -> float:
    pooled = [trial.counts.pooled() for trial in trials]
    return math.fsum(float(dice(one.tp, one.fp, one.fn, one.tn)[0]) for one in pooled) / len(pooled)


def _dice_of_images(counts: Counts) -> FloatArray:
    values = dice(counts.tp, counts.fp, counts.fn, counts.tn)
    values[~counts.has_landslide] = math.nan
    return values
