"""Load plugins one at a time, so that a broken plugin affects nothing else.

pluggy's ``load_setuptools_entrypoints`` stops at the first plugin that raises, and a hook implementation that raises
aborts the call for all plugins. Here every distribution is read, every entry point is imported and every hook is called
in its own ``try``, and all entries of a failing plugin are removed.

Plugins still run in this process: a plugin that ends or crashes it or blocks the interpreter cannot be isolated.
``ZOO_PLUGINS=none`` skips all plugins.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from importlib.metadata import Distribution, EntryPoint, distributions, packages_distributions
from pathlib import Path

import pluggy

from zoo.errors import PluginError, UnknownNameError, one_line, suggestion
from zoo.files import config_folder, is_file, redirected
from zoo.registry import hookspecs
from zoo.registry.catalogue import Catalogue, Provider

OWN_DISTRIBUTION = "landslide-zoo"
SLOW_S = 2.0
"""Seconds after which a slow plugin is named on standard error while it loads."""

_HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("zoo_register_"))
_MARK = f"{hookspecs.PROJECT}_impl"
_ENTRY = re.compile(r"\s*([^=\s][^=]*?)\s*=\s*([A-Za-z_][\w.]*(?:\s*:\s*[A-Za-z_][\w.]*)?)\s*(?:\[[^\]]*\])?\s*")


@dataclass(frozen=True)
class PluginReport:
    """The state of one plugin.

    Attributes:
        name: distribution and entry point, such as ``zoo-example`` or ``zoo-example/extras``.
        version: version of the distribution.
        module: module that the entry point imports.
        status: ``loaded``, ``failed``, ``skipped`` (left out by ``ZOO_PLUGINS``) or ``disabled`` (by the user).
        error: reason of the failure, in one line; empty unless it failed.
        trace: traceback of the failure, for the author.
        provides: registered names by kind.
        distribution: name of the distribution.
    """

    name: str
    version: str
    module: str
    status: str
    error: str = ""
    trace: str = ""
    provides: dict[str, list[str]] = field(default_factory=dict)
    distribution: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain JSON values."""
        return dict(vars(self))


@dataclass(frozen=True)
class _Installed:
    """A distribution with entry points for zoo; ``error`` is the reason why they cannot be read."""

    name: str
    version: str
    points: tuple[EntryPoint, ...] = ()
    error: str = ""


