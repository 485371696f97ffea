"""Bijie landslide data set (Ji et al. 2020): RGB images of many sizes, cut into patches of one size."""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.datasets.arguments import checked_options, fractions_of
from zoo.datasets.base import IGNORE, SPLITS, Patch, Transform
from zoo.datasets.builtin import BIJIE
from zoo.datasets.download import missing_dataset_error
from zoo.datasets.splits import FRACTIONS, random_split
from zoo.datasets.stored import PatchSource, StoredPatchDataset, binary_mask
from zoo.errors import ConfigError, DataError
from zoo.jobs import ProgressCallback
from zoo.physics.bands import Band

SOURCE = "http://gpcv.whu.edu.cn/data/Bijie_pages.html"
KINDS: tuple[str, ...] = ("landslide", "non-landslide")
MAX_PIXELS = 64 * 2**20
"""Maximum size of an image in pixels [O]; the published ones have less than one million."""
_DECODING = 1
_SIZES = (16, 4096)
_UNPACK_HINT = "Unpack the data set again"
_GREY = {"P": "RGB", "PA": "RGB", "RGBA": "RGB", "LA": "L"}
"""Modes of grey images that are converted when read, so that a palette gives the displayed values."""


class Bijie(StoredPatchDataset):
    """RGB images of Bijie, Guizhou, China, taken by TripleSat from May to August 2018, with pixels of 0.8 m.

    Dataset features:

    * 770 images with a landslide (rock falls, rock slides, a few debris slides) and 2,003 without, of many sizes
    * masks by geologists, checked in the field; a DEM for each image

    Dataset format:

    * ``landslide/{image,mask,dem,polygon_coordinate}`` and ``non-landslide/{image,dem}``, PNG files with equal names
    * image: RGB; mask: 0 background, 255 landslide; dem: grey values, whose unit and scale are not published
    * polygon_coordinate: outlines in pixels of the image. They contain no geographic location and are not read

    All patches have the same size [O]. An image that is smaller is centred in its patch; the padding is NaN in the
    image and ignored in the mask. A larger image is covered by as few patches as possible, all inside the image. Where
    patches overlap, a pixel counts in one of them and is ignored in the other, so every pixel counts exactly once.
    Nothing is rescaled. The patches of one image are a group and stay in one split.

    There is no official split. This one is random by image, separately for images with and without a landslide.
    Leakage cannot be excluded: the locations of the images are not published, and images without a landslide may show
    the ground around one.

    If you use this dataset, cite Ji, S., Yu, D., Shen, C., Li, W. & Xu, Q. (2020), "Landslide detection from an open
    satellite imagery and digital elevation model dataset using attention boosted convolutional neural networks",
    Landslides 17, 1337-1352, https://doi.org/10.1007/s10346-020-01353-2. Licence: none is stated, so zoo does not
    download the data. Get them from http://gpcv.whu.edu.cn/data/Bijie_pages.html.

    Published (abstract of the paper): F1 96.62 for classifying images as with or without a landslide, with 2/3 of the
    images for training. This is not segmentation and cannot be compared with a Dice.

    Args:
        root: folder that contains landslide and non-landslide; None for ``datasets/bijie`` in the cache folder.
        split: "train", "val" or "test".
        transforms: function that is applied to every sample.
        size: side of a patch in pixels, 16 to 4096; smaller images are padded, larger ones give several patches.
        negatives: whether to include the images without a landslide.
        include_dem: whether to add the DEM, in grey values of unknown unit, as a fourth band.
        fractions: shares of train, val and test, by image.
        seed: random seed of the split.
        cache: whether to keep decoded patches in the cache folder; if false, patches are decoded at every read.
        progress: called with the number of patches decoded and the total.

    Raises:
        DataError: if files are missing, damaged or not as published.
        ConfigError: if an option is out of range.
        UnknownNameError: if the split does not exist.

    >>> data = Bijie("Bijie-landslide-dataset", "train", size=256)  # doctest: +SKIP
    """

    name = "bijie"
    citation: ClassVar[str] = BIJIE.citation
    licence = BIJIE.licence
    pixel_size = 0.8

    @checked_options
    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "train",
        transforms: Transform | None = None,
        *,
        size: int = 256,
        negatives: bool = True,
        include_dem: bool = False,
        fractions: str | Sequence[float] = FRACTIONS,
        seed: int = 0,
        cache: bool = True,
        progress: ProgressCallback | None = None,
    ) -> None:
        self._begin(root, split, transforms, progress)
        if not _SIZES[0] <= size <= _SIZES[1]:
            raise ConfigError(
                f"{size} is out of range", where="option size", hint=f"Give {_SIZES[0]} to {_SIZES[1]} pixels"
            )
        self.size = size
        self.bands = tuple(Band(name, "DN", 0.0, 255.0) for name in ("red", "green", "blue"))
        if include_dem:
            self.bands += (Band("DEM", "unknown", description="grey value; its unit and scale are not published"),)
        scenes = find_scenes(self.root, negatives=negatives, include_dem=include_dem)
        chosen, notes = _split(scenes, split, fractions_of(fractions), seed)
        self._tiles: list[tuple[Scene, Span, Span]] = []
        patches = []
        for scene in chosen:
            rows, cols = patch_spans(scene.height, size), patch_spans(scene.width, size)
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
            [PatchSource(scene.files) for scene, _, _ in self._tiles],
            {"decoding": _DECODING, "size": size, "tiles": [patch.name for patch in patches]},
            cache=cache,
        )

    def decode(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Decode one patch; see :meth:`zoo.datasets.stored.StoredPatchDataset.decode`."""
        scene, row, col = self._tiles[index]
        image, missing = _read_image(scene)
        mask = _read_mask(scene)
        mask[missing] = IGNORE
        return (
            cut(image, row, col, self.size, np.nan, counting=False),
            cut(mask, row, col, self.size, IGNORE, counting=True),
        )

    def _verify(self) -> None:
        """Check that the split contains patches. The content of the files is checked when they are decoded."""
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


@dataclass(frozen=True)
class Scene:
    """Image and the files that belong to it.

    Attributes:
        name: name such as "landslide/df001".
        image: RGB image file.
        mask: mask file; None for an image without a landslide.
        dem: DEM file; None if it is not used.
        height: height of the image in pixels.
        width: width of the image in pixels.
    """

    name: str
    image: Path
    mask: Path | None
    dem: Path | None
    height: int
    width: int

    @property
    def files(self) -> tuple[Path, ...]:
        """Existing files among image, mask and DEM."""
        return tuple(path for path in (self.image, self.mask, self.dem) if path is not None)


def find_scenes(root: Path, *, negatives: bool, include_dem: bool) -> list[Scene]:
    """Find the images and their sizes.

    Args:
        root: folder that contains landslide and non-landslide, or a folder Bijie-landslide-dataset with these.
        negatives: whether to include the images of non-landslide.
        include_dem: whether to include the DEMs.

    Returns:
        The images, sorted by name.

    Raises:
        DataError: if a folder, a mask or a DEM is missing, or the size of an image cannot be read.
    """
    folders = (root, root / "Bijie-landslide-dataset", root / "Bijie_landslide_dataset" / "Bijie-landslide-dataset")
    base = next((folder for folder in folders if (folder / "landslide" / "image").is_dir()), root)
    kinds = KINDS if negatives else KINDS[:1]
    required = [f"{kind}/image" for kind in kinds] + ["landslide/mask"]
    required += [f"{kind}/dem" for kind in kinds] if include_dem else []
    for name in required:
        if not (base / name).is_dir():
            raise missing_dataset_error(
                "bijie",
                base,
                expected=name,
                source=f"{SOURCE} (no licence is stated, so zoo does not download it)",
                advice="unpack it there: the folder then holds landslide/image, landslide/mask and non-landslide/image",
            )
    scenes = []
    for kind in kinds:
        images = sorted(path for path in (base / kind / "image").iterdir() if path.suffix.casefold() == ".png")
        if not images:
            raise DataError("holds no PNG", where=base / kind / "image", hint=_UNPACK_HINT)
        for image in images:
            mask = _mask_path(image, base / kind / "mask") if kind == "landslide" else None
            dem = _mask_path(image, base / kind / "dem") if include_dem else None
            with _open_png(image) as picture:
                scenes.append(Scene(f"{kind}/{image.stem}", image, mask, dem, picture.height, picture.width))
    return scenes


@dataclass(frozen=True)
class Span:
    """Position of a patch along one axis of an image.

    Attributes:
        start: first pixel of the image that the patch shows; negative if the patch begins in the padding.
        first: first pixel of the image that counts in this patch.
        stop: end of the pixels that count, exclusive.
    """

    start: int
    first: int
    stop: int


def patch_spans(length: int, size: int) -> tuple[Span, ...]:
    """Divide one axis of an image into patches.

    An axis that is not longer than a patch gives one patch, with the image in its middle. A longer one is covered by as
    few patches as possible, evenly spaced and inside the image. Where two overlap, each counts up to the middle of the
    overlap and shows the rest as context.

    Args:
        length: length of the axis in pixels, at least 1.
        size: side of a patch in pixels, at least 1.

    Returns:
        The patches in order; their counted parts are disjoint and cover the axis.
    """
    if length <= size:
        return (Span(-((size - length) // 2), 0, length),)
    count = math.ceil(length / size)
    starts = [index * (length - size) // (count - 1) for index in range(count)]
    borders = [0, *((left + size + right) // 2 for left, right in pairwise(starts)), length]
    return tuple(Span(start, borders[index], borders[index + 1]) for index, start in enumerate(starts))


def cut(values: NDArray[Any], row: Span, col: Span, size: int, fill: float, *, counting: bool) -> NDArray[Any]:
    """Cut a patch out of an image.

    Args:
        values: (..., H, W).
        row: position of the patch along H.
        col: position of the patch along W.
        size: side of the patch in pixels.
        fill: value of the padding.
        counting: whether to also fill the pixels that do not count in this patch.

    Returns:
        (..., size, size), with the dtype of ``values``.
    """
    patch = np.full((*values.shape[:-2], size, size), fill, dtype=values.dtype)
    height, width = values.shape[-2:]
    top, bottom = (row.first, row.stop) if counting else (max(row.start, 0), min(row.start + size, height))
    left, right = (col.first, col.stop) if counting else (max(col.start, 0), min(col.start + size, width))
    inside = (slice(top - row.start, bottom - row.start), slice(left - col.start, right - col.start))
    patch[(..., *inside)] = values[..., top:bottom, left:right]
    return patch


def _read_image(scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the image, float32 (3 or 4, H, W), NaN where alpha is 0, and a mask of those pixels, bool (H, W)."""
    with _open_png(scene.image) as picture:
        if picture.mode not in ("RGB", "RGBA"):
            raise DataError(
                f"has the mode {picture.mode}, but RGB as published",
                where=scene.image,
                hint=f"{_UNPACK_HINT}, or convert it",
            )
        values = np.asarray(picture)
    if values.shape[:2] != (scene.height, scene.width):
        raise DataError("has changed since it was first opened", where=scene.image, hint="Open the data set again")
    image = np.moveaxis(values[..., :3], -1, 0).astype(np.float32)
    missing = values[..., 3] == 0 if values.shape[-1] == 4 else np.zeros(values.shape[:2], dtype=np.bool_)
    image[:, missing] = np.nan
    if scene.dem is None:
        return image, missing
    return np.concatenate([image, _read_grey(scene.dem, scene)[None].astype(np.float32)]), missing


def _read_mask(scene: Scene) -> NDArray[np.uint8]:
    """Return a mask, uint8 (H, W) of 0 and 1; all zeros for an image without a landslide."""
    if scene.mask is None:
        return np.zeros((scene.height, scene.width), dtype=np.uint8)
    return binary_mask(
        _read_grey(scene.mask, scene),
        scene.mask,
        landslide=(255, 1),
        hint=f"{_UNPACK_HINT}; a mask that was resized or saved as JPEG holds values in between",
    )


def _read_grey(path: Path, scene: Scene) -> NDArray[Any]:
    with _open_png(path) as picture:
        values = np.asarray(picture.convert(_GREY[picture.mode]) if picture.mode in _GREY else picture)
    values = values.astype(np.uint8) if values.dtype == np.bool_ else values
    if values.ndim == 3:
        # Grey images are sometimes saved with three equal bands.
        if any(not np.array_equal(values[..., 0], values[..., band]) for band in (1, 2)):
            raise DataError("is a coloured picture, but grey as published", where=path, hint=_UNPACK_HINT)
        values = values[..., 0]
    if values.shape != (scene.height, scene.width):
        raise DataError(
            f"is {values.shape[0]} x {values.shape[1]} pixels, but its image is {scene.height} x {scene.width}",
            where=path,
            hint=f"{_UNPACK_HINT}; zoo does not resample one to the other",
        )
    return values


def _mask_path(image: Path, folder: Path) -> Path:
    path = folder / image.name
    if not path.is_file():
        raise DataError(f"this image has no {folder.name}", where=image, hint=f"{_UNPACK_HINT}; expected {path}")
    return path


@contextmanager
def _open_png(path: Path) -> Iterator[Image.Image]:
    """Open a PNG. Other formats with this suffix are refused, because some of Pillow's readers run programs."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.height * picture.width > MAX_PIXELS:
                raise DataError(
                    f"is {picture.height} x {picture.width} pixels, far more than published",
                    where=path,
                    hint=_UNPACK_HINT,
                )
            yield picture
    # The exception that Pillow raises for a damaged file depends on where the damage is.
    except (OSError, SyntaxError, ValueError, EOFError, OverflowError, zlib.error, struct.error) as error:
        raise DataError("cannot be read as a PNG: it is truncated or damaged", where=path, hint=_UNPACK_HINT) from error
    except Image.DecompressionBombError as error:
        raise DataError("has far more pixels than published", where=path, hint=_UNPACK_HINT) from error


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
        "leak: the locations of the images are not published, so neighbours may be in different splits",
    )
