"""CAS Landslide Dataset (Xu et al. 2024): RGB images from satellites and drones with landslide masks."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.arguments import Names, checked_options, names_of
from zoo.datasets.base import IGNORE, SPLITS, DataWarning, Patch, Transform
from zoo.datasets.builtin import CAS as SPEC
from zoo.datasets.download import missing_dataset_error
from zoo.datasets.splits import Partition, by_group, random_split
from zoo.datasets.stored import PatchSource, StoredPatchDataset, binary_mask
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.jobs import ProgressCallback
from zoo.physics.bands import Band
from zoo.rasters.reading import Raster, ignore_missing_georeference, read_raster

SOURCE = "https://doi.org/10.5281/zenodo.10294997"
SIZE = 512
_DECODING = 1
_UNPACK_HINT = "Unpack the archive again"


@dataclass(frozen=True)
class Subset:
    """Archive of the data set.

    Attributes:
        name: name that users enter.
        folder: name of the archive without .zip; some contain full-width parentheses.
        region: one of nine regions; images of one region may show the same ground.
        platform: "uav" or "satellite".
        pixel_size: side of a pixel in metres.
        images: number of published images.
    """

    name: str
    folder: str
    region: str
    platform: str
    pixel_size: float
    images: int


# Platforms, pixel sizes and numbers of images are from table 2 of the paper [S]; the numbers sum to its 20,865.
SUBSETS: tuple[Subset, ...] = (
    Subset("palu", "palu", "palu", "satellite", 5.0, 817),
    Subset("lombok", "Lombok", "lombok", "satellite", 5.0, 436),
    Subset("hokkaido", "Hokkaido Iburi-Tobu", "hokkaido", "satellite", 3.0, 1484),
    Subset("tiburon-sentinel", "Tiburon Peninsula (Sentinel)", "tiburon", "satellite", 5.0, 606),
    Subset("tiburon-planet", "Tiburon Peninsula (planet)", "tiburon", "satellite", 4.0, 325),
    Subset("mengdong", "Mengdong Township", "mengdong", "satellite", 0.5, 1155),
    Subset("moxitaidi-sat", "Moxitaidi (SAT)", "moxi", "satellite", 0.6, 652),
    Subset("moxitaidi-uav-0.6m", "Moxitaidi (UAV-0.6m)", "moxi", "uav", 0.6, 984),
    Subset("moxitaidi-uav-1m", "Moxitaidi (UAV-1m)", "moxi", "uav", 1.0, 483),
    Subset("moxi-town-uav-0.2m", "Moxi town (UAV-0.2m)", "moxi", "uav", 0.2, 1635),
    Subset("moxi-town-uav-1m", "Moxi town (UAV-1m)", "moxi", "uav", 1.0, 160),
    Subset("longxi-sat", "Longxi River (SAT)", "longxi", "satellite", 0.5, 1769),
    Subset("longxi-uav", "Longxi River (UAV)", "longxi", "uav", 0.5, 2504),
    Subset("jiuzhai-uav-0.2m", "Jiuzhai valley (UAV-0.2m)", "jiuzhai", "uav", 0.2, 5925),
    Subset("jiuzhai-uav-0.5m", "Jiuzhai valley (UAV-0.5m)", "jiuzhai", "uav", 0.5, 1752),
    Subset("wenchuan", "Wenchuan", "wenchuan", "satellite", 5.0, 178),
)
_SUBSETS_BY_NAME = {subset.name: subset for subset in SUBSETS}


class CAS(StoredPatchDataset):
    """RGB images of 512 x 512 pixels, from satellites and drones, of landslides in nine regions.

    Dataset features:

    * 20,865 images in 16 sub-datasets: 7,422 from satellites (0.5 to 5 m), 13,443 from drones (0.2 to 1 m)
    * the group of a patch is its region, so that sub-datasets of one region stay in one split: Moxitaidi and Moxi town
      are one town imaged in the same weeks, by drones at 0.2, 0.6 and 1 m and by a satellite, and the Longxi river, the
      Jiuzhai valley and the Tiburon peninsula were each imaged twice

    Dataset format:

    * 16 archives, one folder each (``palu``, ``Moxi town (UAV-0.2m)``), with the folders img, label and mask
    * img: RGB TIFF; mask: TIFF with the same name, 0 background, 1 landslide; label (images of the masks) is not read

    A mask of 0 and 255 is read like one of 0 and 1 [O]; other values are refused. The location of a patch within its
    region is unknown. There is no official split. This one keeps regions whole; with fewer than three regions it is
    random, which leaks because neighbouring images show the same landslides.

    If you use this dataset, cite Xu, Y., Ouyang, C., Xu, Q., Wang, D., Zhao, B. & Luo, Y. (2024), "CAS Landslide
    Dataset: a large-scale and multisensor dataset for deep learning-based landslide detection", Scientific Data 11, 12,
    https://doi.org/10.1038/s41597-023-02847-z. Licence: CC BY-NC 4.0, and the terms of the providers of the images, so
    zoo does not download the data. Get them from https://doi.org/10.5281/zenodo.10294997.

    Published F1 (README of the authors' repository HydroPML/Dataset4LandslideNets), UAV and satellite together:
    MFFENet 93.608, DeepLabv3+ 93.563, FCN 85.864, U-Net 85.311. These are macro averages over landslide and background
    and cannot be compared with an F1 (Dice) of the landslide class. The IoU printed with them gives that F1: 88.94,
    88.97, 76.36 and 75.09.

    Args:
        root: folder with the unpacked archives; None for ``datasets/cas`` in the cache folder.
        split: "train", "val" or "test".
        transforms: function that is applied to every sample.
        subsets: names of sub-datasets ("palu,lombok"), or "all" for every one in ``root``.
        platform: use only the images from this platform.
        split_by: keep regions whole, or split at random; by default regions are kept whole if there are at least three.
        train_groups: regions of the training split ("palu,lombok").
        val_groups: regions of the validation split; if not given, it is carved from training.
        test_groups: regions of the test split; if not given, the remaining regions.
        seed: random seed of the split.
        cache: whether to keep decoded patches in the cache folder (21 GB for all); if false, patches are decoded at
            every read.
        progress: called with the number of patches decoded and the total.

    Raises:
        DataError: if files are missing, damaged or not as published.
        ConfigError: if options contradict each other.
        UnknownNameError: if a sub-dataset, region or split does not exist.

    >>> data = CAS("CAS", "train", platform="uav", test_groups="jiuzhai")  # doctest: +SKIP
    """

    name = "cas"
    citation: ClassVar[str] = SPEC.citation
    licence = SPEC.licence

    @checked_options
    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "train",
        transforms: Transform | None = None,
        *,
        subsets: Names = "all",
        platform: Literal["all", "uav", "satellite"] = "all",
        split_by: Literal["group", "random"] | None = None,
        train_groups: Names = None,
        val_groups: Names = None,
        test_groups: Names = None,
        seed: int = 0,
        cache: bool = True,
        progress: ProgressCallback | None = None,
    ) -> None:
        self._begin(root, split, transforms, progress)
        self.bands = tuple(
            Band(name, "DN", description=f"{name}, as the provider scaled it") for name in ("red", "green", "blue")
        )
        wanted = names_of(subsets)
        found = find_subsets(self.root, None if wanted in (None, ("all",)) else wanted, platform)
        files: dict[str, tuple[Path, Path]] = {}
        patches = []
        counts: dict[Subset, int] = {}
        for subset, folder in found.items():
            pairs = pair_images(folder)
            counts[subset] = len(pairs)
            for stem, image, mask in pairs:
                name = f"{subset.name}/{stem}"
                files[name] = (image, mask)
                patches.append(Patch(name, subset.region))
        sizes = {subset.pixel_size for subset in found}
        self.pixel_size = sizes.pop() if len(sizes) == 1 else None
        groups = {"train": names_of(train_groups), "val": names_of(val_groups), "test": names_of(test_groups)}
        self.partition = _partition(patches, split_by, groups, seed)
        self.patches = tuple(patches[index] for index in self.partition.of(split))
        self._files = [files[patch.name] for patch in self.patches]
        self.split_notes = (*self.partition.notes, *_notes(counts))
        self._verify()
        self._warn_of_missing(counts)
        with ignore_missing_georeference():
            self._store([PatchSource(pair) for pair in self._files], {"decoding": _DECODING}, cache=cache)

    def decode(self, index: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Decode one patch; see :meth:`zoo.datasets.stored.StoredPatchDataset.decode`.

        The image keeps the dtype of its file, which takes a quarter of float32 in the cache. :meth:`read` sets missing
        pixels to NaN.
        """
        image_path, mask_path = self._files[index]
        raster = read_raster(image_path)
        if raster.image.shape != (3, SIZE, SIZE):
            bands, height, width = raster.image.shape
            raise DataError(
                f"has {bands} bands of {height} x {width} pixels instead of 3 of {SIZE} x {SIZE}",
                where=image_path,
                hint=_UNPACK_HINT,
            )
        image = raster.image
        if image.dtype.kind not in "iu":
            image = image.astype(np.float32)
            image[np.isinf(image)] = np.nan
        mask = _mask(read_raster(mask_path, classes=True), mask_path)
        missing = np.isnan(image).all(axis=0)
        if raster.missing is not None:
            missing |= raster.missing
        if raster.nodata is not None:
            missing |= (image == raster.nodata).all(axis=0)
        mask[missing] = IGNORE
        return image, mask

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.integer[Any]]]:
        """Return one patch; see :meth:`zoo.datasets.base.PatchDataset.read`."""
        with ignore_missing_georeference():
            image, mask = super().read(index)
        image[:, mask == IGNORE] = np.nan
        return image, mask

    def _verify(self) -> None:
        """Check that the split contains patches. The content of the files is checked when they are decoded."""
        if not self.patches:
            sizes = ", ".join(f"{name} {len(self.partition.of(name))}" for name in SPLITS)
            raise DataError(
                f"the {self.split} split is empty ({sizes})", where=self.root, hint="Name other regions or subsets"
            )

    def _warn_of_missing(self, counts: Mapping[Subset, int]) -> None:
        short = [
            f"{subset.name} {count} of {subset.images}" for subset, count in counts.items() if count < subset.images
        ]
        if short:
            warnings.warn(
                DataWarning(
                    f"{self.root}: fewer images than were published ({', '.join(short)}), so results cannot be "
                    "compared with published figures"
                ),
                stacklevel=4,
            )


