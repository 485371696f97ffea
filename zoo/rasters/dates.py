"""Dates as inventories and stacks write them: a day, or no more than a month or a year."""

from __future__ import annotations

import calendar
import re
from datetime import date, datetime
from typing import Any, TypeAlias

import numpy as np

from zoo.errors import ConfigError

Period: TypeAlias = tuple[date, date]
"""First and last day of the time in which something happened."""

_WRITTEN = re.compile(r"(\d{4})(?:[-/](\d{1,2})(?:[-/](\d{1,2})(?:[T ].*)?)?)?$")


def parse_period(value: Any) -> Period | None:
    """Read a day, a month ("2010-07") or a year (2010, "2010") as the days that it may mean.

    Args:
        value: a text, a number, a date or a time, as a column of a vector file holds it.

    Returns:
        First and last day; None for what is no date: nothing, NaN, 0, "unknown".
    """
    if isinstance(value, np.datetime64):
        value = None if np.isnat(value) else value.astype("datetime64[s]").item()
    if isinstance(value, datetime):
        # pandas' NaT is a datetime, and not equal to itself.
        return (value.date(), value.date()) if value == value else None
    if isinstance(value, date):
        return value, value
    if isinstance(value, (float, np.floating)):
        if not float(value).is_integer():
            return None
        value = int(value)
    match = _WRITTEN.match(str(value).strip())
    if match is None:
        return None
    year, month, day = (int(part) if part else None for part in match.groups())
    try:
        if year is None or month is None:
            return date(year or 0, 1, 1), date(year or 0, 12, 31)
        if day is None:
            return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])
        return date(year, month, day), date(year, month, day)
    except ValueError:
        return None


def parse_day(text: str, where: str) -> date:
    """Read an ISO date, the time of day left out.

    Raises:
        ConfigError: if it is none.
    """
    period = parse_period(text)
    if period is None or period[0] != period[1]:
        raise ConfigError(f"{text!r} is no date", where=where, hint="Write year-month-day, such as 2024-06-15")
    return period[0]
