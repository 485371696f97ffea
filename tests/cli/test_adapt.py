"""``zoo adapt`` as its user meets it: images without labels in, a bundle with a record out, bad input in one line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoo.cli import run
from zoo.datasets.source import DataSource
from zoo.datasets.statistics import compute_statistics
from zoo.registry import create_model
from zoo.training.bundle import Bundle, TrainingData
from zoo.training.bundle_layout import ComputeFormat
from zoo.training.recipes import get_recipe

OPTIONS = {"widths": [4, 4, 4]}


@pytest.fixture(scope="module")
def bundle(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that was trained on scenes s0 and s1 of the ellipses."""
    source = DataSource("folder", {"root": str(patches), "group_column": "scene", "test_groups": ["s2"]})
    train = source.open("train")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bundle") / "run"
    Bundle(
        model="unet",
        options=OPTIONS,
        bands=train.bands,
        statistics=compute_statistics(train),
        compute_format=ComputeFormat("fp32", True),
        class_names=train.class_names,
        threshold=0.5,
        metrics={"dice": 0.5},
        data=TrainingData(source.name, source.options, {"train": train.fingerprint()}),
        recipe=get_recipe("quick").changed(batch_size=4),
        seed=0,
        state=create_model("unet", 3, 2, **OPTIONS).state_dict(),
    ).save(folder)
    return folder


