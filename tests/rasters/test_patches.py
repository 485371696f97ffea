"""Cutting stacks into patches: small real rasters and inventories, read back as files and as a data set."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.features import geometry_mask
from rasterio.transform import from_origin
from shapely.geometry import Point, box

from tests.rasters.geotiffs import write_geotiff
from zoo.datasets import Folder
from zoo.datasets.audit import audit_splits
from zoo.datasets.base import SPLITS
from zoo.datasets.splits import LeakageWarning
from zoo.errors import ConfigError, DataError, ZooError
from zoo.rasters.patch_files import Coverage, PatchGrid, whole_folder
from zoo.rasters.patches import PatchOptions, cut_patches
from zoo.rasters.stacks import Stack
from zoo.registry import create_dataset

TRANSFORM = from_origin(400000, 3900000, 10, 10)
TAGS = {"SCENE": "S1", "DATE": "2024-06-10", "PHASE": "post"}
POST = PatchOptions(size=32, phase="post")


def write_stack(
    path: Path,
    shape: tuple[int, int] = (100, 150),
    *,
    empty: tuple[slice, slice] | None = None,
    names: tuple[str, ...] = ("slope", "DEM"),
    metres: float = 10.0,
    left: float = 400000,
    nodata: float = float("nan"),
    **tags: str,
) -> Path:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = np.stack([rows + 0.25, 1000 + columns] + [rows * 0.5] * (len(names) - 2)).astype(np.float32)[: len(names)]
    if empty is not None:
        image[-1][empty] = nodata
    about = {"VALID_MIN": "0", "VALID_MAX": "90", "STATISTICS_MEAN": "50", "SOURCE": "dem.tif"}
    named = zip(names, ("degree", "m", "1")[: len(names)], strict=True)
    place = from_origin(left, 3900000, metres, metres)
    write_geotiff(path, image, names=named, tags=tags, band_tags=about, transform=place, nodata=nodata)
    return path


def write_slides(path: Path, shapes: list[Any], **columns: list[Any]) -> Path:
    geopandas.GeoDataFrame(columns, geometry=shapes, crs=32643).to_file(path, engine="pyogrio")
    return path


SHAPES = [
    Point(400300, 3899700).buffer(75),
    box(400310, 3899690, 400330, 3899655),
    box(401470, 3899010, 401500, 3899060),
    box(400900, 3899500, 400990, 3899590),
]


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    return write_slides(tmp_path / "slides.gpkg", SHAPES)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "tiles.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_patches_put_together_are_the_scene(tmp_path: Path, slides: Path) -> None:
    stack = write_stack(tmp_path / "stack.tif", **TAGS)
    folder = tmp_path / "out"
    report = cut_patches([stack], slides, folder, PatchOptions(size=32, min_valid=0.0))
    image = np.full((2, 128, 160), -1, np.float32)
    mask = np.full((128, 160), 7, np.uint8)
    rows = table(folder)
    for row in rows:
        top, left = 32 * int(row["row"]), 32 * int(row["col"])
        where = np.s_[top : top + 32, left : left + 32]
        with rasterio.open(folder / "images" / row["tile"]) as source:
            assert source.transform * (0, 0) == (float(row["x"]), float(row["y"]))
            assert source.transform * (0, 0) == TRANSFORM * (left, top)
            image[:, *where] = source.read()
        with rasterio.open(folder / "masks" / row["tile"]) as source:
            mask[where] = source.read(1)
            assert int(row["landslide_pixels"]) == (mask[where] == 1).sum()
            assert float(row["valid_share"]) == pytest.approx((mask[where] != 255).mean(), abs=1e-4)
    with rasterio.open(stack) as source:
        assert np.array_equal(image[:, :100, :150], source.read())
    expected = geometry_mask(SHAPES, (100, 150), TRANSFORM, invert=True)
    assert np.array_equal(mask[:100, :150], expected)
    assert np.isnan(image[:, 100:]).all()
    assert np.isnan(image[:, :, 150:]).all()
    assert (mask[100:] == 255).all()
    assert (mask[:, 150:] == 255).all()
    (scene,) = report.scenes
    assert (scene.patches, scene.grid, scene.landslides, scene.drawn) == (20, (4, 5), 4, 4)
    assert scene.landslide_pixels == scene.kept_pixels == scene.mask_pixels == expected.sum()
    assert scene.valid_pixels == 100 * 150
    assert {(row["scene"], row["date"], row["phase"]) for row in rows} == {("S1", "2024-06-10", "post")}


def test_scaled_numbers_become_values_in_their_unit(tmp_path: Path, slides: Path) -> None:
    """A raster of whole numbers whose tags say what one of them is worth, as products of agencies are."""
    path = tmp_path / "scaled.tif"
    numbers = np.arange(2 * 100 * 150, dtype=np.int16).reshape(2, 100, 150) % 3000
    numbers[0, 0, 0] = -1
    write_geotiff(path, numbers, transform=TRANSFORM, nodata=-1, scales=(0.01, 1.0), offsets=(-5.0, 0.0))
    with Stack(path) as stack:
        values = stack.read()
        assert np.isnan(values[0, 0, 0])
        assert values[0, 1:] == pytest.approx(numbers[0, 1:] * 0.01 - 5, abs=1e-5)
        assert np.array_equal(values[1], numbers[1])
    cut_patches([path], slides, tmp_path / "out", POST)
    with rasterio.open(tmp_path / "out" / "images" / table(tmp_path / "out")[0]["tile"]) as source:
        assert (source.scales, source.offsets) == ((1.0, 1.0), (0.0, 0.0))
        assert np.array_equal(source.read(), values[:, :32, :32], equal_nan=True)


def test_names_units_and_tags_travel_with_each_patch(tmp_path: Path, slides: Path) -> None:
    stack = write_stack(tmp_path / "stack.tif", RAIN="4,2", **TAGS)
    cut_patches([stack], slides, tmp_path / "out", PatchOptions(size=32))
    with rasterio.open(tmp_path / "out" / "images" / "S1_001_000.tif") as source:
        assert source.descriptions == ("slope", "DEM")
        assert source.units == ("degree", "m")
        assert np.isnan(source.nodata)
        assert source.crs.to_epsg() == 32643
        assert source.profile["compress"] == "deflate"
        tags = source.tags()
        assert {name: tags[name] for name in ("SCENE", "DATE", "PHASE", "RAIN", "PATCH_ROW", "PATCH_COL")} == {
            **TAGS,
            "RAIN": "4,2",
            "PATCH_ROW": "1",
            "PATCH_COL": "0",
        }
        assert source.tags(1) == {"VALID_MIN": "0", "VALID_MAX": "90", "SOURCE": "dem.tif"}
    with rasterio.open(tmp_path / "out" / "masks" / "S1_001_000.tif") as source:
        assert (source.nodata, source.dtypes, source.descriptions) == (255, ("uint8",), ("landslide",))


def test_the_folder_data_set_reads_them(tmp_path: Path, slides: Path) -> None:
    west = write_stack(tmp_path / "a.tif", empty=np.s_[:10, :10], **TAGS)
    east = write_stack(tmp_path / "b.tif", left=400200, nodata=-9999.0, empty=np.s_[:5, :5], **{**TAGS, "SCENE": "S2"})
    cut_patches([west, east], slides, tmp_path / "out", PatchOptions(size=32))
    options = {"root": str(tmp_path / "out"), "group_column": "scene", "train_groups": "S1", "test_groups": "S2"}
    train, test = (create_dataset("folder", split, **options) for split in ("train", "test"))
    assert [(band.name, band.unit) for band in train.bands] == [("slope", "degree"), ("DEM", "m")]
    assert train.pixel_size == 10
    assert {patch.group for patch in test.patches} == {"S2"}
    corner = next(i for i, patch in enumerate(test.patches) if (patch.row, patch.col) == (0, 0))
    sample = test[corner]
    assert np.isnan(sample["image"][1, :5, :5].numpy()).all()
    assert (sample["mask"][:5, :5] == 255).all()
    assert sample["image"][0, 6, 6] == 6.25
    assert any("0 = class 0, 1 = class 1, 255 = ignored" in note for note in train.split_notes)


@pytest.mark.parametrize(
    ("options", "patches", "positives"),
    [
        # Rows of 32, 32, 32 and 4 pixels, columns of 32, 32, 32, 32 and 22: the last row is 13 % valid, its corner 9 %.
        ({"select": "all"}, 15, 7),
        ({"select": "positives"}, 7, 7),
        ({"select": "sampled", "negatives": 0.5}, 11, 7),
        ({"select": "sampled", "negatives": 100}, 15, 7),
        ({"select": "all", "min_valid": 0.1}, 19, 7),
        ({"select": "all", "min_valid": 0.05}, 20, 8),
        ({"select": "all", "min_valid": 1.0}, 12, 6),
    ],
)
def test_selections(tmp_path: Path, slides: Path, options: dict[str, Any], patches: int, positives: int) -> None:
    stack = write_stack(tmp_path / "stack.tif", **TAGS)
    report = cut_patches([stack], slides, tmp_path / "out", PatchOptions(size=32, **options))
    (scene,) = report.scenes
    assert (scene.patches, scene.positives) == (patches, positives)
    assert scene.patches + scene.too_empty + scene.unselected == 20
    assert len(list((tmp_path / "out" / "images").iterdir())) == patches == len(table(tmp_path / "out"))


def test_the_draw_of_negatives_repeats_with_its_seed(tmp_path: Path, slides: Path) -> None:
    stack = write_stack(tmp_path / "stack.tif", **TAGS)

    def drawn(name: str, seed: int) -> list[str]:
        cut_patches([stack], slides, tmp_path / name, PatchOptions(size=16, select="sampled", seed=seed))
        return [row["tile"] for row in table(tmp_path / name)]

    assert drawn("a", 0) == drawn("b", 0) != drawn("c", 1)


def test_lost_landslides_are_counted(tmp_path: Path, slides: Path) -> None:
    stack = write_stack(tmp_path / "stack.tif", **TAGS)
    (scene,) = cut_patches([stack], slides, tmp_path / "out", PatchOptions(size=32)).scenes
    assert scene.landslide_pixels - scene.kept_pixels == 3 * 3
    assert any(note.startswith("9 of ") and "in no patch" in note for note in scene.notes)


def test_splits_of_overlapping_patches_are_kept_apart_and_audited_by_their_ground(tmp_path: Path) -> None:
    """At a stride of half a patch, patches of a distance of 2 share an edge: a guard of 1 would leave them there."""
    rng = np.random.default_rng(3)
    slides = [Point(400000 + x, 3900000 - y).buffer(25) for x, y in rng.uniform(20, (1480, 980), (60, 2))]
    stack = write_stack(tmp_path / "stack.tif", **TAGS)
    path = write_slides(tmp_path / "many.gpkg", slides)
    cut_patches([stack], path, tmp_path / "out", PatchOptions(size=16, stride=8))

    def opened(**options: Any) -> dict[str, Folder]:
        return {split: Folder(tmp_path / "out", split, split_by="block", **options) for split in SPLITS}

    guarded = opened(block=5)
    ground = {name: {(patch.row, patch.col) for patch in one.patches} for name, one in guarded.items()}
    distances = {
        max(abs(a - c), abs(b - d))
        for one, other in (("train", "test"), ("train", "val"), ("val", "test"))
        for a, b in ground[one]
        for c, d in ground[other]
    }
    assert min(distances) == 3  # 24 pixels between corners: 8 of them in neither patch
    kind = "neighbour"
    assert not audit_splits(guarded, overlaps=False).of_kind(kind)
    with pytest.warns(LeakageWarning, match="lie within 2 of a train patch"):
        careless = opened(block=5, guard=1)
    assert {touch.value for touch in audit_splits(careless, overlaps=False).of_kind(kind)} == {2.0}


@pytest.mark.parametrize("stride", [32, 20, 16, 7])
def test_overlapping_patches_count_each_pixel_once(tmp_path: Path, slides: Path, stride: int) -> None:
    stack = write_stack(tmp_path / "stack.tif", **TAGS)
    folder = tmp_path / "out"
    (scene,) = cut_patches([stack], slides, folder, PatchOptions(size=32, stride=stride, select="positives")).scenes
    expected = geometry_mask(SHAPES, (100, 150), TRANSFORM, invert=True)
    covered = np.zeros((100, 150), bool)
    for row in table(folder):
        covered[stride * int(row["row"]) :, stride * int(row["col"]) :][:32, :32] = True
    assert scene.landslide_pixels == expected.sum()
    assert scene.kept_pixels == (expected & covered).sum()


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.data())
def test_a_grid_covers_every_pixel_and_at_stride_size_once(rows: int, columns: int, size: int, data: Any) -> None:
    stride = data.draw(st.integers(1, size))
    grid = PatchGrid((rows, columns), size, stride)
    times = np.zeros((rows, columns), int)
    for place in grid:
        window = grid.window(*place)
        times[window.toslices()] += 1
        assert window.height > 0
        assert window.width > 0
    assert times.min() >= 1
    assert stride < size or times.max() == 1
    assert sum(1 for _ in grid) == len(grid)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 15), st.data())
def test_coverage_counts_what_a_bitmap_counts(rows: int, columns: int, size: int, data: Any) -> None:
    grid = PatchGrid((rows, columns), size, data.draw(st.integers(1, size)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    pixels, kept = rng.random((rows, columns)) < 0.3, np.zeros((rows, columns), bool)
    coverage = Coverage(grid)
    for place in grid:
        window = grid.window(*place)
        coverage.count(window, pixels[window.toslices()])
        if rng.random() < 0.4:
            coverage.keep(window)
            kept[window.toslices()] = True
    assert coverage.total == pixels.sum()
    assert coverage.kept == (pixels & kept).sum()


@pytest.mark.parametrize(("size", "stride"), [(0, 1), (32, 33), (32, 0)])
def test_grids_out_of_range(size: int, stride: int) -> None:
    with pytest.raises(ConfigError, match=r"a patch of|a stride of"):
        PatchGrid((10, 10), size, stride)


@pytest.mark.parametrize(
    "options", [{"min_valid": 1.5}, {"negatives": -1.0}, {"negatives": float("nan")}, {"select": "some"}]
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PatchOptions(**options)


def test_doubtful_landslides_are_ignored_pixels(tmp_path: Path) -> None:
    stack = write_stack(tmp_path / "stack.tif", **TAGS)
    slides = write_slides(tmp_path / "s.gpkg", [SHAPES[0], SHAPES[3]], when=["2020", "2024"])
    cut_patches([stack], slides, tmp_path / "out", PatchOptions(size=32, date_column="when"))
    rows = {(row["row"], row["col"]): row["tile"] for row in table(tmp_path / "out")}
    with rasterio.open(tmp_path / "out" / "masks" / rows["1", "2"]) as source:
        doubtful = source.read(1)
    assert set(np.unique(doubtful)) == {0, 255}
    assert 1 not in doubtful


def test_what_a_stack_must_say(tmp_path: Path, slides: Path) -> None:
    bare = write_stack(tmp_path / "bare.tif")
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="the phase of the image is"):
        cut_patches([bare], slides, out)
    with pytest.raises(ConfigError, match="the date of the image is unknown"):
        cut_patches([bare], slides, out, PatchOptions(phase="post", date_column="x"))
    with pytest.raises(ConfigError, match="'yesterday' is not a date"):
        cut_patches([bare], slides, out, PatchOptions(phase="post", date="yesterday"))
    tagged = write_stack(tmp_path / "tagged.tif", **TAGS)
    with pytest.raises(ConfigError, match="its tag PHASE is post, but the option is pre"):
        cut_patches([tagged], slides, out, PatchOptions(phase="pre"))
    with pytest.raises(ConfigError, match="its tag DATE is 2024-06-10, but the option is 2024-06-11"):
        cut_patches([tagged], slides, out, PatchOptions(date="2024-06-11"))
    assert not out.exists()
    (scene,) = cut_patches([bare], slides, out, PatchOptions(size=32, phase="pre")).scenes
    assert (scene.scene, scene.date, scene.phase) == ("bare", "", "pre")
    assert "the date of the image is unknown: give it with --date" in scene.notes


def test_stacks_of_one_folder_agree(tmp_path: Path, slides: Path) -> None:
    first = write_stack(tmp_path / "a.tif", **TAGS)

    def cut(other: Path, **options: Any) -> None:
        cut_patches([first, other], slides, tmp_path / "out", PatchOptions(size=32, **options))

    with pytest.raises(DataError, match=r"its bands are DEM, slope, those of .* slope, DEM"):
        cut(write_stack(tmp_path / "b.tif", names=("DEM", "slope"), PHASE="post"))
    with pytest.raises(DataError, match=r"its pixels are 20 m, those of .* 10 m"):
        cut(write_stack(tmp_path / "c.tif", metres=20, PHASE="post"))
    with pytest.raises(ConfigError, match=r"its phase is pre, that of .*a\.tif is post"):
        cut(write_stack(tmp_path / "g.tif", PHASE="pre"))
    with pytest.raises(ConfigError, match="are both scene 'S1'"):
        cut(write_stack(tmp_path / "d.tif", **TAGS))
    with pytest.raises(ConfigError, match="one scene name is given for 2 stacks"):
        cut(write_stack(tmp_path / "e.tif", PHASE="post"), scene="x")
    with pytest.raises(DataError, match="no landslide lies in the scene"):
        cut(write_stack(tmp_path / "f.tif", left=500000, PHASE="post"))
    assert not (tmp_path / "out").exists()


def test_stacks_that_cannot_be_cut(tmp_path: Path, slides: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match="there is no such file"):
        cut_patches([tmp_path / "none.tif"], slides, out, POST)
    with pytest.raises(DataError, match="has no pixel with valid data in every band"):
        cut_patches([write_stack(tmp_path / "a.tif", empty=np.s_[:, :])], slides, out, POST)
    with pytest.raises(DataError, match="no landslide lies on valid pixels"):
        cut_patches([write_stack(tmp_path / "b.tif", empty=np.s_[:, 20:])], slides, out, POST)
    with pytest.raises(DataError, match="no patch of 300 pixels is at least 50% valid"):
        cut_patches([write_stack(tmp_path / "d.tif")], slides, out, PatchOptions(size=300, phase="post"))
    truncated = write_stack(tmp_path / "c.tif")
    os.truncate(truncated, truncated.stat().st_size // 2)
    with pytest.raises(DataError, match="truncated or its format does not match its name"):
        cut_patches([truncated], slides, out, POST)
    with pytest.raises(ConfigError, match="no stack"):
        cut_patches([], slides, out, POST)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == []


def test_a_scene_smaller_than_a_patch(tmp_path: Path) -> None:
    stack = write_stack(tmp_path / "stack.tif", (9, 1), **TAGS)
    slides = write_slides(tmp_path / "s.gpkg", [box(399990, 3899900, 400020, 3899960)])
    (scene,) = cut_patches([stack], slides, tmp_path / "out", PatchOptions(size=16, min_valid=0.0)).scenes
    assert (scene.patches, scene.valid_pixels, scene.mask_pixels) == (1, 9, 5)


def test_an_interruption_leaves_nothing(tmp_path: Path, slides: Path) -> None:
    stack = write_stack(tmp_path / "stack.tif", **TAGS)
    before = sorted(tmp_path.iterdir())

    def stop(scene: str, done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_patches([stack], slides, tmp_path / "out", PatchOptions(size=32), progress=stop)
    assert sorted(tmp_path.iterdir()) == before


def test_only_folders_of_zoo_are_replaced_and_only_on_request(tmp_path: Path, slides: Path) -> None:
    stack = write_stack(tmp_path / "stack.tif", **TAGS)
    out = tmp_path / "out"
    cut_patches([stack], slides, out, PatchOptions(size=32))
    with pytest.raises(ConfigError, match="already exists"):
        cut_patches([stack], slides, out, PatchOptions(size=16))
    with pytest.raises(DataError):
        cut_patches([stack], tmp_path / "none.gpkg", out, PatchOptions(size=16), overwrite=True)
    assert json.loads((out / "patches.json").read_text())["size"] == 32
    cut_patches([stack], slides, out, PatchOptions(size=16), overwrite=True)
    assert json.loads((out / "patches.json").read_text())["size"] == 16
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds notes\.txt, which zoo patches did not write"):
        cut_patches([stack], slides, out, overwrite=True)
    (out / "notes.txt").unlink()
    inner = write_stack(out / "images" / "stack.tif", **TAGS)
    with pytest.raises(ConfigError, match=r"stack\.tif: lies in .*out, which is replaced"):
        cut_patches([inner], slides, out, overwrite=True)
    assert inner.exists()
    (out / "patches.json").unlink()
    with pytest.raises(ConfigError, match="was not made by zoo patches"):
        cut_patches([stack], slides, out, overwrite=True)
    with pytest.raises(ConfigError, match="is a file"):
        cut_patches([stack], slides, stack, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "slides.gpkg", "stack.tif"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ZooError, match="cannot write here"), whole_folder(tmp_path / "file" / "out"):
        pass


def test_an_overview_is_drawn_with_and_without_elevation(tmp_path: Path, slides: Path) -> None:
    for names in (("slope", "DEM"), ("a", "b", "c")):
        stack = write_stack(tmp_path / f"{len(names)}.tif", names=names, **TAGS)
        folder = tmp_path / str(len(names))
        cut_patches([stack], slides, folder, PatchOptions(size=32))
        with rasterio.open(folder / "overview.png") as picture:
            pixels = picture.read()[:3].reshape(3, -1)
        red = (pixels[0] > 180) & (pixels[1] < 60) & (pixels[2] < 90)
        orange = (abs(pixels[0].astype(int) - 243) < 6) & (abs(pixels[1].astype(int) - 167) < 6)
        assert red.sum() > 1000
        assert orange.sum() > 1000
