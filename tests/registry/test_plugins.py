"""Plugins are loaded one by one: a broken one is taken back whole, reported, and stops nothing."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from zoo.errors import PluginError, UnknownNameError
from zoo.registry import Provider, list_models, provider_of, reload
from zoo.registry.plugins import PluginLoader

Installer = Callable[[str, str], None]


def loaded(selected: frozenset[str] | None = None, *, strict: bool = False) -> PluginLoader:
    loader = PluginLoader(selected, strict=strict)
    loader.load()
    return loader


def status(loader: PluginLoader, name: str) -> tuple[str, str]:
    report = next(report for report in loader.reports if report.name == name)
    return report.status, report.error


METRIC = """
    from zoo.registry import LossSpec, MetricSpec, hookimpl

    @hookimpl
    def zoo_register_metrics(register):
        register(MetricSpec(name="missed", target="zoo_numbers:missed", summary="s", higher_is_better=False))

    @hookimpl
    def zoo_register_losses(register):
        register(LossSpec(name="zero", target="zoo_numbers:Zero", summary="s"))

    def missed(tp, fp, fn, tn):
        return fn.astype(float)
"""
GOOD = """
    from zoo.registry import ModelSpec, hookimpl

    @hookimpl
    def zoo_register_models(register):
        register(ModelSpec(name="good_model", target="json:loads", summary="s"))
