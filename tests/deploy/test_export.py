"""Test that an exported file computes the same as its bundle, describes itself, and is kept only then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from zoo.datasets.base import SPLITS
from zoo.deploy.backends import OnnxRuntimeModule
from zoo.deploy.export import ExportConfig, ExportSubject, export_model, find_subject
from zoo.deploy.exported_files import ExportMetadata, open_exported, staged
from zoo.errors import ConfigError, ModelError, ResultError
from zoo.evaluation.columns import summarise
from zoo.evaluation.counts import Counts
from zoo.evaluation.histograms import is_landslide
from zoo.training.evaluate import evaluate
from zoo.training.predictor import landslide_probability

NAMES = {"onnx": "model.onnx", "openvino": "model.xml", "torch-export": "model.pt2"}


@pytest.fixture(scope="module")
def subject(trained_bundle: Path) -> ExportSubject:
    return find_subject(str(trained_bundle))


@pytest.fixture(scope="module")
def splits(subject: ExportSubject) -> Mapping[str, object]:
    assert subject.bundle is not None
    source = subject.bundle.data.source
    assert source is not None
    return {split: source.open(split) for split in SPLITS}


def dice(module: nn.Module, splits: Mapping[str, object], threshold: float) -> float:
    """Pooled Dice of the test split, counted without the gate."""
    parts = []
    for batch in DataLoader(splits["test"], batch_size=4):  # type: ignore[arg-type]
        probability = landslide_probability(module(batch["image"]))
        parts.append(Counts.from_masks(is_landslide(probability, threshold), batch["mask"]))
    return float(summarise(Counts.concatenate(parts), None)["dice"])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def expected(subject: ExportSubject, splits: Mapping[str, object]) -> float:
    assert subject.bundle is not None
    loader = DataLoader(splits["test"], batch_size=4)  # type: ignore[arg-type]
    found = evaluate(subject.predictor, subject.bundle.compute_format, loader, subject.bundle.threshold)
    value = summarise(found.counts, None)["dice"]
    assert value is not None
    assert value > 0.5, "the bundle has learned something"
    assert value == pytest.approx(subject.bundle.metrics["dice"], abs=1e-3)
    return value


@pytest.mark.parametrize(
    ("to", "precision", "tolerance"),
    [
        ("onnx", "fp32", 1e-6),
        ("openvino", "fp32", 1e-6),
        ("torch-export", "fp32", 1e-6),
        ("onnx", "fp16", 1e-3),
        ("openvino", "fp16", 1e-3),
        ("openvino", "bf16", 2e-3),
        ("torch-export", "bf16", 2e-3),
    ],
)
def test_every_format_has_the_dice_of_its_bundle(
    subject: ExportSubject,
    splits: Mapping[str, object],
    expected: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    to: str,
    precision: str,
    tolerance: float,
) -> None:
    # The toy's probabilities crowd around its threshold; what the gate lets pass has tests of its own.
    monkeypatch.setattr("zoo.deploy.parity.MAX_FLIPS_PPM", 5000.0)
    monkeypatch.setattr("zoo.deploy.parity.MAX_DICE_CHANGE", 5e-3)
    path = tmp_path / NAMES[to]
    report = export_model(subject, ExportConfig(to, path, precision), splits)  # type: ignore[arg-type]
    assert report.real is not None
    assert report.real.patches == len(splits["test" if precision == "fp32" else "val"])  # type: ignore[arg-type]
    assert {one.name for one in tmp_path.iterdir()} == {path.name} | ({"model.bin"} if to == "openvino" else set())
    module, facts = open_exported(path)
    assert dice(module, splits, facts.threshold) == pytest.approx(expected, abs=tolerance)
    assert facts.precision == precision
    check_facts(facts, subject)
    if precision == "fp32":
        check_sizes_and_missing_values(module, subject)


def test_metadata_nested_beyond_reading_are_refused() -> None:
    with pytest.raises(ResultError, match="was not written by zoo export"):
        ExportMetadata.from_texts({"producer": "[" * 100_000}, "model.onnx")


def check_facts(facts: ExportMetadata, subject: ExportSubject) -> None:
    bundle = subject.bundle
    assert bundle is not None
    assert facts.model == "unet"
    assert facts.trained is True
    assert facts.weights_sha256 == bundle.weights_sha256
    assert facts.threshold == bundle.threshold
    assert facts.class_names == {"0": "background", "1": "landslide"}
    assert facts.bands == bundle.bands
    assert facts.normalisation.mean == pytest.approx(bundle.statistics.mean.tolist())  # type: ignore[index]


def check_sizes_and_missing_values(module: nn.Module, subject: ExportSubject) -> None:
    for shape in ((1, 3, 32, 32), (3, 3, 45, 61), (2, 3, 33, 96)):
        images = torch.randn(shape) * 3
        images[0, 1, 4:9, 5] = float("nan")
        with torch.inference_mode():
            logits = subject.predictor(images)
        assert torch.allclose(module(images), logits, atol=1e-4)
    with pytest.raises(ModelError, match="at least 32x32"):
        module(torch.zeros(1, 3, 31, 40))


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_int8_is_calibrated_and_judged(
    subject: ExportSubject, splits: Mapping[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    told: list[str] = []
    monkeypatch.setattr("zoo.deploy.parity.MAX_FLIPS_PPM", -1.0)
    config = ExportConfig(to, tmp_path / NAMES[to], "int8")
    with pytest.raises(ModelError, match=r"differ too much from the model: \d+ ppm of the pixels changed"):
        export_model(subject, config, splits, told.append)  # type: ignore[arg-type]
    kept = [text.split("trying again: ")[1] for text in told]
    assert [text.split()[1] for text in kept] == ["3", "5", "10"]
    assert all("with the largest loss stay in float32" in text for text in kept)
    assert list(tmp_path.iterdir()) == [], "no file, no draft"

    monkeypatch.setattr("zoo.deploy.parity.MAX_FLIPS_PPM", 50_000.0)
    monkeypatch.setattr("zoo.deploy.parity.MAX_DICE_CHANGE", 0.05)
    export_model(subject, config, splits)  # type: ignore[arg-type]
    module, facts = open_exported(config.path)
    assert facts.precision == "int8"
    images = torch.randn(1, 3, 40, 52)
    with torch.inference_mode():
        logits = subject.predictor(images)
    apart = float((module(images) - logits).abs().max() / logits.abs().max())
    assert 1e-4 < apart < 0.2, "eight bits, not float32"
    if to == "onnx":
        import onnx

        convolutions = [node for node in onnx.load(config.path).graph.node if node.op_type == "Conv"]
        assert all("DequantizeLinear" in node.input[1] for node in convolutions)


def like_deepness(path: Path, tile: np.ndarray) -> np.ndarray:
    """Load, feed and read a model in the steps of the plugin's ModelBase, Segmentor and MapProcessorSegmentation.

    Args:
        path: of the model.
        tile: of a raster, (N, H, W, C) of its own type.

    Returns:
        Class of each pixel, (N, H, W), 1 for landslide.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (image,), (output,) = session.get_inputs(), session.get_outputs()
    size = image.shape[-1]
    assert isinstance(size, int), "its spin box takes no name of a dimension"
    assert len(output.shape) == 4
    assert output.shape[2] == output.shape[3] == size
    assert output.shape[0] == 1, "releases before 0.6 take no other batch"
    meta = session.get_modelmeta().custom_metadata_map
    assert str(json.loads(meta["model_type"])).capitalize() == "Segmentor"
    names = json.loads(meta["class_names"])
    assert [int(key) for key in sorted(names, key=int)] == list(range(output.shape[1]))
    assert int(json.loads(meta["tile_size"])) == size
    assert 0 <= int(json.loads(meta["tiles_overlap"])) <= 100
    threshold = float(json.loads(meta["seg_thresh"]))
    mean, std = (np.array(json.loads(meta[f"standardization_{key}"]), np.float32) for key in ("mean", "std"))

    batch = tile[:, :, :, : image.shape[-3]]
    batch = np.float32(batch * 1.0 / 255.0)
    batch = ((batch - mean) / std).transpose(0, 3, 1, 2)
    (result,) = session.run(None, {image.name: batch})
    result[result < threshold] = 0.0
    assert result.shape[1] == 1
    return (result != 0).astype(int)[:, 0]


