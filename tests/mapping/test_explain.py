"""Test occlusion on models whose inputs are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.errors import DataError, UnknownNameError
from zoo.mapping.explanation import explain_window
from zoo.physics.bands import Band
from zoo.registry import create_model
from zoo.training.predictor import Predictor

BANDS = (Band("NDVI", "1"), Band("slope", "degree"), Band("DEM", "m"))
MEANS, STDS = [0.4, 20.0, 1000.0], [0.2, 10.0, 300.0]


class Rule(nn.Module):
    """Log-odds are 4 x slope - NDVI of a pixel, or of the one ``shift`` columns to the right; DEM is not looked at."""

    def __init__(self, shift: int = 0) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.roll(x, -self.shift, dims=3)
        odds = 4 * seen[:, 1] - seen[:, 0]
        return torch.stack([torch.zeros_like(odds), odds], dim=1)


def image(side: int = 48, seed: int = 0) -> np.ndarray:
    """Gentle ground with one steep square in rows 16-23, columns 8-15 of the window that begins at 8, 8."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.1, (3, side, side))
    noise[1] -= 2
    noise[1, 24:32, 16:24] = 1.5
    return (noise * np.array(STDS)[:, None, None] + np.array(MEANS)[:, None, None]).astype(np.float32)


CROP = (slice(8, 40), slice(8, 40))


def explain(model: nn.Module, picture: np.ndarray, **options: object):
    return explain_window(Predictor(model, MEANS, STDS).eval(), picture, BANDS, CROP, 0.5, cells=4, **options)


def sigmoid(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def test_the_effect_of_a_channel_follows_the_known_rule() -> None:
    picture = image()
    found = explain(Rule(), picture, together=[["slope", "NDVI"]])
    assert found.landslide
    expected = np.zeros((32, 32), bool)
    expected[16:24, 8:16] = True
    np.testing.assert_array_equal(found.target, expected)
    ndvi, slope, _ = (picture[:, 24:32, 16:24] - np.array(MEANS)[:, None, None]) / np.array(STDS)[:, None, None]
    with_all = sigmoid(4 * slope - ndvi).mean()
    assert found.base.probability == pytest.approx(with_all, abs=1e-6)
    by_name = {one.names: one for one in (*found.channels, *found.together)}
    assert by_name[("DEM",)].change == 0
    assert by_name[("DEM",)].kept == 1
    assert by_name[("slope",)].change == pytest.approx(sigmoid(-ndvi).mean() - with_all, abs=1e-6)
    assert by_name[("slope",)].logit_change == pytest.approx(-4 * slope.mean(), abs=1e-4)
    assert by_name[("slope",)].means == (20.0,)
    assert by_name[("NDVI",)].change == pytest.approx(sigmoid(4 * slope).mean() - with_all, abs=1e-6)
    assert by_name[("slope", "NDVI")].probability == 0.5
    assert by_name[("slope",)].units == ("degree",)


def test_hiding_unused_ground_changes_nothing() -> None:
    found = explain(Rule(), image())
    hidden = np.zeros((32, 32), bool)
    hidden[16:24, 8:16] = True
    assert found.cell == 8
    assert (found.ground[hidden] < -0.4).all()
    assert (found.ground[~hidden] == 0).all()
    # The landslide is in one square: when that is hidden, nothing of it is left to look at.
    assert np.isnan(found.around[hidden]).all()
    assert (found.around[~hidden] == 0).all()


def test_a_model_that_looks_aside_is_found_out() -> None:
    """It calls a landslide eight columns to the left of the steep ground."""
    found = explain(Rule(shift=8), image())
    assert found.target[16:24, 0:8].all()
    assert found.target.sum() == 64
    assert (found.ground[16:24, 8:16] < -0.4).all()
    assert (found.around[16:24, 8:16] < -0.4).all()
    assert (found.ground[16:24, 0:8] == 0).all()


def test_the_model_sees_the_ground_around_the_window() -> None:
    picture = image()
    torch.manual_seed(0)
    model = create_model("unet", 3, 2, widths=[4, 4]).eval()
    found = explain(model, picture)
    predictor = Predictor(model, MEANS, STDS).eval()
    with torch.inference_mode():
        whole = predictor.landslide_probability(predictor(torch.from_numpy(picture)[None]))[0].numpy()
    np.testing.assert_allclose(found.probability, whole[8:40, 8:40], atol=1e-6)
    assert found.context == (8, 8, 8, 8)


def test_without_a_landslide_the_window_is_the_target() -> None:
    picture = image()
    picture[1] = 5
    picture[:, 8:12] = np.nan
    found = explain(Rule(), picture)
    assert not found.landslide
    assert found.target.sum() == 32 * 28
    assert np.isnan(found.probability[:4]).all()
    assert np.isnan(found.ground[:4]).all()
    assert np.isfinite(found.ground[4:]).all()


def test_truth_gives_dice() -> None:
    truth = np.zeros((32, 32), bool)
    truth[16:24, 8:12] = True
    found = explain(Rule(), image(), truth=truth)
    assert found.base.dice == pytest.approx(2 * 32 / (64 + 32))
    assert found.channels[1].dice < found.base.dice
    assert found.channels[2].dice == found.base.dice


@pytest.mark.parametrize("predicted", [True, False])
def test_dice_is_undefined_without_a_landslide_in_the_truth(predicted: bool) -> None:
    picture = image()
    if not predicted:
        picture[1] = 5
    found = explain(Rule(), picture, truth=np.zeros((32, 32), bool))
    assert found.landslide is predicted
    assert [one.dice for one in (found.base, *found.channels)] == [None] * 4


def test_attention_maps_have_the_pixels_of_the_window() -> None:
    torch.manual_seed(0)
    model = create_model("enhanced_unet", 3, 2, widths=[4, 4, 4]).eval()
    found = explain(model, image(side=46))
    assert [one.name for one in found.attention] == [f"encoder_attention.{level}" for level in range(3)]
    for level, one in enumerate(found.attention):
        assert one.spatial.shape == (32, 32)
        cell = 2**level
        # The image of 46 pixels was padded to 48, and the window begins at its pixel 8: cells begin there too.
        np.testing.assert_array_equal(one.spatial, one.spatial[::cell, ::cell].repeat(cell, 0).repeat(cell, 1))
    assert explain(Rule(), image()).attention == ()


def test_what_cannot_be_explained_is_refused() -> None:
    with pytest.raises(DataError, match="no pixel of the window is valid"):
        explain(Rule(), np.full((3, 48, 48), np.nan, np.float32))
    with pytest.raises(UnknownNameError, match="Did you mean 'NDVI'"):
        explain(Rule(), image(), together=[["NDVi"]])


def test_progress_ends_with_all_answers() -> None:
    seen: list[tuple[int, int]] = []
    explain(Rule(), image(), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (1 + 3 + 16, 1 + 3 + 16)
