"""A plan's figures: seconds of a trial by what it does, from earlier results where this machine has some."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench.conftest import finished
from zoo.bench import plan
from zoo.bench.config import AdaptationSettings, TrialConfig
from zoo.bench.plan import START_S, Cost, earlier_costs, makespan, measure_cost, precision_problem, relative_costs
from zoo.bench.results import SplitSizes, TrialResult, check_folder, locked_results
from zoo.errors import ResultError

Make = Callable[..., TrialConfig]
SIZES = SplitSizes(train=40, val=10, test=20)


@pytest.fixture
def timed(measured: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Measurements of a trial, with figures that are easy to divide."""

    def make(steps: int = 100, resumed_from: int | None = None) -> dict[str, Any]:
        values = measured()
        return {
            **values,
            "parameters": 7,
            "gmac": 0.5,
            "environment": {"threads": 2, "device_name": "chip"},
            "training": {"steps": steps, "seconds": 30.0, "resumed_from": resumed_from},
            "data": {**values["data"], "patches": asdict(SIZES)},
            "seconds": {"evaluate": 3.0},
        }

    return make


@pytest.mark.parametrize(("precision", "device", "hardware", "warned"), [
    ("bf16", "cpu", False, True), ("bf16", "cpu", True, False), ("bf16", "cuda:0", False, False),
    ("fp32", "cpu", False, False), ("auto", "cpu", False, False),
])  # fmt: skip
def test_training_in_emulated_bf16_is_warned_of(
    precision: str, device: str, hardware: bool, warned: bool, trial: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "bf16_in_hardware", lambda device: hardware)
    config = trial()
    config = replace(config, device=device, recipe=config.recipe.changed(precision=precision))
    assert ("no bfloat16 instructions" in precision_problem(config)) is warned


def test_a_trial_costs_its_steps_and_what_it_evaluates(trial: Make) -> None:
    cost = Cost(step_s=0.5, patch_s=0.1)
    config = trial()
    assert cost.seconds(config, SIZES) == pytest.approx(START_S + 2 * 0.5 + 30 * 0.1)
    watched = replace(config, recipe=config.recipe.changed(schedule="plateau", epochs=3))
    # Forty patches are ten steps of four, and a validation after each of the three passes.
    assert cost.seconds(watched, SIZES) == pytest.approx(START_S + 30 * 0.5 + 30 * 0.1 + 3 * 10 * 0.1)
    # Adapting takes four passes, and measuring one.
    adapted = replace(config, adapted=True)
    assert cost.seconds(adapted, SIZES) == pytest.approx(START_S + (3 + 1 + 1) * 20 * 0.1)
    twice = replace(adapted, adapting=AdaptationSettings(scales=(1.0, 2.0)))
    assert cost.seconds(twice, SIZES) == pytest.approx(START_S + (3 + 5 + 5) * 20 * 0.1)
    # Four magnifications are tried with all layers and three views; then one of them is adapted to and measured.
    chosen = replace(adapted, adapting=AdaptationSettings(scales="auto"))
    areas = 0.75**2 + 1 + 1.5**2 + 4
    expected = (areas * (1 + 3) + 3 + areas / 4 + areas / 4) * 20 * 0.1
    assert cost.seconds(chosen, SIZES) == pytest.approx(START_S + expected)
    # Of many large patches, a sample is adapted to.
    large = replace(cost, pixels=2**21)
    assert large.seconds(adapted, SIZES) == pytest.approx(START_S + ((3 + 1) * 1 + 20) * 0.1)


def test_an_adapted_trial_costs_its_passes_and_not_a_fixed_share_of_the_training(trial: Make) -> None:
    sizes = SplitSizes(train=400, val=100, test=191)
    recipe = trial().recipe.changed(steps=40, batch_size=16, crop=64)

    def cost(**changes: Any) -> float:
        return sum(relative_costs(trial("unet", recipe=recipe, **changes), sizes, 128**2).values())

    assert 0.5 < cost(adapted=True) / cost() < 2
    eight = cost(adapted=True, adapting=AdaptationSettings(tta=True))
    assert eight > 2 * cost(adapted=True)
    longer = trial("unet", recipe=recipe.changed(steps=4000))
    assert cost(adapted=True) < 0.05 * sum(relative_costs(longer, sizes, 128**2).values())
    untrained = trial("dndvi_threshold", recipe=recipe)
    assert relative_costs(untrained, sizes, 128**2)["train"] == 0 < relative_costs(untrained, sizes, 128**2)["test"]
    assert relative_costs(trial("of a plugin that is gone", recipe=recipe), sizes, 128**2)["train"] > 0


