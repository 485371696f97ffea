"""`zoo risk calibrate` and `zoo risk map` as a user runs them, on a made-up valley that fails where it is steep."""

import json
import os

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.transform
import shapely
from rasterio.transform import from_origin

import zoo
from tests.rasters.geotiffs import write_geotiff
from zoo.cli import run
from zoo.errors import DataError
from zoo.physics import IndexParameters

SIDE, PIXEL = 160, 30.0
X, Y = 500_000.0, 3_900_000.0
UNITS = {"slope": "degree", "DEM": "m", "NDVI": "1"}


def write_stack(path, image, *, names=tuple(UNITS), units=UNITS, crs="EPSG:32643", **profile):
    about = {"crs": crs, "transform": from_origin(X, Y, PIXEL, PIXEL), "nodata": np.nan, **profile}
    named = [(name, units.get(name, "")) for name in names]
    return write_geotiff(path, image.astype(np.float32), names=named, **about)


def make_image(seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    slope = 25 + 14 * np.sin(x / 9.0 + seed) * np.cos(y / 7.0) + rng.normal(0, 2, (SIDE, SIDE))
    return np.stack(
        [np.clip(slope, 0, 80), 900 + 5.0 * y + rng.normal(0, 20, slope.shape), rng.uniform(0, 0.8, slope.shape)]
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """``stack.tif``, ``slides.gpkg`` and ``weights.json``."""
    folder = tmp_path_factory.mktemp("tal ö")
    image = make_image()
    write_stack(folder / "stack.tif", image)
    rng = np.random.default_rng(1)
    steep = np.argwhere(image[0] > 33)
    chosen = steep[rng.choice(len(steep), 90, replace=False)]
    shapes = [shapely.box(X + c * PIXEL, Y - (r + 2) * PIXEL, X + (c + 2) * PIXEL, Y - r * PIXEL) for r, c in chosen]
    geopandas.GeoDataFrame({"year": 2010}, index=range(90), geometry=shapes, crs="EPSG:32643").to_file(
        folder / "slides.gpkg"
    )
    assert run(["risk", "calibrate", *args(folder, "--out", "weights.json"), "--repeats", "20"]) == 0
    return folder


def args(place, *more):
    paths = [str(place / one) if "." in one and not one.startswith("-") else one for one in more]
    return [str(place / "stack.tif"), "--inventory", str(place / "slides.gpkg"), *paths]


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_calibration_finds_that_slope_matters_with_a_note(place, tmp_path, capsys):
    out = tmp_path / "w.json"
    curve = tmp_path / "curve.csv"
    done = run(["risk", "calibrate", *args(place), "--out", str(out), "--repeats", "20", "--curve", str(curve)])
    told = capsys.readouterr()
    assert done == 0
    values = json.loads(out.read_text())
    assert values["weights"]["slope"] > 0.7
    low, high = values["risk"]["intervals"]["slope"]
    assert low <= values["weights"]["slope"] <= high
    assert values["features"]["DEM"]["unit"] == "m"
    assert values["risk"]["region"]["crs"] == "EPSG:32643"
    assert values["risk"]["evaluation"]["auc_blocks"] > 0.75
    assert "no DEM" not in told.err
    assert "no NDWI, SMI, NDBI" in told.err
    assert "AUC" in told.out
    assert "(held-out blocks)" in told.out
    assert "inventory" not in told.out
    assert curve.read_text().splitlines()[0] == "area_share,landslide_share"
    assert curve.read_text().splitlines()[-1] == "1.0000,1.000000"


def test_one_seed_gives_one_file(place, tmp_path):
    for name in ("a.json", "b.json"):
        assert run(["risk", "calibrate", *args(place), "--out", str(tmp_path / name), "--repeats", "5"]) == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_zoo_stack_takes_the_weights(place):
    assert IndexParameters.load(place / "weights.json").ranges.keys() == {"slope", "DEM", "NDVI"}


@pytest.mark.parametrize("method", ["spearman", "expert"])
def test_the_other_methods(place, tmp_path, method, capsys):
    out = tmp_path / "w.json"
    threshold = ("--preset", "0.002,0.5", "--annual-rain", "1500")
    assert (
        run(["risk", "calibrate", *args(place), "--out", str(out), "--method", method, "--repeats", "5", *threshold])
        == 0
    )
    values = json.loads(out.read_text())
    weights = values["weights"]
    assert values["rain"]["intensity"] == pytest.approx(3 / 24**0.5)
    assert values["rain"]["beta"] == pytest.approx(1.2 * 0.5)
    assert sum(map(abs, weights.values())) == pytest.approx(1)
    if method == "expert":
        assert weights["slope"] == pytest.approx(0.25 / 0.6)


def test_a_map_with_all_its_files(place, tmp_path, capsys):
    files = [tmp_path / name for name in ("risk.tif", "classes.tif", "risk.png", "safety.tif")]
    options = ["--weights", str(place / "weights.json"), "--rain", "8,2"]
    done = run(
        ["risk", "map", str(place / "stack.tif"), *options, "--out", str(files[0]), "--classes-out", str(files[1]),
         "--picture", str(files[2]), "--safety", str(files[3])]
    )  # fmt: skip
    told = capsys.readouterr()
    assert done == 0, told.err
    assert files[2].read_bytes()[:4] == b"\x89PNG"
    classes = read(files[1])
    areas = [float(line.split()[1]) for line in told.out.splitlines() if line.split()[0] in ("low", "medium", "high")]
    assert areas == pytest.approx([(classes == number).sum() * 900 / 1e6 for number in (1, 2, 3)], rel=2e-3)
    assert "8 mm/h over 2 days" in told.err
    assert "factor of safety is below 1" in told.err
    with rasterio.open(files[0]) as file:
        assert len(file.tags()["WEIGHTS_SHA256"]) == 64
        assert "8 mm/h" in file.tags()["RAIN_FACTOR"]


def test_stored_ranges_and_breaks_hold_in_another_region(place, tmp_path, capsys):
    """The same pixel gets the same risk and class wherever it lies."""
    image = make_image()
    write_stack(tmp_path / "part.tif", image[:, 60:100, 20:80])
    for stack, name in ((place / "stack.tif", "whole"), (tmp_path / "part.tif", "part")):
        assert run(
            ["risk", "map", str(stack), "--weights", str(place / "weights.json"), "--out",
             str(tmp_path / f"{name}-risk.tif"), "--classes-out", str(tmp_path / f"{name}-classes.tif")]
        ) == 0  # fmt: skip
    for kind in ("risk", "classes"):
        whole, part = read(tmp_path / f"whole-{kind}.tif"), read(tmp_path / f"part-{kind}.tif")
        np.testing.assert_array_equal(whole[60:100, 20:80], part)


def test_without_weights_it_is_table_1_with_a_caveat(place, tmp_path, capsys):
    assert run(["risk", "map", str(place / "stack.tif"), "--out", str(tmp_path / "risk.tif")]) == 0
    told = capsys.readouterr()
    assert "only compares places within this scene" in told.err
    assert "no NDWI, SMI, NDBI" in told.err


def test_rain_that_lowers_the_index_is_warned_of(place, tmp_path, capsys):
    image = make_image()
    image[2] = 0.8
    image[2, 0, 0] = 0.0
    write_stack(tmp_path / "green.tif", image)
    (tmp_path / "w.json").write_text(
        json.dumps({"weights": {"NDVI": -0.6, "slope": 0.4},
                    "features": {"NDVI": {"low": 0, "high": 1}, "slope": {"low": 0, "high": 90}}})
    )  # fmt: skip
    options = ["--weights", str(tmp_path / "w.json"), "--out", str(tmp_path / "r.tif"), "--rain", "9,2"]
    assert run(["risk", "map", str(tmp_path / "green.tif"), *options]) == 0
    assert "LOWERS" in capsys.readouterr().err


def test_a_risk_model_is_mapped(place, tmp_path, capsys):
    out = tmp_path / "rf.tif"
    done = run(["risk", "map", *args(place), "--model", "random_forest_untuned", "--out", str(out)])
    told = capsys.readouterr()
    assert done == 0, told.err
    risk = read(out)
    slope = make_image()[0]
    assert risk[slope > 36].mean() > risk[slope < 20].mean() + 0.2
    assert "not a probability" in told.err


def refusal(capsys, *command):
    assert run([str(one) for one in command]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.lstrip().startswith(("error", "Usage"))
    return told.err


def test_what_cannot_be_calibrated_is_refused(place, tmp_path, capsys):
    out = ("--out", tmp_path / "w.json")
    stack, slides = place / "stack.tif", place / "slides.gpkg"
    calibrate = ("risk", "calibrate")
    assert "no such file" in refusal(capsys, *calibrate, tmp_path / "no.tif", "--inventory", slides, *out)
    assert "no such inventory" in refusal(capsys, *calibrate, stack, "--inventory", tmp_path / "no.gpkg", *out)
    assert "already exists" in refusal(
        capsys, *calibrate, stack, "--inventory", slides, "--out", place / "weights.json"
    )
    assert "one of the inputs" in refusal(
        capsys, *calibrate, stack, "--inventory", slides, "--out", slides, "--overwrite"
    )
    away = tmp_path / "away.gpkg"
    geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 9, 9)], crs="EPSG:32643").to_file(away)
    assert "no landslide lies in the scene" in refusal(capsys, *calibrate, stack, "--inventory", away, *out)
    assert "--rain" in refusal(capsys, *calibrate, stack, "--inventory", slides, "--rain", "-3,1", *out)
    assert "the same everywhere" in refusal(capsys, *calibrate, stack, "--inventory", slides, "--rain", "0,1", *out)
    assert "preset" in refusal(capsys, *calibrate, stack, "--inventory", slides, "--preset", "cain", *out)
    assert "--seed" in refusal(capsys, *calibrate, stack, "--inventory", slides, "--seed", "-1", *out)
    assert "have the same name" in refusal(
        capsys, *calibrate, stack, "--inventory", slides, "--curve", tmp_path / "w.json", *out
    )
    assert "of inf m" in refusal(capsys, *calibrate, stack, "--inventory", slides, "--block", "inf", *out)
    assert "--annual-rain" in refusal(capsys, *calibrate, stack, "--inventory", slides, "--annual-rain", "900", *out)
    assert "threshold is -1" in refusal(capsys, *calibrate, stack, "--inventory", slides, "--preset", "-1,0.4", *out)
    assert "class breaks" in refusal(capsys, *calibrate, stack, "--inventory", slides, "--classes", "0.6,0.5", *out)
    write_stack(tmp_path / "feet.tif", make_image(), units={**UNITS, "DEM": "ft"})
    assert "ft" in refusal(capsys, *calibrate, tmp_path / "feet.tif", "--inventory", slides, *out)
    write_stack(tmp_path / "odd.tif", make_image(), names=("a", "b", "c"))
    assert "no band is named" in refusal(capsys, *calibrate, tmp_path / "odd.tif", "--inventory", slides, *out)
    write_stack(tmp_path / "none.tif", make_image() * np.nan)
    assert "no pixel" in refusal(capsys, *calibrate, tmp_path / "none.tif", "--inventory", slides, *out)
    write_stack(tmp_path / "flat.tif", np.concatenate([make_image()[:1] * 0 + 20, make_image()[1:]]))
    assert "slope" in refusal(capsys, *calibrate, tmp_path / "flat.tif", "--inventory", slides, *out)
    assert not (tmp_path / "w.json").exists()


