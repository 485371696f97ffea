"""Read options of data sets as users write them, on a command line or in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zoo.errors import ConfigError
from zoo.physics.bands import Band

Names = str | int | Sequence[str | int] | None


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


def mask_values_of(value: str | Sequence[int] | Mapping[int, int] | None) -> tuple[tuple[int, int], ...] | None:
    """Read "0,255", "0:0,1:1,2:1", a sequence or a mapping as pairs of raw value and class.

    Raises:
        ConfigError: if it is none of these, or a raw value occurs twice.
    """
    if value is None:
        return None
    try:
        if isinstance(value, Mapping):
            return tuple(sorted((int(raw), int(index)) for raw, index in value.items()))
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else [str(part) for part in value]
        pairs = [
            (int(part.split(":")[0]), int(part.split(":")[1])) if ":" in part else (int(part), index)
            for index, part in enumerate(parts)
        ]
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{_short(value)} are not mask values", where="option mask_values", hint="Write 0,255 or 0:0,1:1,2:1"
        ) from error
    if len({raw for raw, _ in pairs}) < len(pairs):
        raise ConfigError(f"{_short(value)} names a value twice", where="option mask_values")
    return tuple(sorted(pairs))


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
