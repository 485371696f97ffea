"""Small GeoTIFFs for tests."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

NORTH_UP = from_origin(600_000, 3_800_000, 10, 10)


def write_geotiff(
    path: Path,
    values: np.ndarray,
    *,
    names: Iterable[tuple[str, str]] = (),
    tags: Mapping[str, str] | None = None,
    band_tags: Mapping[str, str] | None = None,
    **options: Any,
) -> Path:
    """Write one band (H, W) or several (bands, H, W); by default 10 m in UTM zone 43.

    Args:
        path: the file; its folder is made.
        values: the pixels.
        names: name and unit of each band.
        tags: of the file.
        band_tags: of the first band.
        **options: scales, offsets and colorinterp of the bands, and any option of rasterio; None for its default.
    """
    bands = values[None] if values.ndim == 2 else values
    count, height, width = bands.shape
    later = {name: options.pop(name) for name in ("scales", "offsets", "colorinterp") if name in options}
    about = {"driver": "GTiff", "dtype": bands.dtype, "crs": "EPSG:32643", "transform": NORTH_UP, **options}
    about = {name: value for name, value in about.items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", count=count, height=height, width=width, **about) as file:
            file.write(bands)
            file.update_tags(**(tags or {}))
            file.update_tags(1, **(band_tags or {}))
            for number, (name, unit) in enumerate(names, 1):
                file.set_band_description(number, name)
                file.set_band_unit(number, unit)
            for name, value in later.items():
                setattr(file, name, value)
    return path
