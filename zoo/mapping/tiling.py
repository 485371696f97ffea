"""Where the tiles of a scene lie, how much each of them weighs, and which of them are worked on together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

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
