"""Data sets from a folder: images with masks in two folders, and images without masks."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.arguments import Names, bands_of, checked_options, fractions_of, names_of
from zoo.datasets.base import SPLITS, DataWarning, Patch, PatchDataset, Transform
from zoo.datasets.folder.decoding import (
    Decoded,
    channels_first,
    format_shape,
    hide_missing_codes,
    name_bands,
    parse_mask_values,
    read_file,
)
from zoo.datasets.folder.grouping import LocatedPatches, PlaceUnit, locate_patches
from zoo.datasets.folder.pairing import find_folders, find_image_folder, list_files, pair_files
from zoo.datasets.folder.patch_store import ReadingOptions, open_store
from zoo.datasets.splits import (
    FRACTIONS,
    LeakageWarning,
    Partition,
    by_block,
    by_group,
    nearest_patch,
    random_split,
)
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.jobs import ProgressCallback
from zoo.physics.bands import Band
from zoo.rasters.reading import ignore_missing_georeference
from zoo.schema import to_plain

MAX_DISTANCE = 1_000_000
"""Maximum guard distance and block size in patches."""

_PACKAGE = str(Path(__file__).parents[2])

SplitBy = Literal["group", "block", "column", "random"]


class Folder(PatchDataset):
    """Landslide patches from a folder.

    Dataset features:

    * any number of bands, and one or several classes of landslides
    * everything is checked when the folder is opened; errors name the file and the problem
    * decoded patches stay in memory in the dtype of their files, and the splits of one folder share them

    Dataset format:

    * images and masks are PNG, TIFF, NPY or HDF5 files (images also JPEG), one patch per file, all of the same size
    * a folder of images and a folder of masks (images/ + masks/, img/ + mask/, image/ + label/, ...); a mask has the
      name of its image, or the same name without the words image, img, mask, label
    * a mask contains 0 and 1, 0 and 255, or class ids 0..K-1; 255 in addition to class ids is ignored
    * a CSV file next to the folders may define a group (scene, event), a row and a column; file names may define them
      too, through ``group_pattern``; without a row and a column, the georeference of the images locates the patches

    Citation and licence depend on the owner of the files: set ``citation`` and ``licence`` on the instance
    to include them in results.

    The units of the bands are "unknown" unless a TIFF or the option ``bands`` defines them. NaN and the nodata value of
    a file (option ``nodata``, or the tag of the TIFF) mean missing, and so does alpha 0.
    """

    _fingerprint: str | None = None
    licence = "set by the owner of the files"
    citation: ClassVar[str] = ""

    @checked_options
    # long: one parameter for each option of a folder, and the order of the checks matters
    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Transform | None = None,
        *,
        images: str | None = None,
        masks: str | None = None,
        pair_pattern: str | None = None,
        bands: str | Sequence[str | Band] | None = None,
        class_names: Names = None,
        landslide_class: Names = None,
        pixel_size: float | None = None,
        image_key: str | None = None,
        mask_key: str | None = None,
        layout: Literal["auto", "CHW", "HWC"] = "auto",
        nodata: float | None = None,
        nodata_rule: Literal["any", "all"] = "any",
        mask_values: str | Sequence[int] | Mapping[int, int] | None = None,
        ignore_value: float | None = None,
        table: str | None = None,
        group_column: str | None = None,
        group_pattern: str | None = None,
        file_column: str | None = None,
        row_column: str | None = None,
        col_column: str | None = None,
        place_unit: PlaceUnit = "auto",
        train_groups: Names = None,
        val_groups: Names = None,
        test_groups: Names = None,
        split_by: SplitBy | None = None,
        fractions: str | Sequence[float] = FRACTIONS,
        block: int | None = None,
        guard: int | None = None,
        seed: int = 0,
        memory_limit: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Open one split of a folder.

        Args:
            root: folder that contains the folder of images and the folder of masks.
            split: "train", "val" or "test".
            transforms: applied to every sample.
            images: name of the folder of images below ``root``; detected by default.
            masks: name of the folder of masks below ``root``; detected by default.
            pair_pattern: regular expression with the shared part of the names of an image and its mask in parentheses,
                such as T_(\\d+) for ImageT_1 and MaskT_1.
            bands: names of the bands in order, separated by commas (red,green,blue).
            class_names: names of the classes in order, separated by commas.
            landslide_class: names or numbers of the classes that are landslides, or all for every class above 0; the
                other classes count as background. By default detected from the names of the classes.
            pixel_size: side of a pixel in metres; by default taken from georeferenced TIFFs.
            image_key: name of the image array in HDF5 files; detected by default.
            mask_key: name of the mask array in HDF5 files; detected by default.
            layout: order of the axes of NPY and HDF5 images; auto detects it from the height and width of the mask.
            nodata: value of missing pixels in images, may be nan; by default taken from TIFFs.
            nodata_rule: whether a pixel is ignored if any band is missing there, or only if all are.
            mask_values: raw mask value of class 0, 1, ... (0,255), or raw:class (0:0,1:1,2:1).
            ignore_value: raw mask value of pixels that are ignored.
            table: name of the CSV file in ``root``; detected by default.
            group_column: column of the CSV file with the scene or event.
            group_pattern: regular expression on file names, with the group in parentheses.
            file_column: column of the CSV file with the name of the image; detected by default.
            row_column: column of the CSV file with the row; detected by default.
            col_column: column of the CSV file with the column; detected by default.
            place_unit: unit of rows and columns; auto detects pixels, and is an error if it cannot decide.
            train_groups: groups of the training split, separated by commas.
            val_groups: groups of the validation split; by default carved from the training groups.
            test_groups: groups of the test split; by default the remaining groups.
            split_by: split by groups, by blocks (squares of patches), by strips of columns, or at random. By default,
                by groups if there are enough, else by blocks if locations are known, else at random.
            fractions: shares of train, val and test if groups do not determine them.
            block: side of a block, or columns of a strip, in patches; chosen automatically by default.
            guard: minimum distance in patches between patches of different splits; 1 by default, more if patches
                overlap.
            seed: random seed of the split.
            memory_limit: maximum bytes of decoded images in memory; by default half of the machine's memory.
            progress: called with the number of patches read and the total.

        Raises:
            DataError: if files are missing, damaged, or do not fit each other.
            ConfigError: if options are out of range or contradict each other.
            UnknownNameError: if a group, column, class or split does not exist.
        """
        self.root = Path(root)
        _check_numbers(
            pixel_size=pixel_size,
            block=block,
            guard=guard,
            seed=seed,
            memory_limit=memory_limit,
            nodata=nodata,
            ignore_value=ignore_value,
        )
        given_bands = bands_of(bands)
        given_classes = names_of(class_names)
        if given_classes is not None and len(given_classes) < 2:
            raise ConfigError("a segmentation has at least two classes", where="option class_names")
        images_folder, self._masks_folder = find_folders(self.root, images, masks)
        pairs = pair_files(images_folder, self._masks_folder, pair_pattern)
        self._store = open_store(
            pairs,
            ReadingOptions(
                image_key=image_key,
                mask_key=mask_key,
                layout=layout,
                nodata=nodata,
                nodata_rule=nodata_rule,
                ignore_value=ignore_value,
                mask_values=parse_mask_values(mask_values),
                class_names=given_classes,
                landslide_class=names_of(landslide_class),
                band_names=() if given_bands is None else tuple(band.name for band in given_bands),
            ),
            progress,
            memory_limit,
        )
        self.bands = name_bands(
            given_bands,
            count=self._store.shape[0],
            names=self._store.names,
            units=self._store.units,
            nodata=self._store.nodata,
            files=[pair.image for pair in pairs],
            dtype=self._store.dtype,
        )
        self.class_names = self._store.encoding.class_names
        self.pixel_size = pixel_size or self._store.pixel_size
        self._located = locate_patches(
            self.root,
            [pair.name for pair in pairs],
            size=self._store.shape[1:],
            corners=self._store.corners,
            table=table,
            group_column=group_column,
            group_pattern=group_pattern,
            file_column=file_column,
            row_column=row_column,
            col_column=col_column,
            place_unit=place_unit,
        )
        self.reach = self._located.reach
        self._guard = self.reach if guard is None else guard
        self.partition = _partition(
            self._located,
            {"train": names_of(train_groups), "val": names_of(val_groups), "test": names_of(test_groups)},
            split_by,
            fractions=fractions_of(fractions),
            block=block,
            guard=self._guard,
            seed=seed,
        )
        self._shared_notes = self._make_notes()
        for text in self._store.warnings:
            _warn(DataWarning(f"{self.root}: {text}"))
        self.transforms = transforms
        self._select(split)

    def with_split(self, split: str) -> Folder:
        """Return another split of the same folder; nothing is read again, and the splits share their patches.

        Args:
            split: "train", "val" or "test".

        Raises:
            UnknownNameError: if the split does not exist.
            DataError: if the split is empty or cannot be used.
        """
        other = copy.copy(self)
        other._select(split)
        return other

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.integer[Any]]]:
        """Return one patch from memory; see :meth:`zoo.datasets.base.PatchDataset.read`."""
        position = self._indices[index]
        return self._store.image(position), self._store.mask(position)

    def fingerprint(self) -> str:
        """Return the sha256, in hex, of the split: its patches, their pixels after decoding, bands and classes."""
        if self._fingerprint is None:
            head = {
                "split": self.split,
                "bands": to_plain(self.bands),
                "classes": list(self.class_names),
            }
            hasher = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
            for index, patch in zip(self._indices, self.patches, strict=True):
                hasher.update(json.dumps([patch.name, patch.group, patch.row, patch.col]).encode())
                hasher.update(self._store.digest(index))
            self._fingerprint = hasher.hexdigest()
        return self._fingerprint

    def __str__(self) -> str:
        """Return a description of the open split and its memory use."""
        channels, height, width = self._store.shape
        memory = f"{self._store.memory_bytes / 2**20:.0f} MiB in memory" + (
            "" if self._store.in_memory else " (masks; images are mapped from disk)"
        )
        return (
            f"Folder {self.root}\n    split: {self.split}, {len(self)} of {len(self._store.pairs)} patches of "
            f"{channels} x {height} x {width} {self._store.dtype}\n    {memory}"
        )

    def _select(self, split: str) -> None:
        """Select the patches of a split."""
        self.split = split
        self._indices = self.partition.of(split)
        self.patches = tuple(self._located.patches[index] for index in self._indices)
        self._fingerprint = None
        self._verify()
        self.split_notes = self._shared_notes
        self._warn_of_neighbours()

    def _verify(self) -> None:
        """Check that the split contains patches and, for training, a landslide.

        Damaged and inconsistent files are found earlier, when they are read. A training split without a landslide pixel
        is an error; a validation or test split without one gives a warning, because its Dice is undefined.
        """
        if not self._indices:
            sizes = ", ".join(f"{name} {len(self.partition.of(name))}" for name in SPLITS)
            raise DataError(
                f"the {self.split} split is empty ({sizes}, {len(self.partition.guard)} left out between them)",
                where=self.root,
                hint="Name other groups, change the fractions, or use smaller blocks or a smaller guard",
            )
        found = self._store.class_pixels[list(self._indices)]
        if found[:, 1:].sum():
            if not found[:, 0].sum():
                problem = f"every valid pixel of the {self.split} split ({len(self)} patches) is a landslide"
                hint = "check what the values of the masks mean (mask_values, ignore_value)"
                _warn(DataWarning(f"{self._masks_folder}: {problem}; {hint}"))
            return
        raw = [str(value) for value, index in self._store.encoding.classes.items() if index > 0]
        problem = (
            f"no mask of the {self.split} split ({len(self)} patches) contains a landslide pixel ({' or '.join(raw)})"
        )
        if self.split == "train":
            raise DataError(
                problem,
                where=self._masks_folder,
                hint="There is nothing to learn; check the masks, or state what their values mean with mask_values",
            )
        _warn(DataWarning(f"{self._masks_folder}: {problem}; Dice is not defined there"))

    def _make_notes(self) -> tuple[str, ...]:
        store = self._store
        notes = [*store.encoding.notes, self._located.note, *(f"images: {text}" for text in store.warnings)]
        if store.nodata is not None or store.missing_pixels:
            value = "" if store.nodata is None else f" (nodata {store.nodata:g})"
            notes.append(f"images: {store.missing_pixels} pixels are missing{value} and are ignored")
        notes += self.partition.notes
        for name in SPLITS:
            indices = list(self.partition.of(name))
            landslide = int(store.class_pixels[indices, 1:].sum()) if indices else 0
            total = int(store.class_pixels[indices].sum()) if indices else 0
            share = f" ({landslide / total:.2%})" if total else ""
            notes.append(f"{name}: {len(indices)} patches, {landslide} landslide pixels{share}")
        return tuple(notes)

    def _warn_of_neighbours(self) -> None:
        parts = {name: [self._located.patches[index] for index in self.partition.of(name)] for name in SPLITS}
        limit = max(self._guard, self.reach)
        found = []
        for one, other in (("train", "test"), ("train", "val"), ("val", "test")):
            nearest, distances = nearest_patch(parts[other], parts[one])
            near = np.flatnonzero(distances <= limit)
            if len(near):
                second = parts[other][near[0]].name
                first = parts[one][nearest[near[0]]].name
                found.append(
                    f"{len(near)} of {len(parts[other])} {other} patches lie within {limit} of a {one} patch "
                    f"({first} and {second})"
                )
        if found:
            text = (
                f"the split leaks, so its results will be too optimistic: {'; '.join(found)}; "
                "split by group or by block instead"
            )
            self.split_notes += (f"leak: {text}",)
            _warn(LeakageWarning(f"{self.root}: {text}"))


