"""What a user is told when a data set is not on this machine."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import DataError


def absent(name: str, root: Path, *, expected: str, source: str, how: str) -> DataError:
    """Make the error that says where to get a data set and where to put it.

    Args:
        name: name of the data set as a user types it, "landslide4sense".
        root: folder in which it was looked for.
        expected: what should have been there, relative to ``root``, "TrainData/img".
        source: where it is published, a URL.
        how: how to get it, after "Get it from SOURCE" ("unpack TrainData.zip there, or pass download=true").

    Returns:
        The error; the caller raises it.
    """
    state = "holds no" if root.is_dir() else "is no folder, so there is no"
    return DataError(
        f"{name} is not here: this {state} {expected}", where=root, hint=f"Get it from {source}, then {how}"
    )
