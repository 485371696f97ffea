"""Magnifications as an option: numbers, separated by commas, or ``auto``."""

from __future__ import annotations

from typing import Any, Literal

import click

Scales = tuple[float, ...] | Literal["auto"]


class ScalesType(click.ParamType):
    """Different numbers, such as ``1,1.5,2``, or ``auto``; their range is the library's to check."""

    name = "auto|X,X,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Scales:
        """The numbers, in order, or ``auto``."""
        if value == "auto" or isinstance(value, tuple):
            return value
        try:
            return tuple(float(text) for text in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} are no numbers, such as 1,1.5,2; auto chooses", param, ctx)


SCALES = ScalesType()
