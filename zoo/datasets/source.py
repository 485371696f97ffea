"""A data set with its options as one JSON-serialisable value, with methods that open its splits."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError
from zoo.files import is_file, is_folder, printable
from zoo.jobs import ProgressCallback
from zoo.registry import catalogue, create_dataset, list_datasets

if TYPE_CHECKING:
    from zoo.datasets.base import PatchDataset

_RESERVED = ("name", "split", "transforms", "progress")


@dataclass(frozen=True)
class DataSource:
    """Registered data set with its options.

    Attributes:
        name: registered name.
        options: keyword arguments of the data set, including ``root`` if it has one.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, options: dict[str, Any] | None = None) -> DataSource:
        """Return the data set with a registered name, or the ``folder`` data set for a path.

        A registered name takes precedence over a folder of that name; use ``./bijie`` for the folder.

        Raises:
            ZooError: if the text is neither a name nor a folder.
        """
        options = dict(options or {})
        if text in catalogue().datasets:
            return cls(text, options)
        if text != printable(text):
            raise DataError(
                "the name holds control characters or is not valid UTF-8", where=printable(text), hint="Rename it"
            )
        if is_folder(text):
            return cls("folder", {"root": str(Path(text).resolve()), **options})
        if is_file(text):
            raise DataError("is a file", where=text, hint="Name the folder that contains images and masks")
        if Path(text).parent != Path() or text.startswith((".", "~")):
            raise DataError("there is no such folder", where=text)
        raise UnknownNameError("data set or folder", text, list_datasets())

    @classmethod
    def of(cls, data: str | os.PathLike[str] | DataSource, options: Mapping[str, Any] | None = None) -> DataSource:
        """Return the data set that a caller named, with ``options`` added to its own; see :meth:`parse`."""
        if isinstance(data, DataSource):
            return cls(data.name, {**data.options, **(options or {})})
        return cls.parse(os.fspath(data), dict(options or {}))

    def open(self, split: str, progress: ProgressCallback | None = None) -> PatchDataset:
        """Open one split.

        Args:
            split: "train", "val" or "test".
            progress: called while patches are read.

        Raises:
            ZooError: if the data are missing or damaged.

        Warns:
            DataWarning: if a folder in the working directory has the same name as the data set.
        """
        for option in _RESERVED:
            if option in self.options:
                raise ConfigError(f"{option!r} is not an option of a data set", where=f"data set {self.name!r}")
        extra = {} if progress is None else {"progress": progress}
        with self._folder_of_same_name():
            return create_dataset(self.name, split, **self.options, **extra)

    def open_splits(
        self, splits: Sequence[str] = ("train", "val", "test"), progress: ProgressCallback | None = None
    ) -> dict[str, PatchDataset]:
        """Open several splits at once: a data set that can share its files between splits reads them only once.

        A data set shares them through a method ``with_split(split)`` that returns another split of the same files, such
        as :meth:`zoo.datasets.folder.Folder.with_split`. Other data sets are opened once per split.

        Args:
            splits: names of the splits, in the order of the result.
            progress: called while patches are read.

        Raises:
            ZooError: if the data are missing or damaged.
        """
        first = self.open(splits[0], progress)
        share = getattr(first, "with_split", None)
        return {
            split: first if split == splits[0] else self.open(split, progress) if share is None else share(split)
            for split in splits
        }

    @property
    def label(self) -> str:
        """Name for headings: the last part of a folder's path, otherwise the registered name."""
        return Path(str(self.options["root"])).name if self.name == "folder" and "root" in self.options else self.name

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {"name": self.name, "options": self.options}

    @contextmanager
    def _folder_of_same_name(self) -> Iterator[None]:
        """Warn that a folder with the name of the data set is not used."""
        if self.name == "folder" or "root" in self.options or not is_folder(self.name):
            yield
            return
        text = f"the registered data set is used, not the folder {self.name}/; for the folder, write ./{self.name}"
        try:
            yield
        except ZooError as error:
            error.hint = f"{error.hint}. Note: {text}" if error.hint else text
            raise
        from zoo.datasets.base import DataWarning

        warnings.warn(DataWarning(f"data set {self.name!r}: {text}"), stacklevel=4)
