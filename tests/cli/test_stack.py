"""``zoo stack`` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from tests.rasters.geotiffs import write_geotiff
from zoo.cli import run
from zoo.rasters.layers import BandFile, Sources
from zoo.rasters.stacks import Stack

Files = dict[str, Path]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Digital numbers of baseline 05.09 and a DEM, 120 x 100 pixels of 10 m."""
    rng = np.random.default_rng(1)
    cover = rng.random((120, 100))
    wet = rng.random((120, 100))
    bands = {
        "green": 0.09 - 0.06 * cover,
        "red": 0.12 - 0.10 * cover,
        "nir": 0.20 + 0.25 * cover,
        "swir": 0.28 - 0.14 * cover,
        "optram": (0.24 - 0.12 * cover) * (1 - 0.6 * wet),
    }
    values = {name: np.round(band * 10_000 + 1000).astype(np.uint16) for name, band in bands.items()}
    values["dem"] = (1000 + 300 * rng.random((120, 100))).astype(np.float32)
    values["moisture"] = (0.1 + 0.3 * wet).astype(np.float32)
    return {name: write_geotiff(tmp_path / f"{name}.tif", band) for name, band in values.items()}


@pytest.fixture
def stack(files: Files, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``zoo stack`` with the named files and options; code, standard output, standard error."""

    def call(names: str, *options: object, out: str = "stack.tif") -> tuple[int, str, str]:
        given = [text for name in names.split() for text in (f"--{name}", str(files[name]))]
        code = run(["stack", *given, *map(str, options), "--out", str(tmp_path / out)])
        said = capfd.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return call


Run = Callable[..., tuple[int, str, str]]
ALL = "green red nir swir dem"


def test_seven_channels(stack: Run, tmp_path: Path) -> None:
    weights = tmp_path / "weights.json"
    options = ("--rain", "12,2", "--baseline", "05.09", "--phase", "post", "--date", "2024-06-11", "--scene", "K1")
    code, told, noted = stack(f"{ALL} optram", *options, "--save-weights", weights)
    assert code == 0, noted
    with Stack(tmp_path / "stack.tif") as made:
        assert [band.name for band in made.bands] == ["SMI", "NDBI", "NDVI", "NDWI", "slope", "DEM", "LSI"]
        tags = made.tags
    assert (tags["SCENE"], tags["DATE"], tags["PHASE"], tags["RAIN"]) == ("K1", "2024-06-11", "post", "12,2")
    assert "100 x 120 px of 10 m, EPSG:32643" in told
    assert "OPTRAM" in told
    assert "not made" not in noted
    assert set(json.loads(weights.read_text())["features"]) == {"slope", "DEM", "NDVI", "NDWI", "SMI", "NDBI"}
    code, _, noted = stack(f"{ALL} moisture", "--weights", weights, out="next.tif")
    assert code == 0
    assert "its own" not in noted
    assert "has no unit" in noted


def test_a_dem_alone(stack: Run) -> None:
    code, told, noted = stack("dem")
    assert code == 0
    assert [line.split()[0] for line in told.splitlines()[1:3]] == ["slope", "DEM"]
    assert "not made: NDVI (no nir and no red)" in noted
    code, _, noted = stack("dem")
    assert code == 2
    assert "already exists" in noted
    assert "--overwrite" in noted
    assert stack("dem", "--overwrite")[0] == 0


def test_wetness_and_safety_are_added(stack: Run, tmp_path: Path) -> None:
    code, told, noted = stack("dem", "--rain", "4,1", "--safety", "--soil", "cohesion=1")
    assert code == 0, noted
    assert {"slope", "DEM", "wetness", "factor_of_safety"} <= {line.split()[0] for line in told.splitlines()}
    assert "the factor of safety is below 1 on" in noted
    with Stack(tmp_path / "stack.tif") as made:
        assert made.tags["SOIL"].startswith("cohesion 1, friction 33")


def test_the_source_of_moisture_must_be_chosen(stack: Run) -> None:
    code, _, noted = stack(ALL)
    assert code == 2
    assert "--moisture ndmi" in noted
    assert stack(ALL, "--moisture", "none")[0] == 0
    code, _, noted = stack(ALL, "--moisture", "ndmi", "--overwrite")
    assert code == 0
    assert "warning: SMI is NDMI, which equals -NDBI" in noted
    code, _, noted = stack(f"{ALL} optram", "--moisture", "ndmi")
    assert code == 2
    assert "are both sources" in noted


def test_bands_of_one_file(stack: Run, files: Files, tmp_path: Path) -> None:
    with rasterio.open(files["red"]) as red, rasterio.open(files["nir"]) as nir:
        profile = {**red.profile, "count": 2}
        with rasterio.open(tmp_path / "both.tif", "w", **profile) as both:
            both.write(np.stack([red.read(1), nir.read(1)]))
    code, told, _ = stack("", "--red", f"{tmp_path / 'both.tif'}:1", "--nir", f"{tmp_path / 'both.tif'}:2")
    assert code == 0
    assert "NDVI" in told
    code, _, noted = stack(
        "", "--red", f"{tmp_path / 'both.tif'}:1", "--nir", f"{tmp_path / 'both.tif'}:3", out="b.tif"
    )
    assert code == 2
    assert "there is no band 3" in noted


def test_a_product_and_files_are_merged(
    stack: Run, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_safe(path: Path) -> Sources:
        assert path == tmp_path / "S2.SAFE"
        roles = {"green": "green", "red": "red", "nir": "nir", "swir": "swir", "swir2": "optram"}
        found = {role: BandFile(str(files[name]), offset=-1000.0, scale=1e-4) for role, name in roles.items()}
        return Sources(
            found, scene="T43SCT", date="2024-06-11", baseline="05.10", notes=("a product of baseline 05.10",)
        )

    monkeypatch.setattr("zoo.rasters.safe.open_safe", open_safe)
    code, _, noted = stack("dem", tmp_path / "S2.SAFE", "--moisture", "optram", "--scene", "Kashmir")
    assert code == 0, noted
    assert "a product of baseline 05.10" in noted
    with Stack(tmp_path / "stack.tif") as made:
        assert (made.tags["SCENE"], made.tags["DATE"], made.tags["BASELINE"]) == ("Kashmir", "2024-06-11", "05.10")


def test_a_catalogue_is_searched_with_the_given_options(
    stack: Run, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def fetch(bbox: object, dates: str, folder: Path, **options: object) -> Sources:
        asked.extend((bbox, dates, folder.name, options["url"], options["collection"], options["max_cloud"]))
        found = {role: BandFile(str(files[role]), offset=None, scale=1e-4) for role in ("green", "red", "nir", "swir")}
        return Sources(found, date="2024-06-11")

    monkeypatch.setattr("zoo.rasters.stac.fetch_sources", fetch)
    place = ("--from-stac", "73.4,34.1,73.6,34.3", "2024-06-01/2024-06-30")
    code, _, noted = stack("dem", *place, "--stac-url", "catalog.json", "--max-cloud", "5", "--moisture", "ndmi")
    assert code == 0, noted
    assert asked == [
        (73.4, 34.1, 73.6, 34.3),
        "2024-06-01/2024-06-30",
        "stack-inputs",
        "catalog.json",
        "sentinel-2-l2a",
        5.0,
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rain", "12"), "--rain: '12' is not 2 numbers"),
        (("--rain", "a,b"), "12,2"),
        (("--rain", "nan,2"), "'nan,2' is not 2 numbers"),
        (("--rain=-5,2",), "--rain: the rain intensity is -5 mm/h"),
        (("--bounds", "1,2,3"), "is not 4 numbers"),
        (("--moisture-range", "0.5"), "is not 2 numbers"),
        (("--safety",), "need the rain"),
        (("--soil", "depth=1"), "Add --safety"),
        (("--rain", "4,1", "--safety", "--soil", "depht=1"), "Did you mean 'depth'"),
        (("--rain", "-4,1", "--safety"), "rain intensity is -4 mm/h"),
        (("--date", "June"), "is not a date"),
        (("--phase", "during"), "pre"),
        (("--baseline", "five"), "not a processing baseline"),
        (("--weights", "absent.json"), "no such file"),
        (("--grid", "absent.tif"), "no such file"),
        (("--crs", "nowhere"), "not a coordinate reference system"),
        (("--resolution", "-3"), "resolution"),
        (("absent.SAFE",), "absent.SAFE"),
        (("--from-stac", "1,2", "2024"), "not 4 numbers"),
        (("--scl", "absent.tif"), "no such file"),
    ],
)
def test_bad_options_are_reported(options: tuple[str, ...], said: str, stack: Run, tmp_path: Path) -> None:
    code, _, noted = stack("red nir dem", *options)
    assert code == 2, noted
    assert said in noted
    assert not (tmp_path / "stack.tif").exists()


def test_help_is_quick_and_shows_examples() -> None:
    code = "import sys; from zoo.cli import run; run(['stack', '-h']); sys.exit('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "zoo stack --dem dem.tif --out terrain.tif" in done.stdout


def test_a_real_dem(shared_data: Path, stack: Run, tmp_path: Path) -> None:
    code, _, noted = stack("", "--dem", shared_data / "kashmir" / "AW3D30.tif")
    assert code == 0, noted
    with Stack(tmp_path / "stack.tif") as made:
        slope, elevation = made.read()
        assert made.shape == (849, 546)
    # Steep valleys, and no spike where the file has a seam or a hole.
    assert 30 < float(np.median(slope)) < 36
    assert 900 < elevation.min() < elevation.max() < 4100


def test_a_real_mosaic_in_degrees(shared_data: Path, stack: Run, tmp_path: Path) -> None:
    mosaic = shared_data / "chattogram" / "mosaic_RGBN_uint16.tif"
    bands = ("--red", f"{mosaic}:1", "--green", f"{mosaic}:2", "--nir", f"{mosaic}:4")
    code, _, noted = stack("", *bands, "--crs", "EPSG:32646", "--resolution", "40")
    assert code == 0, noted
    with Stack(tmp_path / "stack.tif") as made:
        ndvi, ndwi = made.read()
    known = np.isfinite(ndvi)
    assert 0.3 < known.mean() < 0.45
    # Both hold NIR, and say nearly the same.
    assert np.corrcoef(ndvi[known], ndwi[known])[0, 1] < -0.85
