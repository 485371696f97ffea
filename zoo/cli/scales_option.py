"""Magnifications as an option: numbers, separated by commas."""

from __future__ import annotations

from typing import Any

import click


class ScalesType(click.ParamType):
    """Different numbers, such as ``1,1.5,2``; their range is the library's to check."""

    name = "X,X,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """The numbers, in order."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(text) for text in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} are no numbers, such as 1,1.5,2", param, ctx)


SCALES = ScalesType()