class PluginLoader:
    """Loader that loads every entry point of the group ``zoo`` once, and holds the catalogue and the reports.

    Args:
        selected: plugins to load in addition to the built-in ones, by distribution or entry-point name; ``None`` for
            all.
        strict: raise at the first failure instead of reporting it.
        disabled: plugins that are not loaded.
    """

    def __init__(
        self, selected: frozenset[str] | None = None, *, strict: bool = False, disabled: frozenset[str] = frozenset()
    ) -> None:
        self.catalogue = Catalogue(self.explain_missing)
        self.reports: list[PluginReport] = []
        self._selected = selected
        self._strict = strict
        self._disabled = disabled
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._modules: dict[str, object] = {}

    @classmethod
    def from_environment(cls) -> PluginLoader:
        """Return a loader configured by ``ZOO_PLUGINS`` (``a,b`` or ``none``) and ``ZOO_STRICT_PLUGINS`` (``1``).

        Plugins that the user disabled are left out, unless ``ZOO_PLUGINS`` names them.
        """
        chosen = os.environ.get("ZOO_PLUGINS")
        selected = None
        if chosen is not None and chosen.strip():
            names = {name.strip() for name in chosen.split(",") if name.strip()}
            selected = frozenset() if names == {"none"} else frozenset(names)
        strict = os.environ.get("ZOO_STRICT_PLUGINS", "") not in ("", "0")
        return cls(selected, strict=strict, disabled=disabled_plugins() if selected is None else frozenset())

    def load(self) -> None:
        """Load all plugins, the built-in ones first and the others sorted by name.

        Raises:
            PluginError: in strict mode, for the first plugin that fails.
            UnknownNameError: if ``ZOO_PLUGINS`` names a plugin that is not installed.
        """
        found = sorted(_installed(), key=lambda one: (one.name != OWN_DISTRIBUTION, one.name))
        seen: set[str] = set()
        for installed in found:
            own = installed.name == OWN_DISTRIBUTION
            seen.add(installed.name)
            if installed.error:
                self._report(installed, installed.name, "")
                if left_out := self._exclusion_status(installed.name):
                    self._update_report(installed.name, status=left_out)
                else:
                    self._fail(installed.name, PluginError(installed.error))
            for point in installed.points:
                several = own or len(installed.points) > 1
                name = f"{installed.name}/{point.name}" if several else installed.name
                seen |= {name, point.name}
                self._report(installed, name, point.value)
                left_out = "" if own else self._exclusion_status(name, installed.name, point.name)
                if left_out:
                    self._update_report(name, status=left_out)
                else:
                    with _watch_loading(name, quiet=own):
                        self._load_one(name, point)
        for name in sorted((self._selected or frozenset()) - seen):
            names = {installed.name for installed in found} - {OWN_DISTRIBUTION}
            raise UnknownNameError("plugin", name, names, where="ZOO_PLUGINS")

    def register_commands(self, app: hookspecs.CommandGroup) -> None:
        """Let every loaded plugin add its commands to ``app``; a plugin that fails leaves ``app`` unchanged."""
        for name, module in list(self._modules.items()):
            commands = app.commands
            before = dict(commands)
            try:
                with _watch_loading(name, quiet=name.startswith(f"{OWN_DISTRIBUTION}/")):
                    self._call("zoo_register_commands", module, app=app)
                taken = [command for command in before if app.commands.get(command) is not before[command]]
                if taken:
                    raise PluginError(f"command {taken[0]!r} is already there", where=name)
                wrong = [command for command, value in app.commands.items() if not hasattr(value, "make_context")]
                if wrong:
                    raise PluginError(f"{wrong[0]!r} is not a click command", where=name)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                app.commands = commands
                commands.clear()
                commands.update(before)
                self._discard(name)
                self._fail(name, error)
            else:
                added = sorted(set(app.commands) - set(before))
                if added:
                    self._update_report(name, provides={**self._report_of(name).provides, "commands": added})

    def provider(self, plugin: str) -> Provider:
        """Return the distribution and version of a plugin."""
        for report in self.reports:
            if report.name == plugin:
                return Provider(plugin, report.distribution, report.version)
        return Provider(plugin)

    def owner(self, modules: Iterable[str]) -> Provider | None:
        """Return the plugin of the first module that belongs to a plugin; ``None`` if no module does.

        The modules of a plugin are those in the packages of its entry point and of its registered targets, unless
        another distribution installed them.
        """
        own = {report.name for report in self.reports if report.distribution == OWN_DISTRIBUTION}
        places = [(report.module, report.name) for report in self.reports if report.name in self._modules]
        for table in self.catalogue.tables().values():
            places += [(getattr(spec, "target", ""), table.provider(spec.name)) for spec in table.match()]
        owners = {re.split(r"[.:]", place)[0]: self.provider(name) for place, name in places if name not in own}
        names = [module.partition(".")[0] for module in modules]
        if not owners.keys() & set(names):
            return None
        installed = packages_distributions()
        for name in names:
            provider = owners.get(name)
            if provider is not None and (name not in installed or provider.distribution in installed[name]):
                return provider
        return None

    def explain_missing(self) -> str:
        """Return why a name may be missing: plugins that failed or were skipped. Empty if there are none."""
        failed = [report for report in self.reports if report.status == "failed"]
        if failed:
            which = f"Plugin {failed[0].name!r}, which may provide it, failed: {failed[0].error}"
            return which if len(failed) == 1 else f"{which} ({len(failed) - 1} more failed: zoo plugins)"
        skipped = [report.name for report in self.reports if report.status == "skipped"]
        if skipped:
            return f"ZOO_PLUGINS leaves out {', '.join(skipped)}"
        disabled = [report.name for report in self.reports if report.status == "disabled"]
        return f"Disabled: {', '.join(disabled)} (zoo plugins enable {disabled[0]})" if disabled else ""

    def _exclusion_status(self, *names: str) -> str:
        """Return the status of a plugin that is not loaded; empty for one that is."""
        if self._disabled.intersection(names):
            return "disabled"
        return "" if self._selected is None or self._selected.intersection(names) else "skipped"

    def _load_one(self, name: str, point: EntryPoint) -> None:
        try:
            module: object = point.load()
            _check_hooks(module)
            if self._manager.is_registered(module):
                other = self._manager.get_name(module)
                raise PluginError(f"the entry point names the module of {other!r}", hint="Remove one of the two")
            self._manager.register(module, name)
            self._manager.check_pending()
            for plural, table in self.catalogue.tables().items():
                self._call(f"zoo_register_{plural}", module, register=lambda spec, table=table: table.add(spec, name))
            self._call(
                "zoo_register_comparators", module, register=lambda spec: self.catalogue.risk_models.add(spec, name)
            )
        except KeyboardInterrupt:
            sys.stderr.write(f"\ninterrupted while loading plugin {name!r}\n")
            raise
        except BaseException as error:
            self._discard(name)
            self._fail(name, error)
        else:
            self._modules[name] = module
            provided = {plural: table.of(name) for plural, table in self.catalogue.tables().items()}
            self._update_report(name, provides={plural: names for plural, names in provided.items() if names})

    def _discard(self, name: str) -> None:
        """Remove all entries of a plugin."""
        self.catalogue.discard(name)
        self._modules.pop(name, None)
        if self._manager.has_plugin(name):
            self._manager.unregister(name=name)

    def _call(self, hook: str, module: object, **arguments: object) -> None:
        others = [plugin for plugin in self._manager.get_plugins() if plugin is not module]
        for found in self._manager.subset_hook_caller(hook, others)(**arguments):
            # A returned list of specs, or the coroutine of an async hook, would not be registered.
            getattr(found, "close", str)()
            raise PluginError(
                f"hook {hook!r} returned a {type(found).__name__}, which is not used",
                hint="Call the argument of the hook with each spec, in a plain function",
            )

    def _fail(self, name: str, error: BaseException) -> None:
        if self._strict:
            raise PluginError(f"plugin failed: {one_line(error)}", where=name) from error
        trace = "".join(traceback.format_exception(error))
        self._update_report(name, status="failed", error=one_line(error), trace=trace, provides={})

    def _report(self, installed: _Installed, name: str, module: str) -> None:
        self.reports.append(PluginReport(name, installed.version, module, "loaded", distribution=installed.name))

    def _report_of(self, name: str) -> PluginReport:
        return next(report for report in self.reports if report.name == name)

    def _update_report(self, name: str, **changes: object) -> None:
        index = self.reports.index(self._report_of(name))
        self.reports[index] = replace(self.reports[index], **changes)  # type: ignore[arg-type]