class ImageFolder:
    """Images of a folder, read one at a time without masks; existing masks are not opened.

    The folder has the layout that :class:`Folder` reads, contains only a folder of images, or contains the images
    itself. The options have the same meaning as there.

    Args:
        root: the folder.
        channels: number of bands of an image, needed to distinguish bands-first from bands-last NPY and HDF5 files.
        groups: groups whose patches are kept; None for all.
        images: name of the folder of images below ``root``; None to find it.
        bands: names of the bands in order, or bands with units.
        image_key: name of the image array in HDF5 files; None to find it.
        layout: "CHW", "HWC" or "auto".
        nodata: value of missing pixels; None for the value in the TIFF tags.
        table: name of the CSV file in ``root``; None to find it.
        group_column: column of the CSV file with the group.
        group_pattern: regular expression on file names, with the group in parentheses.
        file_column: column of the CSV file with the name of the image.
        progress: called with the number of images checked and the total.

    Attributes:
        bands: bands of the images.
        patches: the patches, sorted by name.

    Raises:
        DataError: if there are no images, or one is damaged or differs from the first.
        UnknownNameError: if a group does not exist.
    """

    @checked_options
    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        channels: int,
        groups: Names = None,
        images: str | None = None,
        bands: str | Sequence[str | Band] | None = None,
        image_key: str | None = None,
        layout: Literal["auto", "CHW", "HWC"] = "auto",
        nodata: float | None = None,
        table: str | None = None,
        group_column: str | None = None,
        group_pattern: str | None = None,
        file_column: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.root = Path(root)
        folder = find_image_folder(self.root, images)
        paths = list_files(folder, "image")
        named = {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}
        self._channels, self._key, self._layout, self._nodata = channels, image_key, layout, nodata
        with ignore_missing_georeference():
            first = hide_missing_codes(read_file(paths[0], role="image", key=image_key))
        arranged = self._to_channels_first(first, paths[0])
        self._shape = arranged.shape
        origins = locate_patches(
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
            nodata=first.nodata if nodata is None else nodata,
            files=paths,
            dtype=arranged.dtype,
        )
        self._hasher = hashlib.sha256(json.dumps(to_plain(self.bands)).encode())
        for index in range(len(self)):
            self._hasher.update(self.patches[index].name.encode())
            self._hasher.update(self.read(index).tobytes())
            if progress is not None:
                progress(index + 1, len(self))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._paths)

    def read(self, index: int) -> NDArray[np.float32]:
        """Return one image, float32 (C, H, W), in the units of the bands, NaN where missing."""
        path = self._paths[index]
        with ignore_missing_georeference():
            decoded = hide_missing_codes(read_file(path, role="image", key=self._key))
        values = self._to_channels_first(decoded, path)
        if values.shape != self._shape:
            raise DataError(
                f"is {format_shape(values.shape)} (bands, rows, columns), but the first image is "
                f"{format_shape(self._shape)}",
                where=path,
            )
        nodata = decoded.nodata if self._nodata is None else self._nodata
        image = values.astype(np.float32)
        missing = np.zeros(image.shape, bool)
        if nodata is not None:
            missing |= np.isnan(image) if np.isnan(nodata) else values == nodata
        if decoded.missing is not None:
            missing |= decoded.missing
        if decoded.nan_is_missing:
            missing |= np.isnan(image)
        infinite = ~np.isfinite(image) & ~missing
        if infinite.any():
            band, row, col = (int(place) for place in np.argwhere(infinite)[0])
            raise DataError(
                f"{image[band, row, col]} in band {band + 1} at row {row}, column {col}",
                where=path,
                hint="If it marks missing pixels, pass --data-option nodata=nan; otherwise repair the file",
            )
        image[missing] = np.nan
        return image

    def fingerprint(self) -> str:
        """Return the sha256, in hex, of the bands, the names and the pixels."""
        return self._hasher.hexdigest()

    def _to_channels_first(self, decoded: Decoded, path: Path) -> NDArray[np.generic]:
        """Return an image as (C, H, W)."""
        values, axes = decoded.values, decoded.axes
        if axes == "?":
            axes = self._layout
        if axes == "auto":
            fits = [name for name, axis in (("CHW", 0), ("HWC", -1)) if values.shape[axis] == self._channels]
            if len(fits) != 1:
                raise DataError(
                    f"has shape {format_shape(values.shape)}: it is unknown which axis holds the {self._channels} "
                    f"bands",
                    where=path,
                    hint="Pass layout=CHW or layout=HWC with --data-option",
                )
            axes = fits[0]
        height, width = values.shape[:2] if axes in ("HW", "HWC") else values.shape[1:]
        return channels_first(decoded, (height, width), axes if axes != "HW" else "auto", path)


