"""Tables of everything that is registered, with the plugin that provides it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Generic, TypeAlias, TypeVar

from zoo.errors import PluginError, UnknownNameError
from zoo.registry.specs import DatasetSpec, Entry, LossSpec, MetricSpec, ModelSpec, RiskModelSpec, WeightsSpec

SpecT = TypeVar("SpecT", bound=Entry)


@dataclass(frozen=True)
class Provider:
    """The plugin that registered something. Results and bundles record it, so that a reader knows what to install.

    Attributes:
        plugin: name of the plugin, as ``zoo plugins`` lists it.
        distribution: name of its distribution; empty for what this session registered.
        version: version of the distribution.
    """

    plugin: str
    distribution: str = ""
    version: str = ""


class Table(Generic[SpecT]):
    """Specs of one kind by name, each with the plugin that provides it.

    Args:
        kind: the kind in words, such as ``data set``.
        spec_type: type of the specs.
        explain_missing: returns why a name may be missing, or an empty string.
    """

    def __init__(self, kind: str, spec_type: type[SpecT], explain_missing: Callable[[], str] = str) -> None:
        self.kind = kind
        self.spec_type = spec_type
        self._explain_missing = explain_missing
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
        """Return the spec called ``name``.

        Raises:
            UnknownNameError: with the nearest names, and the plugins that failed and may provide it.
        """
        try:
            return self._specs[name]
        except KeyError:
            error = UnknownNameError(self.kind, name, self._specs)
            reason = self._explain_missing()
            if reason:
                error.hint = f"{error.hint} {reason}" if (error.hint or "").endswith("?") else reason
            raise error from None

    def provider(self, name: str) -> str:
        """Return the name of the plugin that registered ``name``."""
        return self._providers[self.get(name).name]

    def match(self, pattern: str | None = None) -> list[SpecT]:
        """Return all specs, or those whose name matches a shell pattern such as ``*unet*``, sorted by name."""
        names = sorted(self._specs)
        if pattern is not None:
            names = [name for name in names if fnmatchcase(name, pattern)]
        return [self._specs[name] for name in names]

    def of(self, provider: str) -> list[str]:
        """Return the names that ``provider`` registered."""
        return sorted(name for name, owner in self._providers.items() if owner == provider)

    def discard(self, provider: str) -> None:
        """Remove everything that ``provider`` registered."""
        for name in self.of(provider):
            self.remove(name)

    def remove(self, name: str) -> None:
        """Remove the spec called ``name``."""
        del self._specs[name], self._providers[name]

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._specs))

    def __len__(self) -> int:
        return len(self._specs)


AnyTable: TypeAlias = (
    "Table[ModelSpec] | Table[DatasetSpec] | Table[LossSpec] | Table[MetricSpec] | Table[RiskModelSpec] "
    "| Table[WeightsSpec]"
)


class Catalogue:
    """Everything that the loaded plugins registered.

    Args:
        explain_missing: returns why a name may be missing, or an empty string.
    """

    def __init__(self, explain_missing: Callable[[], str] = str) -> None:
        self.explain_missing = explain_missing
        self.models = Table("model", ModelSpec, explain_missing)
        self.datasets = Table("data set", DatasetSpec, explain_missing)
        self.losses = Table("loss", LossSpec, explain_missing)
        self.metrics = Table("metric", MetricSpec, explain_missing)
        self.risk_models = Table("risk model", RiskModelSpec, explain_missing)
        self.weights = Table("weights", WeightsSpec, explain_missing)

    def tables(self) -> dict[str, AnyTable]:
        """Return the tables by the plural that hooks and listings use."""
        return {
            "models": self.models,
            "datasets": self.datasets,
            "losses": self.losses,
            "metrics": self.metrics,
            "risk_models": self.risk_models,
            "weights": self.weights,
        }

    def discard(self, provider: str) -> None:
        """Remove everything that ``provider`` registered, of every kind."""
        for table in self.tables().values():
            table.discard(provider)