def _check_hooks(module: object) -> None:
    """Check that a plugin's hooks are marked and have known names, and that its interface version is ours or older.

    Raises:
        PluginError: if a check fails.
    """
    wanted = getattr(module, "ZOO_API_VERSION", hookspecs.API_VERSION)
    if not isinstance(wanted, int):
        raise PluginError(f"ZOO_API_VERSION must be an integer, not {wanted!r}")
    if wanted > hookspecs.API_VERSION:
        raise PluginError(
            f"the plugin needs interface version {wanted}, and this zoo has version {hookspecs.API_VERSION}",
            hint="Upgrade landslide-zoo",
        )
    values = {name: getattr(module, name, None) for name in dir(module)}
    hooks = [name for name, value in values.items() if name.startswith("zoo_register_") and callable(value)]
    for name in hooks:
        if name not in _HOOKS:
            raise PluginError(f"unknown hook {name!r}", hint=suggestion(name, _HOOKS))
        if not hasattr(values[name], _MARK):
            raise PluginError(f"hook {name!r} is not marked", hint="Put @hookimpl of zoo.registry above it")
    if not hooks and not any(hasattr(value, _MARK) for value in values.values()):
        raise PluginError("the module has no hook", hint="Write zoo_register_models, or see docs/tutorials/plugin.md")


@contextmanager
def _watch_loading(name: str, *, quiet: bool) -> Iterator[None]:
    """Redirect the output of a plugin to standard error, and name the plugin there if it takes long."""
    if quiet:
        yield
        return
    notice = f"plugin {name!r} is still loading after {SLOW_S:g} s; Ctrl-C stops, ZOO_PLUGINS=none leaves it out\n"
    timer = threading.Timer(SLOW_S, sys.stderr.write, [notice])
    timer.daemon = True
    timer.start()
    try:
        with redirect_stdout(sys.stderr), redirected(2, 1):
            yield
    finally:
        timer.cancel()


