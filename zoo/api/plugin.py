"""Write a new plugin from a template, and find the entries that a plugin registered."""

from __future__ import annotations

import os
import re
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from string import Template
from typing import Any, Literal, TypeAlias, get_args

from zoo.errors import ConfigError, PluginError, UnknownNameError
from zoo.files import unwritable, working_folder, write_text_atomic
from zoo.registry import catalogue, plugin_reports
from zoo.registry.plugins import OWN_DISTRIBUTION
from zoo.registry.specs import Spec
from zoo.schema import read_toml

PluginKind: TypeAlias = Literal["model", "dataset", "loss", "metric", "risk-model", "command", "exporter", "weights"]
KINDS: tuple[str, ...] = get_args(PluginKind)
MAX_NAME = 60
"""Maximum length of the name of a plugin in characters."""

_CHECK = "zoo check $entry\n"
_BENCH = "zoo bench --models unet --steps 5 --crop 32 --no-speed"
_TRAIN = "zoo train unet --steps 5 --crop 32 --no-speed --out runs/unet\n"
_README = {
    "model": ("A model", "network.py", f"zoo models '$entry'\n{_CHECK}{_BENCH.replace('unet', 'unet,$entry')}"),
    "dataset": ("A data set", "data.py", f"zoo datasets '$entry'\n{_CHECK}{_BENCH} --data $entry"),
    "loss": ("A loss", "loss.py", f"{_CHECK}{_BENCH} --loss $entry"),
    "metric": ("A metric", "metric.py", f"{_CHECK}{_BENCH}"),
    "risk-model": (
        "A risk model",
        "classifier.py",
        f"{_CHECK}zoo risk compare table.csv --label landslide --models $entry --cv random  # any table of places",
    ),
    "command": ("A command", "command.py", "zoo $entry world"),
    "exporter": (
        "A format of exported models",
        "files.py",
        f"{_TRAIN}zoo export runs/unet --to $entry --out unet.$suffix",
    ),
    "weights": (
        "Trained weights",
        "__init__.py",
        f"{_TRAIN}cp runs/unet/bundle.json runs/unet/model.safetensors src/$module/bundle/\nzoo weights '$entry/*'",
    ),
}
"""For each kind: its name in README and metadata, the file to edit, and the commands between installation and tests."""


def new_plugin(name: str, kind: PluginKind = "model", out: str | os.PathLike[str] | None = None) -> Path:
    """Write a complete plugin: pyproject.toml, one file to edit, tests, README, licence and a CI file.

    Args:
        name: name of the distribution, such as ``zoo-my-net``; the registered name is ``my_net``.
        kind: what the plugin adds.
        out: folder to write; ``None`` for a folder of the plugin's name. It must not exist.

    Returns:
        The folder.

    Raises:
        UnknownNameError: if there is no such kind.
        ConfigError: if the name is not valid, is that of an installed package or of a registered entry, or the folder
            exists.
        ZooError: if the folder cannot be written.

    >>> import zoo
    >>> zoo.new_plugin("zoo-my-net", "model")                                # doctest: +SKIP
    PosixPath('zoo-my-net')
    """
    if kind not in KINDS:
        raise UnknownNameError("kind of plugin", kind, KINDS)
    module = name.replace("-", "_")
    entry = module.removeprefix("zoo_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*", name) or len(name) > MAX_NAME or iskeyword(module):
        hint = f"Use up to {MAX_NAME} lower-case letters, digits and '-', as in zoo-my-net"
        raise ConfigError(f"{name!r} is not a valid name for a plugin", hint=hint)
    if _is_installed(name, module):
        hint = "Choose another name, such as zoo-my-net"
        raise ConfigError(f"{name!r} is the name of an installed package", hint=hint)
    table = catalogue().tables().get({"loss": "losses"}.get(kind, f"{kind.replace('-', '_')}s"))
    if table is not None and entry in table:
        problem = f"{table.provider(entry)} already registers the {table.kind} {entry!r}"
        raise ConfigError(problem, hint="Choose another name: the plugin registers its name without zoo-")
    folder = Path(name if out is None else out)
    if os.path.lexists(folder):
        raise ConfigError("already exists", where=folder, hint="Name another folder with --out")
    what, edited, commands = _README[kind]
    registered = f"{entry}/my-region" if kind == "weights" else entry
    values = {"name": name, "module": module, "entry": entry, "suffix": entry.replace("_", ""), "what": what}
    values |= {"registered": registered, "edited": edited, "commands": Template(commands).substitute(values)}
    with working_folder(folder) as temporary:
        plugin = temporary / "plugin"
        for part in ("common", kind):
            text = files("zoo.api").joinpath("plugin_template", f"{part}.txt").read_text(encoding="utf-8")
            for section in text.split("=== ")[1:]:
                place, _, content = section.partition("\n")
                write_text_atomic(
                    plugin / Template(place.strip()).substitute(values), Template(content).substitute(values)
                )
        # Installers store the licence of zoo with its metadata; the plugin gets a copy.
        licence = distribution(OWN_DISTRIBUTION).read_text("licenses/LICENSE")
        write_text_atomic(plugin / "LICENSE", licence or "Apache-2.0, https://www.apache.org/licenses/LICENSE-2.0\n")
        try:
            plugin.rename(folder)
        except OSError as error:
            raise unwritable(folder, error) from error
    return folder


def _is_installed(name: str, module: str) -> bool:
    """Return whether there is a distribution or an importable module of this name, which the plugin would hide."""
    try:
        distribution(name)
    except PackageNotFoundError:
        found = find_spec(module)
        return found is not None and found.origin is not None
    return True


def specs_to_check(name: str) -> tuple[list[Spec], dict[str, Any]]:
    """Return what ``zoo check NAME|FOLDER`` checks, and the options that the name implies.

    Args:
        name: a registered name, the name of a plugin or the folder of its ``pyproject.toml``, or a folder of images and
            masks; the first match is used.

    Raises:
        UnknownNameError: if it is none of these.
        ConfigError: if the name is a file, or the plugin of the folder is not installed or registers nothing that has a
            contract.
        PluginError: if the plugin failed or is disabled.
    """
    found, plugin = catalogue(), name
    try:
        return [found.find(name)], {}
    except UnknownNameError:
        project = Path(name, "pyproject.toml")
        if project.is_file():
            table: object = read_toml(project).get("project")
            plugin = str(table.get("name", name)) if isinstance(table, dict) else name
        reports = [report for report in plugin_reports() if plugin in (report.name, report.distribution)]
        if not reports and project.is_file():
            hint = f"pip install --editable {name}"
            raise ConfigError(f"the plugin {plugin!r} is not installed", where=name, hint=hint) from None
        if not reports and Path(name).is_dir():
            return [found.datasets.get("folder")], {"root": name}
        if not reports and Path(name).is_file():
            hint = "Name the folder of the plugin's pyproject.toml"
            raise ConfigError("is a file, not a name or a folder", where=name, hint=hint) from None
        if not reports:
            raise
    for report in reports:
        if report.status != "loaded":
            raise PluginError(report.error or f"the plugin is {report.status}", where=report.name)
    specs = [spec for report in reports for spec in found.tested(report.name)]
    if not specs:
        families = [model for report in reports for model in report.provides.get("models", ())]
        hint = f"Name one model of {', '.join(families)}" if families else "zoo plugins shows what it registers"
        raise ConfigError("registers nothing that zoo check tests", where=plugin, hint=hint)
    return specs, {}
