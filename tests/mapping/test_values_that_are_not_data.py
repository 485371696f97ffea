"""Values that are not data, scenes that do not fit, and files that belong to others never pass without a word."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.mapping.conftest import BANDS, CORNER, SmallNet, WriteScene, make_image, read
from zoo.cli import run
from zoo.errors import ConfigError, DataError, ZooError
from zoo.files import locked
from zoo.mapping import MapOptions, ProbabilityClasses, Scene, map_scene
from zoo.mapping.pictures import COLOURS, scale_of, tint_probabilities, typical_colour
from zoo.mapping.probability import map_threshold
from zoo.mapping.tiling import PixelRange
from zoo.training.bundle import Bundle
from zoo.training.predictor import Predictor

OPTIONS = MapOptions(tile=64, overlap=32)
REACH = 4
"""Receptive field of :class:`SmallNet` in pixels to each side."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.mapping.tiling.BLOCK", 64)


@pytest.mark.parametrize("value", [-3.4e38, 3.4e38, 1e30, 1e20, -1e9, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_fill_value_without_a_nodata_tag_is_nodata_and_counted(
    predictor: Predictor, write_scene: WriteScene, tmp_path: Path, value: float, dtype: str
) -> None:
    """Sixteen pixels of -3.4e38 turned the whole map into 0, with no nodata pixel."""
    image = make_image(150, 140)
    clean = write_scene(image, "clean.tif", nodata=None)
    image[1, 60:64, 61:65] = value
    spoilt = write_scene(image, nodata=None)
    options = replace(OPTIONS, dtype=dtype)
    with Scene([clean], BANDS) as scene:
        map_scene(predictor, scene, tmp_path / "clean-map.tif", options)
    with Scene([spoilt], BANDS) as scene:
        report = map_scene(predictor, scene, tmp_path / "prob.tif", options)
    found, expected = read(tmp_path / "prob.tif"), read(tmp_path / "clean-map.tif")
    missing = found == 255 if dtype == "uint8" else np.isnan(found)
    bad = np.zeros(found.shape, dtype=bool)
    bad[60:64, 61:65] = True
    np.testing.assert_array_equal(missing, bad)
    assert (report.missing, report.undefined) == (16, 0)
    said = " ".join(report.warnings())
    # Numbers that no quantity reaches are missing for every reader; others are too far from the training data.
    assert ("slope holds" in said and "count as missing" in said) or "16 pixels are nodata" in said
    touched = np.zeros(found.shape, dtype=bool)
    touched[60 - REACH : 64 + REACH, 61 - REACH : 65 + REACH] = True
    np.testing.assert_array_equal(found[~touched], expected[~touched])


class NanWhereSteep(SmallNet):
    """Gives NaN where the second channel is far above its mean."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x)
        return torch.where(x[:, 1:] > 40, torch.nan, logits)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_probability_that_is_not_finite_is_nodata_and_counted(
    write_scene: WriteScene, tmp_path: Path, dtype: str
) -> None:
    predictor = Predictor(NanWhereSteep(), [0.2, 25.0], [0.3, 12.0]).eval()
    image = make_image(150, 140)
    image[1, 30:34, :] = 25 + 50 * 12
    image[0, 100, 100] = np.nan
    with Scene([write_scene(image)], BANDS) as scene:
        report = map_scene(predictor, scene, tmp_path / "prob.tif", replace(OPTIONS, dtype=dtype))
    found = read(tmp_path / "prob.tif")
    missing = found == 255 if dtype == "uint8" else np.isnan(found)
    expected = np.zeros(found.shape, dtype=bool)
    expected[30:34] = True
    expected[100, 100] = True
    np.testing.assert_array_equal(missing, expected)
    assert (report.missing, report.undefined) == (4 * 140 + 1, 4 * 140)
    assert "no finite probability" in " ".join(report.warnings())


def test_a_map_of_only_nan_is_refused(write_scene: WriteScene, tmp_path: Path) -> None:
    predictor = Predictor(NanWhereSteep(), [0.2, 25.0], [0.3, 12.0]).eval()
    image = make_image(70, 70)
    for band, value, problem in ((1, 25 + 50 * 12, "no finite probability for any pixel"), (0, 1e9, "10,000 standard")):
        changed = image.copy()
        changed[band] = value
        with (
            Scene([write_scene(changed)], BANDS) as scene,
            pytest.raises(DataError, match=problem),
        ):
            map_scene(predictor, scene, tmp_path / "prob.tif", OPTIONS)
    assert not (tmp_path / "prob.tif").exists()


def test_bundles_with_nan_weights_map_nothing(
    bundle: Path, write_scene: WriteScene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    from zoo.training.bundle import sha256_of

    folder = tmp_path / "nan"
    shutil.copytree(bundle, folder)
    state = load_file(folder / "model.safetensors")
    state["head.bias"][0] = torch.nan
    save_file(state, folder / "model.safetensors")
    values = json.loads((folder / "bundle.json").read_text())
    values["weights"]["sha256"] = sha256_of(folder / "model.safetensors")
    (folder / "bundle.json").write_text(json.dumps(values))
    scene = write_scene(make_image(70, 70))
    assert run(["map", str(folder), str(scene), "--out", str(tmp_path / "prob.tif")]) == 2
    assert "NaN or infinity" in capsys.readouterr().err


def with_pixel_size(bundle: Path, folder: Path, metres: float) -> Path:
    replace(Bundle.load(bundle), pixel_size=metres).save(folder)
    return folder


@pytest.mark.parametrize(
    ("metres", "crs", "step", "fits"),
    [
        (10.0, "EPSG:32643", 10.0, True),
        (10.0, "EPSG:32643", 100.0, False),
        (10.0, "EPSG:32643", 2.0, False),
        (10.0, "EPSG:32643", 12.0, True),
        (10.0, "EPSG:4326", 1e-4, True),
        (10.0, "EPSG:4326", 1e-3, False),
        (10.0, "EPSG:3857", 10.0, True),
        (10.0, "EPSG:3857", 100.0, False),
    ],
)
def test_a_scene_of_another_pixel_size_is_refused(
    bundle: Path,
    write_scene: WriteScene,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    metres: float,
    crs: str,
    step: float,
    fits: bool,
) -> None:
    folder = with_pixel_size(bundle, tmp_path / "unet", metres)
    corner = {"EPSG:4326": (74.0, 34.0), "EPSG:3857": (8.2e6, 4.0e6)}.get(crs, CORNER)
    scene = write_scene(make_image(70, 70), crs=crs, transform=from_origin(*corner, step, step))
    command = ["map", str(folder), str(scene), "--out", str(tmp_path / "prob.tif")]
    assert run(command) == (0 if fits else 2)
    printed = capsys.readouterr().err
    assert ("was trained on pixels of 10 m" in printed) is not fits
    if not fits:
        assert "--any-pixel-size" in printed
        assert not (tmp_path / "prob.tif").exists()
        assert run([*command, "--any-pixel-size"]) == 0


@pytest.mark.parametrize("pixel_size", [None, 20.0, 7.0])
def test_the_nodata_of_the_bundle_is_hidden_before_the_scene_is_resampled(
    write_scene: WriteScene, pixel_size: float | None
) -> None:
    image = np.full((2, 40, 40), 100, np.float32)
    image[1, :, 10:21] = -7
    bands = (BANDS[0], replace(BANDS[1], nodata=-7.0))
    with Scene([write_scene(image, nodata=None)], bands, pixel_size=pixel_size) as scene:
        for found in (scene.read(PixelRange(0, scene.shape[0]), PixelRange(0, scene.shape[1])), scene.overview(1)):
            assert np.unique(found[1][np.isfinite(found[1])]).tolist() == [100]
            assert 0.2 < np.isnan(found[1]).mean() < 0.3
            assert np.isfinite(found[0]).all()


@pytest.mark.parametrize("name", ["prob.jpg", "prob.png", "prob", "prob.tif.zip"])
def test_a_map_under_the_name_of_another_format_is_refused(
    bundle: Path, write_scene: WriteScene, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(["map", str(bundle), str(write_scene(make_image(70, 70))), "--out", str(tmp_path / name)]) == 2
    assert "GeoTIFF" in capsys.readouterr().err
    assert not (tmp_path / name).exists()
    more = ["--out", str(tmp_path / "prob.tif"), "--classes", "low,high", "--classes-out", str(tmp_path / name)]
    assert run(["map", str(bundle), str(tmp_path / "szène.tif"), *more]) == 2


@pytest.mark.parametrize(("dtype", "shown"), [("uint8", "0.316"), ("float32", "0.315")])
def test_the_threshold_is_one_number_everywhere(
    bundle: Path, write_scene: WriteScene, tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: str, shown: str
) -> None:
    out, slides = tmp_path / "prob.tif", tmp_path / "slides.gpkg"
    command = ["map", str(bundle), str(write_scene(make_image(90, 90))), "--out", str(out), "--threshold", "0.315"]
    assert run([*command, "--dtype", dtype, "--polygons", str(slides), "--classes", "low,medium,high"]) == 0
    printed = capsys.readouterr().out
    values = read(out)
    above = (values >= (79 if dtype == "uint8" else np.float32(0.315))) & (values != 255)
    assert f"{above.sum():,} pixels" in printed
    assert f"at or above {shown}\n" in printed
    assert f"high ({shown} and above)" in printed
    assert f"medium ({'0.16' if dtype == 'uint8' else '0.1575'} to {shown})" in printed
    with rasterio.open(out) as file, rasterio.open(tmp_path / "prob-classes.tif") as classes:
        assert file.tags()["THRESHOLD"] == classes.tags()["THRESHOLD"] == shown
        assert classes.tags()["CLASS_BREAKS"].split(",")[-1] == shown
        assert (classes.read(1) == 3).sum() == above.sum()
    assert geopandas.read_file(slides)["pixels"].sum() == above.sum()
    assert run(["polygons", str(out), "--out", str(tmp_path / "again.gpkg")]) == 0
    assert geopandas.read_file(tmp_path / "again.gpkg")["pixels"].sum() == above.sum()


def test_breaks_within_one_step_of_a_byte_are_refused() -> None:
    classes = ProbabilityClasses(("low", "medium", "high"), (0.3001, 0.3002))
    assert classes.as_applied("float32") == classes
    with pytest.raises(ConfigError, match="do not increase"):
        classes.as_applied("uint8")
    assert map_threshold(0.4, "uint8") == 0.4


@pytest.mark.parametrize(
    "words",
    [
        ["--threshold", "nan"],
        ["--threshold", "1e308"],
        ["--threshold", "-1"],
        ["--min-area", "inf", "--polygons", "slides.gpkg"],
        ["--breaks", "nan", "--classes", "a,b"],
        ["--tile", str(10**20)],
        ["--threads", str(10**9)],
        ["--batch", str(10**9)],
        ["--scales", "inf", "--adapt"],
    ],
)
def test_invalid_arguments_are_refused(
    bundle: Path,
    write_scene: WriteScene,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["map", str(bundle), str(write_scene(make_image(40, 40))), "--out", "prob.tif", *words]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "prob.tif").exists()


def test_symbolic_links_are_not_followed(predictor: Predictor, write_scene: WriteScene, tmp_path: Path) -> None:
    """The lock file truncated the target of a link, and a journal that was a link lost its target's folders."""
    path, out = write_scene(make_image(100, 100)), tmp_path / "prob.tif"
    precious = tmp_path / "precious"
    (precious / "thesis").mkdir(parents=True)
    (precious / "thesis" / "chapter.txt").write_text("words")
    (precious / "notes.txt").write_text("more words")

    def make(progress: Callable[[str, int, int], None] | None = None) -> None:
        with Scene([path], BANDS) as scene:
            map_scene(predictor, scene, out, OPTIONS, progress=progress)

    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(stop)
    [journal] = tmp_path.glob(".prob-*.zoo-map")
    shutil.rmtree(journal)
    journal.symlink_to(precious)
    with pytest.raises(ZooError, match="symbolic link"):
        make()
    journal.unlink()
    lock = tmp_path / ".prob.tif.lock"
    lock.symlink_to(precious / "notes.txt")
    with pytest.raises(ZooError, match="symbolic link"):
        make()
    lock.unlink()
    other = journal.with_name(f".prob-{'0' * 16}.zoo-map")
    other.symlink_to(precious)
    make()
    assert (precious / "thesis" / "chapter.txt").read_text() == "words"
    assert (precious / "notes.txt").read_text() == "more words"


def test_two_different_maps_do_not_share_an_output(
    predictor: Predictor, write_scene: WriteScene, tmp_path: Path
) -> None:
    first, second = write_scene(make_image(100, 100), "a.tif"), write_scene(make_image(100, 100, seed=1), "b.tif")

    def start_another(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("mapping", 1):
            with Scene([second], BANDS) as scene, pytest.raises(ZooError, match="another process is writing"):
                map_scene(predictor, scene, tmp_path / "prob.tif", OPTIONS)

    with Scene([first], BANDS) as scene:
        map_scene(predictor, scene, tmp_path / "prob.tif", OPTIONS, progress=start_another)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif", "prob.tif"]


def test_a_lock_that_is_removed_is_held_by_one(tmp_path: Path) -> None:
    busy = ZooError("busy")
    for _ in range(3):
        with locked(tmp_path / "lock", busy, remove=True):
            with pytest.raises(ZooError, match="busy"), locked(tmp_path / "lock", busy, remove=True):
                pass
            assert (tmp_path / "lock").exists()
        assert not (tmp_path / "lock").exists()


def rewrite(path: Path, **changes: np.ndarray | None) -> None:
    with safe_open(path, framework="numpy") as stored:
        about, fields = stored.metadata(), {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    about["key"] = "0" * 64 if "key" in changes else about["key"]
    fields = {name: changes.get(name, value) for name, value in fields.items()}
    save_file({name: value for name, value in fields.items() if value is not None}, path, metadata=about)


@pytest.mark.parametrize(
    "damage",
    [
        lambda first, second: shutil.copy(first, second),
        lambda first, second: second.write_bytes(b""),
        lambda first, second: second.write_bytes(first.read_bytes()[:1000]),
        lambda first, second: rewrite(second, counts=None),
        lambda first, second: rewrite(second, values=np.zeros((3, 3), np.uint8)),
        lambda first, second: rewrite(second, key=np.zeros(32, np.uint8)),
        lambda first, second: second.rename(second.with_name("block-99999-00000.safetensors")),
    ],
)
def test_a_damaged_or_exchanged_block_is_computed_again_with_a_note(
    predictor: Predictor, write_scene: WriteScene, tmp_path: Path, damage: Callable[[Path, Path], object]
) -> None:
    """A damaged block ended with exit code 70, and a block copied over another was believed."""
    path = write_scene(make_image(200, 200))

    def stop(stage: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with Scene([path], BANDS) as scene, pytest.raises(KeyboardInterrupt):
        map_scene(predictor, scene, tmp_path / "prob.tif", OPTIONS, progress=stop)
    [journal] = tmp_path.glob(".prob-*.zoo-map")
    first, second, *_ = sorted(journal.glob("block-*.safetensors"))
    damage(first, second)
    with Scene([path], BANDS) as scene:
        report = map_scene(predictor, scene, tmp_path / "prob.tif", OPTIONS)
        map_scene(predictor, scene, tmp_path / "straight.tif", OPTIONS)
    assert (report.resumed, report.damaged) == (3, 1)
    assert "1 damaged blocks" in " ".join(report.warnings())
    assert (tmp_path / "prob.tif").read_bytes() == (tmp_path / "straight.tif").read_bytes()


def test_the_legend_has_the_colour_of_the_map() -> None:
    """The swatch was red where the map was orange."""
    values = np.full((20, 20), 0.05, np.float32)
    values[5:10, 5:10] = 0.42
    values[12:14] = 0.3
    drawn = tint_probabilities(values, 0.4)
    assert typical_colour(values, 0.4, above=True) == tuple(drawn[6, 6])
    assert typical_colour(values, 0.4, above=False) == tuple(drawn[12, 0])
    assert tuple(drawn[6, 6][:3]) == tuple(COLOURS(scale_of(0.4)(0.42))[:3])
    assert drawn[0, 0, 3] == 0


def test_a_constant_band_is_named_with_its_value(bundle: Path, write_scene: WriteScene, tmp_path: Path) -> None:
    image = make_image(150, 130)
    image[0, :40] = np.nan
    image[1] = 12.5
    with Scene([write_scene(image, nodata=np.nan)], BANDS) as scene:
        assert scene.constant_bands() == {BANDS[1].name: 12.5}
    image[1, 149, 129] = 12.6
    with Scene([write_scene(image, "nearly.tif", nodata=np.nan)], BANDS) as scene:
        assert scene.constant_bands() == {}


def test_a_map_of_a_constant_band_warns(
    bundle: Path, write_scene: WriteScene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = make_image(64, 64)
    image[1] = 12.5
    scene = write_scene(image, nodata=np.nan)
    assert run(["map", str(bundle), str(scene), "--out", str(tmp_path / "prob.tif"), "--any-pixel-size"]) == 0
    words = " ".join(capsys.readouterr().err.split())
    assert f"band {BANDS[1].name} is 12.5 in every pixel of the scene" in words
