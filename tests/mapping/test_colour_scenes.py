"""Maps of Sentinel-2 true-colour tiles, products and reflectance stacks with a model that was trained on pictures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.enums import ColorInterp
from rasterio.transform import from_bounds, from_origin
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from torch import nn

from tests.mapping.conftest import CORNER, WriteScene, read
from tests.rasters.test_safe import write_safe
from zoo.cli import run
from zoo.datasets.statistics import BandStatistics, Statistics
from zoo.mapping.clouds import Clouds
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import PixelRange
from zoo.physics.bands import Band
from zoo.physics.display import DISPLAY
from zoo.registry import create_model
from zoo.training.bundle import Bundle
from zoo.training.bundle_layout import ComputeFormat
from zoo.weights.card import render_card

COLOURS = tuple(Band(name, DISPLAY) for name in ("red", "green", "blue"))
TCI = "T43SCT_20240611T054639_TCI_10m"


def make_bundle() -> Bundle:
    options = {"widths": [4, 4, 4, 4, 4]}
    torch.manual_seed(0)
    model = create_model("unet", 3, 2, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.05, 0.2)
    entries = tuple(BandStatistics(band.name, 60.0, 25.0, 0.0, 255.0, 10.0, 200.0, 10) for band in COLOURS)
    return Bundle(
        model="unet",
        options=options,
        bands=COLOURS,
        statistics=Statistics(entries, 3),
        compute_format=ComputeFormat("fp32", True),
        class_names=("background", "landslide"),
        threshold=0.4,
        state=model.state_dict(),
        pixel_size=10.0,
    )


@pytest.fixture(scope="session")
def colour_bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("rgb")
    make_bundle().save(folder)
    return str(folder)


def picture(rows: int = 200, columns: int = 260, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    hills = 60 + 25 * np.sin(x / 17.0) * np.cos(y / 23.0)
    return np.clip(hills + rng.normal(0, 6, (3, rows, columns)), 1, 180).astype(np.uint8)


def write_tile(folder: Path, image: np.ndarray, name: str = f"{TCI}.jp2", *, colours: bool = True) -> str:
    path = folder / name
    jp2 = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", "BLOCKXSIZE": 128, "BLOCKYSIZE": 128}
    with rasterio.open(
        path,
        "w",
        count=3,
        height=image.shape[1],
        width=image.shape[2],
        dtype="uint8",
        crs="EPSG:32643",
        transform=from_origin(*CORNER, 10, 10),
        **(jp2 if name.endswith("jp2") else {"driver": "GTiff"}),
    ) as file:
        file.write(image)
        if colours:
            file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    return str(path)


def test_a_true_colour_tile_needs_no_names(colour_bundle: str, tmp_path: Path, capsys) -> None:
    image = picture()
    image[:, :, 200:] = 0
    image[:, 50:53, 50:53] = 0
    tile, out = write_tile(tmp_path, image, colours=False), tmp_path / "map.tif"
    assert run(["map", colour_bundle, tile, "--adapt", "--out", str(out), "--picture", str(tmp_path / "a.png")]) == 0
    told = capsys.readouterr()
    assert "pixels with 0 in all three colours have no data" in told.err
    assert "windows of the scene, without labels" in told.err
    assert "million pixels per second" in told.err
    assert "MB of memory" in told.err
    assert f"{200 * 60 + 9:,} without data" in told.out
    np.testing.assert_array_equal(read(out) == 255, (image == 0).all(axis=0))
    with rasterio.open(out) as file:
        assert "used unchanged" in file.tags()["COLOURS"]


def test_a_reflectance_stack_gives_the_map_of_its_true_colour_image(
    colour_bundle: str, write_scene: WriteScene, tmp_path: Path, capsys
) -> None:
    image = picture().astype(np.float32)
    reflectance = (image - 1) / 254 * np.float32(0.2)
    names = tuple(Band(name, "1") for name in ("B02", "B03", "B04"))
    numbers = np.rint(reflectance[::-1] * 10000).astype(np.uint16)
    scenes = {
        "picture": write_tile(tmp_path, image.astype(np.uint8)),
        "reflectance": str(write_scene(reflectance[::-1], "r.tif", bands=names)),
        "numbers": str(write_scene(numbers, "n.tif", bands=None, nodata=0)),
    }
    maps = {}
    for name, scene in scenes.items():
        out = tmp_path / f"{name}-map.tif"
        extra = ["--bands", "blue,green,red"] if name == "numbers" else []
        assert run(["map", colour_bundle, scene, "--out", str(out), "--dtype", "float32", *extra]) == 0
        maps[name] = read(out)
    told = capsys.readouterr().err
    assert "0 to 0.2 reflectance become 1 to 255" in told
    assert "digital numbers" in told
    np.testing.assert_allclose(maps["reflectance"], maps["picture"], atol=1e-4)
    np.testing.assert_allclose(maps["numbers"], maps["picture"], atol=0.02)


def test_clouds_are_reported_and_left_out_on_request(colour_bundle: str, tmp_path: Path, capsys) -> None:
    image = picture()
    image[:, 40:100, 60:120] = 240
    image[:, 150:155, 10:15] = 240  # a roof
    tile = write_tile(tmp_path, image)
    assert run(["map", colour_bundle, tile, "--out", str(tmp_path / "all.tif")]) == 0
    told = capsys.readouterr().err
    assert told.count("about 6.9% of the scene is bright and white: clouds or snow") == 1
    assert "--mask-clouds" in told
    assert run(["map", colour_bundle, tile, "--out", str(tmp_path / "clear.tif"), "--mask-clouds"]) == 0
    told = capsys.readouterr()
    hidden = read(tmp_path / "clear.tif") == 255
    assert hidden[40:100, 60:120].all()
    assert not hidden[150:155, 10:15].any()
    assert hidden.sum() == (60 + 16) ** 2
    assert f"0 without data and {hidden.sum():,} under clouds or snow" in told.out
    assert "--mask-clouds" not in told.err
    assert (read(tmp_path / "all.tif") != 255).all()


def test_a_cloud_mask_of_another_grid(colour_bundle: str, write_scene: WriteScene, tmp_path: Path, capsys) -> None:
    tile = write_tile(tmp_path, picture())
    classes = np.full((1, 100, 130), 4, np.uint8)
    classes[0, 10:20, 10:20], classes[0, 30:40, 0:10], classes[0, 50:60, 0:10] = 9, 3, 11
    coarse = {"bands": None, "transform": from_origin(*CORNER, 20, 20), "nodata": None}
    scl = write_scene(classes, "scl.tif", **coarse)
    mask = write_scene((classes == 9).astype(np.uint8), "mask.tif", **coarse)
    for name, file in (("scl", scl), ("mask", mask)):
        out = tmp_path / f"{name}-map.tif"
        assert run(["map", colour_bundle, tile, "--out", str(out), "--cloud-mask", str(file)]) == 0
        expected = np.isin(classes[0], (3, 9, 11) if name == "scl" else (9,)).repeat(2, 0).repeat(2, 1)
        np.testing.assert_array_equal(read(out) == 255, expected)
        told = capsys.readouterr()
        assert f"{expected.sum():,} under clouds or snow" in told.out
        assert ("0.8% cloud, 0.8% cloud shadow, 0.8% snow" if name == "scl" else "0.8% of it is marked") in told.err
        with rasterio.open(out) as written:
            assert written.tags()["CLOUD_MASK"] == file.name


@pytest.mark.parametrize(("crs", "width", "beyond"), [(None, 130, 0.5), (None, 260, 0), ("EPSG:4326", 130, 0.5)])
def test_a_cloud_mask_of_a_part_of_the_scene_is_noted(
    write_scene: WriteScene, tmp_path: Path, crs: str | None, width: int, beyond: float
) -> None:
    tile = write_tile(tmp_path, picture())
    mask = write_scene(np.zeros((1, 200, width), np.uint8), "mask.tif", bands=None, nodata=None)
    if crs is not None:
        with rasterio.open(mask) as file:
            box = transform_bounds(file.crs, crs, *file.bounds)
        place = from_bounds(*box, 130, 200)
        mask = write_scene(
            np.zeros((1, 200, 130), np.uint8), "turned.tif", bands=None, nodata=None, crs=crs, transform=place
        )
    with Scene([tile], make_bundle().input_bands) as scene, Clouds(scene, file=mask) as clouds:
        found = [text for text in clouds.sentences if "count as clear" in text]
    assert len(found) == (beyond > 0)
    for text in found:
        share = re.search(r"about ([0-9.]+)% of the scene", text)
        assert share is not None
        assert abs(float(share[1]) / 100 - beyond) < 0.02


@pytest.mark.parametrize("crs", [None, "EPSG:32642"])
@pytest.mark.parametrize(
    ("numbers", "nodata", "left_out"),
    [((0, 1, 255), 255, (1, 255)), ((4, 9, 0), 0, (9, 0)), ((4, 9, 0), None, (9, 0)), ((0, 1, 0), 0, (1,))],
)
def test_nodata_of_a_cloud_mask_is_left_out(
    write_scene: WriteScene,
    tmp_path: Path,
    numbers: tuple[int, int, int],
    nodata: int | None,
    left_out: tuple[int, ...],
    crs: str | None,
) -> None:
    """What is not known to be clear is not mapped; the background of a mask is clear, whatever its tag says."""
    tile = write_tile(tmp_path, picture())
    clear, cloud, unknown = numbers
    classes = np.full((1, 200, 200), clear, np.uint8)
    classes[0, 20:40, 20:60], classes[0, 80:120, 30:90] = cloud, unknown
    about: dict[str, Any] = {"bands": None, "nodata": nodata}
    if crs is not None:
        with rasterio.open(tile) as scene:
            box = transform_bounds(scene.crs, crs, *scene.bounds)
        with (
            rasterio.open(write_scene(classes, "straight.tif", bands=None, nodata=None)) as file,
            WarpedVRT(file, crs=crs, transform=from_bounds(*box, 400, 400), width=400, height=400, nodata=77) as warped,
        ):
            turned = warped.read()
        about |= {"crs": crs, "transform": from_bounds(*box, 400, 400)}
        turned[turned == 77] = clear
        write_scene(turned, "mask.tif", **about)
    mask = tmp_path / "mask.tif" if crs is not None else write_scene(classes, "mask.tif", **about)
    with Scene([tile], make_bundle().input_bands) as scene, Clouds(scene, file=mask) as clouds:
        hidden = clouds.hidden(PixelRange(0, scene.shape[0]), PixelRange(0, scene.shape[1]))[:200, :200]
        told = " ".join(clouds.sentences)
    expected = np.isin(classes[0], left_out)
    assert np.mean(hidden != expected) < (0.005 if crs else 1e-9)
    assert ("is nodata and left out" in told) == (nodata is not None and unknown in left_out)


def test_cloud_masks_that_are_none(colour_bundle: str, write_scene: WriteScene, tmp_path: Path, capsys) -> None:
    tile, out = write_tile(tmp_path, picture()), tmp_path / "map.tif"
    whole = np.full((1, 100, 130), 9, np.uint8)
    coarse, far = from_origin(*CORNER, 20, 20), from_origin(1e5, 1e6, 20, 20)
    cases = [
        (write_scene(whole * 20, "other.tif", bands=None, transform=coarse, nodata=None), "neither a Sentinel-2"),
        (write_scene(whole, "far.tif", bands=None, transform=far, nodata=None), "does not overlap"),
        (tmp_path / "absent.tif", "there is no such file"),
        (write_scene(np.ones((2, 100, 130), np.uint8), "two.tif", bands=None, nodata=None), "has 2 bands"),
        (write_scene(whole, "all.tif", bands=None, transform=coarse, nodata=None), "clouds or snow hide all"),
    ]
    for file, problem in cases:
        assert run(["map", colour_bundle, tile, "--out", str(out), "--cloud-mask", str(file)]) == 2
        assert problem in capsys.readouterr().err
        assert not out.exists()


def test_a_map_replaces_no_mask(colour_bundle: str, write_scene: WriteScene, tmp_path: Path, capsys) -> None:
    tile = write_tile(tmp_path, picture())
    mask = write_scene(np.zeros((1, 200, 260), np.uint8), "mask.tif", bands=None, nodata=None)
    assert run(["map", colour_bundle, tile, "--out", str(mask), "--cloud-mask", str(mask), "--overwrite"]) == 2
    assert "mask.tif: is one of the inputs" in capsys.readouterr().err


def test_a_product_brings_its_classification(colour_bundle: str, bundle: Path, tmp_path: Path, capsys) -> None:
    product, out = write_safe(tmp_path), tmp_path / "map.tif"
    assert run(["map", colour_bundle, str(product), "--out", str(out)]) == 0
    with rasterio.open(out) as file:
        values, tags = file.read(1), file.tags()
    assert (tags["SCENE"], tags["DATE"]) == ("T32TPS", "2024-08-30")
    classes = np.arange(60 * 60).reshape(60, 60) % 12
    np.testing.assert_array_equal(values == 255, np.isin(classes, (0, 1, 3, 8, 9, 10, 11)).repeat(2, 0).repeat(2, 1))
    capsys.readouterr()
    assert run(["map", str(bundle), str(product), "--out", str(tmp_path / "other.tif")]) == 2
    assert "zoo stack" in capsys.readouterr().err


def test_another_pixel_size_is_refused_or_resampled(
    colour_bundle: str, write_scene: WriteScene, tmp_path: Path, capsys
) -> None:
    scene = str(write_scene(picture(), bands=COLOURS, transform=from_origin(*CORNER, 20, 20), nodata=None))
    out = tmp_path / "map.tif"
    assert run(["map", colour_bundle, scene, "--out", str(out)]) == 2
    assert "--resample" in capsys.readouterr().err
    assert run(["map", colour_bundle, scene, "--out", str(out), "--resample", "--any-pixel-size"]) == 2
    assert "cannot be combined" in capsys.readouterr().err
    assert run(["map", colour_bundle, scene, "--out", str(out), "--resample"]) == 0
    assert "resampled from pixels of 20 m to 10 m" in capsys.readouterr().err
    with rasterio.open(out) as file, rasterio.open(scene) as source:
        assert file.shape == (400, 520)
        assert file.res == (10.0, 10.0)
        assert file.bounds == source.bounds
        assert file.tags()["RESAMPLED_TO"] == "10 m"


def test_a_scene_unlike_the_training_data_causes_a_warning(colour_bundle: str, tmp_path: Path, capsys) -> None:
    """The bundle's own statistics are those of noise, so any scene is far from them."""
    tile = write_tile(tmp_path, picture(400, 500))
    assert run(["map", colour_bundle, tile, "--out", str(tmp_path / "map.tif")]) == 0
    told = capsys.readouterr().err
    assert "warning: the scene is unlike the training data: its first layer is" in told
    assert "Adapt the model to the scene: --adapt" in told