"""


def test_the_built_in_models_come_through_the_hook() -> None:
    loader = loaded()
    assert {"unet", "enhanced_unet"} <= set(loader.catalogue.models)
    assert status(loader, "landslide-zoo/models") == ("loaded", "")


def test_a_plugin_adds_its_model(install: Installer) -> None:
    install("zoo-good", GOOD)
    loader = loaded()
    assert loader.catalogue.models.provider("good_model") == "zoo-good"
    assert status(loader, "zoo-good") == ("loaded", "")


def test_a_plugin_adds_metrics_and_losses(install: Installer) -> None:
    install("zoo-numbers", METRIC)
    catalogue = loaded().catalogue
    assert catalogue.losses.provider("zero") == "zoo-numbers"
    spec = catalogue.metrics.get("missed")
    assert spec.resolve()(*(np.array([value]) for value in (1, 2, 3, 4))) == [3.0]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('boom at import')", "RuntimeError: boom at import"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import no_such_thing", "No module named 'no_such_thing'"),
        ("def (", "SyntaxError"),
        (
            GOOD + "\n        raise KeyError('late')\n",
            "KeyError: 'late'",
        ),
        (
            GOOD.replace("good_model", "unet"),
            "model 'unet' is already registered by landslide-zoo/models",
        ),
        (
            """
            from zoo.registry import hookimpl

            @hookimpl
            def zoo_register_model(register): ...
            """,
            "unknown hook 'zoo_register_model'",
        ),
        (
            """
            from zoo.registry import hookimpl

            @hookimpl
            def zoo_register_models(register):
                register("unet")
            """,
            "Register a ModelSpec",
        ),
        (
            """
            from zoo.registry import DatasetSpec, LossSpec, hookimpl

            @hookimpl
            def zoo_register_datasets(register):
                register(DatasetSpec(name="half", target="json:loads", summary="s"))

            @hookimpl
            def zoo_register_losses(register):
                register(LossSpec(name="Bad Name", target="json:loads", summary="s"))
            """,
            "not a valid name for a loss",
        ),
    ],
)
def test_a_failing_plugin_is_rolled_back_and_reported(install: Installer, code: str, reason: str) -> None:
    install("zoo-bad", code)
    install("zoo-good", GOOD.replace("good_model", "still_here"))
    loader = loaded()
    state, error = status(loader, "zoo-bad")
    assert state == "failed"
    assert reason in error
    assert "\n" not in error
    assert all(table.of("zoo-bad") == [] for table in loader.catalogue.tables().values())
    assert "still_here" in loader.catalogue.models
    assert "unet" in loader.catalogue.models


def test_strict_mode_raises_at_the_first_failure(install: Installer) -> None:
    install("zoo-bad", "raise RuntimeError('boom')")
    with pytest.raises(PluginError, match="zoo-bad: plugin failed: RuntimeError: boom"):
        loaded(strict=True)


def test_selection_limits_what_is_loaded(install: Installer) -> None:
    install("zoo-good", GOOD)
    assert status(loaded(frozenset()), "zoo-good")[0] == "skipped"
    assert status(loaded(frozenset({"zoo-good"})), "zoo-good")[0] == "loaded"
    assert "unet" in loaded(frozenset()).catalogue.models
    with pytest.raises(UnknownNameError, match="Did you mean 'zoo-good'"):
        loaded(frozenset({"zoo-goood"}))


def test_the_environment_selects(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    install("zoo-good", GOOD)
    for value, expected in (("none", "skipped"), ("zoo-good, ", "loaded"), ("", "loaded")):
        monkeypatch.setenv("ZOO_PLUGINS", value)
        loader = PluginLoader.from_environment()
        loader.load()
        assert status(loader, "zoo-good")[0] == expected
    monkeypatch.delenv("ZOO_PLUGINS")
    install("zoo-bad", "raise RuntimeError('boom')")
    monkeypatch.setenv("ZOO_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError):
        PluginLoader.from_environment().load()


def test_commands_are_added_and_a_clash_is_taken_back(install: Installer) -> None:
    import click

    body = """
        import click
        from zoo.registry import hookimpl

        @hookimpl
        def zoo_register_commands(app):
            app.add_command(click.Command("{0}"))
            app.add_command(click.Command("{1}"))
    """
    install("zoo-cmd", body.format("fresh", "fresher"))
    install("zoo-clash", body.format("mine", "bench"))
    loader = loaded()
    bench = click.Command("bench")
    app = click.Group(commands={"bench": bench})
    loader.register_commands(app)
    assert set(app.commands) == {"bench", "fresh", "fresher"}
    assert app.commands["bench"] is bench
    assert "command 'bench' is already there" in status(loader, "zoo-clash")[1]
    assert next(r for r in loader.reports if r.name == "zoo-cmd").provides["commands"] == ["fresh", "fresher"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("class Stop(BaseException): ...\nraise Stop('at import')", "Stop: at import"),
        (
            """
            class Unprintable(Exception):
                def __str__(self):
                    raise ValueError
            raise Unprintable
            """,
            "Unprintable: its message cannot be shown",
        ),
        ("def zoo_register_models(register): ...", "hook 'zoo_register_models' is not marked. Put @hookimpl"),
        ("x = 1", "the module has no hook"),
        (GOOD.replace('summary="s"', "summary=None"), "summary of model 'good_model' must be text, not None"),
        (GOOD.replace('summary="s"', 'summary="s", flags={"exportible"}'), "Did you mean 'exportable'?"),
        ("ZOO_API_VERSION = 2\n" + GOOD.replace("\n    ", "\n"), "needs interface version 2"),
        ("ZOO_API_VERSION = '1'\n" + GOOD.replace("\n    ", "\n"), "ZOO_API_VERSION must be an integer, not '1'"),
        (GOOD.replace('summary="s"', 'summary="s", parameters="many"'), "must be an integer or none, not 'many'"),
        (GOOD.replace('summary="s"', 'summary="s", flags="exportable"'), "flags of model 'good_model' must be a list"),
        (GOOD.replace("register(", "return list(").replace('"s")', '"s").name'), "returned a list, which is not used"),
        (GOOD.replace("    def zoo", "    async def zoo"), "returned a coroutine, which is not used"),
        (GOOD + "        yield\n", "returned a generator, which is not used"),
    ],
)
def test_every_way_to_fail_is_isolated(install: Installer, code: str, reason: str) -> None:
    install("zoo-bad", code)
    install("zoo-good", GOOD)
    loader = loaded()
    state, error = status(loader, "zoo-bad")
    assert state == "failed"
    assert reason in error
    assert status(loader, "zoo-good")[0] == "loaded"


FAMILY = """
    from zoo.registry import ModelFamilySpec, hookimpl

    @hookimpl
    def zoo_register_models(register):
        register(ModelFamilySpec(name="fam/net", target="json:loads", variants="{0}:variants", summary="s"))

    def variants(family):
        return {{"a": {{}}, "b": {1}}}
