"""Maps of stacks that are written, mapped and read back."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

import zoo.risk
from tests.rasters.geotiffs import write_geotiff
from zoo.errors import ConfigError, DataError, ZooError
from zoo.physics import PAPER_WEIGHTS, FeatureRange, IndexParameters, RainParameters, landslide_index, rainfall_factor
from zoo.rasters.alignment import RainLayers
from zoo.rasters.cog import CogWriter
from zoo.rasters.stacks import Stack
from zoo.risk.index import ClassBreaks, RiskIndex
from zoo.risk.mapping import RISK, write_map
from zoo.risk.surfaces import IndexSurface, MapInputs, Rain

UNITS = {"SMI": "1", "NDBI": "1", "NDVI": "1", "NDWI": "1", "slope": "degree", "DEM": "m", "LSI": "1"}
RANGES = {
    "SMI": FeatureRange(0.1, 0.9),
    **dict.fromkeys(("NDBI", "NDVI", "NDWI"), FeatureRange(-0.5, 0.5)),
    "slope": FeatureRange(2.0, 50.0),
    "DEM": FeatureRange(1000.0, 2500.0),
}
RAIN = RainParameters(4.0, 1.0, 1.2, 0.8)
INDEX = RiskIndex(IndexParameters(dict(PAPER_WEIGHTS), RANGES, RAIN, (0.0, 5.0)))
BREAKS = ClassBreaks(0.5, 0.6)
SHAPE = (1100, 1060)


def make_image(shape, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.uniform(-0.7, 0.7, (7, *shape)).astype(np.float32)
    image[0] = rng.random(shape)
    image[4], image[5] = rng.uniform(0, 60, shape), rng.uniform(800, 2700, shape)
    return image


def write_stack(path, image, *, names=tuple(UNITS), units=None, crs="EPSG:32643", nodata=np.nan, pixel=10.0):
    return write_geotiff(
        path,
        image,
        names=[(name, (units or UNITS).get(name, "1")) for name in names],
        crs=crs,
        transform=from_origin(500_000, 4_000_000, pixel, pixel),
        nodata=nodata,
        tiled=True,
        blockxsize=256,
        blockysize=256,
    )


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A stack of two by two windows with holes, and its pixels."""
    image = make_image(SHAPE)
    image[2, 100:140, 1000:1050] = np.nan
    image[4, 1090:, :7] = np.nan
    path = write_stack(tmp_path_factory.mktemp("szene ä") / "stack.tif", image)
    return SimpleNamespace(path=path, image=image)


