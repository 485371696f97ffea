"""One patch as files: an image and a mask that are georeferenced and say what their bands are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import Affine

from zoo.errors import ZooError
from zoo.rasters.reading import first_line
from zoo.rasters.stacks import TAG_DATE, TAG_PHASE, TAG_SCENE, Stack

IGNORE = 255
"""Mask value of pixels that count nowhere: nodata, beyond the raster, or a landslide of which the date is unknown."""

TABLE = "tiles.csv"
COLUMNS = ("tile", "scene", "row", "col", "date", "phase", "landslide_pixels", "valid_share", "x", "y")


@dataclass(frozen=True)
class Patch:
    """One place on a scene, cut.

    Attributes:
        row: line in patches, from 0.
        column: column in patches, from 0.
        image: float32 (C, size, size), NaN where missing.
        mask: uint8 (size, size): 0, 1, and :data:`IGNORE`.
        valid_share: pixels at which every band is known, over size x size.
        landslide_pixels: pixels of the mask that are 1.
        origin: coordinates of the upper left corner.
    """

    row: int
    column: int
    image: NDArray[np.float32]
    mask: NDArray[np.uint8]
    valid_share: float
    landslide_pixels: int
    origin: tuple[float, float]


@dataclass(frozen=True)
class PatchFiles:
    """Writes the patches of one scene.

    Args:
        folder: holds ``images`` and ``masks``.
        stack: what is cut; its names, units, valid ranges and tags go with every patch.
        scene: name of the scene.
        slug: begins the name of each file.
        date: ISO date, "" when unknown.
        phase: "pre" or "post".
        digits: of rows and columns in file names.
    """

    folder: Path
    stack: Stack
    scene: str
    slug: str
    date: str
    phase: str
    digits: int

    def write(self, patch: Patch) -> tuple[str | int | float, ...]:
        """Write image and mask.

        Returns:
            The row of the table, in the order of :data:`COLUMNS`.

        Raises:
            ZooError: if a file cannot be written.
        """
        name = f"{self.slug}_{patch.row:0{self.digits}}_{patch.column:0{self.digits}}.tif"
        ours = self.stack.transform
        x, y = patch.origin
        transform = Affine(ours.a, 0.0, x, 0.0, ours.e, y)
        about = {TAG_SCENE: self.scene, TAG_DATE: self.date, TAG_PHASE: self.phase}
        place = {"PATCH_ROW": str(patch.row), "PATCH_COL": str(patch.column)}
        tags = {**self._kept(self.stack.tags), **{key: text for key, text in about.items() if text}, **place}
        try:
            with _create(self.folder / "images" / name, patch.image, self.stack.crs, transform, np.nan) as image:
                image.write(patch.image)
                image.update_tags(**tags)
                image.units = ["" if band.unit == "unknown" else band.unit for band in self.stack.bands]
                for index, band in enumerate(self.stack.bands):
                    image.set_band_description(index + 1, band.name)
                    image.update_tags(index + 1, **self._kept(self.stack.band_tags(index)))
            with _create(self.folder / "masks" / name, patch.mask[None], self.stack.crs, transform, IGNORE) as mask:
                mask.write(patch.mask, 1)
                mask.set_band_description(1, "landslide")
                mask.update_tags(**{key: text for key, text in about.items() if text}, **place)
        except (RasterioError, OSError) as error:
            raise ZooError(
                f"cannot write a patch ({first_line(error)})", where=self.folder, hint="Is the disk full?"
            ) from error
        return (
            name,
            self.scene,
            patch.row,
            patch.column,
            self.date,
            self.phase,
            patch.landslide_pixels,
            round(patch.valid_share, 4),
            x,
            y,
        )

    @staticmethod
    def _kept(tags: Any) -> dict[str, str]:
        """Tags that are as true of a part as of the whole."""
        return {key: text for key, text in tags.items() if not key.startswith(("STATISTICS_", "AREA_OR_POINT", "OVR_"))}


def _create(path: Path, values: NDArray[Any], crs: CRS, transform: Affine, nodata: float) -> Any:
    return rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=values.shape[0],
        height=values.shape[1],
        width=values.shape[2],
        dtype=values.dtype,
        crs=crs,
        transform=transform,
        nodata=nodata,
        compress="deflate",
        predictor=3 if values.dtype.kind == "f" else 1,
        photometric="MINISBLACK",
    )
