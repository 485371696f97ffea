"""Trials that take no time: a small plugin with models that misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from zoo import registry
from zoo.bench.config import SPLITS, DataSource, TrialConfig
from zoo.training.recipes import get_recipe

ODD_MODELS = """
    from zoo.registry import Flag, ModelSpec, hookimpl

    @hookimpl
    def zoo_register_models(register):
        for name in ("tiny", "raises", "diverges", "dies", "hangs", "hungry", "greedy", "normed"):
            flags = frozenset({Flag.BATCH1_TRAINING} if name == "greedy" else ())
            register(ModelSpec(name=name, target=f"zoo_odd_models:{name.title()}", summary="s", flags=flags))
        register(
            ModelSpec(name="rainy", target="json:loads", summary="s", flags=frozenset({Flag.NEEDS_RAIN}))
        )
"""
ODD_CODE = """
    import os, signal, time, torch
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

    class Diverges(Tiny):
        def forward(self, x):
            return self.head(x) * float("nan")

    class Dies(Tiny):
        def forward(self, x):
            os.kill(os.getpid(), signal.SIGKILL)

    class Hangs(Tiny):
        def forward(self, x):
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