def _partition(
    origins: LocatedPatches,
    named: Mapping[str, tuple[str, ...] | None],
    split_by: SplitBy | None,
    *,
    fractions: Sequence[float],
    block: int | None,
    guard: int,
    seed: int,
) -> Partition:
    """Split the patches: by groups if some are named or there are enough, else by blocks, else at random."""
    patches = origins.patches
    some_named = any(names is not None for names in named.values())
    if some_named and not origins.grouped:
        raise ConfigError(
            "groups are named, but it is unknown which patch belongs to which group",
            hint="Pass group_column with a CSV file, or group_pattern",
        )
    if some_named and split_by not in (None, "group"):
        raise ConfigError(f"groups are named, but the split is by {split_by}", hint="Give one of the two options")
    placed = all(patch.row is not None and patch.col is not None for patch in patches)
    groups = len({patch.group for patch in patches})
    needed = sum(share > 0 for share in fractions)
    how = split_by or (
        "group" if some_named or (origins.grouped and groups >= needed) else "block" if placed else "random"
    )
    if how == "group":
        if not origins.grouped:
            raise ConfigError("a split by group needs groups", hint="Pass group_column or group_pattern")
        return by_group(
            patches,
            train=named["train"],
            val=named["val"],
            test=named["test"],
            fractions=fractions,
            seed=seed,
            guard=guard,
        )
    if how in ("block", "column"):
        columns = how == "column"
        return by_block(patches, fractions=fractions, seed=seed, block=block, guard=guard, columns=columns)
    return random_split(patches, fractions=fractions, seed=seed)


