"""Plugins that the user disables stay out, in every process, until they are enabled."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import zoo
from zoo.errors import ConfigError, ResultError, UnknownNameError
from zoo.registry import plugin_reports, reload
from zoo.registry.plugins import disabled_plugins, settings_file

GOOD = """
    from zoo.registry import ModelSpec, hookimpl

    @hookimpl
    def zoo_register_models(register):
        register(ModelSpec(name="good_model", target="a:b", summary="s"))
"""


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Callable[[str, str], None]) -> Iterator[None]:
    monkeypatch.setenv("ZOO_CONFIG", str(tmp_path / "config"))
    install("zoo-good", GOOD)
    reload()
    yield
    reload()


def status(name: str = "zoo-good") -> str:
    return next(report.status for report in plugin_reports() if report.name == name)


def test_a_plugin_is_disabled_and_enabled() -> None:
    assert "good_model" in zoo.list_models()
    zoo.disable_plugin("zoo-good")
    assert (status(), disabled_plugins()) == ("disabled", {"zoo-good"})
    with pytest.raises(UnknownNameError, match=r"Disabled: zoo-good \(zoo plugins enable zoo-good\)"):
        zoo.create_model("good_model")
    zoo.enable_plugin("zoo-good")
    assert "good_model" in zoo.list_models()


def test_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'zoo-good'"):
        zoo.disable_plugin("zoo-god")
    with pytest.raises(ConfigError, match="a part of landslide-zoo cannot be disabled"):
        zoo.disable_plugin("landslide-zoo/models")
    with pytest.raises(UnknownNameError, match="unknown disabled plugin 'zoo-good'"):
        zoo.enable_plugin("zoo-good")


def test_the_error_for_a_damaged_file_states_what_to_do() -> None:
    settings_file().parent.mkdir()
    settings_file().write_text('{"disabled": "zoo-good"}')
    with pytest.raises(ResultError, match="Delete the file to enable all plugins"):
        disabled_plugins()


def test_the_command_works_across_processes(zoo: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    zoo("plugins", "disable", "zoo-good", check=True)
    listed = zoo("plugins", check=True).stdout
    assert "zoo-good 1.0" in listed
    assert "disabled" in listed
    assert "good_model" in zoo("models", ZOO_PLUGINS="zoo-good", check=True).stdout
    zoo("plugins", "enable", "zoo-good", check=True)
    assert "good_model" in zoo("models", check=True).stdout
    assert zoo("plugins", "disabel", "zoo-good").returncode == 2
