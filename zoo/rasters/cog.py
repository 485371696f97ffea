"""A raster written window by window, then published as a cloud-optimised GeoTIFF, whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.windows import Window

from zoo.files import atomic_path
from zoo.physics.bands import Band
from zoo.rasters.grid import grid_crs
from zoo.rasters.reading import small_cache
from zoo.rasters.writing import check_room, working_folder, writing

TILE = 512

ROOM = 2.5
"""Times the bytes of the working file: its overviews are a third more, the finished file at most as much again."""

CREATION = {
    # Deflate with the floating-point predictor is what every GDAL build since 2008 reads; ZSTD is not in all of them.
    "COMPRESS": "DEFLATE",
    "PREDICTOR": "FLOATING_POINT",
    "LEVEL": "1",  # one or two per cent larger than level 6, in half the time: noise does not compress
    "BLOCKSIZE": str(TILE),
    "BIGTIFF": "IF_SAFER",
    "NUM_THREADS": "ALL_CPUS",
}


class StackWriter:
    """Bands of float32 on one grid, written and read again by windows; a context manager.

    The working file lies in a hidden folder beside ``path``, which goes when the block ends, Ctrl-C included. ``path``
    appears only with :meth:`publish`.

    Args:
        path: of the finished file.
        grid: of all bands.
        bands: names, units and valid ranges, in the order of the file.

    Raises:
        ZooError: if the folder cannot be written to, or its disk has less room than the working file needs.
    """

    def __init__(self, path: Path, grid: GeoBox, bands: Sequence[Band]) -> None:
        self.path, self.grid, self.bands = path, grid, tuple(bands)
        self._exits = ExitStack()
        self._file: Any = None
        try:
            self._open()
        except BaseException:
            self._exits.close()
            raise

    def _open(self) -> None:
        self._folder = Path(self._exits.enter_context(working_folder(self.path)))
        rows, columns = self.grid.shape
        self._bytes = len(self.bands) * -(-rows // TILE) * -(-columns // TILE) * TILE * TILE * 4
        check_room(self.path, ROOM * self._bytes, self._folder)
        self._work = self._folder / "work.tif"
        self._exits.enter_context(small_cache())
        with writing(self.path):
            self._file = rasterio.open(
                self._work,
                "w+",
                driver="GTiff",
                width=columns,
                height=rows,
                count=len(self.bands),
                dtype="float32",
                crs=grid_crs(self.grid),
                transform=self.grid.transform,
                nodata=np.nan,
                tiled=True,
                blockxsize=TILE,
                blockysize=TILE,
                interleave="band",
                bigtiff="IF_SAFER",
            )

    def write(self, name: str, values: NDArray[np.float32], window: Window) -> None:
        """Write a window of the band ``name``; NaN is nodata.

        Raises:
            ZooError: if the disk is full.
        """
        with writing(self.path):
            self._file.write(values, self._index(name), window=window)

    def read(self, name: str, window: Window) -> NDArray[np.float32]:
        """Read a window of the band ``name`` again."""
        with writing(self.path):
            values: NDArray[np.float32] = self._file.read(self._index(name), window=window)
        return values

    def publish(self, tags: Mapping[str, str], band_tags: Mapping[str, Mapping[str, str]]) -> None:
        """Turn what was written into a cloud-optimised GeoTIFF under the final name.

        Args:
            tags: of the file.
            band_tags: by band name.

        Raises:
            ZooError: if the disk is full.
        """
        with writing(self.path):
            self._file.update_tags(**tags)
            for band in self.bands:
                index = self._index(band.name)
                self._file.set_band_description(index, band.name)
                self._file.set_band_unit(index, band.unit)
                self._file.update_tags(index, **band_tags[band.name])
            rows, columns = self.grid.shape
            # Made here, where a tile is changed in place: the COG driver's own are compressed, and each tile that falls
            # out of the small cache before it is full is compressed and appended once more.
            self._file.build_overviews(overview_factors((rows, columns)), Resampling.average)
            self._file.close()
            # GDAL flushes its cache as it closes and reports no error of that: count what has arrived.
            if self._work.stat().st_size < self._bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finished = self._folder / "finished.tif"
            rasterio.shutil.copy(self._work, finished, driver="COG", **CREATION)
        with atomic_path(self.path) as temporary:
            finished.replace(temporary)

    def _index(self, name: str) -> int:
        return [band.name for band in self.bands].index(name) + 1

    def close(self) -> None:
        """Remove the working files."""
        try:
            if self._file is not None:
                self._file.close()
        finally:
            self._exits.close()

    def __enter__(self) -> StackWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def overview_factors(shape: tuple[int, int]) -> list[int]:
    """Powers of two until the whole fits into one tile, as the COG driver has them."""
    factors = []
    factor = 2
    while max(shape) > TILE * factor // 2:
        factors.append(factor)
        factor *= 2
    return factors
