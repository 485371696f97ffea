"""Sections that plugins add to the HTML report. One that fails is named in its place, and stops nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.errors import one_line
from zoo.registry import ReportSection, ReportSectionSpec, catalogue

if TYPE_CHECKING:
    from zoo.bench.leaderboard import Leaderboard


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
    except (Exception, SystemExit) as error:  # whatever a plugin raises
        provider = catalogue().report_sections.provider(spec.name)
        return ReportSection(spec.summary, f"This section of plugin {provider} failed: {one_line(error)}")
    return made
