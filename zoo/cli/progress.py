"""Progress on a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from zoo.cli.console import err, note
from zoo.machine import cores_in_use, describe_use, is_busy, waiting_variables


def _make_bar() -> Any:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = err()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error until the block ends; show nothing if that is not a terminal."""
    with _make_bar() as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def prepare_threads() -> None:
    """Choose how the threads of torch wait, before it is imported, and report other programs that use the machine."""
    in_use = cores_in_use()
    os.environ.update(waiting_variables(in_use))
    if in_use is not None and is_busy(in_use):
        note(f"{describe_use(in_use)}: this takes longer, and its timings are not valid for an idle machine")


@contextmanager
def stage_progress(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar labelled with the current stage; ``what`` is the label before the first stage."""
    with _make_bar() as bar:
        task = bar.add_task(what, total=None)
        current = what

        def show(stage: str, done: int, total: int) -> None:
            nonlocal task, current
            if stage != current:
                bar.remove_task(task)
                task, current = bar.add_task(stage, total=None), stage
            bar.update(task, completed=done, total=total)

        yield show


class LazyProgressBar:
    """A progress bar on standard error that appears with the first step, if that is a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._what = ""

    @property
    def active(self) -> bool:
        """Whether the bar has been shown and not stopped."""
        return bool(self._what)

    def show(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps of some work are done."""
        if what != self._what:
            self.stop()
            self._what, self._bar = what, _make_bar()
            self._task = self._bar.add_task(what, total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total)

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._what = None, ""
