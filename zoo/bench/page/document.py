"""A results folder as one self-contained HTML page that needs no network."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from zoo import __version__
from zoo.bench.leaderboard import Leaderboard, Row
from zoo.bench.page.figures import Figure, make_figures
from zoo.bench.page.panels import LEGEND, Panels, make_panels
from zoo.bench.page.provenance import TRIAL_HEADINGS, Provenance, make_provenance
from zoo.bench.samples import load_pictures
from zoo.bench.tables import shown_columns
from zoo.errors import ZooError, one_line
from zoo.evaluation.columns import COMPARISONS, UNDEFINED, Column, figure_columns
from zoo.evaluation.comparison import REPLICATES
from zoo.files import printable
from zoo.registry import ReportSection, ReportSectionSpec, catalogue

if TYPE_CHECKING:
    from jinja2 import Environment

PAPER = "https://doi.org/10.4236/jcc.2025.138004"
PRINT_COLUMNS = frozenset(
    ("dice", "dice_per_image", "precision", "recall", "mcc", "detection", "loss", "parameters", "gmac", "fps")
)
"""Columns that fit on paper; the others are shown only on screen."""
PAPER_FIGURES = (
    ("dice", "dice", "{:.3f}"),
    ("precision", "precision", "{:.2f}"),
    ("recall", "recall", "{:.2f}"),
    ("accuracy", "accuracy", "{:.3f}"),
    ("loss", "loss", "{:.3f}"),
    ("parameters", "parameters_m", "{:.0f}"),
    ("fps", "fps", "{:.1f}"),
)
"""Figures that the paper reports: our key, the paper's attribute, format."""


@dataclass(frozen=True)
class Section:
    """Section of the page for one setting.

    Attributes:
        number: number of the setting, from 1.
        board: its leaderboard.
        columns: columns of the leaderboard that have a value.
        baseline: label of the baseline; empty for none.
        paper: headings and rows of our figures next to the paper's; ``None`` if there are none.
        figures: figures under their headings.
        extras: sections of plugins.
        panels: pictures; ``None`` if the folder has none.
        provenance: origin of the figures.
    """

    number: int
    board: Leaderboard
    columns: Sequence[Column]
    baseline: str
    paper: tuple[Sequence[str], Sequence[Sequence[str]]] | None
    figures: Sequence[tuple[str, Sequence[Figure]]]
    extras: Sequence[ReportSection]
    panels: Panels | None
    provenance: Provenance


def render_page(boards: Sequence[Leaderboard], folder: Path | None, problems: Sequence[ZooError] = ()) -> str:
    """Return one self-contained HTML document with leaderboards and their figures.

    Args:
        boards: the leaderboards of all settings.
        folder: folder of the results, from which pictures are read; ``None`` for no pictures.
        problems: errors of unusable result files, which the page lists.
    """
    results = [result for board in boards for result in board.results]
    name = (None if folder is None else folder.name) or "results"
    sections, damaged = [], []
    for number, board in enumerate(boards, start=1):
        try:
            pictures = None if folder is None else load_pictures(folder, board.results[0].config)
        except ZooError as error:
            pictures = None
            damaged.append(error)
        sections.append(
            Section(
                number=number,
                board=board,
                columns=[
                    column
                    for column in figure_columns()
                    if any(row.value(column.key) is not None for row in board.rows)
                ],
                baseline=next((row.difference.baseline for row in board.rows if row.difference is not None), ""),
                paper=_paper_comparison(board),
                figures=make_figures(board, number),
                extras=plugin_sections(board),
                panels=make_panels(board, pictures),
                provenance=make_provenance(board.results, name),
            )
        )
    headings = {section.board.heading for section in sections}
    script = _file("page.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=f"{headings.pop()}: " if len(headings) == 1 else "",
            folder=name,
            sections=sections,
            problems=[str(problem) for problem in (*problems, *damaged)],
            trials=len(results),
            failed=sum(result.status in ("failed", "out-of-memory") for result in results),
            columns=[*figure_columns(), *COMPARISONS],
            script=Markup(script),
            style=Markup(_file("page.css")),
            policy=_policy(script),
            trial_headings=TRIAL_HEADINGS,
            picture_legend=LEGEND,
            printed=PRINT_COLUMNS,
            replicates=REPLICATES,
            undefined=UNDEFINED,
            paper_address=PAPER,
            version=__version__,
        )
    )


def render_table(board: Leaderboard, keys: Sequence[str] | None = None) -> str:
    """Return a leaderboard as an HTML table with its warnings, for notebooks.

    Args:
        board: the leaderboard.
        keys: keys of the columns to show; ``None`` for the default columns.
    """
    columns = shown_columns(board.rows, keys)
    return _environment().get_template("notebook.html").render(board=board, columns=columns)


def plugin_sections(board: Leaderboard) -> list[ReportSection]:
    """Return the sections of all plugins for a leaderboard, sorted by their registered names."""
    found = [_section(spec, board) for spec in catalogue().report_sections.match()]
    return [section for section in found if section is not None]


def _section(spec: ReportSectionSpec, board: Leaderboard) -> ReportSection | None:
    try:
        made: object = spec.resolve()(board)
        if made is None:
            return None
        if not isinstance(made, ReportSection):
            raise TypeError(f"it returned {type(made).__name__}, not a ReportSection")
        if any(len(row) != len(made.headings) for row in made.rows):
            raise ValueError(f"a row has not {len(made.headings)} cells")
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        provider = catalogue().report_sections.provider(spec.name)
        return ReportSection(spec.summary, f"This section of plugin {provider} failed: {one_line(error)}")
    return made


@cache
def _environment() -> Environment:
    """Return the template environment: all text is escaped, and control characters become U+FFFD."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("zoo.bench.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": _with_line_breaks}
    environment.tests["known"] = lambda value: value is not None and not math.isnan(value)
    return environment


def _finalize(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _with_line_breaks(name: str) -> Markup:
    """Return a name with optional line breaks after its underscores and hyphens, for narrow pages."""
    text = printable(name)
    return Markup("").join(
        Markup("{}<wbr>").format(one) if one in "_-" and place < len(text) - 1 else escape(one)
        for place, one in enumerate(text)
    )


def _paper_comparison(board: Leaderboard) -> tuple[list[str], list[list[str]]] | None:
    """Return headings and rows of our figures next to those of the paper; ``None`` if no row has any."""
    rows = [row for row in board.rows if row.paper is not None]
    if not rows:
        return None
    columns = {column.key: column for column in figure_columns()}
    headings = [f"{columns[key].heading}, {source}" for key, _, _ in PAPER_FIGURES for source in ("here", "paper")]
    return ["model", "name in the paper", *headings], [_paper_cells(row, columns) for row in rows]


def _paper_cells(row: Row, columns: dict[str, Column]) -> list[str]:
    cells = [row.model, "" if row.paper is None else row.paper.label]
    for key, attribute, pattern in PAPER_FIGURES:
        measured, published = row.figures.get(key), getattr(row.paper, attribute)
        cells.append(UNDEFINED if measured is None else pattern.format(measured / columns[key].scale))
        cells.append(UNDEFINED if published is None else pattern.format(published))
    return cells


def _policy(script: str) -> str:
    """Return a content security policy that loads nothing and runs only the page's own script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; base-uri 'none'"
    )


def _file(name: str) -> str:
    return files("zoo.bench.page").joinpath("templates", name).read_text(encoding="utf-8")
