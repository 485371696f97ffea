"""Remaining time of a benchmark, estimated from the time that its trials have taken so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

PRIOR_TRIALS = 0.25
"""Weight of the common rate, as a number of trials, against the measured trials of a kind [O]."""
FIRST_SHARE = 0.02
"""Minimum share of all work that must be measured before a time is shown [O]."""


@dataclass
class _Trial:
    """Progress of a trial.

    Attributes:
        costs: relative cost of each stage.
        adapted: whether it adapts the bundle of another trial.
        done: completed share of each stage.
        begun: when it started in this run; ``None`` for a trial that is waiting or was kept.
        seconds: time that it took in this run; ``None`` while it is running.
        counts: whether its time is used to estimate other trials; false for a failed trial.
        resumed: share of its training that earlier runs did.
    """

    costs: Mapping[str, float]
    adapted: bool
    done: dict[str, float] = field(default_factory=dict)
    begun: float | None = None
    seconds: float | None = None
    counts: bool = True
    resumed: float = 0.0

    @property
    def cost(self) -> float:
        return sum(self.costs.values())

    @property
    def worked(self) -> float:
        return sum(cost * self.done.get(stage, 0.0) for stage, cost in self.costs.items())

    @property
    def worked_here(self) -> float:
        return self.worked - self.costs.get("train", 0.0) * self.resumed

    def spent(self, now: float) -> float:
        if self.seconds is not None:
            return self.seconds
        return 0.0 if self.begun is None else now - self.begun


class TimeLeft:
    """Estimates the remaining time of several trials.

    Trained and adapted trials have separate rates, in seconds per unit of cost. A kind with few measurements in this
    run uses the rate of all trials.

    Args:
        costs: relative cost of each stage, by trial; see :func:`zoo.bench.plan.relative_costs`.
        adapted: trials that adapt the bundle of another trial.
        clock: returns the current time in seconds.
    """

    def __init__(
        self,
        costs: Mapping[str, Mapping[str, float]],
        adapted: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trials = {name: _Trial(stages, name in adapted) for name, stages in costs.items()}
        self._clock = clock
        self._started = clock()

    def kept(self, name: str) -> None:
        """Count a trial of an earlier run as done."""
        trial = self._trials[name]
        trial.done, trial.counts = dict.fromkeys(trial.costs, 1.0), False

    def progress(self, name: str, stage: str, done: int, total: int) -> None:
        """Record the completed share of a stage; in the stage ``resume``, that of the training in earlier runs."""
        trial = self._trials[name]
        if trial.begun is None:
            trial.begun = self._clock()
        if stage != "data":
            trial.done["data"] = 1.0
        if stage == "resume":
            trial.resumed, stage = done / max(1, total), "train"
        trial.done[stage] = done / max(1, total)

    def finished(self, name: str, *, ok: bool) -> None:
        """Record the end of a trial in this run."""
        trial = self._trials[name]
        trial.seconds = trial.spent(self._clock())
        trial.done, trial.counts = dict.fromkeys(trial.costs, 1.0), ok

    def share(self, name: str) -> float:
        """Return the completed share of a trial, 0..1."""
        trial = self._trials[name]
        return trial.worked / trial.cost if trial.cost else 0.0

    def seconds(self) -> float | None:
        """Return the seconds until the last trial is done; ``None`` while too little has been measured."""
        now = self._clock()
        trials = self._trials.values()
        measured = [trial for trial in trials if trial.counts and trial.begun is not None]
        worked = sum(trial.worked_here for trial in measured)
        if worked <= FIRST_SHARE * sum(trial.cost for trial in trials):
            return None
        common = sum(trial.spent(now) for trial in measured) / worked
        left = longest = 0.0
        for adapted in (False, True):
            kind = [trial for trial in trials if trial.adapted is adapted]
            known = [trial for trial in measured if trial.adapted is adapted]
            weight = PRIOR_TRIALS * sum(trial.cost for trial in kind) / max(1, len(kind))
            total = weight + sum(trial.worked_here for trial in known)
            rate = (common * weight + sum(trial.spent(now) for trial in known)) / total if total else common
            waits = [rate * (trial.cost - trial.worked) for trial in kind]
            left, longest = left + sum(waits), max([longest, *waits])
        # Trials that run at the same time share the remaining time, but none ends before its own work is done.
        busy = sum(trial.spent(now) for trial in trials)
        return max(longest, left * (now - self._started) / busy) if busy else left
