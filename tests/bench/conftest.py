"""Trials that take no time: a small plugin with models that misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo import registry
from zoo.bench.config import TrialConfig
from zoo.bench.results import Attempt, TrialMeasurements, TrialResult
from zoo.bench.samples import Pictures
from zoo.datasets.base import SPLITS
from zoo.datasets.source import DataSource
from zoo.schema import from_plain
from zoo.training.recipes import get_recipe

IMAGES = 60

ODD_MODELS = """
    from zoo.registry import Flag, ModelSpec, hookimpl

    @hookimpl
    def zoo_register_models(register):
        names = (
            "tiny", "raises", "diverges", "dies", "hangs", "hungry", "greedy", "normed", "big", "tells", "exits",
            "mute", "stops", "interrupts",
        )
        for name in names:
            flags = frozenset({Flag.BATCH1_TRAINING} if name == "greedy" else ())
            register(ModelSpec(name=name, target=f"zoo_odd_models:{name.title()}", summary="s", flags=flags))
        register(
            ModelSpec(name="rainy", target="json:loads", summary="s", flags=frozenset({Flag.NEEDS_RAIN}))
        )
"""
ODD_CODE = """
    import multiprocessing, os, signal, time, torch
    from torch import nn

    class Tiny(nn.Module):
        def __init__(self, in_channels, classes):
            super().__init__()
            self.head = nn.Conv2d(in_channels, classes, 3, padding=1)
        def forward(self, x):
            return self.head(x)

    class Raises(Tiny):
        def forward(self, x):
            raise RuntimeError("no such luck")

    class Exits(Tiny):
        def forward(self, x):
            raise SystemExit(0)

    class Mute(Tiny):
        def forward(self, x):
            raise type("Mute", (BaseException,), {"__str__": lambda self: 1 / 0})()

    class Tells(Tiny):
        def forward(self, x):
            from zoo.machine import thresholds_are_raised
            raise RuntimeError(f"allocator thresholds raised: {thresholds_are_raised()}")

    class Diverges(Tiny):
        def forward(self, x):
            return self.head(x) * torch.tensor([1.0, float("nan")])[:, None, None]

    class Dies(Tiny):
        def forward(self, x):
            os.kill(os.getpid(), signal.SIGKILL)

    class Hangs(Tiny):
        def forward(self, x):
            time.sleep(600)

    class Interrupts(Tiny):
        # Is an impatient user: sends Ctrl-C several times to the process that waits for the trial.
        def forward(self, x):
            with open(os.path.join(os.path.dirname(__file__), "interrupts"), "w") as file:
                file.write(str(os.getpid()))
            for _ in range(4):
                os.kill(multiprocessing.parent_process().pid, signal.SIGINT)
                time.sleep(0.05)
            time.sleep(600)

    class Hungry(Tiny):
        def forward(self, x):
            return torch.empty(1 << 60)

    class Greedy(Tiny):
        # Takes two patches at a time, and no more.
        def forward(self, x):
            if len(x) > 2:
                raise torch.OutOfMemoryError("tried to allocate more than there is")
            return self.head(x)

    class Big(Tiny):
        # 32 MiB a patch, whatever is asked, and 128 MiB for the import of this module.
        imported = torch.ones(32 * 2**20)
        def forward(self, x):
            return torch.ones(len(x) * 8 * 2**20)

    class Normed(Tiny):
        # Has what a checkpoint has to bring back: running statistics and dropout. Slow enough to be killed.
        def __init__(self, in_channels, classes):
            super().__init__(in_channels, classes)
            self.norm = nn.BatchNorm2d(in_channels)
            self.drop = nn.Dropout2d(0.2)
        def forward(self, x):
            if self.training:
                time.sleep(0.02)
            return self.head(self.drop(self.norm(x)))

    class Stops(Normed):
        # Fails at a batch of its training, once for every line of a file beside this module: a signal, or "error".
        batch = 0
        def forward(self, x):
            self.batch += self.training
            path = os.path.join(os.path.dirname(__file__), "stops")
            if self.batch == 7 and os.path.exists(path):
                first, *rest = open(path).read().split()
                os.remove(path)
                if rest:
                    open(path, "w").write(" ".join(rest))
                if first == "error":
                    raise RuntimeError("no such luck")
                os.kill(os.getpid(), getattr(signal, first))
            return super().forward(x)
