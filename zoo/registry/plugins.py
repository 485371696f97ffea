"""Finding and loading plugins, one at a time, so that a broken one hurts nobody but itself.

pluggy's own ``load_setuptools_entrypoints`` stops at the first plugin that raises, and one raising hook
implementation aborts the call for all of them. Here every entry point is imported in its own ``try``, every hook
is called for one plugin alone, and whatever a failing plugin had registered is taken back.
"""

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from itertools import groupby

import pluggy

from zoo.errors import PluginError, UnknownNameError
from zoo.registry import hookspecs
from zoo.registry.catalogue import Catalogue

OWN_DISTRIBUTION = "landslide-zoo"


@dataclass(frozen=True)
class PluginReport:
    """What became of one plugin.

    Attributes:
        name: distribution and entry point, such as ``zoo-example`` or ``zoo-example/extras``.
        version: of the distribution.
        module: what the entry point imports.
        status: ``loaded``, ``failed`` or ``skipped`` (left out by ``ZOO_PLUGINS``).
        error: one line for the listing, empty unless it failed.
        trace: the whole traceback of a failure, for the author.
        provides: names registered, by kind.
    """

    name: str
    version: str
    module: str
    status: str
    error: str = ""
    trace: str = ""
    provides: dict[str, list[str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """The report as plain JSON values."""
        return dict(vars(self))


class PluginLoader:
    """Loads every entry point of the group ``zoo`` once and keeps the catalogue and the reports.

    Args:
        selected: plugins to load beside the built-in ones, by distribution or entry-point name; ``None`` for all.
        strict: raise at the first failure instead of reporting it.
    """

    def __init__(self, selected: frozenset[str] | None = None, *, strict: bool = False) -> None:
        self.catalogue = Catalogue()
        self.reports: list[PluginReport] = []
        self._selected = selected
        self._strict = strict
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._modules: dict[str, object] = {}

    @classmethod
    def from_environment(cls) -> PluginLoader:
        """A loader as ``ZOO_PLUGINS`` (``a,b`` or ``none``) and ``ZOO_STRICT_PLUGINS`` (``1``) ask for."""
        chosen = os.environ.get("ZOO_PLUGINS")
        selected = None
        if chosen is not None and chosen.strip():
            names = {name.strip() for name in chosen.split(",") if name.strip()}
            selected = frozenset() if names == {"none"} else frozenset(names)
        return cls(selected, strict=os.environ.get("ZOO_STRICT_PLUGINS", "") not in ("", "0"))

    def load(self) -> None:
        """Load all plugins, the built-in ones first and the others in the order of their names.

        Raises:
            PluginError: in strict mode, for the first plugin that fails.
            UnknownNameError: if ``ZOO_PLUGINS`` names a plugin that is not installed.
        """
        found = sorted(entry_points(group=hookspecs.PROJECT), key=_load_order)
        seen: set[str] = set()
        for distribution, points in groupby(found, key=_distribution):
            several = list(points)
            for point in several:
                own = distribution == OWN_DISTRIBUTION
                name = f"{distribution}/{point.name}" if own or len(several) > 1 else distribution
                seen |= {name, distribution, point.name}
                if own or self._selected is None or self._selected & {name, distribution, point.name}:
                    self._load_one(name, point)
                else:
                    self.reports.append(_report(name, point, "skipped"))
        for name in sorted((self._selected or frozenset()) - seen):
            installed = {_distribution(point) for point in found} - {OWN_DISTRIBUTION}
            raise UnknownNameError("plugin", name, installed, where="ZOO_PLUGINS")

    def register_commands(self, app: hookspecs.CommandGroup) -> None:
        """Let every loaded plugin add its commands to ``app``; a plugin that fails leaves ``app`` as it was."""
        for name, module in list(self._modules.items()):
            before = dict(app.commands)
            try:
                self._call("zoo_register_commands", module, app=app)
                taken = [command for command in before if app.commands.get(command) is not before[command]]
                if taken:
                    raise PluginError(f"command {taken[0]!r} is already there", where=name)
            except Exception as error:
                app.commands.clear()
                app.commands.update(before)
                self._fail(name, error)
            else:
                added = sorted(set(app.commands) - set(before))
                if added:
                    self._amend(name, provides={**self._report_of(name).provides, "commands": added})

    def _load_one(self, name: str, point: EntryPoint) -> None:
        self.reports.append(_report(name, point, "loaded"))
        module: object | None = None
        try:
            module = point.load()
            self._manager.register(module, name)
            self._manager.check_pending()
            for plural, table in self.catalogue.tables().items():
                self._call(f"zoo_register_{plural}", module, register=lambda spec, table=table: table.add(spec, name))
            self._call(
                "zoo_register_comparators", module, register=lambda spec: self.catalogue.risk_models.add(spec, name)
            )
        except (Exception, SystemExit) as error:
            self.catalogue.discard(name)
            if module is not None and self._manager.is_registered(module):
                self._manager.unregister(module)
            self._fail(name, error)
        else:
            self._modules[name] = module
            provided = {plural: table.of(name) for plural, table in self.catalogue.tables().items()}
            self._amend(name, provides={plural: names for plural, names in provided.items() if names})

    def _call(self, hook: str, module: object, **arguments: object) -> None:
        others = [plugin for plugin in self._manager.get_plugins() if plugin is not module]
        self._manager.subset_hook_caller(hook, others)(**arguments)

    def _fail(self, name: str, error: BaseException) -> None:
        if self._strict:
            raise PluginError(f"plugin failed: {_one_line(error)}", where=name) from error
        trace = "".join(traceback.format_exception(error))
        self._amend(name, status="failed", error=_one_line(error), trace=trace, provides={})

    def _report_of(self, name: str) -> PluginReport:
        return next(report for report in self.reports if report.name == name)

    def _amend(self, name: str, **changes: object) -> None:
        index = self.reports.index(self._report_of(name))
        self.reports[index] = replace(self.reports[index], **changes)  # type: ignore[arg-type]


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module


def _load_order(point: EntryPoint) -> tuple[bool, str, str]:
    distribution = _distribution(point)
    return distribution != OWN_DISTRIBUTION, distribution, point.name


def _report(name: str, point: EntryPoint, status: str) -> PluginReport:
    version = point.dist.version if point.dist is not None else ""
    return PluginReport(name=name, version=version, module=point.value, status=status)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, PluginError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
