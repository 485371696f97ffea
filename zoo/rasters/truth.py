"""Where landslides are in a window of a raster: from an inventory, or from a mask on the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.windows import Window

from zoo.errors import DataError
from zoo.rasters.inventory import read_inventory, window_bounds
from zoo.rasters.map_writer import Grid
from zoo.rasters.stacks import Stack

IGNORED = 255
"""In masks of ``zoo patches``: not known."""


def read_truth(path: Path, grid: Grid, window: Window) -> NDArray[np.bool_]:
    """Draw the landslides of a window.

    Args:
        path: GeoTIFF mask on the pixels of ``grid``, 0 for none and 255 for unknown; or any vector file of polygons.
        grid: of the scene.
        window: within it.

    Returns:
        bool (rows, columns) of the window.

    Raises:
        DataError: if the file is missing or damaged, lies elsewhere, or is a mask of other pixels.
    """
    if path.suffix.lower() in (".tif", ".tiff"):
        with Stack(path) as mask:
            if mask.shape != grid.shape or mask.crs != grid.crs or not mask.transform.almost_equals(grid.transform):
                raise DataError(
                    "the mask does not lie on the pixels of the scene",
                    where=path,
                    hint="Make it with gdal_rasterize on the scene's grid, or name the vector file",
                )
            values = mask.read(window, [0])[0]
        drawn: NDArray[np.bool_] = (values > 0) & (values != IGNORED)
        return drawn
    inventory = read_inventory(path, grid.crs, window_bounds(grid.transform, grid.shape))
    place = grid.transform * Affine.translation(window.col_off, window.row_off)
    return inventory.burn(place, (int(window.height), int(window.width))) > 0
