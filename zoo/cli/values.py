"""Option types, such as finite numbers and comma-separated lists, and options that commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import click

from zoo.cli.console import reserve_stdout
from zoo.errors import ConfigError

Scales = tuple[float, ...] | Literal["auto"]


class FiniteFloat(click.FloatRange):
    """A finite number in a range; ``click.FloatRange`` also accepts NaN and infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


PATH = click.Path(path_type=Path)
PROBABILITY = FiniteFloat(0, 1)
POSITIVE = FiniteFloat(0, min_open=True)
COUNT = click.IntRange(1, 10**9)
"""A count; larger values are typing errors."""


def _reserve(context: click.Context, parameter: click.Parameter, as_json: bool) -> bool:
    if as_json:
        reserve_stdout()
    return as_json


AS_JSON = click.option("--json", "as_json", is_flag=True, callback=_reserve, help="Print JSON for other programs.")
LAYER = click.option("--layer", metavar="NAME", help="Layer of the inventory, if it has several.")
WHERE = click.option("--where", metavar="SQL", help="Condition on the inventory, such as 'Year_obs >= 2010'.")
BUFFER = click.option("--buffer", type=float, metavar="METRES", help="Radius that turns points and lines into areas.")


def parse_names(text: str | None) -> list[str] | None:
    """Return the names in a string such as ``S1,S2``; ``None`` for ``None``."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def parse_numbers(text: str, option: str, example: str, *, count: int | None = None) -> tuple[float, ...]:
    """Return the numbers in a string such as ``0.2,0.5``.

    Args:
        text: the string.
        option: name of the option, for the error.
        example: a valid string, for the error.
        count: expected number of values; ``None`` for any number.

    Raises:
        ConfigError: if a part is not a finite number, or there are more or fewer values than expected.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(map(math.isfinite, values)) or (count is not None and len(values) != count):
        wanted = {None: "a list of numbers", 1: "a number"}.get(count, f"{count} numbers")
        raise ConfigError(f"{text!r} is not {wanted}", where=option, hint=f"For example {example}")
    return values


def parse_scales(text: str) -> Scales:
    """Return the magnifications in a string such as ``1,1.5,2``, or ``auto``; the library checks their range.

    Raises:
        ConfigError: if the string is neither.
    """
    return "auto" if text == "auto" else parse_numbers(text, "--scales", "1,1.5,2, or auto")
