"""Landslide4Sense as a torchgeo data set."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.base import IGNORE, SPLITS, DataWarning, Patch, Transform
from zoo.datasets.download import check_file, fetch, unpack
from zoo.datasets.folder.options import Names, fractions_of, names_of, whole_of
from zoo.datasets.landslide4sense.bands import NAMES, describe_bands, parse_bands, to_physical
from zoo.datasets.landslide4sense.channels import Calibration, calibrate, paper_channels
from zoo.datasets.landslide4sense.files import (
    ARCHIVES,
    FOLDERS,
    PUBLISHED,
    SOURCE,
    UNPACKED,
    SplitFiles,
    find_split,
    is_there,
    place_of,
    read_image,
    read_mask,
)
from zoo.datasets.splits import FRACTIONS, Partition, by_block, by_group, random_split
from zoo.datasets.stored import Origin, Progress, StoredPatchDataset
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.files import cache_folder

_SPLIT_BY = ("official", "group", "block", "column", "random")


class Landslide4Sense(StoredPatchDataset):
    """Landslide4Sense: landslides of four areas in Sentinel-2, slope and elevation.

    Dataset features:

    * 3,799 training, 245 validation and 800 test patches of 128 x 128 pixels at about 10 m, from 2015 to 2021
    * 14 bands: Sentinel-2 B1 to B12 (level 1C, top of the atmosphere), slope and DEM from ALOS PALSAR
    * there is no B8A: the tenth band is B10, cirrus
    * every band is divided by a constant; ``units="physical"`` gives reflectance, degrees and metres
    * 2.3 % of the training pixels are landslide, in 58.7 % of the patches
    * 114 training patches, all without a landslide, have a constant DEM and a slope of 0

    Dataset format:

    * one HDF5 file an image (key "img", float64 128 x 128 x 14) and a mask (key "mask", uint8 128 x 128, 0 or 1)
    * ``TrainData/{img,mask}``, ``ValidData/...``, ``TestData/...`` as the competition and Zenodo have it, or
      ``images/{train,validation,test}`` and ``annotations/...`` as the Hugging Face mirror has it
    * the competition gave masks of the training split alone

    Dataset source: https://zenodo.org/records/10463239 (CC BY 4.0)

    Published figures: U-Net baseline on the validation split, precision 51.75, recall 65.50, F1 57.82 % (README of
    https://github.com/iarai/Landslide4Sense-2022).

    If you use this dataset, please cite https://doi.org/10.1109/TGRS.2022.3215209.
    """

    citation: ClassVar[str] = (
        "Ghorbanzadeh, O., Xu, Y., Ghamisi, P., Kopp, M., Kreil, D. (2022). Landslide4Sense: Reference Benchmark Data "
        "and Deep Learning Models for Landslide Detection. IEEE TGRS 60, 1-17, doi:10.1109/TGRS.2022.3215209"
    )
    licence = "CC-BY-4.0"
    pixel_size = 10.0

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "train",
        transforms: Transform | None = None,
        *,
        bands: str | Sequence[str] = "all",
        units: str = "published",
        labels: str = "required",
        split_by: str | None = None,
        train_groups: Names = None,
        val_groups: Names = None,
        test_groups: Names = None,
        fractions: str | Sequence[float] = FRACTIONS,
        block: int | str | None = None,
        guard: int | str = 1,
        seed: int | str = 0,
        download: bool = False,
        checksum: bool = False,
        cache: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Open one split.

        Args:
            root: folder that holds ``TrainData`` and its like, or ``images`` and ``annotations``; None for
                ``datasets/landslide4sense`` in the cache folder.
            split: "train", "val" or "test".
            transforms: applied to every sample.
            bands: "all", names ("B4,B3,B2,slope"), or "paper": SMI (OPTRAM), NDBI, NDVI, NDWI, slope, DEM and LSI
                (without rain), calibrated on the training patches.
            units: "published": each band over its constant; "physical": reflectance, degrees, metres.
            labels: "required": a split without masks is refused; "optional": its masks are IGNORE everywhere.
            split_by: "official"; or "group", "block", "column" or "random": all three splits are made from the 3,799
                training patches, whose scenes and places are known. None for "group" when groups are named.
            train_groups: scenes of the training split ("S1,S2").
            val_groups: scenes of the validation split; None to carve it from the training scenes.
            test_groups: scenes of the test split; None for those left over.
            fractions: shares of train, val and test where scenes do not decide.
            block: side of a block, or columns of a strip, in patches; None to choose it.
            guard: distance in patches within which patches of different splits may not lie.
            seed: of everything random in the split.
            download: fetch and unpack what is missing.
            checksum: hold the archives in ``root`` against their published checksum.
            cache: keep decoded patches in the cache folder; else decode at every reading.
            progress: called with what is done and all there is: mebibytes of a download, then patches decoded.

        Raises:
            DataError: if files are missing, damaged, or not as published.
            ConfigError: if options are out of range or contradict each other.
            UnknownNameError: for a band, group or split that does not exist.
        """
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
        _choice("units", units, ("published", "physical"))
        _choice("labels", labels, ("required", "optional"))
        self.root = cache_folder("datasets") / "landslide4sense" if root is None else Path(root)
        self.split = split
        self.transforms = transforms
        self._names = parse_bands(bands)
        self._units = units
        self._labels = labels
        self._download = download
        self._checksum = checksum
        self._progress = progress
        self.bands = describe_bands(self._names, units)
        named = {"train": names_of(train_groups), "val": names_of(val_groups), "test": names_of(test_groups)}
        manner = _manner(split_by, named)
        self._source = split if manner == "official" else "train"
        self._verify()
        files = self._find()
        places = [_patch(self._source, number) for number in files.numbers]
        if manner == "official":
            indices: Sequence[int] = range(len(places))
            learnt: Sequence[int] = ()
            notes: tuple[str, ...] = ("split: as published",)
            if split != "train":
                notes += ("leak: the scenes of this split are not published, so it may touch training patches",)
        else:
            partition = _divide(
                places,
                manner,
                named,
                fractions=fractions_of(fractions),
                block=None if block is None else whole_of(block, "block"),
                guard=whole_of(guard, "guard"),
                seed=whole_of(seed, "seed"),
            )
            indices, learnt, notes = partition.of(split), partition.train, partition.notes
        if not indices:
            raise DataError(
                f"the {split} split is empty", where=self.root, hint="Name other scenes, or use smaller blocks"
            )
        self._calibration: Calibration | None = None
        if self._names is None:
            training = files.images if self._source == "train" else find_split(self.root, "train").images
            self._calibration = calibrate([training[index] for index in learnt] if learnt else training)
        self._images = tuple(files.images[index] for index in indices)
        self._masks = None if files.masks is None else tuple(files.masks[index] for index in indices)
        self.patches = tuple(places[index] for index in indices)
        self.split_notes = (*self._describe(files), *notes)
        self._store(
            [
                Origin((image,) if self._masks is None else (image, self._masks[index]))
                for index, image in enumerate(self._images)
            ],
            {
                "decoding": 1,
                "bands": None if self._names is None else list(self._names),
                "units": units,
                "calibration": None if self._calibration is None else self._calibration.to_dict(),
            },
            cache=cache,
            progress=progress,
        )
        self._look_for_landslides()

    def decode(self, index: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Decode one patch; see :meth:`zoo.datasets.stored.StoredPatchDataset.decode`."""
        path = self._images[index]
        published = read_image(path)
        image: NDArray[Any]
        if self._calibration is not None:
            image = paper_channels(published, self._calibration, path)
        else:
            assert self._names is not None
            image = published if self._names == NAMES else published[[NAMES.index(name) for name in self._names]]
            if self._units == "physical":
                image = to_physical(image, self._names, path)
        if self._masks is None:
            mask = np.full(published.shape[1:], IGNORE, np.uint8)
        else:
            mask = read_mask(self._masks[index])
        return np.ascontiguousarray(image, dtype=np.float32), mask

    def _verify(self) -> None:
        """Check that the splits that are needed are there; unpack or fetch them where that was asked for.

        Raises:
            DataError: saying where to get the data and where to put them; or an archive is not the published one.
        """
        needed = {self._source, "train"} if self._names is None else {self._source}
        for split in sorted(needed):
            archive = self.root / ARCHIVES[split].name
            if self._checksum:
                self._check(split, archive)
            if is_there(self.root, split):
                continue
            if not archive.is_file():
                if not self._download:
                    find_split(self.root, split)
                fetch(ARCHIVES[split], self.root, self._show_bytes)
            unpack(
                archive,
                self.root / FOLDERS[split],
                strip_top=FOLDERS[split],
                progress=self._show_bytes,
                max_bytes=UNPACKED[split],
            )

    def _check(self, split: str, archive: Path) -> None:
        if ARCHIVES[split].digest is None:
            warnings.warn(
                DataWarning(f"{archive.name}: no checksum of it is known here, so it was not checked"), stacklevel=4
            )
        elif archive.is_file():
            check_file(ARCHIVES[split], archive)
        elif not self._download:
            warnings.warn(
                DataWarning(f"{archive}: the archive is not here, so there is nothing to check"), stacklevel=4
            )

    def _find(self) -> SplitFiles:
        split = self._source
        files = find_split(self.root, split)
        if files.masks is None and self._labels == "required":
            others = "" if split == "train" else ", or split_by=group to make all splits from the training patches"
            raise DataError(
                f"the {split} split has no masks here, so nothing can be learnt from it or measured on it",
                where=files.folder,
                hint=f"Get {FOLDERS[split]}.zip from {SOURCE}, pass labels=optional to read images alone{others}",
            )
        if len(files.images) != PUBLISHED[split]:
            warnings.warn(
                DataWarning(
                    f"{files.folder}: {len(files.images)} of the {PUBLISHED[split]} published {split} patches are here,"
                    " so results on them compare with no published figure"
                ),
                stacklevel=3,
            )
        return files

    def _describe(self, files: SplitFiles) -> tuple[str, ...]:
        notes = [f"files: {len(files.images)} of {PUBLISHED[self._source]} patches in the {files.layout}'s layout"]
        if files.masks is None:
            notes.append("masks: there are none; every pixel is ignored")
        elif files.layout == "mirror" and self._source != "train":
            notes.append("masks: the mirror does not say where those of this split come from")
        if self._names is None:
            notes.append("bands: SMI is OPTRAM of B12, LSI has no rain; both are calibrated on training patches")
        return tuple(notes)

    def _look_for_landslides(self) -> None:
        if self._masks is None or any((self.read(index)[1] == 1).any() for index in range(len(self))):
            return
        problem = f"no mask of the {self.split} split ({len(self)} patches) holds a landslide"
        if self.split == "train":
            raise DataError(problem, where=self._masks[0].parent, hint="There is nothing to learn from; take more")
        warnings.warn(DataWarning(f"{self._masks[0].parent}: {problem}; Dice is not defined there"), stacklevel=3)

    def _show_bytes(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(done >> 20, max(total >> 20, 1))


def _patch(split: str, number: int) -> Patch:
    if split != "train" or not 1 <= number <= PUBLISHED["train"]:
        return Patch(f"{split}/image_{number}", split)
    return Patch(f"{split}/image_{number}", *place_of(number))


def _manner(split_by: str | None, named: dict[str, tuple[str, ...] | None]) -> str:
    """Read how the splits are made."""
    _choice("split_by", split_by, (None, *_SPLIT_BY))
    some = any(names is not None for names in named.values())
    if some and split_by not in (None, "group"):
        raise ConfigError(f"scenes are named, and the split is {split_by}", hint="Leave one of the two out")
    return split_by or ("group" if some else "official")


def _divide(
    patches: Sequence[Patch],
    manner: str,
    named: dict[str, tuple[str, ...] | None],
    *,
    fractions: Sequence[float],
    block: int | None,
    guard: int,
    seed: int,
) -> Partition:
    if manner == "random":
        return random_split(patches, fractions=fractions, seed=seed)
    if manner == "group":
        return by_group(
            patches,
            train=named["train"],
            val=named["val"],
            test=named["test"],
            fractions=fractions,
            seed=seed,
            guard=guard,
        )
    return by_block(patches, fractions=fractions, seed=seed, block=block, guard=guard, columns=manner == "column")


def _choice(option: str, value: str | None, choices: Sequence[str | None]) -> None:
    if value not in choices:
        raise ConfigError(
            f"{value!r} is no choice",
            where=f"option {option}",
            hint="Choose " + ", ".join(choice for choice in choices if choice is not None),
        )