def subset_of_folder(folder: str) -> Subset | None:
    """Return the sub-dataset that a folder is named after, or None; case and type of parentheses do not matter."""
    tokens = _name_tokens(folder)
    fitting = [subset for subset in SUBSETS if _name_tokens(subset.name) <= tokens]
    return max(fitting, key=lambda subset: len(_name_tokens(subset.name)), default=None)


def find_subsets(root: Path, wanted: tuple[str, ...] | None, platform: str) -> dict[Subset, Path]:
    """Find the folders that contain img and mask.

    Args:
        root: folder of the data set, with one folder per sub-dataset, or one of these folders itself.
        wanted: names of sub-datasets; None for all in ``root``.
        platform: "uav", "satellite" or "all".

    Returns:
        Folder of each sub-dataset, in the order of :data:`SUBSETS`.

    Raises:
        UnknownNameError: if there is no sub-dataset of that name.
        DataError: if none is found, a requested one is missing, or a folder belongs to no sub-dataset or to one that
            already has a folder.
    """
    for name in wanted or ():
        if name not in _SUBSETS_BY_NAME:
            raise UnknownNameError("sub-dataset", name, _SUBSETS_BY_NAME, where="option subsets")
    found: dict[Subset, Path] = {}
    for folder in _image_folders(root, 3) if root.is_dir() else ():
        subset = _subset_of(folder, root)
        if subset in found:
            raise DataError(
                f"two folders are named after the sub-dataset {subset.name!r}",
                where=folder,
                hint=f"The other is {found[subset]}; remove one of them",
            )
        found[subset] = folder
    missing = [_SUBSETS_BY_NAME[name] for name in wanted or () if _SUBSETS_BY_NAME[name] not in found]
    if missing or not found:
        first = missing[0] if missing else SUBSETS[0]
        raise missing_dataset_error(
            "cas",
            root,
            expected=f"{first.folder}/img and {first.folder}/mask",
            source=f"{SOURCE} (16 archives; the licence CC BY-NC 4.0 is non-commercial, so zoo does not download them)",
            advice=f"unpack each archive into a folder of its name: unzip '{first.folder}.zip' -d '{first.folder}'",
        )
    chosen = {
        subset: found[subset]
        for subset in SUBSETS
        if subset in found and (wanted is None or subset.name in wanted) and platform in ("all", subset.platform)
    }
    if not chosen:
        raise DataError(
            f"no sub-dataset of platform {platform!r}", where=root, hint="Choose another platform or other subsets"
        )
    return chosen