def test_deepness_predicts_the_mask_of_the_bundle(
    subject: ExportSubject, splits: Mapping[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "qgis.onnx"
    config = ExportConfig("onnx", path, tile_size=32, pixel_size=10.0)
    export_model(subject, config, splits)  # type: ignore[arg-type]
    image: Tensor = splits["test"][1]["image"].clone()  # type: ignore[index]
    image[2, 3:6, 7] = float("nan")
    with torch.inference_mode():
        probability = landslide_probability(subject.predictor(image[None]))
    mask = is_landslide(probability, subject.metadata.threshold).numpy()
    drawn = like_deepness(path, image.permute(1, 2, 0)[None].numpy())
    assert 0 < drawn.sum() < drawn.size
    assert (drawn != mask).mean() < 1e-3
    module, facts = open_exported(path)
    assert isinstance(module, OnnxRuntimeModule)
    assert module.metadata()["resolution"] == "1000.0", "centimetres"
    assert facts.output == "landslide probability"
    assert facts.class_names == {"0": "landslide"}


def test_a_deepness_tile_of_another_size_than_the_patches(
    subject: ExportSubject, splits: Mapping[str, object], tmp_path: Path
) -> None:
    report = export_model(subject, ExportConfig("onnx", tmp_path / "q.onnx", tile_size=48), splits)  # type: ignore[arg-type]
    assert report.real is not None
    assert report.real.pixels == report.real.patches * 32 * 32
    with pytest.raises(ConfigError, match="tiles of 16 pixels are too small"):
        export_model(subject, ExportConfig("onnx", tmp_path / "r.onnx", tile_size=16), splits)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="only ONNX"):
        export_model(subject, ExportConfig("openvino", tmp_path / "r.xml", tile_size=64), splits)  # type: ignore[arg-type]


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_file_that_computes_something_else_is_not_kept(
    subject: ExportSubject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    class Other(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, image: Tensor) -> Tensor:
            return 1.01 * self.module(image)

    path = tmp_path / NAMES[to]
    path.write_text("the old file")
    monkeypatch.setattr("zoo.deploy.export.open_exported", lambda path: (Other(open_exported(path)[0]), {}))
    with pytest.raises(ModelError, match=r"differ by up to 0\.01 of the largest, on random images.*not kept"):
        export_model(subject, ExportConfig(to, path), None)
    assert path.read_text() == "the old file"
    assert list(tmp_path.iterdir()) == [path]


def test_ctrl_c_leaves_the_old_files(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text("old")

    def interrupted() -> None:
        with staged(path) as draft:
            draft.write_text("new")
            draft.with_suffix(".bin").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"model.xml": "old"}


@pytest.mark.parametrize("to", list(NAMES))
def test_a_damaged_or_foreign_file_is_named(subject: ExportSubject, tmp_path: Path, to: str) -> None:
    path = tmp_path / NAMES[to]
    path.write_bytes(b"\x00\x01 no model at all")
    with pytest.raises(ResultError, match=r"cannot be read"):
        open_exported(path)
    with pytest.raises(ResultError, match="no such file"):
        open_exported(tmp_path / "nothing.onnx")


def test_a_model_by_name_has_fresh_weights_and_a_warning(tmp_path: Path) -> None:
    options = {"widths": [4, 4, 4, 4, 4]}
    first, again = (find_subject("unet", in_channels=2, options=options, seed=5) for _ in range(2))
    assert torch.equal(first.predictor.model.head.weight, again.predictor.model.head.weight)
    report = export_model(first, ExportConfig("onnx", tmp_path / "m.onnx"), None)
    assert report.real is None
    _, facts = open_exported(tmp_path / "m.onnx")
    assert facts.trained is False
    assert facts.weights_sha256 == ""
    with pytest.raises(ConfigError, match="checked on real patches"):
        export_model(first, ExportConfig("onnx", tmp_path / "n.onnx", "int8"), None)


def test_a_graph_with_weights_in_another_file_is_not_opened(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    weights = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../secret.bin")
    shape = ["n", 1, 8, 8]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["image", "w"], ["logits"])],
        "hostile",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [weights],
    )
    path = tmp_path / "hostile.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ResultError, match="keeps its weights in another file"):
        open_exported(path)
