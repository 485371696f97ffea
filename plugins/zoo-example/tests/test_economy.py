"""The section of the report ranks models by Dice per parameter."""

from types import SimpleNamespace
from typing import Any

from zoo_example.economy import section


def board(*rows: tuple[str, float | None, float | None]) -> Any:
    made = [SimpleNamespace(model=name, figures={"dice": dice, "parameters": count}) for name, dice, count in rows]
    return SimpleNamespace(rows=made)


def test_the_most_economical_model_comes_first() -> None:
    found = section(board(("large", 0.8, 8e6), ("small", 0.6, 2e6), ("failed", None, None)))
    assert found is not None
    assert [row[0] for row in found.rows] == ["small", "large"]
    assert found.rows[0] == ("small", "0.600", "2.00", "0.300")
    assert section(board(("failed", None, None))) is None