def test_colours_of_an_unknown_unit_are_those_of_pictures() -> None:
    unknown = tuple(replace(band, unit="unknown") for band in COLOURS)
    bundle = replace(make_bundle(), bands=unknown)
    assert bundle.input_bands == COLOURS
    entries = tuple(replace(one, minimum=0.0, maximum=0.6) for one in bundle.statistics.bands)
    assert replace(bundle, statistics=replace(bundle.statistics, bands=entries)).input_bands == unknown


def test_the_card_of_a_colour_model_states_how_reflectance_is_scaled() -> None:
    assert "Colours: red, green, blue are numbers from 0 to 255" in render_card(make_bundle())
    assert "Reflectance of 0 to 0.2 becomes 1 to 255" in render_card(make_bundle())


def test_the_error_for_unnamed_bands_suggests_an_option(
    colour_bundle: str, write_scene: WriteScene, tmp_path: Path, capsys
) -> None:
    scene = str(write_scene(np.full((4, 80, 80), 700, np.uint16), bands=None, nodata=0))
    assert run(["map", colour_bundle, scene, "--out", str(tmp_path / "map.tif")]) == 2
    assert "--bands red,green,blue,band_4" in capsys.readouterr().err


def test_a_resumed_map_reads_the_scene_in_the_same_way(colour_bundle: str, write_scene: WriteScene) -> None:
    path = write_scene(picture(), bands=COLOURS, nodata=None)
    with Scene(path, COLOURS) as first, Scene(path, COLOURS, pixel_size=12.0) as second:
        assert first.identity() != second.identity()
