"""The hooks that a plugin may implement.

Each hook registers entries through a callback, so that a plugin can add any number of entries and zoo knows which
plugin added each. Built-in models, data sets, losses, metrics and risk models use the same hooks.
docs/tutorials/plugin.md has an example of each hook.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

import pluggy

from zoo.registry.families import ModelFamilySpec
from zoo.registry.specs import (
    DatasetSpec,
    ExporterSpec,
    LossSpec,
    MetricSpec,
    ModelSpec,
    ReportSectionSpec,
    RiskModelSpec,
    WeightsSpec,
)

PROJECT = "zoo"
API_VERSION = 1
"""Version of this interface. A module with ``ZOO_API_VERSION = 2`` requires a newer version and is rejected."""
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class RegisterModel(Protocol):
    """Callback that adds one model, or a family of models."""

    def __call__(self, spec: ModelSpec | ModelFamilySpec, /) -> None: ...


class RegisterDataset(Protocol):
    """Callback that adds one data set."""

    def __call__(self, spec: DatasetSpec, /) -> None: ...


class RegisterLoss(Protocol):
    """Callback that adds one loss."""

    def __call__(self, spec: LossSpec, /) -> None: ...


class RegisterMetric(Protocol):
    """Callback that adds one metric."""

    def __call__(self, spec: MetricSpec, /) -> None: ...


class RegisterRiskModel(Protocol):
    """Callback that adds one risk model."""

    def __call__(self, spec: RiskModelSpec, /) -> None: ...


class RegisterWeights(Protocol):
    """Callback that adds trained weights."""

    def __call__(self, spec: WeightsSpec, /) -> None: ...


class RegisterExporter(Protocol):
    """Callback that adds one format of ``zoo export``."""

    def __call__(self, spec: ExporterSpec, /) -> None: ...


class RegisterReportSection(Protocol):
    """Callback that adds one section of the HTML report."""

    def __call__(self, spec: ReportSectionSpec, /) -> None: ...


class CommandGroup(Protocol):
    """The part of a ``click.Group`` that the hook needs; the registry does not import click."""

    commands: MutableMapping[str, Any]

    def add_command(self, cmd: Any, name: str | None = None) -> None:
        """Add a command under its own name or another one."""


@hookspec
def zoo_register_models(register: RegisterModel) -> None:
    """Call ``register(ModelSpec(...))`` once for every model, or ``register(ModelFamilySpec(...))`` for a family."""


@hookspec
def zoo_register_datasets(register: RegisterDataset) -> None:
    """Call ``register(DatasetSpec(...))`` once for every data set."""


@hookspec
def zoo_register_losses(register: RegisterLoss) -> None:
    """Call ``register(LossSpec(...))`` once for every loss; recipes refer to it by name."""


@hookspec
def zoo_register_metrics(register: RegisterMetric) -> None:
    """Call ``register(MetricSpec(...))`` once for every metric; it appears in tables and result files."""


@hookspec
def zoo_register_risk_models(register: RegisterRiskModel) -> None:
    """Call ``register(RiskModelSpec(...))`` once for every risk model of ``zoo risk compare`` and ``zoo risk map``."""


@hookspec(
    warn_on_impl=FutureWarning(
        "the hook zoo_register_comparators is now called zoo_register_risk_models, and ComparatorSpec RiskModelSpec; "
        "the old names will be removed in release 0.3"
    )
)
def zoo_register_comparators(register: RegisterRiskModel) -> None:
    """Old name of ``zoo_register_risk_models``."""


@hookspec
def zoo_register_weights(register: RegisterWeights) -> None:
    """Call ``register(WeightsSpec(...))`` once for every bundle; its name works wherever a bundle folder does."""


@hookspec
def zoo_register_exporters(register: RegisterExporter) -> None:
    """Call ``register(ExporterSpec(...))`` once for every format of ``zoo export``."""


@hookspec
def zoo_register_report_sections(register: RegisterReportSection) -> None:
    """Call ``register(ReportSectionSpec(...))`` once for every section of the HTML report."""


@hookspec
def zoo_register_commands(app: CommandGroup) -> None:
    """Add commands to ``app``, the ``click.Group`` behind ``zoo``; import heavy modules inside them."""