def judge(image, factor):
    features = dict(zip(UNITS, image.astype(np.float64), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return landslide_index({name: features[name] for name in PAPER_WEIGHTS}, RANGES, factor)


def run(path, folder, index=INDEX, rain=None, **options):
    with Stack(path) as stack:
        surface = IndexSurface(index, stack.bands, path)
        tags = options.pop("tags", {})
        prepared = MapInputs(surface, BREAKS, rain or Rain(RAIN, (0.0, 5.0)), index, "here", tags)
        return write_map(stack, prepared, folder / "risk.tif", folder / "classes.tif", **options)


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_the_map_is_the_index_of_zoo_physics(scene, tmp_path):
    done = []
    report = run(scene.path, tmp_path, rain=Rain(RAIN, (0.0, 5.0), 8.0, 2.0), progress=lambda *both: done.append(both))
    factor = float(rainfall_factor(8.0, 2.0, RAIN, (0.0, 5.0)))
    truth = judge(scene.image, factor)
    risk, classes = read(tmp_path / "risk.tif"), read(tmp_path / "classes.tif")
    assert risk.dtype == np.float32
    np.testing.assert_allclose(risk, truth, atol=2e-6)
    assert np.isnan(risk[110, 1010])
    expected = np.where(np.isnan(risk), 0, 1 + (risk > np.float32(0.5)) + (risk > np.float32(0.6)))
    np.testing.assert_array_equal(classes, expected)
    assert report.pixels.tolist() == np.bincount(expected.ravel().astype(int), minlength=4).tolist()
    assert report.areas == pytest.approx(report.pixels[1:] * 100 / 1e6, rel=2e-3)
    assert report.negative == pytest.approx(np.nanmean(np.where(np.isnan(truth), np.nan, truth < 0.5)), abs=1e-4)
    assert (report.low, report.high) == pytest.approx((np.nanmin(risk), np.nanmax(risk)))
    assert done[-1] == (4, 4)


def test_the_files_have_descriptive_tags(scene, tmp_path):
    run(scene.path, tmp_path, tags={"WEIGHTS_SHA256": "abc"})
    with rasterio.open(tmp_path / "classes.tif") as file:
        assert (file.dtypes, file.nodata, file.descriptions) == (("uint8",), 0, ("risk_class",))
        assert file.colormap(1)[3] == (202, 0, 32, 255)
        assert file.colormap(1)[0][3] == 0
        assert file.tags(1)["CLASS_3"] == "high"
        assert file.tags()["WEIGHTS_SHA256"] == "abc"
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.overviews(1)
        assert file.crs.to_epsg() == 32643
    with rasterio.open(tmp_path / "risk.tif") as file:
        assert (file.dtypes, file.descriptions, file.units) == (("float32",), ("risk",), ("1",))
        assert np.isnan(file.nodata)
        assert file.transform == from_origin(500_000, 4_000_000, 10, 10)
        assert file.tags()["CLASS_BREAKS"] == "0.5,0.6"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["classes.tif", "risk.tif"]


def test_the_preview_is_every_nth_pixel_of_the_classes(scene, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.risk.mapping.PREVIEW", 250)
    report = run(scene.path, tmp_path)
    assert report.step == 5
    np.testing.assert_array_equal(report.preview, read(tmp_path / "classes.tif")[::5, ::5])
    np.testing.assert_array_equal(report.relief, scene.image[5][::5, ::5])


def test_the_log_additive_form_and_every_compression(scene, tmp_path):
    index = RiskIndex(INDEX.index, form="log-additive", intercept=-1.5, slope=5.0, gain=0.8)
    features = dict(zip(UNITS, scene.image.astype(np.float64), strict=True))
    factor = float(rainfall_factor(8.0, 2.0, RAIN, (0.0, 5.0)))
    for compress in ("none", "lzw"):
        report = run(scene.path, tmp_path, index, Rain(RAIN, (0.0, 5.0), 8.0, 2.0), compress=compress)
        assert report.negative == 0
        np.testing.assert_allclose(read(tmp_path / "risk.tif"), index.evaluate(features, factor), atol=2e-6)
    with pytest.raises(ConfigError, match="zip"):
        run(scene.path, tmp_path, compress="zip")


def test_rain_from_a_raster_of_another_grid(scene, tmp_path):
    """Coarse rain that is the same everywhere gives what numbers give, and dry nodata stays unknown."""
    coarse = np.stack([np.full((20, 20), 8.0), np.full((20, 20), 2.0)]).astype(np.float32)
    path = write_stack(
        tmp_path / "rain.tif", coarse, names=("intensity", "duration"), units={"intensity": "mm/h", "duration": "day"},
        pixel=600.0,
    )  # fmt: skip
    with Stack(scene.path) as stack, RainLayers(path, stack) as layers:
        assert layers.varies == ("intensity", "duration")
        run(scene.path, tmp_path, rain=Rain(RAIN, (0.0, 5.0), layers=layers))
    by_raster = read(tmp_path / "risk.tif")
    run(scene.path, tmp_path, rain=Rain(RAIN, (0.0, 5.0), 8.0, 2.0))
    np.testing.assert_allclose(by_raster, read(tmp_path / "risk.tif"), atol=1e-6)
    coarse[:, :, 10:] = np.nan
    write_stack(path, coarse, names=("", ""), units={"": ""}, pixel=600.0)
    with Stack(scene.path) as stack, RainLayers(path, stack) as layers:
        run(scene.path, tmp_path, rain=Rain(RAIN, (0.0, 5.0), layers=layers))
    assert np.isnan(read(tmp_path / "risk.tif")[:, 700:]).all()
    assert np.isfinite(read(tmp_path / "risk.tif")[:90, :500]).all()


def test_rain_that_does_not_fit_is_refused(scene, tmp_path):
    def write(values, **options):
        return write_stack(tmp_path / "rain.tif", np.asarray(values, dtype=np.float32), **options)

    names = {"names": ("intensity", "duration"), "pixel": 600.0}
    units = {"intensity": "mm/h", "duration": "day"}
    with Stack(scene.path) as stack:
        with pytest.raises(ConfigError, match="--duration"):
            RainLayers(write(np.ones((1, 20, 20)), names=("intensity",), pixel=600.0), stack)
        with pytest.raises(DataError, match="mm/day"):
            RainLayers(write(np.ones((2, 20, 20)), units={"intensity": "mm/day"}, **names), stack)
        with pytest.raises(DataError, match="overlap"):
            RainLayers(write(np.ones((2, 20, 20)), units=units, crs="EPSG:32644", **names), stack)
        with pytest.raises(DataError, match="no such file"):
            RainLayers(tmp_path / "none.tif", stack)
        for value, problem in ((-1.0, "-1 days"), (40.0, "Is the duration in hours"), (0.005, "Multiply metres")):
            with pytest.raises(DataError, match=problem) as caught:
                RainLayers(write(np.full((2, 20, 20), value), units=units, **names), stack)
            assert caught.value.where == str(tmp_path / "rain.tif")
        depth = np.stack([np.full((20, 20), 144.0), np.full((20, 20), 2.0)])
        with pytest.raises(DataError, match="6 mm/h"):
            RainLayers(write(depth, units=units, **names), stack)
    assert not (tmp_path / "risk.tif").exists()


def test_negative_numbers_of_rain_are_refused(scene, tmp_path):
    with pytest.raises(DataError, match="-8 mm/h"):
        run(scene.path, tmp_path, rain=Rain(RAIN, None, -8.0, 1.0))
    with pytest.raises(DataError, match="days"):
        run(scene.path, tmp_path, rain=Rain(RAIN, None, 8.0, -1.0))
    assert list(tmp_path.iterdir()) == []


def test_integers_and_another_nodata_value(tmp_path):
    image = np.full((2, 40, 50), 30, dtype=np.int16)
    image[1] = 1750
    image[0, 3, 4] = -9999
    path = write_stack(tmp_path / "stack.tif", image, names=("slope", "DEM"), nodata=-9999)
    index = RiskIndex(IndexParameters({"slope": 0.5, "DEM": 0.5}, {name: RANGES[name] for name in ("slope", "DEM")}))
    report = run(path, tmp_path, index)
    total = 0.5 * 28 / 48 + 0.5 * 750 / 1500
    risk = read(tmp_path / "risk.tif")
    assert np.isnan(risk[3, 4])
    assert risk[0, 0] == pytest.approx(1 / (1 + np.exp(-total)), abs=1e-6)
    assert report.pixels.tolist() == [1, 0, 0, 1999]


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_are_missing(tmp_path, value):
    image = make_image((300, 300))
    expected = read_map(image, tmp_path / "whole")
    image[4, 7, 9] = image[5, 200, 200] = value
    image[4, 8, 9], image[4, 9, 9] = np.inf, -np.inf
    found = read_map(image, tmp_path / "holes")
    holes = np.isnan(found)
    assert {(int(row), int(column)) for row, column in np.argwhere(holes)} == {(7, 9), (8, 9), (9, 9), (200, 200)}
    np.testing.assert_array_equal(found[~holes], expected[~holes])


def read_map(image, folder):
    folder.mkdir()
    run(write_stack(folder / "stack.tif", image), folder)
    return read(folder / "risk.tif")


def test_one_pixel_is_a_map(tmp_path):
    path = write_stack(tmp_path / "stack.tif", make_image((1, 1)))
    assert run(path, tmp_path).pixels.sum() == 1


def test_a_stack_without_a_known_pixel_leaves_nothing(tmp_path):
    image = make_image((30, 30))
    image[4] = np.nan
    path = write_stack(tmp_path / "stack.tif", image)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="no pixel"):
        run(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_index_that_does_not_fit_is_refused(tmp_path):
    names = tuple("Slope" if name == "slope" else name for name in UNITS)
    path = write_stack(tmp_path / "stack.tif", make_image((9, 9)), names=names)
    with pytest.raises(DataError, match="Slope"):
        run(path, tmp_path)
    write_stack(path, make_image((9, 9)), units={**UNITS, "DEM": "ft"})
    with pytest.raises(DataError, match="ft"):
        run(path, tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("slope", lambda degrees: 100 * np.tan(np.radians(degrees)), "% of them are outside 0 to 90 degree"),
        ("slope", np.radians, "may be in radians"),
        ("NDVI", lambda values: 10_000 * values, "% of them are outside -1 to 1"),
        ("SMI", lambda values: 100 * values, "% of them are outside 0 to 1"),
        ("DEM", lambda metres: 100 * metres, "% of them are outside -450 to 8900 m"),
    ],
)
def test_values_that_cannot_be_in_the_unit_of_their_band_are_refused(tmp_path, name, change, message):
    image = make_image((40, 50))
    place = list(UNITS).index(name)
    image[place] = change(image[place])
    units = dict.fromkeys(UNITS, "") if "radians" in message else UNITS
    path = write_stack(tmp_path / "stack.tif", image, units=units)
    with pytest.raises(DataError, match=message):
        zoo.risk.map(path, tmp_path / "risk.tif", weights=INDEX, classes=(0.5, 0.6))
    with pytest.raises(DataError, match=message):
        zoo.risk.calibrate(path, tmp_path / "not_opened.gpkg")
    if name in ("slope", "DEM"):
        with pytest.raises(DataError, match=message):
            zoo.risk.safety(path, tmp_path / "safety.tif", rain=(12.0, 2.0))
    assert not list(tmp_path.glob("[rs][ia]*.tif"))


def test_values_outside_the_ranges_of_the_weights_are_warned_of(tmp_path):
    image = make_image((40, 50))
    inside = write_stack(tmp_path / "inside.tif", image)
    image[5] *= 3.28
    feet = write_stack(tmp_path / "feet.tif", image, units=dict.fromkeys(UNITS, ""))
    told = [
        [text for text in zoo.risk.map(path, out, weights=INDEX, classes=(0.5, 0.6)).warnings if "range of the" in text]
        for path, out in ((inside, tmp_path / "a.tif"), (feet, tmp_path / "b.tif"))
    ]
    assert told[0] == []
    assert told[1][0].startswith("DEM: 100%")
    assert "lie outside 1000 to 2500, the range of the weights" in told[1][0]


def test_voids_of_an_elevation_written_as_0_are_refused(tmp_path):
    image = make_image((40, 50))
    image[5, :9, :9] = 0.0
    path = write_stack(tmp_path / "stack.tif", image)
    with pytest.raises(DataError, match=r"DEM is 0 in 4\.0% of the pixels, and 80\d\S* m or more in the others"):
        zoo.risk.map(path, tmp_path / "risk.tif", weights=INDEX, classes=(0.5, 0.6))
    image[5] = np.clip(image[5] - 900, 0, None)
    zoo.risk.map(write_stack(tmp_path / "coast.tif", image), tmp_path / "risk.tif", weights=INDEX, classes=(0.5, 0.6))


def test_an_interruption_leaves_nothing_and_keeps_what_was_there(scene, tmp_path):
    (tmp_path / "risk.tif").write_bytes(b"before")

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(scene.path, tmp_path, progress=stop)
    assert [one.name for one in tmp_path.iterdir()] == ["risk.tif"]
    assert (tmp_path / "risk.tif").read_bytes() == b"before"


def test_a_truncated_stack_is_named(scene, tmp_path):
    cut = tmp_path / "cut.tif"
    data = scene.path.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="truncated"):
        run(cut, tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["cut.tif"]


def test_a_full_disk_is_reported_before_the_work(scene, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with Stack(scene.path) as stack, pytest.raises(ZooError, match="MB are free"):
        CogWriter(tmp_path / "risk.tif", stack, [RISK])
