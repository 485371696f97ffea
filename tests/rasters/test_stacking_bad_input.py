"""Test that bad inputs of a stack are named with a remedy and leave no file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.transform import Affine

from zoo.api.preparation import band_file
from zoo.errors import ConfigError, DataError, ZooError
from zoo.physics import IndexParameters
from zoo.rasters.layers import BandFile, Sources
from zoo.rasters.stacking import StackOptions, build_stack
from zoo.rasters.stacks import Stack

WriteRaster = Callable[..., Path]


@pytest.fixture
def refuse(tmp_path: Path) -> Callable[..., ZooError]:
    """Build a stack that must be refused; nothing may be left of it."""

    def run(sources: Sources, **options: object) -> ZooError:
        folder = tmp_path / "out"
        with pytest.raises(ZooError) as caught:
            build_stack(sources, folder / "stack.tif", StackOptions(**options))  # type: ignore[arg-type]
        assert not folder.exists() or list(folder.iterdir()) == []
        return caught.value

    return run


Refuse = Callable[..., ZooError]


def dem(path: Path, **file: object) -> Sources:
    return Sources({"dem": BandFile(str(path), **file)})  # type: ignore[arg-type]


def plane(rows: int = 60, columns: int = 50) -> np.ndarray:
    return np.add.outer(np.arange(rows), np.arange(columns)).astype(np.float32)


def test_files_that_are_none(write_raster: WriteRaster, tmp_path: Path, refuse: Refuse) -> None:
    assert "no such file" in str(refuse(dem(tmp_path / "absent.tif")))
    (tmp_path / "empty.tif").touch()
    assert "empty.tif: cannot be read" in str(refuse(dem(tmp_path / "empty.tif")))
    (tmp_path / "text.tif").write_text("elevation")
    assert "text.tif: cannot be read" in str(refuse(dem(tmp_path / "text.tif")))
    assert "cannot be read" in str(refuse(dem(tmp_path)))
    good = write_raster("dem.tif", plane())
    assert "there is no band 2" in str(refuse(dem(good, band=2)))


@pytest.mark.parametrize("resolution", [None, 17.0], ids=["read as it is", "warped"])
def test_truncated_files(resolution: float | None, write_raster: WriteRaster, tmp_path: Path, refuse: Refuse) -> None:
    rng = np.random.default_rng(0)
    path = write_raster("dem.tif", rng.random((600, 500)).astype(np.float32), compress="deflate", tiled=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    error = refuse(dem(path), resolution=resolution)
    assert isinstance(error, DataError)
    assert error.where == str(path)
    assert "truncated" in error.problem


def test_no_place_on_earth(write_raster: WriteRaster, refuse: Refuse) -> None:
    assert "no coordinate reference system" in str(refuse(dem(write_raster("bare.tif", plane(), crs=None))))
    nowhere = write_raster("nowhere.tif", plane(), transform=Affine.identity())
    assert "no georeference" in str(refuse(dem(nowhere)))


def test_empty_layers_are_refused(write_raster: WriteRaster, one_grid: Sources, refuse: Refuse) -> None:
    empty = write_raster("empty.tif", np.full((240, 200), -9999, dtype=np.float32), nodata=-9999.0)
    assert "empty.tif: is nodata on the whole grid" in str(refuse(dem(empty)))
    assert "whole grid" in str(refuse(one_grid.merged(dem(empty))))
    nan = write_raster("nan.tif", np.full((240, 200), np.nan, dtype=np.float32))
    assert "nan.tif: is nodata" in str(refuse(one_grid.merged(Sources({"moisture": BandFile(str(nan))}))))
    clouds = write_raster("scl.tif", np.full((240, 200), 9, dtype=np.uint8))
    assert "clouds" in str(refuse(one_grid.merged(Sources({"scl": BandFile(str(clouds))}))))


def test_elevation_that_is_none(write_raster: WriteRaster, tmp_path: Path, refuse: Refuse) -> None:
    for unit, factor in {"ft": "0.3048", "US survey foot": "0.3048006", "cm": "0.01", "[km]": "1000"}.items():
        error = refuse(dem(write_raster("unit.tif", plane(), unit=unit)))
        assert f"elevation is in {unit}, but metres" in error.problem
        assert f"--calc=A*{factor} " in str(error.hint)
    assert "at least 2x2" in str(refuse(dem(write_raster("one.tif", plane(1, 1)))))
    wild = plane()
    wild[:10] = 32767.0
    wild[20, 20] = np.inf
    report = build_stack(dem(write_raster("wild.tif", wild)), tmp_path / "stack.tif")
    assert any("DEM: 16.7%" in text for text in report.warnings)
    with Stack(report.path) as stack:
        image = stack.read()
    assert np.isnan(image[1, :10]).all()
    assert np.isnan(image[1, 20, 20])
    assert np.isfinite(image[:, 30:]).all()


@pytest.mark.parametrize(
    ("about", "unit"),
    [
        ({"band_tags": {"units": "feet"}}, "feet"),
        ({"tags": {"Units": "ft"}}, "ft"),
        ({"description": "Elevation (ft)"}, "feet"),
        ({"description": "elevation_US_survey_feet"}, "US survey feet"),
        ({"tags": {"TIFFTAG_IMAGEDESCRIPTION": "Heights in feet"}}, "feet"),
        ({"crs": "EPSG:32643+6360"}, "US survey foot"),
        ({"vrt": "EPSG:32643+6360"}, "US survey foot"),
        ({"description": "height in metres, from feet"}, ""),
        ({"description": "left drift"}, ""),
        ({"tags": {"units": "m"}, "description": "feet"}, ""),
    ],
)
def test_an_elevation_in_feet_is_detected_in_every_tag(
    write_raster: WriteRaster, tmp_path: Path, refuse: Refuse, about: dict[str, Any], unit: str
) -> None:
    path = write_raster("dem.tif", plane(), crs=about.get("crs", "EPSG:32643"))
    with rasterio.open(path, "r+") as file:
        file.update_tags(**about.get("tags", {}))
        file.update_tags(1, **about.get("band_tags", {}))
        file.set_band_description(1, about.get("description", ""))
    if "vrt" in about:
        straight, path = path, path.with_suffix(".vrt")
        rasterio.shutil.copy(straight, path, driver="VRT")
        with rasterio.open(path, "r+") as file:
            file.crs = CRS.from_user_input(about["vrt"])
    if unit:
        assert f"elevation is in {unit}, but metres" in refuse(dem(path)).problem
    else:
        build_stack(dem(path), tmp_path / "stack.tif")


@pytest.mark.parametrize(
    ("unit", "crs", "warning"),
    [
        (None, "EPSG:2227", "coordinates are in US survey foot: the elevation was read as metres"),
        ("Metre", "EPSG:2227", ""),
        (None, "EPSG:32643", ""),
        ("height", "EPSG:32643", "the unit 'height' is unknown, so the elevation was read as metres"),
    ],
)
def test_an_elevation_that_may_not_be_in_metres_causes_a_warning(
    write_raster: WriteRaster, tmp_path: Path, unit: str | None, crs: str, warning: str
) -> None:
    origin = (6_000_000.0, 2_100_000.0) if crs == "EPSG:2227" else (600_000.0, 3_800_000.0)
    path = write_raster("dem.tif", plane(), unit=unit, crs=crs, origin=origin)
    warnings = build_stack(dem(path), tmp_path / "stack.tif").warnings
    assert any(warning in text for text in warnings) if warning else not warnings


def test_web_mercator_is_no_grid_for_slopes(write_raster: WriteRaster, refuse: Refuse) -> None:
    path = write_raster("web.tif", plane(), crs="EPSG:3857", origin=(8_170_000.0, 4_060_000.0), pixel=30.0)
    error = refuse(dem(path))
    assert "on the ground" in error.problem
    assert "EPSG:32643" in (error.hint or "")


def test_moisture_is_chosen_not_guessed(one_grid: Sources, write_raster: WriteRaster, refuse: Refuse) -> None:
    files = {role: one_grid.files[role] for role in ("green", "red", "nir", "swir", "dem")}
    error = refuse(Sources(files))
    assert isinstance(error, ConfigError)
    for choice in ("--moisture FILE", "--optram", "ndmi"):
        assert choice in (error.hint or "")
    assert "needs swir2" in str(refuse(Sources(files), moisture="optram"))
    wet = write_raster("mm.tif", np.full((240, 200), 23.0, dtype=np.float32), unit="mm")
    assert "unit 'mm'" in str(refuse(one_grid.merged(Sources({"moisture": BandFile(str(wet))}))))
    percent = write_raster("percent.tif", np.full((240, 200), 23.0, dtype=np.float32))
    assert "--moisture-range" in str(refuse(one_grid.merged(Sources({"moisture": BandFile(str(percent))}))))


def test_an_index_that_cannot_be(one_grid: Sources, write_raster: WriteRaster, refuse: Refuse) -> None:
    flat = write_raster("flat.tif", np.full((240, 200), 7.0, dtype=np.float32))
    assert "in the whole scene" in str(error := refuse(one_grid.merged(dem(flat))))
    assert "leave SMI and LSI out (--moisture none)" in str(error)
    rain = {"rain_intensity": BandFile(str(flat))}
    assert "only rain" in str(refuse(one_grid.merged(Sources(rain))))
    assert "negative" in str(refuse(one_grid, rain=(-1.0, 2.0))) or "rain intensity" in str(
        refuse(one_grid, rain=(-1.0, 2.0))
    )
    both = {**rain, "rain_duration": BandFile(str(write_raster("days.tif", np.full((240, 200), 7.0, np.float32))))}
    assert "as numbers and as rasters" in str(refuse(one_grid.merged(Sources(both)), rain=(1.0, 2.0)))


def test_options_that_are_none() -> None:
    with pytest.raises(ConfigError, match="phase"):
        StackOptions(phase="during")
    with pytest.raises(ConfigError, match="moisture"):
        StackOptions(moisture="guess")  # type: ignore[arg-type]


def test_inputs_without_an_output_channel_are_refused(one_grid: Sources, refuse: Refuse) -> None:
    assert "no input file" in str(refuse(Sources({})))
    assert "no channel" in str(refuse(Sources({"red": one_grid.files["red"]})))
    assert "no DEM" in str(refuse(Sources({"moisture": one_grid.files["moisture"]})))


def test_a_band_is_named_and_given_once(one_grid: Sources, write_raster: WriteRaster, refuse: Refuse) -> None:
    two = write_raster("two.tif", np.stack([plane(), plane()]))
    error = refuse(dem(two, chosen=False))
    assert "has 2 bands, and it is unknown which of them is dem" in error.problem
    assert "two.tif:1" in (error.hint or "")
    assert band_file(two, optical=False).chosen is False
    assert band_file(f"{two}:2", optical=True) == BandFile(str(two), 2, None, None)
    nir = one_grid.files["nir"]
    assert "band 1 is given as red and as nir" in str(refuse(one_grid.merged(Sources({"red": nir})), moisture="none"))


@pytest.mark.parametrize(("number", "words"), [(4.5, "4.5 to 4.5"), (20, "20 to 20"), (1, "0 to 1")])
def test_a_scene_classification_that_is_none(
    one_grid: Sources, write_raster: WriteRaster, refuse: Refuse, number: float, words: str
) -> None:
    classes = np.full((240, 200), number, np.float32)
    classes[:50] = 0 if number == 1 else number
    scl = write_raster("scl.tif", classes)
    error = refuse(one_grid.merged(Sources({"scl": BandFile(str(scl))})), moisture="none")
    assert f"holds {words}, which is no Sentinel-2 scene classification" in error.problem


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        (np.full((60, 50), 7, np.float32), "DEM is 7 in every pixel"),
        ((plane() % 250).astype(np.uint8), "holds 8-bit numbers, as a hillshade"),
    ],
)
def test_an_elevation_that_may_be_none_causes_a_warning(
    write_raster: WriteRaster, tmp_path: Path, values: np.ndarray, warning: str
) -> None:
    report = build_stack(dem(write_raster("dem.tif", values)), tmp_path / "stack.tif")
    assert any(warning in text for text in report.warnings)


def test_no_input_is_replaced(write_raster: WriteRaster) -> None:
    path, pattern, before = (write_raster(f"{name}.tif", plane()) for name in ("dem", "grid", "before"))
    options = StackOptions(like=pattern, overwrite=True)
    for out in (path, pattern, before):
        with pytest.raises(ConfigError, match="is one of the inputs"):
            build_stack(dem(path), out, options, before=Sources({"red": BandFile(str(before))}))
    with pytest.raises(ConfigError, match=r"grid\.tif: is one of the inputs"):
        build_stack(dem(path), path.with_name("new.tif"), replace(options, save_weights=pattern))


def test_outputs_that_are_in_the_way(one_grid: Sources, tmp_path: Path) -> None:
    terrain = replace(one_grid, files={"dem": one_grid.files["dem"]})
    source = Path(one_grid.files["dem"].path)
    with pytest.raises(ConfigError, match="one of the inputs"):
        build_stack(terrain, source, StackOptions(overwrite=True))
    with pytest.raises(ConfigError, match="is a folder"):
        build_stack(terrain, tmp_path)
    out = tmp_path / "stack.tif"
    out.write_text("old")
    with pytest.raises(ConfigError, match="--overwrite"):
        build_stack(terrain, out)
    assert out.read_text() == "old"
    build_stack(terrain, out, StackOptions(overwrite=True))
    with Stack(out) as stack:
        assert len(stack.bands) == 2
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="cannot write"):
        build_stack(terrain, tmp_path / "file" / "stack.tif")


def test_weights_of_what_is_not_there_leave_the_index_out(one_grid: Sources, tmp_path: Path) -> None:
    terrain = replace(one_grid, files={"dem": one_grid.files["dem"]})
    index = IndexParameters({"slope": 1.0, "DEM": 0.5})
    report = build_stack(terrain, tmp_path / "stack.tif", StackOptions(index=index))
    assert list(report.statistics) == ["slope", "DEM", "LSI"]