def test_images_alone_are_enough(
    bundle: Path, patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(patches / "images", tmp_path / "region" / "images")
    new = tmp_path / "new"
    assert run(["adapt", str(bundle), "--data", str(tmp_path / "region"), "--out", str(new), "--patches", "20"]) == 0
    printed = capsys.readouterr()
    assert "encoder.0.1" in printed.out
    assert "share of the target" in printed.out
    assert "classified as landslide" in printed.err
    assert re.search(r"threshold: 0\.\d+ original, 0\.\d+ adapted", printed.err)
    assert "trained on" not in printed.err
    adaptation = Bundle.load(new).adaptation
    assert adaptation is not None
    assert adaptation.source.weights_sha256 == Bundle.load(bundle).weights_sha256
    assert adaptation.target.used == 20


def test_figures_before_and_after_adaptation_are_printed_with_labels(
    bundle: Path, patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    data = ["--data", str(patches), "--groups", "s2", "--group-column", "scene", "--test-groups", "s2"]
    assert run(["adapt", str(bundle), *data, "--out", str(new), "--share", "1", "--evaluate", "test", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["target"]["groups"] == ["s2"]
    assert {shift["share"] for shift in found["shifts"]} == {1.0}
    assert run(["evaluate", str(new), *data[:2], *data[4:], "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["dice"] == found["evaluation"]["adapted"]["dice"]
    assert run(["evaluate", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dice"] == found["evaluation"]["plain"]["dice"]


def test_a_bundle_that_looks_at_two_scales_is_used_like_any_other(
    bundle: Path, patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, exported = tmp_path / "new", tmp_path / "model.onnx"
    data = ["--data", str(patches), "--group-column", "scene", "--test-groups", "s2"]
    wanted = ["--groups", "s2", "--share", "1", "--scales", "1,2", "--evaluate", "test"]
    assert run(["adapt", str(bundle), *data, *wanted, "--out", str(new)]) == 0
    assert "encoder.0.1 x2" in capsys.readouterr().out
    assert run(["evaluate", str(new), *data, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dice"] is not None
    assert run(["export", str(new), "--to", "onnx", "--out", str(exported)]) == 0
    assert exported.stat().st_size > 0


def test_the_patches_that_a_model_was_trained_on_are_recognised(
    bundle: Path, patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["adapt", str(bundle), "--data", str(patches), "--out", str(tmp_path / "new")]) == 0
    trained = len(DataSource("folder", Bundle.load(bundle).data.options).open("train"))
    assert f"the model was trained on {trained} of the 24 patches of the target" in capsys.readouterr().err


def test_evaluate_prints_the_adaptation_target_and_transductive_figures(
    bundle: Path, patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    scenes = ["--data", str(patches), "--group-column", "scene"]
    assert run(["adapt", str(bundle), *scenes, "--groups", "s2", "--out", str(new), "--share", "0.5"]) == 0

    def told(*arguments: str, measured: Path = new) -> str:
        capsys.readouterr()
        assert run(["evaluate", str(measured), *arguments]) == 0
        return capsys.readouterr().err

    own = told(*scenes, "--test-groups", "s2")
    assert f"this bundle was adapted to 8 images of {patches} (scenes s2), without their labels" in own
    assert "share of the target 0.50" in own
    assert "warning: the bundle was adapted to 8 of the 8 measured patches" in own
    assert "transductive" in own
    assert "none of the 8 measured patches is among those images" in told(*scenes, "--test-groups", "s1")
    assert "8 of the 16 measured patches" in told(*scenes, "--test-groups", "s1,s2")
    shutil.copytree(patches, tmp_path / "copy")
    elsewhere = told("--data", str(tmp_path / "copy"), *scenes[2:], "--test-groups", "s2")
    assert "it is unknown whether the measured patches" in elsewhere
    assert "adapted" not in told(*scenes, "--test-groups", "s2", measured=bundle)
    assert run(["evaluate", str(new), *scenes, "--test-groups", "s2", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)["adaptation"]
    assert (about["patches_seen"], about["share"], about["target"]["groups"]) == (8, 0.5, ["s2"])


@pytest.mark.parametrize("command", ["bench", "evaluate"])
def test_an_empty_test_split_is_refused(
    bundle: Path,
    patches: Path,
    tmp_path: Path,
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = {"bench": ["bench", "--models", "unet", "--out", "out"], "evaluate": ["evaluate", str(bundle)]}[command]
    none = ["--data", str(patches), "--split-by", "random", "--data-option", "fractions=[0.7,0.3,0.0]"]
    assert run([*words, *none]) == 2
    assert "the test split is empty (train 17, val 7, test 0" in capsys.readouterr().err
    # Another data set need not say so by itself.
    opened = DataSource.open

    def without_test(self: DataSource, split: str, progress: Any = None) -> Any:
        dataset = opened(self, split, progress)
        dataset.patches = () if split == "test" else dataset.patches
        return dataset

    shared = DataSource.open_splits

    def splits_without_test(self: DataSource, *arguments: Any, **options: Any) -> Any:
        splits = shared(self, *arguments, **options)
        if "test" in splits:
            splits["test"].patches = ()
        return splits

    monkeypatch.setattr(DataSource, "open", without_test)
    monkeypatch.setattr(DataSource, "open_splits", splits_without_test)
    assert run([*words, "--data", str(patches), "--group-column", "scene"]) == 2
    error = capsys.readouterr().err
    assert "the test split is empty" in error
    assert "Split the data differently" in error
    assert list(tmp_path.iterdir()) == []


def no_data(_: Path, __: Path, patches: Path) -> list[str]:
    return []


def blank(_: Path, folder: Path, patches: Path) -> list[str]:
    (folder / "blank").mkdir()
    np.save(folder / "blank" / "a.npy", np.full((3, 16, 16), np.nan, np.float32))
    return ["--data", str(folder / "blank"), "--data-option", "nodata=nan"]


def two_bands(_: Path, folder: Path, patches: Path) -> list[str]:
    (folder / "two").mkdir()
    np.save(folder / "two" / "a.npy", np.zeros((2, 16, 16), np.float32))
    return ["--data", str(folder / "two"), "--data-option", "layout=CHW"]


def other_names(_: Path, folder: Path, patches: Path) -> list[str]:
    return ["--data", str(patches), "--data-option", "bands=red,green,blue"]


def empty(_: Path, folder: Path, patches: Path) -> list[str]:
    (folder / "empty").mkdir()
    return ["--data", str(folder / "empty")]


def no_such_scene(_: Path, folder: Path, patches: Path) -> list[str]:
    return ["--data", str(patches), "--groups", "s9"]


def a_split_of_everything(_: Path, folder: Path, patches: Path) -> list[str]:
    return ["--data", str(patches), "--test-groups", "s2"]


def no_number(_: Path, folder: Path, patches: Path) -> list[str]:
    return ["--data", str(patches), "--share", "half"]


def no_numbers(_: Path, folder: Path, patches: Path) -> list[str]:
    return ["--data", str(patches), "--scales", "1,large"]


def too_large(_: Path, folder: Path, patches: Path) -> list[str]:
    return ["--data", str(patches), "--scales", "1,16"]


def cut_bundle(bundle: Path, folder: Path, patches: Path) -> list[str]:
    weights = bundle / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    return ["--data", str(patches)]


def no_labels_to_measure_with(_: Path, folder: Path, patches: Path) -> list[str]:
    shutil.copytree(patches / "images", folder / "region")
    return ["--data", str(folder / "region"), "--evaluate", "test"]


def out_is_a_bundle(bundle: Path, folder: Path, patches: Path) -> list[str]:
    return ["--data", str(patches), "--out", str(bundle)]


@pytest.mark.parametrize(
    ("arrange", "complaint"),
    [
        (no_data, "no target data are given"),
        (blank, "nothing to adapt to: all 1 patches are nodata"),
        (two_bands, "has 2 bands, but the bundle takes 3"),
        (other_names, "band 1 is red [unknown], but the bundle takes band_1"),
        (empty, "contains no images"),
        (no_such_scene, "unknown group 's9'"),
        (a_split_of_everything, "test_groups chooses a split"),
        (no_number, "'half' is not a number"),
        (no_numbers, "'1,large' is not a list of numbers"),
        (too_large, "must be different numbers from 0.5 to 4"),
        (cut_bundle, "sha256 differs"),
        (no_labels_to_measure_with, "contains no folder of images with a folder of masks"),
        (out_is_a_bundle, "already holds a bundle"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(
    bundle: Path,
    patches: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arrange: Callable[[Path, Path, Path], list[str]],
    complaint: str,
) -> None:
    shutil.copytree(bundle, tmp_path / "copy")
    arguments = arrange(tmp_path / "copy", tmp_path, patches)
    assert run(["adapt", str(tmp_path / "copy"), "--out", str(tmp_path / "new"), *arguments]) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert not (tmp_path / "new" / "bundle.json").exists()
