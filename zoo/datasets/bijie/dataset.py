"""Bijie landslide data set (Ji et al. 2020): RGB images of many sizes, as patches of one size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.base import IGNORE, SPLITS, Patch, Transform
from zoo.datasets.bijie.files import KINDS, Scene, find_scenes, read_image, read_mask
from zoo.datasets.bijie.spec import BIJIE
from zoo.datasets.bijie.tiling import Span, cut, spans
from zoo.datasets.folder.options import fractions_of, whole_of
from zoo.datasets.splits import FRACTIONS, random_split
from zoo.datasets.stored import Origin, Progress, StoredPatchDataset
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.files import cache_folder
from zoo.physics.bands import Band
from zoo.registry.specs import check_options

_DECODING = 1
_LEAST, _MOST = 16, 4096


class Bijie(StoredPatchDataset):
    """RGB images of Bijie, Guizhou, China, taken by TripleSat from May to August 2018, 0.8 m.

    Dataset features:

    * 770 images with a landslide (rock falls, rock slides, a few debris slides) and 2,003 without, of many sizes
    * masks by geologists, checked in the field; a DEM for each image

    Dataset format:

    * ``landslide/{image,mask,dem,polygon_coordinate}`` and ``non-landslide/{image,dem}``, PNG files of one name
    * image: RGB; mask: 0 background, 255 landslide; dem: grey values, whose unit and scale are not published
    * polygon_coordinate: outlines in pixels of the image. They give no place on the ground, so they are not read

    Patches have one size [O]. A smaller image lies in the middle of its patch; the padding is NaN in the image and
    ignored in the mask. A larger one gives as few patches as cover it, all inside the image; where they overlap, each
    pixel counts in one of them and is ignored in the other, so that every pixel counts exactly once. Nothing is
    rescaled. Patches of one image are a group and stay in one split.

    There is no official split. Ours is random by image, landslides and others apart, and leaks cannot be ruled out:
    nobody knows which images are neighbours, and images without a landslide may show the ground around one.

    If you use this dataset, cite Ji, S., Yu, D., Shen, C., Li, W. & Xu, Q. (2020), "Landslide detection from an open
    satellite imagery and digital elevation model dataset using attention boosted convolutional neural networks",
    Landslides 17, 1337-1352, https://doi.org/10.1007/s10346-020-01353-2. Licence: none is stated; zoo does not fetch
    it. Get it from http://gpcv.whu.edu.cn/data/Bijie_pages.html.

    Published (abstract of the paper): F1 96.62 of telling images with a landslide from images without, with 2/3 of them
    for training. That is not a segmentation, and not to be put beside a Dice.
    """

    citation: ClassVar[str] = BIJIE.citation
    licence = BIJIE.licence
    pixel_size = 0.8

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "train",
        transforms: Transform | None = None,
        *,
        size: int | str = 256,
        negatives: bool = True,
        include_dem: bool = False,
        fractions: str | Sequence[float] = FRACTIONS,
        seed: int | str = 0,
        cache: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Open one split.

        Args:
            root: folder that holds landslide and non-landslide; None for zoo's cache folder.
            split: "train", "val" or "test".
            transforms: applied to every sample.
            size: side of a patch in pixels, 16 to 4096.
            negatives: with the images without a landslide.
            include_dem: with the DEM as a fourth band.
            fractions: shares of train, val and test.
            seed: of the split.
            cache: keep decoded patches on disk.
            progress: called with the number of patches decoded and of all.

        Raises:
            DataError: if files are missing, damaged or not as published.
            ConfigError: if options are out of range.
            UnknownNameError: for a split that does not exist.
        """
        check_options(BIJIE, {"negatives": negatives, "include_dem": include_dem})
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
        self.size = whole_of(size, "size")
        if not _LEAST <= self.size <= _MOST:
            raise ConfigError(f"a patch of {self.size} pixels is not possible", where="option size", hint="Choose 256")
        self.root = cache_folder("datasets") / "bijie" if root is None else Path(root)
        self.split = split
        self.transforms = transforms
        self.bands = tuple(Band(name, "DN", 0.0, 255.0) for name in ("red", "green", "blue"))
        if include_dem:
            self.bands += (Band("DEM", "unknown", description="grey value; its unit and scale are not published"),)
        scenes = find_scenes(self.root, negatives=negatives, include_dem=include_dem)
        chosen, notes = _split(scenes, split, fractions_of(fractions), whole_of(seed, "seed"))
        self._tiles: list[tuple[Scene, Span, Span]] = []
        patches = []
        for scene in chosen:
            rows, cols = spans(scene.height, self.size), spans(scene.width, self.size)
            single = len(rows) == len(cols) == 1
            for row, down in enumerate(rows):
                for col, across in enumerate(cols):
                    name = scene.name if single else f"{scene.name}_r{row}c{col}"
                    patches.append(Patch(name, scene.name, row, col))
                    self._tiles.append((scene, down, across))
        self.patches = tuple(patches)
        self.split_notes = (*notes, *self._notes(chosen))
        self._verify()
        self._store(
            [Origin(scene.files) for scene, _, _ in self._tiles],
            {"decoding": _DECODING, "size": self.size, "tiles": [patch.name for patch in patches]},
            cache=cache,
            progress=progress,
        )

    def decode(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Decode one patch; see :meth:`zoo.datasets.stored.StoredPatchDataset.decode`."""
        scene, row, col = self._tiles[index]
        image, missing = read_image(scene)
        mask = read_mask(scene)
        mask[missing] = IGNORE
        return (
            cut(image, row, col, self.size, np.nan, counting=False),
            cut(mask, row, col, self.size, IGNORE, counting=True),
        )

    def _verify(self) -> None:
        """Check that the split holds patches. What is in the files is checked when they are decoded."""
        if not self.patches:
            raise DataError(
                f"the {self.split} split is empty", where=self.root, hint="Change the fractions, or unpack all images"
            )

    def _notes(self, scenes: Sequence[Scene]) -> tuple[str, ...]:
        padded = sum(min(scene.height, scene.width) < self.size for scene in scenes)
        several = sum(max(scene.height, scene.width) > self.size for scene in scenes)
        return (
            f"patches: {len(self.patches)} of {self.size} x {self.size} pixels from {len(scenes)} images; {padded} are "
            f"padded, {several} give more than one patch; every pixel counts once",
        )


def _split(
    scenes: Sequence[Scene], split: str, fractions: tuple[float, ...], seed: int
) -> tuple[list[Scene], tuple[str, ...]]:
    chosen: list[Scene] = []
    sizes = []
    for kind in KINDS:
        members = [scene for scene in scenes if scene.name.startswith(f"{kind}/")]
        partition = random_split([Patch(scene.name, scene.name) for scene in members], fractions=fractions, seed=seed)
        chosen += [members[index] for index in partition.of(split)]
        if members:
            sizes.append(f"{kind} " + "/".join(str(len(partition.of(name))) for name in SPLITS))
    ratio = ":".join(f"{value:g}" for value in fractions)
    return sorted(chosen, key=lambda scene: scene.name), (
        f"split: images shuffled at random (seed {seed}) {ratio}, {', '.join(sizes)}",
        "leak: places on the ground are not published, so neighbours may be in different splits",
    )