def _installed() -> Iterator[_Installed]:
    """Yield every distribution with entry points for zoo; the first of each name wins, as in ``importlib.metadata``."""
    seen: set[str] = set()
    for distribution in distributions():
        error = ""
        text = ""
        try:
            text = distribution.read_text("entry_points.txt") or ""
        except Exception as reason:  # not UTF-8, a broken archive, or a third-party finder that fails
            error = f"entry_points.txt cannot be read ({one_line(reason)})"
            text = _raw_entry_points(distribution)
        if "[zoo" not in text:
            continue
        name, version = _name_and_version(distribution)
        key = re.sub(r"[-_.]+", "-", name).casefold()
        if key in seen:
            continue
        seen.add(key)
        points: tuple[EntryPoint, ...] = ()
        if not error:
            try:
                points = tuple(_parse(text.splitlines(), distribution))
            except PluginError as reason:
                error = str(reason)
        yield _Installed(name, version, tuple(sorted(points, key=lambda point: point.name)), error)


def _parse(lines: Iterable[str], distribution: Distribution) -> Iterator[EntryPoint]:
    """Yield the entry points of the group ``zoo``.

    Raises:
        PluginError: for a line that is not an entry point.
    """
    section = ""
    names: set[str] = set()
    for line in lines:
        text = line.strip()
        if not text or text.startswith(("#", ";")):
            continue
        if text.startswith("["):
            if not text.endswith("]"):
                raise PluginError(f"entry_points.txt is malformed at {text[:80]!r}", hint="Reinstall the plugin")
            section = text[1:-1].strip()
        elif section == hookspecs.PROJECT:
            found = _ENTRY.fullmatch(text)
            if found is None:
                raise PluginError(f"entry_points.txt is malformed at {text[:80]!r}", hint="Reinstall the plugin")
            point = EntryPoint(found.group(1), found.group(2), hookspecs.PROJECT)
            if point.name in names:
                raise PluginError(f"two entry points are called {point.name!r}", hint="Rename one, or remove it")
            names.add(point.name)
            yield _with_distribution(point, distribution)


def _with_distribution(point: EntryPoint, distribution: Distribution) -> EntryPoint:
    vars(point).update(dist=distribution)
    return point


def _raw_entry_points(distribution: Distribution) -> str:
    try:
        content: bytes = distribution._path.joinpath("entry_points.txt").read_bytes()  # type: ignore[attr-defined]
    except Exception:
        return ""
    return content.decode("latin-1")


def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    """Return name and version, from the name of the folder if METADATA is missing or damaged."""
    name = version = None
    try:
        metadata = distribution.metadata
        name, version = metadata["Name"], metadata["Version"]
    except Exception:  # METADATA is missing, empty or not UTF-8
        pass
    found = re.match(r"(.+?)-([^-]+)(?:-.*)?\.(?:dist|egg)-info$", _folder(distribution))
    if found is not None:
        name, version = name or found.group(1).replace("_", "-"), version or found.group(2)
    return str(name or "unknown"), str(version or "")


def _folder(distribution: Distribution) -> str:
    path: object = getattr(distribution, "_path", "")
    return Path(str(path)).name


@dataclass(frozen=True)
class PluginSettings:
    """Contents of ``plugins.json`` in the configuration folder (``$ZOO_CONFIG``).

    Attributes:
        disabled: names of plugins that are not loaded, as ``zoo plugins`` lists them.
    """

    disabled: tuple[str, ...] = ()


def settings_file() -> Path:
    """Return the path of ``plugins.json``."""
    return config_folder() / "plugins.json"


def disabled_plugins() -> frozenset[str]:
    """Return the names of the disabled plugins.

    Raises:
        ResultError: if the file is damaged.
    """
    path = settings_file()
    if not is_file(path):  # also if the home folder belongs to another user
        return frozenset()
    from zoo.schema import read_json

    hint = "Delete the file to enable all plugins"
    return frozenset(read_json(path, PluginSettings, what="list of disabled plugins", hint=hint).disabled)


def write_disabled(names: frozenset[str]) -> None:
    """Write the names of the disabled plugins, replacing earlier ones.

    Raises:
        ZooError: if the file cannot be written.
    """
    from zoo.schema import write_json

    write_json(settings_file(), PluginSettings(tuple(sorted(names))))
