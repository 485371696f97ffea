"""Read one image or mask from PNG, JPEG, TIFF, NPY or HDF5; find what mask values mean and what bands are called."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.datasets.base import IGNORE
from zoo.errors import ConfigError, DataError, suggestion
from zoo.physics.bands import Band
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


MAXIMUM_CLASSES = IGNORE

NAN = -32768
"""What stands for NaN in a mask of whole numbers."""


@dataclass(frozen=True)
class Encoding:
    """How raw mask values become classes.

    Attributes:
        classes: class index of each raw value.
        ignored: raw values that become IGNORE.
        count: number of classes.
        note: the same in words.
    """

    classes: Mapping[int, int]
    ignored: frozenset[int]
    count: int
    note: str

    def apply(self, raw: NDArray[np.int16]) -> NDArray[np.uint8]:
        """Turn raw values, all of them known, into classes and IGNORE."""
        table = np.full(2**16, IGNORE, dtype=np.uint8)
        for value, index in self.classes.items():
            table[value] = index
        classes: NDArray[np.uint8] = table[raw.view(np.uint16)]
        return classes


def flatten_mask(decoded: Decoded, path: Path, ignore: float | None) -> NDArray[np.int16]:
    """Bring a mask of any dtype to whole numbers, (H, W).

    Args:
        decoded: what the file holds.
        path: for the error.
        ignore: raw value of pixels that count nowhere; NaN allows NaN.

    Returns:
        int16 (H, W); NaN becomes NAN when ``ignore`` is NaN.

    Raises:
        DataError: if the mask has several different channels, fractions, NaN, or values outside -32767..32767.
    """
    values = _single_channel(decoded, path)
    if values.dtype.kind == "f":
        values = _whole_numbers(values, path, ignore)
    if values.dtype.kind in "iuf":
        outside = (values < -32768) | (values > 32767)
        if outside.any():
            row, col = np.argwhere(outside)[0]
            raise DataError(
                f"mask value {values[row, col]} at row {row}, column {col} is no class", where=path, hint=_HINT
            )
    return values.astype(np.int16)


def find_encoding(
    values: Mapping[int, tuple[int, Path]],
    *,
    mask_values: Mapping[int, int] | Sequence[int] | None,
    ignore: float | None,
    classes: int | None,
    tagged: frozenset[int] = frozenset(),
) -> Encoding:
    """Decide what the raw values of all masks mean.

    0 and 1 are classes; 0 and 255 are background and landslide; 0 .. K-1 are class ids, and 255 beside them, when
    1 occurs as well, is IGNORE.

    Args:
        values: every raw value that occurs, with the number of its pixels and a file that has it.
        mask_values: raw value of class 0, 1, ..., or a mapping from raw value to class; None to find it.
        ignore: raw value that is IGNORE whatever the rest means.
        classes: number of classes the user names; None for as many as there are, at least two.
        tagged: nodata values in the tags of TIFF masks; ignored unless the user says what the values mean. 0 is the
            background even if a tag calls it nodata, as tools that draw polygons into rasters write it.

    Raises:
        DataError: if the values fit none of these.
        ConfigError: if the options contradict each other.
    """
    ignored = frozenset() if ignore is None else frozenset({NAN if np.isnan(ignore) else int(ignore)})
    if ignore is None and mask_values is None:
        ignored = tagged - {0}
    if ignore is None and len(set(values) - {0}) == 1 and set(values) - {0} <= ignored:
        only = next(iter(ignored & set(values)))
        raise DataError(
            f"{only} is nodata by the TIFF's tag and the only mask value beside 0",
            where=values[only][1],
            hint=f"If it is the landslide pass mask_values=0,{only}; if nothing is known there ignore_value={only}",
        )
    present = sorted(value for value in values if value not in ignored)
    if mask_values is not None:
        mapping = (
            dict(mask_values)
            if isinstance(mask_values, Mapping)
            else {raw: index for index, raw in enumerate(mask_values)}
        )
        _check_mapping(mapping, ignored, classes)
        source = "as given"
    else:
        mapping, found_ignored, source = _detect(present, classes, bool(ignored))
        ignored |= found_ignored
    strange = [value for value in present if value not in mapping and value not in ignored]
    if strange:
        count, path = values[strange[0]]
        raise DataError(
            f"mask value {strange[0]} ({count} pixels here) is none of the classes "
            f"{', '.join(str(raw) for raw in sorted(mapping))}",
            where=path,
            hint=_HINT,
        )
    count = max(2, 1 + max(mapping.values(), default=0), classes or 0)
    words = ", ".join(f"{raw} = class {index}" for raw, index in sorted(mapping.items()))
    if ignored:
        words += "".join(f", {'NaN' if raw == NAN else raw} = ignored" for raw in sorted(ignored))
    return Encoding(mapping, ignored, count, f"masks: {words} ({source})")


_HINT = "Say what the values mean with mask_values (raw value of class 0, 1, ...) and ignore_value"


def _detect(
    present: Sequence[int], classes: int | None, ignore_given: bool
) -> tuple[dict[int, int], frozenset[int], str]:
    values = set(present)
    if values <= {0, 255} and 255 in values:
        return {0: 0, 255: 1}, frozenset(), "found: 0 and 255 alone"
    ignored = frozenset({IGNORE}) if IGNORE in values and not ignore_given else frozenset()
    ids = values - ignored
    highest = max(ids, default=0)
    known = max(2, classes or 0)
    if min(ids, default=0) < 0 or highest >= MAXIMUM_CLASSES:
        return {index: index for index in range(known)}, ignored, "class ids"
    if ids <= set(range(known)):
        return {index: index for index in range(known)}, ignored, "found: class ids"
    if classes is None and ids | {0} == set(range(highest + 1)):
        return {index: index for index in range(highest + 1)}, ignored, f"found: class ids 0 to {highest}"
    return {index: index for index in range(known)}, ignored, "class ids"


def _check_mapping(mapping: Mapping[int, int], ignored: frozenset[int], classes: int | None) -> None:
    indices = set(mapping.values())
    if not mapping or min(indices) < 0 or max(indices) >= MAXIMUM_CLASSES:
        raise ConfigError(f"classes go from 0 to {MAXIMUM_CLASSES - 1}", where="option mask_values")
    if ignored & set(mapping):
        raise ConfigError(
            f"{min(ignored & set(mapping))} is a class and ignored as well",
            where="options mask_values and ignore_value",
        )
    if classes is not None and max(indices) >= classes:
        raise ConfigError(
            f"class {max(indices)} has no name: {classes} names are given", where="options mask_values, class_names"
        )


def _single_channel(decoded: Decoded, path: Path) -> NDArray[Any]:
    if path.suffix.lower() in LOSSY:
        raise DataError("is a JPEG, which blurs classes into each other", where=path, hint="Save masks as PNG")
    values, axes = decoded.values, decoded.axes
    if axes == "HW":
        return values
    if axes == "?":
        axes = "CHW" if values.shape[0] <= values.shape[-1] else "HWC"
    if axes == "HWC":
        values = np.moveaxis(values, -1, 0)
    if any(not np.array_equal(values[0], channel) for channel in values[1:]):
        raise DataError(
            f"mask has {len(values)} different channels", where=path, hint="A mask has one channel of class values"
        )
    first: NDArray[Any] = values[0]
    return first


def _whole_numbers(values: NDArray[Any], path: Path, ignore: float | None) -> NDArray[Any]:
    unknown = np.isnan(values)
    if unknown.any():
        if ignore is None or not np.isnan(ignore):
            row, col = np.argwhere(unknown)[0]
            raise DataError(
                f"mask is NaN at row {row}, column {col} ({int(unknown.sum())} pixels)",
                where=path,
                hint="Pass ignore_value=nan if NaN means that nothing is known there",
            )
        values = np.where(unknown, NAN, values)
    fractions = values != np.floor(values)
    if fractions.any():
        row, col = np.argwhere(fractions)[0]
        raise DataError(
            f"mask value {values[row, col]:g} at row {row}, column {col} is a fraction "
            f"({int(fractions.sum())} pixels), and classes are whole numbers",
            where=path,
            hint="Probabilities must be cut at a threshold before they are masks",
        )
    return values


def name_bands(
    given: Sequence[Band] | None,
    *,
    count: int,
    names: Sequence[str],
    units: Sequence[str],
    nodata: float | None,
    files: Sequence[Path],
) -> tuple[Band, ...]:
    """The bands as the user names them, else as the files do, else red, green, blue or numbers.

    Args:
        given: by the user; a band without a nodata value gets that of the files.
        count: bands of an image.
        names: that the files give; empty when they give none.
        units: that the files give, "" where unknown.
        nodata: value of missing pixels in the files.
        files: the images.

    Raises:
        ConfigError: if the user names another number of bands.
    """
    if given is not None:
        if len(given) != count:
            raise ConfigError(f"{len(given)} bands are named, and the images have {count}", where=files[0].parent)
        return tuple(replace(band, nodata=nodata) if band.nodata is None else band for band in given)
    if names and len(set(names)) == count:
        return tuple(Band(name, unit or "unknown", nodata=nodata) for name, unit in zip(names, units, strict=True))
    pictures = all(path.suffix.lower() in PICTURES for path in files)
    chosen = ("red", "green", "blue") if pictures and count == 3 else [f"band_{band + 1}" for band in range(count)]
    return tuple(Band(name, "unknown", nodata=nodata) for name in chosen)
