"""Leaderboards computed from result files: one row per model with means, intervals, differences and groups.

All models of a setting are tested on the same images, so the images are drawn once for all models and differences are
paired. If every model has the same seeds, the seeds are drawn together too.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from zoo.bench.paper import PaperRow, paper_row, paper_table
from zoo.bench.results import TrainingRecord, TrialResult, group_by_setting
from zoo.errors import ResultError, UnknownNameError
from zoo.evaluation.columns import UNDEFINED, Column, FigureInputs, Value, best_batch, figure_columns
from zoo.evaluation.comparison import (
    LEVEL,
    MOST_LETTERS,
    Metric,
    Resampling,
    adjusted_p_values,
    format_p,
    group_letters,
)
from zoo.evaluation.counts import FloatArray, IntArray
from zoo.evaluation.metrics import dice, image_dice, pooled_dice

BASELINE = "unet"
"""Default model that others are compared with [O: the paper's own baseline]."""
FIRST_KEYS = (
    "dice", "dice_per_image", "precision", "recall", "accuracy", "loss", "parameters", "gmac", "fps", "fps_batch",
)  # fmt: skip
"""Figures that come before the seeds in CSV and JSON; the others follow the seeds."""
PAPER_NOTE = "paper: {} of Zheng et al. 2025, on other data and another machine; not a target."
FOOTNOTE = (
    "Dice, precision, recall, accuracy: pooled over all test pixels, at the threshold with the best pooled Dice on "
    "the validation split; 0.5 for a model without training. Base rate: accuracy of predicting the more frequent class "
    "everywhere. Dice/img: mean over the test images with a landslide. Loss: cross-entropy per pixel. GMAC: one test "
    "patch. FPS: model alone, eager, float32; b1 with one image at a time, best at the fastest batch size."
)


@dataclass(frozen=True)
class Difference:
    """Difference between a model and the baseline in pooled Dice.

    Attributes:
        baseline: label of the baseline.
        mean: Dice of the model minus Dice of the baseline.
        low: lower end of the paired interval.
        high: upper end of the paired interval.
        p: two-sided p-value for no difference, corrected for all models of the table (Romano-Wolf).
    """

    baseline: str
    mean: float
    low: float
    high: float
    p: float

    @property
    def certain(self) -> bool:
        """Whether the difference is significant at the level of the table."""
        return self.p < 1 - LEVEL

    @property
    def interval_text(self) -> str:
        """Interval and p-value, such as ``[-0.012 +0.034], p 0.321``; empty if they are undefined."""
        p = "" if math.isnan(self.p) else f", p {format_p(self.p)}"
        return "" if math.isnan(self.low) else f"[{self.low:+.3f} {self.high:+.3f}]{p}"


@dataclass(frozen=True)
class Row:
    """Row of a leaderboard, which describes one model.

    Attributes:
        model: registered name, with its options if any were set.
        name: registered name only.
        status: ``ok``, or the first other status.
        error: the first reason; empty if all trials are ``ok``.
        seeds: number of trials with figures.
        figures: means over seeds by key of :func:`zoo.evaluation.columns.figure_columns`; ``None`` if undefined.
        best_batch: batch size of ``fps_batch``; ``None`` if speed was not measured.
        paper: row of the paper's table, if there is one.
        intervals: lower and upper end by key, NaN if undefined; empty before :func:`add_uncertainty`.
        difference: difference from the baseline in Dice; ``None`` for the baseline.
        group: letters; rows that share a letter do not differ significantly.
    """

    model: str
    name: str
    status: str
    error: str
    seeds: int
    figures: dict[str, float | int | None]
    best_batch: int | None
    paper: PaperRow | None = None
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    difference: Difference | None = None
    group: str = ""

    def value(self, key: str) -> Value:
        """Return the value of a column; ``None`` if it is undefined."""
        if key == "dice_interval":
            return self.interval_text("dice")
        if key == "difference":
            return None if self.difference is None else _none_if_nan(self.difference.mean)
        others: dict[str, Value] = {"group": self.group, "seeds": self.seeds, "status": self.status}
        return others[key] if key in others else self.figures.get(key)

    def text(self, column: Column) -> str:
        """Return the value of a column as text for tables."""
        return column.text(self.value(column.key))

    def interval_text(self, key: str) -> str:
        """Return the interval of a figure, such as ``[.410 .480]``; ``-`` if it is undefined."""
        low, high = self.intervals.get(key, (math.nan, math.nan))
        return UNDEFINED if math.isnan(low) else f"[{low:.3f} {high:.3f}]".replace("0.", ".")

    def to_dict(self) -> dict[str, Value]:
        """Return every value by key, as written to CSV and JSON."""
        difference = self.difference
        compared: dict[str, Value] = dict.fromkeys(
            ("baseline", "difference", "difference_low", "difference_high", "difference_p")
        )
        if difference is not None:
            compared = {
                "baseline": difference.baseline,
                "difference": _none_if_nan(difference.mean),
                "difference_low": _none_if_nan(difference.low),
                "difference_high": _none_if_nan(difference.high),
                "difference_p": _none_if_nan(difference.p),
            }
        return {
            "model": self.model,
            "status": self.status,
            "error": self.error,
            **{key: self.figures.get(key) for key in FIRST_KEYS},
            "seeds": self.seeds,
            "best_batch": self.best_batch,
            **{key: value for key, value in self.figures.items() if key not in FIRST_KEYS},
            **{f"{key}_low": _none_if_nan(low) for key, (low, _) in self.intervals.items()},
            **{f"{key}_high": _none_if_nan(high) for key, (_, high) in self.intervals.items()},
            "group": self.group,
            **compared,
        }


def make_rows(results: Sequence[TrialResult]) -> list[Row]:
    """Return one row per model, highest Dice first, models without figures last.

    Args:
        results: results of one setting: same patches, same recipe, same device.
    """
    columns = figure_columns()
    by_model: dict[str, list[TrialResult]] = {}
    for result in results:
        by_model.setdefault(result.config.label, []).append(result)
    rows = [_make_row(label, trials, columns) for label, trials in by_model.items()]
    return sorted(rows, key=lambda row: (row.figures.get("dice") is None, -(row.figures.get("dice") or 0), row.model))


def _make_row(label: str, trials: Sequence[TrialResult], columns: Sequence[Column]) -> Row:
    good = [trial for trial in trials if trial.ok]
    failed = next((trial for trial in trials if not trial.ok), None)
    found = [figure_inputs(trial) for trial in good]
    return Row(
        model=label,
        name=trials[0].config.model,
        status="ok" if failed is None else failed.status,
        error="" if failed is None else failed.error,
        seeds=len(good),
        figures={column.key: _mean([column.of(one) for one in found]) for column in columns} if good else {},
        best_batch=next((batch for one in found if (batch := best_batch(one)) is not None), None),
        paper=paper_row(trials[0].config),
    )


def figure_inputs(trial: TrialResult) -> FigureInputs:
    """Return the inputs of the figures of a trial."""
    return FigureInputs(
        split=trial.evaluated,
        pixel_size=trial.data.pixel_size,
        loss=trial.test.loss,
        parameters=trial.parameters,
        gmac=trial.gmac,
        seconds={sample.batch: sample.median_s for sample in trial.speed},
    )


@dataclass(frozen=True)
class Draws:
    """Bootstrap replicates for the trials of one setting.

    Attributes:
        trials: trials with figures, by label.
        resampling: resampling of the test images, shared by all trials.
    """

    trials: Mapping[str, Sequence[TrialResult]]
    resampling: Resampling

    @classmethod
    def of(cls, results: Iterable[TrialResult]) -> Draws | None:
        """Draw the replicates for the trials with figures; return ``None`` if there are none.

        Raises:
            ResultError: if the trials were not tested on the same images.
        """
        good = sorted((result for result in results if result.ok), key=lambda result: result.config.seed)
        if not good:
            return None
        trials: dict[str, list[TrialResult]] = {}
        for result in good:
            if result.test.names != good[0].test.names:
                raise ResultError(
                    f"{result.config.label} and {good[0].config.label} were not tested on the same images",
                    hint="Keep the results of different data sets in different folders",
                )
            trials.setdefault(result.config.label, []).append(result)
        return cls(trials, Resampling.draw(good[0].test.groups))

    @cached_property
    def cells(self) -> dict[str, list[tuple[IntArray, ...]]]:
        """Pooled counts of every replicate of each seed, by label."""
        return {
            label: [self.resampling.pooled_cells(trial.counts) for trial in trials]
            for label, trials in self.trials.items()
        }

    @cached_property
    def headline(self) -> dict[str, FloatArray]:
        """Replicates of the pooled Dice, means over seeds, by label."""
        return {label: self.pooled(label, dice) for label in self.trials}

    def pooled(self, label: str, metric: Metric) -> FloatArray:
        """Return the replicates of a metric of pooled counts, means over seeds."""
        return self.resampling.over_seeds([metric(*cells) for cells in self.cells[label]])

    def intervals(self, label: str, columns: Sequence[Column]) -> dict[str, tuple[float, float]]:
        """Return the intervals of the Dice per image and of every figure based on pooled counts, by key."""
        drawn = {
            column.key: self.pooled(label, column.metric)
            for column in columns
            if column.metric is not None and column.key != "base_rate"
        }
        drawn["dice_per_image"] = self.resampling.over_seeds(
            [self.resampling.per_image(image_dice(trial.counts)) for trial in self.trials[label]]
        )
        return {key: self.resampling.interval(values) for key, values in drawn.items()}


def add_uncertainty(rows: Sequence[Row], results: Sequence[TrialResult], baseline: str | None = None) -> list[Row]:
    """Return the rows of one table with intervals, differences and groups, in the same order.

    Args:
        rows: rows returned by :func:`make_rows`.
        results: results from which they were computed.
        baseline: label of the model that others are compared with; by default that of the configuration, otherwise
            ``unet`` if present, otherwise the best.

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
    differences = _differences(draws, labels, baseline or named)
    groups = _groups(draws, labels)
    columns = figure_columns()
    return [
        replace(
            row,
            intervals=draws.intervals(row.model, columns),
            difference=differences.get(row.model),
            group=groups.get(row.model, ""),
        )
        if row.model in draws.trials
        else row
        for row in rows
    ]


def _differences(draws: Draws, labels: Sequence[str], baseline: str) -> dict[str, Difference]:
    others = [label for label in labels if label != baseline]
    drawn = {label: draws.headline[label] - draws.headline[baseline] for label in others}
    if not others:
        return {}
    adjusted = adjusted_p_values(np.stack([drawn[label] for label in others], axis=1))
    found = {}
    for label, p in zip(others, adjusted, strict=True):
        low, high = draws.resampling.interval(drawn[label])
        mean = _mean_dice(draws.trials[label]) - _mean_dice(draws.trials[baseline])
        found[label] = Difference(baseline, mean, low, high, float(p))
    return found


def _groups(draws: Draws, labels: Sequence[str]) -> dict[str, str]:
    pairs = list(itertools.combinations(labels, 2))
    if not pairs:
        return group_letters(labels, {})
    drawn = np.stack([draws.headline[label] for label in labels], axis=1)
    adjusted = adjusted_p_values(drawn, np.triu_indices(len(labels), 1))
    return group_letters(labels, {pair: bool(p < 1 - LEVEL) for pair, p in zip(pairs, adjusted, strict=True)})


@dataclass(frozen=True)
class Leaderboard:
    """Table of one setting: trials with the same patches, recipe and device.

    Attributes:
        results: all trials of the setting.
        rows: one row per model, best first.
        version: text that distinguishes the table from others with the same description; empty if there are none.
    """

    results: Sequence[TrialResult]
    rows: Sequence[Row]
    version: str = ""

    @classmethod
    def of(cls, results: Sequence[TrialResult], baseline: str | None = None) -> Leaderboard:
        """Return the leaderboard of one setting; see :func:`add_uncertainty`."""
        return cls(results, add_uncertainty(make_rows(results), results, baseline))

    @property
    def heading(self) -> str:
        """Name of the configuration and region, otherwise of the data and recipe."""
        config = self.results[0].config
        named = [config.benchmark, config.setting] if config.benchmark else [config.data.label, config.recipe.name]
        return ", ".join(part for part in named if part)

    @property
    def description(self) -> str:
        """One line with what all rows have in common: data, split, recipe, seeds and machine."""
        return "; ".join(filter(None, (describe_setting(self.results), self.version)))

    @property
    def warnings(self) -> list[str]:
        """Warnings about comparing the rows, including leaks between the splits."""
        leaks, audit = audit_note(self.results)
        return [*comparability_warnings(self.results), *([audit] if leaks else [])]

    @property
    def notes(self) -> list[str]:
        """Notes on how figures were averaged, on intervals and groups, and on the source of the paper's figures."""
        leaks, audit = audit_note(self.results)
        paper = self.paper_note if any(row.paper for row in self.rows) else ""
        draws = describe_draws(self.results)
        if any(row.intervals for row in self.rows) and not any(row.group for row in self.rows):
            draws += f" No groups are shown, because more than {MOST_LETTERS} letters would be necessary."
        return [text for text in (draws, paper, "" if leaks else audit) if text]

    @property
    def paper_note(self) -> str:
        """The source of the paper's figures, shown below every table that has them."""
        return PAPER_NOTE.format(self.paper_table)

    @property
    def paper_table(self) -> str:
        """The table of the paper whose rows are shown next to ours, such as ``Table 6``."""
        return paper_table(self.results[0].config)

    @cached_property
    def trials(self) -> dict[str, list[TrialResult]]:
        """Trials with figures by label, in the order of the rows; the seeds of each model are in order."""
        good = sorted((result for result in self.results if result.ok), key=lambda result: result.config.seed)
        grouped = {row.model: [result for result in good if result.config.label == row.model] for row in self.rows}
        return {label: found for label, found in grouped.items() if found}


def make_leaderboards(results: Iterable[TrialResult], baseline: str | None = None) -> list[Leaderboard]:
    """Return a leaderboard for each setting; trials with different data, recipes or devices are never mixed.

    Raises:
        UnknownNameError: if no setting contains a model called ``baseline``.
    """
    groups = group_by_setting(results)
    labels = {result.config.label for group in groups for result in group if result.ok}
    if baseline is not None and baseline not in labels:
        raise UnknownNameError("model with figures", baseline, labels)
    boards = [Leaderboard.of(group, baseline if _has_label(group, baseline) else None) for group in groups]
    described = [board.description for board in boards]
    return [
        replace(board, version=_version(board.results)) if described.count(board.description) > 1 else board
        for board in boards
    ]


def _version(results: Sequence[TrialResult]) -> str:
    """Return text that distinguishes results whose data differ only in content."""
    content = json.dumps(results[0].config.fingerprints, sort_keys=True)
    days = [result.measurements.started[:10] for result in results if result.measurements is not None]
    measured = f", measured until {max(days)}" if any(days) else ""
    return f"content {hashlib.sha256(content.encode()).hexdigest()[:8]} of the data{measured}"


def _has_label(results: Iterable[TrialResult], label: str | None) -> bool:
    return any(result.ok and result.config.label == label for result in results)


def describe_setting(results: Sequence[TrialResult]) -> str:
    """Return one line with what all rows of a table have in common: data, split, recipe, seeds and machine."""
    config = results[0].config
    seeds = sorted({result.config.seed for result in results})
    named = [part for part in (config.benchmark, config.setting) if part]
    parts = [
        f"data {config.data.label}",
        f"recipe {config.recipe.name}",
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
    ]
    adapting = next((str(result.config.adapting) for result in results if result.config.adapted), "")
    if adapting:
        parts.append(f"adapted {adapting}")
    good = next((result for result in results if result.ok), None)
    if good is not None:
        patches = good.data.patches
        size = "x".join(map(str, good.data.patch))
        parts.insert(1, f"{patches.train}/{patches.val}/{patches.test} patches of {size}")
        environment = good.environment
        several = "" if environment.threads == 1 else "s"
        torch = environment.versions.get("torch", "of an unknown version")
        parts.append(f"{environment.device_name}, {environment.threads} thread{several}, torch {torch}")
    return "; ".join([*named, *parts])


def describe_draws(results: Sequence[TrialResult]) -> str:
    """Return a sentence that explains intervals and groups, shown below a table; empty without figures."""
    draws = Draws.of(results)
    if draws is None:
        return ""
    drawn = draws.resampling
    seeds = min(len(trials) for trials in draws.trials.values())
    if drawn.units < 2:
        return "95 %: no interval, because the test split has one tile; a figure of one tile says little."
    over = f"{drawn.units} {drawn.unit}s" + (f" and {seeds} seeds" if seeds > 1 else "")
    caution = "" if seeds > 1 else "; with one seed, they do not include the effect of the seed"
    return (
        f"95 %: bootstrap intervals over {over}{caution}. Group: models that share a letter do not differ "
        "significantly in Dice (paired differences, Romano-Wolf correction for all pairs)."
    )


def comparability_warnings(results: Sequence[TrialResult]) -> list[str]:
    """Return a warning for each difference in steps, number format, seeds and load between trials of one setting."""
    return [*unequal_steps(results), *unequal_formats(results), *unequal_seeds(results), *busy_machine(results)]


def unequal_seeds(results: Sequence[TrialResult]) -> list[str]:
    """Return one warning if models have figures for different seeds. Models without figures are ignored."""
    seeds: dict[str, set[int]] = {}
    for result in results:
        if result.ok:
            seeds.setdefault(result.config.label, set()).add(result.config.seed)
    groups: dict[tuple[int, ...], list[str]] = {}
    for label, found in seeds.items():
        groups.setdefault(tuple(sorted(found)), []).append(label)
    if len(groups) < 2:
        return []
    named = [
        f"{', '.join(labels)}: seed{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"
        for found, labels in sorted(groups.items(), key=lambda one: -len(one[0]))
    ]
    return [f"not all models have figures of the same seeds ({'; '.join(named)}): their means are not comparable"]


def unequal_steps(results: Sequence[TrialResult]) -> list[str]:
    """Return a warning for each trial whose number of steps differs from most trials. Adapted trials are ignored."""
    return [
        f"{result.config.label}, seed {result.config.seed}: {steps} optimiser steps, but the others took {usual}: its "
        f"figures are not comparable"
        for result, steps, usual in _outlier_trials(results, lambda training: training.steps)
    ]


def unequal_formats(results: Sequence[TrialResult]) -> list[str]:
    """Return a warning for each trial whose number format differs from most trials. Adapted trials are ignored.

    ``--precision auto`` chooses by measured time, so formats of similar speed may alternate.
    """
    return [
        f"{result.config.label}, seed {result.config.seed}: trained in {found}, but the others in {usual}; "
        f"--precision {usual} trains all in the same format"
        for result, found, usual in _outlier_trials(
            results, lambda training: None if training.format is None else training.format.precision
        )
    ]


def audit_note(results: Sequence[TrialResult]) -> tuple[bool, str]:
    """Return whether the splits leak, and one line on the audit's findings; empty if no result file has them."""
    found = next((audit for result in results if (audit := result.audit) is not None), None)
    return (False, "") if found is None else (bool(found.leaks), f"audit of the splits: {found.verdict}")


def busy_machine(results: Sequence[TrialResult]) -> list[str]:
    """Return one warning if speed was measured while other programs used the machine."""
    busy: dict[str, str] = {}
    for result in results:
        protocol = result.speed_protocol
        if protocol is not None and protocol.busy and result.speed:
            busy[result.config.label] = protocol.load
    if not busy:
        return []
    return [
        f"the speed of {', '.join(busy)} was measured while other programs used the machine "
        f"({', '.join(dict.fromkeys(busy.values()))}): FPS are too low; run zoo speed again on an idle machine"
    ]


def _outlier_trials(
    results: Sequence[TrialResult], value_of: Callable[[TrainingRecord], Any]
) -> Iterator[tuple[TrialResult, Any, Any]]:
    """Yield trained trials whose value differs from that of most trials, with both values."""
    trained = [(result, value_of(result.training)) for result in results if result.training is not None]
    known = [(result, value) for result, value in trained if result.ok and value is not None]
    if not known:
        return
    (usual, _), *_ = Counter(value for _, value in known).most_common(1)
    for result, value in known:
        if value != usual:
            yield result, value, usual


def _mean_dice(trials: Sequence[TrialResult]) -> float:
    return math.fsum(pooled_dice(trial.counts) for trial in trials) / len(trials)


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mean(values: Sequence[float | int | None]) -> float | int | None:
    """Return the mean; ``None`` if a seed has no value, because a mean over fewer seeds would be biased upwards."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    integers = all(isinstance(value, int) for value in known)
    mean = math.fsum(known) / len(known)
    return int(mean) if integers and mean == int(mean) else mean
