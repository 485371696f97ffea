"""The format of the plugin keeps what the model computes, or keeps no file."""

from pathlib import Path

import pytest

import zoo
from zoo.deploy.exported_files import open_exported
from zoo.errors import ConfigError, PluginError
from zoo.registry import ExporterSpec


def test_a_file_computes_what_the_model_computes(tmp_path: Path) -> None:
    done = zoo.export("tiny_fcn", tmp_path / "tiny.ts", to="torchscript", in_channels=4)
    assert done.report.random < 1e-4
    model, metadata = open_exported(tmp_path / "tiny.ts")
    assert metadata.model == "tiny_fcn"
    assert model.in_channels == 4


def test_it_has_one_precision_and_its_own_suffix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.ts"):
        zoo.export("tiny_fcn", tmp_path / "tiny.pt", to="torchscript")
    with pytest.raises(ConfigError, match="has no precision int8"):
        zoo.export("tiny_fcn", tmp_path / "tiny.ts", to="torchscript", precision="int8")
    with pytest.raises(PluginError, match=r"zoo writes '\.onnx' itself"):
        ExporterSpec(name="mine", target="a:b", opener="a:c", suffix=".onnx", summary="s")
