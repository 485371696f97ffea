"""Options that the commands under ``zoo risk`` share, and their progress bar."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import ConfigError


def numbers(text: str, option: str, example: str, count: int) -> list[float]:
    """Numbers between commas.

    Raises:
        ConfigError: if they are not ``count`` numbers.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count:
        raise ConfigError(f"{text!r} is not {count} numbers", where=option, hint=f"Write it like {example}")
    return found


def rain_option(text: str | None) -> tuple[tuple[float, float] | None, Path | None]:
    """``P,D`` as two numbers, or else a file.

    Raises:
        ConfigError: if it is neither, or a number is negative or not finite.
    """
    if text is None:
        return None, None
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        if Path(text).suffix or Path(text).exists():
            return None, Path(text)
        found = []
    if len(found) != 2:
        raise ConfigError(
            f"{text!r} is neither two numbers nor a raster",
            where="--rain",
            hint="Write 12,2 (mm/h, days), or name a GeoTIFF",
        )
    for what, value, unit in zip(("intensity", "duration"), found, ("mm/h", "days"), strict=True):
        if not 0 <= value < float("inf"):
            raise ConfigError(f"rain {what} of {value:g} {unit}", where="--rain", hint="It is not negative, and finite")
    return (found[0], found[1]), None