def test_what_cannot_be_mapped_is_refused(place, tmp_path, capsys):
    stack, weights, out = place / "stack.tif", place / "weights.json", ("--out", tmp_path / "r.tif")
    mapping = ("risk", "map", stack, *out)
    assert "--rain" in refusal(capsys, *mapping, "--rain", "-3,1")
    assert "--rain" in refusal(capsys, *mapping, "--rain", "3")
    assert "-2 days" in refusal(capsys, *mapping, "--rain", "3,-2")
    assert "no such file" in refusal(capsys, *mapping, "--rain", "no.tif")
    assert "--inventory" in refusal(capsys, *mapping, "--model", "random_forest")
    assert "--model" in refusal(capsys, *mapping, "--inventory", place / "slides.gpkg")
    assert "--where needs --model" in refusal(capsys, *mapping, "--where", "a = 1")
    assert "--seed" in refusal(capsys, *mapping, "--seed", "-1")
    rain = write_stack(tmp_path / "rain.tif", make_image()[:1], names=("intensity",), units={"intensity": "mm/h"})
    for days in ("-2", "nan"):
        assert f"{days} days of rain" in refusal(capsys, *mapping, "--rain", rain, "--duration", days)
    assert "no such file" in refusal(capsys, "risk", "map", tmp_path / "no.tif", "--out", tmp_path / "new" / "r.tif")
    assert not (tmp_path / "new").exists()
    assert "Did you mean" in refusal(capsys, *mapping, "--model", "svn", "--inventory", place / "slides.gpkg")
    assert "xyz" in refusal(capsys, *mapping, "--picture", tmp_path / "r.xyz")
    assert "two outputs" in refusal(capsys, *mapping, "--classes-out", tmp_path / "r.tif")
    assert "--safety" in refusal(capsys, *mapping, "--safety", tmp_path / "s.tif")
    assert "--safety" in refusal(capsys, *mapping, "--soil", "depth=1")
    soil = ("--rain", "3,1", "--safety", tmp_path / "s.tif", "--soil")
    assert "depht" in refusal(capsys, *mapping, *soil, "depht=1")
    assert "folder" in refusal(capsys, "risk", "map", stack, "--out", tmp_path)
    assert "cannot write" in refusal(capsys, "risk", "map", stack, "--out", place / "stack.tif" / "r.tif")
    assert "one of the inputs" in refusal(capsys, "risk", "map", stack, "--out", stack, "--overwrite")
    broken = tmp_path / "broken.json"
    broken.write_text(weights.read_text()[:200])
    assert str(broken) in refusal(capsys, *mapping, "--weights", broken)
    values = json.loads(weights.read_text())
    values["features"]["slope"]["low"] = values["features"]["slope"]["high"]
    broken.write_text(json.dumps(values))
    assert f"{broken}: slope: feature range" in refusal(capsys, *mapping, "--weights", broken)
    values = json.loads(weights.read_text())
    del values["risk"]["coefficients"]["gain"]
    broken.write_text(json.dumps(values))
    assert "gain" in refusal(capsys, *mapping, "--weights", broken)
    image = make_image()
    names = ("Slope", "DEM", "NDVI")
    odd = write_stack(tmp_path / "odd.tif", image, names=names, units={"DEM": "m", "NDVI": "1", "Slope": "degree"})
    assert "Did you mean 'Slope'" in refusal(capsys, "risk", "map", odd, *out, "--weights", weights)
    turned = write_stack(tmp_path / "turned.tif", image, units={**UNITS, "slope": "radian"})
    assert "'radian'" in refusal(capsys, "risk", "map", turned, *out, "--weights", weights)
    nowhere = write_stack(tmp_path / "nowhere.tif", image, crs=None)
    assert "coordinate reference system" in refusal(capsys, "risk", "map", nowhere, *out)
    (tmp_path / "r.tif").write_bytes(b"mine")
    assert "already exists" in refusal(capsys, *mapping)
    assert (tmp_path / "r.tif").read_bytes() == b"mine"