"""


@pytest.mark.parametrize(("model", "family"), [("zoo-a", "zoo-b"), ("zoo-b", "zoo-a")])
def test_a_model_cannot_have_the_name_of_one_of_a_family(install: Installer, model: str, family: str) -> None:
    install(model, GOOD.replace("good_model", "fam/net-a"))
    install(family, FAMILY.format(family.replace("-", "_"), {}))
    loader = loaded()
    assert status(loader, "zoo-a")[0] == "loaded"
    assert "model 'fam/net-a' is already registered by zoo-a" in status(loader, "zoo-b")[1]


def test_a_faulty_model_of_a_family_is_named(install: Installer) -> None:
    install("zoo-fam", FAMILY.format("zoo_fam", 3))
    models = loaded().catalogue.models
    assert models.get("fam/net-a").name == "fam/net-a"
    with pytest.raises(PluginError, match="the fields of 'b' are of type int, not a mapping"):
        models.get("fam/net-b")
    rows = {row.name: row.summary for row in models.listed(["fam/net-a", "fam/net-b"])}
    assert rows == {
        "fam/net-a": "s",
        "fam/net-b": "model family 'fam/net': the fields of 'b' are of type int, not a mapping",
    }
    install("zoo-more", FAMILY.replace("fam/", "more/").format("zoo_more", "{'parameters': 'many'}"))
    with pytest.raises(PluginError, match="parameters of 'b' must be a number, not 'many'"):
        loaded().catalogue.models.get("more/net-b")


def test_two_entry_points_of_one_module_keep_the_first(install: Installer, tmp_path: Path) -> None:
    install("zoo-good", GOOD)
    points = tmp_path / "site" / "zoo_good-1.0.dist-info" / "entry_points.txt"
    points.write_text("[zoo]\na = zoo_good\nb = zoo_good\n")
    loader = loaded()
    assert status(loader, "zoo-good/a") == ("loaded", "")
    assert "names the module of 'zoo-good/a'. Remove one of the two" in status(loader, "zoo-good/b")[1]
    assert "good_model" in loader.catalogue.models
    points.write_text("[zoo]\nmain = zoo_good\nmain = zoo_good\n")
    assert "two entry points are called 'main'" in status(loaded(), "zoo-good")[1]


def test_a_plugin_whose_command_fails_loses_its_models(install: Installer) -> None:
    import click

    failing = """
    @hookimpl
    def zoo_register_commands(app):
        raise ValueError("no commands")
