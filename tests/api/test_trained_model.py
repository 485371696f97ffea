"""A trained model in a notebook: predict on arrays and files, map, evaluate, adapt, explain, save."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from tests.mapping.conftest import BANDS, WriteScene, bundle, make_image, read, write_scene
from zoo.cli import run
from zoo.errors import ConfigError, DataError, ResultError, ZooError
from zoo.training.bundle import Bundle

__all__ = ["bundle", "write_scene"]


@pytest.fixture
def model(bundle: Path) -> zoo.TrainedModel:
    return zoo.load(bundle, device="cpu")


def test_an_array_is_predicted_as_the_model_itself_predicts_it(model: zoo.TrainedModel) -> None:
    image = make_image(70, 90)
    image[0, 10:14, 20:25] = np.nan
    image[1, 50, 60] = np.inf
    found = model.predict(image)
    missing = ~np.isfinite(image).all(0)
    image[:, 50, 60] = np.where(np.isfinite(image[:, 50, 60]), image[:, 50, 60], np.nan)
    with torch.inference_mode():
        expected = model.predictor.landslide_probability(model.predictor(torch.from_numpy(image)[None]))[0].numpy()
    assert (found.shape, found.dtype) == ((70, 90), np.float32)
    np.testing.assert_array_equal(np.isnan(found), missing)
    np.testing.assert_allclose(found[~missing], expected[~missing], atol=1e-5)
    batch = model.predict(np.stack([image, image[:, ::-1]]))
    assert batch.shape == (2, 70, 90)
    np.testing.assert_array_equal(batch[0], found)


def test_integers_tensors_and_small_images_are_taken(model: zoo.TrainedModel) -> None:
    assert model.predict(np.ones((2, 5, 3), np.uint8)).shape == (5, 3)
    tensor = torch.from_numpy(make_image(40, 40))
    np.testing.assert_array_equal(model.predict(tensor), model.predict(tensor.numpy()))
    before = tensor.clone()
    model.predict(tensor)
    assert torch.equal(before, tensor)


def test_a_large_image_equals_the_map(model: zoo.TrainedModel, write_scene: WriteScene, tmp_path: Path) -> None:
    image = make_image(300, 280)
    scene = write_scene(image)
    found = model.predict(image, tile=128, overlap=32)
    model.map(scene, tmp_path / "prob.tif", tile=128, overlap=32, dtype="float32")
    np.testing.assert_array_equal(found, read(tmp_path / "prob.tif"))
    np.testing.assert_array_equal(found, model.predict(scene, tile=128, overlap=32))
    np.save(tmp_path / "image.npy", image)
    np.testing.assert_array_equal(found, model.predict(tmp_path / "image.npy", tile=128, overlap=32))


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\x93NUMPY\x01\x00\x02\x00(((", "truncated"), (b"PK\x03\x04", "NPZ archive"), (b"\x80\x04.", "pickle")],
)
def test_a_damaged_array_file_is_refused(model: zoo.TrainedModel, tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "image.npy").write_bytes(content)
    with pytest.raises(DataError, match=words):
        model.predict(tmp_path / "image.npy")


def test_a_data_array_keeps_its_coordinates(model: zoo.TrainedModel) -> None:
    xarray = pytest.importorskip("xarray")
    image = make_image(40, 50)
    image[0, 3, 4] = -9999
    coordinates = {"band": ["slope", "NDVI"], "y": np.arange(40.0), "x": np.arange(50.0) * 10}
    array = xarray.DataArray(image[::-1], dims=("band", "y", "x"), coords=coordinates, attrs={"_FillValue": -9999})
    found = model.predict(array)
    assert found.dims == ("y", "x")
    np.testing.assert_array_equal(found.x, array.x)
    assert np.isnan(found.values[3, 4])
    image[0, 3, 4] = np.nan
    np.testing.assert_array_equal(found.values, model.predict(image))
    last = array.transpose("y", "x", "band")
    np.testing.assert_array_equal(model.predict(last).values, found.values)
    times = xarray.concat([array, array], dim="time").transpose("time", "band", "y", "x")
    assert model.predict(times).dims == ("time", "y", "x")


def test_scale_direction_and_bands_of_a_data_array_are_read(model: zoo.TrainedModel) -> None:
    xarray = pytest.importorskip("xarray")
    image = np.round(make_image(40, 50) * 100)
    image[:, 3, 4] = -9999
    attributes = {"_FillValue": -9999, "scale_factor": 0.01, "add_offset": 0.5}
    expected = image / np.float32(100) + np.float32(0.5)
    expected[:, 3, 4] = np.nan
    straight = model.predict(expected)
    assert np.isnan(straight).sum() == 1
    north, east = 4e6 - np.arange(40.0) * 10, 5e5 + np.arange(50.0) * 10
    array = xarray.DataArray(image, dims=("band", "y", "x"), coords={"y": north, "x": east}, attrs=attributes)
    for one in (array, array.isel(y=slice(None, None, -1)), array.isel(x=slice(None, None, -1))):
        found = model.predict(one)
        np.testing.assert_array_equal(found.y, one.y)
        np.testing.assert_array_equal(found.x, one.x)
        np.testing.assert_allclose(found.sel(y=north, x=east).values, straight, atol=1e-6)
    with pytest.raises(DataError, match=r"the bands are red, green.*NDVI \[1\], slope"):
        model.predict(array.assign_coords(band=["red", "green"]))
    np.testing.assert_array_equal(model.predict(array.assign_coords(band=[1, 2])), model.predict(array))


def test_a_masked_array_is_missing_where_it_is_masked(model: zoo.TrainedModel) -> None:
    image = make_image(40, 40)
    masked = np.ma.masked_array(image, np.zeros(image.shape, bool))
    masked[0, :5] = np.ma.masked
    image[0, :5] = np.nan
    np.testing.assert_array_equal(model.predict(masked), model.predict(image))


def test_the_nodata_value_of_a_band_is_missing(bundle: Path) -> None:
    loaded = Bundle.load(bundle)
    model = zoo.TrainedModel(replace(loaded, bands=(replace(BANDS[0], nodata=-1.0), BANDS[1])), device="cpu")
    image = make_image(40, 40)
    image[0, 5, 6] = -1
    assert np.isnan(model.predict(image)).sum() == 1


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros((3, 40, 40)), r"shape \(3, 40, 40\).*NDVI \[1\], slope \[degree\]"),
        (np.zeros((40, 40)), r"shape \(40, 40\)"),
        (np.zeros((2, 0, 40)), "does not fit"),
        (np.full((2, 4, 4), "a"), "is not numeric"),
        ("nowhere.tif", "no such file"),
    ],
)
def test_input_that_does_not_fit_is_refused(model: zoo.TrainedModel, image: object, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        model.predict(image)


def test_the_repr_describes_the_model(model: zoo.TrainedModel, bundle: Path) -> None:
    assert repr(model) == "TrainedModel(unet, 2 bands, trained on data, test Dice 0.500, threshold 0.4)"
    assert "<table>" in model._repr_html_()
    assert [band.name for band in model.bands] == ["NDVI", "slope"]
    for words in ("# unet", "| NDVI | 1 |", "quick", "Pixel size: unknown", "if its probability is at least 0.4"):
        assert words in model.card
    strange = zoo.TrainedModel(replace(Bundle.load(bundle), class_names=("background", "<script>")), device="cpu")
    assert "<script>" not in strange._repr_html_()


def test_save_and_load(model: zoo.TrainedModel, tmp_path: Path) -> None:
    assert model.save(tmp_path / "copy") == tmp_path / "copy"
    again = zoo.load(tmp_path / "copy", device="cpu")
    image = make_image(40, 40)
    np.testing.assert_array_equal(again.predict(image), model.predict(image))
    with pytest.raises(ConfigError, match="already holds a bundle"):
        model.save(tmp_path / "copy")
    model.save(tmp_path / "copy", overwrite=True)
    with pytest.raises(ConfigError, match="'unet' is an architecture"):
        zoo.load("unet")
    with pytest.raises(ResultError, match="there is no such folder"):
        zoo.load(tmp_path / "nowhere")


def test_explain_and_export(model: zoo.TrainedModel, write_scene: WriteScene, tmp_path: Path) -> None:
    found = model.explain(write_scene(make_image(80, 80)), window=(10, 10, 40, 40), cells=2)
    found.save(tmp_path / "why.png")
    assert (tmp_path / "why.png").stat().st_size > 10_000
    assert found.sentences()[0].startswith("The model classifies")
    with pytest.raises(ConfigError, match="threshold of nan"):
        model.explain(write_scene(make_image(80, 80)), window=(1, 1, 40, 40), threshold=float("nan"))


def test_evaluate_and_adapt(trained_bundle: Path, patches: Path, tmp_path: Path) -> None:
    model = zoo.load(trained_bundle, device="cpu")
    own = model.evaluate()
    assert own.same_patches
    assert own["dice"] == pytest.approx(model.bundle.metrics["dice"], abs=1e-6)
    assert own.changed == ()
    other = model.evaluate(patches, data_options={"group_column": "scene", "test_groups": ["s0"]}, threshold=0.5)
    assert (other.same_patches, other.threshold, other.stored) == (False, 0.5, {})
    assert "<table>" in other._repr_html_()
    notes: list[str] = []
    adapted = model.adapt(patches / "images", share=1.0, notify=notes.append)
    assert adapted.adaptation is not None
    assert adapted.adaptation.target.used == 24
    assert model.adaptation is None
    assert "adapted" in repr(adapted)
    adapted.save(tmp_path / "adapted")
    assert zoo.load(tmp_path / "adapted", device="cpu").adaptation == adapted.adaptation


def test_other_pixel_sizes_cause_a_warning(
    trained_bundle: Path, patches: Path, bundle: Path, write_scene: WriteScene
) -> None:
    model = zoo.TrainedModel(replace(Bundle.load(trained_bundle), pixel_size=10.0), device="cpu")
    [warning] = model.evaluate(patches, data_options={"group_column": "scene", "pixel_size": 30}).warnings
    assert "have pixels of 30 m, but the model was trained on pixels of 10 m" in warning
    assert model.evaluate(patches, data_options={"group_column": "scene", "pixel_size": 11}).warnings == ()
    model = zoo.TrainedModel(replace(Bundle.load(bundle), pixel_size=30.0), device="cpu")
    scene = write_scene(make_image(60, 60))
    [warning] = model.explain(scene, window=(5, 5, 40, 40), cells=2).warnings
    assert "has pixels of 10 m" in warning
    with pytest.raises(DataError, match="trained on pixels of 30 m"):
        model.predict(scene)
    assert model.predict(scene, any_pixel_size=True).shape == (60, 60)


@pytest.mark.parametrize("data", [{"name": "folder", "options": {}}, {"source": "field campaign"}, None])
def test_a_bundle_whose_data_a_person_filled_in_is_measured_on_named_data(
    trained_bundle: Path, patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: object
) -> None:
    """It ended with "this is a bug ('root')"."""
    folder = tmp_path / "unet"
    Bundle.load(trained_bundle).save(folder)
    values = json.loads((folder / "bundle.json").read_text())
    values.pop("data")
    (folder / "bundle.json").write_text(json.dumps(values if data is None else {**values, "data": data}))
    assert run(["evaluate", str(folder)]) == 2
    assert "does not record which data" in capsys.readouterr().err
    named = ["--data", str(patches), "--group-column", "scene"]
    assert run(["evaluate", str(folder), *named]) == 0
    assert "not the patches of the bundle's own split" in capsys.readouterr().err


OPTIONS = {"widths": (4, 4, 4)}
QUICK = {"steps": 4, "batch_size": 4, "crop": 32, "precision": "fp32"}


def test_train_gives_a_model_that_the_commands_take(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages: list[str] = []
    model = zoo.train(
        "unet",
        patches,
        seed=3,
        device="cpu",
        options=OPTIONS,
        data_options={"group_column": "scene"},
        loss="focal",
        loss_options={"gamma": 3},
        progress=lambda stage, done, total: stages.append(stage),
        **QUICK,
    )
    assert {"train", "val", "test"} <= set(stages)
    assert model.folder is None
    assert model.bundle.seed == 3
    assert model.bundle.recipe is not None
    assert model.bundle.recipe.loss_options == {"gamma": 3.0}
    assert model.bundle.provider is not None
    assert model.bundle.provider.distribution == "landslide-zoo"
    assert model.result is not None
    assert model.result.ok
    assert model.predict(np.zeros((3, 50, 40))).shape == (50, 40)
    model.save(tmp_path / "unet")
    assert run(["evaluate", str(tmp_path / "unet"), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["same_patches_as_training_run"]
    assert "differ" not in printed.err


def command(patches: Path, folder: Path, *more: str, model: str = "unet") -> list[str]:
    words = ["train", model, "--data", str(patches), "--group-column", "scene", "--steps", "3", "--batch-size", "4"]
    return [*words, "--precision", "fp32", "--option", "widths=[4,4,4]", "--out", str(folder), *more]


@pytest.mark.slow
def test_finished_files_are_replaced_only_on_request(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--resume with another model replaced a finished bundle, and the same command trained again from step 0."""
    folder = tmp_path / "unet"
    assert run(command(patches, folder)) == 0, capsys.readouterr().err
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert {"bundle.json", "model.safetensors", "loss_curve.png", "predictions.png", "train.log"} == set(before)
    for more, other in ((("--resume", "--seed", "1"), "unet"), (("--resume",), "drs_unet"), ((), "unet")):
        assert run(command(patches, folder, *more, model=other)) == 2
        assert "already holds a bundle" in capsys.readouterr().err
    assert run(command(patches, folder, "--resume")) == 0
    assert "already done" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert run(command(patches, folder, "--overwrite", "--seed", "1")) == 0
    assert Bundle.load(folder).seed == 1


