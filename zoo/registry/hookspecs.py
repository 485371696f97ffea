"""The six doors of the house. A plugin implements those that it needs.

Each hook gets a callback and registers through it, so that a plugin can add one thing or a hundred, and so that
zoo knows which plugin added what. Built-in models and data sets come in by the same hooks.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

import pluggy

from zoo.registry.specs import DatasetSpec, LossSpec, MetricSpec, ModelSpec, RiskModelSpec

PROJECT = "zoo"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class RegisterModel(Protocol):
    """Adds one model."""

    def __call__(self, spec: ModelSpec, /) -> None: ...


class RegisterDataset(Protocol):
    """Adds one data set."""

    def __call__(self, spec: DatasetSpec, /) -> None: ...


class RegisterLoss(Protocol):
    """Adds one loss."""

    def __call__(self, spec: LossSpec, /) -> None: ...


class RegisterMetric(Protocol):
    """Adds one metric."""

    def __call__(self, spec: MetricSpec, /) -> None: ...


class RegisterRiskModel(Protocol):
    """Adds one risk model."""

    def __call__(self, spec: RiskModelSpec, /) -> None: ...


class CommandGroup(Protocol):
    """What a ``click.Group`` offers, seen from a floor that does not know click."""

    commands: MutableMapping[str, Any]


@hookspec
def zoo_register_models(register: RegisterModel) -> None:
    """Call ``register(ModelSpec(...))`` once a model."""


@hookspec
def zoo_register_datasets(register: RegisterDataset) -> None:
    """Call ``register(DatasetSpec(...))`` once a data set."""


@hookspec
def zoo_register_losses(register: RegisterLoss) -> None:
    """Call ``register(LossSpec(...))`` once a loss; recipes name it."""


@hookspec
def zoo_register_metrics(register: RegisterMetric) -> None:
    """Call ``register(MetricSpec(...))`` once a metric; it appears in every result file."""


@hookspec
def zoo_register_risk_models(register: RegisterRiskModel) -> None:
    """Call ``register(RiskModelSpec(...))`` once a risk model; ``zoo risk compare`` and ``zoo risk map`` name it."""


@hookspec(
    warn_on_impl=FutureWarning(
        "the hook zoo_register_comparators is now called zoo_register_risk_models, and ComparatorSpec RiskModelSpec; "
        "the old names will be removed in release 0.3"
    )
)
def zoo_register_comparators(register: RegisterRiskModel) -> None:
    """Old name of ``zoo_register_risk_models``."""


@hookspec
def zoo_register_commands(app: CommandGroup) -> None:
    """Add commands to ``app``, the ``click.Group`` behind ``zoo``; import heavy modules inside them."""
