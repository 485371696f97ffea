"""Warnings about rows of a table that are not comparable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zoo.bench.results import TrainingRecord, TrialResult


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
        for result, steps, usual in _unusual(results, lambda training: training.steps)
    ]


def unequal_formats(results: Sequence[TrialResult]) -> list[str]:
    """Return a warning for each trial whose number format differs from most trials. Adapted trials are ignored.

    ``--precision auto`` chooses by measured time, so formats of similar speed may alternate.
    """
    return [
        f"{result.config.label}, seed {result.config.seed}: trained in {found}, but the others in {usual}; "
        f"--precision {usual} trains all in the same format"
        for result, found, usual in _unusual(
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


def _unusual(
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
