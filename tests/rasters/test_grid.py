"""One grid of many: whose pixels, where, and how the others get there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from rasterio.warp import Resampling, reproject, transform_bounds
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError
from zoo.rasters.alignment import AlignedBand
from zoo.rasters.grid import PixelGrid, choose_grid, windows
from zoo.rasters.ground import utm_code
from zoo.rasters.layers import BandFile, Layer, Sources, open_layer
from zoo.rasters.reading import RasterReader
from zoo.rasters.stacking import StackOptions, build_stack
from zoo.rasters.stacks import Stack, same_pixels

WriteRaster = Callable[..., Path]
LEFT, TOP = 600_000.0, 3_800_000.0


def layer(path: Path, role: str = "nir") -> Layer:
    return open_layer(role, BandFile(str(path)))


def ramp(rows: int, columns: int) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    return (100 + 3 * x + 5 * y).astype(np.float32)


def test_the_finest_optical_band_gives_the_grid_and_all_the_extent(write_raster: WriteRaster) -> None:
    nir = layer(write_raster("nir.tif", ramp(100, 80)))
    swir = layer(write_raster("swir.tif", ramp(60, 60), pixel=20.0, origin=(LEFT + 100, TOP - 40)), "swir")
    dem = layer(write_raster("dem.tif", ramp(200, 300), pixel=5.0, origin=(LEFT - 50, TOP + 50)), "dem")
    grid = choose_grid([dem, swir, nir])
    # NIR ends at (600800, 3799000); SWIR begins 10 columns and 4 rows into it; the DEM ends at row 95.
    assert grid.shape == (91, 70)
    assert (grid.transform.c, grid.transform.f) == (LEFT + 100, TOP - 40)
    assert (grid.resolution.x, grid.resolution.y) == (10.0, -10.0)
    assert choose_grid([dem]).resolution.x == 5.0


def test_a_grid_file_and_bounds_are_taken_as_they_are(write_raster: WriteRaster) -> None:
    nir = layer(write_raster("nir.tif", ramp(50, 50)))
    like = write_raster("like.tif", ramp(40, 30), pixel=15.0, origin=(LEFT - 100, TOP + 7))
    grid = choose_grid([nir], like=like)
    assert grid.shape == (40, 30)
    assert grid.transform.c == LEFT - 100
    # Bounds are widened to whole pixels of the base, and may leave it.
    cut = choose_grid([nir], bounds=(LEFT - 25, TOP - 101, LEFT + 95, TOP - 10))
    assert cut.shape == (10, 13)
    assert (cut.transform.c, cut.transform.f) == (LEFT - 30, TOP - 10)
    with pytest.raises(ConfigError, match="cannot be combined with a CRS"):
        choose_grid([nir], like=like, resolution=10.0)
    with pytest.raises(DataError, match="does not overlap the bounds"):
        choose_grid([nir], bounds=(0, 0, 10, 10))
    with pytest.raises(ConfigError, match="empty"):
        choose_grid([nir], bounds=(10, 0, 0, 10))


def test_degrees_become_whole_metres(write_raster: WriteRaster) -> None:
    pixel = 10 / 111_320
    degrees = layer(write_raster("nir.tif", ramp(60, 60), crs="EPSG:4326", pixel=pixel, origin=(91.8, 22.4)))
    grid = choose_grid([degrees], crs="EPSG:32646")
    assert grid.resolution.x == 10.0
    assert grid.transform.c % 10 == 0
    assert grid.transform.f % 10 == 0
    assert choose_grid([degrees], crs="EPSG:32646", resolution=25.0).resolution.x == 25.0
    with pytest.raises(ConfigError, match="not a coordinate reference system"):
        choose_grid([degrees], crs="EPSG:nothing")
    with pytest.raises(ConfigError, match="pixels"):
        choose_grid([degrees], crs="EPSG:32646", resolution=0.001)
    for resolution in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="resolution"):
            choose_grid([degrees], resolution=resolution)


def test_layers_apart_are_both_named(write_raster: WriteRaster) -> None:
    here = layer(write_raster("here.tif", ramp(10, 10)))
    there = layer(write_raster("there.tif", ramp(10, 10), origin=(LEFT + 5_000, TOP)), "dem")
    with pytest.raises(DataError, match=r"here\.tif: does not overlap .*there\.tif"):
        choose_grid([here, there])


@pytest.mark.parametrize(
    ("place", "code"), [((73.5, 34.2), "EPSG:32643"), ((-70.1, -33.0), "EPSG:32719"), ((179.9, 1.0), "EPSG:32660")]
)
def test_the_hint_names_the_zone(place: tuple[float, float], code: str) -> None:
    x, y = place
    assert utm_code((x - 0.05, y - 0.05, x + 0.05, y + 0.05), CRS.from_epsg(4326)) == code


def test_finer_is_bilinear_coarser_is_mean_and_classes_are_nearest(write_raster: WriteRaster) -> None:
    base = layer(write_raster("nir.tif", ramp(40, 40)))
    grid = choose_grid([base])
    rng = np.random.default_rng(0)
    fine = rng.random((80, 80)).astype(np.float32)
    with AlignedBand(layer(write_raster("fine.tif", fine, pixel=5.0)), grid) as band:
        assert band.resampling == "average"
        found = band.read(Window(0, 0, 40, 40))
    np.testing.assert_allclose(found, fine.reshape(40, 2, 40, 2).mean(axis=(1, 3)), rtol=1e-5)
    coarse = ramp(20, 20)
    with AlignedBand(layer(write_raster("coarse.tif", coarse, pixel=20.0)), grid) as band:
        assert band.resampling == "bilinear"
        found = band.read(Window(0, 0, 40, 40))
    # Bilinear keeps a plane a plane: centres of the 10 m pixels are a quarter of a 20 m pixel off its centre.
    y, x = (np.mgrid[:40, :40] - 0.5) / 2
    np.testing.assert_allclose(found[1:-1, 1:-1], (100 + 3 * x + 5 * y)[1:-1, 1:-1], rtol=1e-5)
    classes = rng.integers(0, 12, (20, 20)).astype(np.uint8)
    with AlignedBand(layer(write_raster("scl.tif", classes, pixel=20.0), "scl"), grid) as band:
        assert band.resampling == "nearest"
        np.testing.assert_array_equal(band.read(Window(0, 0, 40, 40)), np.kron(classes, np.ones((2, 2))))
    with AlignedBand(layer(write_raster("shifted.tif", ramp(90, 90), origin=(LEFT - 200, TOP + 300))), grid) as band:
        assert band.resampling == "none"
        np.testing.assert_array_equal(band.read(Window(3, 5, 7, 9)), ramp(90, 90)[35:44, 23:30])


def test_one_band_of_several_is_warped_with_its_own_mask(write_raster: WriteRaster) -> None:
    grid = choose_grid([layer(write_raster("nir.tif", ramp(40, 40)))])
    both = np.stack([ramp(20, 20), -ramp(20, 20)])
    both[1, :5] = -9999
    path = write_raster("both.tif", both, pixel=20.0, nodata=-9999.0)
    alone = write_raster("alone.tif", both[1], pixel=20.0, nodata=-9999.0)
    window = Window(0, 0, 40, 40)
    with (
        AlignedBand(open_layer("nir", BandFile(str(path), band=2)), grid) as band,
        AlignedBand(layer(alone), grid) as other,
    ):
        np.testing.assert_array_equal(band.read(window), other.read(window))
    alpha = np.stack([ramp(20, 20), np.where(ramp(20, 20) > 150, 255, 0)]).astype(np.float32)
    path = write_raster("alpha.tif", alpha, pixel=20.0)
    with rasterio.open(path, "r+") as file:
        file.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
    bare = write_raster("bare.tif", ramp(20, 20), pixel=20.0)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(bare, "r+") as file:
        file.write_mask(alpha[1] > 0)
    hidden = np.kron(alpha[1], np.ones((2, 2))) == 0
    for masked in (path, bare):
        with AlignedBand(layer(masked), grid) as band:
            found = band.read(window)
        assert np.isnan(found[hidden]).mean() > 0.9
        assert np.isfinite(found[20:, 20:]).all()
        with AlignedBand(layer(masked), choose_grid([layer(masked)])) as band:
            np.testing.assert_array_equal(np.isnan(band.read(Window(0, 0, 20, 20))), alpha[1] == 0)


def test_windows_of_a_warp_are_the_whole_warp(write_raster: WriteRaster) -> None:
    """A DEM in degrees with holes, put on a projected grid, read by parts and by GDAL at once."""
    base = layer(write_raster("nir.tif", np.zeros((300, 280), dtype=np.float32)))
    grid = choose_grid([base])
    west, south, east, north = transform_bounds("EPSG:32643", "EPSG:4326", *base.bounds())
    values = ramp(130, 120)
    values[40:50, 60:75] = -9999
    place = from_origin(west - 0.002, north + 0.002, (east - west + 0.004) / 120, (north - south + 0.004) / 130)
    dem = layer(write_raster("dem.tif", values, crs="EPSG:4326", transform=place, nodata=-9999.0), "dem")
    with AlignedBand(dem, grid) as band:
        assert band.resampling == "bilinear"
        parts = np.full((300, 280), np.inf, dtype=np.float32)
        for window in windows(grid.shape, 77):
            parts[window.toslices()] = band.read(window)
    whole = np.full((300, 280), np.nan, dtype=np.float32)
    reproject(
        values,
        whole,
        src_transform=place,
        src_crs="EPSG:4326",
        dst_transform=grid.transform,
        dst_crs="EPSG:32643",
        src_nodata=-9999.0,
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
        tolerance=0.0,
    )
    assert 0.001 < np.isnan(whole).mean() < 0.1
    assert (np.isnan(parts) != np.isnan(whole)).sum() < 5
    assert np.nanmax(np.abs(parts - whole)) <= 0.05


def test_a_dem_in_degrees_is_refused_alone_and_reprojected_beside_bands(
    write_raster: WriteRaster, one_grid: Sources, tmp_path: Path
) -> None:
    pixel = 30 / 111_320
    west, _, _, north = transform_bounds("EPSG:32643", "EPSG:4326", LEFT, TOP - 2400, LEFT + 2000, TOP)
    path = write_raster("grad.tif", ramp(120, 120), crs="EPSG:4326", pixel=pixel, origin=(west - 0.003, north + 0.003))
    degrees = BandFile(str(path))
    with pytest.raises(DataError, match="EPSG:32643") as caught:
        build_stack(Sources({"dem": degrees}), tmp_path / "a.tif")
    assert "degrees" in caught.value.problem
    projected = build_stack(Sources({"dem": degrees}), tmp_path / "b.tif", StackOptions(crs="EPSG:32643"))
    assert projected.crs == "EPSG:32643"
    report = build_stack(one_grid.merged(Sources({"dem": degrees})), tmp_path / "c.tif")
    assert any("grad.tif: reprojected from EPSG:4326 to EPSG:32643 (bilinear)" in text for text in report.notes)
    with Stack(report.path) as stack:
        slope = stack.read()[4]
    # 3 m a column of ~25 m and 5 m a row of ~30 m; in degrees it would be 90.
    assert 8 < float(np.nanmedian(slope)) < 16


def test_slope_has_no_seams_between_windows(
    write_raster: WriteRaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    dem = {"dem": BandFile(str(write_raster("dem.tif", rng.random((129, 97)).astype(np.float32) * 50, pixel=30.0)))}
    slopes = []
    for size in (1024, 64, 32):
        monkeypatch.setattr("zoo.rasters.stacking.WINDOW", size)
        report = build_stack(Sources(dem), tmp_path / f"{size}.tif", StackOptions(resolution=20.0))
        with Stack(report.path) as stack:
            slopes.append(stack.read()[0])
    np.testing.assert_array_equal(slopes[0], slopes[1])
    np.testing.assert_array_equal(slopes[0], slopes[2])


def test_two_dates_lie_on_one_grid(one_grid: Sources, write_raster: WriteRaster, tmp_path: Path) -> None:
    files = {role: one_grid.files[role] for role in ("red", "nir")}
    first = build_stack(replace(one_grid, files=files), tmp_path / "first.tif", StackOptions(resolution=30.0))
    second = build_stack(replace(one_grid, files=files), tmp_path / "second.tif", StackOptions(like=first.path))
    with Stack(first.path) as one, Stack(second.path) as other:
        assert one.transform == other.transform
        assert one.shape == other.shape == (80, 67)
        np.testing.assert_array_equal(one.read(), other.read())


def test_a_single_missing_code_is_not_interpolated(write_raster: WriteRaster) -> None:
    elevation = np.full((1200, 1200), 1000, np.float32)
    elevation[701, 703] = -9999
    path = write_raster("dem.tif", elevation)
    grid = choose_grid(
        [layer(path, "dem")], bounds=(LEFT + 5003, TOP - 9003, LEFT + 9003, TOP - 5003), crs="EPSG:32643"
    )
    grid = grid.translate_pix(0.3, 0.3)
    with AlignedBand(layer(path, "dem"), grid) as band:
        values = band.read(Window(0, 0, grid.shape[1], grid.shape[0]))
        assert band.resampling == "bilinear"
        assert band.codes == (-9999,)
    np.testing.assert_array_equal(np.unique(values[np.isfinite(values)]), [1000])


def test_several_missing_codes_are_refused_where_they_would_be_interpolated(write_raster: WriteRaster) -> None:
    elevation = np.full((60, 60), 1000, np.float32)
    elevation[20, 20], elevation[40, 40] = -9999, -32768
    path = write_raster("dem.tif", elevation, nodata=-32768)
    grid = choose_grid([layer(path, "dem")]).translate_pix(0.3, 0.3)
    with pytest.raises(DataError, match="several numbers mark missing values: -9999, -32768"):
        AlignedBand(layer(path, "dem"), grid)


@pytest.mark.parametrize("crs", ["EPSG:32643", "EPSG:4326"])
def test_codes_are_searched_below_the_grid_alone(
    crs: str, write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    elevation = np.full((1200, 1200), 1000, np.float32)
    elevation[20, 20], elevation[40, 40], elevation[1000, 1010] = -9999, -32768, -9999
    dem = layer(write_raster("dem.tif", elevation), "dem")
    inside = transform_bounds("EPSG:32643", crs, LEFT + 9503, TOP - 10803, LEFT + 10803, TOP - 9503)
    read, numbers = [], RasterReader.numbers

    def record(reader: RasterReader, window: Window, bands: list[int]) -> np.ndarray:
        read.append(window.width * window.height)
        return numbers(reader, window, bands)

    with monkeypatch.context() as patch:
        patch.setattr(RasterReader, "numbers", record)
        with AlignedBand(dem, choose_grid([dem], bounds=inside, crs=crs).translate_pix(0.3, 0.3)) as band:
            assert band.codes == (-9999,)
    assert 0 < sum(read) < elevation.size / 16


def test_pixels_are_compared_by_their_size_in_every_unit() -> None:
    for side in (1e-5, 10.0):
        grid = PixelGrid(CRS.from_epsg(4326), from_origin(70, 34, side, side), (50, 40))
        for shift, same in ((0.001, True), (0.5, False), (1, False)):
            moved = from_origin(70 + shift * side, 34, side, side)
            assert same_pixels(grid, replace(grid, transform=moved)) is same
        assert not same_pixels(grid, replace(grid, transform=from_origin(70, 34, side * 1.001, side)))
        assert not same_pixels(grid, replace(grid, shape=(40, 50)))
