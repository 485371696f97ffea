"""Where patches lie on a raster, and which of its pixels are in any of the patches that were kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from zoo.errors import ConfigError


@dataclass(frozen=True)
class Grid:
    """Square patches laid over a raster from its upper left corner.

    The last row and column may reach beyond the raster, so that no ground at its edges is lost; what is beyond is
    nodata in the image and ignored in the mask [O].

    Args:
        shape: (rows, columns) of the raster in pixels.
        size: side of a patch in pixels.
        stride: pixels from one patch to the next, at most ``size``; equal to it, each pixel is in one patch.

    Raises:
        ConfigError: if size or stride are out of range.
    """

    shape: tuple[int, int]
    size: int
    stride: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"a patch of {self.size} pixels", where="option size")
        if not 1 <= self.stride <= self.size:
            raise ConfigError(
                f"a stride of {self.stride} with patches of {self.size} pixels",
                where="option stride",
                hint="From 1 to the size of a patch: more would skip ground, and landslides with it",
            )

    @property
    def rows(self) -> int:
        """Patches from top to bottom."""
        return self._count(self.shape[0])

    @property
    def columns(self) -> int:
        """Patches from left to right."""
        return self._count(self.shape[1])

    def __len__(self) -> int:
        return self.rows * self.columns

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(row, column) of each patch, in patches, line by line."""
        return ((row, column) for row in range(self.rows) for column in range(self.columns))

    def window(self, row: int, column: int) -> Window:
        """The part of a patch that lies on the raster, in pixels; it begins at the patch's upper left corner."""
        top, left = row * self.stride, column * self.stride
        return Window(left, top, min(self.size, self.shape[1] - left), min(self.size, self.shape[0] - top))

    def _count(self, length: int) -> int:
        return 1 + max(0, -(-(length - self.size) // self.stride))


class Coverage:
    """Counts pixels once, though patches overlap.

    The edges of all patches divide the raster into cells, and a patch covers whole cells. A count per cell is all
    that has to be remembered, however large the raster.

    Args:
        grid: the patches.
    """

    def __init__(self, grid: Grid) -> None:
        self._edges = tuple(
            np.unique(
                [
                    min(length, edge)
                    for index in range(count)
                    for edge in (index * grid.stride, index * grid.stride + grid.size)
                ]
            )
            for length, count in zip(grid.shape, (grid.rows, grid.columns), strict=True)
        )
        cells = (len(self._edges[0]) - 1, len(self._edges[1]) - 1)
        self._counts = np.zeros(cells, np.int64)
        self._kept = np.zeros(cells, bool)

    def count(self, window: Window, pixels: NDArray[np.bool_]) -> None:
        """Note which pixels of a patch matter; what an overlapping patch has said of them is said again.

        Args:
            window: the patch's part of the raster.
            pixels: bool, of the window's shape.
        """
        rows, columns, starts = self._cells(window)
        sums = np.add.reduceat(np.add.reduceat(pixels.astype(np.int64), starts[0], axis=0), starts[1], axis=1)
        self._counts[rows, columns] = sums

    def keep(self, window: Window) -> None:
        """Note that a patch is kept."""
        rows, columns, _ = self._cells(window)
        self._kept[rows, columns] = True

    @property
    def total(self) -> int:
        """Pixels that matter, each counted once."""
        return int(self._counts.sum())

    @property
    def kept(self) -> int:
        """Those of them that are in at least one patch that was kept."""
        return int(self._counts[self._kept].sum())

    def _cells(self, window: Window) -> tuple[slice, slice, tuple[NDArray[np.intp], NDArray[np.intp]]]:
        slices, starts = [], []
        spans = ((window.row_off, window.height), (window.col_off, window.width))
        for edges, (offset, length) in zip(self._edges, spans, strict=True):
            first, last = np.searchsorted(edges, (offset, offset + length))
            slices.append(slice(int(first), int(last)))
            starts.append(edges[first:last] - offset)
        return slices[0], slices[1], (starts[0], starts[1])
