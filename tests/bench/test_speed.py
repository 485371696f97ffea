"""Test timing: the fastest batch size, quartiles, and energy or the reason for its absence."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tests.bench.conftest import finished
from zoo.bench import speed, speed_session
from zoo.bench.config import TrialConfig
from zoo.bench.results import SpeedProtocol, SpeedSample, TrialResult, load_results
from zoo.bench.speed import EnergyMeter, Measurement, count_gmac, measure, measure_end_to_end
from zoo.bench.speed_session import SpeedReport, SpeedSettings, SpeedSubject, session_of, time_models, time_results
from zoo.jobs import Outcome, prepare

CPU = torch.device("cpu")


def test_the_arithmetic_of_a_model_that_passes_a_parameter_to_a_layer_is_counted() -> None:
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 8))
            self.layer = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.layer(self.token)[..., None, None]

    model = Token()
    assert count_gmac(model, (3, 4, 4), torch.device("cpu")) == 8 * 3 / 1e9
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_sample_is_median_and_quartiles() -> None:
    seconds = [0.1, 0.4, 0.2, 0.3, 0.5]
    sample = SpeedSample.of(2, seconds)
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    assert (sample.median_s, sample.iqr_s, sample.passes) == (0.3, pytest.approx(high - low), 5)
    assert sample.images_per_second == pytest.approx(2 / 0.3)
    assert SpeedSample.of(1, [0.1]).iqr_s == 0.0


def test_the_fastest_batch_is_the_smallest_of_those_as_good() -> None:
    passes = {1: [1.0], 2: [1.2], 4: [2.4], 8: [4.75], 16: [9.0]}
    assert Measurement(passes=passes).best_batch == 16
    del passes[16]
    # Batch 8 gains one percent on 2, which is not worth its memory.
    assert Measurement(passes=passes).best_batch == 2


class Slow(nn.Module):
    """Pretends to take a fixed time a pass and a time an image, and to run out of memory."""

    def __init__(self, clock: list[float], each: float, limit: int = 1000) -> None:
        super().__init__()
        self.clock, self.each, self.limit = clock, each, limit
        self.weight = nn.Parameter(torch.zeros(3))
        self.sizes: list[int] = []
        self.modes: set[bool] = set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("no")
        self.sizes.append(len(x))
        self.modes.add(self.training)
        self.clock[0] += 0.08 + self.each * len(x) + 0.012 * max(0, len(x) - 8)
        return x


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only models move."""
    now = [0.0]
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return now


def test_the_search_ends_where_nothing_is_gained(clock: list[float]) -> None:
    model = Slow(clock, each=0.01)
    found = measure(lambda: model, (1, 4, 4), CPU, seconds=0.2)
    assert (found.best_batch, max(found.passes)) == (8, 32)
    assert found.stopped == "batch 32 is no faster than 8"
    assert found.parameters == 3
    assert model.modes == {False}
    assert all(len(passes) >= 3 for passes in found.passes.values())
    assert statistics.median(found.passes[8]) == pytest.approx(0.16)


def test_the_search_ends_where_memory_or_patience_does(clock: list[float]) -> None:
    told: list[int] = []
    found = measure(
        lambda: Slow(clock, 0.0, limit=4), (1, 4, 4), CPU, on_batch=lambda measured: told.append(len(measured.passes))
    )
    assert (sorted(found.passes), found.stopped) == ([1, 2, 4], "memory ran out at batch 8")
    assert told == [1, 2, 3]
    slow = measure(lambda: Slow(clock, 2.0), (1, 4, 4), CPU)
    assert sorted(slow.passes) == [1]
    assert "would take more than 0.75 s" in slow.stopped
    fixed = measure(lambda: Slow(clock, 0.01), (1, 4, 4), CPU, batches=[16, 3])
    assert sorted(fixed.passes) == [3, 16]


@pytest.mark.usefixtures("odd_models")
def test_a_new_process_measures_the_memory_of_a_model() -> None:
    prepare("zoo.bench.trial")
    order = speed_session._ProcessSettings(SpeedSubject("big", {}, 2, (1, 4, 4), "cpu"), [1, 4], 0.01, False)
    found = speed_session._measure_in_process(order, 1).unwrap()
    # Buffers that libraries allocate at their first call are in both, so the difference is three images of 32 MiB.
    assert found.memory[4] - found.memory[1] == pytest.approx(96 * 2**20, abs=4 * 2**20)
    # The import of the model's module takes 128 MiB, which are not the model's.
    assert 32 * 2**20 <= found.memory[1] < 128 * 2**20


def test_end_to_end_reads_every_patch_in_turn() -> None:
    asked: list[int] = []

    def read(number: int) -> torch.Tensor:
        asked.append(number)
        return torch.zeros(1, 2, 2)

    times = measure_end_to_end(lambda images: images > 0, read, 5, 3, seconds=0.0)
    assert asked[:7] == [0, 1, 2, 3, 4, 0, 1]
    assert len(times) == 3


def counters(folder: Path, *microjoules: int) -> list[Path]:
    packages = []
    for number, value in enumerate(microjoules):
        package = folder / f"intel-rapl:{number}"
        package.mkdir(parents=True, exist_ok=True)
        (package / "energy_uj").write_text(f"{value}\n")
        (package / "max_energy_range_uj").write_text("10000000\n")
        packages.append(package)
    return packages


