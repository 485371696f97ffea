"""A band as if it lay on the stack's grid, read window by window."""

from __future__ import annotations

import math
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from zoo.rasters.grid import grid_crs
from zoo.rasters.layers import Layer, opened, readable

CLASSES = frozenset({"scl"})
"""Roles whose numbers are names of classes: nothing lies between two of them."""

_SAME_LATTICE = 0.01
"""Pixels by which two grids may differ at the far corner and still count as one."""


class AlignedBand:
    """One layer on one grid; a context manager.

    A layer that already lies on the grid's lattice is read as it is. Any other goes through GDAL's warper: classes by
    the nearest pixel, quantities bilinearly where the grid is as fine or finer, and as the mean of the pixels below
    where it is coarser.

    Args:
        layer: what to read.
        grid: where to.

    Raises:
        DataError: if the file cannot be opened.

    Attributes:
        resampling: "none", "nearest", "bilinear" or "average".
    """

    def __init__(self, layer: Layer, grid: GeoBox) -> None:
        self.layer, self.grid = layer, grid
        self._shift = _shift(layer, grid)
        self.resampling = "none" if self._shift is not None else _method(layer, grid)
        self._stack = ExitStack()
        try:
            self._source: Any = self._stack.enter_context(opened(layer.path))
            self._index = layer.file.band
            flags = self._source.mask_flag_enums[self._index - 1]
            # GDAL takes alpha for a mask only in bands of whole numbers.
            alphas = [i for i, kind in enumerate(self._source.colorinterp, 1) if kind == ColorInterp.alpha]
            self._alpha: int = alphas[0] if alphas and alphas[0] != self._index else 0
            self._masked = bool(self._alpha) or MaskFlags.per_dataset in flags
            if self._shift is None:
                # GDAL warps every band of a file for the sake of one; alpha and masks would be lost with the others.
                if self._source.count > 1 and not self._masked and "?" not in layer.path:
                    self._source = self._stack.enter_context(opened(f"vrt://{layer.path}?bands={self._index}"))
                    self._index = 1
                self._source = self._stack.enter_context(self._warped(self._source))
        except BaseException:
            self._stack.close()
            raise

    def _warped(self, source: Any) -> Any:
        nodata = self.layer.nodata
        # GDAL looks at alpha and masks only where no number is said to mean nothing.
        if nodata is None and self.layer.dtype.kind == "f" and not self._masked:
            nodata = math.nan
        rows, columns = self.grid.shape
        return WarpedVRT(
            source,
            crs=grid_crs(self.grid),
            transform=self.grid.transform,
            width=columns,
            height=rows,
            resampling=Resampling[self.resampling],
            src_nodata=nodata,
            src_alpha=self._alpha,
            nodata=math.nan,
            dtype="float32",
            tolerance=0.01,
            warp_mem_limit=64,
        )

    def read(self, window: Window) -> NDArray[np.float32]:
        """Give the numbers in the file for a window of the grid.

        Args:
            window: within the grid.

        Returns:
            float32 (rows, columns), NaN where the file has nothing.

        Raises:
            DataError: if the file is truncated there.
        """
        with readable(self.layer.path):
            if self._shift is None:
                warped: NDArray[np.float32] = self._source.read(self._index, window=window)
                return warped
            return self._read_as_is(window)

    def _read_as_is(self, window: Window) -> NDArray[np.float32]:
        assert self._shift is not None
        rows, columns = self.layer.shape
        top, left = window.row_off + self._shift[0], window.col_off + self._shift[1]
        first = (max(top, 0), max(left, 0))
        last = (min(top + window.height, rows), min(left + window.width, columns))
        values = np.full((window.height, window.width), np.nan, dtype=np.float32)
        if first[0] >= last[0] or first[1] >= last[1]:
            return values
        part = Window(first[1], first[0], last[1] - first[1], last[0] - first[0])
        found = self._source.read(self._index, window=part)
        numbers = found.astype(np.float32)
        nodata = self.layer.nodata
        if nodata is not None and not math.isnan(nodata):
            numbers[found == (np.float32(nodata) if found.dtype == np.float32 else nodata)] = np.nan
        if self._masked:
            mask = self._source.read(self._alpha, window=part) if self._alpha else self._mask(part)
            numbers[mask == 0] = np.nan
        values[first[0] - top : last[0] - top, first[1] - left : last[1] - left] = numbers
        return values

    def _mask(self, window: Window) -> NDArray[np.uint8]:
        mask: NDArray[np.uint8] = self._source.read_masks(self._index, window=window)
        return mask

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def __enter__(self) -> AlignedBand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def windows(grid: GeoBox, size: int) -> list[Window]:
    """Windows of at most ``size`` x ``size`` pixels that cover each pixel of a grid once, line by line."""
    rows, columns = grid.shape
    return [
        Window(column, row, min(size, columns - column), min(size, rows - row))
        for row in range(0, rows, size)
        for column in range(0, columns, size)
    ]


def _shift(layer: Layer, grid: GeoBox) -> tuple[int, int] | None:
    """Rows and columns from the grid's pixels to the layer's, None when they do not coincide."""
    if layer.crs != grid_crs(grid):
        return None
    between = ~layer.transform * grid.transform
    rows, columns = grid.shape
    turned = max(abs(between.b) * rows, abs(between.d) * columns)
    drift = max(abs(between.a - 1) * columns, abs(between.e - 1) * rows, turned)
    row, column = round(between.f), round(between.c)
    if max(drift, abs(between.f - row), abs(between.c - column)) > _SAME_LATTICE:
        return None
    return row, column


def _method(layer: Layer, grid: GeoBox) -> str:
    if layer.role in CLASSES:
        return "nearest"
    box = grid.boundingbox
    width, height = layer.pixel_size_in(grid_crs(grid), ((box.left + box.right) / 2, (box.bottom + box.top) / 2))
    transform: Affine = grid.transform
    # A few per cent are a change of projection, not of scale.
    return "average" if transform.a * -transform.e > width * height * 1.1 else "bilinear"
