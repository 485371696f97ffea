"""Timing what could be used, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

KEEP_WITHIN = 1.3
"""Candidates whose first timed pass took longer than this times the best are not timed again."""


def time_interleaved(
    candidates: Mapping[str, Callable[[], object]],
    device: torch.device,
    *,
    seconds: float = 2.0,
    most: int = 20,
    least: int = 3,
) -> dict[str, float]:
    """Least seconds of each candidate, timed in turns: what else the machine does hits all alike, and only ever adds.

    Args:
        candidates: what to call, by name.
        device: they compute on.
        seconds: for all turns after the first.
        most: turns at most.
        least: turns at least.
    """
    if not candidates:
        return {}
    times: dict[str, list[float]] = {}
    for name, run in candidates.items():
        run()
        times[name] = [_seconds(run, device)]
    best = min(values[0] for values in times.values())
    near = {name: run for name, run in candidates.items() if times[name][0] <= KEEP_WITHIN * best}
    turns = 1
    started = time.perf_counter()
    while len(near) > 1 and turns < most and (turns < least or time.perf_counter() - started < seconds):
        for name, run in near.items():
            times[name].append(_seconds(run, device))
        turns += 1
    return {name: min(values) for name, values in times.items()}


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
