"""The main job at the command line: bad input gets a line, good input a table, a report and a bundle."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import PATIENCE_S
from zoo.cli import run

Zoo = Callable[..., "subprocess.CompletedProcess[str]"]
QUICK = ["--steps", "2", "--crop", "32", "--batch-size", "4", "--precision", "fp32"]


def write_png_patches(folder: Path, count: int = 12) -> Path:
    """RGB patches of 16 pixels with a square landslide each, in scenes A to C by their names."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        mask = np.zeros((16, 16), np.uint8)
        mask[4:9, 4:9] = 255
        image = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{'ABC'[index % 3]}_{index:02}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{'ABC'[index % 3]}_{index:02}.png")
    return folder


def no_images(folder: Path) -> None:
    for path in folder.glob("*/*.png"):
        path.unlink()


def no_masks(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        path.unlink()


def another_shape(folder: Path) -> None:
    Image.fromarray(np.zeros((16, 20, 3), np.uint8)).save(folder / "images" / "A_03.png")


def truncated(folder: Path) -> None:
    path = folder / "images" / "A_03.png"
    path.write_bytes(path.read_bytes()[:100])


def all_zero(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(path)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (no_images, "images"),
        (no_masks, "mask"),
        (another_shape, "A_03.png"),
        (truncated, "A_03.png"),
        (all_zero, "landslide"),
    ],
)
def test_bad_patches_get_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], complaint: str
) -> None:
    folder = write_png_patches(tmp_path / "Übung")
    damage(folder)
    code = run(["bench", "--models", "unet", "--data", str(folder), "--out", str(tmp_path / "out"), *QUICK])
    printed = capsys.readouterr()
    assert code == 2, printed.err
    assert complaint in printed.err
    assert "error:" in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def set_nan(image: np.ndarray) -> np.ndarray:
    image[1, 5, 6] = np.nan
    return image


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (set_nan, "nodata"),
        (lambda image: np.concatenate([image, image[:1]]), "4 bands"),
        (lambda image: image.astype(object), "object"),
    ],
)
def test_a_bad_array_is_named(
    tmp_path: Path,
    patches: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[np.ndarray], np.ndarray],
    complaint: str,
) -> None:
    folder = tmp_path / "patches"
    for path in sorted(patches.rglob("*.npy")):
        copy = folder / path.relative_to(patches)
        copy.parent.mkdir(parents=True, exist_ok=True)
        array = np.load(path)
        if copy.name == "p003.npy" and copy.parent.name == "images":
            array = damage(array)
        np.save(copy, array)
    assert run(["bench", "--models", "unet", "--data", str(folder), "--out", str(tmp_path / "out"), *QUICK]) == 2
    error = capsys.readouterr().err
    assert "p003.npy" in error
    assert complaint in error


def test_an_unwritable_folder_is_reported_before_any_work(
    tmp_path: Path, patches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    code = run(["bench", "--models", "unet", "--data", str(patches), "--out", str(tmp_path / "file" / "out")])
    assert code == 2
    assert "cannot write here" in capsys.readouterr().err


@pytest.mark.slow
def test_bench_report_and_evaluate_agree(zoo: Zoo, patches: Path, tmp_path: Path) -> None:
    data = ["--data", str(patches), "--group-column", "scene", "--train-groups", "s0,s1", "--test-groups", "s2"]
    speed = ["--no-speed", "--json", "rows.json"]
    done = zoo("bench", "--models", "unet,mobilenetv2", *data, *QUICK, "--out", "out", *speed)
    assert done.returncode == 0, done.stderr
    assert "Dice" in done.stdout
    assert "paper" in done.stdout
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["model"] for row in rows} == {"unet", "mobilenetv2"}
    assert all(row["status"] == "ok" and row["error"] == "" for row in rows)

    assert json.loads(zoo("report", "out", "--json", check=True).stdout) == rows
    printed = list(csv.DictReader(io.StringIO(zoo("report", "out", "--format", "csv", check=True).stdout)))
    assert [float(row["dice"]) for row in printed] == [row["dice"] for row in rows]
    assert "| `unet` |" in zoo("report", "out", "--format", "markdown", check=True).stdout

    bundle = next((tmp_path / "out" / "bundles").glob("unet-*"))
    again = json.loads(zoo("evaluate", bundle, "--json", check=True).stdout)
    unet = next(row for row in rows if row["model"] == "unet")
    assert again["same_patches_as_training_run"]
    for name in ("dice", "dice_per_image", "precision", "recall", "accuracy"):
        assert again[name] == pytest.approx(unet[name], abs=1e-6), name

    cut = next((tmp_path / "out" / "trials").glob("mobilenetv2-*"))
    cut.write_text(cut.read_text()[:500])
    damaged = zoo("report", "out")
    assert damaged.returncode == 2
    assert "unet" in damaged.stdout
    assert cut.name in damaged.stderr
    assert "Traceback" not in damaged.stderr


