"""A bundle comes back as it was, or is refused with its name and the reason."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.datasets.statistics import BandStatistics, Statistics
from zoo.errors import DataError, ResultError, UnknownNameError, ZooError
from zoo.evaluation.quality import Calibration, MeasuredSplit
from zoo.physics.bands import Band
from zoo.registry import create_model
from zoo.registry.catalogue import Provider
from zoo.training.bundle import DESCRIPTION, WEIGHTS, Bundle, TrainerNotes, TrainingData, sha256_of
from zoo.training.bundle_layout import ComputeFormat, Environment
from zoo.training.recipes import Recipe, get_recipe

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
        data=TrainingData("folder", {"root": "/data/Übung"}, {"test": "abc"}),
        recipe=get_recipe("quick"),
        seed=1,
        environment=Environment(cores=2),
        state=create_model("unet", 2, 2, **OPTIONS).state_dict(),
    )


def test_a_bundle_predicts_the_same_after_the_disk(bundle: Bundle, tmp_path: Path) -> None:
    digest = bundle.save(tmp_path / "b")
    back = Bundle.load(str(tmp_path / "b"))
    assert back.weights_sha256 == digest
    for name in ("model", "options", "bands", "statistics", "compute_format", "class_names", "threshold", "metrics"):
        assert getattr(back, name) == getattr(bundle, name), name
    for name in ("data", "recipe", "environment", "seed"):
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


def change(folder: Path, **entries: object) -> None:
    values = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")) | entries
    (folder / DESCRIPTION).write_text(json.dumps(values), encoding="utf-8")


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
        (lambda b: cut(b / DESCRIPTION), "truncated"),
        (lambda b: (b / DESCRIPTION).unlink(), "there is no bundle.json"),
        (lambda b: (b / DESCRIPTION).write_text('{"format": 99}'), "bundle format"),
        (lambda b: (b / DESCRIPTION).write_text('{"format": 1}'), "missing required field model"),
        (lambda b: change(b, weights={"sha256": ""}), "sha256 differs"),
        (lambda b: change(b, threshold="high"), "field 'threshold'"),
        (lambda b: change(b, threshold=1.5), "threshold is 1.5"),
        (lambda b: change(b, bands=[{"name": "NDVI", "unit": 3}]), r"field 'bands\[0\]\.unit'"),
        (lambda b: change(b, bands=[{"name": "NDVI", "unit": "1"}]), "statistics of 2 bands for 1 bands"),
        (lambda b: change(b, recipe={"name": "quick", "summary": "", "steps": "many"}), r"recipe.*'steps'"),
        (lambda b: change(b, recipe={"name": "quick", "summary": ""}), "needs either steps or epochs"),
        (lambda b: change(b, data={"fingerprints": ["abc"]}), r"'data'.*'fingerprints'"),
        (lambda b: change(b, model={"name": "unet", "options": {}, "in_channels": []}), "field 'model.in_channels'"),
        (lambda b: (b / DESCRIPTION).write_text("[" * 100_000), "not a valid bundle"),
    ],
)
def test_damage_is_named_with_its_field(bundle: Bundle, tmp_path: Path, damage: object, reason: str) -> None:
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
        (BANDS[:1], "has 1 bands, but the bundle takes 2"),
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(bundle: Bundle, tmp_path: Path, value: float) -> None:
    """A map of a model with one NaN weight was 0 everywhere, without a word."""
    bundle.save(tmp_path)
    state = load_file(tmp_path / WEIGHTS)
    state["head.bias"][0] = value
    save_file(state, tmp_path / WEIGHTS)
    change(tmp_path, weights={"file": WEIGHTS, "sha256": sha256_of(tmp_path / WEIGHTS)})
    with pytest.raises(ResultError, match=r"'head\.bias' contain NaN or infinity"):
        Bundle.load(tmp_path)
    with pytest.raises(ResultError, match="contain NaN or infinity"):
        replace(bundle, state=state).save(tmp_path / "new")


def test_a_bundle_of_an_older_version_and_one_filled_by_a_person_are_read(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path)
    note = {"source": "our own field campaign", "years": [2019, 2020]}
    change(tmp_path, data=note, recipe={}, environment={"cores": 2, "gpu_serial": "12"}, colour="red")
    back = Bundle.load(tmp_path)
    assert back.data == TrainingData(other=note)
    assert back.data.source is None
    assert back.recipe is None
    assert back.environment == Environment(cores=2)
    assert back.pixel_size is None
    back.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / DESCRIPTION).read_text())["data"]["source"] == note["source"]
    values = json.loads((tmp_path / DESCRIPTION).read_text())
    for name in ("data", "recipe", "environment", "seed", "metrics"):
        del values[name]
    (tmp_path / DESCRIPTION).write_text(json.dumps(values))
    assert Bundle.load(tmp_path).data == TrainingData()


def test_new_fields_survive_the_disk(bundle: Bundle, tmp_path: Path) -> None:
    recipe = Recipe("own", "", steps=3, loss="focal", loss_options={"gamma": 3.0})
    changed = replace(bundle, pixel_size=10.0, provider=Provider("example", "zoo-example", "1.2"), recipe=recipe)
    changed.save(tmp_path)
    back = Bundle.load(tmp_path)
    assert (back.pixel_size, back.provider, back.recipe) == (10.0, Provider("example", "zoo-example", "1.2"), recipe)


def test_a_missing_plugin_is_named(bundle: Bundle) -> None:
    other = replace(bundle, model="glacier_net", provider=Provider("glaciers", "zoo-glaciers", "2.0"))
    with pytest.raises(UnknownNameError, match=r"pip install 'zoo-glaciers==2\.0'"):
        other.predictor()


def test_a_missing_plugin_of_the_data_is_named(bundle: Bundle, tmp_path: Path) -> None:
    data = TrainingData("glaciers", {"area": 3}, provider=Provider("ice", "zoo-ice", "2.0"))
    replace(bundle, data=data).save(tmp_path)
    assert Bundle.load(tmp_path).data == data
    with pytest.raises(UnknownNameError, match=r"'glaciers'.*plugin ice: pip install 'zoo-ice==2\.0'"):
        zoo.load(tmp_path).evaluate()


def test_opening_a_bundle_downloads_nothing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr("zoo.models.encoders.pretrained_state", refuse)
    state = create_model("segnet", 2, 2).state_dict()
    options = {"encoder_weights": "imagenet"}
    predictor = replace(bundle, model="segnet", options=options, state=state).predictor()
    assert torch.equal(next(predictor.parameters()), next(iter(state.values())))


def test_figures_label_and_notes_come_back_and_old_bundles_have_none(bundle: Bundle, tmp_path: Path) -> None:
    measured = MeasuredSplit(data="patches", dice=0.5, dice_interval=(0.4, 0.6), calibration=Calibration(0.02, 1.1))
    notes = TrainerNotes("unet/test", limits=("Snow is called landslide.",), licence="Apache-2.0")
    data = replace(bundle.data, licence="CC-BY-4.0", citation="Someone 2022")
    full = replace(bundle, evaluations=(measured,), label="demo", notes=notes, data=data)
    full.save(tmp_path / "full")
    back = Bundle.load(tmp_path / "full")
    assert (back.evaluations, back.label, back.notes, back.data) == ((measured,), "demo", notes, data)
    assert back.quality() == measured
    bundle.save(tmp_path / "old")
    plain = json.loads((tmp_path / "old" / DESCRIPTION).read_text())
    assert not {"evaluations", "label", "notes"} & set(plain)
    assert "licence" not in plain["data"]
    old = Bundle.load(tmp_path / "old")
    assert (old.evaluations, old.label, old.notes, old.landslide_share) == ((), "", TrainerNotes(), None)
    quality = old.quality()
    assert quality is not None
    assert (quality.dice, quality.data, quality.dice_interval) == (0.5, "Übung", None)


@pytest.mark.parametrize(
    ("entries", "field"),
    [
        ({"evaluations": [{"dice": 2}]}, "dice"),
        ({"evaluations": {"dice": 0.2}}, "evaluations"),
        ({"label": "demo\n"}, "label"),
        ({"label": "d" * 41}, "label"),
        ({"notes": {"limits": "none"}}, "notes.limits"),
    ],
)
def test_nonsense_in_the_new_fields_is_named(
    bundle: Bundle, tmp_path: Path, entries: dict[str, object], field: str
) -> None:
    bundle.save(tmp_path)
    change(tmp_path, **entries)
    with pytest.raises(ResultError, match=field):
        Bundle.load(tmp_path)


def test_the_description_can_be_replaced_without_the_weights(bundle: Bundle, tmp_path: Path) -> None:
    digest = bundle.save(tmp_path)
    saved = replace(bundle, weights_sha256=digest, label="demo")
    saved.save_description(tmp_path)
    assert Bundle.load(tmp_path).label == "demo"
    with pytest.raises(ResultError, match="does not hold the weights"):
        replace(saved, weights_sha256="00").save_description(tmp_path)


def test_half_precision_halves_the_file_and_keeps_the_statistics(bundle: Bundle, tmp_path: Path) -> None:
    """float16 has 11 bits: a weight is off by at most 2^-11 of itself, and the logits by about a thousandth."""
    state = {name: tensor.clone() for name, tensor in bundle.state.items()}
    for name in state:
        if name.endswith("running_var"):
            state[name] = torch.full_like(state[name], 1e-9)  # 0 in float16
        if name.endswith("running_mean"):
            state[name] = torch.full_like(state[name], 1e5)  # infinite in float16
    widest = max(state, key=lambda name: state[name].numel())
    big = replace(bundle, model="unet", options={"widths": [16, 32, 32]}, state={})
    big = replace(big, state=create_model("unet", 2, 2, widths=[16, 32, 32]).state_dict())
    big.save(tmp_path / "whole")
    big.save(tmp_path / "half", half=True)
    whole, half = Bundle.load(tmp_path / "whole"), Bundle.load(tmp_path / "half")
    sizes = [(tmp_path / name / WEIGHTS).stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]
    assert {tensor.dtype for tensor in half.state.values() if tensor.is_floating_point()} == {torch.float32}
    for name, tensor in whole.state.items():
        found = half.state[name]
        if tensor.ndim < 2:
            assert torch.equal(found, tensor), name
        else:
            torch.testing.assert_close(found, tensor, rtol=2**-10, atol=1e-7)
    image = torch.rand(2, 2, 64, 64) * 30
    with torch.inference_mode():
        logits, expected = half.predictor()(image), whole.predictor()(image)
    assert (logits - expected).abs().max() < 5e-3 * expected.abs().max()
    assert not torch.equal(logits, expected)
    state[widest] = torch.full_like(state[widest], 1e6)
    replace(bundle, state=state).save(tmp_path / "odd", half=True)
    odd = Bundle.load(tmp_path / "odd").state
    for name in (widest, *(name for name in state if "running" in name)):
        assert torch.equal(odd[name], state[name]), name


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_weights_of_another_type_are_refused(bundle: Bundle, dtype: torch.dtype) -> None:
    """Quantised integers without their scale gave a map without a warning."""
    name, tensor = next(iter(bundle.state.items()))
    with pytest.raises(ResultError, match=rf"differ in type: {str(dtype).removeprefix('torch.')} and float32"):
        replace(bundle, state={**bundle.state, name: tensor.to(dtype)}).predictor()
    replace(bundle, state={**bundle.state, name: tensor.double()}).predictor()


@pytest.mark.parametrize(
    "header",
    [
        (2**63).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        *(
            len(text).to_bytes(8, "little") + text
            for text in (
                b'{"w":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}}    ',
                b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999]}}',
                b'{"__metadata__":{"a":1}}',
                b'{"w":' * 3000,
            )
        ),
    ],
)
def test_a_hostile_safetensors_header_is_refused(bundle: Bundle, tmp_path: Path, header: bytes) -> None:
    bundle.save(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(header)
    document = json.loads((tmp_path / DESCRIPTION).read_text())
    document["weights"]["sha256"] = hashlib.sha256(header).hexdigest()
    (tmp_path / DESCRIPTION).write_text(json.dumps(document))
    with pytest.raises(ResultError):
        Bundle.load(tmp_path)
