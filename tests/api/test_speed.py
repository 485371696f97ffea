"""``zoo.speed`` and ``zoo speed`` return and print the same figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

import zoo
from zoo.bench.results import EnergyUse, MemoryUse, SpeedProtocol, SpeedSample
from zoo.bench.speed_session import SpeedReport, SpeedSettings, SpeedSubject
from zoo.cli import run
from zoo.errors import UnknownNameError

SEEN: list[tuple[Sequence[SpeedSubject], SpeedSettings]] = []


@pytest.fixture(autouse=True)
def recorded_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Return fixed timings: U-Net is twice as fast as SegNet, and DRS-UNet fails."""

    def time_models(subjects: Sequence[SpeedSubject], settings: SpeedSettings, progress: object) -> list[SpeedReport]:
        SEEN.append((subjects, settings))
        reports = []
        for subject in subjects:
            protocol = SpeedProtocol(
                session="s", rounds=1, models=3, seconds_a_batch_size=0.5, dtype="float32", layout="channels first"
            )
            if subject.model == "drs_unet":
                reports.append(SpeedReport((), replace(protocol, error="out of memory")))
                continue
            step = 0.01 if subject.model == "unet" else 0.02
            samples = (SpeedSample(1, step, 0.001, 9), SpeedSample(4, 2 * step, 0.002, 9))
            memory, energy = MemoryUse("rss", {4: 2**21}), EnergyUse(None, "no counter", None)
            reports.append(SpeedReport(samples, replace(protocol, memory=memory, energy=energy, gmac=1.5)))
        return reports

    SEEN.clear()
    monkeypatch.setattr("zoo.bench.speed_session.time_models", time_models)


def test_python_returns_a_table_with_the_fastest_model_first() -> None:
    found = zoo.speed("segnet,unet,drs_unet", size=64, channels=3, device="cpu", batch=4, rounds=2)
    table = found.to_pandas()
    assert list(table["model"]) == ["unet", "segnet", "drs_unet"]
    assert list(table["images_per_second"][:2]) == pytest.approx([200, 100])
    assert list(table["latency_ms"][:2]) == pytest.approx([10, 20])
    assert table["images_per_second"].isna().tolist() == [False, False, True]
    [(subjects, settings)] = SEEN
    assert (subjects[0].model, subjects[0].shape) == ("segnet", (3, 64, 64))
    assert (settings.batches, settings.rounds) == ((4,), 2)
    assert "segnet" in found._repr_html_()


def test_the_command_prints_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["speed", "segnet,unet,drs_unet", "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    rows = [line.split() for line in shown.out.splitlines() if line.startswith(("unet", "segnet", "drs_unet"))]
    assert [row[0] for row in rows] == ["unet", "segnet", "drs_unet"]
    assert rows[0][1:8] == ["10.0", "1.0", "200.0", "20.0", "4", "2", "1.50"]
    assert rows[2][1] == "-"
    assert "drs_unet: out of memory" in shown.err
    assert "energy was not measured: no counter" in shown.err
    assert run(["speed", "unet", "--device", "cpu", "--json", "--optimized"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [one["speed"][1]["batch"] for one in values] == [4, 4]
    assert [one.optimized for one in SEEN[-1][0]] == [False, True]
    assert run(["speed", "drs_unet", "--device", "cpu"]) == 1


def test_data_give_the_image_size_and_the_classes(patches: object) -> None:
    zoo.speed("unet", data=str(patches), data_options={"group_column": "scene"}, device="cpu")
    [(subjects, _)] = SEEN
    assert (subjects[0].shape[0], subjects[0].classes) == (3, 2)
    with pytest.raises(UnknownNameError, match="segnet"):
        zoo.speed("segnett")
