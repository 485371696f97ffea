"""Parsing of data set options, as users write them on the command line or in Python."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import ParamSpec

from zoo.datasets.base import SPLITS
from zoo.errors import ConfigError, UnknownNameError
from zoo.physics.bands import Band
from zoo.registry.options import options_of

Names = str | int | Sequence[str | int] | None
"""Names, as a list or as comma-separated text; scene numbers count as names."""

P = ParamSpec("P")
COMMON_ARGUMENTS = ("root", "split", "transforms", "progress")
"""Arguments that every data set has; the others are its options."""


def checked_options(init: Callable[P, None]) -> Callable[P, None]:
    """Check the arguments of a data set's ``__init__`` against its annotations, and convert them.

    A value may be text from the command line: ``"256"`` becomes 256 if the annotation is ``int``.

    Raises:
        UnknownNameError: from the decorated function, if the split does not exist.
        ConfigError: from the decorated function, if the value of an option is invalid.
    """

    @functools.wraps(init)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        bound = inspect.signature(init).bind(*args, **kwargs)
        split = bound.arguments.get("split", "train")
        if split not in SPLITS:
            raise UnknownNameError("split", str(split), SPLITS)
        for option in options_of(init, COMMON_ARGUMENTS):
            if option.name not in bound.arguments:
                continue
            value = bound.arguments[option.name]
            try:
                bound.arguments[option.name] = option.convert(value)
            except ValueError as error:
                raise ConfigError(
                    f"{_short(value)} is not valid", where=f"option {option.name}", hint=str(error)
                ) from None
        init(*bound.args, **bound.kwargs)

    return checked


def names_of(value: Names) -> tuple[str, ...] | None:
    """Parse "S2,S3", ["S2", "S3"] or scene numbers into a tuple of names; None stays None.

    Raises:
        ConfigError: if the value is none of these.
    """
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value
    if not isinstance(parts, Sequence):
        raise ConfigError(f"{value!r} is not a list of names", hint="Write S2,S3")
    names = tuple(str(part).strip() for part in parts)
    return tuple(name for name in names if name)


def bands_of(value: str | Sequence[str | Band] | None) -> tuple[Band, ...] | None:
    """Parse "red,green,blue", names or bands; the unit is unknown if only the name is given.

    Raises:
        ConfigError: if the value is none of these, or a name occurs twice.
    """
    if value is None:
        return None
    parts: Sequence[str | Band] = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, Sequence):
        raise ConfigError(f"{value!r} is not a list of bands", where="option bands", hint="Write red,green,blue")
    bands = tuple(part if isinstance(part, Band) else Band(str(part).strip(), "unknown") for part in parts)
    names = [band.name for band in bands]
    if len(set(names)) < len(names):
        raise ConfigError(f"two bands are called {max(names, key=names.count)!r}", where="option bands")
    return bands


def fractions_of(value: str | Sequence[float]) -> tuple[float, ...]:
    """Parse "6,2,2", "6:2:2" or numbers.

    Raises:
        ConfigError: if a part is not a number.
    """
    try:
        parts = value.replace(":", ",").split(",") if isinstance(value, str) else value
        return tuple(float(part) for part in parts)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"{_short(value)} are not fractions", where="option fractions", hint="Write 6,2,2") from error


def _short(value: object) -> str:
    """Return the value for a message; Python refuses to print integers of more than 4,300 digits."""
    try:
        text = repr(value)
    except ValueError:
        return "this value"
    return text if len(text) <= 80 else text[:77] + "..."
