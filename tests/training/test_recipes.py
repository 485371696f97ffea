"""Recipes count steps alike for every model, and refuse what cannot be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import ConfigError, UnknownNameError
from zoo.training.fit import warmup_cosine
from zoo.training.recipes import RECIPES, Recipe, get_recipe


def test_the_papers_recipe_is_the_papers() -> None:
    paper = get_recipe("paper")
    assert (paper.epochs, paper.batch_size, paper.lr) == (50, 16, 1e-5)


@pytest.mark.parametrize(("patches", "expected"), [(1, 50), (16, 50), (31, 50), (32, 100), (3799, 50 * 237)])
def test_passes_leave_out_the_last_short_batch(patches: int, expected: int) -> None:
    assert get_recipe("paper").total_steps(patches) == expected
    assert get_recipe("quick").total_steps(patches) == 56


def test_changes_show_in_the_name() -> None:
    quick = get_recipe("quick")
    assert quick.changed(steps=None, lr=None) is quick
    assert quick.changed(steps=56) is quick
    changed = quick.changed(steps=5, lr=0.1)
    assert (changed.name, changed.steps, changed.lr) == ("quick[lr=0.1,steps=5]", 5, 0.1)
    assert quick.changed(epochs=2).steps is None
    assert quick.changed(crop=0).crop is None


def test_recipes_survive_json() -> None:
    for recipe in RECIPES.values():
        assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(UnknownNameError, match="recipe field 'momentun'"):
        Recipe.from_dict({"name": "x", "summary": "", "momentun": 1})


def test_fields_that_older_versions_lacked_are_written_only_where_they_are_set() -> None:
    # Keys of results are computed from these values.
    later = {"loss_options", "scale_jitter", "gain", "offset", "gamma"}
    assert not later & set(get_recipe("modern").to_dict())
    strong = get_recipe("strong")
    assert later - set(strong.to_dict()) == {"loss_options"}
    assert "gain" not in strong.changed(gain=0.0).to_dict()


@pytest.mark.parametrize(
    "bad",
    [
        {"lr": 0.0},
        {"batch_size": 0},
        {"warmup": 1.0},
        {"ema": 1.5},
        {"epochs": 3},
        {"gain": 1.0},
        {"scale_jitter": -0.5},
        {"gamma": float("nan")},
    ],
)
def test_what_cannot_be_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="recipe 'x'"):
        Recipe(name="x", summary="", steps=10, **bad)  # type: ignore[arg-type]


def test_unknown_recipes_are_named() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'quick'"):
        get_recipe("quik")


@given(st.integers(1, 500), st.floats(0, 0.9))
def test_the_rate_rises_to_one_and_falls_to_almost_zero(total: int, warmup: float) -> None:
    factor = warmup_cosine(total, warmup)
    values = [round(factor(step), 12) for step in range(total)]
    assert all(0 < value <= 1 for value in values)
    rising = sum(1 for step in range(total) if step < warmup * total)
    assert values[: rising or 1] == sorted(values[: rising or 1])
    assert values[max(rising - 1, 0) :] == sorted(values[max(rising - 1, 0) :], reverse=True)
    assert factor(total) <= 1e-9 or rising == total
