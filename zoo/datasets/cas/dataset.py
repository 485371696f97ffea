"""CAS Landslide Dataset (Xu et al. 2024): RGB images by satellites and drones with landslide masks."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.base import IGNORE, SPLITS, DataWarning, Patch, Transform
from zoo.datasets.cas.spec import CAS as SPEC
from zoo.datasets.cas.subsets import SUBSETS, Subset, find_subsets, pair_images
from zoo.datasets.folder.options import Names, names_of, whole_of
from zoo.datasets.splits import Partition, by_group, random_split
from zoo.datasets.stored import Origin, Progress, StoredPatchDataset
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.files import cache_folder
from zoo.physics.bands import Band
from zoo.rasters.reading import Raster, plain_patches, read_raster
from zoo.registry.specs import check_options

SIZE = 512
_DECODING = 1
_AGAIN = "Unpack the archive again"


class CAS(StoredPatchDataset):
    """RGB images of 512 x 512 pixels, by satellites and drones, of landslides in nine regions.

    Dataset features:

    * 20,865 images in 16 sub-datasets: 7,422 by satellites (0.5 to 5 m), 13,443 by drones (0.2 to 1 m)
    * groups are the nine regions. Sub-datasets of one region are never parted: Moxitaidi and Moxi town are one town
      seen in the same weeks, by drones at 0.2, 0.6 and 1 m and from a satellite, and the Longxi river, the Jiuzhai
      valley and the Tiburon peninsula were seen twice each

    Dataset format:

    * 16 archives, one folder each (``palu``, ``Moxi town (UAV-0.2m)``), with the folders img, label and mask
    * img: RGB TIFF; mask: TIFF of the same name, 0 background, 1 landslide; label (pictures of the masks) is not read

    A mask of 0 and 255 is read as one of 0 and 1 [O]; other values are refused. Patches have no known place within
    their region. There is no official split; ours keeps regions whole, and splits at random only where fewer than three
    regions are there, which leaks: neighbouring images show the same landslides.

    If you use this dataset, cite Xu, Y., Ouyang, C., Xu, Q., Wang, D., Zhao, B. & Luo, Y. (2024), "CAS Landslide
    Dataset: a large-scale and multisensor dataset for deep learning-based landslide detection", Scientific Data 11, 12,
    https://doi.org/10.1038/s41597-023-02847-z. Licence: CC BY-NC 4.0, and the terms of the providers of the images; for
    this reason zoo does not fetch it. Get it from https://doi.org/10.5281/zenodo.10294997.

    Published (README of the authors' repository HydroPML/Dataset4LandslideNets), as F1, UAV and satellite together:
    MFFENet 93.608, DeepLabv3+ 93.563, FCN 85.864, U-Net 85.311. These are macro averages over landslide and background.
    They must not stand beside an F1 (Dice) of the landslide class, which follows from the IoU printed with them:
    88.94, 88.97, 76.36 and 75.09.
    """

    citation: ClassVar[str] = SPEC.citation
    licence = SPEC.licence

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "train",
        transforms: Transform | None = None,
        *,
        subsets: Names = "all",
        platform: str = "all",
        split_by: str | None = None,
        train_groups: Names = None,
        val_groups: Names = None,
        test_groups: Names = None,
        seed: int | str = 0,
        cache: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Open one split.

        Args:
            root: folder with the unpacked archives; None for zoo's cache folder.
            split: "train", "val" or "test".
            transforms: applied to every sample.
            subsets: names of sub-datasets ("palu,lombok"), or "all" that are there.
            platform: "uav", "satellite" or "all".
            split_by: "group" for whole regions, "random"; None for regions where there are at least three.
            train_groups: regions of the training split.
            val_groups: regions of the validation split.
            test_groups: regions of the test split.
            seed: of the split.
            cache: keep decoded patches on disk.
            progress: called with the number of patches decoded and of all.

        Raises:
            DataError: if files are missing, damaged or not as published.
            ConfigError: if options contradict each other.
            UnknownNameError: for a sub-dataset, region or split that does not exist.
        """
        check_options(SPEC, {"platform": platform, "split_by": split_by})
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
        self.root = cache_folder("datasets") / "cas" if root is None else Path(root)
        self.split = split
        self.transforms = transforms
        self.bands = tuple(
            Band(name, "DN", description=f"{name}, as the provider scaled it") for name in ("red", "green", "blue")
        )
        wanted = names_of(subsets)
        self._subsets = find_subsets(self.root, None if wanted in (None, ("all",)) else wanted, platform)
        files: dict[str, tuple[Path, Path]] = {}
        patches = []
        counts: dict[Subset, int] = {}
        for subset, folder in self._subsets.items():
            pairs = pair_images(folder)
            counts[subset] = len(pairs)
            for stem, image, mask in pairs:
                name = f"{subset.name}/{stem}"
                files[name] = (image, mask)
                patches.append(Patch(name, subset.region))
        sizes = {subset.pixel_size for subset in self._subsets}
        self.pixel_size = sizes.pop() if len(sizes) == 1 else None
        named = {"train": names_of(train_groups), "val": names_of(val_groups), "test": names_of(test_groups)}
        self.partition = _partition(patches, split_by, named, whole_of(seed, "seed"))
        self.patches = tuple(patches[index] for index in self.partition.of(split))
        self._files = [files[patch.name] for patch in self.patches]
        self.split_notes = (*self.partition.notes, *_notes(counts))
        self._verify()
        self._warn_of_missing(counts)
        with plain_patches():
            self._store([Origin(pair) for pair in self._files], {"decoding": _DECODING}, cache=cache, progress=progress)

    def decode(self, index: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Decode one patch; see :meth:`zoo.datasets.stored.StoredPatchDataset.decode`.

        The image keeps the dtype of its file, a quarter of float32 in the cache; :meth:`read` marks what is missing.
        """
        image_path, mask_path = self._files[index]
        raster = read_raster(image_path)
        if raster.image.shape != (3, SIZE, SIZE):
            bands, height, width = raster.image.shape
            raise DataError(
                f"has {bands} bands of {height} x {width} pixels, as published 3 of {SIZE} x {SIZE}",
                where=image_path,
                hint=_AGAIN,
            )
        image = raster.image if raster.image.dtype.kind in "iu" else raster.image.astype(np.float32)
        mask = _mask(read_raster(mask_path), mask_path)
        missing = np.isnan(image).all(axis=0)
        if raster.missing is not None:
            missing |= raster.missing
        if raster.nodata is not None:
            missing |= (image == raster.nodata).all(axis=0)
        mask[missing] = IGNORE
        return image, mask

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.integer[Any]]]:
        """Give one patch; see :meth:`zoo.datasets.base.PatchDataset.read`."""
        with plain_patches():
            image, mask = super().read(index)
        image[:, mask == IGNORE] = np.nan
        return image, mask

    def _verify(self) -> None:
        """Check that the split holds patches. What is in the files is checked when they are decoded."""
        if not self.patches:
            sizes = ", ".join(f"{name} {len(self.partition.of(name))}" for name in SPLITS)
            raise DataError(
                f"the {self.split} split is empty ({sizes})", where=self.root, hint="Name other regions or subsets"
            )

    def _warn_of_missing(self, counts: dict[Subset, int]) -> None:
        short = [
            f"{subset.name} {count} of {subset.images}" for subset, count in counts.items() if count < subset.images
        ]
        if short:
            warnings.warn(
                DataWarning(
                    f"{self.root}: fewer images than were published: {', '.join(short)}; results do not compare"
                ),
                stacklevel=3,
            )


def _mask(raster: Raster, path: Path) -> NDArray[np.uint8]:
    if raster.image.shape[1:] != (SIZE, SIZE):
        height, width = raster.image.shape[1:]
        raise DataError(f"the mask is {height} x {width} pixels, as published {SIZE} x {SIZE}", where=path, hint=_AGAIN)
    first = raster.image[0]
    if any(not np.array_equal(first, band) for band in raster.image[1:]):
        raise DataError(
            "the mask is a coloured picture",
            where=path,
            hint="The folders label and mask are mixed up; masks hold 0 and 1",
        )
    values = set(np.unique(first).tolist())
    if not (values <= {0, 1} or values <= {0, 255}):
        odd = sorted(values - {0, 1})
        raise DataError(
            f"the mask holds {odd[0]:g}, and not only 0 and 1",
            where=path,
            hint=f"{_AGAIN}, or read it as a folder data set with mask_values",
        )
    return np.asarray(first > 0).astype(np.uint8)


def _partition(
    patches: list[Patch], split_by: str | None, named: dict[str, tuple[str, ...] | None], seed: int
) -> Partition:
    some = any(names is not None for names in named.values())
    if some and split_by == "random":
        raise ConfigError("regions are named, and the split is random", hint="Leave one of the two out")
    regions = {patch.group for patch in patches}
    if some or split_by == "group" or (split_by is None and len(regions) >= 3):
        return by_group(patches, train=named["train"], val=named["val"], test=named["test"], seed=seed)
    return random_split(patches, seed=seed)


def _notes(counts: dict[Subset, int]) -> tuple[str, ...]:
    by_region: dict[str, int] = {}
    for subset, count in counts.items():
        by_region[subset.region] = by_region.get(subset.region, 0) + count
    notes = [
        f"images: {len(counts)} of {len(SUBSETS)} sub-datasets, by region "
        + ", ".join(f"{region} {count}" for region, count in by_region.items())
    ]
    sizes = sorted({subset.pixel_size for subset in counts})
    if len(sizes) > 1:
        notes.append("pixels: of " + ", ".join(f"{size:g}" for size in sizes) + " m, not brought to one size")
    if {"wenchuan", "longxi"} <= set(by_region):
        notes.append("leak: the Longxi river lies in the area of the Wenchuan earthquake, so the two may overlap")
    return tuple(notes)
