"""The scene of a map: its rasters as one grid, in the bands that the bundle takes."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError, suggestion
from zoo.mapping.tiling import Reach
from zoo.physics.bands import Band
from zoo.rasters.ground import ground_size, window_bounds
from zoo.rasters.reading import window_of
from zoo.rasters.stacks import Mosaic
from zoo.training.bundle import same_pixel_size

UNKNOWN = "unknown"
"""Unit of a band whose file does not state it."""

PROBES, PROBE = 16, 32
"""Number and side in pixels of the windows by which a scene behind an address is recognised."""


class Scene:
    """Rasters of one grid in the bands of a model; a context manager.

    Bands are matched by name and unit, in any order and any file; other bands are not read.

    Args:
        paths: one raster or VRT, or several that lie side by side or hold different bands; see
            :class:`zoo.rasters.stacks.Mosaic`.
        bands: bands of the model, in its order.
        names: names of the rasters' bands, in the order of the first file and then of what the others add, if the
            files do not name them. Their units are then those of ``bands``.

    Raises:
        ZooError: if the rasters cannot be read as one, lack a band, or hold it in another unit.

    Attributes:
        mosaic: the rasters.
        bands: the bands of the model.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        bands: Sequence[Band],
        *,
        names: Sequence[str] | None = None,
    ) -> None:
        self.mosaic = Mosaic(paths)
        self.bands = tuple(bands)
        try:
            if names is not None:
                self.mosaic.rename(names, {band.name: band.unit for band in bands})
            self._order = match_bands(self.bands, self.mosaic.bands, self.mosaic.paths[0])
        except BaseException:
            self.mosaic.close()
            raise

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.mosaic.shape

    @property
    def stem(self) -> str:
        """Name of the first file without its suffix."""
        return Path(self.mosaic.paths[0]).stem

    def read(self, rows: Reach, columns: Reach) -> NDArray[np.float32]:
        """Return pixels, float32 (C, rows, columns) in the order of ``bands``, NaN where there is no data."""
        image = self.mosaic.read(window_of((rows.start, rows.stop), (columns.start, columns.stop)), self._order)
        hide_nodata(image, self.bands)
        return image

    def check_pixel_size(self, trained: float | None) -> None:
        """Check that the scene's pixels have about the size of those that the model was trained on.

        Args:
            trained: side of a pixel of the training data in metres; None if it is unknown, and nothing is checked.

        Raises:
            DataError: if the sizes differ by more than :data:`zoo.training.bundle.SIZE_TOLERANCE`.
        """
        if trained is None:
            return
        mosaic = self.mosaic
        found = math.sqrt(math.prod(ground_size(mosaic.crs, window_bounds(mosaic.transform, self.shape), self.shape)))
        # Training data in a projection such as Web Mercator state the size on the map, which is not that on the ground.
        if any(same_pixel_size(size, trained) for size in (found, mosaic.pixel_size) if size is not None):
            return
        raise DataError(
            f"has pixels of {found:.3g} m, but the bundle was trained on pixels of {trained:.3g} m",
            where=mosaic.paths[0],
            hint=f"Resample it (gdalwarp -tr {trained:g} {trained:g} in metres), or map it as it is with "
            "--any-pixel-size",
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about values that were read as missing although no tag says so."""
        return self.mosaic.code_notes

    def identity(self) -> dict[str, Any]:
        """Return what tells this scene from another, and from an earlier version of itself.

        Files are recognised by size and time of change. An address states neither, so a few windows of pixels are read.
        """
        files = []
        for name in self.mosaic.files:
            path = Path(name)
            if not path.exists():
                return {"paths": list(self.mosaic.paths), "shape": list(self.shape), "pixels": self._probe()}
            state = path.stat()
            files.append([str(path.resolve()), state.st_size, state.st_mtime_ns])
        return {"files": files, "shape": list(self.shape)}

    def _probe(self) -> str:
        digest = hashlib.sha256()
        height, width = self.shape
        generator = np.random.default_rng(0)
        for _ in range(PROBES):
            row = int(generator.integers(0, max(1, height - PROBE + 1)))
            column = int(generator.integers(0, max(1, width - PROBE + 1)))
            pixels = self.read(Reach(row, min(row + PROBE, height)), Reach(column, min(column + PROBE, width)))
            digest.update(np.ascontiguousarray(pixels).tobytes())
        return digest.hexdigest()

    def close(self) -> None:
        """Close the files."""
        self.mosaic.close()

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def hide_nodata(image: NDArray[np.float32], bands: Sequence[Band]) -> None:
    """Replace the nodata value of each band by NaN, in place; ``image`` is float32 (C, rows, columns)."""
    for values, band in zip(image, bands, strict=True):
        if band.nodata is not None and not math.isnan(band.nodata):
            values[values == np.float32(band.nodata)] = np.nan


def match_bands(wanted: Sequence[Band], found: Sequence[Band], where: object) -> list[int]:
    """Return the position of each wanted band among those found.

    Args:
        wanted: bands of the model.
        found: bands of the scene.
        where: the scene, for errors.

    Raises:
        DataError: if bands are missing or one is in another unit; the message names them.
    """
    places = {band.name: number for number, band in enumerate(found)}
    missing = [band.name for band in wanted if band.name not in places]
    if missing:
        nameless = all(band.name == f"band_{number}" for number, band in enumerate(found, 1))
        listed = ", ".join(missing)
        if nameless and len(found) >= len(wanted):
            hint = f"Its bands have no names. If you know them, name them in order: --bands {listed.replace(' ', '')}"
        else:
            hint = f"The bundle takes {_listed(wanted)}; the scene has {_listed(found)}"
            if len(missing) == 1:
                near = suggestion(missing[0], places)
                hint = f"{near} {hint}" if near.startswith("Did you mean") else hint
        raise DataError(f"has no band {listed}", where=where, hint=hint)
    for band in wanted:
        other = found[places[band.name]]
        if other.unit == band.unit:
            continue
        if other.unit == UNKNOWN:
            raise DataError(
                f"band {band.name} does not state its unit, but the bundle takes {band.unit}",
                where=where,
                hint="If its values are in the units of the bundle, name all bands in order: --bands "
                + ",".join(one.name for one in found),
            )
        raise DataError(
            f"band {band.name} is in {other.unit}, but the bundle takes {band.unit}",
            where=where,
            hint="Convert it, or make the scene as the training data were made (zoo stack)",
        )
    return [places[band.name] for band in wanted]


def _listed(bands: Sequence[Band]) -> str:
    return ", ".join(f"{band.name} [{band.unit}]" for band in bands)
