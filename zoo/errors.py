"""Errors for users: what is wrong, where, and what to do about it.

Every error that bad input can cause is a :class:`ZooError`. The command line prints it in one or two lines and
exits with status 2; a library user catches it by type. Any other exception is a bug in zoo or in a plugin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

_LONG_WORD = re.compile(r"\S{500,}")
"""Matches words so long that nobody typed them; messages show only their beginning."""


class ZooError(Exception):
    """An error that the user can correct.

    Args:
        problem: what is wrong, in one sentence without a final full stop.
        where: the file, band, row, plugin or option in which it is wrong.
        hint: what the user should do next.
    """

    def __init__(self, problem: str, *, where: object = None, hint: str | None = None) -> None:
        self.problem = _LONG_WORD.sub(_shortened, problem)
        self.where = None if where is None else str(where)
        self.hint = hint
        super().__init__(self.problem, self.where, hint)

    def __str__(self) -> str:
        text = self.problem if self.where is None else f"{self.where}: {self.problem}"
        stop = "" if text.endswith("?") else "."
        return text if self.hint is None else f"{text}{stop} {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are pickled between benchmark processes; keyword-only arguments would be lost.
        return _rebuild, (type(self), self.problem, self.where, self.hint)


def error_message(error: BaseException) -> str:
    """Return the message of an error, even if its ``__str__`` raises."""
    try:
        return str(error)
    except Exception:
        return "its message cannot be shown"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, at most 200 characters, or the name of its type if it has no text."""
    return next(
        (line.strip()[:200] for line in error_message(error).splitlines() if line.strip()), type(error).__name__
    )


def one_line(error: BaseException) -> str:
    """Return the type, message and notes of an error on one line, even if its ``__str__`` raises."""
    text = " ".join("; ".join([error_message(error), *map(str, getattr(error, "__notes__", ()))]).split())
    if isinstance(error, ZooError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _shortened(word: re.Match[str]) -> str:
    return f"{word[0][:100]}... ({len(word[0]):,} characters)"


def _rebuild(kind: type[ZooError], problem: str, where: str | None, hint: str | None) -> ZooError:
    error = kind.__new__(kind)
    ZooError.__init__(error, problem, where=where, hint=hint)
    return error


class UnknownNameError(ZooError):
    """A model, data set, loss, option, group or column that does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, where: object = None) -> None:
        known = sorted(known)
        super().__init__(f"unknown {kind} {name!r}", where=where, hint=suggestion(name, known))


class PluginError(ZooError):
    """A plugin that cannot be loaded, or that registers a name twice."""


class ModelError(ZooError):
    """A model that cannot be created or trained, or that got input of the wrong shape or type."""


class DataError(ZooError):
    """A data file or folder that is missing, damaged or of the wrong kind."""


class ConfigError(ZooError):
    """Options that contradict each other or are out of range."""


class ResultError(ZooError):
    """A result file or bundle that cannot be trusted."""


class ResumeError(ResultError):
    """A resume state that cannot be used, because it is damaged or from another version of the model."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``Did you mean 'unet'?``, or the list of known names if none is similar."""
    known = sorted(known)
    folded = {candidate.casefold(): candidate for candidate in reversed(known)}
    close = [folded[match] for match in get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)]
    if close:
        return "Did you mean " + " or ".join(repr(candidate) for candidate in close) + "?"
    if not known:
        return "There are none"
    shown = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    return f"There are: {shown}"
