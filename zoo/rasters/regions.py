"""Find the connected regions of a mask, block by block."""

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
    """A set of pixels that are connected by their sides.

    Attributes:
        outline: valid polygon in pixel coordinates, x to the right and y down. Vertices have integer coordinates and
            lie only at corners.
        pixels: number of pixels.
        highest: largest value of the first layer.
        sums: sum of the finite values of each layer, float64 (L,).
        counts: number of finite values of each layer, int64 (L,).
    """

    outline: shapely.Polygon
    pixels: int
    highest: float
    sums: Sums
    counts: NDArray[np.int64]

    def means(self) -> Sums:
        """Return the mean of the finite values of each layer, float64 (L,); NaN for a layer without any."""
        with np.errstate(invalid="ignore"):
            means: Sums = self.sums / self.counts
        return means


@dataclass
class _OpenRegion:
    """A region that may continue in a later block."""

    pieces: list[shapely.Polygon]
    pixels: int
    highest: float
    sums: Sums
    counts: NDArray[np.int64]

    def take(self, other: _OpenRegion) -> None:
        """Merge another region into this one."""
        self.pieces += other.pieces
        self.pixels += other.pixels
        self.highest = max(self.highest, other.highest)
        self.sums = self.sums + other.sums
        self.counts = self.counts + other.counts

    def close(self) -> Region:
        """Return the finished region with its pieces joined."""
        outline = self.pieces[0] if len(self.pieces) == 1 else shapely.union_all(self.pieces)
        return Region(_canonical(outline), self.pixels, self.highest, self.sums, self.counts)


@dataclass
class RegionSweep:
    """Finds regions in blocks that are added row by row, from left to right within a row.

    A region that touches no side of its block is finished with the block. The other regions stay open. Union-find
    joins them with the regions of the block above and the block to the left. A region is finished when a whole row of
    blocks no longer contains it. Memory holds one block, one row of region numbers, and the outlines of the open
    regions.

    Args:
        columns: number of columns of the whole mask.
        least_pixels: minimum size of a region in pixels; smaller regions are left out.

    Attributes:
        left_out: number of regions that were left out because they were too small.
    """

    columns: int
    least_pixels: int = 1
    left_out: int = field(default=0, init=False)
    _parents: dict[int, int] = field(default_factory=dict, init=False)
    _open: dict[int, _OpenRegion] = field(default_factory=dict, init=False)
    _last: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        # Region numbers in the lowest row that was added in each column, and in the last column of the last block.
        self._above: NDArray[np.int64] = np.zeros(self.columns, np.int64)
        self._left: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, window: Window, mask: NDArray[np.bool_], layers: Sequence[NDArray[np.float32]]) -> list[Region]:
        """Add the next block.

        Args:
            window: position of the block; all blocks of a row have the same height.
            mask: bool (rows, columns).
            layers: one or more arrays, float32 (rows, columns); NaN values are not counted.

        Returns:
            The regions that this block finishes, in the order of their first pixel.
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
            finished += self._close_others({self._root(int(one)) for one in np.unique(self._above) if one})
        return finished

    def finish(self) -> list[Region]:
        """Return the regions that are still open after the last block."""
        return self._close_others(set())

    def _enter(
        self, window: Window, labels: NDArray[np.int32], count: int, layers: Sequence[NDArray[np.float32]]
    ) -> list[Region]:
        """Number the regions of a block after all earlier ones; return those that touch no side of the block."""
        flat = labels.ravel()
        inside = np.flatnonzero(flat)
        owner = flat[inside]
        pixels = np.bincount(owner, minlength=count + 1)
        values = [layer.ravel()[inside] for layer in layers]
        known = [np.isfinite(value) for value in values]
        counts = np.stack([np.bincount(owner[mask], minlength=count + 1) for mask in known], axis=1)
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
            region = _OpenRegion([outline], int(pixels[label]), float(highest[label]), sums[label], counts[label])
            if on_border[label]:
                number = self._last + label
                self._parents[number] = number
                self._open[number] = region
            else:
                finished.append(region.close())
        self._last += count
        return finished

    def _join(self, before: NDArray[np.int64], after: NDArray[np.int64]) -> None:
        """Merge the regions that touch each other across the border of two blocks."""
        touching = (before > 0) & (after > 0)
        for one, other in np.unique(np.stack([before[touching], after[touching]], axis=1), axis=0):
            first, second = sorted((self._root(int(one)), self._root(int(other))))
            if first != second:
                self._parents[second] = first
                self._open[first].take(self._open.pop(second))

    def _root(self, number: int) -> int:
        """Return the number of the region that this number was merged into."""
        while (parent := self._parents[number]) != number:
            self._parents[number] = number = self._parents[parent]
        return number

    def _close_others(self, waiting: set[int]) -> list[Region]:
        """Finish every open region whose number is not in ``waiting``."""
        done = sorted(number for number in self._open if number not in waiting)
        finished = [self._open.pop(number) for number in done]
        # Numbers in the lowest row may still point to merged regions. Replace each by the number of its root.
        numbers, places = np.unique(self._above, return_inverse=True)
        self._above = np.array([self._root(int(number)) if number else 0 for number in numbers], np.int64)[places]
        self._parents = {number: number for number in self._open}
        large = [region for region in finished if region.pixels >= self.least_pixels]
        self.left_out += len(finished) - len(large)
        return [region.close() for region in large]


def _outlines(labels: NDArray[np.int32], window: Window) -> Iterator[tuple[shapely.Polygon, int]]:
    """Yield the polygon of each region, in pixel coordinates of the whole mask, in the order of the labels."""
    place = Affine.translation(window.col_off, window.row_off)
    found = {}
    for geometry, label in shapes(labels, mask=labels > 0, connectivity=4, transform=place):
        outer, *holes = geometry["coordinates"]
        polygon = shapely.Polygon(outer, holes)
        # GDAL can draw a hole that touches the outside in one point as a part of the outer ring.
        found[int(label)] = polygon if polygon.is_valid else shapely.make_valid(polygon, method="structure")
    for label in sorted(found):
        yield found[label], label


def _canonical(outline: shapely.Polygon) -> shapely.Polygon:
    """Return the canonical form of a polygon: rings start at a corner, and vertices lie only at corners."""
    return shapely.normalize(shapely.simplify(shapely.normalize(outline), 0, preserve_topology=True))
