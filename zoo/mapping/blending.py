"""Tiles added up to blocks, and blocks joined at their seams, in arithmetic that knows no order."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.mapping.tiling import Block, Plan, Reach

Sums = NDArray[np.float64]

PROBABILITY_STEPS = 1 << 24
"""Probabilities are rounded to multiples of 1 / this, as fine as float32 is near 1. Times two weights of 12 bits they
have 48 bits, so float64 adds them without rounding: the sum is the same in whatever order tiles arrive."""

UINT8_STEPS = 250
"""A byte holds the probability in steps of 0.004."""

UINT8_NODATA = 255

CHUNK = 32
"""Rows worked on at a time: their numbers stay in the processor's cache from one operation to the next."""


def encode(sums: Sums, missing: NDArray[np.bool_], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Probabilities as they are written.

    Args:
        sums: 0..1.
        missing: of the same shape, where there is nothing.
        dtype: uint8 (steps of 1 / 250, 255 is nodata) or float32 (NaN is nodata).
    """
    if dtype == np.uint8:
        values = np.empty(sums.shape, dtype=np.uint8)
        for first in range(0, len(sums), CHUNK):
            steps = sums[first : first + CHUNK] * UINT8_STEPS
            values[first : first + CHUNK] = np.rint(steps, out=steps)
        values[missing] = UINT8_NODATA
        return values
    numbers = sums.astype(np.float32)
    numbers[missing] = np.nan
    return numbers


def first_step(probability: float) -> int:
    """The lowest step of a byte that is not below a probability."""
    return math.ceil(probability * UINT8_STEPS - 1e-6)


def is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where what :func:`encode` gave is nodata."""
    found: NDArray[np.bool_] = values == UINT8_NODATA if values.dtype == np.uint8 else np.isnan(values)
    return found


@dataclass(frozen=True)
class BlockResult:
    """What became of a block.

    Attributes:
        values: (rows, columns) of its support, encoded; true but where a neighbour has a weight too.
        top, bottom: float64 (ramp, columns), its share of the sums that it has in common with the block above and
            below; of no rows without one.
        left, right: float64 (rows, ramp), likewise; of no columns without one.
    """

    values: NDArray[Any]
    top: Sums
    bottom: Sums
    left: Sums
    right: Sums


class Canvas:
    """The sums of one block while its tiles arrive.

    Args:
        plan: of the scene.
        block: one of its blocks.
        dtype: of the values, see :func:`encode`.
    """

    def __init__(self, plan: Plan, block: Block, dtype: np.dtype[Any]) -> None:
        self._plan, self._block, self._dtype = plan, block, dtype
        self._rows = plan.rows.support(block.tile_rows)
        self._columns = plan.columns.support(block.tile_columns)
        shape = len(self._rows), len(self._columns)
        self._sums = np.zeros(shape)
        self._missing = np.ones(shape, dtype=bool)

    def add(self, row: int, column: int, probability: NDArray[np.float32] | None, missing: NDArray[np.bool_]) -> None:
        """Add a tile.

        Args:
            row, column: number of the tile in the plan.
            probability: float32 (h, w) of the tile, multiples of 1 / :data:`PROBABILITY_STEPS`; None where all is
                missing.
            missing: bool (h, w).
        """
        rows, columns = self._plan.rows, self._plan.columns
        place = rows.supports[row].within(self._rows), columns.supports[column].within(self._columns)
        part = rows.supports[row].within(rows.tiles[row]), columns.supports[column].within(columns.tiles[column])
        self._missing[place] = missing[part]
        if probability is None:
            return
        share = probability[part].astype(np.float64)
        for axis, number, lines in ((rows, row, share), (columns, column, share.T)):
            weights = axis.weights(number)
            # Between the ramps all weights are 1.
            for ramp in (slice(0, axis.ramp), slice(max(axis.ramp, len(weights) - axis.ramp), None)):
                lines[ramp] *= weights[ramp, None]
        self._sums[place] += share

    def result(self) -> BlockResult:
        """What came together; to be called when all tiles of the block are there."""
        block, (rows, columns) = self._block, self._plan.block_shape
        top = self._plan.rows.ramp if block.row > 0 else 0
        bottom = self._plan.rows.ramp if block.row < rows - 1 else 0
        left = self._plan.columns.ramp if block.column > 0 else 0
        right = self._plan.columns.ramp if block.column < columns - 1 else 0
        height, width = self._sums.shape
        return BlockResult(
            values=encode(self._sums, self._missing, self._dtype),
            top=self._sums[:top].copy(),
            bottom=self._sums[height - bottom :].copy(),
            left=self._sums[:, :left].copy(),
            right=self._sums[:, width - right :].copy(),
        )


Part = Callable[[Block, str], NDArray[Any]]
"""Gives a field of the :class:`BlockResult` of a block."""


def join(plan: Plan, block: Block, part: Part) -> tuple[Reach, Reach, NDArray[Any]]:
    """Give the pixels that a block has for itself, and those that it shares with the blocks above and to the left.

    Args:
        plan: of the scene.
        block: one of its blocks.
        part: gives the results of it and of those neighbours.

    Returns:
        Rows and columns of the scene, and their encoded values. The blocks of a plan cover each pixel once.
    """
    rows, columns = plan.rows.support(block.tile_rows), plan.columns.support(block.tile_columns)
    below, beyond = block.row < plan.block_shape[0] - 1, block.column < plan.block_shape[1] - 1
    rows = Reach(rows.start, rows.stop - (plan.rows.ramp if below else 0))
    columns = Reach(columns.start, columns.stop - (plan.columns.ramp if beyond else 0))
    values = part(block, "values")[: len(rows), : len(columns)].copy()
    above = plan.block(block.row - 1, block.column) if block.row and plan.rows.ramp else None
    before = plan.block(block.row, block.column - 1) if block.column and plan.columns.ramp else None
    ramp = plan.columns.ramp
    first = 0
    if above is not None:
        sums = part(block, "top") + part(above, "bottom")
        if before is not None:
            corner = plan.block(above.row, before.column)
            sums[:, :ramp] += part(before, "top")[:, -ramp:] + part(corner, "bottom")[:, -ramp:]
        first = plan.rows.ramp
        _finish(values[:first], sums[:, : len(columns)])
    if before is not None:
        sums = part(block, "left") + part(before, "right")
        _finish(values[first:, :ramp], sums[first : len(rows)])
    return rows, columns, values


def _finish(values: NDArray[Any], sums: Sums) -> None:
    """Encode sums in the place of ``values``, which know already where nothing is."""
    values[...] = encode(sums, is_missing(values), values.dtype)
