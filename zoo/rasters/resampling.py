"""Resampling of a scene to another pixel size: mean of finer pixels, linear interpolation between coarser ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window
from scipy import sparse

from zoo.errors import DataError
from zoo.physics.bands import Band
from zoo.rasters.grid import MAX_PIXELS
from zoo.rasters.ground import ground_size, window_bounds
from zoo.rasters.stacks import Mosaic

MIN_VALID_WEIGHT = 0.5
"""Minimum share of valid weight for a pixel to be valid [O]."""

MAX_PIXELS_PER_READ = 2**22
"""Maximum pixels of the scene per read."""


class ResampledMosaic:
    """A :class:`Mosaic` with another pixel size on the ground, in the same projection and from the same corner.

    A pixel that covers several pixels of the scene is their area-weighted mean. A smaller one is interpolated linearly
    between the four nearest. Missing pixels have no weight.

    Args:
        mosaic: the scene; :meth:`close` closes it.
        pixel_size: side of the new pixels in metres.

    Raises:
        DataError: if the new grid would be too large.

    Attributes:
        crs, transform, shape: properties of the new grid.
        pixel_size: side of its pixels in metres.
    """

    def __init__(self, mosaic: Mosaic, pixel_size: float) -> None:
        self._mosaic = mosaic
        bounds = window_bounds(mosaic.transform, mosaic.shape)
        side = mosaic.pixel_size
        found = ground_size(mosaic.crs, bounds, mosaic.shape) if side is None else (side, side)
        self._down, self._across = pixel_size / found[0], pixel_size / found[1]
        rows = max(1, round(mosaic.shape[0] / self._down))
        columns = max(1, round(mosaic.shape[1] / self._across))
        if rows * columns > MAX_PIXELS:
            raise DataError(f"would have {rows:,} x {columns:,} pixels of {pixel_size:g} m", where=mosaic.paths[0])
        self.shape: tuple[int, int] = (rows, columns)
        self.crs: CRS = mosaic.crs
        self.transform: Affine = mosaic.transform * Affine.scale(self._across, self._down)
        self.pixel_size: float | None = pixel_size

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands of the scene."""
        return self._mosaic.bands

    @property
    def tags(self) -> Mapping[str, str]:
        """Tags of the first file."""
        return self._mosaic.tags

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the files as given."""
        return self._mosaic.paths

    @property
    def files(self) -> tuple[str, ...]:
        """See :attr:`Mosaic.files`."""
        return self._mosaic.files

    @property
    def code_notes(self) -> tuple[str, ...]:
        """See :attr:`Mosaic.code_notes`."""
        return self._mosaic.code_notes

    def read(self, window: Window, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return a window of the new grid; see :meth:`Mosaic.read`. Values do not depend on the window."""
        wanted = range(len(self.bands)) if bands is None else bands
        image = np.empty((len(wanted), window.height, window.width), dtype=np.float32)
        width = max(1.0, self._across) * window.width
        step = max(1, int(MAX_PIXELS_PER_READ / (width * max(1.0, self._down))))
        for first in range(0, window.height, step):
            count = min(step, window.height - first)
            part = Window(window.col_off, window.row_off + first, window.width, count)
            image[:, first : first + count] = self._part(part, list(wanted))
        return image

    def overview(self, step: int, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return about every ``step``-th pixel of the new grid; see :meth:`Mosaic.overview`."""
        own = max(1, round(step * min(self._down, self._across)))
        coarse = self._mosaic.overview(own, bands)
        places = []
        for side, factor, length in zip(self.shape, (self._down, self._across), coarse.shape[1:], strict=True):
            centres = (np.arange(0, side, step) + 0.5) * factor / own
            places.append(np.minimum(centres.astype(int), length - 1))
        found: NDArray[np.float32] = coarse[:, places[0][:, None], places[1][None, :]]
        return found

    def _part(self, window: Window, bands: list[int]) -> NDArray[np.float32]:
        rows, top = _weights(window.row_off, window.height, self._down, self._mosaic.shape[0])
        columns, left = _weights(window.col_off, window.width, self._across, self._mosaic.shape[1])
        seen = self._mosaic.read(Window(left, top, columns.shape[1], rows.shape[1]), bands)
        image = np.empty((len(bands), window.height, window.width), dtype=np.float32)
        for found, values in zip(image, seen, strict=True):
            known = np.isfinite(values)
            sums = _apply(rows, columns, np.where(known, values, 0))
            weights = _apply(rows, columns, known.astype(np.float64))
            # Infinite values must remain infinite, so that the map reports them.
            with np.errstate(divide="ignore", invalid="ignore"):
                found[...] = np.where(weights >= MIN_VALID_WEIGHT - 1e-9, sums / weights, np.nan)
            if np.isinf(values).any():
                found[_apply(rows, columns, np.isinf(values).astype(np.float64)) > 0] = np.inf
        return image

    def close(self) -> None:
        """Close the files."""
        self._mosaic.close()


def _apply(rows: Any, columns: Any, values: NDArray[Any]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (columns @ (rows @ values.astype(np.float64)).T).T
    return found


def _weights(first: int, count: int, factor: float, length: int) -> tuple[Any, int]:
    """Return the weights of the scene's pixels along one side, sparse (count, pixels), and the first of these pixels.

    Args:
        first: index of the first new pixel.
        count: number of new pixels.
        factor: pixels of the scene per new pixel.
        length: pixels of the scene along this side.
    """
    numbers = np.arange(first, first + count, dtype=np.float64)
    if factor >= 1:
        start = np.minimum(numbers * factor, length - 1)
        stop = np.minimum((numbers + 1) * factor, length)
        pixels = np.floor(start)[:, None] + np.arange(int(np.ceil(factor)) + 1)
        weights = np.minimum(stop[:, None], pixels + 1) - np.maximum(start[:, None], pixels)
        weights = np.clip(weights, 0, None)
    else:
        place = (numbers + 0.5) * factor - 0.5
        pixels = np.floor(place)[:, None] + np.arange(2)
        weights = 1 - np.abs(place[:, None] - pixels)
    pixels = np.clip(pixels, 0, length - 1).astype(np.int64)
    weights = weights / weights.sum(axis=1, keepdims=True)
    top = int(pixels.min())
    rows = np.repeat(np.arange(count), pixels.shape[1])
    shape = (count, int(pixels.max()) - top + 1)
    return sparse.csr_matrix((weights.ravel(), (rows, pixels.ravel() - top)), shape=shape), top
