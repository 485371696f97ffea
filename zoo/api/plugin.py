"""Writing a new plugin from a template."""

from __future__ import annotations

import os
import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Literal, TypeAlias, get_args

from zoo.errors import ConfigError, UnknownNameError
from zoo.files import write_text_atomic

PluginKind: TypeAlias = Literal["model", "dataset", "loss", "metric", "risk-model", "command", "exporter", "weights"]
KINDS: tuple[str, ...] = get_args(PluginKind)

_TRY = {
    "model": "zoo check {0} && zoo bench --models unet,{0} --steps 5",
    "dataset": "zoo bench --models unet --data {0} --steps 5",
    "loss": "zoo bench --models unet --loss {0} --steps 5",
    "metric": "zoo bench --models unet --steps 5",
    "risk-model": "zoo risk compare table.csv --models {0}",
    "command": "zoo {0} world",
    "exporter": "zoo export unet --to {0} --out unet.{1}",
    "weights": "zoo weights",
}


def new_plugin(name: str, kind: PluginKind = "model", out: str | os.PathLike[str] | None = None) -> Path:
    """Write a complete plugin: pyproject.toml, one file to edit, tests, README and a CI file.

    Args:
        name: name of the distribution, such as ``zoo-my-net``; the registered name is ``my_net``.
        kind: what the plugin adds.
        out: folder to write; ``None`` for a folder of the plugin's name. It must not exist.

    Returns:
        The folder.

    Raises:
        UnknownNameError: if there is no such kind.
        ConfigError: if the name is not valid, or the folder exists.

    >>> import zoo
    >>> zoo.new_plugin("zoo-my-net", "model")                                # doctest: +SKIP
    PosixPath('zoo-my-net')
    """
    if kind not in KINDS:
        raise UnknownNameError("kind of plugin", kind, KINDS)
    if not re.fullmatch(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*", name):
        hint = "Use lower-case letters, digits and '-', as in zoo-my-net"
        raise ConfigError(f"{name!r} is not a valid name for a plugin", hint=hint)
    folder = Path(name if out is None else out)
    if folder.exists():
        raise ConfigError("already exists", where=folder, hint="Name another folder with --out")
    module = name.replace("-", "_")
    entry = module.removeprefix("zoo_")
    suffix = entry.replace("_", "")
    values = {"name": name, "module": module, "entry": entry, "kind": kind, "suffix": suffix}
    values["try_it"] = _TRY[kind].format(entry, suffix)
    for part in ("common", kind):
        text = files("zoo.api").joinpath("plugin_template", f"{part}.txt").read_text(encoding="utf-8")
        for section in text.split("=== ")[1:]:
            place, _, content = section.partition("\n")
            path = folder / Template(place.strip()).substitute(values)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomic(path, Template(content).substitute(values))
    return folder
