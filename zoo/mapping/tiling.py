"""Tiles of a scene, their weights, and the sums of overlapping tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError

ALIGNMENT = 32
"""Pixels. Tiles begin at multiples of it, so that a pixel meets the same pooling windows as in the whole image."""

WEIGHT_STEPS = 1 << 12
"""Weights are multiples of 1 / this: products and sums of them are exact, in whatever order they are added."""

BLOCK = 2048
"""Pixels along the side of a block, about: what is worked on, recorded and sent to other machines as one."""


@dataclass(frozen=True)
class Reach:
    """A run of pixels along one side of the scene, from ``start`` to before ``stop``."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def within(self, other: Reach) -> slice:
        """These pixels as a slice of those of ``other``."""
        return slice(self.start - other.start, self.stop - other.start)


class Axis:
    """Tiles along one side of a scene.

    Tiles are spread evenly and begin at multiples of :data:`ALIGNMENT`. The last one ends with the scene, so that a
    model pads there what it would pad at the edge of the whole image, and nowhere else. Two neighbours are blended
    over the middle half of ``overlap``; the outer quarters give context and are not used [O].

    Args:
        length: pixels of the scene, 1 or more.
        tile: pixels of a tile, a multiple of :data:`ALIGNMENT`.
        overlap: pixels that two neighbours share at least, a multiple of :data:`ALIGNMENT`, at most half a tile.

    Raises:
        ConfigError: for another tile or overlap.

    Attributes:
        tiles: what each tile sees.
        supports: where each tile has a weight above 0; the next one's begins ``ramp`` pixels before its end.
        ramp: pixels over which two neighbours are blended.
    """

    def __init__(self, length: int, tile: int, overlap: int) -> None:
        check_tiling(tile, overlap)
        last = max(0, -(-(length - tile) // ALIGNMENT) * ALIGNMENT)
        count = 1 + -(-last // (tile - overlap))
        starts = [number * last // max(1, count - 1) // ALIGNMENT * ALIGNMENT for number in range(count)]
        self.length = length
        self.tiles = tuple(Reach(start, min(start + tile, length)) for start in starts)
        centres = [(one.stop + after.start) // 2 for one, after in pairwise(self.tiles)]
        gaps = [after - one for one, after in pairwise(centres)]
        half = min([overlap // 2, *gaps]) // 2
        self.ramp = 2 * half
        edges = [0, *(centre - half for centre in centres)]
        ends = [*(centre + half for centre in centres), length]
        self.supports = tuple(Reach(start, stop) for start, stop in zip(edges, ends, strict=True))
        rising = np.rint((np.arange(self.ramp) + 0.5) / max(1, self.ramp) * WEIGHT_STEPS) / WEIGHT_STEPS
        self._rising: NDArray[np.float64] = rising

    def __len__(self) -> int:
        return len(self.tiles)

    def weights(self, number: int) -> NDArray[np.float64]:
        """Weights of a tile over its support; with those of its neighbours they add up to 1.

        Returns:
            float64, multiples of 1 / :data:`WEIGHT_STEPS`.
        """
        weights = np.ones(len(self.supports[number]))
        if self.ramp and number > 0:
            weights[: self.ramp] = self._rising
        if self.ramp and number < len(self) - 1:
            weights[-self.ramp :] = 1 - self._rising
        return weights

    def groups(self, size: int) -> tuple[range, ...]:
        """Numbers of the tiles of each block, ``size`` tiles or fewer."""
        return tuple(range(first, min(first + size, len(self))) for first in range(0, len(self), size))

    def support(self, group: range) -> Reach:
        """Where the tiles of a block have a weight."""
        return Reach(self.supports[group[0]].start, self.supports[group[-1]].stop)

    def view(self, group: range) -> Reach:
        """What the tiles of a block see."""
        return Reach(self.tiles[group[0]].start, self.tiles[group[-1]].stop)


@dataclass(frozen=True)
class Block:
    """Tiles that are worked on together.

    Attributes:
        row, column: place among the blocks.
        tile_rows, tile_columns: numbers of its tiles.
    """

    row: int
    column: int
    tile_rows: range
    tile_columns: range


class Plan:
    """All tiles and blocks of a scene; a function of its shape and the tiling alone.

    Args:
        shape: (rows, columns) of the scene.
        tile, overlap: see :class:`Axis`.
    """

    def __init__(self, shape: tuple[int, int], tile: int, overlap: int) -> None:
        self.shape, self.tile, self.overlap = shape, tile, overlap
        self.rows, self.columns = (Axis(length, tile, overlap) for length in shape)
        size = max(1, BLOCK // (tile - overlap))
        self._row_groups, self._column_groups = self.rows.groups(size), self.columns.groups(size)
        self.block_shape = (len(self._row_groups), len(self._column_groups))

    @property
    def tile_count(self) -> int:
        """Number of tiles."""
        return len(self.rows) * len(self.columns)

    def block(self, row: int, column: int) -> Block:
        """The block at a place."""
        return Block(row, column, self._row_groups[row], self._column_groups[column])

    def blocks(self) -> Iterator[Block]:
        """All blocks, line by line."""
        rows, columns = self.block_shape
        return (self.block(row, column) for row in range(rows) for column in range(columns))


def check_tiling(tile: int, overlap: int) -> None:
    """Refuse a tiling that a map could not be made with.

    Raises:
        ConfigError: with what is allowed.
    """
    if tile < 2 * ALIGNMENT or tile % ALIGNMENT:
        raise ConfigError(f"a tile of {tile} pixels", hint=f"Tiles are multiples of {ALIGNMENT}, from {2 * ALIGNMENT}")
    if not 0 <= overlap <= tile // 2 or overlap % ALIGNMENT:
        raise ConfigError(
            f"an overlap of {overlap} pixels with tiles of {tile}",
            hint=f"Overlaps are multiples of {ALIGNMENT}, from 0 to half a tile",
        )


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