def test_one_training_at_a_time_in_a_folder(patches: Path, tmp_path: Path) -> None:
    from zoo.files import locked

    options = {"options": OPTIONS, "device": "cpu", "out": tmp_path / "unet", "data_options": {"group_column": "scene"}}
    (tmp_path / "unet").mkdir()
    with locked(tmp_path / "unet" / ".lock", ZooError("busy")), pytest.raises(ZooError, match="another process trains"):
        zoo.train("unet", patches, **options, **QUICK)
    with pytest.raises(ConfigError, match="seed"):
        zoo.train("unet", patches, **{**options, "seed": -1})
    with pytest.raises(ZooError, match="recipe field"):
        zoo.train("unet", patches, **options, learning_rate=1)


@pytest.mark.parametrize(
    "words",
    [
        ["--steps", str(10**30)],
        ["--batch-size", str(10**12)],
        ["--lr", "inf"],
        ["--lr", "nan"],
        ["--time-limit", "nan"],
        ["--seed", "-1"],
        ["--loss-option", "gamma=3"],
        ["--loss", "focal", "--loss-option", "gama=3"],
        ["--loss", "focal", "--loss-option", "gamma=much"],
    ],
)
def test_invalid_arguments_of_train_are_refused(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert run(["train", "unet", "--data", str(patches), "--out", str(tmp_path / "unet"), *words]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "unet").exists() or not list((tmp_path / "unet").iterdir())


@pytest.mark.slow
def test_a_model_of_this_session_trains_in_this_process(patches: Path) -> None:
    from torch import nn

    @zoo.register_model("session_net", replace=True)
    def session_net(in_channels: int = 3, classes: int = 2) -> nn.Module:
        return nn.Conv2d(in_channels, classes, 3, padding=1)

    model = zoo.train("session_net", patches, device="cpu", data_options={"group_column": "scene"}, **QUICK)
    assert model.bundle.provider is not None
    assert model.bundle.provider.distribution == ""


def test_the_front_door_needs_no_torch_to_open() -> None:
    code = "import sys, zoo; assert callable(zoo.load) and callable(zoo.train); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
