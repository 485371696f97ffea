"""From result files to rows: one a model, means over its seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.bench.paper import PaperRow, paper_row
from zoo.bench.results import TrialResult
from zoo.evaluation.summary import summarise_trial

if TYPE_CHECKING:
    from zoo.bench.uncertainty import Difference

STANDARD = (
    "dice",
    "dice_per_image",
    "precision",
    "recall",
    "accuracy",
    "loss",
    "parameters",
    "gmac",
    "fps",
    "fps_batch",
)


@dataclass(frozen=True)
class Row:
    """One model of a leaderboard.

    Attributes:
        model: registered name, with options where they were set.
        name: registered name alone.
        status: ``ok``, or the first status that is not.
        error: the first reason, empty when all is well.
        seeds: trials with figures.
        figures: the keys of :data:`STANDARD` and every other registered metric; ``None`` where undefined.
        best_batch: batch size of ``fps_batch``; ``None`` where the speed was not measured.
        paper: the paper's row, where it has one.
        intervals: lower and upper end by figure, NaN where undefined; empty before
            :func:`zoo.bench.uncertainty.add_uncertainty`.
        difference: from the baseline in Dice; ``None`` for the baseline itself.
        group: letters; rows that share one cannot be told apart.
    """

    model: str
    name: str
    status: str
    error: str
    seeds: int
    figures: dict[str, float | None]
    best_batch: int | None
    paper: PaperRow | None = None
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    difference: Difference | None = None
    group: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The row as ``--json`` writes it."""
        standard = {name: self.figures.get(name) for name in STANDARD}
        others = {name: value for name, value in self.figures.items() if name not in STANDARD}
        return {
            "model": self.model,
            "status": self.status,
            "error": self.error,
            **standard,
            "seeds": self.seeds,
            "best_batch": self.best_batch,
            **others,
            **{f"{name}_low": _known(low) for name, (low, _) in self.intervals.items()},
            **{f"{name}_high": _known(high) for name, (_, high) in self.intervals.items()},
            "group": self.group,
            **self._compared(),
        }

    def _compared(self) -> dict[str, Any]:
        if self.difference is None:
            return dict.fromkeys(("baseline", "difference", "difference_low", "difference_high", "difference_p"))
        found = self.difference
        return {
            "baseline": found.baseline,
            "difference": found.mean,
            "difference_low": _known(found.low),
            "difference_high": _known(found.high),
            "difference_p": _known(found.p),
        }


def make_rows(results: Sequence[TrialResult]) -> list[Row]:
    """One row a model, the highest Dice first and models without figures last.

    Args:
        results: of one setting: same patches, same recipe, same device.
    """
    by_model: dict[str, list[TrialResult]] = {}
    for result in results:
        by_model.setdefault(result.config.label, []).append(result)
    rows = [_make_row(label, trials) for label, trials in by_model.items()]
    return sorted(rows, key=lambda row: (row.figures.get("dice") is None, -(row.figures.get("dice") or 0), row.model))


def _make_row(label: str, trials: list[TrialResult]) -> Row:
    good = [trial for trial in trials if trial.ok]
    bad = next((trial for trial in trials if not trial.ok), None)
    each = [_figures(trial) for trial in good]
    names = list(dict.fromkeys(name for figures in each for name in figures))
    samples: list[dict[str, Any]] = next((trial.measured["speed"] for trial in good if trial.measured.get("speed")), [])
    return Row(
        model=label,
        name=trials[0].config.model,
        status="ok" if bad is None else bad.status,
        error="" if bad is None else bad.error,
        seeds=len(good),
        figures={name: _mean([figures.get(name) for figures in each]) for name in names},
        best_batch=max(samples, key=_images_per_second)["batch"] if samples else None,
        paper=paper_row(trials[0].config),
    )


def _figures(trial: TrialResult) -> dict[str, float | None]:
    measured = trial.measured
    speed = measured.get("speed") or []
    rates = [_images_per_second(sample) for sample in speed]
    return {
        **summarise_trial(trial.evaluated, measured["data"]["pixel_size"]),
        "loss": measured["test"]["loss"],
        "parameters": measured["parameters"],
        "gmac": measured["gmac"],
        "fps": next((rate for sample, rate in zip(speed, rates, strict=True) if sample["batch"] == 1), None),
        "fps_batch": max(rates, default=None),
    }


def _images_per_second(sample: dict[str, Any]) -> float:
    return float(sample["batch"] / sample["median_s"])


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mean(values: list[float | None]) -> float | None:
    """The mean, or ``None`` when a seed leaves it undefined: a mean over fewer seeds would flatter the model."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    whole = all(isinstance(value, int) for value in known)
    mean = math.fsum(known) / len(known)
    return int(mean) if whole and mean == int(mean) else mean
