"""Trials that were trained differently from the rest of a table are named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.bench.conftest import finished
from zoo.bench.config import TrialConfig
from zoo.bench.leaderboard import busy_machine, comparability_warnings, unequal_formats, unequal_seeds, unequal_steps
from zoo.bench.results import SpeedProtocol, TrialResult

Make = Callable[..., TrialConfig]
Measured = Callable[..., dict[str, Any]]


def trained_for(measured: Measured, steps: int) -> dict[str, Any]:
    values = measured()
    values["training"]["steps"] = steps
    return values


def test_a_trial_with_other_steps_than_the_rest_is_flagged(trial: Make, measured: Measured) -> None:
    results = [finished(trial("unet", seed=seed), measured()) for seed in range(3)]
    assert unequal_steps(results) == []
    odd = finished(trial("segnet"), trained_for(measured, 90))
    failed = TrialResult(trial("drs_unet"), "failed", "why")
    (text,) = unequal_steps([*results, odd, failed])
    assert text.startswith("segnet, seed 0: 90 optimiser steps, but the others took 2")


def test_a_trial_in_another_number_format_than_the_rest_is_flagged(trial: Make, measured: Measured) -> None:
    def trained(seed: int, precision: str) -> TrialResult:
        values = measured()
        values["training"]["format"] = {"precision": precision, "channels_last": True}
        return finished(trial("unet", seed=seed), values)

    alike = [trained(0, "bf16"), trained(1, "bf16"), finished(trial("segnet"), measured())]
    assert unequal_formats(alike) == []
    (text,) = comparability_warnings([*alike, trained(2, "fp32")])[:1]
    assert (
        text == "unet, seed 2: trained in fp32, but the others in bf16; --precision bf16 trains all in the same format"
    )


def test_means_over_other_seeds_are_flagged(trial: Make, measured: Measured) -> None:
    results = [finished(trial(model, seed=seed), measured()) for model in ("unet", "segnet") for seed in (0, 1)]
    assert unequal_seeds(results) == []
    results += [
        finished(trial("drs_unet"), measured()),
        TrialResult(trial("drs_unet", seed=1), "failed", "why"),
        TrialResult(trial("mobilenetv2", seed=1), "failed", "why"),
    ]
    (text,) = comparability_warnings(results)
    assert "(unet, segnet: seeds 0, 1; drs_unet: seed 0)" in text


def test_speed_of_a_busy_machine_is_flagged(trial: Make, measured: Measured) -> None:
    def timed(model: str, load: float | None) -> TrialResult:
        protocol = {
            "session": "s", "rounds": 1, "models": 2, "seconds_a_batch_size": 1.0, "dtype": "float32",
            "layout": "contiguous", "cores": 4, "load_average": load,
        }  # fmt: skip
        return finished(trial(model), {**measured(), "speed_protocol": protocol})

    assert busy_machine([timed("unet", 0.5), timed("segnet", None), finished(trial("drs_unet"), measured())]) == []
    (text,) = comparability_warnings([timed("unet", 0.5), timed("segnet", 12.3)])
    assert text.startswith("the speed of segnet was measured while other programs used the machine (load 12.3 on 4 pro")


@pytest.mark.parametrize(
    ("measured", "busy"),
    [
        ({}, False),
        ({"load_average": 2.5, "cores": 2}, False),
        ({"load_average": 2.6, "cores": 2}, True),
        ({"load_average": 0.1, "cores": 2, "cores_in_use": 0.5}, False),
        ({"load_average": 0.1, "cores": 2, "cores_in_use": 0.9}, True),
    ],
)
def test_a_machine_is_busy_by_its_load_or_by_the_cores_of_others(measured: dict[str, Any], busy: bool) -> None:
    kept = {"session": "a", "rounds": 1, "models": 1, "seconds_a_batch_size": 1.0, "dtype": "float32", "layout": "x"}
    protocol = SpeedProtocol(**kept, **measured)
    assert protocol.busy is busy
    assert ("0.9 cores used by other programs" in protocol.load) is (measured.get("cores_in_use") == 0.9)
