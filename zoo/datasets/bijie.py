"""Bijie landslide data set (Ji et al. 2020): RGB images of many sizes, as patches of one size."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from zoo.datasets.arguments import fractions_of, whole_of
from zoo.datasets.base import IGNORE, SPLITS, Patch, Transform
from zoo.datasets.builtin import BIJIE
from zoo.datasets.download import absent
from zoo.datasets.splits import FRACTIONS, random_split
from zoo.datasets.stored import Origin, Progress, StoredPatchDataset
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.files import cache_folder
from zoo.physics.bands import Band
from zoo.registry.specs import check_options

SOURCE = "http://gpcv.whu.edu.cn/data/Bijie_pages.html"
KINDS: tuple[str, ...] = ("landslide", "non-landslide")
_AGAIN = "Unpack the data set again"
_FLAT = {"P": "RGB", "PA": "RGB", "RGBA": "RGB", "LA": "L"}


@dataclass(frozen=True)
class Scene:
    """One image and what belongs to it.

    Attributes:
        name: "landslide/df001".
        image: RGB.
        mask: None for an image without a landslide.
        dem: None when it was not asked for.
        height: of the image in pixels.
        width: likewise.
    """

    name: str
    image: Path
    mask: Path | None
    dem: Path | None
    height: int
    width: int

    @property
    def files(self) -> tuple[Path, ...]:
        """Give image, mask and DEM, those that there are."""
        return tuple(path for path in (self.image, self.mask, self.dem) if path is not None)


def find_scenes(root: Path, *, negatives: bool, include_dem: bool) -> list[Scene]:
    """Find the images, with their sizes.

    Args:
        root: folder that holds landslide and non-landslide, or Bijie-landslide-dataset with these.
        negatives: with the images of non-landslide.
        include_dem: with their DEMs.

    Returns:
        In the order of names.

    Raises:
        DataError: if folders are missing, saying where to get them and where to put them; if an image has no mask or
            DEM, or its size cannot be read.
    """
    folders = (root, root / "Bijie-landslide-dataset", root / "Bijie_landslide_dataset" / "Bijie-landslide-dataset")
    base = next((folder for folder in folders if (folder / "landslide" / "image").is_dir()), root)
    kinds = KINDS if negatives else KINDS[:1]
    wanted = [f"{kind}/image" for kind in kinds] + ["landslide/mask"]
    wanted += [f"{kind}/dem" for kind in kinds] if include_dem else []
    for name in wanted:
        if not (base / name).is_dir():
            raise absent(
                "bijie",
                base,
                expected=name,
                source=f"{SOURCE} (no licence is stated, so zoo does not fetch it)",
                how="unpack it there: that folder then holds landslide/image, landslide/mask and non-landslide/image",
            )
    scenes = []
    for kind in kinds:
        images = sorted(path for path in (base / kind / "image").iterdir() if path.suffix.casefold() == ".png")
        if not images:
            raise DataError("holds no PNG", where=base / kind / "image", hint=_AGAIN)
        for image in images:
            mask = _beside(image, base / kind / "mask") if kind == "landslide" else None
            dem = _beside(image, base / kind / "dem") if include_dem else None
            height, width = _size(image)
            scenes.append(Scene(f"{kind}/{image.stem}", image, mask, dem, height, width))
    return scenes


def read_image(scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read an image, and its DEM when it was asked for.

    Returns:
        float32 (3 or 4, H, W), NaN where alpha is 0; bool (H, W), true there.

    Raises:
        DataError: if a file is damaged, not RGB, or the DEM has another size.
    """
    values, mode = _read(scene.image)
    if mode not in ("RGB", "RGBA"):
        raise DataError(
            f"is a picture of kind {mode}, and as published RGB", where=scene.image, hint=f"{_AGAIN}, or convert it"
        )
    image = np.moveaxis(values[..., :3], -1, 0).astype(np.float32)
    missing = values[..., 3] == 0 if mode == "RGBA" else np.zeros(values.shape[:2], dtype=np.bool_)
    image[:, missing] = np.nan
    if scene.dem is None:
        return image, missing
    grey = _plane(scene.dem, scene)
    return np.concatenate([image, grey[None].astype(np.float32)]), missing


