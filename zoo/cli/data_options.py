"""The options by which every command names its data."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from zoo.cli.values import parse_names
from zoo.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--group-column", metavar="COLUMN", help="CSV column with the scene or event of each patch."),
    click.option("--group-pattern", metavar="REGEX", help="Pattern whose first group in a file name is its scene."),
    click.option("--train-groups", metavar="A,B", help="Scenes to train on; all that no other split names."),
    click.option("--val-groups", metavar="A,B", help="Scenes to validate on; by default a part of the training ones."),
    click.option("--test-groups", metavar="A,B", help="Scenes to test on."),
    click.option(
        "--split-by", metavar="group|block|column|random", help="How to split a folder when no scenes are named."
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
    """A decorator that adds ``--data`` and its companions to a click command.

    Args:
        default: data set that is used when none is named; ``None`` when the command knows one by itself.
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
    """A decorator that adds the companions of ``--data`` to a command whose data set is an argument."""
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
) -> dict[str, Any]:
    """Options of the data set as keyword arguments; those that were not given are left out."""
    named: dict[str, Any] = {
        "group_column": group_column,
        "group_pattern": group_pattern,
        "split_by": split_by,
        "train_groups": parse_names(train_groups),
        "val_groups": parse_names(val_groups),
        "test_groups": parse_names(test_groups),
    }
    chosen = {name: value for name, value in named.items() if value is not None}
    return {**chosen, **parse_assignments(data_options, "--data-option")}


def parse_assignments(texts: tuple[str, ...], option: str) -> dict[str, Any]:
    """``NAME=VALUE`` texts as a dict; values are read as JSON, and taken as text when they are none.

    Raises:
        ConfigError: for a text without a name or an equals sign.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"{text!r} is not of the form NAME=VALUE", where=option)
        try:
            values[name.strip().replace("-", "_")] = json.loads(value)
        except json.JSONDecodeError:
            values[name.strip().replace("-", "_")] = value
    return values
