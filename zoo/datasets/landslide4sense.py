"""Landslide4Sense (Ghorbanzadeh et al. 2022): 14-band Sentinel-2 and ALOS PALSAR patches of four areas."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from zoo.datasets.archives import unpack
from zoo.datasets.arguments import Names, checked_options, fractions_of, names_of
from zoo.datasets.base import IGNORE, DataWarning, Patch, Transform
from zoo.datasets.builtin import LANDSLIDE4SENSE
from zoo.datasets.download import RemoteFile, check_file, fetch, missing_dataset_error
from zoo.datasets.hdf5 import read_array
from zoo.datasets.splits import FRACTIONS, Partition, by_block, by_group, random_split
from zoo.datasets.stored import PatchSource, StoredPatchDataset, binary_mask, check_finite
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.jobs import ProgressCallback
from zoo.physics.arrays import FloatArray
from zoo.physics.bands import PAPER_CHANNELS, Band
from zoo.physics.indices import OptramEdges, OptramFit, ndbi, ndvi, ndwi, transformed_swir
from zoo.physics.lsi import PAPER_WEIGHTS, FeatureRange, weighted_sum
from zoo.schema import to_plain

SIZE = 128
SOURCE = "https://zenodo.org/records/10463239"
PUBLISHED = {"train": 3799, "val": 245, "test": 800}
"""Number of patches of each official split [S]."""
FOLDERS = {"train": "TrainData", "val": "ValidData", "test": "TestData"}
ARCHIVES = {
    # The record's page gives an MD5 for each file, but only that of the training archive could be retrieved.
    split: RemoteFile(
        f"{SOURCE}/files/{folder}.zip",
        f"{folder}.zip",
        md5="408f09247e3dd256458bc2f6e9edbffb" if split == "train" else None,
    )
    for split, folder in FOLDERS.items()
}
MAX_UNPACKED_BYTES = {split: int(1.05 * count * (1_837_056 + 18_432)) + (1 << 20) for split, count in PUBLISHED.items()}
"""Maximum unpacked size of an archive in bytes: the size of the published files, plus 5 % and 1 MiB [O]."""

SCENES: tuple[tuple[str, int, int], ...] = (("S1", 1, 41), ("S2", 3035, 15), ("S3", 3185, 11), ("S4", 3306, 26))
"""Name, first number and number of columns of each scene of the training split [S].

The release does not name scenes. The patches are numbered in scan order, and the edges of neighbouring patches match on
a grid with this number of columns. This was found from the DEM seams of all 3,799 patches, and the tests confirm it
with 1,980 known rows and columns. It is unknown which scene belongs to which area."""

DIVISORS = MappingProxyType(
    {
        "B1": 1111.81236406,
        "B2": 824.63171476,
        "B3": 663.41636217,
        "B4": 445.17289745,
        "B5": 645.8582926,
        "B6": 1547.73508126,
        "B7": 1960.44401001,
        "B8": 1941.32229668,
        "B9": 674.07572865,
        "B10": 9.04787384,
        "B11": 1113.98338755,
        "B12": 519.90397929,
        "slope": 20.29228266,
        "DEM": 772.83144788,
    }
)
"""Divisor of each band, in digital numbers, degrees and metres [O].