def test_jobs_share_the_trials() -> None:
    assert makespan([3.0, 1.0, 1.0, 1.0], 1) == 6.0
    assert makespan([3.0, 1.0, 1.0, 1.0], 2) == 3.0
    assert makespan([1.0, 1.0, 3.0], 2) == 4.0


def test_earlier_results_count_for_the_same_trial_on_the_same_machine(
    tmp_path: Path, trial: Make, timed: Callable[..., dict[str, Any]]
) -> None:
    finished(trial(), timed()).save(tmp_path)
    finished(trial("segnet"), timed(100, resumed_from=40)).save(tmp_path)
    TrialResult(trial("unet"), "failed", "why").save(tmp_path)
    here = earlier_costs(tmp_path, 2, "chip")
    found = here(trial(seed=5))
    assert found is not None
    assert (found.parameters, found.gmac, found.step_s, found.patch_s) == (7, 0.5, 0.3, 0.1)
    assert (found.pixels, found.source) == (100, "earlier result")
    resumed = here(trial("segnet"))
    assert resumed is not None
    assert resumed.step_s == pytest.approx(0.5)
    assert here(trial("unet")) is None
    assert here(trial(recipe=trial().recipe.changed(batch_size=8))) is None
    assert earlier_costs(tmp_path, 1, "chip")(trial()) is None
    assert earlier_costs(tmp_path, 2, "another chip")(trial()) is None


@pytest.mark.slow
@pytest.mark.usefixtures("odd_models")
def test_a_few_steps_estimate_a_trial_or_show_why_it_cannot_run(trial: Make) -> None:
    cost = measure_cost(trial(), 1)
    assert (cost.error, cost.source, cost.parameters) == ("", "measured now", 3 * 2 * 9 + 2)
    assert 0 < cost.step_s < math.inf
    assert "no such luck" in measure_cost(trial("raises"), 1).error
    assert "runs out of memory; the trial would halve the batch" in measure_cost(trial("dies"), 1).error


def test_a_folder_belongs_to_one_benchmark_and_one_process(tmp_path: Path, trial: Make) -> None:
    with (
        locked_results(tmp_path, {"name": "table3"}),
        pytest.raises(ResultError, match="another zoo bench uses this folder"),
        locked_results(tmp_path, {"name": "table3"}),
    ):
        pytest.fail("claimed twice")
    check_folder(tmp_path, "table3")
    with pytest.raises(ResultError, match="holds the results of 'table3'"):
        check_folder(tmp_path, "table4")
    with pytest.raises(ResultError, match="holds the results of 'table3'"):
        check_folder(tmp_path, "")
    other = tmp_path / "other"
    check_folder(other, "table4")
    TrialResult(trial(), "failed", "why").save(other)
    check_folder(other, "")
    with pytest.raises(ResultError, match="without a configuration"):
        check_folder(other, "table4")


def test_a_damaged_description_loses_no_results(tmp_path: Path, trial: Make) -> None:
    TrialResult(trial(benchmark="table3"), "failed", "why").save(tmp_path)
    for text in (None, "", '{"name":'):
        (tmp_path / "benchmark.json").unlink(missing_ok=True)
        if text is not None:
            (tmp_path / "benchmark.json").write_text(text)
        check_folder(tmp_path, "table3")
        with pytest.raises(ResultError, match="holds the results of 'table3'"):
            check_folder(tmp_path, "table4")
    (path,) = (tmp_path / "trials").glob("*.json")
    path.write_text("{")
    with pytest.raises(ResultError, match=r"benchmark.json: not valid JSON.*Name another --out$"):
        check_folder(tmp_path, "table3")