"""


@pytest.fixture
def odd_models(install: Callable[[str, str], None], tmp_path: Path) -> Iterator[None]:
    """Register a tiny model and others that misbehave, here and in every process started from here."""
    import textwrap

    install("zoo-odd", ODD_MODELS)
    (tmp_path / "site" / "zoo_odd_models.py").write_text(textwrap.dedent(ODD_CODE))
    registry.reload()
    yield
    registry.reload()


@pytest.fixture
def trial(patches: Path) -> Callable[..., TrialConfig]:
    """A trial of two steps on the ellipses; keyword arguments change its fields."""
    source = DataSource("folder", {"root": str(patches), "group_column": "scene"})
    fingerprints = {split: source.open(split).fingerprint() for split in SPLITS}
    recipe = get_recipe("quick").changed(steps=2, batch_size=4, crop=32, precision="fp32")

    def make(model: str = "tiny", **changes: object) -> TrialConfig:
        config = TrialConfig(model, {}, source, fingerprints, recipe, 0, "cpu")
        return replace(config, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def measured() -> Callable[..., dict[str, Any]]:
    """Make what a trial of two test images measures."""
    return measure


def plain(result: TrialResult) -> dict[str, Any]:
    """Return the sections of a result as plain values."""
    return result.to_dict()


def finished(config: TrialConfig, values: dict[str, Any]) -> TrialResult:
    """Return the result of a trial that measured plain values, as :func:`measure` makes them."""
    attempts = from_plain(values.get("attempts", []), tuple[Attempt, ...])
    pictures = values.get("pictures")
    result = TrialResult(config, "ok", "", from_plain(values, TrialMeasurements), attempts)
    return result if pictures is None else replace(result, pictures=from_plain(pictures, Pictures))


def measure(tp: int = 30, *, loss: float = 0.1, seconds: float = 0.02) -> dict[str, Any]:
    """Measurements of a trial of two test images."""
    histogram = {"positive": [0] * 199 + [40], "negative": [160] + [0] * 199}
    odds = {"positive": [0] * 239 + [40], "negative": [160] + [0] * 239}
    return {
        "data": {
            "name": "ellipses", "bands": [], "class_names": ["background", "landslide"], "pixel_size": None,
            "patch": [3, 10, 10], "patches": {"train": 5, "val": 1, "test": 2}, "split_notes": [],
        },
        "threshold": 0.5,
        "val": {"loss": loss, "histogram": histogram, "odds": odds},
        "test": {
            "names": ["a", "b"], "groups": ["s", "s"], "histogram": histogram, "odds": odds, "loss": loss,
            "objects": {
                "total": [[1, 1, 0, 0], [0] * 4], "touched": [[1, 1, 0, 0], [0] * 4], "found": [[0, 1, 0, 0], [0] * 4],
                "predicted": [3, 1], "false_alarms": [1, 1],
            },
            "boundaries": {
                "predicted": [8, 2], "predicted_near": [[4, 6, 8], [0, 0, 0]],
                "truth": [10, 0], "truth_near": [[5, 6, 10], [0, 0, 0]],
            },
            "counts": {"tp": [tp, 0], "fp": [10, 0], "fn": [40 - tp, 0], "tn": [50, 100]},
        },
        "training": {"steps": 2, "seconds": 1.0, "curve": [[1, 0.5], [2, 0.4]]},
        "parameters": 1_500_000,
        "gmac": 1.25,
        "speed": [
            {"batch": 1, "median_s": seconds, "iqr_s": 0.0, "passes": 5},
            {"batch": 8, "median_s": 4 * seconds, "iqr_s": 0.0, "passes": 5},
        ],
        "seconds": {"train": 1.0},
        "environment": {"device_name": "a processor", "threads": 2, "versions": {"torch": "2"}},
        "weights_sha256": "",
    }  # fmt: skip


@pytest.fixture
def result(measured: Callable[..., dict[str, Any]]) -> Callable[..., TrialResult]:
    """Make a trial on sixty images whose landslides of about 200 pixels are found with a given probability."""
    return lambda config, quality, names="t": make_result(measured(), config, quality, names)


def make_result(values: dict[str, Any], config: TrialConfig, quality: float, names: str) -> TrialResult:
    landslide = np.random.default_rng(0).integers(100, 300, IMAGES)
    rng = np.random.default_rng(round(1000 * quality) + 7 * config.seed)
    tp = rng.binomial(landslide, quality)
    fp = rng.binomial(landslide, 1 - quality)
    counts: dict[str, Any] = {"tp": tp, "fp": fp, "fn": landslide - tp, "tn": 4096 - landslide - fp}
    values["test"] |= {
        "names": [f"{names}{index}" for index in range(IMAGES)],
        "groups": ["s"] * IMAGES,
        "counts": {name: cells.tolist() for name, cells in counts.items()},
        "histogram": {
            "positive": [0] * 199 + [int(landslide.sum())],
            "negative": [int((4096 - landslide).sum())] + [0] * 199,
        },
    }
    for name in ("objects", "boundaries", "odds"):
        del values["test"][name]
    return finished(config, values)
