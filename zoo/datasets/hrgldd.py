"""HR-GLDD (Meena et al. 2023): PlanetScope patches of ten landslide events."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.arguments import checked_options
from zoo.datasets.base import SPLITS, DataWarning, Patch, Transform, shape_text
from zoo.datasets.builtin import HRGLDD as SPEC
from zoo.datasets.download import RemoteFile, check_file, fetch, missing_dataset_error
from zoo.datasets.npy import NpyHeader, map_npy, read_npy_header
from zoo.datasets.stored import PatchSource, StoredPatchDataset, binary_mask, check_finite
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.jobs import ProgressCallback
from zoo.physics.bands import Band

SOURCE = "https://zenodo.org/records/7189381"
PUBLISHED = {"train": 1119, "val": 284, "test": 355}
"""Number of patches of each split in the published arrays [S]."""
SIZE = 128
ORDERS = {"rgbn": ("red", "green", "blue", "nir"), "bgrn": ("blue", "green", "red", "nir")}
NAMES = ORDERS["rgbn"]
FILES = {
    # The record's page gives an MD5 for each file, but none could be retrieved.
    name: RemoteFile(f"{SOURCE}/files/{name}.npy", f"{name}.npy")
    for name in (f"{split}{kind}" for split in SPLITS for kind in "XY")
}
_DOWNLOAD_HINT = f"Get it again from {SOURCE}"


class HRGLDD(StoredPatchDataset):
    """HR-GLDD, the high-resolution global landslide detector database.

    Dataset features:

    * 1,119 training, 284 validation and 355 test patches of 128 x 128 pixels at 3 m
    * 4 PlanetScope bands: red, green, blue, near infrared
    * ten events in Asia and the Americas, five triggered by rain and five by earthquakes
    * event and location of each patch are not published, so the splits cannot be checked for leaks

    Dataset format:

    * ``trainX.npy``, ``valX.npy``, ``testX.npy``: float32 N x 128 x 128 x 4
    * ``trainY.npy``, ``valY.npy``, ``testY.npy``: float32 N x 128 x 128 x 1, 0 background and 1 landslide
    * the unit of the images is not documented; do not interpret the values as reflectances
    * the order of the bands is not documented: the paper lists red, green, blue, NIR and the authors' notebook displays
      the first three as RGB, while PlanetScope's own products begin with blue (``order="bgrn"``)

    Dataset source: https://zenodo.org/records/7189381 (CC BY 4.0)

    If you use this dataset, please cite https://doi.org/10.5194/essd-15-3283-2023.

    Args:
        root: folder that contains the npy files; None for ``datasets/hrgldd`` in the cache folder.
        split: "train", "val" or "test".
        transforms: function that is applied to every sample.
        bands: "all", or names in any order ("red,green,blue").
        order: order of the bands in the arrays, which the authors do not state.
        download: whether to download missing files from Zenodo (576 MB).
        checksum: whether to compare the files with their published checksums.
        cache: whether to keep decoded patches in the cache folder; if false, patches are decoded at every read.
        progress: called with the number of items done and the total: mebibytes of a download, then patches decoded.

    Raises:
        DataError: if files are missing, damaged or not as published.
        ConfigError: if an option is out of range.
        UnknownNameError: if a band or the split does not exist.

    >>> data = HRGLDD("HRGLDD", "train", bands="nir,red,green")  # doctest: +SKIP
    """

    name = "hrgldd"
    citation: ClassVar[str] = SPEC.citation
    licence = SPEC.licence
    pixel_size = 3.0

    @checked_options
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
        progress: ProgressCallback | None = None,
    ) -> None:
        self._begin(root, split, transforms, progress)
        self._download = download
        self._checksum = checksum
        names = _parse_bands(bands)
        self._columns = [ORDERS[order].index(name) for name in names]
        self.bands = tuple(Band(name, "unknown", description=f"PlanetScope {name}") for name in names)
        self._images = self.root / f"{split}X.npy"
        self._masks = self.root / f"{split}Y.npy"
        self._verify()
        self._headers = self._check_arrays()
        count = self._headers[0].shape[0]
        self.patches = tuple(Patch(f"{split}/{index}", split) for index in range(count))
        self.split_notes = (
            f"files: {count} of {PUBLISHED[split]} patches",
            f"bands: read as {', '.join(ORDERS[order])}; the authors do not state the order",
            "split: as published",
            "leak: the event and location of a patch are not published, so neighbours may be in different splits",
        )
        settings = {"decoding": 1, "columns": self._columns, "split": split}
        self._store([PatchSource((self._images, self._masks))] * count, settings, cache=cache)
        if not self._has_landslides():
            raise DataError("no mask holds a landslide", where=self._masks, hint=_DOWNLOAD_HINT)

    def decode(self, index: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Decode one patch; see :meth:`zoo.datasets.stored.StoredPatchDataset.decode`."""
        patch = f"patch {index}"
        # Map the file for each patch: data loaders would copy the whole map when they send the data set to workers.
        images, masks = (
            map_npy(path, header) for path, header in zip((self._images, self._masks), self._headers, strict=True)
        )
        image = np.moveaxis(images[index], -1, 0)[self._columns].astype(np.float32)
        names = [band.name for band in self.bands]
        hint = f"The published images have no missing values. {_DOWNLOAD_HINT}"
        check_finite(image, names, self._images, hint=hint, patch=patch)
        return image, binary_mask(masks[index].reshape(SIZE, SIZE), self._masks, patch=patch)

    def _verify(self) -> None:
        """Check that both files of the split exist; download them if requested.

        Raises:
            DataError: if a file is missing or differs from the published one.
        """
        for path in (self._images, self._masks):
            remote = FILES[path.stem]
            if not path.is_file():
                if not self._download:
                    raise missing_dataset_error(
                        "hrgldd",
                        self.root,
                        expected=path.name,
                        source=SOURCE,
                        advice="put its six npy files into this folder, or add --data-option download=true",
                    )
                fetch(remote, self.root, self._show_bytes)
            elif self._checksum and remote.digest is not None:
                check_file(remote, path)
            if self._checksum and remote.digest is None:
                warnings.warn(
                    DataWarning(f"{path.name}: its published checksum is not known here, so it was not checked"),
                    stacklevel=4,
                )

    def _check_arrays(self) -> tuple[NpyHeader, NpyHeader]:
        """Return the headers of images and masks, which must hold the same number of patches."""
        images = check_array(self._images, (None, SIZE, SIZE, len(NAMES)))
        masks = check_array(self._masks, (None, SIZE, SIZE, 1))
        count, labelled = images.shape[0], masks.shape[0]
        if count != labelled:
            raise DataError(
                f"{self._images.name} holds {count} images, but {self._masks.name} holds {labelled} masks",
                where=self.root,
                hint=f"Get both from {SOURCE}",
            )
        if not count:
            raise DataError("the array is empty", where=self._images, hint=_DOWNLOAD_HINT)
        if count != PUBLISHED[self.split]:
            warnings.warn(
                DataWarning(
                    f"{self._images}: {count} patches, but {PUBLISHED[self.split]} were published, so results cannot "
                    "be compared with published figures"
                ),
                stacklevel=4,
            )
        return images, masks


