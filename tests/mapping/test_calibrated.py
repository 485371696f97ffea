"""Maps of a calibrated probability, and of prediction sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch

import zoo
from tests.mapping.conftest import SmallNet, WriteScene, make_image, read
from zoo.cli import run
from zoo.deploy import optimize
from zoo.errors import ConfigError
from zoo.evaluation.quality import Calibration, MeasuredSplit, PredictionSets
from zoo.mapping.pipeline import DISK_FACTOR, predictor_digest
from zoo.training.bundle import Bundle
from zoo.training.bundle_layout import Adaptation, AdaptationSource, AdaptationTarget
from zoo.training.predictor import Predictor, calibrated

SETS = PredictionSets(0.9, landslide_from=0.3, background_below=0.6)


@pytest.fixture
def fitted(bundle: Path, tmp_path: Path) -> Path:
    """The bundle with a temperature and prediction sets."""
    calibration = Calibration(0.1, temperature=2.5, sets=SETS)
    measured = MeasuredSplit(data="made up", dice=0.5, calibration=calibration)
    replace(Bundle.load(bundle), evaluations=(measured,)).save(tmp_path / "fitted")
    return tmp_path / "fitted"


def test_the_temperature_divides_the_log_odds(fitted: Path, write_scene: WriteScene, tmp_path: Path) -> None:
    image = make_image(150, 130)
    image[:, :5] = np.nan
    scene, model = write_scene(image), zoo.load(fitted, device="cpu")
    plain = model.map(scene, tmp_path / "plain.tif", dtype="float32")
    scaled = model.map(scene, tmp_path / "scaled.tif", dtype="float32", calibrated=True)
    p, q = read(tmp_path / "plain.tif").astype(float), read(tmp_path / "scaled.tif")
    np.testing.assert_allclose(q, 1 / (1 + (1 / p - 1) ** (1 / 2.5)), atol=1e-5)
    assert np.nanmax(np.abs(p - q)) > 0.01
    assert scaled.threshold == pytest.approx(1 / (1 + (1 / 0.4 - 1) ** (1 / 2.5)))
    assert 0 < scaled.above == plain.above
    with rasterio.open(tmp_path / "scaled.tif") as file, rasterio.open(tmp_path / "plain.tif") as other:
        assert file.tags()["TEMPERATURE"] == "2.5"
        assert "TEMPERATURE" not in other.tags()


def test_a_temperature_is_that_of_the_softmax_and_survives_optimisation(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(SmallNet(), [0.2, 25.0], [0.3, 12.0]).eval()
    predictor.temperature = 3.0
    image = torch.from_numpy(make_image(32, 32))[None]
    with torch.inference_mode():
        logits = predictor(image)
        expected = (logits / 3).softmax(1)[:, 1]
        found = predictor.landslide_probability(logits)
    # Float32 holds no log odds beyond 16.
    held = (logits[:, 1] - logits[:, 0]).abs() < 10
    torch.testing.assert_close(found[held], expected[held], atol=1e-4, rtol=0)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)
    assert 100 < held.sum() < held.numel()
    gates = []

    def spy(*given: Any, threshold: float, **more: Any) -> torch.nn.Module:
        gates.append(threshold)
        return optimize(*given, threshold=threshold, **more)

    monkeypatch.setattr("zoo.deploy.search.optimize", spy)
    fast = optimize(predictor, image, threshold=calibrated(0.3, 3.0))
    assert isinstance(fast, Predictor)
    assert fast.temperature == 3.0
    assert gates == [pytest.approx(0.3)], "the gate compares probabilities without the temperature"
    other = Predictor(SmallNet(), [0.2, 25.0], [0.3, 12.0])
    assert predictor_digest(other) != predictor_digest(predictor)


def test_a_threshold_without_a_temperature_is_not_rounded() -> None:
    thresholds = [number / 200 for number in range(201)]
    assert [calibrated(one, 1.0) for one in thresholds] == thresholds
    assert [calibrated(one, 3.0) for one in (0.0, 0.5, 1.0)] == [0.0, 0.5, 1.0]
    assert calibrated(0.9, 2.0) == pytest.approx(3 / (3 + 1))
    assert calibrated(1e-300, 0.05) == 0.0


def test_sets_hold_the_classes_that_the_probability_allows(
    fitted: Path, write_scene: WriteScene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = make_image(150, 130)
    image[:, :5] = np.nan
    scene, out, sets = write_scene(image), tmp_path / "prob.tif", tmp_path / "sets.tif"
    line = ["map", str(fitted), str(scene), "--out", str(out), "--sets", str(sets)]
    assert run([*line, "--dtype", "float32"]) == 0
    p = read(out)
    expected = np.zeros(p.shape, np.uint8)
    for row, column in np.argwhere(np.isfinite(p)):
        held = (p[row, column] < 0.6, p[row, column] >= 0.3)
        expected[row, column] = {(True, False): 1, (False, True): 2, (True, True): 3, (False, False): 4}[held]
    np.testing.assert_array_equal(read(sets), expected)
    assert {1, 3} <= set(np.unique(expected))
    told = capsys.readouterr().out
    assert "prediction sets of stated coverage 90%" in told
    assert f"both: {(expected == 3).sum():,} pixels" in told
    with rasterio.open(sets) as file:
        tags = file.tags(1)
    assert (tags["CLASS_1"], tags["CLASS_3"], tags["COVERAGE"]) == ("background", "both", "0.9")
    assert run(line) == 2
    assert "Add --dtype float32" in capsys.readouterr().err


def test_neither_class_is_possible_where_the_sets_leave_a_gap(
    fitted: Path, write_scene: WriteScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room: list[float] = []
    monkeypatch.setattr("zoo.mapping.pipeline.check_disk_space", lambda out, needed, folder: room.append(needed))
    model = zoo.load(fitted, device="cpu")
    [measured] = model.bundle.evaluations
    gap = Calibration(0.1, sets=PredictionSets(0.9, landslide_from=0.6, background_below=0.3))
    model.bundle = replace(model.bundle, evaluations=(replace(measured, calibration=gap),))
    report = model.map(
        write_scene(make_image(100, 90)), tmp_path / "p.tif", dtype="float32", sets=tmp_path / "sets.tif"
    )
    p = read(tmp_path / "p.tif")
    assert report.set_pixels["neither"] == ((p >= 0.3) & (p < 0.6)).sum() > 0
    assert report.set_pixels["both"] == 0
    assert room == [DISK_FACTOR * 100 * 90 * (4 + 1)], "four bytes of a pixel are its probability, one its set"


def test_what_was_not_fitted_is_refused(bundle: Path, fitted: Path, write_scene: WriteScene, tmp_path: Path) -> None:
    scene, out = write_scene(make_image(64, 64)), tmp_path / "prob.tif"
    sets = {"sets": tmp_path / "sets.tif", "dtype": "float32"}
    plain, model = zoo.load(bundle, device="cpu"), zoo.load(fitted, device="cpu")
    for given, words in (({"calibrated": True}, "no temperature"), (sets, "no prediction sets")):
        with pytest.raises(ConfigError, match=words) as caught:
            plain.map(scene, out, **given)
        assert "--split val --record" in str(caught.value)
    with pytest.raises(ConfigError, match="does not apply to an adapted model"):
        model.map(scene, out, calibrated=True, adapt=True)
    # Two bundles of the same weights are refused before.
    other = zoo.TrainedModel(replace(plain.bundle, weights_sha256=""), device="cpu")
    for extra in ({"adapt": True}, {"tta": True}, {"calibrated": True}, {"ensemble": [other]}):
        with pytest.raises(ConfigError, match="a single model as it was trained"):
            model.map(scene, out, **sets, **extra)
    adapted = Adaptation(AdaptationSource(), AdaptationTarget(), "layers", 0.5, ())
    assert replace(model.bundle, adaptation=adapted).temperature is None
    assert replace(model.bundle, adaptation=adapted).sets is None
    assert not out.exists()
