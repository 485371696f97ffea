"""The front door of benchmarks: what it accepts, runs and refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.conftest import PATIENCE_S, REPOSITORY
from zoo import registry
from zoo.api.benchmark import BenchmarkView, make_benchmark
from zoo.bench.benchmark import ModelEntry
from zoo.bench.config import TrialConfig
from zoo.bench.results import TrialResult
from zoo.errors import ZooError
from zoo.registry import session

NOTHING: dict[str, Any] = {
    "config": None, "data_options": None, "recipe": None, "recipe_options": None, "seeds": None, "speed": None,
}  # fmt: skip
SMALL = {"widths": [4, 4, 4, 4, 4]}
QUICK = {"steps": 2, "crop": 32, "batch_size": 4, "precision": "fp32"}


def test_arguments_describe_a_benchmark(patches: Path) -> None:
    asked = make_benchmark(
        ["unet", ModelEntry("unet", SMALL, "small")], patches, **{**NOTHING, "seeds": [0, 7], "recipe_options": QUICK}
    )
    assert [entry.label for entry in asked.models] == ["unet", "small"]
    assert (asked.seeds, asked.recipe.steps, asked.data.name, asked.speed) == ((0, 7), 2, "folder", True)
    default = make_benchmark(None, None, **NOTHING)
    assert (default.data.name, default.recipe.name, default.seeds) == ("synthetic", "quick", (0,))
    assert [entry.label for entry in default.models] == [spec.name for spec in registry.catalogue().models.match()]


def test_another_folder_keeps_the_groups_of_a_configuration(patches: Path) -> None:
    config = REPOSITORY / "benchmarks" / "new_scenes.toml"
    elsewhere = make_benchmark("U-net", patches, **{**NOTHING, "config": config}).data
    assert elsewhere.options["root"] == str(patches)
    assert (elsewhere.options["train_groups"], elsewhere.options["test_groups"]) == (["S1"], ["S2", "S3", "S4"])
    other = make_benchmark("U-net", "synthetic", **{**NOTHING, "config": config}).data
    assert (other.name, other.options) == ("synthetic", {})


@pytest.mark.parametrize(
    ("models", "changes", "complaint"),
    [
        ("unett", {}, "Did you mean 'unet'"),
        ([], {}, "no model was named"),
        ("unet", {"seeds": 10**9}, r"seeds must be a number of seeds \(1 to 1000\)"),
        ("unet", {"seeds": [-1]}, "seeds must be"),
        ("unet", {"recipe_options": {"steps": 2, "epochs": 2}}, "cannot be combined"),
        ("unet", {"recipe_options": {"time_limit": float("nan")}}, "time_limit"),
        ("unet", {"recipe_options": {"lr": float("inf")}}, "lr"),
        ("unet", {"recipe_options": {"steps": 10**30}}, "steps"),
        ("unet", {"data_options": {"no_such": 1}}, "no_such"),
    ],
)
def test_arguments_out_of_range_are_refused(models: Any, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ZooError, match=complaint):
        make_benchmark(models, None, **{**NOTHING, **changes})
    with pytest.raises(ZooError, match="at least 1, not 0"):
        zoo.plan_benchmark("unet", jobs=0)


class Recorder(BenchmarkView):
    """Remembers what it is shown."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def kept(self, config: TrialConfig, result: TrialResult) -> None:
        self.seen.append("kept")

    def progress(self, config: TrialConfig, stage: str, done: int, total: int) -> None:
        if stage not in self.seen:
            self.seen.append(stage)

    def finished(self, config: TrialConfig, result: TrialResult) -> None:
        self.seen.append(result.status)


@pytest.mark.slow
def test_a_benchmark_runs_from_python_and_continues(tmp_path: Path, patches: Path) -> None:
    view = Recorder()
    options: dict[str, Any] = {
        "data_options": {"group_column": "scene"}, "recipe_options": QUICK, "out": tmp_path / "out", "speed": False,
    }  # fmt: skip
    models = [ModelEntry("unet", SMALL, "small")]
    plan = zoo.plan_benchmark(models, patches, view=view, **options)
    assert plan.estimate().to_run == len(plan.trials) == 1
    assert not (tmp_path / "out").exists()
    results = plan.run()
    assert view.seen == ["data", "train", "val", "test", "ok"]
    assert [trial.config.label for trial in results] == ["small"]
    assert results[0].measurements is not None
    assert results[0].measurements.provider is not None
    assert results[0].measurements.provider.distribution == "landslide-zoo"
    assert "small" in results.table()
    again = zoo.benchmark(models, patches, view=view, **options)
    assert view.seen[-1] == "kept"
    assert [trial.counts.tp.tolist() for trial in again] == [trial.counts.tp.tolist() for trial in results]


SCRIPT = """
import zoo
results = zoo.benchmark("unet", {patches!r}, data_options={{"group_column": "scene"}}, speed=False,
                        recipe_options={{"steps": 1, "crop": 32, "batch_size": 4, "precision": "fp32"}}, out="out")
print([trial.status for trial in results])
"""


@pytest.mark.slow
@pytest.mark.nightly
def test_a_script_without_a_main_guard_runs_once(tmp_path: Path, patches: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(patches=str(patches)))
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.stdout == "['ok']\n", done.stderr


@pytest.mark.slow
def test_a_model_of_this_session_is_known_in_the_processes_of_its_trials(
    tmp_path: Path, patches: Path, install: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_SESSION_MODELS", "{}")
    monkeypatch.setattr(session, "_registered", {})
    code = """
        from torch import nn

        class Tiny(nn.Module):
            def __init__(self, in_channels, classes):
                super().__init__()
                self.head = nn.Conv2d(in_channels, classes, 3, padding=1)
            def forward(self, x):
                return self.head(x)
    """
    install("session-net", code)
    import session_net

    zoo.register_model("session_tiny", replace=True)(session_net.Tiny)
    results = zoo.benchmark(
        "session_tiny", patches, data_options={"group_column": "scene"}, recipe_options=QUICK, out=tmp_path, speed=False
    )
    monkeypatch.undo()
    registry.reload()
    assert [trial.error for trial in results] == [""]