def test_rain_of_a_raster_is_fitted(place, tmp_path, capsys):
    """More rain in the east, and only the landslides there are left."""
    _, x = np.mgrid[:SIDE, :SIDE]
    rng = np.random.default_rng(5)
    rain = np.stack([2 + 10 * x / SIDE * rng.uniform(0.5, 1.5, x.shape), np.full(x.shape, 1.5)])
    write_stack(
        tmp_path / "rain.tif", rain, names=("intensity", "duration"), units={"intensity": "mm/h", "duration": "day"}
    )
    slides = geopandas.read_file(place / "slides.gpkg")
    slides[slides.centroid.x > X + SIDE * PIXEL * 0.4].to_file(tmp_path / "east.gpkg")
    done = run(
        ["risk", "calibrate", str(place / "stack.tif"), "--inventory", str(tmp_path / "east.gpkg"), "--rain",
         str(tmp_path / "rain.tif"), "--form", "log-additive", "--out", str(tmp_path / "w.json"), "--repeats", "10"]
    )  # fmt: skip
    told = capsys.readouterr()
    assert done == 0, told.err
    values = json.loads((tmp_path / "w.json").read_text())
    assert values["rain"]["alpha"] > 0.5
    assert values["rain"]["beta"] == 0
    assert values["risk"]["form"] == "log-additive"
    assert set(values["risk"]["intervals"]) >= {"alpha", "intensity"}
    assert "rain fitted" in told.err
    assert run(
        ["risk", "map", str(place / "stack.tif"), "--weights", str(tmp_path / "w.json"), "--rain",
         str(tmp_path / "rain.tif"), "--out", str(tmp_path / "r.tif")]
    ) == 0  # fmt: skip
    risk = read(tmp_path / "r.tif")
    assert risk[:, 120:].mean() > 2 * risk[:, :40].mean()


