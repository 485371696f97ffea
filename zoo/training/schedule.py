"""Learning-rate schedules as factors of the peak rate."""

from __future__ import annotations

import math
from collections.abc import Callable


def warmup_cosine(total_steps: int, warmup: float, *, decay: bool = True) -> Callable[[int], float]:
    """Linear rise from 1/100 to 1, then half a cosine down to 0 [S: Loshchilov & Hutter 2017].

    Args:
        total_steps: steps of the whole run.
        warmup: share of them in which the rate rises, in [0, 1).
        decay: fall after the rise; otherwise stay at 1.

    Returns:
        A function from the step, counted from 0, to a factor in [0, 1].
    """
    rising = math.ceil(warmup * total_steps)

    def factor(step: int) -> float:
        if step < rising:
            return 0.01 + 0.99 * (step + 1) / rising
        if not decay:
            return 1.0
        share = (step - rising) / max(1, total_steps - rising)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

    return factor
