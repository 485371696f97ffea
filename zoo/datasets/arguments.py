"""Read options of data sets as users write them, on a command line or in Python."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from zoo.errors import ConfigError
from zoo.physics.bands import Band
from zoo.registry.options import options_of

Names = str | int | Sequence[str | int] | None


Init = TypeVar("Init", bound=Callable[..., None])


def converts_options(init: Init) -> Init:
    """Convert the keyword arguments of an ``__init__`` to the types of their annotations before it runs.

    Text is parsed (``"3"``, ``"nan"``, ``"8,16"``, ``"none"``), and ``Literal`` annotations are checked, as they are
    for options on a command line.

    Raises:
        ConfigError: from the decorated function, for a value that does not fit.
    """
    known = functools.cache(lambda: {option.name: option for option in options_of(init)})

    @functools.wraps(init)
    def convert_and_call(self: Any, *arguments: Any, **options: Any) -> None:
        for name, value in options.items():
            if name in known():
                try:
                    options[name] = known()[name].convert(value)
                except ValueError as reason:
                    raise ConfigError(f"option {name!r} cannot be {_short(value)}", hint=str(reason)) from None
        init(self, *arguments, **options)

    return cast(Init, convert_and_call)


def names_of(value: Names) -> tuple[str, ...] | None:
    """Read "S2,S3", ["S2", "S3"] or the numbers of scenes as a tuple of names; None stays None.

    Raises:
        ConfigError: if it is none of these.
    """
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value
    if not isinstance(parts, Sequence):
        raise ConfigError(f"{value!r} is not a list of names", hint="Write S2,S3")
    names = tuple(str(part).strip() for part in parts)
    return tuple(name for name in names if name)


def bands_of(value: str | Sequence[str | Band] | None) -> tuple[Band, ...] | None:
    """Read "red,green,blue", names or bands; the unit of a name alone is unknown.

    Raises:
        ConfigError: if it is none of these, or a name occurs twice.
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


def number_of(value: float | str | None, option: str) -> float | None:
    """Read a number, "nan" or None.

    Raises:
        ConfigError: if it is none of these.
    """
    if value is None:
        return None
    try:
        return float(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(
            f"{_short(value)} is not a number", where=f"option {option}", hint="nan is allowed"
        ) from error


def whole_of(value: int | str, option: str) -> int:
    """Read an integer.

    Raises:
        ConfigError: if it is not an integer.
    """
    try:
        number = int(value)
        if isinstance(value, float) and number != value:
            raise ValueError
        return number
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"{_short(value)} is not an integer", where=f"option {option}") from error


def fractions_of(value: str | Sequence[float]) -> tuple[float, ...]:
    """Read "6,2,2", "6:2:2" or numbers.

    Raises:
        ConfigError: if a part is not a number.
    """
    try:
        parts = value.replace(":", ",").split(",") if isinstance(value, str) else value
        return tuple(float(part) for part in parts)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"{_short(value)} are not fractions", where="option fractions", hint="Write 6,2,2") from error


def _short(value: object) -> str:
    """The value for a message; Python refuses to print integers of more than 4,300 digits."""
    try:
        text = repr(value)
    except ValueError:
        return "this value"
    return text if len(text) <= 80 else text[:77] + "..."