def pair_images(folder: Path) -> list[tuple[str, Path, Path]]:
    """Return name, image and mask of each patch of a sub-dataset, sorted by name.

    Raises:
        DataError: if there are no images, or one has no mask.
    """
    images = {path.stem: path for path in _tiffs(folder, "img")}
    masks = {_pair_key(path.stem): path for path in _tiffs(folder, "mask")}
    if not images:
        raise DataError("holds no TIFF", where=folder / "img", hint=_UNPACK_HINT)
    without = [image for name, image in images.items() if _pair_key(name) not in masks]
    if without:
        raise DataError(
            f"no mask has this name ({len(without)} of {len(images)} images have none)",
            where=without[0],
            hint=f"{_UNPACK_HINT}; the masks belong in {folder / 'mask'}",
        )
    return [(name, images[name], masks[_pair_key(name)]) for name in sorted(images)]


def _mask(raster: Raster, path: Path) -> NDArray[np.uint8]:
    if raster.image.shape[1:] != (SIZE, SIZE):
        height, width = raster.image.shape[1:]
        raise DataError(
            f"the mask is {height} x {width} pixels instead of {SIZE} x {SIZE}", where=path, hint=_UNPACK_HINT
        )
    first = raster.image[0]
    if any(not np.array_equal(first, band) for band in raster.image[1:]):
        raise DataError(
            "the mask is a coloured picture",
            where=path,
            hint="Are the folders label and mask swapped? Masks hold 0 and 1",
        )
    hint = f"{_UNPACK_HINT}, or open it as a folder data set with mask_values"
    return binary_mask(first, path, landslide=(1, 255), hint=hint)