The authors publish no constants. In each of 14 genuine files every value times its divisor is an integer to within
1e-12, neighbouring values differ by one, and the divisor has eight decimals. So these are the divisors that the authors
used, most likely the mean of each band over their scenes. :func:`to_physical` checks this on every patch that it
converts."""
NAMES: tuple[str, ...] = tuple(DIVISORS)

REFLECTANCE = 10_000.0
"""Digital number of reflectance 1 in Sentinel-2 products before processing baseline 04.00 [S]. The images are older
than that baseline, so they have no offset. B10 exists only in level-1C products, so the values are reflectances at the
top of the atmosphere."""
_WAVELENGTHS = {
    "B1": "coastal aerosol, 443 nm",
    "B2": "blue, 490 nm",
    "B3": "green, 560 nm",
    "B4": "red, 665 nm",
    "B5": "red edge, 705 nm",
    "B6": "red edge, 740 nm",
    "B7": "red edge, 783 nm",
    "B8": "near infrared, 842 nm",
    "B9": "water vapour, 945 nm",
    "B10": "cirrus, 1375 nm",
    "B11": "shortwave infrared, 1610 nm",
    "B12": "shortwave infrared, 2190 nm",
    "slope": "slope from the ALOS PALSAR DEM",
    "DEM": "ALOS PALSAR elevation",
}
_TOLERANCE = 0.02
"""Maximum distance of a value from an integer [O]: float32 files differ by 0.003, other scalings by up to 0.5."""

CALIBRATION_PATCHES = 200
"""Number of evenly spaced training patches that the calibration reads [O]."""
_STEP = 4
"""Step of the rows and columns that are used for the ranges [O]."""
_MIN_NIR = 0.1
"""Near infrared reflectance below which a pixel is water or shadow and is excluded from OPTRAM [O]: with such pixels
the wet edge of genuine patches is ten times too high and crosses the dry one."""
_PERCENTILES = (0.5, 99.5)
_CALIBRATION_BANDS: tuple[str, ...] = ("B3", "B4", "B8", "B11", "B12", "slope", "DEM")
_MIRROR = {"train": "train", "val": "validation", "test": "test"}
_IMAGE = re.compile(r"image_([0-9]{1,9})\.h5")

Features = dict[str, FloatArray]


class Landslide4Sense(StoredPatchDataset):
    """Landslide4Sense: landslides of four areas in Sentinel-2 images, slope and elevation.

    Dataset features:

    * 3,799 training, 245 validation and 800 test patches of 128 x 128 pixels at about 10 m, from 2015 to 2021
    * 14 bands: Sentinel-2 B1 to B12 (level 1C, top of the atmosphere), slope and DEM from ALOS PALSAR
    * there is no B8A: the tenth band is B10, cirrus
    * every band is divided by a constant; ``units="physical"`` gives reflectance, degrees and metres
    * 2.3 % of the training pixels are landslide, in 58.7 % of the patches
    * 114 training patches, all without a landslide, have a constant DEM and a slope of 0

    Dataset format:

    * one HDF5 file per image (key "img", float64 128 x 128 x 14) and per mask (key "mask", uint8 128 x 128, 0 or
      1)
    * ``TrainData/{img,mask}``, ``ValidData/...``, ``TestData/...`` as in the competition and on Zenodo, or
      ``images/{train,validation,test}`` and ``annotations/...`` as in the Hugging Face mirror
    * the competition published masks only for the training split

    Dataset source: https://zenodo.org/records/10463239 (CC BY 4.0)

    Published figures: U-Net baseline on the validation split, precision 51.75, recall 65.50, F1 57.82 % (README of
    https://github.com/iarai/Landslide4Sense-2022).

    If you use this dataset, please cite https://doi.org/10.1109/TGRS.2022.3215209.

    Args:
        root: folder that contains ``TrainData`` and the others, or ``images`` and ``annotations``; None for
            ``datasets/landslide4sense`` in the cache folder.
        split: "train", "val" or "test".
        transforms: function that is applied to every sample.
        bands: "all", names ("B4,B3,B2,slope"), or "paper" for the seven channels SMI (OPTRAM), NDBI, NDVI, NDWI, slope,
            DEM and LSI (without rain), calibrated on the training patches.
        units: "published" for the values of the files, "physical" for reflectance, degrees and metres.
        labels: "required" refuses a split without masks, "optional" opens it with all mask pixels ignored.
        split_by: use the official splits, or divide the 3,799 training patches, whose scenes and locations are known;
            by default "group" if scenes are named, else "official".
        train_groups: scenes of the training split ("S1,S2").
        val_groups: scenes of the validation split; if not given, it is carved from the training scenes.
        test_groups: scenes of the test split; if not given, the remaining scenes.
        fractions: shares of train, val and test if scenes do not determine them.
        block: side of a block, or number of columns of a strip, in patches; by default chosen from the data.
        guard: minimum distance in patches between the splits.
        seed: random seed of the split.
        download: whether to download and unpack missing files from Zenodo (3.1 GB, 9 GB unpacked).
        checksum: whether to compare the archives in ``root`` with their published checksums.
        cache: whether to keep decoded patches in the cache folder; if false, patches are decoded at every read.
        progress: called with the number of items done and the total: mebibytes of a download, then patches decoded.

    Raises:
        DataError: if files are missing, damaged or not as published.
        ConfigError: if options are out of range or contradict each other.
        UnknownNameError: if a band, scene or split does not exist.

    >>> data = Landslide4Sense("L4S", "train", bands="B4,B3,B2", units="physical")  # doctest: +SKIP
    """

    name = "landslide4sense"
    citation: ClassVar[str] = LANDSLIDE4SENSE.citation
    licence = LANDSLIDE4SENSE.licence
    pixel_size = 10.0

    @checked_options
    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "train",
        transforms: Transform | None = None,
        *,
        bands: str | Sequence[str] = "all",
        units: Literal["published", "physical"] = "published",
        labels: Literal["required", "optional"] = "required",
        split_by: Literal["official", "group", "block", "column", "random"] | None = None,
        train_groups: Names = None,
        val_groups: Names = None,
        test_groups: Names = None,
        fractions: str | Sequence[float] = FRACTIONS,
        block: int | None = None,
        guard: int = 1,
        seed: int = 0,
        download: bool = False,
        checksum: bool = False,
        cache: bool = True,
        progress: ProgressCallback | None = None,
    ) -> None:
        self._begin(root, split, transforms, progress)
        self._names = parse_bands(bands)
        self._units = units
        self._labels = labels
        self._download = download
        self._checksum = checksum
        self.bands = _describe_bands(self._names, units)
        named = {"train": names_of(train_groups), "val": names_of(val_groups), "test": names_of(test_groups)}
        split_manner = _choose_split_by(split_by, named)
        self._source = split if split_manner == "official" else "train"
        self._verify()
        files = self._find()
        patches = [_patch(self._source, number) for number in files.numbers]
        if split_manner == "official":
            indices: Sequence[int] = range(len(patches))
            training: Sequence[int] = ()
            notes: tuple[str, ...] = ("split: as published",)
            if split != "train":
                notes += ("leak: the scenes of this split are not published, so it may touch training patches",)
        else:
            partition = _split_patches(patches, split_manner, named, fractions_of(fractions), block, guard, seed)
            indices, training, notes = partition.of(split), partition.train, partition.notes
        if not indices:
            raise DataError(
                f"the {split} split is empty", where=self.root, hint="Name other scenes, or use smaller blocks"
            )
        self._calibration: Calibration | None = None
        if self._names is None:
            images = files.images if self._source == "train" else find_split(self.root, "train").images
            self._calibration = calibrate([images[index] for index in training] if training else images)
        self._images = tuple(files.images[index] for index in indices)
        self._masks = None if files.masks is None else tuple(files.masks[index] for index in indices)
        self.patches = tuple(patches[index] for index in indices)
        self.split_notes = (*self._describe(files), *notes)
        pairs = zip(self._images, *(() if self._masks is None else (self._masks,)), strict=True)
        settings = {
            "decoding": 1,
            "bands": None if self._names is None else list(self._names),
            "units": units,
            "calibration": None if self._calibration is None else self._calibration.to_settings(),
        }
        self._store([PatchSource(tuple(pair)) for pair in pairs], settings, cache=cache)
        self._warn_without_landslides()

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
            mask = binary_mask(read_array(self._masks[index], "mask", (SIZE, SIZE)), self._masks[index])
        return np.ascontiguousarray(image, dtype=np.float32), mask

    def _verify(self) -> None:
        """Check that the required splits exist; unpack or download them if requested.

        Raises:
            DataError: if a split is missing, or an archive differs from the published one.
        """
        needed = {self._source, "train"} if self._names is None else {self._source}
        for split in sorted(needed):
            archive = self.root / ARCHIVES[split].name
            if self._checksum:
                self._check_archive(split, archive)
            if any(images.is_dir() for _, images, _ in _places(self.root, split)):
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
                max_bytes=MAX_UNPACKED_BYTES[split],
            )

    def _check_archive(self, split: str, archive: Path) -> None:
        if ARCHIVES[split].digest is None:
            warnings.warn(
                DataWarning(f"{archive.name}: its published checksum is not known here, so it was not checked"),
                stacklevel=5,
            )
        elif archive.is_file():
            check_file(ARCHIVES[split], archive)
        elif not self._download:
            warnings.warn(
                DataWarning(f"{archive}: the archive is missing, so its checksum was not checked"), stacklevel=5
            )

    def _find(self) -> SplitFiles:
        split = self._source
        files = find_split(self.root, split)
        if files.masks is None and self._labels == "required":
            others = "" if split == "train" else ", or split_by=group to divide the training patches"
            raise DataError(
                f"the {split} split has no masks here, so it cannot be used for training or evaluation",
                where=files.folder,
                hint=f"Get {FOLDERS[split]}.zip from {SOURCE}, pass labels=optional to read images alone{others}",
            )
        if len(files.images) != PUBLISHED[split]:
            warnings.warn(
                DataWarning(
                    f"{files.folder}: {len(files.images)} of the {PUBLISHED[split]} published {split} patches are "
                    f"present, so results cannot be compared with published figures"
                ),
                stacklevel=4,
            )
        return files

    def _describe(self, files: SplitFiles) -> tuple[str, ...]:
        notes = [f"files: {len(files.images)} of {PUBLISHED[self._source]} patches, layout of the {files.layout}"]
        if files.masks is None:
            notes.append("masks: there are none; every pixel is ignored")
        elif files.layout == "mirror" and self._source != "train":
            notes.append("masks: the mirror does not state the source of the masks of this split")
        if self._names is None:
            notes.append("bands: SMI is OPTRAM of B12, LSI has no rain; both are calibrated on training patches")
        return tuple(notes)

    def _warn_without_landslides(self) -> None:
        if self._masks is None or self._has_landslides():
            return
        problem = f"no mask of the {self.split} split ({len(self)} patches) holds a landslide"
        if self.split == "train":
            raise DataError(problem, where=self._masks[0].parent, hint="A model cannot learn from it; use more patches")
        warnings.warn(DataWarning(f"{self._masks[0].parent}: {problem}; Dice is not defined there"), stacklevel=4)


@dataclass(frozen=True)
class SplitFiles:
    """Files of one official split.

    Attributes:
        layout: "competition" or "mirror".
        folder: folder of the images.
        numbers: number of each patch in its file name, ascending.
        images: images in the order of ``numbers``.
        masks: masks in the order of ``numbers``; None if the split has none.
    """

    layout: str
    folder: Path
    numbers: tuple[int, ...]
    images: tuple[Path, ...]
    masks: tuple[Path, ...] | None


def find_split(root: Path, split: str) -> SplitFiles:
    """Find the files of one official split; the layout of the competition is preferred to that of the mirror.

    Args:
        root: folder that contains ``TrainData`` and the others, or ``images`` and ``annotations``.
        split: "train", "val" or "test".

    Raises:
        DataError: if there is no such split, it is empty, or some of its images have a mask and others have none.
    """
    for layout, folder, mask_folder in _places(root, split):
        if not folder.is_dir():
            continue
        hint = f"Unpack {FOLDERS[split]}.zip of {SOURCE} again"
        found = sorted((int(name[1]), path) for path in folder.iterdir() if (name := _IMAGE.fullmatch(path.name)))
        if not found:
            raise DataError("there is no image_1.h5 or other image", where=folder, hint=hint)
        numbers = tuple(number for number, _ in found)
        if len(set(numbers)) < len(numbers):
            raise DataError(f"two images have the number {max(numbers, key=numbers.count)}", where=folder)
        # Match by name: the mirror's annotations/train contains five image files among its masks.
        masks = tuple(mask_folder / path.name.replace("image_", "mask_") for _, path in found)
        missing = [mask for mask in masks if not mask.is_file()]
        if missing and len(missing) < len(masks):
            raise DataError(
                f"{len(missing)} of {len(masks)} masks are missing; the first is {missing[0].name}",
                where=mask_folder,
                hint=hint,
            )
        return SplitFiles(layout, folder, numbers, tuple(path for _, path in found), None if missing else masks)
    raise missing_dataset_error(
        "landslide4sense",
        root,
        expected=f"{FOLDERS[split]}/img and no images/{_MIRROR[split]}",
        source=SOURCE,
        advice=f"put {FOLDERS[split]}.zip into this folder, or add --data-option download=true; see "
        "docs/datasets/landslide4sense.md",
    )


def place_of(number: int) -> tuple[str, int, int]:
    """Return scene, row and column of a training patch."""
    scene, first, columns = max((entry for entry in SCENES if entry[1] <= number), key=lambda entry: entry[1])
    return scene, (number - first) // columns, (number - first) % columns


def read_image(path: Path) -> NDArray[np.float64]:
    """Read one image.

    Returns:
        float64 (14, 128, 128), values as published.

    Raises:
        DataError: if the file is damaged or not as published.
    """
    image = np.moveaxis(read_array(path, "img", (SIZE, SIZE, len(NAMES))), -1, 0).astype(np.float64, copy=False)
    check_finite(image, NAMES, path, hint="The published images have no missing values; unpack the archive again")
    return image


def parse_bands(bands: str | Sequence[str]) -> tuple[str, ...] | None:
    """Parse the option ``bands``.

    Args:
        bands: "all", "paper", "B4,B3,B2", or a sequence of names.

    Returns:
        Names in the given order; None for the channels of the paper.

    Raises:
        UnknownNameError: if a band does not exist.
        ConfigError: if there are no names, one occurs twice, or one is B8A.
    """
    if isinstance(bands, str):
        if bands.strip().lower() == "paper":
            return None
        if bands.strip().lower() == "all":
            return NAMES
        bands = bands.split(",")
    known = {name.casefold(): name for name in NAMES}
    chosen = []
    for band in bands:
        name = str(band).strip()
        if name.casefold() == "b8a":
            raise ConfigError(
                "Landslide4Sense has no B8A: the band after B9 is B10 (cirrus)",
                where="option bands",
                hint="B8 is the near infrared band of 10 m",
            )
        if name.casefold() not in known:
            raise UnknownNameError("band", name, (*NAMES, "all", "paper"), where="option bands")
        chosen.append(known[name.casefold()])
    if not chosen:
        raise ConfigError("no bands", where="option bands", hint="Write all, paper, or names such as B4,B3,B2")
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"{max(chosen, key=chosen.count)} is named twice", where="option bands")
    return tuple(chosen)


def to_physical(image: NDArray[np.float64], names: Sequence[str], where: object) -> NDArray[np.float64]:
    """Undo the scaling of some bands.

    Args:
        image: (C, H, W) as published, with the bands ``names`` in that order.
        names: names of the bands.
        where: the file, for error messages.

    Returns:
        float64 (C, H, W): reflectance at the top of the atmosphere (0 to about 1), slope in degrees, elevation in
        metres.

    Raises:
        DataError: if the values times the divisors are not integers, so that their scaling is unknown.
    """
    divisors = np.array([DIVISORS[name] for name in names])[:, None, None]
    numbers = image * divisors
    rounded = np.rint(numbers)
    wrong = np.abs(numbers - rounded).max(axis=(1, 2)) > _TOLERANCE
    if wrong.any():
        raise DataError(
            f"band {names[int(np.argmax(wrong))]} is not scaled as in the published files, so its unit is unknown",
            where=where,
            hint="Use units=published, or the files as they were published",
        )
    counts = np.array([REFLECTANCE if name.startswith("B") else 1.0 for name in names])[:, None, None]
    return np.asarray(rounded / counts, dtype=np.float64)


@dataclass(frozen=True)
class Calibration:
    """Regional constants of SMI and LSI, computed only from training patches.

    Attributes:
        edges: dry and wet edge of OPTRAM.
        ranges: range of each feature of the LSI, from the 0.5th to the 99.5th percentile.
    """

    edges: OptramEdges
    ranges: Mapping[str, FeatureRange]

    def to_settings(self) -> dict[str, object]:
        """Return the numbers as JSON values, for the fingerprint."""
        ranges = {name: [feature.low, feature.high] for name, feature in self.ranges.items()}
        return {"edges": to_plain(self.edges), "ranges": ranges}


def calibrate(images: Sequence[Path]) -> Calibration:
    """Fit the edges of OPTRAM and the ranges of the features of the LSI.

    Args:
        images: files of the training patches.

    Raises:
        DataError: if the patches are too uniform, or a file is damaged.
    """
    chosen = [images[index] for index in np.unique(np.linspace(0, len(images) - 1, CALIBRATION_PATCHES).astype(int))]
    fit = OptramFit()
    kept: list[tuple[Features, FloatArray]] = []
    for path in chosen:
        features, moist, nir = _features(read_image(path), path)
        fit.add(np.where(nir < _MIN_NIR, np.nan, features["NDVI"]), moist)
        kept.append(({name: values[::_STEP, ::_STEP] for name, values in features.items()}, moist[::_STEP, ::_STEP]))
    edges = fit.edges()
    for features, moist in kept:
        features["SMI"] = edges.moisture(features["NDVI"], moist)
    ranges = {}
    for name in PAPER_WEIGHTS:
        low, high = np.nanpercentile(np.concatenate([features[name].ravel() for features, _ in kept]), _PERCENTILES)
        if not low < high:
            raise DataError(f"{name} is constant over the training patches, so LSI cannot be scaled")
        ranges[name] = FeatureRange(float(low), float(high))
    return Calibration(edges, ranges)


def paper_channels(image: NDArray[np.float64], calibration: Calibration, where: object) -> NDArray[np.float32]:
    """Compute SMI, NDBI, NDVI, NDWI, slope, DEM and LSI.

    SMI is OPTRAM (B12 over NDVI), because NDMI would be NDBI with the opposite sign. The data set has no rainfall, so
    LSI is equation 4 with R_m = 1.

    Args:
        image: (14, H, W), as published.
        calibration: constants from the training patches.
        where: the file, for error messages.

    Returns:
        float32 (7, H, W) in the units of :data:`zoo.physics.bands.PAPER_CHANNELS`; NaN where a quotient is undefined.

    Raises:
        DataError: if the values are not scaled as in the published files.
    """
    features, moist, _ = _features(image, where)
    features["SMI"] = calibration.edges.moisture(features["NDVI"], moist)
    features["LSI"] = np.asarray(expit(weighted_sum(features, calibration.ranges)))
    return np.stack([features[band.name] for band in PAPER_CHANNELS]).astype(np.float32)


def _features(image: NDArray[np.float64], where: object) -> tuple[Features, FloatArray, FloatArray]:
    """Return all features except SMI, the transformed B12 from which SMI is computed, and the near infrared."""
    physical = to_physical(image[[NAMES.index(name) for name in _CALIBRATION_BANDS]], _CALIBRATION_BANDS, where)
    green, red, nir, swir, far_swir, slope, dem = physical
    features: Features = {
        "NDBI": ndbi(swir, nir),
        "NDVI": ndvi(nir, red),
        "NDWI": ndwi(green, nir),
        "slope": slope,
        "DEM": dem,
    }
    return features, transformed_swir(far_swir), nir


def _describe_bands(names: Sequence[str] | None, units: str) -> tuple[Band, ...]:
    if names is None:
        return PAPER_CHANNELS
    return tuple(_physical(name) if units == "physical" else _published(name) for name in names)


def _published(name: str) -> Band:
    unit = {"slope": "degree", "DEM": "m"}.get(name, "DN")
    # A value of 1 equals the divisor in digital numbers, degrees or metres, so the divisor is part of the unit.
    return Band(name, f"{DIVISORS[name]:g} {unit}", description=f"{_WAVELENGTHS[name]}, divided by {DIVISORS[name]}")


def _physical(name: str) -> Band:
    if name == "slope":
        return Band(name, "degree", 0.0, 90.0, description=_WAVELENGTHS[name])
    if name == "DEM":
        return Band(name, "m", -450.0, 8900.0, description=_WAVELENGTHS[name])
    return Band(name, "1", valid_min=0.0, description=f"{_WAVELENGTHS[name]}, reflectance at the top of the atmosphere")


def _places(root: Path, split: str) -> tuple[tuple[str, Path, Path], ...]:
    """Return layout, folder of images and folder of masks, for both layouts."""
    competition, mirror = root / FOLDERS[split], _MIRROR[split]
    return (
        ("competition", competition / "img", competition / "mask"),
        ("mirror", root / "images" / mirror, root / "annotations" / mirror),
    )


def _patch(split: str, number: int) -> Patch:
    if split != "train" or not 1 <= number <= PUBLISHED["train"]:
        return Patch(f"{split}/image_{number}", split)
    return Patch(f"{split}/image_{number}", *place_of(number))


def _choose_split_by(split_by: str | None, named: Mapping[str, tuple[str, ...] | None]) -> str:
    some = any(names is not None for names in named.values())
    if some and split_by not in (None, "group"):
        raise ConfigError(f"scenes are named, but split_by is {split_by}", hint="Give one of the two")
    return split_by or ("group" if some else "official")


def _split_patches(
    patches: Sequence[Patch],
    split_by: str,
    named: Mapping[str, tuple[str, ...] | None],
    fractions: Sequence[float],
    block: int | None,
    guard: int,
    seed: int,
) -> Partition:
    if split_by == "random":
        return random_split(patches, fractions=fractions, seed=seed)
    if split_by == "group":
        train, val, test = named["train"], named["val"], named["test"]
        return by_group(patches, train=train, val=val, test=test, fractions=fractions, seed=seed, guard=guard)
    return by_block(patches, fractions=fractions, seed=seed, block=block, guard=guard, columns=split_by == "column")
