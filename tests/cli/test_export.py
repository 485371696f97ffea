"""``zoo export`` as its user meets it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.cli import run

SMALL = ["--option", "widths=[4,4,4,4,4]", "--in-channels", "3"]


def test_an_untrained_model_is_written_and_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "unet.onnx"
    assert run(["export", "unet", *SMALL, "--to", "onnx", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "no trained weights" in printed.err
    assert "untrained unet, onnx fp32, opset 18" in printed.err
    assert out.is_file()
    assert run(["export", "unet", *SMALL, "--to", "onnx", "--out", str(out)]) == 2
    assert "already exists" in capsys.readouterr().err
    again = ["export", "unet", *SMALL, "--to", "onnx", "--out", str(out), "--overwrite", "--json"]
    assert run(again) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["trained"] is False
    assert facts["bytes"] == out.stat().st_size


def test_a_trained_bundle_goes_to_deepness(
    trained_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "q.onnx"
    line = ["export", str(trained_bundle), "--to", "onnx", "--for", "deepness", "--pixel-size", "10", "--out", str(out)]
    assert run(line) == 0
    printed = capsys.readouterr()
    assert "trained unet, onnx fp32" in printed.err
    assert "test split: 0 ppm of the pixels changed" in printed.err
    assert "tiles of 32 px" in printed.err
    assert printed.out == ""
    assert out.is_file()


def no_data(bundle: Path) -> None:
    text = (bundle / "bundle.json").read_text()
    root = json.loads(text)["data"]["options"]["root"]
    (bundle / "bundle.json").write_text(text.replace(root, str(bundle / "gone")))


def test_a_bundle_without_its_data_is_compared_on_random_images(
    trained_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = shutil.copytree(trained_bundle, tmp_path / "moved")
    no_data(bundle)
    line = ["export", str(bundle), "--to", "openvino", "--out", str(tmp_path / "m.xml")]
    assert run(line) == 0
    assert "compared on random images only" in capsys.readouterr().err
    assert run([*line, "--overwrite", "--precision", "fp16"]) == 2
    assert "gone" in capsys.readouterr().err
    assert run([*line, "--overwrite", "--seed", "3"]) == 2
    assert "A bundle records its own" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.bin", "m.xml", "moved"]


def cut_weights(bundle: Path) -> None:
    (bundle / "model.safetensors").write_bytes(b"0")


def unknown_model(bundle: Path) -> None:
    text = (bundle / "bundle.json").read_text()
    (bundle / "bundle.json").write_text(text.replace('"name": "unet"', '"name": "unit"'))


@pytest.mark.parametrize(
    ("damage", "complaint"), [(cut_weights, "sha256 differs"), (unknown_model, "Did you mean 'unet'")]
)
def test_a_bundle_that_cannot_be_used_is_named(
    trained_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    complaint: str,
) -> None:
    bundle = shutil.copytree(trained_bundle, tmp_path / "moved")
    damage(bundle)
    assert run(["export", str(bundle), "--to", "onnx", "--out", str(tmp_path / "m.onnx")]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()


RAINY = """
    from zoo.registry import Flag, ModelSpec, hookimpl

    @hookimpl
    def zoo_register_models(register):
        register(ModelSpec(name="rainy", target="json:loads", summary="s", flags=frozenset({Flag.NEEDS_RAIN})))
        register(ModelSpec(name="winding", target="json:loads", summary="s"))
"""


@pytest.mark.parametrize(
    ("name", "reason"),
    [("rainy", "needs rain and cannot predict from only an image"), ("winding", "does not declare the flag")],
)
def test_a_model_that_declares_itself_unable_is_refused_with_the_reason(
    tmp_path: Path,
    install: Callable[[str, str], None],
    capsys: pytest.CaptureFixture[str],
    name: str,
    reason: str,
) -> None:
    from zoo import registry

    install("zoo-rainy", RAINY)
    registry.reload()
    try:
        assert run(["export", name, "--to", "onnx", "--out", str(tmp_path / "m.onnx")]) == 2
    finally:
        registry.reload()
    assert reason in capsys.readouterr().err
    assert list(tmp_path.glob("*.onnx")) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["unett", "--to", "onnx", "--out", "m.onnx"], "Did you mean 'unet'"),
        (["./nowhere", "--to", "onnx", "--out", "m.onnx"], "there is no such folder"),
        ([".", "--to", "onnx", "--out", "m.onnx"], "there is no bundle.json"),
        (["unet", "--to", "tflite", "--out", "m.tflite"], "'tflite' is not one of"),
        (["unet", "--to", "onnx", "--out", "m.pt2"], "must end in .onnx"),
        (["unet", "--to", "onnx", "--opset", "9", "--out", "m.onnx"], "opset 9 is too low"),
        (["unet", "--to", "onnx", "--precision", "bf16", "--out", "m.onnx"], "format onnx has no precision bf16"),
        (["unet", *SMALL, "--to", "onnx", "--precision", "int8", "--out", "m.onnx"], "there are none"),
        (["unet", "--to", "onnx", "--tile-size", "64", "--out", "m.onnx"], "need --for deepness"),
        (
            ["unet", *SMALL, "--to", "onnx", "--for", "deepness", "--tile-size", "16", "--out", "m.onnx"],
            "tiles of 16 pixels are too small",
        ),
        (["unet", "--to", "onnx", "--out", "file/m.onnx"], "cannot write here"),
        (["unet", "--to", "onnx", "--out", "folder.onnx"], "is a folder"),
        (["unet", "--to", "onnx", "--option", "width=3", "--out", "m.onnx"], "unknown option 'width'"),
    ],
)
def test_bad_input_gets_one_clear_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.onnx").mkdir()
    assert run(["export", *arguments]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert "Traceback" not in error
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(("to", "name"), [("onnx", "m.onnx"), ("openvino", "m.xml")])
def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], to: str, name: str
) -> None:
    missing = {"onnx": "onnxruntime", "openvino": "openvino"}[to]
    monkeypatch.setitem(sys.modules, missing, None)
    assert run(["export", "unet", *SMALL, "--to", to, "--out", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert f"needs {missing}" in error
    assert "pip install 'landslide-zoo[export]'" in error
    assert list(tmp_path.iterdir()) == []
