"""Clouds, cloud shadows and snow in a scene, detected by brightness or read from a classification or mask."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.files import Closable
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import PixelRange
from zoo.physics.display import bright_regions
from zoo.rasters.alignment import AlignedBand
from zoo.rasters.colours import survey_step
from zoo.rasters.grid import grid_box, share_outside
from zoo.rasters.layers import BandFile, open_layer
from zoo.rasters.optical import CLOUDY, are_classes
from zoo.rasters.reading import RasterReader, window_of
from zoo.rasters.stacks import cells_at

SCL_KINDS = {"cloud": (8, 9, 10), "cloud shadow": (3,), "snow": (11,)}
"""Classes of the scene classification that are reported by name."""

HIDDEN_CLASSES = (*CLOUDY, 11)
"""Classes of the scene classification that are not mapped: those of :data:`zoo.rasters.optical.CLOUDY`, and snow, which
hides landslides [O]."""

SAMPLE = 1024
"""Side in pixels of the sample of a mask in which classes are counted."""

MIN_REPORTED_SHARE = 0.001
"""Share of a scene above which bright areas are reported."""


class Clouds(Closable):
    """The hidden pixels of a scene; a context manager.

    Args:
        scene: an open scene.
        file: raster of Sentinel-2 scene classes (SCL, 0 to 11), or of 0 (clear) and 1 (hidden), in any projection and
            pixel size; None for the raster of the scene's product, if it has one. Nodata counts as hidden, but 0 in a
            mask is clear even if a tag declares it as nodata.
        mask_bright: exclude bright white areas from the map.

    Raises:
        DataError: if the file cannot be read, does not overlap the scene, has several bands, or holds other values.

    Attributes:
        bright_share: share of the scene's pixels with data that are bright and white; None if it has no colours.
        file: the file in use; None for none.
        mask_bright: the argument.
        sentences: findings, in sentences.
    """

    def __init__(self, scene: Scene, *, file: str | os.PathLike[str] | None = None, mask_bright: bool = False) -> None:
        self._exits = ExitStack()
        self.mask_bright = mask_bright
        self._step = survey_step(scene.shape)
        self._cells, self.bright_share = _bright_regions(scene, self._step)
        product = None if scene.product is None else scene.product.classes
        self.file: str | None = product if file is None else os.fspath(file)
        self._band: AlignedBand | None = None
        self._hidden: tuple[int, ...] = ()
        self._nodata_hides = True
        sentences = []
        if self.file is not None:
            try:
                sentences += self._open(scene, self.file)
            except BaseException:
                self._exits.close()
                raise
        self.sentences: tuple[str, ...] = tuple(sentences)

    def _open(self, scene: Scene, file: str) -> list[str]:
        layer = open_layer("scl", BandFile(file))
        grid = grid_box(scene.mosaic)
        left, bottom, right, top = layer.bounds(scene.mosaic.crs)
        box = grid.boundingbox
        if left >= box.right or right <= box.left or bottom >= box.top or top <= box.bottom:
            raise DataError("does not overlap the scene", where=file, hint="Name a cloud mask of this scene")
        with RasterReader(file, classes=True) as reader:
            if len(reader.bands) > 1:
                raise DataError(
                    f"has {len(reader.bands)} bands, and it is unknown which of them is the mask",
                    where=file,
                    hint="Save it as a separate file: gdal_translate -b 1 IN OUT",
                )
            values = reader.sample(1, SAMPLE)
            nodata = 1 - values.size / math.prod(min(SAMPLE, side) for side in reader.shape)
        found, counts = np.unique(values, return_counts=True)
        if not len(found) or not are_classes(found):
            extent = "nothing" if not len(found) else f"{found.min():g} to {found.max():g}"
            raise DataError(
                f"holds {extent}, which is neither a Sentinel-2 scene classification (0 to 11) nor a mask (0 and 1)",
                where=file,
                hint="Write 1 where the ground is hidden and 0 elsewhere",
            )
        self._band = self._exits.enter_context(AlignedBand(layer, grid))
        share = dict(zip(found.astype(int).tolist(), (counts / counts.sum()).tolist(), strict=True))
        name = Path(file).name
        outside = share_outside(layer, scene.mosaic)
        rest = [f"{name} does not cover about {outside:.1%} of the scene: those parts count as clear"]
        rest = rest if outside >= MIN_REPORTED_SHARE else []
        if nodata >= MIN_REPORTED_SHARE and (found.max() > 1 or layer.nodata != 0):
            rest.append(f"{name}: {nodata:.1%} of it is nodata and left out of the map")
        if found.max() <= 1:
            self._hidden = (1,)
            # Tools that rasterise polygons declare the background as nodata.
            self._nodata_hides = layer.nodata != 0
            return [f"{name}: {share.get(1, 0.0) * (1 - nodata):.1%} of it is marked as hidden", *rest]
        self._hidden = HIDDEN_CLASSES
        known = 1 - share.get(0, 0.0)
        kinds = {kind: sum(share.get(number, 0.0) for number in classes) / known for kind, classes in SCL_KINDS.items()}
        return [f"{name}: {', '.join(f'{part:.1%} {kind}' for kind, part in kinds.items())}", *rest]

    @property
    def masks(self) -> bool:
        """Whether any pixel can be excluded from the map."""
        return self._band is not None or (self.mask_bright and self._cells is not None)

    def warning(self) -> str:
        """Return a warning for readers of the map; empty if there is none."""
        share = self.bright_share or 0.0
        if share < MIN_REPORTED_SHARE or self.masks:
            return ""
        return (
            f"about {share:.1%} of the scene is bright and white: clouds or snow, which the model may take for "
            f"landslides. "
            "Leave them out with --mask-clouds, or with a classification: --cloud-mask SCL.tif"
        )

    def hidden(self, rows: PixelRange, columns: PixelRange) -> NDArray[np.bool_]:
        """Return the mask of pixels to exclude from the map, bool (rows, columns).

        Raises:
            DataError: if the file is truncated.
        """
        found = np.zeros((len(rows), len(columns)), dtype=bool)
        if self.mask_bright:
            found |= self.bright(rows, columns)
        if self._band is not None:
            window = window_of((rows.start, rows.stop), (columns.start, columns.stop))
            classes = self._band.read(window)
            found |= np.isin(classes, self._hidden)
            unknown = np.isnan(classes)
            if self._nodata_hides and unknown.any():
                found |= unknown & self._band.covers(window)
        return found

    def bright(self, rows: PixelRange, columns: PixelRange) -> NDArray[np.bool_]:
        """Return the mask of bright white areas, bool (rows, columns)."""
        if self._cells is None:
            return np.zeros((len(rows), len(columns)), dtype=bool)
        return cells_at(
            self._cells, self._step, np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop)
        )

    @property
    def tags(self) -> dict[str, str]:
        """Tags for the map."""
        found = {} if self.file is None else {"CLOUD_MASK": Path(self.file).name}
        return {**found, **({"BRIGHT_CLOUDS": "left out"} if self.mask_bright else {})}

    def identity(self) -> dict[str, Any]:
        """Return the inputs that a map depends on, as JSON values."""
        if self.file is None:
            return {"bright": self.mask_bright}
        path = Path(self.file)
        state = [path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else []
        return {"bright": self.mask_bright, "file": self.file, "state": state}

    def close(self) -> None:
        """Close the file."""
        self._exits.close()


def _bright_regions(scene: Scene, step: int) -> tuple[NDArray[np.bool_] | None, float | None]:
    """Return the squares of large bright regions with their edge, and the regions' share of the pixels with data."""
    colours = scene.colours
    if colours is None:
        return None, None
    regions, share = bright_regions(scene.overview(step)[colours], step)
    return regions if share else None, share
