"""A folder of images without masks: patches of a region that nobody has labelled."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.arguments import Names, bands_of, names_of, number_of
from zoo.datasets.base import Patch
from zoo.datasets.folder.files import Decoded, channels_first, read_file
from zoo.datasets.folder.grouping import find_origins
from zoo.datasets.folder.naming import name_bands
from zoo.datasets.folder.pairing import FOLDER_NAMES, list_files
from zoo.errors import DataError, UnknownNameError
from zoo.physics.bands import Band
from zoo.rasters.reading import plain_patches


class ImageFolder:
    """Images of a folder, read one at a time; masks beside them are not opened.

    The folder is one that :class:`zoo.datasets.Folder` reads, one with a folder of images alone, or the folder of the
    images itself. Options mean what they mean there.

    Args:
        root: the folder.
        channels: bands that an image should have; tells bands first from bands last in NPY and HDF5 files.
        groups: keep the patches of these groups; None for all.
        images: name of the folder of images below ``root``; None to find it.
        bands: names of the bands in order, or bands with units.
        image_key: name of the image array in HDF5 files; None to find it.
        layout: "CHW", "HWC" or "auto".
        nodata: value of missing pixels; None for what TIFFs say.
        table: name of the CSV file in ``root``; None to find it.
        group_column: column of the CSV file that names the group.
        group_pattern: regular expression on file names, with the group in parentheses.
        file_column: column of the CSV file that names the image.
        progress: called with the number of images found good and of all.

    Attributes:
        bands: of the images.
        patches: where each comes from, in order of the names.

    Raises:
        DataError: if there is no image, or one is damaged or differs from the first.
        UnknownNameError: for a group that does not exist.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        channels: int,
        groups: Names = None,
        images: str | None = None,
        bands: str | Sequence[str | Band] | None = None,
        image_key: str | None = None,
        layout: str = "auto",
        nodata: float | str | None = None,
        table: str | None = None,
        group_column: str | None = None,
        group_pattern: str | None = None,
        file_column: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.root = Path(root)
        folder = _folder_of_images(self.root, images)
        paths = list_files(folder, "image")
        named = {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}
        self._channels, self._key, self._layout = channels, image_key, layout
        self._nodata = number_of(nodata, "nodata")
        first = read_file(paths[0], role="image", key=image_key)
        self._shape = self._arranged(first, paths[0]).shape
        origins = find_origins(
            self.root,
            list(named),
            size=(self._shape[1], self._shape[2]),
            table=table,
            group_column=group_column,
            group_pattern=group_pattern,
            file_column=file_column,
        )
        chosen = names_of(groups)
        known = {patch.group for patch in origins.patches}
        for group in chosen or ():
            if group not in known:
                raise UnknownNameError("group", group, known, where="option groups")
        kept = [
            (patch, path)
            for patch, path in zip(origins.patches, named.values(), strict=True)
            if chosen is None or patch.group in chosen
        ]
        self.patches: tuple[Patch, ...] = tuple(patch for patch, _ in kept)
        self._paths = tuple(path for _, path in kept)
        self.bands = name_bands(
            bands_of(bands),
            count=self._shape[0],
            names=first.names,
            units=first.units,
            nodata=first.nodata if self._nodata is None else self._nodata,
            files=paths,
        )
        self._hasher = hashlib.sha256(json.dumps([band.to_dict() for band in self.bands]).encode())
        for index in range(len(self)):
            self._hasher.update(self.patches[index].name.encode())
            self._hasher.update(self.read(index).tobytes())
            if progress is not None:
                progress(index + 1, len(self))

    def __len__(self) -> int:
        """Give the number of images."""
        return len(self._paths)

    def read(self, index: int) -> NDArray[np.float32]:
        """Give one image, float32 (C, H, W), in the units of the bands, NaN where missing."""
        path = self._paths[index]
        with plain_patches():
            decoded = read_file(path, role="image", key=self._key)
        values = self._arranged(decoded, path)
        if values.shape != self._shape:
            shown = [" x ".join(map(str, shape)) for shape in (values.shape, self._shape)]
            raise DataError(f"is {shown[0]} (bands, rows, columns), and the first image is {shown[1]}", where=path)
        nodata = decoded.nodata if self._nodata is None else self._nodata
        image = values.astype(np.float32)
        missing = np.zeros(image.shape, bool)
        if nodata is not None:
            missing |= np.isnan(image) if np.isnan(nodata) else values == nodata
        if decoded.missing is not None:
            missing |= decoded.missing
        strange = ~np.isfinite(image) & ~missing
        if strange.any():
            band, row, col = (int(place) for place in np.argwhere(strange)[0])
            raise DataError(
                f"{image[band, row, col]} in band {band + 1} at row {row}, column {col}",
                where=path,
                hint="If it marks missing pixels pass --data-option nodata=nan; else repair the file",
            )
        image[missing] = np.nan
        return image

    def fingerprint(self) -> str:
        """Give the sha256, in hex, of the bands, the names and the pixels."""
        return self._hasher.hexdigest()

    def _arranged(self, decoded: Decoded, path: Path) -> NDArray[np.generic]:
        values, axes = decoded.values, decoded.axes
        if axes == "?":
            axes = self._layout
        if axes == "auto":
            fits = [name for name, axis in (("CHW", 0), ("HWC", -1)) if values.shape[axis] == self._channels]
            if len(fits) != 1:
                raise DataError(
                    f"of shape {' x '.join(map(str, values.shape))} it cannot be told which axis holds the "
                    f"{self._channels} bands",
                    where=path,
                    hint="Say layout=CHW or layout=HWC with --data-option",
                )
            axes = fits[0]
        height, width = values.shape[:2] if axes in ("HW", "HWC") else values.shape[1:]
        return channels_first(decoded, (height, width), axes if axes != "HW" else "auto", path)


def _folder_of_images(root: Path, images: str | None) -> Path:
    if not root.is_dir():
        raise DataError("no such folder", where=root)
    if images is not None:
        if not (root / images).is_dir():
            raise DataError(f"holds no folder {images!r}", where=root)
        return root / images
    below = {entry.name.lower(): entry for entry in sorted(root.iterdir()) if entry.is_dir()}
    return next((below[name] for name, _ in FOLDER_NAMES if name in below), root)