def test_a_valley_in_kashmir(shared_data, tmp_path, capsys):
    stack, weights = str(tmp_path / "terrain.tif"), str(tmp_path / "w.json")
    data = shared_data / "kashmir"
    assert run(["stack", "--dem", str(data / "AW3D30.tif"), "--out", stack]) == 0
    assert run(
        ["risk", "calibrate", stack, "--inventory", str(data / "landslides.shp"), "--signs", "free", "--form",
         "log-additive", "--repeats", "10", "--out", weights]
    ) == 0  # fmt: skip
    values = json.loads((tmp_path / "w.json").read_text())
    assert 0.72 < values["risk"]["evaluation"]["auc_blocks"] < 0.78
    assert values["weights"]["slope"] > 0 > values["weights"]["DEM"]
    shares = values["risk"]["evaluation"]["classes"]
    assert shares["high"]["landslides"] / shares["high"]["area"] > 3
    out, classes = tmp_path / "risk.tif", tmp_path / "classes.tif"
    assert run(
        ["risk", "map", stack, "--weights", weights, "--rain", "6,1", "--out", str(out), "--classes-out", str(classes),
         "--picture", str(tmp_path / "r.png")]
    ) == 0  # fmt: skip
    assert np.isfinite(read(out)).mean() > 0.99
    assert (tmp_path / "r.png").stat().st_size > 100_000
    # More rain than the reference moves area upwards, over the breaks of the weights.
    assert np.mean(read(classes) == 3) > 1.5 * shares["high"]["area"]