def _check_numbers(
    *,
    pixel_size: float | None,
    block: int | None,
    guard: int | None,
    seed: int,
    memory_limit: int | None,
    nodata: float | None,
    ignore_value: float | None,
) -> None:
    """Check the numbers among the options.

    Raises:
        ConfigError: if one is out of range.
    """
    if pixel_size is not None and not 0 < pixel_size < math.inf:
        raise ConfigError(f"a pixel size of {pixel_size:g} m is not possible", where="option pixel_size")
    for name, code in (("nodata", nodata), ("ignore_value", ignore_value)):
        if code is not None and math.isinf(code):
            raise ConfigError(f"{name} must be a finite number or nan", where=f"option {name}")
    for name, value, lowest, highest in (
        ("block", block, 1, MAX_DISTANCE),
        ("guard", guard, 0, MAX_DISTANCE),
        ("seed", seed, 0, 2**63),
        ("memory_limit", memory_limit, 0, math.inf),
    ):
        if value is not None and not lowest <= value <= highest:
            raise ConfigError(
                f"{name} must be from {lowest} to {highest}, not {value}"
                if math.isfinite(highest)
                else f"{name} must be at least {lowest}, not {value}",
                where=f"option {name}",
            )


def _warn(warning: Warning) -> None:
    """Issue a warning at the line outside zoo that opened the folder."""
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level)
