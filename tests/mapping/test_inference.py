"""The form in which a model computes is chosen once, and is the same on every machine."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo.deploy.search
import zoo.deploy.tuning_cache
from tests.mapping.conftest import BANDS, WriteScene, make_image
from zoo.errors import ZooError
from zoo.mapping import Scene
from zoo.mapping.inference import AS_TRAINED, ForwardMaker, TileForward, choose_form
from zoo.mapping.tiling import Plan
from zoo.training.bundle import Bundle

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the forms whose graph takes seconds to export."""
    everything = zoo.deploy.search.candidates_for
    monkeypatch.setattr(
        zoo.deploy.search,
        "candidates_for",
        lambda *given: [one for one in everything(*given) if "ONNX" not in one.name and "OpenVINO" not in one.name],
    )


@pytest.mark.parametrize("busy_cores", [0.0, 2.0])
def test_a_worker_takes_the_form_that_was_chosen_elsewhere(
    busy_cores: float, bundle: Path, write_scene: WriteScene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(zoo.deploy.search, "cores_in_use", lambda: busy_cores)
    monkeypatch.setattr(zoo.deploy.tuning_cache, "cores_in_use", lambda: 0.0)
    predictor = Bundle.load(bundle).predictor()
    image = make_image(500, 500)
    image[0, 200:260, 200:260] = np.inf
    with Scene([write_scene(image)], BANDS) as scene:
        plan = Plan(scene.shape, 64, 0)
        fast, form, _ = choose_form(predictor, scene, plan, "auto", CPU, 0.4)
    assert list(form.choices) == ["auto"]
    assert form.name == fast.model.report.chosen
    tile = make_image(64, 64)
    here = TileForward(fast, CPU)(tile)
    monkeypatch.setattr(zoo.deploy.search, "time_interleaved", lambda *_: pytest.fail("measured again"))
    maker = pickle.loads(pickle.dumps(ForwardMaker(predictor, form, tta=False)))
    np.testing.assert_array_equal(maker(CPU)(tile), here)
    with pytest.raises(ZooError, match="its pixels would differ"):
        replace(maker, form=replace(form, name="another one"))(CPU)


def test_a_scene_smaller_than_the_model_needs(bundle: Path, write_scene: WriteScene) -> None:
    predictor = Bundle.load(bundle).predictor()
    with Scene(write_scene(make_image(5, 3)), BANDS) as scene:
        fast, form, _ = choose_form(predictor, scene, Plan(scene.shape, 64, 32), "auto", CPU, 0.4)
    assert form.name != AS_TRAINED
    assert TileForward(fast, CPU)(make_image(5, 3)).shape == (5, 3)


def test_a_small_scene_skips_the_search(bundle: Path, write_scene: WriteScene) -> None:
    predictor = Bundle.load(bundle).predictor()
    with Scene([write_scene(make_image(200, 200))], BANDS) as scene:
        fast, form, messages = choose_form(predictor, scene, Plan(scene.shape, 64, 0), "fp32", CPU, 0.4)
    assert fast is predictor
    assert (form.name, messages) == (AS_TRAINED, ())
