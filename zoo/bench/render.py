"""A leaderboard as terminal table, CSV, Markdown or JSON; each is a pure function of the result files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from zoo.bench.fairness import doubts
from zoo.bench.leaderboard import Row, make_rows
from zoo.bench.paper import paper_table
from zoo.bench.results import TrialResult, group_by_setting
from zoo.bench.uncertainty import add_uncertainty, describe_draws

COLUMNS = (
    ("dice", "Dice", "{:.3f}"),
    ("dice_per_image", "Dice/img", "{:.3f}"),
    ("precision", "Prec.", "{:.3f}"),
    ("recall", "Recall", "{:.3f}"),
    ("accuracy", "Acc.", "{:.3f}"),
    ("loss", "Loss", "{:.3f}"),
    ("parameters", "Par. (M)", "{:.2f}"),
    ("gmac", "GMAC", "{:.2f}"),
    ("fps", "FPS b1", "{:.1f}"),
    ("fps_batch", "FPS best", "{:.1f}"),
)
PAPER_COLUMNS = (
    ("dice", "Dice", "{:.3f}"),
    ("precision", "Prec.", "{:.2f}"),
    ("recall", "Recall", "{:.2f}"),
    ("loss", "Loss", "{:.3f}"),
    ("fps", "FPS", "{:.1f}"),
    ("parameters_m", "Par. (M)", "{}"),
)
UNDEFINED = "-"
FOOTNOTE = (
    "Dice, precision, recall, accuracy: pooled over all test pixels, at the threshold with the best pooled Dice on "
    "the validation split. Dice/img: mean over test images with a landslide. Loss: cross-entropy a pixel. GMAC: one "
    "test patch. FPS: model alone, eager, float32; b1 one image at a time, best at the fastest batch size."
)
PAPER_NOTE = "paper: {} of Zheng et al. 2025, other data and another machine; no target and no claim."


def terminal_table(rows: Sequence[Row], width: int) -> RenderableType:
    """Our figures with the paper's beside them; below them when they do not fit into ``width`` columns."""
    certain = any(row.intervals for row in rows)
    beside = width >= (175 if certain else 150) and any(row.paper for row in rows)
    ours = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    ours.add_column("model", overflow="fold")
    for heading in _headings(certain):
        ours.add_column(heading, justify="right", no_wrap=True)
    paper = ours
    if beside:
        ours.add_column("│ paper:", justify="left")
    else:
        paper = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
        paper.add_column("paper")
        paper.add_column("called", overflow="fold")
    for _, heading, _ in PAPER_COLUMNS:
        paper.add_column(heading, justify="right", no_wrap=True, style="dim")
    failures = []
    for row in rows:
        label, printed = _paper_cells(row)
        cells = _cells(row, certain)
        if beside:
            ours.add_row(Text(row.model), *cells, Text(f"│ {label}"), *printed)
        else:
            ours.add_row(Text(row.model), *cells)
            if label:
                paper.add_row(Text(row.model), label, *printed)
        if row.error:
            failures.append(Text.assemble((f"{row.model}: {row.status}: ", "red"), row.error))
    parts: list[RenderableType] = [ours]
    if not beside and paper.row_count:
        parts += ["", paper]
    if failures:
        parts += ["", *failures]
    return Group(*parts)


