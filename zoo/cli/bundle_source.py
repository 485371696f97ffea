"""The argument BUNDLE of commands, and opening the bundle that it names with progress on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zoo.cli.console import note
from zoo.cli.progress import ProgressBarOnDemand, prepare_threads

if TYPE_CHECKING:
    from zoo.api.trained_model import TrainedModel

Command = TypeVar("Command", bound=Callable[..., Any])


def bundle_argument(command: Command) -> Command:
    """Add the argument BUNDLE and the option ``--sha256`` to a click command."""
    return click.argument("bundle")(sha256_option(command))


def sha256_option(command: Command) -> Command:
    """Add the option ``--sha256`` to a click command."""
    help_text = "Checksum of the .zip that an https address names, if the address does not end with #sha256=..."
    return click.option("--sha256", metavar="CHECKSUM", help=help_text)(command)


def open_bundle(bundle: str, sha256: str | None, device: str) -> TrainedModel:
    """Open the bundle that a user named; see :func:`zoo.load`.

    Raises:
        ZooError: if it is not a bundle, or cannot be downloaded.
    """
    from zoo.api.trained_model import load

    prepare_threads()
    with download_progress() as show:
        return load(bundle, device=device, sha256=sha256, progress=show, notify=note)


def fetch_bundle(bundle: str) -> None:
    """Download the bundle that a user named, unless it is on this machine; see :func:`zoo.pull`.

    Raises:
        ZooError: if it is not a bundle, or cannot be downloaded.
    """
    from zoo.api.weights import pull

    with download_progress() as show:
        pull(bundle, progress=show, notify=note)


@contextmanager
def download_progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error as soon as bytes arrive."""
    bar = ProgressBarOnDemand()
    try:
        yield lambda done, total: bar.show("fetching the weights", done, total)
    finally:
        bar.stop()