def test_the_front_door_does_what_the_commands_do(place, tmp_path):
    found = zoo.risk.calibrate(place / "stack.tif", place / "slides.gpkg", repeats=20)
    found.save(tmp_path / "w.json")
    assert (tmp_path / "w.json").read_bytes() == (place / "weights.json").read_bytes()
    assert "(held-out blocks)" in repr(found)
    report = zoo.risk.map(place / "stack.tif", tmp_path / "a.tif", weights=found, rain=(8, 2))
    assert report.files == (tmp_path / "a.tif",)
    assert sum(report.shares) == pytest.approx(1)
    again = zoo.risk.map(str(place / "stack.tif"), str(tmp_path / "b.tif"), weights=place / "weights.json", rain=(8, 2))
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), read(tmp_path / "b.tif"))
    assert report.dry == again.dry
    dry = zoo.risk.map(place / "stack.tif", tmp_path / "c.tif", weights=found)
    assert report.dry == pytest.approx(dry.shares)
    for wrong in ((np.nan, 2), (-1, 2), (6, 48), (500, 2)):
        with pytest.raises(DataError):
            zoo.risk.map(place / "stack.tif", tmp_path / "d.tif", weights=found, rain=wrong)
    assert not (tmp_path / "d.tif").exists()


def test_a_map_of_one_class_is_warned_of_and_scenario_breaks_help(place, tmp_path, capsys):
    command = ["risk", "map", str(place / "stack.tif"), "--weights", str(place / "weights.json"), "--rain", "12,2"]
    assert run([*command, "--out", str(tmp_path / "a.tif")]) == 0
    told = capsys.readouterr()
    assert "hardly distinguishes places" in told.err
    assert "--classes scenario" in told.err
    assert "reference rain" in told.out
    assert run([*command, "--out", str(tmp_path / "b.tif"), "--classes", "scenario"]) == 0
    told = capsys.readouterr()
    assert "hardly" not in told.err
    assert "under the given rain" in told.err
    shares = [float(line.split()[2].rstrip("%")) for line in told.out.splitlines()[1:4]]
    assert max(shares) < 60
    assert "--rain 12,2" in refusal(
        capsys, "risk", "map", place / "stack.tif", "--out", tmp_path / "c.tif", "--classes", "scenario"
    )


def test_areas_are_measured_on_the_ground(place, tmp_path):
    """Pixels of 10 m in Web Mercator are smaller at 50 degrees north, and pixels in degrees have areas too."""
    image = make_image()[:, :60, :60]
    for crs, corner, pixel, metres in (
        ("EPSG:3857", (8_349_000, 6_500_000), 10.0, 6.39),
        ("EPSG:4326", (75.0, 50.0), 1e-4, 8.93),
    ):
        path = tmp_path / f"{crs[5:]}.tif"
        write_stack(path, image, crs=crs)
        with rasterio.open(path, "r+") as file:
            file.transform = rasterio.transform.from_origin(*corner, pixel, pixel)
        report = zoo.risk.map(path, tmp_path / "out.tif", classes=(0.5, 0.6), overwrite=True)
        assert sum(report.areas) == pytest.approx(60 * 60 * metres**2 / 1e6, rel=0.02)


def test_a_dollar_in_a_title_is_no_formula(place, tmp_path):
    zoo.risk.map(place / "stack.tif", tmp_path / "r.tif", picture=tmp_path / "r.png", title="$x^{$ 100 $")
    assert (tmp_path / "r.png").read_bytes()[:4] == b"\x89PNG"


def test_a_name_that_is_not_utf_8_is_refused_with_a_clear_message(place, tmp_path, capsys):
    name = os.fsdecode(b"\xff.tif")
    (tmp_path / name).write_bytes((place / "stack.tif").read_bytes())
    assert "is not valid UTF-8" in refusal(capsys, "risk", "map", tmp_path / name, "--out", tmp_path / "r.tif")
