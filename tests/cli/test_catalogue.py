"""Listings line up, and fold on a narrow terminal without losing a word."""

import os

import pytest

from zoo.cli import catalogue
from zoo.cli.catalogue import print_columns

ROWS = [("a", "12.50", "a summary of several words"), ("longer", "3.00", "[short]")]


def test_columns_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    print_columns(("name", "M", "summary"), ROWS, right=("M",))
    assert capsys.readouterr().out.splitlines() == [
        "name        M  summary",
        "a       12.50  a summary of several words",
        "longer   3.00  [short]",
    ]


def test_the_widest_column_folds_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(catalogue.shutil, "get_terminal_size", lambda: os.terminal_size((36, 20)))
    print_columns(("name", "M", "summary"), ROWS, right=("M",))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 36
    assert " ".join(" ".join(lines).split()).count("several words") == 1


def test_no_rows_leave_the_headings(capsys: pytest.CaptureFixture[str]) -> None:
    print_columns(("name", "M"), [])
    assert capsys.readouterr().out == "name  M\n"
