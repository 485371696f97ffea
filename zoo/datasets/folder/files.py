"""Reading one image or mask from PNG, JPEG, TIFF, NPY or HDF5, with an error that names the file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.errors import DataError, suggestion
from zoo.rasters.reading import read_raster

PICTURES = frozenset({".png", ".jpg", ".jpeg"})
LOSSY = frozenset({".jpg", ".jpeg"})
TIFFS = frozenset({".tif", ".tiff"})
HDF5 = frozenset({".h5", ".hdf5", ".he5"})
SUFFIXES = PICTURES | TIFFS | HDF5 | {".npy"}

IMAGE_KEYS = ("img", "image", "images", "data")
MASK_KEYS = ("mask", "masks", "label", "labels", "annotation")
# What Pillow is asked for, without and with transparency, so that alpha is a channel and a palette is colours.
_OPEN_UP = {"P": ("RGB", "RGBA"), "PA": ("RGBA", "RGBA"), "L": ("L", "LA"), "RGB": ("RGB", "RGBA")}
_OTHER_ROLE = {"image": MASK_KEYS, "mask": IMAGE_KEYS}


@dataclass(frozen=True)
class Decoded:
    """The content of one file.

    Attributes:
        values: (H, W), or three axes whose order the format fixes or leaves open.
        axes: "HW", "CHW", "HWC", or "?" when a three-dimensional array does not say.
        names: band names written in the file; empty when there are none.
        units: units written in the file, "" for each unknown one; empty when there are none.
        nodata: the file's own nodata value.
        missing: bool (H, W), true where the file says that there is nothing.
        pixel_size: metres, when the file is georeferenced.
    """

    values: NDArray[Any]
    axes: str
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    nodata: float | None = None
    missing: NDArray[np.bool_] | None = None
    pixel_size: float | None = None


def read_file(path: Path, *, role: str, key: str | None = None) -> Decoded:
    """Read one file by its suffix.

    Args:
        path: the file.
        role: "image" or "mask"; a picture with a palette is colours in one and class ids in the other.
        key: name of the array in an HDF5 file; None to find it.

    Raises:
        DataError: if the file cannot be opened, is truncated, or holds something else than numbers.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in PICTURES:
            decoded = _read_picture(path, role)
        elif suffix in TIFFS:
            decoded = _read_tiff(path)
        elif suffix in HDF5:
            decoded = _read_hdf5(path, role, key)
        else:
            decoded = _read_npy(path)
    except PermissionError as error:
        raise DataError("may not be read (permission denied)", where=path, hint="Change its permissions") from error
    except FileNotFoundError as error:
        raise DataError("is gone", where=path, hint="It was there when the folder was listed") from error
    if decoded.values.dtype.kind not in "buif":
        raise DataError(f"holds {decoded.values.dtype} values, not real numbers", where=path)
    if decoded.values.size == 0:
        raise DataError(f"is empty: shape {_shape(decoded.values.shape)}", where=path)
    return decoded


def _read_picture(path: Path, role: str) -> Decoded:
    if _is_deep_colour_png(path):
        return _read_tiff(path)
    try:
        with Image.open(path) as opened:
            picture: Image.Image = opened
            missing = None
            if role == "image":
                if picture.mode in _OPEN_UP:
                    see_through = picture.mode == "PA" or "transparency" in picture.info
                    picture = picture.convert(_OPEN_UP[picture.mode][see_through])
                if picture.mode in ("RGBA", "LA"):
                    hidden = np.asarray(picture.getchannel("A")) == 0
                    missing = hidden if hidden.any() else None
                    picture = picture.convert(picture.mode[:-1])
            elif picture.mode in ("RGBA", "LA"):
                picture = picture.convert(picture.mode[:-1])
            values = np.asarray(picture)
    # What Pillow raises for a damaged file depends on where the damage is.
    except PermissionError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error) as error:
        raise DataError("is truncated or no picture", where=path, hint=f"Copy it again ({_reason(error)})") from error
    except Image.DecompressionBombError as error:
        raise DataError("is far too large for a patch", where=path) from error
    return Decoded(values, "HW" if values.ndim == 2 else "HWC", missing=missing)


def _is_deep_colour_png(path: Path) -> bool:
    """Whether Pillow would cut this file to 8 bits: a PNG with 16 bits and more than one channel."""
    if path.suffix.lower() != ".png":
        return False
    with path.open("rb") as stream:
        header = stream.read(26)
    return len(header) == 26 and header[24] == 16 and header[25] in (2, 4, 6)


