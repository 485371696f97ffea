"""Test that fine-tuning copies matching layers, reports the others, and leaves frozen layers unchanged."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.bundles import make_bundle
from zoo.datasets.augmentation import TrainingAugmentation
from zoo.datasets.datamodule import PatchDataModule
from zoo.datasets.source import DataSource
from zoo.errors import ConfigError, UnknownNameError, ZooError
from zoo.physics.bands import Band
from zoo.registry import create_model
from zoo.training.bundle import Bundle, TrainingData
from zoo.training.finetuning import Transfer, parent_options, plan_transfer, with_comparison
from zoo.training.fit import Fitted, SegmentationTask, fit, parameter_groups
from zoo.training.predictor import Predictor
from zoo.training.recipes import FineTuning, get_recipe

CPU = torch.device("cpu")
OPTIONS: dict[str, Any] = {"widths": (4, 4, 4)}
CLASSES = ("background", "landslide")
COLOURS = tuple(Band(name, "unknown") for name in ("red", "green", "blue"))
START = FineTuning("runs/parent", sha256="ab" * 32)


def colour_bundle(model: str = "unet", options: dict[str, Any] | None = None) -> Bundle:
    """A bundle of three colours with random weights and statistics of BatchNorm that no new model has."""
    options = OPTIONS if options is None else options
    torch.manual_seed(1)
    state = create_model(model, 3, 2, **options).state_dict()
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.normal_()
    found = make_bundle()
    band = found.statistics.bands[0]
    bands = tuple(replace(band, name=colour.name, mean=100.0, std=20.0) for colour in COLOURS)
    statistics = replace(found.statistics, bands=bands)
    return replace(found, model=model, options=options, bands=COLOURS, statistics=statistics, state=state)


def moved(bundle: Bundle, bands: tuple[Band, ...], classes: tuple[str, ...] = CLASSES, **settings: Any) -> Any:
    """Return the transfer, the new model before it, and after it."""
    transfer = plan_transfer(bundle, bundle.options, bands, classes, replace(START, **settings))
    torch.manual_seed(2)
    model = create_model(bundle.model, len(bands), len(classes), **bundle.options)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    transfer.load(model, bundle)
    return transfer, before, model.state_dict()


def first_weight(state: dict[str, torch.Tensor]) -> str:
    return next(name for name, tensor in state.items() if tensor.ndim == 4)


def test_the_same_bands_and_classes_take_every_weight() -> None:
    bundle = colour_bundle()
    transfer, _, after = moved(bundle, COLOURS)
    assert all(torch.equal(after[name], bundle.state[name]) for name in after)
    assert transfer.fresh == frozenset()
    assert transfer.notes[0] == "first convolution: red copied; green copied; blue copied"
    assert transfer.warnings == ()


def test_weights_of_half_precision_are_taken() -> None:
    bundle = colour_bundle()
    half = {name: value.half() if value.is_floating_point() else value for name, value in bundle.state.items()}
    _, _, after = moved(replace(bundle, state=half), (COLOURS[1], COLOURS[0], Band("nir", "1")))
    assert after[first_weight(after)].dtype == torch.float32


def test_bands_are_found_by_name_in_any_order() -> None:
    bundle = colour_bundle()
    transfer, _, after = moved(bundle, (Band("B02", "1"), Band("Red", "DN"), COLOURS[1]))
    name = first_weight(after)
    assert torch.equal(after[name], bundle.state[name][:, [2, 0, 1]])
    assert transfer.fresh == frozenset(), "a copied band is an old weight, wherever it is"
    assert transfer.notes[0] == "first convolution: B02 copied from blue; Red copied from red; green copied"


def test_new_bands_start_from_the_mean_of_the_colours_or_from_random_weights() -> None:
    bundle = colour_bundle()
    transfer, before, after = moved(bundle, (COLOURS[0], Band("nir", "1"), Band("slope", "degree"), Band("NDVI", "1")))
    name = first_weight(after)
    old = bundle.state[name]
    torch.testing.assert_close(after[name][:, 0], old[:, 0])
    torch.testing.assert_close(after[name][:, 1], old.mean(1))
    assert torch.equal(after[name][:, 2:], before[name][:, 2:])
    assert transfer.fresh == {name}
    assert transfer.notes[0] == (
        "first convolution: red copied; nir starts from the mean of red, green, blue; "
        "slope starts from random weights; NDVI starts from random weights"
    )
    missing, _, _ = moved(bundle, (COLOURS[0],))
    assert missing.notes[0] == "first convolution: red copied; green, blue of the weights not used"


def test_other_classes_get_random_weights_and_the_rest_is_copied() -> None:
    bundle = colour_bundle()
    for classes in (("background", "landslide", "debris flow"), ("background", "water")):
        transfer, before, after = moved(bundle, COLOURS, classes)
        assert transfer.fresh == {"head.weight", "head.bias"}
        for name in after:
            assert torch.equal(after[name], (before if name in transfer.fresh else bundle.state)[name])
        assert f"classes: random weights, because the data have {', '.join(classes)}" in transfer.notes[1]


@pytest.mark.parametrize("name", ["segnet", "deeplabv3plus", "mobilenetv2", "drs_unet", "enhanced_unet"])
def test_every_architecture_takes_other_bands(name: str) -> None:
    bundle = colour_bundle(name, {})
    transfer, before, after = moved(bundle, (COLOURS[2], COLOURS[0], Band("slope", "degree")), freeze=("encoder",))
    assert transfer.band_axes
    for weight, axis in transfer.band_axes.items():
        assert torch.equal(after[weight].select(axis, 1), bundle.state[weight].select(axis, 0))
        assert torch.equal(after[weight].select(axis, 2), before[weight].select(axis, 2))
    untouched = [weight for weight in after if weight not in transfer.band_axes]
    assert all(torch.equal(after[weight], bundle.state[weight]) for weight in untouched)
    assert transfer.frozen
    assert not transfer.frozen & transfer.fresh


def test_another_architecture_is_refused_with_a_clear_message() -> None:
    bundle = colour_bundle()
    with pytest.raises(ConfigError, match=r"runs/parent: the weights are those of 'unet', but 'segnet' needs others"):
        parent_options(bundle, "segnet", {}, "runs/parent")
    assert parent_options(bundle, "unet", {}, "runs/parent")["widths"] == (4, 4, 4)
    wider = parent_options(bundle, "unet", {"widths": (8, 8, 8)}, "runs/parent")
    with pytest.raises(ConfigError, match=r"has the shape .* in the weights, but .*widths \(weights: \(4, 4, 4\)\)"):
        plan_transfer(bundle, wider, COLOURS, CLASSES, START)
    deeper = parent_options(bundle, "unet", {"widths": (4, 4, 4, 4)}, "runs/parent")
    with pytest.raises(ConfigError, match="is missing in the weights"):
        plan_transfer(bundle, deeper, COLOURS, CLASSES, START)
    flatter = parent_options(bundle, "unet", {"widths": (4, 4)}, "runs/parent")
    with pytest.raises(ConfigError, match="the architectures differ"):
        plan_transfer(bundle, flatter, COLOURS, CLASSES, START)


def test_pretrained_weights_of_the_parent_are_not_loaded_again() -> None:
    bundle = replace(colour_bundle(), model="segnet", options={"encoder_weights": "imagenet"})
    assert parent_options(bundle, "segnet", {}, "x")["encoder_weights"] is None


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"freeze": ("encodr",)}, "unknown layer 'encodr'.*Did you mean 'encoder'"),
        ({"freeze": ("encoder", "upsample", "decoder", "head")}, "nothing is left to train"),
    ],
)
def test_layers_to_freeze_must_exist_and_leave_some(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=problem):
        moved(colour_bundle(), COLOURS, **settings)


@pytest.mark.parametrize("values", [{"old_lr_factor": 0.0}, {"old_lr_factor": float("nan")}, {"freeze": ("",)}])
def test_settings_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        FineTuning("x", **values)


def test_layers_inside_a_wrapper_are_found_by_name() -> None:
    with torch.device("meta"):
        bundle = colour_bundle("model54_standin", {})
    transfer = plan_transfer(bundle, bundle.options, COLOURS, CLASSES, replace(START, freeze=("encoder",)))
    assert transfer.frozen
    assert all(name.startswith("unet.encoder.") for name in transfer.frozen)


def test_new_weights_are_not_frozen_and_learn_at_the_full_rate() -> None:
    bundle = colour_bundle()
    transfer, _, after = moved(bundle, (*COLOURS, Band("nir", "1")), freeze=("encoder",), old_lr_factor=0.25)
    name = first_weight(after)
    assert name not in transfer.frozen
    assert f"not frozen, because they are new: {name}" in transfer.notes
    model = create_model("unet", 4, 2, **OPTIONS)
    slow, fast = sorted(parameter_groups(model, get_recipe("quick").changed(lr=0.1), transfer), key=itemgetter("lr"))
    assert (slow["lr"], fast["lr"]) == (0.025, 0.1)
    assert [id(one) for one in fast["params"]] == [id(model.get_parameter(name))]
    assert len(slow["params"]) + 1 + len(transfer.frozen) == len(list(model.parameters()))


def test_the_factors_of_copied_weights_and_of_the_encoder_multiply() -> None:
    transfer, _, _ = moved(colour_bundle(), COLOURS, old_lr_factor=0.25)
    model = create_model("unet", 3, 2, **OPTIONS)
    recipe = get_recipe("quick").changed(lr=0.1, encoder_lr_factor=0.5)
    rates = {id(one): group["lr"] for group in parameter_groups(model, recipe, transfer) for one in group["params"]}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.0125 if name.startswith("encoder.") else 0.025)


def data_module(patches: Path, steps: int) -> PatchDataModule:
    source = DataSource("folder", {"root": str(patches), "group_column": "scene"})
    splits = [source.open(split) for split in ("train", "val", "test")]
    return PatchDataModule(*splits, batch_size=4, steps=steps, augmentation=TrainingAugmentation(32, seed=0))


def tune(patches: Path, *, stop: int | None = None, freeze: tuple[str, ...] = (), **fitting: Any) -> Any:
    """Fine-tune six steps, and return what was fitted with the weights before."""
    recipe = get_recipe("quick").changed(steps=6, batch_size=4, crop=32, precision="fp32", ema=0.9)
    data = data_module(patches, 6)
    train = data.splits["train"]
    assert train is not None
    bundle = replace(colour_bundle(), bands=train.bands)
    transfer = plan_transfer(bundle, OPTIONS, train.bands, CLASSES, replace(START, freeze=freeze))
    torch.manual_seed(0)
    model = create_model("unet", 3, 2, **OPTIONS)
    transfer.load(model, bundle)
    if stop is not None:
        left = [stop]

        def interrupt(module: nn.Module, *_: object) -> None:
            left[0] -= module.training
            if left[0] < 0:
                raise InterruptedError

        model.register_forward_pre_hook(interrupt)
    return fit(model, data, recipe, seed=0, device=CPU, transfer=transfer, **fitting), bundle, transfer


def test_frozen_layers_keep_weights_and_statistics(patches: Path) -> None:
    fitted, bundle, transfer = tune(patches, freeze=("encoder",))
    after = fitted.predictor.model.state_dict()
    for name, tensor in after.items():
        if name.endswith("num_batches_tracked"):
            continue
        kept = torch.equal(tensor, bundle.state[name])
        assert kept == name.startswith("encoder."), name
    assert transfer.notes[2].startswith("frozen: encoder (")


def test_frozen_layers_stay_in_eval_mode_when_training_goes_on() -> None:
    bundle = colour_bundle()
    transfer, _, _ = moved(bundle, COLOURS, freeze=("encoder",))
    model = create_model("unet", 3, 2, **OPTIONS)
    task = SegmentationTask(Predictor(model, [0.0] * 3, [1.0] * 3), get_recipe("quick"), 5, transfer=transfer)
    for mode in (None, False, True):
        if mode is not None:
            task.train(mode)
        modes = {name: module.training for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
        assert all(not on for name, on in modes.items() if name.startswith("encoder."))
        assert all(on == (mode is not False) for name, on in modes.items() if not name.startswith("encoder."))


def test_a_stopped_fine_tuning_ends_with_the_weights_of_one_that_was_not(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.training.fit.SAVING_SHARE", 1.0)
    freeze = ("encoder.0",)
    whole = tune(patches, freeze=freeze)[0].predictor.state_dict()
    with pytest.raises(InterruptedError):
        tune(patches, freeze=freeze, stop=4, checkpoints=tmp_path)
    resumed: Fitted = tune(patches, freeze=freeze, checkpoints=tmp_path, resume=True)[0]
    assert resumed.resumed_from == 4
    state = resumed.predictor.state_dict()
    assert all(torch.equal(whole[name], state[name]) for name in whole)


def compared(bundle: Bundle, patches: Path, data: DataSource | None = None) -> Transfer:
    module = data_module(patches, 1)
    train, test = module.splits["train"], module.splits["test"]
    assert train is not None
    assert test is not None
    transfer = plan_transfer(bundle, bundle.options, train.bands, CLASSES, START)
    return with_comparison(transfer, bundle, train, module.statistics, data or DataSource("folder", {}), test)


def test_values_in_another_unit_are_warned_of(patches: Path) -> None:
    bundle = colour_bundle()
    mean, std = (getattr(data_module(patches, 1).statistics, name)[0] for name in ("mean", "std"))
    near = tuple(
        replace(band, name=name, mean=float(mean), std=float(std))
        for band, name in zip(bundle.statistics.bands, ("band_1", "band_2", "band_3"), strict=True)
    )
    train = data_module(patches, 1).splits["train"]
    assert train is not None
    known = replace(bundle, bands=train.bands, statistics=replace(bundle.statistics, bands=near))
    alike = compared(known, patches)
    assert alike.notes[-1].startswith(f"normalisation by the new training split; {train.bands[0].name}: mean")
    assert not alike.warnings
    scaled = tuple(replace(band, mean=band.mean / 1e4, std=band.std / 1e4) for band in near)
    far = compared(replace(known, statistics=replace(bundle.statistics, bands=scaled)), patches)
    assert any("Check that both have the same unit" in text for text in far.warnings)


def test_other_pixels_and_patches_that_the_parent_saw_are_warned_of(patches: Path) -> None:
    options = {"root": str(patches), "group_column": "scene"}
    test = data_module(patches, 1).splits["test"]
    assert test is not None
    (scene,) = {patch.group for patch in test.patches}
    others = sorted({"s0", "s1", "s2"} - {scene})
    seen = replace(colour_bundle(), data=TrainingData("folder", {**options, "test_groups": others[:1]}))
    (told,) = [text for text in compared(seen, patches, DataSource("folder", options)).warnings if "trained on" in text]
    assert told.endswith(f" of the {len(test)} test patches: the test figures will be too optimistic")
    apart = replace(seen, data=TrainingData("folder", {**options, "test_groups": [scene]}))
    assert not [t for t in compared(apart, patches, DataSource("folder", options)).warnings if "test patches" in t]
    gone = replace(seen, data=TrainingData("folder", {"root": "/nowhere"}))
    assert not [t for t in compared(gone, patches, DataSource("folder", options)).warnings if "test patches" in t]


def test_bundles_record_their_parent(tmp_path: Path) -> None:
    bundle = colour_bundle()
    transfer, _, _ = moved(bundle, (COLOURS[0], Band("nir", "1")), freeze=("encoder",))
    child = replace(bundle, parent=transfer.parent())
    child.save(tmp_path)
    parent = Bundle.load(tmp_path).parent
    assert parent == transfer.parent()
    assert parent is not None
    assert (parent.name, parent.weights_sha256, parent.freeze) == ("runs/parent", "ab" * 32, ("encoder",))
    assert parent.bands == {"red": ["red"], "nir": ["red", "green", "blue"]}
    (tmp_path / "plain").mkdir()
    bundle.save(tmp_path / "plain")
    assert "parent" not in (tmp_path / "plain" / "bundle.json").read_text()
    assert Bundle.load(tmp_path / "plain").parent is None


def test_errors_of_a_model_are_not_hidden() -> None:
    with pytest.raises(ZooError, match="widths"):
        plan_transfer(colour_bundle(), {"widths": ()}, COLOURS, CLASSES, START)
