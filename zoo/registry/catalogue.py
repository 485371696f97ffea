"""Tables of everything that is registered, with the plugin that provides it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Generic, TypeAlias, TypeVar

from zoo.errors import PluginError, UnknownNameError
from zoo.registry.families import ModelFamilySpec
from zoo.registry.specs import (
    DatasetSpec,
    Entry,
    ExporterSpec,
    LossSpec,
    MetricSpec,
    ModelSpec,
    ReportSectionSpec,
    RiskModelSpec,
    WeightsSpec,
)

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


class ModelTable(Table[ModelSpec]):
    """Models by name, and families of models.

    Iteration and :meth:`match` give the models that were registered one by one; :meth:`names` gives those of families
    too.
    """

    def __init__(self, explain_missing: Callable[[], str] = str) -> None:
        super().__init__("model", ModelSpec, explain_missing)
        self._families: dict[str, tuple[ModelFamilySpec, str]] = {}

    @property
    def families(self) -> list[tuple[ModelFamilySpec, str]]:
        """The families and the plugins that provide them, sorted by name."""
        return [self._families[name] for name in sorted(self._families)]

    def add(self, spec: ModelSpec | ModelFamilySpec, provider: str) -> None:
        """Add a model or a family.

        Raises:
            PluginError: if it is neither, or its name is taken; names both providers.
        """
        if not isinstance(spec, ModelFamilySpec):
            super().add(spec, provider)
        elif spec.name in self._families:
            owner = self._families[spec.name][1]
            raise PluginError(f"{spec.label} is already registered by {owner}", where=provider, hint="Rename one")
        else:
            self._families[spec.name] = (spec, provider)

    def get(self, name: str) -> ModelSpec:
        """Return the spec of a model, one of a family included; see :meth:`Table.get`."""
        if name not in self._specs:
            for family, _ in self._families.values():
                if name in family:
                    return family.model(name)
                if name == family.name or name.startswith(family.prefix):
                    raise UnknownNameError(self.kind, name, family.names())
        return super().get(name)

    def provider(self, name: str) -> str:
        """Return the name of the plugin that registered ``name`` or its family."""
        if name not in self._specs:
            for family, owner in self._families.values():
                if name in family:
                    return owner
        return super().provider(name)

    def names(self, pattern: str | None = None) -> list[str]:
        """Return the names of all models, those of families included, that match a shell pattern.

        A family whose plugin cannot list it is left out with a warning.
        """
        found = list(self._specs)
        for family, _ in self._families.values():
            try:
                found += family.names()
            except PluginError as error:
                warnings.warn(str(error), stacklevel=2)
        if pattern is not None:
            found = [name for name in found if fnmatchcase(name, pattern)]
        return sorted(found)

    def of(self, provider: str) -> list[str]:
        """Return the names that ``provider`` registered; a family is listed as its pattern."""
        families = [family.pattern for family, owner in self._families.values() if owner == provider]
        return sorted([*super().of(provider), *families])

    def remove(self, name: str) -> None:
        """Remove the model called ``name``, or the family with this pattern."""
        if name in self._specs:
            super().remove(name)
        else:
            del self._families[next(key for key, (family, _) in self._families.items() if family.pattern == name)]

    def __contains__(self, name: object) -> bool:
        if name in self._specs:
            return True
        return isinstance(name, str) and any(name in family for family, _ in self._families.values())


AnyTable: TypeAlias = (
    "ModelTable | Table[DatasetSpec] | Table[LossSpec] | Table[MetricSpec] | Table[RiskModelSpec] | Table[WeightsSpec] "
    "| Table[ExporterSpec] | Table[ReportSectionSpec]"
)


class Catalogue:
    """Everything that the loaded plugins registered.

    Args:
        explain_missing: returns why a name may be missing, or an empty string.
    """

    def __init__(self, explain_missing: Callable[[], str] = str) -> None:
        self.explain_missing = explain_missing
        self.models = ModelTable(explain_missing)
        self.datasets = Table("data set", DatasetSpec, explain_missing)
        self.losses = Table("loss", LossSpec, explain_missing)
        self.metrics = Table("metric", MetricSpec, explain_missing)
        self.risk_models = Table("risk model", RiskModelSpec, explain_missing)
        self.weights = Table("weights", WeightsSpec, explain_missing)
        self.exporters = Table("exporter", ExporterSpec, explain_missing)
        self.report_sections = Table("report section", ReportSectionSpec, explain_missing)

    def tables(self) -> dict[str, AnyTable]:
        """Return the tables by the plural that hooks and listings use."""
        return {
            "models": self.models,
            "datasets": self.datasets,
            "losses": self.losses,
            "metrics": self.metrics,
            "risk_models": self.risk_models,
            "weights": self.weights,
            "exporters": self.exporters,
            "report_sections": self.report_sections,
        }

    def discard(self, provider: str) -> None:
        """Remove everything that ``provider`` registered, of every kind."""
        for table in self.tables().values():
            table.discard(provider)
