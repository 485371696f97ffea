"""Whether the rows of a table were trained alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zoo.bench.results import TrialResult


def doubts(results: Sequence[TrialResult]) -> list[str]:
    """All that keeps the rows of a table from being compared, in words.

    Args:
        results: of one setting.
    """
    return [*unequal_steps(results), *unequal_formats(results), *unequal_seeds(results)]


def unequal_seeds(results: Sequence[TrialResult]) -> list[str]:
    """One sentence where models have figures of different seeds: a mean over one seed is no mean over three.

    Args:
        results: of one setting. Models without any figures are left out.
    """
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
    return [f"not all models have figures of the same seeds ({'; '.join(named)}): their means do not compare"]


def unequal_steps(results: Sequence[TrialResult]) -> list[str]:
    """Trials whose optimiser steps differ from those of most others, in words; none when all took as many.

    Args:
        results: of one setting. Adapted trials are not trained and are left out.
    """
    return [
        f"{result.config.label}, seed {result.config.seed}: {steps} optimiser steps, and the others took {usual}: "
        "its figures do not compare"
        for result, steps, usual in _unusual(results, lambda training: training["steps"])
    ]


def unequal_formats(results: Sequence[TrialResult]) -> list[str]:
    """Trials that were trained in another number format than most others, in words.

    ``auto`` chooses by time, and what is nearly as fast may win on another day.

    Args:
        results: of one setting. Adapted trials are not trained and are left out.
    """
    return [
        f"{result.config.label}, seed {result.config.seed}: trained in {found}, and the others in {usual}; "
        f"--precision {usual} trains all alike"
        for result, found, usual in _unusual(results, lambda training: training.get("format", {}).get("precision"))
    ]


def _unusual(
    results: Sequence[TrialResult], value_of: Callable[[dict[str, Any]], Any]
) -> Iterator[tuple[TrialResult, Any, Any]]:
    """Trained trials of which a value is known and differs from that of most others; the value, and that of most."""
    trained = [(result, value_of(result.measured["training"])) for result in results if "training" in result.measured]
    known = [(result, value) for result, value in trained if result.ok and value is not None]
    if not known:
        return
    (usual, _), *_ = Counter(value for _, value in known).most_common(1)
    for result, value in known:
        if value != usual:
            yield result, value, usual
