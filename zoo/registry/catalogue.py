"""Tables of what is registered: who provided it, and what a misspelt name probably meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from zoo.errors import PluginError, UnknownNameError
from zoo.registry.specs import DatasetSpec, LossSpec, MetricSpec, ModelSpec, RiskModelSpec, Spec

SpecT = TypeVar("SpecT", bound=Spec)


class Table(Generic[SpecT]):
    """Specs of one kind by name, each with the plugin that provided it."""

    def __init__(self, kind: str, spec_type: type[SpecT]) -> None:
        self.kind = kind
        self.spec_type = spec_type
        self._specs: dict[str, SpecT] = {}
        self._providers: dict[str, str] = {}

    def add(self, spec: SpecT, provider: str) -> None:
        """Add ``spec``.

        Raises:
            PluginError: if it is of another kind, or its name is taken; names both providers.
        """
        if not isinstance(spec, self.spec_type):
            raise PluginError(
                f"registered {type(spec).__name__} {spec!r} as a {self.kind}",
                where=provider,
                hint=f"Register a {self.spec_type.__name__}",
            )
        if spec.name in self._specs:
            raise PluginError(
                f"{self.kind} {spec.name!r} is already registered by {self._providers[spec.name]}",
                where=provider,
                hint="Rename one of the two, or leave one plugin out with ZOO_PLUGINS",
            )
        self._specs[spec.name] = spec
        self._providers[spec.name] = provider

    def get(self, name: str) -> SpecT:
        """The spec called ``name``.

        Raises:
            UnknownNameError: with the nearest names.
        """
        try:
            return self._specs[name]
        except KeyError:
            raise UnknownNameError(self.kind, name, self._specs) from None

    def provider(self, name: str) -> str:
        """The plugin that registered ``name``."""
        return self._providers[self.get(name).name]

    def match(self, pattern: str | None = None) -> list[SpecT]:
        """All specs, or those whose name matches a shell pattern such as ``*unet*``, sorted by name."""
        names = sorted(self._specs)
        if pattern is not None:
            names = [name for name in names if fnmatchcase(name, pattern)]
        return [self._specs[name] for name in names]

    def of(self, provider: str) -> list[str]:
        """Names that ``provider`` registered."""
        return sorted(name for name, owner in self._providers.items() if owner == provider)

    def discard(self, provider: str) -> None:
        """Forget all that ``provider`` registered."""
        for name in self.of(provider):
            del self._specs[name], self._providers[name]

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._specs))

    def __len__(self) -> int:
        return len(self._specs)


@dataclass
class Catalogue:
    """Everything that the loaded plugins registered."""

    models: Table[ModelSpec] = field(default_factory=lambda: Table("model", ModelSpec))
    datasets: Table[DatasetSpec] = field(default_factory=lambda: Table("data set", DatasetSpec))
    losses: Table[LossSpec] = field(default_factory=lambda: Table("loss", LossSpec))
    metrics: Table[MetricSpec] = field(default_factory=lambda: Table("metric", MetricSpec))
    risk_models: Table[RiskModelSpec] = field(default_factory=lambda: Table("risk model", RiskModelSpec))

    def tables(
        self,
    ) -> dict[str, Table[ModelSpec] | Table[DatasetSpec] | Table[LossSpec] | Table[MetricSpec] | Table[RiskModelSpec]]:
        """The tables by the plural that hooks and listings use."""
        return {
            "models": self.models,
            "datasets": self.datasets,
            "losses": self.losses,
            "metrics": self.metrics,
            "risk_models": self.risk_models,
        }

    def discard(self, provider: str) -> None:
        """Forget all that ``provider`` registered, of every kind."""
        for table in self.tables().values():
            table.discard(provider)
