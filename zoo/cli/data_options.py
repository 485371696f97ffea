"""Options of all commands that read a data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from zoo.cli.values import parse_names
from zoo.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])

DATA_OPTIONS = (
    "group_column",
    "group_pattern",
    "train_groups",
    "val_groups",
    "test_groups",
    "split_by",
    "landslide_class",
    "pair",
)
"""Names of the options that :func:`collect` takes in addition to ``--data-option``."""

_OPTIONS = (
    click.option("--group-column", metavar="COLUMN", help="CSV column with the scene or event of each patch."),
    click.option(
        "--group-pattern", metavar="REGEX", help="Regular expression for file names; its first group is the scene."
    ),
    click.option(
        "--train-groups", metavar="A,B", help="Scenes for training; by default all that no other split names."
    ),
    click.option("--val-groups", metavar="A,B", help="Scenes for validation; by default a part of training."),
    click.option("--test-groups", metavar="A,B", help="Scenes for testing."),
    click.option(
        "--split-by", metavar="group|block|column|random", help="How to split a folder if no scenes are named."
    ),
    click.option(
        "--landslide-class",
        metavar="NAME",
        help="Mask classes that are landslides, or all; the others count as background. By default found by class "
        "name.",
    ),
    click.option(
        "--pair",
        metavar="REGEX",
        help=r"Regular expression for file names; an image and a mask with the same text in its groups belong "
        r"together, such as "
        r"'T_(\d+)' for ImageT_1 and MaskT_1.",
    ),
    click.option(
        "--data-option",
        "data_options",
        multiple=True,
        metavar="NAME=VALUE",
        help="Any other option of the data set (zoo datasets show NAME); may be repeated.",
    ),
)


def data_options(default: str | None) -> Callable[[Command], Command]:
    """Return a decorator that adds ``--data`` and the options of data sets to a click command.

    Args:
        default: data set that is used if none is given; ``None`` if the command has its own default.
    """
    data = click.option(
        "--data",
        default=default,
        show_default=default is not None,
        metavar="NAME|FOLDER",
        help="A registered data set (zoo datasets), or a folder of images and masks.",
    )

    def decorate(command: Command) -> Command:
        for option in reversed((data, *_OPTIONS)):
            command = option(command)
        return command

    return decorate


def split_options(command: Command) -> Command:
    """Add the options of data sets to a click command whose data set is an argument."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def collect(
    data_options: tuple[str, ...],
    *,
    group_column: str | None,
    group_pattern: str | None,
    train_groups: str | None,
    val_groups: str | None,
    test_groups: str | None,
    split_by: str | None,
    landslide_class: str | None = None,
    pair: str | None = None,
) -> dict[str, Any]:
    """Return the options of the data set that were given, as keyword arguments."""
    named: dict[str, Any] = {
        "group_column": group_column,
        "group_pattern": group_pattern,
        "split_by": split_by,
        "train_groups": parse_names(train_groups),
        "val_groups": parse_names(val_groups),
        "test_groups": parse_names(test_groups),
        "landslide_class": parse_names(landslide_class),
        "pair_pattern": pair,
    }
    chosen = {name: value for name, value in named.items() if value is not None}
    return {**chosen, **parse_assignments(data_options, "--data-option")}


def parse_assignments(texts: tuple[str, ...], option: str) -> dict[str, Any]:
    """Parse ``NAME=VALUE`` strings into a dictionary; a value that is not JSON is kept as a string.

    Args:
        texts: the strings.
        option: command-line option that takes them, for messages.

    Raises:
        ConfigError: for a string without a name or an equals sign.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"{text!r} is not of the form NAME=VALUE", where=option)
        try:
            values[name.strip().replace("-", "_")] = json.loads(value)
        # Python raises a ValueError for an integer of more than 4,300 digits.
        except (ValueError, RecursionError):
            values[name.strip().replace("-", "_")] = value
    return values
