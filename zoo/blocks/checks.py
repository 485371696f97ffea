"""Checks of constructor arguments."""

from __future__ import annotations

from collections.abc import Iterable

from zoo.errors import ConfigError, UnknownNameError


def check_positive(where: object, **values: int) -> None:
    """Check that every value is a positive integer.

    Raises:
        ConfigError: if one is not; the message names the argument.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a positive integer, not {value!r}", where=_label(where))


def check_odd(where: object, **values: int) -> None:
    """Check that every kernel size is odd, so that it has a centre.

    Raises:
        ConfigError: if one is not; the message names the argument.
    """
    check_positive(where, **values)
    for name, value in values.items():
        if value % 2 == 0:
            raise ConfigError(f"{name} must be odd, not {value}, otherwise the output would shift", where=_label(where))


def check_choice(where: object, name: str, value: str, choices: Iterable[str]) -> None:
    """Check that a value is one of the choices.

    Raises:
        UnknownNameError: if it is not; the message lists the nearest choices.
    """
    known = list(choices)
    if value not in known:
        raise UnknownNameError(name, str(value), known, where=_label(where))


def _label(where: object) -> str:
    return where if isinstance(where, str) else type(where).__name__
