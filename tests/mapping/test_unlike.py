"""Maps of the distance from the training data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

import zoo
from tests.mapping.conftest import WriteScene, make_image, read
from zoo.cli import run
from zoo.errors import ConfigError
from zoo.evaluation.quality import Calibration, MeasuredSplit, UsualDistance
from zoo.training.bundle import Bundle
from zoo.training.bundle_layout import Adaptation, AdaptationSource, AdaptationTarget

SIDE = 48


@pytest.fixture
def known(bundle: Path, tmp_path: Path) -> Path:
    """The bundle with the usual distance of patches of 48 pixels."""
    calibration = Calibration(0.1, usual=UsualDistance(SIDE, 0.7, 0.95, 1.5))
    measured = MeasuredSplit(data="made up", dice=0.5, calibration=calibration)
    replace(Bundle.load(bundle), evaluations=(measured,)).save(tmp_path / "known")
    return tmp_path / "known"


def strange() -> np.ndarray:
    """A scene of 4 x 3 tiles, of which the lower and right ones are cut; the upper left tile is unlike the others."""
    image = make_image(150, 130)
    image[:, :SIDE, :SIDE] += np.array([3.0, 120.0])[:, None, None]
    image[0, SIDE : 2 * SIDE, : SIDE - 5] = np.nan
    return image.astype(np.float32)


def oracle(folder: Path, image: np.ndarray, row: int, column: int) -> float:
    """The distance of a tile, from the input of the first batch norm of the U-Net."""
    predictor = Bundle.load(folder).predictor()
    norm = next(one for one in predictor.model.modules() if isinstance(one, torch.nn.BatchNorm2d))
    seen: list[np.ndarray] = []
    handle = norm.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0][0].double().numpy()))
    top, left = min(row * SIDE, image.shape[1] - SIDE), min(column * SIDE, image.shape[2] - SIDE)
    with torch.inference_mode():
        predictor(torch.from_numpy(image[None, :, top : top + SIDE, left : left + SIDE]))
    handle.remove()
    values = seen[0].reshape(len(seen[0]), -1)
    mean, var = (one.double().numpy() for one in (norm.running_mean, norm.running_var))
    moved = (values.mean(1) - mean) ** 2 / var + np.log(values.std(1) / np.sqrt(var)) ** 2
    return float(np.sqrt(moved.mean()))


def test_each_tile_has_its_own_distance(
    known: Path, write_scene: WriteScene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = strange()
    scene, out, far = write_scene(image), tmp_path / "prob.tif", tmp_path / "far.tif"
    assert run(["map", str(known), str(scene), "--out", str(out), "--unlike", str(far)]) == 0
    found = read(far)
    np.testing.assert_array_equal(np.isnan(found[:SIDE]), np.isnan(image[0, :SIDE]))
    for row, column in ((0, 0), (0, 1), (2, 0), (3, 0), (0, 2), (3, 2)):
        tile = found[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
        np.testing.assert_allclose(tile, oracle(known, image, row, column), rtol=1e-4)
    assert np.isnan(found[SIDE : 2 * SIDE, :SIDE]).all(), "five columns of data are too few to compare"
    farther = (found > 1.5).sum()
    assert SIDE * SIDE <= farther < 4 * SIDE * SIDE
    told = capsys.readouterr().out
    assert "11 tiles of 48 pixels are" in told
    assert "those of validation 0.70 (median), 95% up to 1.50" in told
    assert f"farther: {farther:,} pixels" in told
    with rasterio.open(far) as file, rasterio.open(out) as other:
        assert (file.crs, file.transform, file.shape) == (other.crs, other.transform, other.shape)
        tags = file.tags(1)
        assert [tags[name] for name in ("SIDE", "MEDIAN", "SHARE", "LIMIT")] == ["48", "0.7", "0.95", "1.5"]
        assert file.descriptions == ("training_distance",)
        assert file.tags()["SCENE"] == other.tags()["SCENE"]


def test_clouds_have_no_weight(known: Path, write_scene: WriteScene, tmp_path: Path) -> None:
    """Under a cloud mask, pixels of a cloud change no distance."""
    image = make_image(96, 96)
    cloudy = np.array(image)
    cloudy[:, :20, :30] += np.array([30.0, 900.0])[:, None, None]
    hidden = np.zeros((1, 96, 96), dtype=np.uint8)
    hidden[:, :20, :30] = 1
    mask = write_scene(hidden, "mask.tif", bands=None, nodata=None)
    model, found = zoo.load(known, device="cpu"), []
    for name, values in (("clear", image), ("cloudy", cloudy)):
        scene = write_scene(values, name=f"{name}.tif")
        model.map(scene, tmp_path / f"p-{name}.tif", unlike=tmp_path / f"far-{name}.tif", cloud_mask=mask)
        found.append(read(tmp_path / f"far-{name}.tif"))
    assert np.isfinite(found[0]).any()
    np.testing.assert_array_equal(*found)


def test_a_bundle_without_validation_distances_reports_only_the_distance(
    bundle: Path, write_scene: WriteScene, tmp_path: Path
) -> None:
    model = zoo.load(bundle, device="cpu")
    report = model.map(write_scene(strange()), tmp_path / "p.tif", unlike=tmp_path / "far.tif", dtype="float32")
    assert report.unlike is not None
    assert report.unlike[1].usual is None
    assert "4 tiles of 128 pixels are" in "\n".join(report.lines())
    assert "validation" not in report.unlike[1].sentence()
    with rasterio.open(tmp_path / "far.tif") as file:
        assert "LIMIT" not in file.tags(1)


def test_an_adapted_map_is_compared_with_the_training_data(
    known: Path, write_scene: WriteScene, tmp_path: Path
) -> None:
    model, scene = zoo.load(known, device="cpu"), write_scene(strange())
    model.map(scene, tmp_path / "a.tif", unlike=tmp_path / "far-a.tif")
    model.map(scene, tmp_path / "b.tif", unlike=tmp_path / "far-b.tif", adapt=True)
    np.testing.assert_array_equal(read(tmp_path / "far-a.tif"), read(tmp_path / "far-b.tif"))
    adapted = Adaptation(AdaptationSource(), AdaptationTarget(), "layers", 0.5, ())
    assert replace(model.bundle, adaptation=adapted).usual_distance is None


def test_names_and_models_that_do_not_serve_are_refused(
    known: Path, write_scene: WriteScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, scene = zoo.load(known, device="cpu"), write_scene(make_image(64, 64))
    with pytest.raises(ConfigError, match="same name"):
        model.map(scene, tmp_path / "p.tif", unlike=tmp_path / "p.tif")
    (tmp_path / "there.tif").touch()
    with pytest.raises(ConfigError, match="already exists"):
        model.map(scene, tmp_path / "p.tif", unlike=tmp_path / "there.tif")
    monkeypatch.setattr("zoo.models.unet.UNet.takes_units", True, raising=False)
    with pytest.raises(ConfigError, match="was not trained"):
        model.map(scene, tmp_path / "p.tif", unlike=tmp_path / "far.tif")
    assert not (tmp_path / "p.tif").exists()
