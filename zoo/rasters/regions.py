"""Find connected regions of a mask that is read block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from rasterio.transform import Affine
from rasterio.windows import Window
from scipy import ndimage

Sums = NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """Pixels that touch each other by their sides.

    Attributes:
        outline: valid polygon in pixels, x to the right and y down, corners at whole numbers, no point on a straight
            side.
        pixels: number of pixels.
        highest: largest of the first layer's values.
        sums: of each layer's finite values, float64 (L,).
        counts: of each layer's finite values, int64 (L,).
    """

    outline: shapely.Polygon
    pixels: int
    highest: float
    sums: Sums
    counts: NDArray[np.int64]

    def means(self) -> Sums:
        """Mean of each layer over its finite values, float64 (L,); NaN where there is none."""
        with np.errstate(invalid="ignore"):
            means: Sums = self.sums / self.counts
        return means


@dataclass
class _Open:
    """A region that a block to come may go on with."""

    pieces: list[shapely.Polygon]
    pixels: int
    highest: float
    sums: Sums
    counts: NDArray[np.int64]

    def take(self, other: _Open) -> None:
        self.pieces += other.pieces
        self.pixels += other.pixels
        self.highest = max(self.highest, other.highest)
        self.sums = self.sums + other.sums
        self.counts = self.counts + other.counts

    def close(self) -> Region:
        outline = self.pieces[0] if len(self.pieces) == 1 else shapely.union_all(self.pieces)
        return Region(_canonical(outline), self.pixels, self.highest, self.sums, self.counts)


@dataclass
class RegionSweep:
    """Finds regions in blocks that come row by row, each row from left to right.

    A region that touches no side of its block is finished there. The others wait, joined by union-find where a block
    touches the one above or to the left, until a whole row of blocks has gone by without them. What is held is one
    block, one row of region numbers, and the outlines of the regions that cross the border reached.

    Args:
        columns: of the whole mask.
        least_pixels: fewest pixels of a region; smaller ones are left out.

    Attributes:
        left_out: number of regions that were too small.
    """

    columns: int
    least_pixels: int = 1
    left_out: int = field(default=0, init=False)
    _parents: dict[int, int] = field(default_factory=dict, init=False)
    _open: dict[int, _Open] = field(default_factory=dict, init=False)
    _last: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        # Region numbers along the lowest line that is known of each column, and along the right side of the last block.
        self._above: NDArray[np.int64] = np.zeros(self.columns, np.int64)
        self._left: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, window: Window, mask: NDArray[np.bool_], layers: Sequence[NDArray[np.float32]]) -> list[Region]:
        """Take the next block.

        Args:
            window: where it lies; blocks of one row have one height.
            mask: bool (rows, columns).
            layers: float32 (rows, columns) each, one or more; NaN counts nowhere.

        Returns:
            The regions that are known to be finished, in the order of their first pixel.
        """
        left, right = window.col_off, window.col_off + window.width
        if left == 0:
            self._left = np.zeros(window.height, np.int64)
        found, count = ndimage.label(mask)
        labels = found.astype(np.int32, copy=False)
        finished = self._enter(window, labels, count, layers) if count else []
        numbers = np.where(labels > 0, labels + (self._last - count), 0)
        self._join(self._above[left:right], numbers[0])
        self._join(self._left, numbers[:, 0])
        self._above[left:right], self._left = numbers[-1], numbers[:, -1]
        if right == self.columns:
            finished += self._close_all_but({self._root(int(one)) for one in np.unique(self._above) if one})
        return finished

    def finish(self) -> list[Region]:
        """Return the regions that were open when the last row of blocks ended."""
        return self._close_all_but(set())

    def _enter(
        self, window: Window, labels: NDArray[np.int32], count: int, layers: Sequence[NDArray[np.float32]]
    ) -> list[Region]:
        """Number the block's regions after those before, and give those that lie inside it."""
        flat = labels.ravel()
        inside = np.flatnonzero(flat)
        owner = flat[inside]
        pixels = np.bincount(owner, minlength=count + 1)
        values = [layer.ravel()[inside] for layer in layers]
        known = [np.isfinite(one) for one in values]
        counts = np.stack([np.bincount(owner[one], minlength=count + 1) for one in known], axis=1)
        sums = np.stack(
            [np.bincount(owner[one], part[one], count + 1) for one, part in zip(known, values, strict=True)], axis=1
        )
        highest = np.full(count + 1, -np.inf, np.float32)
        np.maximum.at(highest, owner, values[0])
        on_border = np.zeros(count + 1, bool)
        for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            on_border[side] = True
        wanted = on_border | (pixels >= self.least_pixels)
        wanted[0] = False
        self.left_out += count - int(wanted.sum())
        drawn = labels if wanted[1:].all() else np.where(wanted[labels], labels, 0).astype(np.int32)
        finished = []
        for outline, label in _outlines(drawn, window):
            region = _Open([outline], int(pixels[label]), float(highest[label]), sums[label], counts[label])
            if on_border[label]:
                number = self._last + label
                self._parents[number] = number
                self._open[number] = region
            else:
                finished.append(region.close())
        self._last += count
        return finished

    def _join(self, before: NDArray[np.int64], after: NDArray[np.int64]) -> None:
        touching = (before > 0) & (after > 0)
        for one, other in np.unique(np.stack([before[touching], after[touching]], axis=1), axis=0):
            first, second = sorted((self._root(int(one)), self._root(int(other))))
            if first != second:
                self._parents[second] = first
                self._open[first].take(self._open.pop(second))

    def _root(self, number: int) -> int:
        while (parent := self._parents[number]) != number:
            self._parents[number] = number = self._parents[parent]
        return number

    def _close_all_but(self, waiting: set[int]) -> list[Region]:
        done = sorted(number for number in self._open if number not in waiting)
        finished = [self._open.pop(number) for number in done]
        # Numbers along the border may point to their region by way of others; from here on they are its own.
        numbers, places = np.unique(self._above, return_inverse=True)
        self._above = np.array([self._root(int(one)) if one else 0 for one in numbers], np.int64)[places]
        self._parents = {number: number for number in self._open}
        large = [region for region in finished if region.pixels >= self.least_pixels]
        self.left_out += len(finished) - len(large)
        return [region.close() for region in large]


def _outlines(labels: NDArray[np.int32], window: Window) -> Iterator[tuple[shapely.Polygon, int]]:
    """Polygons of labelled regions in pixels of the whole mask, in the order of their labels."""
    place = Affine.translation(window.col_off, window.row_off)
    found = {}
    for geometry, label in shapes(labels, mask=labels > 0, connectivity=4, transform=place):
        outer, *holes = geometry["coordinates"]
        polygon = shapely.Polygon(outer, holes)
        # GDAL may draw a hole that touches the outside in one point as part of the outer ring.
        found[int(label)] = polygon if polygon.is_valid else shapely.make_valid(polygon, method="structure")
    for label in sorted(found):
        yield found[label], label


def _canonical(outline: shapely.Polygon) -> shapely.Polygon:
    """One way of writing a polygon: rings start in a corner, and no point lies between two on one line."""
    return shapely.normalize(shapely.simplify(shapely.normalize(outline), 0, preserve_topology=True))