@pytest.mark.slow
def test_a_failing_model_gets_a_row_and_an_exit_code(
    zoo: Zoo, patches: Path, install: Callable[[str, str], None], tmp_path: Path
) -> None:
    code = """
        from zoo.registry import ModelSpec, hookimpl

        @hookimpl
        def zoo_register_models(register):
            register(ModelSpec(name="broken", target="no_such_module:Model", summary="s"))
    """
    install("zoo-broken-model", code)
    data = ["--data", str(patches), "--group-column", "scene"]
    done = zoo("bench", "--models", "broken,unet", *data, *QUICK, "--no-speed", "--json", "rows.json")
    assert done.returncode == 1, done.stderr
    rows = {row["model"]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    assert rows["unet"]["status"] == "ok"
    assert rows["unet"]["fps"] is None
    assert rows["broken"]["status"] == "failed"
    assert "cannot be imported" in rows["broken"]["error"]
    assert "broken: failed" in done.stdout


@pytest.mark.slow
@pytest.mark.nightly
def test_train_is_killed_resumed_and_leaves_a_bundle_with_pictures(zoo: Zoo, patches: Path, tmp_path: Path) -> None:
    line = "train unet --option widths=[4,4,4,4,4] --steps 400 --crop 32 --batch-size 4 --precision fp32 --out run"
    arguments = [*line.split(), "--data", str(patches), "--group-column", "scene"]
    process = subprocess.Popen([sys.executable, "-m", "zoo", *arguments], cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_S
    while not list((tmp_path / "run").rglob("last.ckpt")):
        assert time.monotonic() < deadline, "no resume state was written"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "bundle.json").exists()
    done = zoo(*arguments, "--resume", check=True)
    assert "bundle, result and pictures" in done.stderr
    for name in ("loss_curve.png", "predictions.png"):
        with Image.open(tmp_path / "run" / name) as picture:
            picture.verify()
    assert not (tmp_path / "run" / "resume").exists()
    result = json.loads(next((tmp_path / "run" / "trials").glob("*.json")).read_text())
    assert result["training"]["steps"] == 400
    assert result["audit"]["verdict"].startswith("no leak found between")
    assert result["audit"]["verdict"] in done.stderr
    assert result["training"]["curve"][0][0] == 1
    assert result["speed"], "without --no-speed the model is timed"
    refused = zoo(*arguments)
    assert refused.returncode == 2
    assert "already holds a bundle" in refused.stderr
    other = zoo("evaluate", "run", "--data", write_png_patches(tmp_path / "png"), "--group-pattern", "([ABC])_")
    assert other.returncode == 2
    assert "the bundle takes" in other.stderr


CONFIG = """
title = "two of Table 6"
paper = "table6"
baseline = "U-net"
data = {{ name = "{patches}", group_column = "scene", train_groups = ["s0", "s1"] }}
recipe = {{ name = "quick", steps = 2, crop = 32, batch_size = 4, precision = "fp32" }}

[[models]]
label = "U-net"
model = "unet"
options = {{ widths = [4, 4, 4, 4, 4] }}

[[models]]
label = "Ours"
model = "enhanced_unet"
options = {{ widths = [4, 4, 4, 4, 4], attention_at = ["encoder"] }}
"""


@pytest.fixture
def config(tmp_path: Path, patches: Path) -> Path:
    """A configuration of two small models."""
    path = tmp_path / "two.toml"
    path.write_text(CONFIG.format(patches=patches), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--config", "none.toml"], "none.toml: there is no such file"),
        (["--config", "{config}", "--models", "U-nett"], "Did you mean 'U-net'?"),
        (["--config", "{config}", "--data-option", "fraction=1"], "unknown option 'fraction'"),
        (["--config", "{config}", "--steps", "2", "--epochs", "2"], "cannot be combined"),
        (["--config", "{config}", "--test-groups", "s0"], "group 's0' is named for train and for test"),
        (["--config", "{config}", "--out", "{other}"], "holds the results of 'another'"),
        (["--config", "{config}", "--jobs", "0"], "0 is not in the range 1<=x<=1024"),
        (["--config", "{config}", "--ray", "127.0.0.1:1"], "no answer from '127.0.0.1:1'"),
        (["--config", "{config}", "--ray", "cluster"], "is not the address of a cluster"),
    ],
)
def test_a_benchmark_that_cannot_run_is_refused_before_it_does(
    tmp_path: Path,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "benchmark.json").write_text('{"name": "another"}')
    code = run(["bench", *(argument.format(config=config, other=other) for argument in arguments)])
    printed = capsys.readouterr()
    assert code == 2, printed.err
    assert complaint in printed.err
    assert "Traceback" not in printed.err
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.slow
def test_a_configuration_is_planned_and_run(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["bench", "--config", str(config), "--dry-run", "--json", "plan.json"]) == 0
    printed = capsys.readouterr()
    assert "2 of 2 trials to run: about" in printed.out
    assert "audit:" in printed.err
    assert not (tmp_path / "results" / "two").exists()
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert [(trial["label"], trial["steps"], trial["source"]) for trial in plan["trials"]] == [
        ("U-net", 2, "measured now"), ("Ours", 2, "measured now"),
    ]  # fmt: skip

    assert run(["bench", "--config", str(config), "--jobs", "2", "--json", "rows.json"]) == 0
    printed = capsys.readouterr()
    assert "paper: Table 6 of Zheng et al. 2025" in printed.out
    assert "0.667" in printed.out
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["model"] for row in rows} == {"U-net", "Ours"}
    assert all(row["fps"] > 0 and row["best_batch"] >= 1 for row in rows)
    stored = json.loads(next((tmp_path / "results" / "two" / "trials").glob("*.json")).read_text())
    assert stored["speed_protocol"]["models"] == 2
    assert stored["speed_protocol"]["end_to_end"]["passes"] >= 4

    # Planned again: what is done is counted, and another seed is judged by it, where the threads are the same.
    config.write_text(config.read_text().replace("[4, 4, 4, 4, 4], at", "[4], at"), encoding="utf-8")
    assert run(["bench", "--config", str(config), "--dry-run", "--seeds", "2"]) == 1
    printed = capsys.readouterr()
    assert "1 of 4 trials to run" in printed.out
    assert "error: Ours: UNet: " in printed.err
    assert "widths must name two or more levels" in printed.err
    assert run(["report", "results/two"]) == 0
    assert "Ours" in capsys.readouterr().out
