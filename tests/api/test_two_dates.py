"""Two dates from files to a map: stack, patches, the baseline without training, and what the map calls landslide."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from scipy import ndimage
from shapely.geometry import box

import zoo
from tests.rasters.geotiffs import write_geotiff
from zoo.errors import ConfigError

SIDE = 256
BANDS = {"B02": 0.04, "B03": 0.06, "B04": 0.04, "B08": 0.35, "B11": 0.18}
BARE = {"B02": 0.09, "B03": 0.12, "B04": 0.15, "B08": 0.22, "B11": 0.30}
PLACES = [(row, column) for row in (20, 84, 148, 212) for column in (10, 70, 140, 200)]


def write(path: Path, values: np.ndarray, pixel: float = 10.0) -> None:
    path.parent.mkdir(exist_ok=True)
    write_geotiff(path, values, transform=from_origin(600_000, 3_800_000, pixel, pixel))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders before and after, where sixteen places lost their green, and a harvest on flat ground too."""
    folder, rng = tmp_path_factory.mktemp("scene"), np.random.default_rng(0)
    slid = np.zeros((SIDE, SIDE), bool)
    for row, column in PLACES:
        slid[row : row + 20, column : column + 30] = True
    harvest = np.zeros_like(slid)
    harvest[:, 240:] = True
    for name, date in (("before", "20240601"), ("after", "20240701")):
        texture = 1 + 0.1 * ndimage.gaussian_filter(np.random.default_rng(5).standard_normal((SIDE, SIDE)), 1.5)
        for band, green in BANDS.items():
            values = np.full((SIDE, SIDE), green) * texture + 0.002 * rng.standard_normal((SIDE, SIDE))
            if name == "after":
                values[slid | harvest] = BARE[band]
            write(folder / name / f"T43SCT_{date}_{band}.tif", np.round(values * 10_000).astype(np.uint16))
        classes = np.full((SIDE // 2, SIDE // 2), 4, np.uint8)
        classes[60:64] = 9 if name == "before" else 4
        write(folder / name / f"T43SCT_{date}_SCL.tif", classes, 20.0)
    dem = 1000 + np.minimum(np.arange(SIDE), 238) * 5.0 + np.zeros((SIDE, 1))
    write(folder / "dem.tif", dem.astype(np.float32))
    shapes = [
        box(600_000 + 10 * column, 3_800_000 - 10 * (row + 20), 600_000 + 10 * (column + 30), 3_800_000 - 10 * row)
        for row, column in PLACES
    ]
    gpd.GeoDataFrame(geometry=shapes, crs="EPSG:32643").to_file(folder / "slides.gpkg")
    return folder


def test_from_two_folders_to_a_map_without_training(scene: Path, tmp_path: Path) -> None:
    report = zoo.stack(
        scene / "change.tif", pre=scene / "before", post=scene / "after", dem=scene / "dem.tif", moisture="none",
        baseline="03.01",
    )  # fmt: skip
    assert report.shift is not None
    assert report.shift.pixels < 0.1
    zoo.patches(scene / "change.tif", scene / "slides.gpkg", tmp_path / "patches", size=64)
    model = zoo.train(
        "dndvi_threshold",
        str(tmp_path / "patches"),
        data_options={"split_by": "random"},
        device="cpu",
        out=tmp_path / "rule",
    )
    assert model.result is not None
    assert model.result.parameters == 0
    assert model.result.training is None
    assert model.bundle.recipe is None
    assert model.bundle.threshold == 0.5
    assert not (tmp_path / "rule" / "loss_curve.png").exists()
    threshold = float(model.bundle.state["threshold"])
    # The two means of dNDVI on slopes are near 0 and -0.61.
    assert 0.1 < threshold < 0.55
    model.map(scene / "change.tif", tmp_path / "map.tif")
    with rasterio.open(scene / "change.tif") as file:
        bands = dict(zip(file.descriptions, file.read(), strict=True))
    with rasterio.open(tmp_path / "map.tif") as file:
        stored = file.read(1, masked=True)
        probability = stored * file.scales[0]
    rule = (bands["slope"] >= 10) & (bands["dNDVI"] <= -threshold)
    known = ~np.ma.getmaskarray(stored)
    assert known.mean() > 0.9
    np.testing.assert_array_equal(np.asarray(probability >= 0.5)[known], rule[known])
    assert not rule[:, 245:].any()
    assert rule[30, 20]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"pre": "before"}, "image after the landslides is missing.*--post"),
        ({"post": "after"}, "image before the landslides is missing.*--pre"),
        ({"coregister": True}, "coregistration is for two images"),
        ({"pre_date": "2024-06-01"}, "date before is for two images"),
        ({"pre": "before", "post": "after", "safe": "after"}, "two images after the landslides"),
        ({"pre": "before", "post": "after", "phase": "pre"}, "shows the ground after the landslides"),
        ({"pre": "before", "post": "after", "pre_date": "2024-08-01"}, "before the landslides is from 2024-08-01"),
    ],
)
def test_options_that_contradict_each_other(scene: Path, tmp_path: Path, given: dict, problem: str) -> None:
    paths = {name: scene / value if name in ("pre", "post", "safe") else value for name, value in given.items()}
    with pytest.raises(ConfigError, match=problem):
        zoo.stack(tmp_path / "x.tif", moisture="none", **paths)
    assert not (tmp_path / "x.tif").exists()
