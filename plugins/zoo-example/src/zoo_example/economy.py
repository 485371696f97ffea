"""A section of the HTML report: accuracy per parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.registry import ReportSection

if TYPE_CHECKING:
    from zoo.bench.leaderboard import Leaderboard


def section(board: Leaderboard) -> ReportSection | None:
    """Return the Dice of each model per million parameters, the highest first."""
    rows = []
    for row in board.rows:
        dice, parameters = row.figures.get("dice"), row.figures.get("parameters")
        if dice is not None and parameters:
            rows.append((dice / (parameters / 1e6), row.model, dice, parameters))
    if not rows:
        return None
    cells = [
        (name, f"{dice:.3f}", f"{count / 1e6:.2f}", f"{ratio:.3f}") for ratio, name, dice, count in sorted(rows)[::-1]
    ]
    headings = ("model", "Dice", "parameters (M)", "Dice per million")
    return ReportSection("Dice per parameter", "Small models get more Dice per parameter.", headings, tuple(cells))