def _read_tiff(path: Path) -> Decoded:
    # GDAL calls an unreadable file "not recognised"; opening it first gives the true reason.
    with path.open("rb"):
        pass
    raster = read_raster(path)
    return Decoded(
        raster.image,
        "CHW",
        names=raster.names if all(raster.names) else (),
        units=raster.units,
        nodata=raster.nodata,
        missing=raster.missing,
        pixel_size=raster.pixel_size,
    )


def _read_npy(path: Path) -> Decoded:
    try:
        values = np.load(path, allow_pickle=False)
    except (PermissionError, FileNotFoundError):
        raise
    except (OSError, ValueError, EOFError) as error:
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            raise DataError(
                "holds Python objects (pickle), which are not loaded because they can run code",
                where=path,
                hint="Save it again as a plain array: np.save(path, array.astype('float32'))",
            ) from error
        raise DataError("is truncated or no NPY file", where=path, hint=f"Copy it again ({_reason(error)})") from error
    if not isinstance(values, np.ndarray):
        values.close()
        raise DataError("is an NPZ archive under the name of an NPY file", where=path)
    if values.ndim not in (2, 3):
        raise DataError(
            f"has shape {_shape(values.shape)}, and a patch has two or three axes",
            where=path,
            hint="Save one patch a file",
        )
    return Decoded(values, "HW" if values.ndim == 2 else "?")


def _read_hdf5(path: Path, role: str, key: str | None) -> Decoded:
    with path.open("rb"):
        pass
    try:
        with h5py.File(path, "r") as file:
            name = _choose_key(_array_keys(file), role, key, path)
            array = file[name]
            if h5py.check_dtype(vlen=array.dtype) is not None or array.dtype.kind not in "buif":
                raise DataError(f"array {name!r} holds {array.dtype} values, not real numbers", where=path)
            values = np.asarray(array[()])
    except (OSError, RuntimeError, KeyError, EOFError) as error:
        raise DataError("is truncated or no HDF5 file", where=path, hint=f"Copy it again ({_reason(error)})") from error
    return Decoded(values, "HW" if values.ndim == 2 else "?")


def _array_keys(file: Any) -> list[str]:
    keys: list[str] = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim in (2, 3):
            keys.append(name)

    file.visititems(visit)
    return sorted(keys)


def _choose_key(keys: Sequence[str], role: str, key: str | None, path: Path) -> str:
    if key is not None:
        if key in keys:
            return key
        raise DataError(f"has no {role} array {key!r}", where=path, hint=f"{suggestion(key, keys)} (option {role}_key)")
    if not keys:
        raise DataError("holds no array of two or three axes", where=path)
    if len(keys) == 1:
        return keys[0]
    for wanted in IMAGE_KEYS if role == "image" else MASK_KEYS:
        if wanted in keys:
            return wanted
    others = [found for found in keys if found not in _OTHER_ROLE[role]]
    if len(others) == 1:
        return others[0]
    raise DataError(
        f"holds several arrays and none is called {role}: {', '.join(keys)}",
        where=path,
        hint=f"Name one with the option {role}_key",
    )


def channels_first(decoded: Decoded, size: tuple[int, int], layout: str, path: Path) -> NDArray[Any]:
    """Bring an image to (C, H, W).

    The order of a three-dimensional NPY or HDF5 array is told by its mask: the two axes that have the mask's
    height and width are the ground, the third is the bands.

    Args:
        decoded: the image.
        size: height and width of its mask.
        layout: "CHW" or "HWC" to say it, "auto" to find it.
        path: for the error.

    Raises:
        DataError: if no order or both orders fit the mask.
    """
    values, axes = decoded.values, decoded.axes
    if axes == "?" and layout != "auto":
        axes = layout
    if axes == "HW":
        values, axes = values[None], "CHW"
    first, last = values.shape[1:] == size, values.shape[:2] == size
    if axes == "?":
        if first and last and values.shape[0] > 1:
            raise DataError(
                f"shape {_shape(values.shape)} fits its mask of {_shape(size)} with the bands first and with the "
                "bands last",
                where=path,
                hint="Say which: layout=CHW or layout=HWC",
            )
        axes = "HWC" if last else "CHW"
    if (axes == "HWC" and not last) or (axes == "CHW" and not first):
        ground = values.shape[:2] if axes == "HWC" else values.shape[1:]
        shown = _shape(values.shape if decoded.axes == "?" else ground)
        raise DataError(
            f"image of {shown} pixels has a mask of {_shape(size)}",
            where=path,
            hint="Image and mask must cover the same pixels",
        )
    return np.moveaxis(values, -1, 0) if axes == "HWC" else values


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(side) for side in shape)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
