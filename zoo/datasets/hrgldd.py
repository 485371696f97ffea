"""HR-GLDD (Meena et al. 2023): PlanetScope patches of ten landslide events."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from zoo.datasets.base import SPLITS, DataWarning, Patch, Transform
from zoo.datasets.download import RemoteFile, absent, check_file, fetch
from zoo.datasets.stored import Origin, Progress, StoredPatchDataset
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.files import cache_folder
from zoo.physics.bands import Band

SOURCE = "https://zenodo.org/records/7189381"

PUBLISHED = {"train": 1119, "val": 284, "test": 355}
"""Patches of each split in the published arrays [S]."""
SIZE = 128
BANDS = 4
# The record's page gives an MD5 for each file; none could be looked up.
_NAMES = tuple(f"{split}{kind}" for split in SPLITS for kind in "XY")
FILES = {name: RemoteFile(f"{SOURCE}/files/{name}.npy", f"{name}.npy") for name in _NAMES}


def check_array(path: Path, shape: tuple[int | None, ...]) -> int:
    """Look at the head of an array, and at the length of its file.

    Args:
        path: an npy file.
        shape: expected; None for an axis of any length. A last axis of length 1 may be missing.

    Returns:
        Length of the first axis.

    Raises:
        DataError: if the file is damaged, holds Python objects or something that is no number, or is of another shape.
    """
    try:
        with path.open("rb") as handle:
            version = npy.read_magic(handle)
            if version not in {(1, 0), (2, 0)}:
                raise ValueError(f"version {version} of the format")
            head = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            found, _, dtype = head(handle)
            begin = handle.tell()
        size = path.stat().st_size
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"this is no npy file ({error})", where=path, hint=f"Get it anew from {SOURCE}") from error
    if dtype.hasobject:
        raise DataError(
            "this file holds Python objects, which are never loaded: they could run any code",
            where=path,
            hint=f"Get it anew from {SOURCE}",
        )
    if dtype.kind not in "fiub":
        raise DataError(f"this array holds {dtype}, not numbers", where=path)
    full = (*found, 1) if len(found) == len(shape) - 1 and shape[-1] == 1 else found
    if len(full) != len(shape) or any(want not in (None, have) for have, want in zip(full, shape, strict=True)):
        raise DataError(
            f"this array is {_words(found)} instead of {_words(shape)}",
            where=path,
            hint="Rows are patches, then height, width and bands",
        )
    needed = begin + int(np.prod(found, dtype=np.int64)) * dtype.itemsize
    if size < needed:
        raise DataError(f"the file ends early: {size} of {needed} bytes", where=path, hint=f"Get it anew from {SOURCE}")
    return found[0]


def read_row(path: Path, index: int) -> NDArray[Any]:
    """Read one row of an array; nothing else of the file is read.

    Raises:
        DataError: if the file has changed since it was checked.
    """
    try:
        # Opened anew each time: a map is copied whole when a data loader sends the data set to its workers.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[index])
    except (OSError, ValueError, EOFError, IndexError) as error:
        raise DataError(f"row {index} cannot be read ({error})", where=path) from error


def _words(shape: tuple[int | None, ...]) -> str:
    return " x ".join("N" if length is None else str(length) for length in shape) or "a single value"


ORDERS = {"rgbn": ("red", "green", "blue", "nir"), "bgrn": ("blue", "green", "red", "nir")}
NAMES = ORDERS["rgbn"]


class HRGLDD(StoredPatchDataset):
    """HR-GLDD, the high-resolution global landslide detector database.

    Dataset features:

    * 1,119 training, 284 validation and 355 test patches of 128 x 128 pixels at 3 m
    * 4 PlanetScope bands: red, green, blue, near infrared
    * ten events in Asia and the Americas, five triggered by rain and five by earthquakes
    * neither the event nor the place of a patch is published, so its splits cannot be checked for leaks

    Dataset format:

    * ``trainX.npy``, ``valX.npy``, ``testX.npy``: float32 N x 128 x 128 x 4
    * ``trainY.npy``, ``valY.npy``, ``testY.npy``: float32 N x 128 x 128 x 1, 0 background and 1 landslide
    * the unit of the images is not documented; it is no reflectance that could be relied on
    * the order of the bands is not documented either: the paper lists red, green, blue, NIR and the authors' notebook
      shows the first three as a picture, while PlanetScope's own products begin with blue (``order="bgrn"``)

    Dataset source: https://zenodo.org/records/7189381 (CC BY 4.0)

    If you use this dataset, please cite https://doi.org/10.5194/essd-15-3283-2023.
    """

    citation: ClassVar[str] = (
        "Meena, S. R., Nava, L., Bhuyan, K., Puliero, S., Soares, L. P., Dias, H. C., Floris, M., Catani, F. (2023). "
        "HR-GLDD: a globally distributed dataset using generalized deep learning (DL) for rapid landslide mapping on "
        "high-resolution (HR) satellite imagery. Earth System Science Data 15, 3283-3298, doi:10.5194/essd-15-3283-2023"
    )
    licence = "CC-BY-4.0"
    pixel_size = 3.0

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "train",
        transforms: Transform | None = None,
        *,
        bands: str | Sequence[str] = "all",
        order: Literal["rgbn", "bgrn"] = "rgbn",
        download: bool = False,
        checksum: bool = False,
        cache: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Open one split.

        Args:
            root: folder that holds the npy files; None for ``datasets/hrgldd`` in the cache folder.
            split: "train", "val" or "test".
            transforms: applied to every sample.
            bands: "all", or names in any order ("red,green,blue").
            order: order of the bands in the arrays, which the authors do not state.
            download: fetch missing files from Zenodo (576 MB).
            checksum: compare the files with their published checksum.
            cache: keep decoded patches in the cache folder; else decode at every reading.
            progress: called with what is done and all there is: mebibytes of a download, then patches decoded.

        Raises:
            DataError: if files are missing, damaged, or not as published.
            ConfigError: if an option is out of range.
            UnknownNameError: for a band or split that does not exist.
        """
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
        if order not in ORDERS:
            raise ConfigError(f"{order!r} is no choice", where="option order", hint="Choose rgbn, bgrn")
        self.root = cache_folder("datasets") / "hrgldd" if root is None else Path(root)
        self.split = split
        self.transforms = transforms
        self._download = download
        self._checksum = checksum
        self._progress = progress
        names = _parse_bands(bands)
        self._columns = [ORDERS[order].index(name) for name in names]
        self.bands = tuple(Band(name, "unknown", description=f"PlanetScope {name}") for name in names)
        self._images = self.root / f"{split}X.npy"
        self._masks = self.root / f"{split}Y.npy"
        self._verify()
        count = check_array(self._images, (None, SIZE, SIZE, BANDS))
        labelled = check_array(self._masks, (None, SIZE, SIZE, 1))
        if count != labelled:
            raise DataError(
                f"{count} images in {self._images.name} and {labelled} masks in {self._masks.name}",
                where=self.root,
                hint=f"Get both from {SOURCE}",
            )
        if not count:
            raise DataError("the array is empty", where=self._images, hint=f"Get it anew from {SOURCE}")
        if count != PUBLISHED[split]:
            warnings.warn(
                DataWarning(
                    f"{self._images}: {count} patches, and {PUBLISHED[split]} were published, so results on them "
                    "compare with no published figure"
                ),
                stacklevel=2,
            )
        self.patches = tuple(Patch(f"{split}/{index}", split) for index in range(count))
        self.split_notes = (
            f"files: {count} of {PUBLISHED[split]} patches",
            f"bands: taken to be {', '.join(ORDERS[order])}; the authors do not state the order",
            "split: as published",
            "leak: the event and place of a patch are not published, so neighbours may be in different splits",
        )
        origin = Origin((self._images, self._masks))
        self._store(
            [origin] * count, {"decoding": 1, "columns": self._columns, "split": split}, cache=cache, progress=progress
        )
        if not any((self.read(index)[1] == 1).any() for index in range(count)):
            raise DataError("no mask holds a landslide", where=self._masks, hint=f"Get it anew from {SOURCE}")

    def decode(self, index: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Decode one patch; see :meth:`zoo.datasets.stored.StoredPatchDataset.decode`."""
        image = np.moveaxis(read_row(self._images, index), -1, 0)[self._columns].astype(np.float32)
        if not np.isfinite(image).all():
            band, row, column = (int(place) for place in np.argwhere(~np.isfinite(image))[0])
            raise DataError(
                f"patch {index}: {self.bands[band].name} is not finite at row {row}, column {column}",
                where=self._images,
                hint=f"The published images have no missing values; get the file anew from {SOURCE}",
            )
        mask = read_row(self._masks, index).reshape(SIZE, SIZE)
        wrong = ~np.isin(mask, (0, 1))
        if wrong.any():
            row, column = (int(place) for place in np.argwhere(wrong)[0])
            raise DataError(
                f"patch {index}: the mask holds {mask[row, column]:g} at row {row}, column {column}; a mask holds 0 "
                "and 1",
                where=self._masks,
            )
        return image, mask.astype(np.uint8)

    def _verify(self) -> None:
        """Check that both files of the split are there; fetch them where that was asked for.

        Raises:
            DataError: saying where to get the data and where to put them; or a file is not the published one.
        """
        for path in (self._images, self._masks):
            remote = FILES[path.stem]
            if not path.is_file():
                if not self._download:
                    raise absent(
                        "hrgldd",
                        self.root,
                        expected=path.name,
                        source=SOURCE,
                        how="put its six npy files into this folder, or add --data-option download=true",
                    )
                fetch(remote, self.root, self._show_bytes)
            elif self._checksum and remote.digest is not None:
                check_file(remote, path)
            if self._checksum and remote.digest is None:
                warnings.warn(
                    DataWarning(f"{path.name}: no checksum of it is known here, so it was not checked"), stacklevel=3
                )

    def _show_bytes(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(done >> 20, max(total >> 20, 1))


def _parse_bands(bands: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(bands, str):
        bands = NAMES if bands.strip().lower() == "all" else bands.split(",")
    names = tuple(str(band).strip().lower() for band in bands)
    for name in names:
        if name not in NAMES:
            raise UnknownNameError("band", name, (*NAMES, "all"), where="option bands")
    if not names or len(set(names)) < len(names):
        raise ConfigError("each band once, and at least one", where="option bands", hint="Write red,green,blue,nir")
    return names
