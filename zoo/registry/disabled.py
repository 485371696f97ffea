"""Plugins that the user disabled, kept in ``plugins.json`` of the folder of settings (``$ZOO_CONFIG``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.files import config_folder


@dataclass(frozen=True)
class PluginSettings:
    """Layout of ``plugins.json``.

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
    if not path.exists():
        return frozenset()
    from zoo.schema import read_json

    hint = "Delete the file to enable all plugins"
    return frozenset(read_json(path, PluginSettings, what="list of disabled plugins", hint=hint).disabled)


def write_disabled(names: frozenset[str]) -> None:
    """Replace the names of the disabled plugins.

    Raises:
        ZooError: if the file cannot be written.
    """
    from zoo.schema import write_json

    write_json(settings_file(), PluginSettings(tuple(sorted(names))))
