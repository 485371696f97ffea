"""A model that names its bands gets the names from whoever knows them; other models do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from torch import nn

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


class Built(nn.Module):
    """A network that remembers its arguments.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits.
        bands: names of the bands.
    """

    def __init__(self, in_channels: int = 7, classes: int = 2, *, bands: Sequence[str] | None = None) -> None:
        super().__init__()
        self.arguments = f"{in_channels}-{classes}-{bands}"


def test_the_names_reach_a_model_that_asks_for_them() -> None:
    zoo.register_model("named", flags=["named_bands"])(Built)
    assert create_model_for("named", BANDS, 3).arguments == "2-3-('B4', 'slope')"
    assert create_model_for("named", BANDS, bands=["B4", "B3"]).arguments == "2-2-['B4', 'B3']"


def test_another_model_gets_their_number_alone() -> None:
    zoo.register_model("counted")(Built)
    assert create_model_for("counted", BANDS).arguments == "2-2-None"