def test_rapl_is_read_over_packages_and_wrap_around(tmp_path: Path) -> None:
    counters(tmp_path, 9_000_000, 1_000_000)
    (tmp_path / "intel-rapl:0:0").mkdir()
    meter = EnergyMeter.find(CPU, tmp_path)
    before = meter.joules()
    counters(tmp_path, 1_000_000, 1_500_000)
    after = meter.joules()
    assert meter.source == "rapl"
    assert before is not None
    assert after is not None
    assert meter.between(before, after) == pytest.approx(2.0 + 0.5)


def test_a_machine_without_energy_counters_gives_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = EnergyMeter.find(CPU, tmp_path / "absent")
    assert (none.source, none.joules()) == ("", None)
    assert "no RAPL counter" in none.reason
    counters(tmp_path, 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert "cannot be read" in EnergyMeter.find(CPU, tmp_path).reason
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install" in EnergyMeter.find(torch.device("cuda")).reason


def test_nvml_counts_millijoules(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([0, 1000, 3500])
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(readings),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    meter = EnergyMeter.find(torch.device("cuda", 1))
    before, after = meter.joules(), meter.joules()
    assert before is not None
    assert after is not None
    assert (meter.source, meter.between(before, after)) == ("nvml", 2.5)


def test_rounds_begin_with_another_model_and_are_pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[tuple[str, Any, bool]] = []

    def process(order: Any, threads: int | None) -> Outcome[Measurement]:
        orders.append((order.subject.model, order.batches, order.end_to_end))
        if order.subject.model == "c":
            return Outcome("failed", None, "the process ended with exit code -9")
        batches = order.batches or [1, 2, 4]
        return Outcome("ok", Measurement(passes={batch: [0.1, 0.1 + 0.01 * batch] for batch in batches}))

    monkeypatch.setattr(speed_session, "_measure_in_process", process)
    loads = iter([0.1, None, 0.9, 0.2, 0.0, 0.1, 0.3])
    monkeypatch.setattr(speed_session, "cores_in_use", lambda: next(loads))
    reports = time_models([SpeedSubject(name, {}, 2, (1, 4, 4), "cpu") for name in "abc"], SpeedSettings(rounds=3))
    assert [name for name, _, _ in orders] == ["a", "b", "c", "b", "a", "a", "b"]
    assert orders[0] == ("a", None, True)
    assert orders[3] == ("b", [1, 4], False)
    first, _, lost = reports
    assert [(sample.batch, sample.passes) for sample in first.samples] == [(1, 6), (4, 6)]
    assert lost.protocol.error == "the process ended with exit code -9"
    assert lost.samples == ()
    assert {report.protocol.cores_in_use for report in reports} == {0.9}
    assert all(report.protocol.busy for report in reports)


@pytest.mark.slow
def test_models_are_timed_in_processes_of_their_own(patches: Path) -> None:
    from zoo.datasets.source import DataSource

    data = DataSource("folder", {"root": str(patches), "group_column": "scene"})
    small = {"widths": [4, 8, 8, 8, 8]}
    subjects = [
        SpeedSubject("unet", small, 2, (3, 32, 32), "cpu", data=data),
        SpeedSubject("unet", {"widths": [4]}, 2, (3, 32, 32), "cpu"),
    ]
    good, bad = time_models(subjects, SpeedSettings(rounds=2, seconds=0.05, threads=1))
    assert good.protocol.error == ""
    assert good.samples[0].batch == 1
    assert good.protocol.end_to_end is not None
    assert good.best is not None
    assert good.protocol.end_to_end.batch == good.protocol.best_batch
    assert (good.protocol.parameters or 0) > 0
    assert good.protocol.threads == 1
    assert "widths must name two or more levels" in bad.protocol.error


def test_models_of_results_are_timed_once_in_turns(
    tmp_path: Path, trial: Callable[..., TrialConfig], measured: Callable[..., dict[str, Any]]
) -> None:
    values = {name: value for name, value in measured().items() if name != "speed"}
    configs = [trial("unet"), trial("unet", seed=1), trial("segnet"), trial("drs_unet")]
    results = [finished(config, values) for config in configs[:3]]
    results.append(TrialResult(configs[3], "failed", "why"))
    asked: list[list[str]] = []

    def time_them(subjects: Any) -> list[SpeedReport]:
        asked.append([subject.model for subject in subjects])
        protocol = SpeedProtocol(
            session=f"s{len(asked)}", rounds=1, models=len(subjects), seconds_a_batch_size=0.5, dtype="", layout=""
        )
        return [SpeedReport((SpeedSample(1, 0.1 * len(subject.model), 0.0, 4),), protocol) for subject in subjects]

    timed = time_results(results, tmp_path, time_them)
    assert asked == [["unet", "segnet"]]
    stored = {(one.config.model, one.config.seed): one.speed[0] for one in load_results(tmp_path)[0]}
    assert stored["unet", 0] == stored["unet", 1] != stored["segnet", 0]
    assert time_results(timed, tmp_path, time_them) == timed
    assert len(asked) == 1
    # A model that comes later is timed beside the others, not alone.
    more = finished(trial("mobilenetv2"), values)
    again = time_results([*timed, more], tmp_path, time_them)
    assert asked[1] == ["unet", "segnet", "mobilenetv2"]
    assert {session_of(one) for one in again if one.ok} == {"s2"}
