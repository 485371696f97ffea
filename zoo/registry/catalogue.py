"""Tables of all registered entries, with the plugin that provides each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

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
    Spec,
    WeightsSpec,
)

SpecT = TypeVar("SpecT", bound=Entry)
_RENAME = "Rename one of the two, or leave one plugin out with ZOO_PLUGINS"


@dataclass(frozen=True)
class Provider:
    """The plugin that registered an entry. Results and bundles record it, so that readers know what to install.

    Attributes:
        plugin: name of the plugin, as ``zoo plugins`` lists it.
        distribution: name of its distribution; empty for entries registered in this session.
        version: version of the distribution.
    """

    plugin: str
    distribution: str = ""
    version: str = ""

    def advice(self, made: str, register: str) -> str:
        """Return advice on what to do if the plugin is missing.

        Args:
            made: beginning of the sentence, such as ``The bundle was made with``.
            register: how to register an entry of a Python session again.
        """
        if not self.distribution:
            return f"{made} a Python session: {register}"
        wanted = self.distribution + (f"=={self.version}" if self.version else "")
        return f"{made} plugin {self.plugin}: pip install '{wanted}'"


class Table(Generic[SpecT]):
    """Specs of one kind by name, each with the plugin that provides it.

    Args:
        kind: name of the kind, such as ``data set``.
        spec_type: type of the specs.
        explain_missing: function that returns why a name may be missing, or an empty string.
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
            PluginError: if it is of another kind, or its name is taken; the message names both providers.
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
                hint=_RENAME,
            )
        self._specs[spec.name] = spec
        self._providers[spec.name] = provider

    def get(self, name: str) -> SpecT:
        """Return the spec called ``name``.

        Raises:
            UnknownNameError: if there is none; the message lists the nearest names, and failed plugins that may
                provide it.
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


class ListedModel(NamedTuple):
    """Row of a model in a listing; see :class:`ModelSpec`."""

    name: str
    parameters: int | None
    gmac: float | None
    summary: str
    provider: str


class ModelTable(Table[ModelSpec]):
    """Models by name, and families of models.

    Iteration and :meth:`match` give only individually registered models; :meth:`names` also gives those of families.
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
            PluginError: if it is neither, or its name is taken; the message names both providers.
        """
        if isinstance(spec, ModelFamilySpec):
            taken = self._families.get(spec.name)
            if taken is not None:
                raise PluginError(f"{spec.label} is already registered by {taken[1]}", where=provider, hint=_RENAME)
            for name in self._specs:
                _refuse_shadow(spec, name, provider, self._providers[name])
            self._families[spec.name] = (spec, provider)
            return
        if isinstance(spec, ModelSpec):
            for family, owner in self._families.values():
                _refuse_shadow(family, spec.name, provider, owner)
        super().add(spec, provider)

    def get(self, name: str) -> ModelSpec:
        """Return the spec of a model, which may belong to a family; see :meth:`Table.get`."""
        family, _ = self._family_of(name)
        if family is None:
            return super().get(name)
        if name not in family:
            raise UnknownNameError(self.kind, name, family.names())
        return family.model(name)

    def provider(self, name: str) -> str:
        """Return the name of the plugin that registered ``name`` or its family."""
        family, owner = self._family_of(name)
        return super().provider(name) if family is None or name not in family else owner

    def _family_of(self, name: str) -> tuple[ModelFamilySpec | None, str]:
        """Return the family with the longest prefix that matches a name, and the plugin that provides it."""
        if name in self._specs:
            return None, ""
        found = [pair for pair in self._families.values() if name == pair[0].name or name.startswith(pair[0].prefix)]
        return max(found, key=lambda pair: (name in pair[0], len(pair[0].prefix)), default=(None, ""))

    def names(self, pattern: str | None = None) -> list[str]:
        """Return the sorted names of all models, including those of families, that match a shell pattern.

        A family whose plugin cannot list it is skipped with a warning.
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

    def listed(self, names: Iterable[str]) -> Iterator[ListedModel]:
        """Yield the listing row of each named model, without creating thousands of specs."""
        for name in names:
            family, provider = self._family_of(name)
            if family is None:
                spec = self._specs[name]
                yield ListedModel(name, spec.parameters, spec.gmac, spec.summary, self._providers[name])
            else:
                try:
                    values = family.fields_of(name.removeprefix(family.prefix))
                except PluginError as error:
                    yield ListedModel(name, None, None, str(error), provider)
                    continue
                summary = values.get("summary", family.summary)
                yield ListedModel(name, values.get("parameters"), values.get("gmac"), summary, provider)

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
        if name in self._specs or not isinstance(name, str):
            return name in self._specs
        family, _ = self._family_of(name)
        return family is not None and name in family


def _refuse_shadow(family: ModelFamilySpec, name: str, provider: str, owner: str) -> None:
    """Check that a model does not have the name of a model of a family, whichever was registered first.

    Raises:
        PluginError: if it does; the message names both providers.
    """
    if name.startswith(family.prefix) and name in family:
        raise PluginError(f"model {name!r} is already registered by {owner}", where=provider, hint=_RENAME)


AnyTable: TypeAlias = (
    "ModelTable | Table[DatasetSpec] | Table[LossSpec] | Table[MetricSpec] | Table[RiskModelSpec] | Table[WeightsSpec] "
    "| Table[ExporterSpec] | Table[ReportSectionSpec]"
)


class Catalogue:
    """All entries that the loaded plugins registered.

    Args:
        explain_missing: function that returns why a name may be missing, or an empty string.
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
        """Return the tables by the plural name that hooks and listings use."""
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

    def find(self, name: str) -> Spec:
        """Return the model with this name, or otherwise the data set, loss, metric or risk model.

        Raises:
            UnknownNameError: if there is none; the message lists the nearest names of all kinds.
        """
        for table in self._tested():
            if name in table:
                found: Spec = table.get(name)
                return found
        if "/" in name:
            return self.models.get(name)  # its error lists models of the family
        error = UnknownNameError("name", name, [known for table in self._tested() for known in table])
        reason = self.explain_missing()
        error.hint = f"{error.hint} {reason}" if reason else error.hint
        raise error

    def tested(self, provider: str) -> list[Spec]:
        """Return the entries with a contract that ``provider`` registered, without models of families."""
        return [table.get(name) for table in self._tested() for name in table.of(provider) if name in table]

    def _tested(self) -> tuple[Table[Any], ...]:
        return (self.models, self.datasets, self.losses, self.metrics, self.risk_models)

    def discard(self, provider: str) -> None:
        """Remove everything that ``provider`` registered, of every kind."""
        for table in self.tables().values():
            table.discard(provider)
