"""Rasters behind addresses and in GDAL's virtual file systems: read like files, written by copying a finished one."""

from __future__ import annotations

from pathlib import Path

import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from zoo.errors import ConfigError, ZooError
from zoo.rasters.reading import first_line


def is_remote(path: str) -> bool:
    """Whether GDAL, and not the system, knows where ``path`` is: ``/vsis3/bucket/a.tif``, ``s3://bucket/a.tif``."""
    return path.startswith("/vsi") or "://" in path


def check_remote_output(path: str, *, overwrite: bool) -> None:
    """Refuse to replace a raster.

    Raises:
        ConfigError: if there is one, and it is not to be replaced.
    """
    if overwrite:
        return
    try:
        rasterio.open(path).close()
    except (RasterioError, OSError):
        return
    raise ConfigError("is there already", where=path, hint="Name another file, or replace it with --overwrite")


def upload(local: Path, path: str) -> None:
    """Copy a finished raster byte by byte to where it belongs, and remove it here.

    Raises:
        ZooError: if it cannot be copied; it stays here then.
    """
    try:
        rasterio.shutil.copyfiles(str(local), path)
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise ZooError(
            f"cannot be written ({first_line(error)})",
            where=path,
            hint=f"It is whole in {local}: copy it yourself, or see GDAL's page on this file system for credentials",
        ) from error
    local.unlink()