def check_array(path: Path, shape: tuple[int | None, ...]) -> NpyHeader:
    """Read the header of an npy file and compare its shape.

    Args:
        path: the file.
        shape: expected shape; None for an axis of any length. A last axis of length 1 may be missing.

    Raises:
        DataError: if the file is damaged, holds Python objects or no numbers, or has another shape.
    """
    header = read_npy_header(path, hint=_DOWNLOAD_HINT)
    found = header.shape
    full = (*found, 1) if len(found) == len(shape) - 1 and shape[-1] == 1 else found
    if len(full) != len(shape) or any(
        expected not in (None, actual) for actual, expected in zip(full, shape, strict=True)
    ):
        raise DataError(
            f"this array is {shape_text(found)} instead of {shape_text(shape)}",
            where=path,
            hint="Rows are patches, then height, width and bands",
        )
    return header


def _parse_bands(bands: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(bands, str):
        bands = NAMES if bands.strip().lower() == "all" else bands.split(",")
    names = tuple(str(band).strip().lower() for band in bands)
    for name in names:
        if name not in NAMES:
            raise UnknownNameError("band", name, (*NAMES, "all"), where="option bands")
    if not names or len(set(names)) < len(names):
        raise ConfigError("name each band once, and at least one", where="option bands", hint="Write red,green,blue")
    return names
