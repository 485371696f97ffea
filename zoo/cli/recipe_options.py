"""Options that choose and change a training recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from zoo.cli.data_options import parse_assignments
from zoo.cli.values import COUNT, POSITIVE, FiniteFloat
from zoo.training.recipes import JITTERS, RECIPES, FineTuning, Recipe, get_recipe

Command = TypeVar("Command", bound=Callable[..., Any])
OVERRIDES = (
    *("steps", "epochs", "batch_size", "crop", "lr", "loss", "loss_options", "precision", "time_limit"),
    *("balance", "group_batches", "standardise", "encoder_lr_factor"),
    *JITTERS,
)

_OPTIONS = (
    click.option(
        "--recipe",
        default="quick",
        show_default=True,
        metavar="|".join(RECIPES),
        help="quick checks the software in minutes (56 steps on 64-pixel crops); modern trains 50 epochs with AdamW, "
        "warm-up, cosine and averaged weights; strong trains 100 epochs and also varies scale, brightness and "
        "contrast; paper follows the paper (RMSprop, learning rate 1e-5).",
    ),
    click.option("--steps", type=COUNT, help="Number of optimiser steps, instead of the recipe's."),
    click.option("--epochs", type=COUNT, help="Number of passes over the training split, instead of the recipe's."),
    click.option("--batch-size", type=COUNT, help="Patches per step."),
    click.option(
        "--crop", type=click.IntRange(0, 10**9), help="Side of the training crops in pixels; 0 for whole patches."
    ),
    click.option("--lr", type=POSITIVE, help="Peak learning rate."),
    click.option("--loss", metavar="NAME", help="A registered loss: ce, dice, ce_dice, focal, or a plugin's."),
    click.option(
        "--loss-option",
        "loss_options",
        multiple=True,
        metavar="NAME=VALUE",
        help="Option of the loss, such as gamma=3 of focal; may be repeated.",
    ),
    click.option(
        "--scale-jitter",
        type=FiniteFloat(0, JITTERS["scale_jitter"]),
        help="Random magnification of the patches: 0.5 draws factors from 1/1.5 to 1.5.",
    ),
    click.option(
        "--gain",
        type=FiniteFloat(0, JITTERS["gain"]),
        help="Random brightness: 0.2 multiplies bands by 0.8 to 1.2. Slopes, heights and indices keep their values.",
    ),
    click.option(
        "--offset",
        type=FiniteFloat(0, JITTERS["offset"]),
        help="Random shift of each band, in its standard deviations.",
    ),
    click.option(
        "--gamma",
        type=FiniteFloat(0, JITTERS["gamma"]),
        help="Random contrast: 0.3 bends each band by an exponent from 1/1.3 to 1.3.",
    ),
    click.option(
        "--balance",
        type=FiniteFloat(0, 1),
        help="Balance between scenes or events of different size: 0 draws every patch equally often, 1 every scene.",
    ),
    click.option(
        "--group-batches",
        is_flag=True,
        default=None,
        help="Fill every batch from one scene or event, for a model that will be adapted to others.",
    ),
    click.option(
        "--standardise",
        type=FiniteFloat(0, 1),
        help="Probability that the images of a batch are standardised (mean 0, deviation 1) in every optical band; "
        "0.5 suits models for unseen regions.",
    ),
    click.option(
        "--encoder-lr-factor",
        type=FiniteFloat(0, 1, min_open=True),
        help="Learning rate of the encoder as a fraction of --lr; 0.3 suits pretrained encoders.",
    ),
    click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="Numeric precision of training."),
    click.option("--time-limit", type=POSITIVE, help="Time limit of one trial in seconds."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps."),
)


def recipe_options(command: Command) -> Command:
    """Add ``--recipe``, its overrides and ``--device`` to a click command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_FINE_TUNING = (
    click.option(
        "--from",
        "parent",
        metavar="BUNDLE",
        help="Start from the weights of this bundle instead of random ones (fine-tuning).",
    ),
    click.option(
        "--freeze",
        multiple=True,
        metavar="LAYER",
        help="With --from: layers that keep their weights, such as encoder; may be repeated.",
    ),
    click.option(
        "--old-lr-factor",
        type=FiniteFloat(0, 1, min_open=True),
        default=FineTuning.old_lr_factor,
        show_default=True,
        help="With --from: learning rate of copied weights as a fraction of the recipe's.",
    ),
)


def fine_tuning_options(command: Command) -> Command:
    """Add ``--from``, ``--freeze`` and ``--old-lr-factor`` to a click command."""
    for option in reversed(_FINE_TUNING):
        command = option(command)
    return command


def chosen_recipe(name: str, overrides: dict[str, Any]) -> Recipe:
    """Return the recipe called ``name`` with the overrides that were given.

    Raises:
        ZooError: if the recipe, its loss or an option of the loss does not exist, or both steps and epochs are given.
    """
    from zoo.errors import ConfigError
    from zoo.registry import catalogue, check_options

    if overrides.get("steps") is not None and overrides.get("epochs") is not None:
        raise ConfigError("--steps and --epochs cannot be combined")
    texts = tuple(overrides.get("loss_options") or ())
    recipe = get_recipe(name).changed(**{**overrides, "loss_options": None})
    spec = catalogue().losses.get(recipe.loss)
    checked = check_options(spec, parse_assignments(texts, "--loss-option"))
    return recipe.changed(loss_options=checked) if checked else recipe