def _partition(
    patches: Sequence[Patch], split_by: str | None, groups: Mapping[str, tuple[str, ...] | None], seed: int
) -> Partition:
    some = any(names is not None for names in groups.values())
    if some and split_by == "random":
        raise ConfigError("regions are named, but the split is random", hint="Give one of the two")
    regions = {patch.group for patch in patches}
    if some or split_by == "group" or (split_by is None and len(regions) >= 3):
        return by_group(patches, train=groups["train"], val=groups["val"], test=groups["test"], seed=seed)
    return random_split(patches, seed=seed)


def _notes(counts: Mapping[Subset, int]) -> tuple[str, ...]:
    by_region: dict[str, int] = {}
    for subset, count in counts.items():
        by_region[subset.region] = by_region.get(subset.region, 0) + count
    notes = [
        f"images: {len(counts)} of {len(SUBSETS)} sub-datasets; by region: "
        + ", ".join(f"{region} {count}" for region, count in by_region.items())
    ]
    sizes = sorted({subset.pixel_size for subset in counts})
    if len(sizes) > 1:
        notes.append("pixels: of " + ", ".join(f"{size:g}" for size in sizes) + " m, not resampled to one size")
    if {"wenchuan", "longxi"} <= set(by_region):
        notes.append("leak: the Longxi river lies in the area of the Wenchuan earthquake, so the two may overlap")
    return tuple(notes)


def _name_tokens(text: str) -> frozenset[str]:
    plain = text.casefold().replace("satellite", "sat").replace("_", " ")
    return frozenset(re.findall(r"[a-z]+|\d+(?:\.\d+)?", plain))


def _pair_key(stem: str) -> str:
    return re.sub(r"[-_ ]?mask$", "", stem.casefold())


def _image_folders(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the folders that contain img and mask."""
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if {"img", "mask"} <= {path.name.casefold() for path in below}:
        yield folder
    elif depth:
        for path in below:
            yield from _image_folders(path, depth - 1)


def _subset_of(folder: Path, root: Path) -> Subset:
    inside = folder.relative_to(root).parts
    for name in reversed(inside or (root.resolve().name,)):
        if (subset := subset_of_folder(name)) is not None:
            return subset
    raise DataError(
        "holds img and mask, but is not named after one of the sixteen sub-datasets",
        where=folder,
        hint="Give it the name of its archive, such as " + ", ".join(repr(subset.folder) for subset in SUBSETS[:3]),
    )


def _tiffs(folder: Path, name: str) -> list[Path]:
    inside = next(path for path in folder.iterdir() if path.name.casefold() == name)
    return sorted(path for path in inside.iterdir() if path.suffix.casefold() in (".tif", ".tiff"))
