"""Whether the rows of a table were trained alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from zoo.bench.results import TrialResult


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
