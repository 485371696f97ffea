"""A synthetic scene as files: bands of Sentinel-2, a DEM, a product of soil moisture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.transform import Affine, from_origin

from tests.rasters.geotiffs import write_geotiff
from zoo.rasters.layers import BandFile, Sources

WriteRaster = Callable[..., Path]


@pytest.fixture
def write_raster(tmp_path: Path) -> WriteRaster:
    """Write an array as a GeoTIFF in a folder with a name that is not ASCII."""

    def write(
        name: str,
        values: np.ndarray,
        *,
        crs: str | None = "EPSG:32643",
        transform: Affine | None = None,
        pixel: float = 10.0,
        origin: tuple[float, float] = (600_000.0, 3_800_000.0),
        **profile: Any,
    ) -> Path:
        unit = profile.pop("unit", None)
        place = transform or from_origin(*origin, pixel, pixel)
        names = () if unit is None else (("", unit),)
        return write_geotiff(tmp_path / "szène" / name, values, names=names, crs=crs, transform=place, **profile)

    return write


def smooth(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A field in 0-1 that has hills and valleys."""
    y, x = np.mgrid[:rows, :columns] / 40.0
    field = sum(
        np.sin(x * rng.uniform(0.3, 2) + rng.uniform(0, 6)) * np.sin(y * rng.uniform(0.3, 2) + rng.uniform(0, 6))
        for _ in range(6)
    )
    return (field - field.min()) / (field.max() - field.min())


@pytest.fixture
def fields() -> dict[str, np.ndarray]:
    """Reflectances 240 x 200 on one 10 m grid, elevation, and soil moisture in m3/m3."""
    rng = np.random.default_rng(7)
    green_cover = smooth(rng, 240, 200)
    wet = smooth(rng, 240, 200)
    noise = {role: rng.normal(0, 0.002, (240, 200)) for role in ("green", "red", "nir", "swir", "swir2")}
    bands = {
        "green": 0.10 - 0.06 * green_cover,
        "red": 0.14 - 0.12 * green_cover,
        "nir": 0.18 + 0.25 * green_cover,
        "swir": (0.30 - 0.14 * green_cover) * (1 - 0.5 * wet),
        "swir2": (0.26 - 0.16 * green_cover) * (1 - 0.6 * wet),
    }
    return {
        **{role: values + noise[role] for role, values in bands.items()},
        "dem": 900 + 700 * smooth(rng, 240, 200),
        "moisture": 0.1 + 0.3 * wet,
    }


def numbers(reflectance: np.ndarray, offset: int = 1000) -> np.ndarray:
    """Digital numbers as baseline 05.09 writes them."""
    return np.round(reflectance * 10_000 + offset).astype(np.uint16)


@pytest.fixture
def one_grid(write_raster: WriteRaster, fields: dict[str, np.ndarray]) -> Sources:
    """All bands on one grid, with an unknown offset."""
    files = {
        role: BandFile(str(write_raster(f"{role}.tif", numbers(fields[role]))), offset=None, scale=None)
        for role in ("green", "red", "nir", "swir", "swir2")
    }
    files["dem"] = BandFile(str(write_raster("dem.tif", fields["dem"].astype(np.float32))))
    files["moisture"] = BandFile(str(write_raster("moisture.tif", fields["moisture"].astype(np.float32), unit="m3/m3")))
    return Sources(files, scene="T43SCT", date="2024-06-11")