"""
    install("zoo-good", GOOD + failing)
    loader = loaded()
    assert "good_model" in loader.catalogue.models
    loader.register_commands(click.Group())
    assert status(loader, "zoo-good") == ("failed", "ValueError: no commands")
    assert "good_model" not in loader.catalogue.models


@pytest.mark.parametrize(
    "body", ["raise SystemExit(0)", "app.commands = None", "app.commands['x'] = 1", "app.commands.clear()"]
)
def test_a_command_hook_that_misbehaves_is_undone(install: Installer, body: str) -> None:
    import click

    install(
        "zoo-cmd",
        f"""
        from zoo.registry import hookimpl

        @hookimpl
        def zoo_register_commands(app):
            {body}
        """,
    )
    loader = loaded()
    bench = click.Command("bench")
    app = click.Group(commands={"bench": bench})
    loader.register_commands(app)
    assert app.commands == {"bench": bench}
    assert status(loader, "zoo-cmd")[0] == "failed"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[zoo]\nmain zoo_broken\n", "malformed at 'main zoo_broken'"),
        (b"[zoo\nmain = zoo_broken\n", "malformed at '[zoo'"),
        (b"[zoo]\nmain = zoo broken!\n", "malformed"),
        (b"[zoo]\nmain = \xff\xfe\n", "cannot be read"),
    ],
)
def test_malformed_entry_points_are_reported(install: Installer, tmp_path: Path, text: bytes, reason: str) -> None:
    install("zoo-broken", "")
    (tmp_path / "site" / "zoo_broken-1.0.dist-info" / "entry_points.txt").write_bytes(text)
    install("zoo-good", GOOD)
    loader = loaded()
    state, error = status(loader, "zoo-broken")
    assert state == "failed"
    assert reason in error
    assert status(loader, "zoo-good")[0] == "loaded"
    assert status(loaded(frozenset()), "zoo-broken")[0] == "skipped"


@pytest.mark.parametrize("metadata", [None, b"", b"\xff\xfe"])
def test_a_plugin_without_metadata_is_named_by_its_folder(
    install: Installer, tmp_path: Path, metadata: bytes | None
) -> None:
    install("zoo-good", GOOD)
    path = tmp_path / "site" / "zoo_good-1.0.dist-info" / "METADATA"
    path.unlink()
    if metadata is not None:
        path.write_bytes(metadata)
    loader = loaded()
    report = next(report for report in loader.reports if report.name == "zoo-good")
    assert (report.status, report.version) == ("loaded", "1.0")


def test_a_plugin_that_prints_does_not_reach_standard_output(
    install: Installer, capfd: pytest.CaptureFixture[str]
) -> None:
    loud = "import os, sys\nprint('print')\nsys.__stdout__.write('stream\\n')\nos.system('echo child')\n"
    install("zoo-loud", loud + textwrap.dedent(GOOD))
    assert status(loaded(), "zoo-loud")[0] == "loaded"
    print("after")
    captured = capfd.readouterr()
    assert captured.out == "after\n"
    assert sorted(captured.err.split()) == ["child", "print", "stream"]


def test_a_slow_plugin_is_named(
    install: Installer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.registry.plugins.SLOW_S", 0.05)
    install("zoo-slow", "import time; time.sleep(0.5)\n" + textwrap.dedent(GOOD))
    install("zoo-fast", GOOD.replace("good_model", "fast_model"))
    loaded()
    text = capsys.readouterr().err
    assert "plugin 'zoo-slow' is still loading" in text
    assert "zoo-fast" not in text


def test_a_slow_plugin_can_be_interrupted(install: Installer) -> None:
    install("zoo-slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        loaded()


def test_an_unknown_name_names_the_plugin_that_failed(install: Installer) -> None:
    install("zoo-bad", "raise RuntimeError('boom')")
    loader = loaded()
    with pytest.raises(UnknownNameError, match="Plugin 'zoo-bad', which may provide it, failed: RuntimeError: boom"):
        loader.catalogue.models.get("my_net")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'unet'.*Plugin 'zoo-bad'"):
        loader.catalogue.models.get("unett")
    with pytest.raises(UnknownNameError, match="ZOO_PLUGINS leaves out zoo-bad"):
        loaded(frozenset()).catalogue.models.get("my_net")


def test_providers_have_a_distribution_and_a_version(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    install("zoo-good", GOOD)
    reload()
    try:
        assert provider_of("model", "good_model") == Provider("zoo-good", "zoo-good", "1.0")
        assert provider_of("loss", "focal").distribution == "landslide-zoo"
        with pytest.raises(UnknownNameError, match="unknown data set"):
            provider_of("dataset", "nowhere")
    finally:
        reload()


def test_nothing_is_imported_from_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "zoo_stray.py").write_text("raise SystemExit('imported from the working directory')")
    (tmp_path / "pluggy.py").write_text("raise SystemExit('imported from the working directory')")
    command = [str(Path(sys.executable).with_name("zoo")), "models"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "unet" in done.stdout


def test_list_models_takes_shell_patterns() -> None:
    assert list_models("*unet") == ["drs_unet", "enhanced_unet", "unet"]
