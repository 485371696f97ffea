"""The options by which commands choose and change a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from zoo.training.recipes import RECIPES, Recipe, get_recipe

Command = TypeVar("Command", bound=Callable[..., Any])
OVERRIDES = ("steps", "epochs", "batch_size", "crop", "lr", "loss", "precision", "time_limit")

_OPTIONS = (
    click.option(
        "--recipe",
        default="quick",
        show_default=True,
        metavar="|".join(RECIPES),
        help="; ".join(f"{recipe.name}: {recipe.summary}" for recipe in RECIPES.values()) + ".",
    ),
    click.option("--steps", type=click.IntRange(1), help="Optimiser steps, instead of the recipe's."),
    click.option("--epochs", type=click.IntRange(1), help="Passes over the training split, instead of the recipe's."),
    click.option("--batch-size", type=click.IntRange(1), help="Patches a step."),
    click.option("--crop", type=click.IntRange(0), help="Edge of the training crops in pixels; 0 for whole patches."),
    click.option("--lr", type=click.FloatRange(0, min_open=True), help="Peak learning rate."),
    click.option("--loss", metavar="NAME", help="A registered loss: ce, dice, ce_dice, focal, or a plugin's."),
    click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="Number format of training."),
    click.option("--time-limit", type=click.FloatRange(0, min_open=True), help="Seconds that one trial may take."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps."),
)


def recipe_options(command: Command) -> Command:
    """Add ``--recipe``, its overrides and ``--device`` to a click command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chosen_recipe(name: str, overrides: dict[str, Any]) -> Recipe:
    """The recipe called ``name`` with the overrides that were given.

    Raises:
        ZooError: if the recipe or its loss is unknown, or both steps and epochs are given.
    """
    from zoo.errors import ConfigError
    from zoo.registry import catalogue

    if overrides.get("steps") is not None and overrides.get("epochs") is not None:
        raise ConfigError("--steps and --epochs exclude each other")
    recipe = get_recipe(name).changed(**overrides)
    catalogue().losses.get(recipe.loss)
    return recipe
