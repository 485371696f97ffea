"""Progress on a terminal, and clean stops."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from zoo.cli.console import err


def _make_bar() -> Any:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = err()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error until the work is done; show nothing if that is not a terminal."""
    with _make_bar() as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def stage_progress(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar whose text is the current stage; ``what`` is the text before the first stage."""
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


@contextmanager
def stoppable() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, so that working files of gigabytes are removed."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