def markdown(rows: Sequence[Row]) -> str:
    """A GitHub table, with the paper's Dice, FPS and parameters in the last columns."""
    certain = any(row.intervals for row in rows)
    headings = ["model", *_headings(certain), "paper: Dice", "FPS", "Par. (M)", "status"]
    lines = ["| " + " | ".join(headings) + " |", "|---" + "|---:" * (len(headings) - 2) + "|---|"]
    for row in rows:
        figures = dict(zip((name for name, _, _ in PAPER_COLUMNS), _paper_cells(row)[1], strict=True))
        printed = [figures[name] or UNDEFINED for name in ("dice", "fps", "parameters_m")]
        status = row.status if not row.error else f"{row.status}: {row.error}"
        cells = [f"`{row.model}`", *_cells(row, certain), *printed, status.replace("|", "\\|")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def markdown_tables(results: Sequence[TrialResult], baseline: str | None = None) -> str:
    """The tables of all settings, each with what its rows share above it, and doubts and intervals explained below it.

    Args:
        results: of a folder.
        baseline: label of the model that others are compared with; by default the configuration's, else ``unet``.
    """
    texts = []
    for group in group_by_setting(results):
        rows = add_uncertainty(make_rows(group), group, baseline)
        below = "\n\n".join(filter(None, (*doubts(group), describe_draws(group), audit_note(group)[1])))
        texts.append(f"{describe_setting(group)}\n\n{markdown(rows)}\n{below}\n")
    return "\n".join(texts)


def comma_separated(rows: Sequence[Row]) -> str:
    """CSV with a heading, unrounded numbers and empty cells where a figure is undefined."""
    records = [row.to_dict() for row in rows]
    names = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def as_json(rows: Sequence[Row]) -> str:
    """A list of rows."""
    return json.dumps([row.to_dict() for row in rows], indent=2, ensure_ascii=False) + "\n"


def describe_setting(results: Sequence[TrialResult]) -> str:
    """One line on what the rows of a table share: data, split, recipe, seeds and machine."""
    config = results[0].config
    seeds = sorted({result.config.seed for result in results})
    named = [part for part in (config.benchmark, config.setting) if part]
    parts = [
        f"data {config.data.label}",
        f"recipe {config.recipe.name}",
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
    ]
    adapting = next((str(result.config.adapting) for result in results if result.config.adapted), "")
    if adapting:
        parts.append(f"adapted {adapting}")
    measured = next((result.measured for result in results if result.ok), None)
    if measured is not None:
        patches = measured["data"]["patches"]
        size = "x".join(map(str, measured["data"]["patch"]))
        parts.insert(1, f"{patches['train']}/{patches['val']}/{patches['test']} patches of {size}")
        environment = measured["environment"]
        threads = environment["threads"]
        several = "" if threads == 1 else "s"
        parts.append(
            f"{environment['device_name']}, {threads} thread{several}, torch {environment['versions']['torch']}"
        )
    return "; ".join([*named, *parts])


def audit_note(results: Sequence[TrialResult]) -> tuple[bool, str]:
    """Whether the splits leak, and one line on what the audit found; empty where no result file says."""
    found = next((audit for result in results if (audit := result.audit) is not None), None)
    return (False, "") if found is None else (bool(found.leaks), f"audit of the splits: {found.verdict}")


def paper_note(results: Sequence[TrialResult]) -> str:
    """Where the paper's figures come from, as every table that shows them has to say."""
    return PAPER_NOTE.format(paper_table(results[0].config))


def interval_text(row: Row, name: str) -> str:
    """The interval of a figure, such as ``[.41 .48]``."""
    low, high = row.intervals.get(name, (math.nan, math.nan))
    if math.isnan(low):
        return UNDEFINED
    return f"[{low:.3f} {high:.3f}]".replace("0.", ".")


def _headings(certain: bool) -> list[str]:
    headings = [heading for _, heading, _ in COLUMNS]
    return [headings[0], "95 %", "like", *headings[1:]] if certain else headings


def _cells(row: Row, certain: bool) -> list[str]:
    cells = []
    for name, _, pattern in COLUMNS:
        value = row.figures.get(name)
        if value is not None and name == "parameters":
            value /= 1e6
        cells.append(UNDEFINED if value is None else pattern.format(value))
        if name == "dice" and certain:
            cells += [interval_text(row, name), row.group]
    return cells


def _paper_cells(row: Row) -> tuple[str, list[str]]:
    if row.paper is None:
        return "", [""] * len(PAPER_COLUMNS)
    values = [(getattr(row.paper, name), pattern) for name, _, pattern in PAPER_COLUMNS]
    return row.paper.label, ["" if value is None else pattern.format(value) for value, pattern in values]
