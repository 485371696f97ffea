"""Square blocks of ground, and the bootstrap that draws them: rows beside each other repeat each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError

REPEATS = 200
LEVEL = 0.95


def square_blocks(coordinates: NDArray[np.float64], side: float | None = None) -> NDArray[np.int64]:
    """Number the square block that each row lies in.

    Args:
        coordinates: x and y in metres, (N, 2).
        side: of a block in metres; None for a tenth of the longer side of the region [O].

    Returns:
        (N,), from 0 without gaps.

    Raises:
        ConfigError: if the side is not positive and finite.
    """
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    side = max(float((high - low).max()) / 10, np.finfo(float).tiny) if side is None else side
    if not 0 < side < np.inf:
        raise ConfigError(f"blocks of {side:g} m", hint="Give the side of a block in metres")
    cells = np.floor((coordinates - low) / side).astype(np.int64)
    _, block = np.unique(cells, axis=0, return_inverse=True)
    return np.asarray(block.ravel(), dtype=np.int64)


def block_bootstrap(
    fit: Callable[[NDArray[np.float64]], Mapping[str, float] | None],
    blocks: NDArray[Any] | None,
    count: int,
    *,
    repeats: int = REPEATS,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of what ``fit`` gives, over draws of whole blocks with replacement.

    Args:
        fit: from how often each row was drawn, float64 (N,), to numbers by name; None for a draw that cannot be used.
        blocks: block, region or event of each row, (N,); None to draw rows.
        count: number of rows.
        repeats: draws.
        level: of the interval.
        seed: of the draws.

    Returns:
        (low, high) by name; empty when no draw could be used.

    Raises:
        ConfigError: if there are fewer than two blocks.
    """
    number = np.arange(count) if blocks is None else np.unique(blocks, return_inverse=True)[1].ravel()
    total = int(number.max()) + 1
    if total < 2:
        raise ConfigError("one block alone has no interval", hint="Use smaller blocks")
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(repeats):
        times = np.bincount(rng.integers(total, size=total), minlength=total).astype(np.float64)
        for name, value in (fit(times[number]) or {}).items():
            drawn.setdefault(name, []).append(value)
    tail = (1 - level) / 2
    return {
        name: (float(np.quantile(values, tail)), float(np.quantile(values, 1 - tail))) for name, values in drawn.items()
    }
