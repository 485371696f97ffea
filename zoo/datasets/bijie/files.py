"""Images of the Bijie landslide data set: finding and reading them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from zoo.datasets.download import absent
from zoo.errors import DataError

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
