"""Renamed commands and options keep working for one release, with a warning."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from zoo.cli import lazy
from zoo.cli.lazy import LazyGroup


@click.command()
@click.option("--min-area", type=float)
@click.argument("names", nargs=-1)
def polygons(min_area: float, names: tuple[str, ...]) -> None:
    click.echo(f"{min_area} {' '.join(names)}")


@pytest.mark.parametrize("given", [["--least-area", "5"], ["--least-area=5"]])
def test_an_old_option_still_works_and_warns(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lazy.RENAMED_OPTIONS, "polygons", {"--least-area": "--min-area"})
    monkeypatch.setitem(lazy.RENAMED_COMMANDS, "outlines", "polygons")
    app = LazyGroup("zoo")
    app.add_command(polygons)
    done = CliRunner().invoke(app, ["outlines", *given, "--", "--least-area"])
    assert done.stdout == "5.0 --least-area\n"
    assert "--least-area is now called --min-area" in done.stderr
    assert "outlines is now called polygons" in done.stderr
