"""A model that names its bands gets the names from whoever knows them; other models do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

import zoo
from zoo.physics.bands import Band
from zoo.registry import create_model_for, reload, session

BANDS = (Band("B4", "1"), Band("slope", "degree"))


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(session, "_registered", {})
    monkeypatch.setenv("ZOO_SESSION_MODELS", "{}")
    reload()
    yield
    reload()


def build(in_channels: int = 7, classes: int = 2, *, bands: Sequence[str] | None = None) -> str:
    """Build a network.

    Args:
        bands: names of the bands.
    """
    return f"{in_channels}-{classes}-{bands}"


def test_the_names_reach_a_model_that_asks_for_them() -> None:
    zoo.register_model("named", flags=["named_bands"])(build)
    assert create_model_for("named", BANDS, 3) == "2-3-('B4', 'slope')"  # type: ignore[comparison-overlap]
    assert create_model_for("named", BANDS, bands=["B4", "B3"]) == "2-2-['B4', 'B3']"  # type: ignore[comparison-overlap]


def test_another_model_gets_their_number_alone() -> None:
    zoo.register_model("counted")(build)
    assert create_model_for("counted", BANDS) == "2-2-None"  # type: ignore[comparison-overlap]
