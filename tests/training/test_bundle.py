"""A bundle comes back as it was, or is refused with its name and the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from zoo.datasets.statistics import BandStatistics, Statistics
from zoo.errors import DataError, ResultError, UnknownNameError, ZooError
from zoo.physics.bands import Band
from zoo.registry import create_model
from zoo.training.bundle import DESCRIPTION, WEIGHTS, Bundle
from zoo.training.compute import ComputeFormat

OPTIONS = {"widths": [4, 4, 4, 4, 4]}
BANDS = (Band("NDVI", "1", -1.0, 1.0), Band("slope", "degree", 0.0, 90.0))


def statistics() -> Statistics:
    bands = tuple(
        BandStatistics(name=band.name, mean=mean, std=std, minimum=0.0, maximum=1.0, low=0.0, high=1.0, count=10)
        for band, mean, std in zip(BANDS, (0.25, 20.0), (0.5, 10.0), strict=True)
    )
    return Statistics(bands=bands, patches=3, source="abc")


@pytest.fixture
def bundle() -> Bundle:
    torch.manual_seed(0)
    return Bundle(
        model="unet",
        options=OPTIONS,
        bands=BANDS,
        statistics=statistics(),
        compute_format=ComputeFormat("fp32", True),
        class_names=("background", "landslide"),
        threshold=0.4,
        metrics={"dice": 0.5, "precision": None},
        data={"name": "folder", "options": {"root": "/data/Übung"}, "fingerprints": {"test": "abc"}},
        recipe={"name": "quick"},
        seed=1,
        environment={"cores": 2},
        state=create_model("unet", 2, 2, **OPTIONS).state_dict(),
    )


def test_a_bundle_predicts_the_same_after_the_disk(bundle: Bundle, tmp_path: Path) -> None:
    digest = bundle.save(tmp_path / "b")
    back = Bundle.load(str(tmp_path / "b"))
    assert back.weights_sha256 == digest
    for name in ("model", "options", "bands", "statistics", "compute_format", "class_names", "threshold", "metrics"):
        assert getattr(back, name) == getattr(bundle, name), name
    image = torch.rand(1, 2, 32, 32) * 30
    with torch.inference_mode():
        assert torch.equal(bundle.predictor()(image), back.predictor()(image))
    assert not back.predictor().training


def test_the_description_is_plain_json_that_others_can_read(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path)
    description = json.loads((tmp_path / DESCRIPTION).read_text(encoding="utf-8"))
    assert description["model"] == {"name": "unet", "options": OPTIONS, "in_channels": 2, "classes": 2}
    assert [band["unit"] for band in description["bands"]] == ["1", "degree"]
    assert description["data"]["options"]["root"] == "/data/Übung"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda b: cut(b / WEIGHTS), "sha256 differs"),
        (lambda b: flip(b / WEIGHTS), "sha256 differs"),
        (lambda b: (b / WEIGHTS).unlink(), "has no weights"),
        (lambda b: cut(b / DESCRIPTION), "cut short"),
        (lambda b: (b / DESCRIPTION).unlink(), "holds no bundle.json"),
        (lambda b: (b / DESCRIPTION).write_text('{"format": 99}'), "bundle format"),
        (lambda b: (b / DESCRIPTION).write_text('{"format": 1, "weights": {"sha256": ""}}'), "sha256 differs"),
        (lambda b: (b / DESCRIPTION).write_text('{"format": 1}'), "damaged"),
    ],
)
def test_damage_is_named(bundle: Bundle, tmp_path: Path, damage: object, reason: str) -> None:
    bundle.save(tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(ResultError, match=reason):
        Bundle.load(tmp_path)


def test_a_model_that_is_not_registered_here_is_named(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path)
    text = (tmp_path / DESCRIPTION).read_text().replace('"name": "unet"', '"name": "unit"')
    (tmp_path / DESCRIPTION).write_text(text)
    with pytest.raises(UnknownNameError, match="Did you mean 'unet'"):
        Bundle.load(tmp_path).predictor()


def test_weights_of_another_architecture_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path)
    text = (tmp_path / DESCRIPTION).read_text().replace('"name": "unet"', '"name": "enhanced_unet"')
    (tmp_path / DESCRIPTION).write_text(text)
    with pytest.raises(ResultError, match="do not fit model 'enhanced_unet'"):
        Bundle.load(tmp_path).predictor()


@pytest.mark.parametrize(
    ("bands", "reason"),
    [
        (BANDS[:1], "has 1 bands, and the bundle takes 2"),
        (BANDS[::-1], r"band 1 is slope \[degree\]"),
        ((BANDS[0], Band("slope", "percent")), r"band 2 is slope \[percent\]"),
    ],
)
def test_other_bands_are_refused(bundle: Bundle, bands: tuple[Band, ...], reason: str) -> None:
    bundle.check_bands(BANDS, "here")
    with pytest.raises(DataError, match=reason):
        bundle.check_bands(bands, "here")


def test_a_folder_that_cannot_be_written_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="cannot write here"):
        bundle.save(tmp_path / "file")
