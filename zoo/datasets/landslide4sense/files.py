"""Where the files of Landslide4Sense are, in both published layouts, and how one is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from zoo.datasets.download import RemoteFile, absent
from zoo.datasets.landslide4sense.bands import NAMES
from zoo.errors import DataError

SIZE = 128
PUBLISHED = {"train": 3799, "val": 245, "test": 800}
"""Patches of each official split [S]."""
FOLDERS = {"train": "TrainData", "val": "ValidData", "test": "TestData"}
_MIRROR = {"train": "train", "val": "validation", "test": "test"}
SOURCE = "https://zenodo.org/records/10463239"
ARCHIVES = {
    # The record's page gives an MD5 for each file; only that of the training archive could be looked up.
    split: RemoteFile(
        f"{SOURCE}/files/{folder}.zip",
        f"{folder}.zip",
        md5="408f09247e3dd256458bc2f6e9edbffb" if split == "train" else None,
    )
    for split, folder in FOLDERS.items()
}
UNPACKED = {split: int(1.05 * count * (1_837_056 + 18_432)) + (1 << 20) for split, count in PUBLISHED.items()}
"""Bytes that an archive may unpack to: those of the published files, and 5 % and a mebibyte more [O]."""

SCENES: tuple[tuple[str, int, int], ...] = (("S1", 1, 41), ("S2", 3035, 15), ("S3", 3185, 11), ("S4", 3306, 26))
"""Name, first number and columns of each scene of the training split [S].

The release names no scenes. The patches are numbered in scan order, and the edges of neighbouring patches match on a
grid of so many columns: found from the DEM seams of all 3,799 patches, and confirmed by the 1,980 rows and columns that
the tests hold it against. Which scene is which area is not known."""

_IMAGE = re.compile(r"image_(\d+)\.h5")


@dataclass(frozen=True)
class SplitFiles:
    """The files of one official split.

    Attributes:
        layout: "competition" or "mirror".
        folder: of the images.
        numbers: of the patches, as their files are named, ascending.
        images: in the order of ``numbers``.
        masks: likewise; None where the split comes without.
    """

    layout: str
    folder: Path
    numbers: tuple[int, ...]
    images: tuple[Path, ...]
    masks: tuple[Path, ...] | None


def is_there(root: Path, split: str) -> bool:
    """Say whether the images of an official split are below ``root``, in either layout."""
    return any(images.is_dir() for _, images, _ in _places(root, split))


def find_split(root: Path, split: str) -> SplitFiles:
    """Find the files of one official split; the competition's layout goes before the mirror's.

    Args:
        root: folder that holds ``TrainData`` and its like, or ``images`` and ``annotations``.
        split: "train", "val" or "test".

    Raises:
        DataError: if there is no such split, it is empty, or some of its images have a mask and others none.
    """
    for layout, folder, mask_folder in _places(root, split):
        if not folder.is_dir():
            continue
        found = sorted((int(name[1]), path) for path in folder.iterdir() if (name := _IMAGE.fullmatch(path.name)))
        if not found:
            raise DataError(
                "no file is called image_1.h5 or the like",
                where=folder,
                hint=f"Unpack {FOLDERS[split]}.zip of {SOURCE} anew",
            )
        numbers = tuple(number for number, _ in found)
        if len(set(numbers)) < len(numbers):
            raise DataError(f"two images have the number {max(numbers, key=numbers.count)}", where=folder)
        # By name: the mirror's annotations/train holds five image files among its masks.
        masks = tuple(mask_folder / path.name.replace("image_", "mask_") for _, path in found)
        missing = [mask for mask in masks if not mask.is_file()]
        if missing and len(missing) < len(masks):
            raise DataError(
                f"{len(missing)} of {len(masks)} masks are missing; the first is {missing[0].name}",
                where=mask_folder,
                hint=f"Unpack {FOLDERS[split]}.zip of {SOURCE} anew",
            )
        return SplitFiles(layout, folder, numbers, tuple(path for _, path in found), None if missing else masks)
    raise absent(
        "landslide4sense",
        root,
        expected=f"{FOLDERS[split]}/img and no images/{_MIRROR[split]}",
        source=SOURCE,
        how=f"put {FOLDERS[split]}.zip into this folder, or add --data-option download=true; see "
        "docs/datasets/landslide4sense.md",
    )


def place_of(number: int) -> tuple[str, int, int]:
    """Give scene, row and column of a training patch by its number."""
    scene, first, columns = max((entry for entry in SCENES if entry[1] <= number), key=lambda entry: entry[1])
    return scene, (number - first) // columns, (number - first) % columns


def read_image(path: Path) -> NDArray[np.float64]:
    """Read one image.

    Returns:
        float64 (14, 128, 128), values as published.

    Raises:
        DataError: if the file is damaged or not as published.
    """
    values = _read(path, "img", (SIZE, SIZE, len(NAMES)))
    if values.dtype.kind not in "fiu":
        raise DataError(f"the image holds {values.dtype}, not numbers", where=path)
    if not np.isfinite(values).all():
        row, column, band = (int(place) for place in np.argwhere(~np.isfinite(values))[0])
        raise DataError(
            f"band {NAMES[band]} is not finite at row {row}, column {column}",
            where=path,
            hint="The published images have no missing values; unpack the archive anew",
        )
    return np.moveaxis(values, -1, 0).astype(np.float64, copy=False)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read one mask.

    Returns:
        uint8 (128, 128), 0 background, 1 landslide.

    Raises:
        DataError: if the file is damaged or not as published.
    """
    values = _read(path, "mask", (SIZE, SIZE))
    wrong = ~np.isin(values, (0, 1))
    if wrong.any():
        row, column = (int(place) for place in np.argwhere(wrong)[0])
        raise DataError(
            f"the mask holds {values[row, column]} at row {row}, column {column}; a mask holds 0 and 1", where=path
        )
    return values.astype(np.uint8)


def _places(root: Path, split: str) -> tuple[tuple[str, Path, Path], ...]:
    competition, mirror = root / FOLDERS[split], _MIRROR[split]
    return (
        ("competition", competition / "img", competition / "mask"),
        ("mirror", root / "images" / mirror, root / "annotations" / mirror),
    )


def _read(path: Path, key: str, shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        with h5py.File(path, "r") as file:
            if key not in file or not isinstance(file[key], h5py.Dataset):
                keys = ", ".join(sorted(file)) or "nothing"
                raise DataError(f"there is no array {key!r} in this file; it holds {keys}", where=path)
            if file[key].shape != shape:
                raise DataError(f"array {key!r} is {_words(file[key].shape)} instead of {_words(shape)}", where=path)
            values: NDArray[Any] = file[key][...]
    except (OSError, RuntimeError) as error:
        raise DataError(
            "this is no whole HDF5 file", where=path, hint="It was cut or damaged; unpack the archive anew"
        ) from error
    return values


def _words(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single value"
