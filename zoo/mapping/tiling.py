"""Tiling of a scene: positions, weights, and sums of overlapping tiles.

The sums do not depend on the order in which tiles are added, so the bytes of a map do not depend on threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError
from zoo.mapping.probability import encode, is_missing

ALIGNMENT = 32
"""Tiles begin at multiples of this many pixels, so pooling windows align with those of the whole image."""

WEIGHT_STEPS = 1 << 12
"""Weights are multiples of 1 / this, so their products and sums are exact, in any order."""

BLOCK = 2048
"""Approximate side of a block in pixels. A block is the unit of computation, of the journal and of the cluster."""

MAX_TILE_SIDE = 1 << 16
"""Maximum side of a tile in pixels; a larger value is a typing error."""

Sums = NDArray[np.float64]


@dataclass(frozen=True)
class PixelRange:
    """Range of pixels along one side of a scene, from ``start`` (included) to ``stop`` (excluded)."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def within(self, other: PixelRange) -> slice:
        """Return these pixels as a slice of those of ``other``."""
        return slice(self.start - other.start, self.stop - other.start)


class Axis:
    """Tiles along one side of a scene.

    Tiles are evenly spaced and begin at multiples of :data:`ALIGNMENT`. The last tile ends with the scene, so padding
    there is the same as for the whole image. Two neighbours are blended over the middle half of ``overlap``; the outer
    quarters only provide context [O].

    Args:
        length: length of the scene in pixels, at least 1.
        tile: length of a tile in pixels, a multiple of :data:`ALIGNMENT`.
        overlap: minimum overlap of two neighbours in pixels, a multiple of :data:`ALIGNMENT`, at most half a tile.

    Raises:
        ConfigError: if ``tile`` or ``overlap`` is not allowed.

    Attributes:
        tiles: pixels of each tile.
        supports: pixels where each tile has a weight above 0; the next support begins ``ramp`` pixels before the end.
        ramp: number of pixels over which two neighbours are blended.
    """

    def __init__(self, length: int, tile: int, overlap: int) -> None:
        check_tiling(tile, overlap)
        last = max(0, -(-(length - tile) // ALIGNMENT) * ALIGNMENT)
        count = 1 + -(-last // (tile - overlap))
        starts = [number * last // max(1, count - 1) // ALIGNMENT * ALIGNMENT for number in range(count)]
        self.length = length
        self.tiles = tuple(PixelRange(start, min(start + tile, length)) for start in starts)
        centres = [(one.stop + after.start) // 2 for one, after in pairwise(self.tiles)]
        gaps = [after - one for one, after in pairwise(centres)]
        half = min([overlap // 2, *gaps]) // 2
        self.ramp = 2 * half
        edges = [0, *(centre - half for centre in centres)]
        ends = [*(centre + half for centre in centres), length]
        self.supports = tuple(PixelRange(start, stop) for start, stop in zip(edges, ends, strict=True))
        rising = np.rint((np.arange(self.ramp) + 0.5) / max(1, self.ramp) * WEIGHT_STEPS) / WEIGHT_STEPS
        self._rising: NDArray[np.float64] = rising

    def __len__(self) -> int:
        return len(self.tiles)

    def weights(self, number: int) -> NDArray[np.float64]:
        """Return the weights of a tile over its support; together with those of its neighbours they add up to 1.

        Returns:
            float64, multiples of 1 / :data:`WEIGHT_STEPS`.
        """
        weights = np.ones(len(self.supports[number]))
        if self.ramp and number > 0:
            weights[: self.ramp] = self._rising
        if self.ramp and number < len(self) - 1:
            weights[-self.ramp :] = 1 - self._rising
        return weights

    def own(self, number: int) -> PixelRange:
        """Return the part of a tile's support outside all earlier supports; these parts cover each pixel once."""
        support = self.supports[number]
        return PixelRange(support.start + (self.ramp if number > 0 else 0), support.stop)

    def groups(self, size: int) -> tuple[range, ...]:
        """Return the tile numbers of each block, with at most ``size`` tiles per block."""
        return tuple(range(first, min(first + size, len(self))) for first in range(0, len(self), size))

    def support(self, group: range) -> PixelRange:
        """Return the pixels where the tiles of a block have a weight."""
        return PixelRange(self.supports[group[0]].start, self.supports[group[-1]].stop)

    def view(self, group: range) -> PixelRange:
        """Return the pixels that the tiles of a block cover."""
        return PixelRange(self.tiles[group[0]].start, self.tiles[group[-1]].stop)


@dataclass(frozen=True)
class Block:
    """Tiles that are computed together.

    Attributes:
        row, column: position in the grid of blocks.
        tile_rows, tile_columns: numbers of its tiles.
    """

    row: int
    column: int
    tile_rows: range
    tile_columns: range


class Plan:
    """All tiles and blocks of a scene; they depend only on its shape and the tiling.

    Args:
        shape: (rows, columns) of the scene.
        tile: see :class:`Axis`.
        overlap: see :class:`Axis`.
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
        """Return the block at a position."""
        return Block(row, column, self._row_groups[row], self._column_groups[column])

    def blocks(self) -> Iterator[Block]:
        """Yield all blocks, row by row."""
        rows, columns = self.block_shape
        return (self.block(row, column) for row in range(rows) for column in range(columns))

    def ramps(self, block: Block) -> tuple[int, int, int, int]:
        """Return the rows and columns that a block shares with its neighbours: (above, below, left, right)."""
        rows, columns = self.block_shape
        return (
            self.rows.ramp if block.row > 0 else 0,
            self.rows.ramp if block.row < rows - 1 else 0,
            self.columns.ramp if block.column > 0 else 0,
            self.columns.ramp if block.column < columns - 1 else 0,
        )


def check_tiling(tile: int, overlap: int) -> None:
    """Check the tile size and the overlap.

    Raises:
        ConfigError: if a value is not allowed; the hint says which values are.
    """
    if not 2 * ALIGNMENT <= tile <= MAX_TILE_SIDE or tile % ALIGNMENT:
        raise ConfigError(
            f"a tile of {tile} pixels is not possible",
            hint=f"Tile sizes are multiples of {ALIGNMENT}, from {2 * ALIGNMENT} to {MAX_TILE_SIDE}",
        )
    if not 0 <= overlap <= tile // 2 or overlap % ALIGNMENT:
        raise ConfigError(
            f"an overlap of {overlap} pixels is not possible with tiles of {tile}",
            hint=f"Overlaps are multiples of {ALIGNMENT}, from 0 to half a tile",
        )


@dataclass(frozen=True)
class BlockResult:
    """Probabilities of a block. All arrays except the counts have a leading axis if tiles have several layers.

    Attributes:
        values: encoded values of its support, (rows, columns); final except where a neighbour also has a weight.
        top: float64 (ramp, columns), the block's contribution to the sums that it shares with the block above; no rows
            if there is none.
        bottom: the same for the block below.
        left: float64 (rows, ramp), the same for the block to the left; no columns if there is none.
        right: the same for the block to the right.
        counts: int64 (3,): pixels that are not mapped because a band is missing, they are outside the area or the
            ground is hidden; those of them with an implausible value; and those hidden by clouds or snow.
    """

    values: NDArray[Any]
    top: Sums
    bottom: Sums
    left: Sums
    right: Sums
    counts: NDArray[np.int64]


class Canvas:
    """Accumulator of the tiles of one block.

    Args:
        plan: plan of the scene.
        block: one of its blocks.
        dtype: dtype of the values; see :func:`zoo.mapping.probability.encode`.
        layers: shape of a tile's values per pixel: () for a probability, (2,) for a mean and a spread.
    """

    def __init__(self, plan: Plan, block: Block, dtype: np.dtype[Any], layers: tuple[int, ...] = ()) -> None:
        self._plan, self._block, self._dtype = plan, block, dtype
        self._rows = plan.rows.support(block.tile_rows)
        self._columns = plan.columns.support(block.tile_columns)
        shape = len(self._rows), len(self._columns)
        self._sums = np.zeros((*layers, *shape))
        self._missing = np.ones(shape, dtype=bool)
        self._counts = np.zeros(3, dtype=np.int64)

    def add(
        self,
        row: int,
        column: int,
        probability: NDArray[np.float32] | None,
        missing: NDArray[np.bool_],
        implausible: NDArray[np.bool_] | None = None,
        hidden: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add a tile.

        Args:
            row: row of the tile in the plan.
            column: column of the tile in the plan.
            probability: float32 (..., h, w) of the tile, multiples of 1 /
                :data:`zoo.mapping.probability.PROBABILITY_STEPS`; None if no pixel is mapped.
            missing: bool (h, w), pixels that are not mapped.
            implausible: bool (h, w), missing pixels with an implausible value; None for none.
            hidden: bool (h, w), missing pixels that clouds or snow hide; None for none.
        """
        rows, columns = self._plan.rows, self._plan.columns
        place = rows.supports[row].within(self._rows), columns.supports[column].within(self._columns)
        part = rows.supports[row].within(rows.tiles[row]), columns.supports[column].within(columns.tiles[column])
        own = rows.own(row).within(rows.tiles[row]), columns.own(column).within(columns.tiles[column])
        self._missing[place] = missing[part]
        self._counts[0] += np.count_nonzero(missing[own])
        if implausible is not None:
            self._counts[1] += np.count_nonzero(implausible[own])
        if hidden is not None:
            self._counts[2] += np.count_nonzero(hidden[own])
        if probability is None:
            return
        share = probability[..., *part].astype(np.float64)
        for axis, number, lines in ((rows, row, share), (columns, column, share.swapaxes(-1, -2))):
            weights = axis.weights(number)
            # All weights between the ramps are 1.
            for ramp in (slice(0, axis.ramp), slice(max(axis.ramp, len(weights) - axis.ramp), None)):
                lines[..., ramp, :] *= weights[ramp, None]
        self._sums[..., *place] += share

    def result(self) -> BlockResult:
        """Return the sums; call it after all tiles of the block were added."""
        top, bottom, left, right = self._plan.ramps(self._block)
        height, width = self._sums.shape[-2:]
        return BlockResult(
            values=encode(self._sums, self._missing, self._dtype),
            top=self._sums[..., :top, :].copy(),
            bottom=self._sums[..., height - bottom :, :].copy(),
            left=self._sums[..., :left].copy(),
            right=self._sums[..., width - right :].copy(),
            counts=self._counts,
        )


ReadField = Callable[[Block, str], NDArray[Any]]
"""Returns a field of the :class:`BlockResult` of a block."""


def join(plan: Plan, block: Block, read: ReadField) -> tuple[PixelRange, PixelRange, NDArray[Any]]:
    """Return the pixels that only this block has or that it shares with the blocks above and to the left.

    Args:
        plan: plan of the scene.
        block: one of its blocks.
        read: function that returns results of the block and of these neighbours.

    Returns:
        Rows and columns of the scene, and their encoded values. The blocks of a plan cover each pixel once.
    """
    rows, columns = plan.rows.support(block.tile_rows), plan.columns.support(block.tile_columns)
    top, bottom, left, right = plan.ramps(block)
    rows, columns = PixelRange(rows.start, rows.stop - bottom), PixelRange(columns.start, columns.stop - right)
    values = read(block, "values")[..., : len(rows), : len(columns)].copy()
    above = plan.block(block.row - 1, block.column) if top else None
    before = plan.block(block.row, block.column - 1) if left else None
    if above is not None:
        sums = read(block, "top") + read(above, "bottom")
        if before is not None:
            corner = plan.block(above.row, before.column)
            sums[..., :left] += read(before, "top")[..., -left:] + read(corner, "bottom")[..., -left:]
        _finish(values[..., :top, :], sums[..., : len(columns)])
    if before is not None:
        sums = read(block, "left") + read(before, "right")
        _finish(values[..., top:, :left], sums[..., top : len(rows), :])
    return rows, columns, values


def _finish(values: NDArray[Any], sums: Sums) -> None:
    """Replace ``values`` by the encoded sums, except where they are already nodata."""
    values[...] = encode(sums, is_missing(values), values.dtype)
