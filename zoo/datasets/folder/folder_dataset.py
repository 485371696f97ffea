"""The folder data set: images and masks in two folders, and images without masks."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.arguments import Names, bands_of, fractions_of, mask_values_of, names_of, number_of, whole_of
from zoo.datasets.base import SPLITS, DataWarning, Patch, PatchDataset, Transform
from zoo.datasets.folder.decoding import Decoded, channels_first, name_bands, read_file
from zoo.datasets.folder.grouping import Origins, find_origins, reach_of
from zoo.datasets.folder.pairing import FOLDER_NAMES, find_folders, list_files, pair_files
from zoo.datasets.folder.patch_store import Progress, Reading, open_store
from zoo.datasets.splits import (
    FRACTIONS,
    LeakageWarning,
    Partition,
    by_block,
    by_group,
    neighbour_pairs,
    random_split,
)
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.physics.bands import Band
from zoo.rasters.reading import plain_patches


class Folder(PatchDataset):
    """Patches of landslides, or of anything else, in a folder.

    Dataset features:

    * any number of bands, any number of classes
    * everything is checked when it is opened; what is wrong is said in one sentence that names the file
    * decoded patches stay in memory in the dtype of their files and are shared by the splits of one folder

    Dataset format:

    * images and masks are PNG, TIFF, NPY or HDF5 files (images JPEG too), one patch a file, all of one size
    * a folder of images and a folder of masks (images/ + masks/, img/ + mask/, image/ + label/, ...); a mask has the
      name of its image, or the same name but for the words image, img, mask, label
    * a mask holds 0 and 1, 0 and 255, or class ids 0..K-1; 255 beside class ids is ignored
    * a CSV file beside the folders may give a group (scene, event) and a row and a column in patches; so may the
      file names, through ``group_pattern``

    Citation: yours; set ``citation`` and ``licence`` on the instance if results should carry them.

    The bands' units are "unknown" unless a TIFF or the ``bands`` option gives them. NaN or the nodata value of a file
    (option ``nodata``, or the TIFF's tag) is missing; alpha 0 is missing too.
    """

    licence = "as the owner of the files says"
    citation: ClassVar[str] = ""

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Transform | None = None,
        *,
        images: str | None = None,
        masks: str | None = None,
        bands: str | Sequence[str | Band] | None = None,
        class_names: Names = None,
        pixel_size: float | str | None = None,
        image_key: str | None = None,
        mask_key: str | None = None,
        layout: Literal["auto", "CHW", "HWC"] = "auto",
        nodata: float | str | None = None,
        nodata_rule: Literal["any", "all"] = "any",
        mask_values: str | Sequence[int] | Mapping[int, int] | None = None,
        ignore_value: float | str | None = None,
        table: str | None = None,
        group_column: str | None = None,
        group_pattern: str | None = None,
        file_column: str | None = None,
        row_column: str | None = None,
        col_column: str | None = None,
        train_groups: Names = None,
        val_groups: Names = None,
        test_groups: Names = None,
        split_by: Literal["group", "block", "column", "random"] | None = None,
        fractions: str | Sequence[float] = FRACTIONS,
        block: int | str | None = None,
        guard: int | str | None = None,
        seed: int | str = 0,
        memory_limit: int | str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Open one split of a folder.

        Args:
            root: the folder that holds the folder of images and the folder of masks.
            split: "train", "val" or "test".
            transforms: applied to every sample.
            images: name of the folder of images below ``root``; None to find it.
            masks: name of the folder of masks below ``root``; None to find it.
            bands: names of the bands in order ("red,green,blue"), or :class:`~zoo.physics.bands.Band` with units.
            class_names: names of the classes in order; the first is the background.
            pixel_size: metres; None for what georeferenced TIFFs say.
            image_key: name of the image array in HDF5 files; None to find it.
            mask_key: name of the mask array in HDF5 files; None to find it.
            layout: "CHW" or "HWC" for NPY and HDF5 arrays; "auto" tells by the mask's height and width.
            nodata: value of missing pixels in images, "nan" too; None for what TIFFs say.
            nodata_rule: a pixel of the mask counts nowhere when "any" band is missing there, or when "all" are.
            mask_values: raw mask value of class 0, 1, ... ("0,255"), or pairs raw:class ("0:0,1:1,2:1").
            ignore_value: raw mask value that counts nowhere.
            table: name of the CSV file in ``root``; None to find it.
            group_column: column of the CSV file that names the group.
            group_pattern: regular expression on file names, with the group in parentheses.
            file_column: column of the CSV file that names the image; None to find it.
            row_column: column of the CSV file with the row in patches; None to find it.
            col_column: column of the CSV file with the column in patches; None to find it.
            train_groups: groups of the training split ("S1,S2").
            val_groups: groups of the validation split; None to carve it from the training groups.
            test_groups: groups of the test split; None for those left over.
            split_by: "group", "block" (squares), "column" (strips of columns) or "random"; None for groups if there
                are some, else blocks if places are known, else random.
            fractions: shares of train, val and test where groups do not decide.
            block: side of a spatial block, or columns of a strip, in patches; None to choose it.
            guard: distance in patches within which patches of different splits may not lie; None for ``reach``, which
                is 1, and more where ``zoo patches`` cut with a stride below the size.
            seed: seed of the split.
            memory_limit: bytes that decoded images may take before they are mapped from a cache on disk; None for
                half of the machine's memory.
            progress: called with the number of patches read and of all.

        Raises:
            DataError: if files are missing, damaged, or do not fit each other.
            ConfigError: if options are out of range or contradict each other.
            UnknownNameError: for a group, column or split that does not exist.
        """
        self.root = Path(root)
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
        _choice("layout", layout, ("auto", "CHW", "HWC"))
        _choice("nodata_rule", nodata_rule, ("any", "all"))
        _choice("split_by", split_by, (None, "group", "block", "column", "random"))
        metres = number_of(pixel_size, "pixel_size")
        if metres is not None and not metres > 0:
            raise ConfigError(f"a pixel of {metres:g} m is not possible", where="option pixel_size")
        self.split = split
        self.transforms = transforms
        given_bands = bands_of(bands)
        given_classes = names_of(class_names)
        if given_classes is not None and len(given_classes) < 2:
            raise ConfigError("a segmentation has at least two classes", where="option class_names")
        self._images_folder, self._masks_folder = find_folders(self.root, images, masks)
        pairs = pair_files(self._images_folder, self._masks_folder)
        self._store = open_store(
            pairs,
            Reading(
                image_key=image_key,
                mask_key=mask_key,
                layout=layout,
                nodata=number_of(nodata, "nodata"),
                nodata_rule=nodata_rule,
                ignore_value=number_of(ignore_value, "ignore_value"),
                mask_values=mask_values_of(mask_values),
                classes=None if given_classes is None else len(given_classes),
                band_names=() if given_bands is None else tuple(band.name for band in given_bands),
            ),
            progress,
            None if memory_limit is None else whole_of(memory_limit, "memory_limit"),
        )
        self.bands = name_bands(
            given_bands,
            count=self._store.shape[0],
            names=self._store.names,
            units=self._store.units,
            nodata=self._store.nodata,
            files=[pair.image for pair in pairs],
        )
        self.class_names = given_classes or _class_names(self._store.encoding.count)
        self.pixel_size = metres or self._store.pixel_size
        origins = find_origins(
            self.root,
            [pair.name for pair in pairs],
            size=self._store.shape[1:],
            table=table,
            group_column=group_column,
            group_pattern=group_pattern,
            file_column=file_column,
            row_column=row_column,
            col_column=col_column,
        )
        named = {"train": names_of(train_groups), "val": names_of(val_groups), "test": names_of(test_groups)}
        self.reach = reach_of(self.root)
        distance = self.reach if guard is None else whole_of(guard, "guard")
        self.partition = _partition(
            origins,
            named,
            split_by,
            fractions=fractions_of(fractions),
            block=None if block is None else whole_of(block, "block"),
            guard=distance,
            seed=whole_of(seed, "seed"),
        )
        self._indices = self.partition.of(split)
        self.patches = tuple(origins.patches[index] for index in self._indices)
        self._origins = origins
        self._verify()
        self.split_notes = self._notes()
        self._warn_of_neighbours(distance)

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.integer[Any]]]:
        """Give one patch from memory; see :meth:`zoo.datasets.base.PatchDataset.read`."""
        position = self._indices[index]
        return self._store.image(position), self._store.mask(position)

    def fingerprint(self) -> str:
        """Give the sha256, in hex, of the split: its patches, their pixels as they are used, bands and classes."""
        head = {
            "split": self.split,
            "bands": [band.to_dict() for band in self.bands],
            "classes": list(self.class_names),
        }
        hasher = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        for index, patch in zip(self._indices, self.patches, strict=True):
            hasher.update(json.dumps([patch.name, patch.group, patch.row, patch.col]).encode())
            hasher.update(self._store.digest(index))
        return hasher.hexdigest()

    def __str__(self) -> str:
        """Say what is open and how much memory it takes."""
        channels, height, width = self._store.shape
        kept = f"{self._store.memory_bytes / 2**20:.0f} MiB in memory" + (
            "" if self._store.in_memory else " (masks; images are mapped from disk)"
        )
        return (
            f"Folder {self.root}\n    split: {self.split}, {len(self)} of {len(self._store.pairs)} patches of "
            f"{channels} x {height} x {width} {self._store.dtype}\n    {kept}"
        )

    def _verify(self) -> None:
        """Check that the split holds patches and, for training, that there is something to learn.

        Damaged and differing files are found before, when they are read. A training split without a landslide pixel
        is refused; a validation or test split without one is warned of, as no Dice can be computed there.
        """
        if not self._indices:
            sizes = ", ".join(f"{name} {len(self.partition.of(name))}" for name in SPLITS)
            raise DataError(
                f"the {self.split} split is empty ({sizes}, {len(self.partition.guard)} left out between them)",
                where=self.root,
                hint="Name other groups, change the fractions, or use smaller blocks or a smaller guard",
            )
        foreground = self._store.class_pixels[list(self._indices), 1:].sum()
        if foreground:
            return
        raw = [str(value) for value, index in self._store.encoding.classes.items() if index > 0]
        problem = (
            f"no mask of the {self.split} split ({len(self)} patches) holds a landslide pixel ({' or '.join(raw)})"
        )
        if self.split == "train":
            raise DataError(
                problem,
                where=self._masks_folder,
                hint="There is nothing to learn from; check the masks, or say what their values mean with mask_values",
            )
        warnings.warn(DataWarning(f"{self._masks_folder}: {problem}; Dice is not defined there"), stacklevel=3)

    def _notes(self) -> tuple[str, ...]:
        store = self._store
        notes = [store.encoding.note, self._origins.note]
        if store.nodata is not None or store.missing_pixels:
            value = "" if store.nodata is None else f" (nodata {store.nodata:g})"
            notes.append(f"images: {store.missing_pixels} pixels are missing{value} and count nowhere")
        notes += self.partition.notes
        for name in SPLITS:
            indices = list(self.partition.of(name))
            landslide = int(store.class_pixels[indices, 1:].sum()) if indices else 0
            total = int(store.class_pixels[indices].sum()) if indices else 0
            share = f" ({landslide / total:.2%})" if total else ""
            notes.append(f"{name}: {len(indices)} patches, {landslide} landslide pixels{share}")
        return tuple(notes)

    def _warn_of_neighbours(self, guard: int) -> None:
        parts = {name: [self._origins.patches[index] for index in self.partition.of(name)] for name in SPLITS}
        near = max(guard, self.reach)
        found = []
        for one, other in (("train", "test"), ("train", "val"), ("val", "test")):
            pairs = neighbour_pairs(parts[one], parts[other], guard=near)
            if len(pairs):
                first, second = parts[one][pairs[0, 0]].name, parts[other][pairs[0, 1]].name
                found.append(
                    f"{len(np.unique(pairs[:, 1]))} of {len(parts[other])} {other} patches lie within {near} of a "
                    f"{one} patch ({first} and {second})"
                )
        if found:
            text = (
                f"the split leaks, so its results will be too good: {'; '.join(found)}; "
                "split by group or by block instead"
            )
            self.split_notes += (f"leak: {text}",)
            warnings.warn(LeakageWarning(f"{self.root}: {text}"), stacklevel=3)


def _partition(
    origins: Origins,
    named: Mapping[str, tuple[str, ...] | None],
    split_by: str | None,
    *,
    fractions: Sequence[float],
    block: int | None,
    guard: int,
    seed: int,
) -> Partition:
    patches = origins.patches
    some_named = any(names is not None for names in named.values())
    if some_named and not origins.grouped:
        raise ConfigError(
            "groups are named, and nothing says which patch belongs to which",
            hint="Pass group_column with a CSV file, or group_pattern",
        )
    if some_named and split_by not in (None, "group"):
        raise ConfigError(f"groups are named, and the split is by {split_by}", hint="Leave one of the two out")
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


def _class_names(count: int) -> tuple[str, ...]:
    return ("background", "landslide") if count == 2 else ("background", *(f"class_{i}" for i in range(1, count)))


def _choice(option: str, value: str | None, choices: Sequence[str | None]) -> None:
    if value not in choices:
        raise ConfigError(
            f"{value!r} is no choice",
            where=f"option {option}",
            hint="Choose " + ", ".join(choice for choice in choices if choice is not None),
        )


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
