"""The terminal, Markdown, CSV and JSON tables show the same numbers, and no text in them becomes markup."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.bench.conftest import finished
from zoo.bench.config import TrialConfig
from zoo.bench.leaderboard import FIRST_KEYS, Leaderboard, make_rows
from zoo.bench.results import TrialResult
from zoo.bench.tables import (
    as_json,
    comma_separated,
    markdown,
    markdown_section,
    markdown_text,
    records,
    terminal_table,
)
from zoo.errors import UnknownNameError

Make = Callable[..., TrialConfig]
Measured = Callable[..., dict[str, Any]]


def test_json_rows_have_the_promised_keys(trial: Make, measured: Measured) -> None:
    rows = json.loads(as_json(records(make_rows([finished(trial("unet"), measured())]))))
    promised = ("model", "status", "error", *FIRST_KEYS)
    assert tuple(rows[0])[: len(promised)] == promised


def test_renders_show_the_same_numbers(trial: Make, measured: Measured) -> None:
    from rich.console import Console

    results = [
        finished(trial("unet"), measured()),
        TrialResult(trial("segnet"), "failed", "a | b [red]"),
    ]
    board = Leaderboard(results, make_rows(results))
    for width, beside in ((190, True), (110, False), (80, False)):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(terminal_table(board, width))
        text = console.export_text()
        assert "0.750" in text
        assert "segnet: failed: a | b [red]" in text
        assert ("│ U-net" in text) is beside
        assert ("left out to fit" in text) is (width < 150)
        assert "0.623" in text
        assert max(map(len, text.splitlines())) <= width
    assert "| `unet` | 0.750 |" in markdown(board)
    assert "a \\| b" in markdown(board)
    assert "unet,ok,,0.75," in comma_separated(records(board.rows))
    assert "5/1/2 patches of 3x10x10" in board.description


def test_figures_of_the_paper_are_shown_only_for_its_configuration(trial: Make, measured: Measured) -> None:
    results = [finished(trial("unet", options={"widths": [1]}), measured())]
    assert "0.623" not in markdown(Leaderboard(results, make_rows(results)))


def test_accuracy_stands_beside_its_base_rate(trial: Make, measured: Measured) -> None:
    (row,) = make_rows([finished(trial("unet"), measured(30))])
    # 30 of 40 landslide pixels and 150 of 160 background pixels are right.
    assert row.figures["accuracy"] == pytest.approx(0.9)
    assert row.figures["base_rate"] == pytest.approx(0.8)
    assert row.figures["balanced_accuracy"] == pytest.approx((30 / 40 + 150 / 160) / 2)


def test_columns_are_chosen_by_their_keys(trial: Make, measured: Measured) -> None:
    results = [finished(trial("unet"), measured())]
    board = Leaderboard(results, make_rows(results))
    keys = ["mcc", "seeds", "dice_interval"]
    assert markdown(board, keys).splitlines()[0] == "| model | MCC | Seeds | 95 % | status |"
    assert (
        comma_separated(records(board.rows, keys)).splitlines()[0] == "model,status,error,mcc,seeds,dice_low,dice_high"
    )
    assert (
        ",".join(json.loads(as_json(records(board.rows, keys)))[0])
        == comma_separated(records(board.rows, keys)).splitlines()[0]
    )
    with pytest.raises(UnknownNameError, match="unknown column 'mmc'"):
        markdown(board, ["mmc"])


@pytest.mark.parametrize("false", [0, 5])
def test_figures_that_are_undefined_without_landslides_are_empty(trial: Make, measured: Measured, false: int) -> None:
    """Without truth and prediction, nothing is defined. With false positives, Dice (eq. 19) and precision are 0."""
    values = measured()
    values["test"]["counts"] = {"tp": [0, 0], "fp": [false, 0], "fn": [0, 0], "tn": [100 - false, 100]}
    results = [finished(trial("unet"), measured() | values), finished(trial("segnet"), values)]
    board = Leaderboard.of(results)
    keys = ("dice", "dice_per_image", "iou", "precision", "recall", "difference")
    expected = [0.0, None, 0.0, 0.0, None, 0.0] if false else [None] * 6
    (row,) = (row for row in board.rows if row.model == "segnet")
    assert [row.to_dict()[key] for key in keys] == expected
    (record,) = (one for one in json.loads(as_json(records(board.rows))) if one["model"] == "segnet")
    assert [record[key] for key in keys] == expected
    (cells,) = (
        one for one in csv.DictReader(io.StringIO(comma_separated(records(board.rows)))) if one["model"] == "segnet"
    )
    assert [cells[key] for key in keys] == ["" if value is None else str(value) for value in expected]
    (line,) = (line for line in markdown(board, keys).splitlines() if "segnet" in line)
    shown = [cell.strip().lstrip("+").split(" ")[0] for cell in line.strip("|").split("|")][1:7]
    assert shown == ["-" if value is None else "0.000" for value in expected]


HOSTILE = "=cmd|' /C calc'!A0 \x1b[31m <img src=x onerror=a> [click](http://evil) `code` *bold*\nnew | line \u202e"


def test_texts_of_result_files_become_no_formula_no_markup_and_no_terminal_code(
    trial: Make, measured: Measured
) -> None:
    from rich.console import Console

    config = trial("unet", title=HOSTILE, benchmark="b", setting=HOSTILE)
    results = [finished(config, measured()), TrialResult(trial("segnet"), "failed", HOSTILE)]
    board = Leaderboard(results, make_rows(results))
    assert board.rows[0].model == HOSTILE
    console = Console(width=190, record=True, file=io.StringIO())
    console.print(terminal_table(board, 190))
    section = markdown_section(board)
    text = comma_separated(records(board.rows))
    for shown in (console.export_text(), section, text):
        assert not {"\x1b", "\u202e"} & set(shown)
    for cell in (cell for record in csv.reader(io.StringIO(text)) for cell in record):
        assert not cell.startswith(("=", "+", "@"))
    assert len([line for line in section.splitlines() if line.startswith("|")]) == 4
    for line in section.splitlines():
        prose = re.sub(r"(?<!\\)`[^`]*`", "", line)
        assert not re.search(r"<img|(?<!\\)\[click\]\(|(?<!\\)[*`]", prose)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quick[steps=150], seed 0", "quick[steps=150], seed 0"),
        ("drs_unet", "drs_unet"),
        ("_a_ *b* `c`", "\\_a\\_ \\*b\\* \\`c\\`"),
        ("![x](http://y)", "!\\[x](http://y)"),
        ("a <b> & c", "a &lt;b> &amp; c"),
        ("a | b\nc", "a \\| b c"),
    ],
)
def test_markdown_of_a_text_is_the_text(text: str, expected: str) -> None:
    assert markdown_text(text) == expected
