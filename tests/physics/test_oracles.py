"""The equations against other people's libraries, on real satellite bands and real elevation.

``tests/physics/test_indices.py`` and ``test_slope.py`` do the same on random numbers and against xarray-spatial; here
are the real uint16 bands, and the third judge of slope.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from zoo.physics import ndbi, ndvi, ndwi, slope_degrees

# Both sides divide in float64, in another order of operations at most.
ROUNDING = 1e-12
# On the file's float32 elevations (to 4073 m, whose last bit is 0.0002 m) our slope is up to 0.00055 degrees from what
# it is in float64, xdem's 0.00001; both measured on the whole DEM.
XDEM_DEGREES = 0.002


def chattogram(shared_data: Path) -> dict[str, np.ndarray]:
    """Red, green, blue and NIR as the raw uint16 numbers of the file, in a window without nodata."""
    with rasterio.open(shared_data / "chattogram" / "mosaic_RGBN_uint16.tif") as source:
        for row in range(0, source.height, 128):
            for column in range(0, source.width, 128):
                bands = source.read(window=Window(column, row, 128, 128))
                if bands.min() > 0:
                    return dict(zip(("red", "green", "blue", "nir"), bands, strict=True))
    raise AssertionError("no window of the mosaic is whole")


def test_indices_of_raw_bands_agree_with_spyndex(shared_data: Path) -> None:
    spyndex = pytest.importorskip("spyndex")
    bands = chattogram(shared_data)
    assert {band.dtype for band in bands.values()} == {np.dtype(np.uint16)}
    real = {name: band.astype(np.float64) for name, band in bands.items()}
    theirs = spyndex.computeIndex(["NDVI", "NDWI"], {"N": real["nir"], "R": real["red"], "G": real["green"]})
    ours = np.stack([ndvi(bands["nir"], bands["red"]), ndwi(bands["green"], bands["nir"])])
    assert ours == pytest.approx(np.asarray(theirs), abs=ROUNDING)
    # Somewhere red is brighter than NIR, or green than NIR is not: unsigned numbers would have wrapped around there.
    assert (ours < 0).any()
    assert np.ptp(ours[0]) > 0.3


def test_built_up_index_agrees_with_spyndex_on_landslide4sense(shared_data: Path) -> None:
    spyndex = pytest.importorskip("spyndex")
    # B1 to B12 without B8A, then slope and DEM: NIR (B8) is the eighth, SWIR (B11) the eleventh.
    path = sorted((shared_data / "landslide4sense_h5" / "TestData" / "img").glob("*.h5"))[0]
    with h5py.File(path) as file:
        image = np.asarray(file["img"])
    nir, swir = image[..., 7], image[..., 10]
    theirs = np.asarray(spyndex.computeIndex("NDBI", {"N": nir, "S1": swir}))
    ours = ndbi(swir, nir)
    assert np.isfinite(ours).all()
    assert ours == pytest.approx(theirs, abs=ROUNDING)
    assert np.ptp(ours) > 0.1


def test_slope_agrees_with_xdem_on_kashmir(shared_data: Path) -> None:
    terrain = pytest.importorskip("xdem.terrain")
    with rasterio.open(shared_data / "kashmir" / "AW3D30.tif") as source:
        dem, cell = source.read(1, window=Window(200, 300, 160, 200)), source.transform.a
    theirs = np.asarray(terrain.slope(dem, surface_fit="Horn", resolution=cell))
    # xdem leaves the outer ring empty; ours continues the surface there.
    inner = np.s_[1:-1, 1:-1]
    ours = slope_degrees(dem, cell)[inner]
    assert np.isfinite(theirs[inner]).all()
    assert ours == pytest.approx(theirs[inner], abs=XDEM_DEGREES)
    # Another method is far outside that tolerance, so the test tells Horn from its neighbours.
    other = np.asarray(terrain.slope(dem, surface_fit="ZevenbergThorne", resolution=cell))[inner]
    assert np.abs(ours - other).max() > 100 * XDEM_DEGREES
