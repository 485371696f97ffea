"""Fine-tuning through ``zoo train --from`` and ``zoo bench``."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import zoo
from zoo.api.train import open_parent
from zoo.bench.benchmark import ModelEntry
from zoo.bench.results import TrialResult, trial_files
from zoo.cli import run
from zoo.errors import ConfigError, ResultError
from zoo.training.bundle import Bundle
from zoo.training.recipes import FineTuning


def command(patches: Path, folder: Path, *more: str, model: str = "unet") -> list[str]:
    words = ["train", model, "--data", str(patches), "--group-column", "scene", "--steps", "3", "--batch-size", "4"]
    return [*words, "--precision", "fp32", "--device", "cpu", "--out", str(folder), *more]


def test_fine_tuning_reports_the_copied_layers_and_records_its_parent(
    patches: Path, trained_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tuned"
    words = command(patches, folder, "--from", str(trained_bundle), "--freeze", "encoder", "--no-speed")
    assert run(words) == 0, capsys.readouterr().err
    (result,) = map(TrialResult.load, trial_files(folder))
    assert not result.speed
    printed = " ".join(capsys.readouterr().err.split())
    parent, child = Bundle.load(trained_bundle), Bundle.load(folder)
    assert f"(sha256 {parent.weights_sha256[:12]})" in printed
    assert "first convolution: " in printed
    assert " copied; " in printed
    assert "classes: weights of background, landslide copied" in printed
    assert "frozen: encoder (" in printed
    assert "learning rate: copied weights at 0.1 of the recipe's" in printed
    assert "normalisation by the new training split; " in printed
    assert child.options["widths"] == parent.options["widths"]
    assert child.parent is not None
    assert (child.parent.name, child.parent.weights_sha256) == (str(trained_bundle), parent.weights_sha256)
    same = {name: torch.equal(child.state[name], parent.state[name]) for name in child.state if "tracked" not in name}
    assert same == {name: name.startswith("encoder.") for name in same}

    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert run([*words, "--resume"]) == 0
    assert "already done" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    other = command(patches, folder, "--from", str(trained_bundle), "--old-lr-factor", "0.5", "--resume")
    assert run(other) == 2, "another fine-tuning is another run"
    assert "already holds a bundle" in capsys.readouterr().err


def test_what_does_not_fit_is_refused_before_training(
    patches: Path, trained_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ("--from", str(trained_bundle))
    for more, model, complaint in (
        (start, "segnet", "the weights are those of 'unet', but 'segnet' needs others"),
        ((*start, "--option", "widths=[4,4,4]"), "unet", "the architectures differ"),
        ((*start, "--freeze", "encodr"), "unet", "Did you mean 'encoder'"),
        ((*start, "--old-lr-factor", "0"), "unet", "--old-lr-factor"),
        (("--freeze", "encoder"), "unet", "encoder would keep random weights"),
        (("--from", str(tmp_path / "nothing")), "unet", "there is no such folder"),
        (("--from", "unet"), "unet", "is an architecture without trained weights"),
    ):
        assert run(command(patches, tmp_path / "tuned", *more, model=model)) == 2
        told = " ".join(capsys.readouterr().err.split())
        assert complaint in told
        assert "Traceback" not in told
    assert not (tmp_path / "tuned" / "bundle.json").exists()


def test_a_damaged_parent_is_refused(patches: Path, trained_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(trained_bundle)
    bundle.save(tmp_path / "parent")
    (tmp_path / "parent" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ResultError, match="sha256 differs"):
        zoo.train("unet", patches, from_=tmp_path / "parent", data_options={"group_column": "scene"})
    with pytest.raises(ConfigError, match="nothing is left to train"):
        layers = sorted({name.partition(".")[0] for name in bundle.state})
        zoo.train("unet", patches, from_=trained_bundle, freeze=layers, data_options={"group_column": "scene"})


def test_weights_may_be_a_zip_file(trained_bundle: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "parent"), "zip", trained_bundle)
    bundle, start = open_parent(FineTuning(archive))
    assert start.parent == archive
    assert start.sha256 == bundle.weights_sha256 == Bundle.load(trained_bundle).weights_sha256
    assert (Path(start.folder) / "bundle.json").is_file()


@pytest.mark.slow
def test_a_benchmark_compares_fine_tuned_models_with_others(
    patches: Path, trained_bundle: Path, tmp_path: Path
) -> None:
    parent = Bundle.load(trained_bundle)
    (tmp_path / "config.toml").write_text(
        f"""
        seeds = 1
        speed = false
        recipe = {{ name = "quick", steps = 2, batch_size = 4, crop = 32, precision = "fp32" }}
        data = {{ name = {json.dumps(str(patches))}, group_column = "scene" }}
        adapt = true
        [[models]]
        label = "scratch"
        model = "unet"
        options = {{ widths = [8, 8, 8, 8, 8] }}
        [[models]]
        label = "tuned"
        model = "unet"
        from = {json.dumps(str(trained_bundle))}
        """
    )
    results = zoo.benchmark(config=tmp_path / "config.toml", out=tmp_path / "out", device="cpu")
    found = {result.config.label: result for result in results}
    assert set(found) == {"scratch", "scratch (adapted)", "tuned", "tuned (adapted)"}
    assert all(result.ok for result in results), [result.error for result in results]
    scratch, tuned = found["scratch"].config, found["tuned"].config
    assert tuned.options == scratch.options
    assert tuned.key != scratch.key
    assert tuned.fine_tuning is not None
    moved = replace(tuned, fine_tuning=replace(tuned.fine_tuning, parent="elsewhere", folder="/elsewhere"))
    assert moved.key == tuned.key, "the place of the weights changes nothing"
    read = {TrialResult.load(path).config.key: TrialResult.load(path) for path in trial_files(tmp_path / "out")}
    assert read[tuned.key].config == tuned
    child = Bundle.load(tmp_path / "out" / "bundles" / tuned.file_stem)
    assert child.parent is not None
    assert child.parent.weights_sha256 == parent.weights_sha256
    assert "fine_tuning" not in scratch.to_dict()
    assert found["tuned"].counts.pooled().tp[0] != found["scratch"].counts.pooled().tp[0]


def test_a_benchmark_refuses_weights_that_do_not_fit(patches: Path, trained_bundle: Path) -> None:
    for entry, complaint in (
        (ModelEntry("segnet", start=FineTuning(str(trained_bundle))), "the weights are those of 'unet'"),
        (ModelEntry("unet", start=FineTuning(str(trained_bundle), ("decodr",))), "unknown layer 'decodr'"),
    ):
        with pytest.raises(ConfigError if "those" in complaint else zoo.errors.UnknownNameError, match=complaint):
            zoo.plan_benchmark([entry], patches, data_options={"group_column": "scene"}, device="cpu")
