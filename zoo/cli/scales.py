"""Magnifications as people write them: numbers, separated by commas, or ``auto``."""

from __future__ import annotations

from typing import Literal

Scales = tuple[float, ...] | Literal["auto"]


def parse_scales(text: str) -> Scales:
    """The numbers in order, or ``auto``; their range is the library's to check.

    Raises:
        ConfigError: if the text is neither.
    """
    from zoo.errors import ConfigError

    if text == "auto":
        return "auto"
    try:
        return tuple(float(one) for one in text.split(","))
    except ValueError:
        raise ConfigError(
            f"{text!r} are no magnifications", where="--scales", hint="Use numbers such as 1,1.5,2, or auto"
        ) from None
