"""Measure a bundle, plain and adapted, and keep the figures in it; bundles in float16."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import zoo
from zoo.cli import run
from zoo.training.bundle import WEIGHTS, Bundle

DATA = ("--group-column", "scene", "--device", "cpu")


@pytest.fixture
def folder(trained_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_bundle, tmp_path / "unet"))


def test_training_records_the_test_split_with_interval_and_calibration(folder: Path, patches: Path) -> None:
    bundle = Bundle.load(folder)
    whole = bundle.evaluations[0]
    assert whole.dice == pytest.approx(bundle.metrics["dice"])
    assert whole.split_sha256 == bundle.data.fingerprints["test"]
    assert (whole.data, whole.split, whole.adapted, whole.threshold) == ("patches", "test", False, bundle.threshold)
    assert whole.dice_interval is not None
    assert whole.calibration is not None
    assert whole.calibration.temperature is not None
    assert bundle.landslide_share is not None
    assert 0.05 < bundle.landslide_share < 0.3
    assert bundle.data.licence == "set by the owner of the files"


def test_figures_are_recorded_on_request(folder: Path, patches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "bundle.json").read_bytes()
    weights = (folder / WEIGHTS).read_bytes()
    line = ["evaluate", str(folder), "--data", str(patches), *DATA, "--test-groups", "s0,s1"]
    assert run(line) == 0
    assert (folder / "bundle.json").read_bytes() == before
    capsys.readouterr()
    assert run([*line, "--record", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    bundle = Bundle.load(folder)
    assert [one.group for one in bundle.evaluations] == [None, "s0", "s1"]
    assert shown["measured"][0]["dice"] == bundle.evaluations[0].dice == shown["dice"]
    assert bundle.evaluations[0].calibration is not None
    assert bundle.evaluations[0].calibration.temperature is not None
    assert run([*line, "--record", "--adapt"]) == 0
    assert "adapted without labels" in capsys.readouterr().err
    bundle = Bundle.load(folder)
    assert [(one.group, one.adapted) for one in bundle.evaluations[3:]] == [(None, True), ("s0", True), ("s1", True)]
    assert (folder / WEIGHTS).read_bytes() == weights
    assert repr(zoo.load(folder, device="cpu")).count("test Dice 0.") == 1


def test_adapting_for_a_measurement_is_adapting_to_each_scene(folder: Path, patches: Path) -> None:
    model = zoo.load(folder, device="cpu")
    data = {"group_column": "scene", "test_groups": ["s0", "s1"]}
    found = model.evaluate(patches, data_options=data, adapted=True)
    for name, one in zip(("s0", "s1"), found.measured[1:], strict=True):
        there = model.adapt(patches, data_options=data, split="test", groups=[name])
        alone = there.evaluate(patches, data_options={**data, "test_groups": [name]})
        assert alone["dice"] == pytest.approx(one.dice, abs=1e-6)
    assert model.adaptation is None


def test_images_are_magnified_and_turned_on_request(
    folder: Path, patches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = zoo.load(folder, device="cpu")
    data = {"group_column": "scene", "test_groups": ["s0"]}
    found = model.evaluate(patches, adapted=True, scales=(1.5,), tta=True, data_options=data)
    there = model.adapt(patches, split="test", groups=["s0"], scales=(1.5,), data_options=data)
    assert found["dice"] == pytest.approx(there.evaluate(patches, tta=True, data_options=data)["dice"], abs=1e-6)
    assert found["dice"] != model.evaluate(patches, adapted=True, data_options=data)["dice"]
    line = ["evaluate", str(folder), "--data", str(patches), *DATA, "--test-groups", "s0"]
    for options, complaint in (
        (["--scales", "1.5"], "need adapted statistics"),
        (["--adapt", "--tta", "--record"], "figures of rotated or magnified images are not recorded"),
    ):
        assert run([*line, *options]) == 2
        assert complaint in capsys.readouterr().err
    assert run([*line, "--adapt", "--scales", "1.5", "--tta", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dice"] == pytest.approx(found["dice"], abs=1e-6)


def test_half_precision_changes_no_figure_by_a_thousandth(folder: Path, tmp_path: Path) -> None:
    model = zoo.load(folder, device="cpu")
    whole = model.evaluate()
    model.save(tmp_path / "half", half=True)
    half = zoo.load(tmp_path / "half", device="cpu")
    assert (tmp_path / "half" / WEIGHTS).stat().st_size < (folder / WEIGHTS).stat().st_size
    found = half.evaluate(record=True)
    assert found.same_patches
    for name in ("dice", "precision", "recall"):
        assert found[name] == pytest.approx(whole[name], abs=1e-3)
    kept = [Bundle.load(place).weights_sha256 for place in (tmp_path / "half", folder)]
    assert half.bundle.weights_sha256 == kept[0] != kept[1]


def test_train_writes_half_precision_and_keeps_a_finished_run(patches: Path, tmp_path: Path) -> None:
    given = {"steps": 2, "batch_size": 4, "crop": 32, "precision": "fp32", "data_options": {"group_column": "scene"}}
    options = {"widths": (8, 16, 32)}
    first = zoo.train("unet", patches, out=tmp_path / "half", device="cpu", options=options, half=True, **given)
    size = (tmp_path / "half" / WEIGHTS).stat().st_size
    parameters = sum(tensor.numel() for tensor in first.bundle.state.values())
    assert size < 3 * parameters
    again = zoo.train("unet", patches, out=tmp_path / "half", device="cpu", options=options, resume=True, **given)
    assert again.bundle.weights_sha256 == first.bundle.weights_sha256


def test_prediction_sets_are_chosen_on_the_validation_split_and_measured_on_others(
    folder: Path, patches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = Bundle.load(folder)
    calibration = trained.evaluations[0].calibration
    assert calibration is not None
    assert calibration.coverage is not None
    assert trained.sets == calibration.sets is not None
    line = ["evaluate", str(folder), "--data", str(patches), *DATA]
    assert run(line) == 0
    told = capsys.readouterr().err
    assert f"{calibration.coverage.landslide:.1%} of the landslide pixels" in told
    assert "on which they were chosen" not in told
    # A bundle of an older version has a temperature at most.
    old = replace(calibration, sets=None, coverage=None)
    measured = replace(trained.evaluations[0], calibration=old)
    replace(trained, evaluations=(measured,)).save_description(folder)
    assert run(line) == 0
    assert "prediction sets" not in capsys.readouterr().err
    assert run([*line, "--split", "val", "--record"]) == 0
    assert "of the background, on which they were chosen" in capsys.readouterr().err
    bundle = Bundle.load(folder)
    assert bundle.sets == trained.sets
    assert bundle.temperature == trained.temperature
    [own] = [one.calibration for one in bundle.evaluations if one.split == "val" and one.group is None]
    assert own is not None
    assert own.coverage is not None
    assert min(own.coverage.landslide, own.coverage.background) >= 0.9
    assert bundle.quality() == measured, "the test split still stands for the model"
