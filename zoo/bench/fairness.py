"""Whether the rows of a table were trained alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from zoo.bench.results import TrialResult


def doubts(results: Sequence[TrialResult]) -> list[str]:
    """All that keeps the rows of a table from being compared, in words.

    Args:
        results: of one setting.
    """
    return [*unequal_steps(results), *unequal_seeds(results)]


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
    steps = {
        id(result): int(result.measured["training"]["steps"])
        for result in results
        if result.ok and "training" in result.measured
    }
    if len(set(steps.values())) < 2:
        return []
    usual, _ = Counter(steps.values()).most_common(1)[0]
    return [
        f"{result.config.label}, seed {result.config.seed}: {steps[id(result)]} optimiser steps, and the others took "
        f"{usual}: its figures do not compare"
        for result in results
        if steps.get(id(result), usual) != usual
    ]