def read_mask(scene: Scene) -> NDArray[np.uint8]:
    """Read a mask; it is 0 everywhere for an image without a landslide.

    Returns:
        uint8 (H, W) of 0 and 1.

    Raises:
        DataError: if the file is damaged, has another size or other values than 0 and 255, or 0 and 1.
    """
    if scene.mask is None:
        return np.zeros((scene.height, scene.width), dtype=np.uint8)
    plane = _plane(scene.mask, scene)
    values = set(np.unique(plane).tolist())
    if not (values <= {0, 255} or values <= {0, 1}):
        odd = sorted(values - {0, 255})
        raise DataError(
            f"the mask holds {odd[0]}, and not only 0 and 255, or 0 and 1",
            where=scene.mask,
            hint=f"{_AGAIN}; a mask that was resized or saved as JPEG holds values in between",
        )
    return np.asarray(plane > 0).astype(np.uint8)


def _beside(image: Path, folder: Path) -> Path:
    path = folder / image.name
    if not path.is_file():
        raise DataError(f"there is no {folder.name} of this image", where=image, hint=f"{_AGAIN}; it is {path}")
    return path


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise DataError("cannot be read as a PNG", where=path, hint=_AGAIN) from error


def _read(path: Path, flat: Mapping[str, str] = MappingProxyType({})) -> tuple[NDArray[Any], str]:
    try:
        with Image.open(path) as picture:
            picture.load()
            mode = picture.mode
            return np.asarray(picture.convert(flat[mode]) if mode in flat else picture), mode
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise DataError("cannot be read as a PNG: it is truncated", where=path, hint=_AGAIN) from error


def _plane(path: Path, scene: Scene) -> NDArray[Any]:
    values, _ = _read(path, _FLAT)
    values = values.astype(np.uint8) if values.dtype == np.bool_ else values
    if values.ndim == 3:
        # Grey pictures are sometimes saved with three equal bands.
        if any(not np.array_equal(values[..., 0], values[..., band]) for band in (1, 2)):
            raise DataError("is a coloured picture, and as published a grey one", where=path, hint=_AGAIN)
        values = values[..., 0]
    if values.shape != (scene.height, scene.width):
        raise DataError(
            f"is {values.shape[0]} x {values.shape[1]} pixels, and its image {scene.height} x {scene.width}",
            where=path,
            hint=f"{_AGAIN}; zoo does not resample one to the other",
        )
    return values


@dataclass(frozen=True)
class Span:
    """One patch along one axis of an image.

    Attributes:
        start: first pixel of the image that the patch shows; negative where the patch begins in the padding.
        first: first pixel of the image that counts in this patch.
        stop: pixel after the last that counts.
    """

    start: int
    first: int
    stop: int


def spans(length: int, size: int) -> tuple[Span, ...]:
    """Cut one axis.

    An axis that is not longer than a patch gives one, with the image in its middle. A longer one gives as few patches
    as cover it, evenly spaced and all inside the image; where two overlap, each counts up to the middle of the overlap,
    and shows the rest as surroundings.

    Args:
        length: of the axis in pixels, at least 1.
        size: of a patch in pixels, at least 1.

    Returns:
        The patches in order; their parts that count are disjoint and cover the axis.
    """
    if length <= size:
        return (Span(-((size - length) // 2), 0, length),)
    count = math.ceil(length / size)
    starts = [index * (length - size) // (count - 1) for index in range(count)]
    borders = [0, *((left + size + right) // 2 for left, right in pairwise(starts)), length]
    return tuple(Span(start, borders[index], borders[index + 1]) for index, start in enumerate(starts))


def cut(values: NDArray[Any], row: Span, col: Span, size: int, fill: float, *, counting: bool) -> NDArray[Any]:
    """Cut one patch.

    Args:
        values: (..., H, W).
        row: along H.
        col: along W.
        size: of the patch.
        fill: what the padding holds.
        counting: also fill what the patch shows and does not count.

    Returns:
        (..., size, size), dtype of ``values``.
    """
    patch = np.full((*values.shape[:-2], size, size), fill, dtype=values.dtype)
    height, width = values.shape[-2:]
    top, bottom = (row.first, row.stop) if counting else (max(row.start, 0), min(row.start + size, height))
    left, right = (col.first, col.stop) if counting else (max(col.start, 0), min(col.start + size, width))
    inside = (slice(top - row.start, bottom - row.start), slice(left - col.start, right - col.start))
    patch[(..., *inside)] = values[..., top:bottom, left:right]
    return patch


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
            size: side of a patch in pixels, 16 to 4096; smaller images are padded, larger ones give several patches.
            negatives: include the images without a landslide.
            include_dem: add the DEM, in grey values of unknown unit, as a fourth band.
            fractions: shares of train, val and test, by image.
            seed: seed of the split.
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
