"""Open the data and the bundle that a user named, with progress and warnings on standard error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zoo.cli.console import note, warn
from zoo.cli.progress import LazyProgressBar, prepare_threads, progress

if TYPE_CHECKING:
    from zoo.api.trained_model import TrainedModel
    from zoo.datasets.base import PatchDataset
    from zoo.datasets.source import DataSource

Command = TypeVar("Command", bound=Callable[..., Any])


def open_splits(source: DataSource) -> dict[str, PatchDataset]:
    """Open train, val and test, and print a summary on standard error.

    Raises:
        ZooError: if the data are missing or damaged, or a split has no patch.
    """
    splits = _open(source, ("train", "val", "test"))
    describe_splits(source, splits)
    return splits


def describe_splits(source: DataSource, splits: dict[str, PatchDataset]) -> None:
    """Print the number of patches, their size and bands, and how they were split, on standard error."""
    train = splits["train"]
    sizes = ", ".join(f"{len(dataset)} {split}" for split, dataset in splits.items())
    bands = ", ".join(band.name for band in train.bands)
    height, width = train[0]["mask"].shape
    note(f"data {source.label}: {sizes} patches of {height} x {width} px; {len(train.bands)} bands: {bands}")
    for text in train.split_notes:
        note(f"  {text}")


def open_split(source: DataSource, split: str) -> PatchDataset:
    """Open one split with progress and warnings.

    Raises:
        ZooError: if the data are missing or damaged, or the split has no patch.
    """
    return _open(source, (split,))[split]


@contextmanager
def data_warnings() -> Iterator[None]:
    """Print the warnings that data sets raise inside the block, each once."""
    from zoo.datasets import DataWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        yield
    for text in dict.fromkeys(str(entry.message) for entry in caught if issubclass(entry.category, DataWarning)):
        warn(text)


def _open(source: DataSource, splits: Sequence[str]) -> dict[str, PatchDataset]:
    from zoo.errors import DataError

    with data_warnings(), progress(source.label) as show:
        opened = source.open_splits(splits, show)
    for split, dataset in opened.items():
        if not len(dataset):
            raise DataError(f"the {split} split is empty", where=source.label, hint="Split the data differently")
    return opened


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
    bar = LazyProgressBar()
    try:
        yield lambda done, total: bar.show("fetching the weights", done, total)
    finally:
        bar.stop()
