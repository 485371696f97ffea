"""Decode images and masks from PNG, JPEG, TIFF, NPY or HDF5, and determine the mask encoding and the band names.

Every error names the file.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.datasets.base import IGNORE
from zoo.datasets.hdf5 import find_array, open_hdf5
from zoo.datasets.npy import read_npy
from zoo.errors import ConfigError, DataError, UnknownNameError, first_line, suggestion
from zoo.physics.bands import Band
from zoo.rasters.palettes import Palette
from zoo.rasters.reading import missing_codes, read_raster

PICTURES = frozenset({".png", ".jpg", ".jpeg"})
LOSSY = frozenset({".jpg", ".jpeg"})
TIFFS = frozenset({".tif", ".tiff"})
HDF5 = frozenset({".h5", ".hdf5", ".he5"})
SUFFIXES = PICTURES | TIFFS | HDF5 | {".npy"}

IMAGE_KEYS = ("img", "image", "images", "data")
MASK_KEYS = ("mask", "masks", "label", "labels", "annotation")
MAX_CLASSES = IGNORE

NAN = -32768
"""Represents NaN in an integer mask."""

EVERY_CLASS = "all"
"""Value of the option landslide_class that declares every class above 0 a landslide."""

Role = Literal["image", "mask"]

_ATTRIBUTES = (("_FillValue", "missing_value"), ("scale_factor",), ("add_offset",))
"""Names of HDF5 and NetCDF attributes for the missing value, and for scale factor and offset."""

_OTHER_ROLE_KEYS = {"image": MASK_KEYS, "mask": IMAGE_KEYS}
# Target mode of an image, without and with transparency: alpha becomes a channel, a palette becomes colours.
_COLOUR_MODES = {"P": ("RGB", "RGBA"), "PA": ("RGBA", "RGBA"), "L": ("L", "LA"), "RGB": ("RGB", "RGBA")}
_LANDSLIDE_WORDS = re.compile(
    r"\b(land ?slides?|land ?slips?|(mud|rock|earth|debris) ?(slides?|slips?|falls?|flows?|slumps?|avalanches?)"
    r"|slides?|slumps?|scars?|slope failures?)\b"
)
_NEGATIVE_WORDS = re.compile(r"^(no|non|not|without|un)\b")
_MASK_HINT = "State what the values mean with mask_values (raw value of class 0, 1, ...) and ignore_value"


@dataclass(frozen=True)
class Decoded:
    """Decoded content of one file.

    Attributes:
        values: (H, W), or three axes in the order given by ``axes``.
        axes: "HW", "CHW", "HWC", or "?" for a three-dimensional array of unknown order.
        names: names of the bands in the file; empty if there are none.
        units: units of the bands in the file, "" for each unknown unit; empty if there are none.
        nodata: nodata value of the file.
        missing: bool (H, W), true where the file marks a pixel as missing.
        pixel_size: side of a pixel in metres, if the file is georeferenced.
        palette: colour of each index, for a mask with a palette.
        place: coordinate system and transform, for a georeferenced file.
        turned: whether the file was stored south-up or mirrored, and was reoriented.
        codes: numbers that represent missing values, by band; they are NaN in ``values``.
        nan_is_missing: whether the reader replaced missing values with NaN.
    """

    values: NDArray[Any]
    axes: str
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    nodata: float | None = None
    missing: NDArray[np.bool_] | None = None
    pixel_size: float | None = None
    palette: Palette = field(default_factory=dict)
    place: Place | None = None
    turned: bool = False
    codes: Mapping[str, frozenset[float]] = field(default_factory=dict)
    nan_is_missing: bool = False


@dataclass(frozen=True)
class Place:
    """Georeference of a file.

    Attributes:
        crs: coordinate system; equal systems compare equal. None if the file has only a transform.
        transform: the six numbers from (column, row) to coordinates.
    """

    crs: Any
    transform: tuple[float, ...]


def read_file(path: Path, *, role: Role, key: str | None = None) -> Decoded:
    """Read one file; its suffix determines the reader.

    Args:
        path: the file.
        role: what the file is; a palette means colours in an image, and class ids in a mask.
        key: name of the array in an HDF5 file; None to detect it.

    Raises:
        DataError: if the file cannot be opened, is truncated, or contains anything other than real numbers.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in PICTURES:
            decoded = _read_picture(path, role)
        elif suffix in TIFFS:
            decoded = _read_tiff(path, role)
        elif suffix in HDF5:
            decoded = _read_hdf5(path, role, key)
        else:
            decoded = _read_npy(path)
    except PermissionError as error:
        raise DataError("may not be read (permission denied)", where=path, hint="Change its permissions") from error
    except FileNotFoundError as error:
        raise DataError("no longer exists", where=path, hint="It was there when the folder was listed") from error
    if decoded.values.dtype.kind not in "buif":
        raise DataError(f"contains {decoded.values.dtype} values, not real numbers", where=path)
    if decoded.values.size == 0:
        raise DataError(f"is empty: shape {format_shape(decoded.values.shape)}", where=path)
    return decoded


def hide_missing_codes(decoded: Decoded) -> Decoded:
    """Return an image with NaN for numbers that represent missing values, such as -9999.

    The raster reader (:mod:`zoo.rasters.reading`) already does this for rasters; this function does it for arrays.
    """
    coded = missing_codes(decoded.values, decoded.values.dtype)
    if decoded.place is not None or decoded.nan_is_missing or decoded.nodata is not None or coded is None:
        return decoded
    found = frozenset(float(code) for code in np.unique(decoded.values[coded])[:3])
    values = decoded.values.astype(np.float64)
    values[coded] = np.nan
    return replace(decoded, values=values.astype(np.float32), codes={"": found}, nan_is_missing=True)


def check_same_place(image: Decoded, mask: Decoded, paths: tuple[Path, Path]) -> None:
    """Check that a georeferenced image and its mask cover the same pixels of the ground.

    Args:
        image: the image.
        mask: its mask.
        paths: the two files, for messages.

    Raises:
        DataError: if coordinate system, pixel size, orientation or corner differ, or if the orientation of either file
            is unknown. A hundredth of a pixel is tolerated. A file with a transform but no coordinate system takes that
            of the other file.
    """
    if image.place is None or mask.place is None:
        if image.turned or mask.turned:
            role, other = ("image", "mask") if image.turned else ("mask", "image")
            raise DataError(
                f"the {role} is stored with south up or mirrored, and its {other} is not georeferenced, so the "
                f"orientation of the {other} is unknown",
                where=paths[0 if image.turned else 1],
                hint=f"Georeference the {other} too, or store both with north up and west on the left",
            )
        return
    image_transform, mask_transform = image.place.transform, mask.place.transform
    side = max(abs(image_transform[0]), abs(image_transform[4]), 1e-12)
    rows, columns = mask.values.shape[-2:] if mask.axes != "HWC" else mask.values.shape[:2]
    difference = ""
    if None not in (image.place.crs, mask.place.crs) and image.place.crs != mask.place.crs:
        difference = f"has a different coordinate system ({mask.place.crs}, the image has {image.place.crs})"
    elif (
        abs(image_transform[0] - mask_transform[0]) * columns > 0.01 * side
        or abs(image_transform[4] - mask_transform[4]) * rows > 0.01 * side
    ):
        shown = [f"{abs(transform[0]):g} x {abs(transform[4]):g}" for transform in (mask_transform, image_transform)]
        difference = f"has pixels of {shown[0]}, the image has {shown[1]}"
    elif (
        abs(image_transform[2] - mask_transform[2]) > 0.01 * side
        or abs(image_transform[5] - mask_transform[5]) > 0.01 * side
    ):
        east, south = (mask_transform[2] - image_transform[2]) / side, (image_transform[5] - mask_transform[5]) / side
        difference = f"lies {abs(east):g} pixels {'east' if east > 0 else 'west'} and {abs(south):g} pixels "
        difference += f"{'south' if south > 0 else 'north'} of its image"
    if difference:
        raise DataError(
            f"the mask {difference}",
            where=paths[1],
            hint=f"Image and mask must cover the same pixels; the image is {paths[0]}",
        )


def channels_first(decoded: Decoded, size: tuple[int, int], layout: str, path: Path) -> NDArray[Any]:
    """Return an image as (C, H, W).

    In a three-dimensional NPY or HDF5 array, the two axes with the height and width of the mask are spatial, and
    the third axis is the bands.

    Args:
        decoded: the image.
        size: height and width of its mask.
        layout: "CHW" or "HWC" if the order is known, "auto" to detect it.
        path: the file, for messages.

    Raises:
        DataError: if neither order or both orders fit the mask.
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
                f"shape {format_shape(values.shape)} fits its mask of {format_shape(size)} with the bands first and "
                "with the bands last",
                where=path,
                hint="Choose one: layout=CHW or layout=HWC",
            )
        axes = "HWC" if last else "CHW"
    if (axes == "HWC" and not last) or (axes == "CHW" and not first):
        ground = values.shape[:2] if axes == "HWC" else values.shape[1:]
        shown = format_shape(values.shape if decoded.axes == "?" else ground)
        raise DataError(
            f"image of {shown} pixels has a mask of {format_shape(size)}",
            where=path,
            hint="Image and mask must cover the same pixels",
        )
    return np.moveaxis(values, -1, 0) if axes == "HWC" else values


def format_shape(shape: Sequence[int]) -> str:
    """Return a shape as text, such as ``3 x 128 x 128``."""
    return " x ".join(str(side) for side in shape)


def name_bands(
    given: Sequence[Band] | None,
    *,
    count: int,
    names: Sequence[str],
    units: Sequence[str],
    nodata: float | None,
    files: Sequence[Path],
    dtype: np.dtype[Any],
) -> tuple[Band, ...]:
    """Return the bands, named by the user, else by the files, else red, green, blue or numbers.

    Args:
        given: bands named by the user; a band without a nodata value gets the value from the files.
        count: number of bands in an image.
        names: names in the files; empty if there are none.
        units: units in the files, "" where unknown.
        nodata: value of missing pixels in the files.
        files: the images. Three bands of PNG or JPEG images, or of 8-bit TIFFs, are red, green and blue.
        dtype: dtype of the images.

    Raises:
        ConfigError: if the user names a different number of bands.
    """
    if given is not None:
        if len(given) != count:
            raise ConfigError(f"{len(given)} bands are named, but the images have {count}", where=files[0].parent)
        return tuple(replace(band, nodata=nodata) if band.nodata is None else band for band in given)
    if names and len(set(names)) == count:
        return tuple(Band(name, unit or "unknown", nodata=nodata) for name, unit in zip(names, units, strict=True))
    suffixes = {path.suffix.lower() for path in files}
    colours = count == 3 and (suffixes <= PICTURES or (suffixes <= PICTURES | TIFFS and dtype == np.uint8))
    chosen = ("red", "green", "blue") if colours else [f"band_{band + 1}" for band in range(count)]
    return tuple(Band(name, "unknown", nodata=nodata) for name in chosen)


# Masks


@dataclass(frozen=True)
class MaskEncoding:
    """Mapping from raw mask values to classes.

    Attributes:
        classes: class index of each raw value.
        ignored: raw values that become IGNORE.
        class_names: names of the classes.
        notes: description of the mapping.
    """

    classes: Mapping[int, int]
    ignored: frozenset[int]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)

    def apply(self, raw: NDArray[np.int16]) -> NDArray[np.uint8]:
        """Return the classes, and IGNORE, for raw values, all of which must be known."""
        table = np.full(2**16, IGNORE, dtype=np.uint8)
        for value, index in self.classes.items():
            table[value] = index
        classes: NDArray[np.uint8] = table[raw.view(np.uint16)]
        return classes


def parse_mask_values(value: str | Sequence[int] | Mapping[int, int] | None) -> tuple[tuple[int, int], ...] | None:
    """Parse the option mask_values into pairs of raw value and class: "0,255", "0:0,1:1,2:1", a sequence or a mapping.

    Raises:
        ConfigError: if the value has none of these forms, or names a raw value twice.
    """
    if value is None:
        return None
    where, hint = "option mask_values", "Write 0,255 or 0:0,1:1,2:1"
    try:
        if isinstance(value, Mapping):
            return tuple(sorted((int(raw), int(index)) for raw, index in value.items()))
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else [str(part) for part in value]
        pairs = []
        for position, part in enumerate(parts):
            raw, colon, index = part.partition(":")
            pairs.append((int(raw), int(index) if colon else position))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{value!r} is not a list of mask values", where=where, hint=hint) from error
    if len({raw for raw, _ in pairs}) < len(pairs):
        raise ConfigError(f"{value!r} names a value twice", where=where)
    return tuple(sorted(pairs))


def flatten_mask(decoded: Decoded, path: Path, ignore: float | None) -> NDArray[np.int16]:
    """Return a mask of any dtype as integers, (H, W).

    Args:
        decoded: the content of the file.
        path: the file, for messages.
        ignore: raw value of ignored pixels; NaN allows NaN.

    Returns:
        int16 (H, W); NaN becomes :data:`NAN` if ``ignore`` is NaN.

    Raises:
        DataError: if the mask has several different channels, fractions, NaN, or values outside -32768..32767.
    """
    values = _single_channel(decoded, path)
    if values.dtype.kind == "f":
        values = _integers(values, path, ignore)
    if values.dtype.kind in "iuf":
        outside = (values < -32768) | (values > 32767)
        if outside.any():
            row, col = np.argwhere(outside)[0]
            raise DataError(
                f"mask value {values[row, col]} at row {row}, column {col} is not a class", where=path, hint=_MASK_HINT
            )
    return values.astype(np.int16)


def find_encoding(
    values: Mapping[int, tuple[int, Path]],
    *,
    mask_values: Mapping[int, int] | None,
    ignore: float | None,
    class_names: Sequence[str] | None,
    landslide_class: Sequence[str] | None = None,
    tagged: frozenset[int] = frozenset(),
) -> MaskEncoding:
    """Determine what the raw values of all masks mean, and which classes are landslides.

    0 and 1 are classes; 0 and 255 are background and landslide; 0 .. K-1 are class ids, and an additional 255, if 1
    also occurs, is IGNORE. Then classes that are not landslides become background: see
    :func:`choose_landslide`.

    Args:
        values: every raw value that occurs, with the number of its pixels and a file that contains it.
        mask_values: class of each raw value; None to detect it.
        ignore: raw value that always becomes IGNORE.
        class_names: names of the classes from the user; None for as many classes as there are, at least two.
        landslide_class: names or numbers of the classes that are landslides; None to detect them.
        tagged: nodata values in the tags of TIFF masks; ignored unless the user specifies what the values mean. 0 is
            background even if a tag calls it nodata, because tools that rasterise polygons write this tag.

    Raises:
        DataError: if the values fit no encoding, or it is unknown which class is the landslide.
        ConfigError: if the options contradict each other.
    """
    count = None if class_names is None else len(class_names)
    ignored = frozenset() if ignore is None else frozenset({NAN if np.isnan(ignore) else int(ignore)})
    if ignore is None and mask_values is None:
        ignored = tagged - {0}
    foreground = set(values) - {0}
    if ignore is None and len(foreground) == 1 and foreground <= ignored:
        (only,) = foreground
        raise DataError(
            f"{only} is nodata according to the TIFF tag and the only mask value besides 0",
            where=values[only][1],
            hint=f"If it marks landslides, pass mask_values=0,{only}; if unknown pixels, pass ignore_value={only}",
        )
    present = sorted(value for value in values if value not in ignored)
    if mask_values is not None:
        mapping = dict(mask_values)
        _check_mapping(mapping, ignored, count)
        source = "as given"
    else:
        mapping, found_ignored, source = _detect_encoding(present, count, bool(ignored))
        ignored |= found_ignored
    unknown = [value for value in present if value not in mapping and value not in ignored]
    if unknown:
        pixels, path = values[unknown[0]]
        raise DataError(
            f"mask value {unknown[0]} ({pixels} pixels here) is not one of the classes "
            f"{', '.join(str(raw) for raw in sorted(mapping))}",
            where=path,
            hint=_MASK_HINT,
        )
    classes = max(2, 1 + max(mapping.values(), default=0), count or 0)
    description = ", ".join(f"{raw} = class {index}" for raw, index in sorted(mapping.items()))
    description += "".join(f", {'NaN' if raw == NAN else raw} = ignored" for raw in sorted(ignored))
    renumbered, names, note = choose_landslide(classes, class_names, landslide_class)
    final = {raw: renumbered[index] for raw, index in mapping.items()}
    return MaskEncoding(final, ignored, names, (f"masks: {description} ({source})", *([note] if note else [])))


def choose_landslide(
    count: int, class_names: Sequence[str] | None, landslide_class: Sequence[str] | None
) -> tuple[tuple[int, ...], tuple[str, ...], str]:
    """Determine which classes are landslides, and renumber the classes so that 0 is everything else.

    All metrics treat class 0 as background and every other class as landslide, so classes that are not
    landslides (water, fields) become background. Several landslide classes (rockfall, debris flow) stay separate.

    Args:
        count: number of classes.
        class_names: names of the classes, starting with class 0; None if there are none.
        landslide_class: names or numbers of the landslide classes, or :data:`EVERY_CLASS` for every class above 0.
            None selects the classes that are named after landslides; of two classes without such names, class 1.

    Returns:
        The new index of each class, the new names, and a note on the decision, "" if nothing changes and
        the names make it clear.

    Raises:
        UnknownNameError: if ``landslide_class`` names a class that does not exist.
        DataError: if there are three classes or more and it is unknown which is the landslide.
    """
    names = tuple(class_names) if class_names is not None else _default_names(count)
    where = "option landslide_class"
    if landslide_class is not None:
        chosen = _chosen_classes(landslide_class, names, where)
        reason = "as given"
    else:
        chosen = [index for index, name in enumerate(names) if class_names is not None and _is_landslide(name)]
        reason = "by its name" if len(chosen) == 1 else "by their names"
        if not chosen and count == 2:
            chosen, reason = [1], "by its number"
        elif not chosen:
            raise DataError(
                f"the masks have {count} classes ({', '.join(names)}), and it is unknown which one is the landslide",
                where=where,
                hint=f"Choose it: landslide_class={names[1]}; landslide_class=all if every class but the first is one",
            )
    others = [name for index, name in enumerate(names) if index not in chosen]
    if not others:
        raise ConfigError("every class is a landslide, so there is no background", where=where)
    renumbered = tuple(chosen.index(index) + 1 if index in chosen else 0 for index in range(count))
    background = others[0] if len(others) == 1 else "background"
    note = f"landslide: {', '.join(f'{names[index]} (class {index})' for index in chosen)}, {reason}"
    if len(others) > 1:
        note += f"; counted as background: {', '.join(others)}"
    elif reason == "by its number" or renumbered == tuple(range(count)):
        note = "" if class_names is None else note
    return renumbered, (background, *(names[index] for index in chosen)), note


def _chosen_classes(landslide_class: Sequence[str], names: Sequence[str], where: str) -> list[int]:
    if tuple(landslide_class) == (EVERY_CLASS,) and EVERY_CLASS not in names:
        return list(range(1, len(names)))
    chosen = []
    for text in landslide_class:
        if text in names:
            chosen.append(names.index(text))
        elif text.isdecimal() and int(text) < len(names):
            chosen.append(int(text))
        else:
            raise UnknownNameError("class", text, [*names, EVERY_CLASS], where=where)
    return sorted(set(chosen))


def _default_names(count: int) -> tuple[str, ...]:
    if count == 2:
        return "background", "landslide"
    return "background", *(f"class_{index}" for index in range(1, count))


def _is_landslide(name: str) -> bool:
    label = re.sub(r"[_\-. ]+", " ", name.casefold()).strip()
    return _LANDSLIDE_WORDS.search(label) is not None and _NEGATIVE_WORDS.search(label) is None


def _detect_encoding(
    present: Sequence[int], classes: int | None, ignore_given: bool
) -> tuple[dict[int, int], frozenset[int], str]:
    """Return the class of each raw value, the ignored raw values, and a description of how they were determined."""
    values = set(present)
    if values <= {0, 255} and 255 in values:
        return {0: 0, 255: 1}, frozenset(), "found: only 0 and 255"
    ignored = frozenset({IGNORE}) if IGNORE in values and not ignore_given else frozenset()
    ids = values - ignored
    highest = max(ids, default=0)
    known = max(2, classes or 0)
    if min(ids, default=0) < 0 or highest >= MAX_CLASSES:
        return {index: index for index in range(known)}, ignored, "class ids"
    if ids <= set(range(known)):
        return {index: index for index in range(known)}, ignored, "found: class ids"
    if classes is None and ids | {0} == set(range(highest + 1)):
        return {index: index for index in range(highest + 1)}, ignored, f"found: class ids 0 to {highest}"
    return {index: index for index in range(known)}, ignored, "class ids"


def _check_mapping(mapping: Mapping[int, int], ignored: frozenset[int], classes: int | None) -> None:
    indices = set(mapping.values())
    if not mapping or min(indices) < 0 or max(indices) >= MAX_CLASSES:
        raise ConfigError(f"classes go from 0 to {MAX_CLASSES - 1}", where="option mask_values")
    if ignored & set(mapping):
        raise ConfigError(
            f"{min(ignored & set(mapping))} is both a class and an ignored value",
            where="options mask_values and ignore_value",
        )
    if classes is not None and max(indices) >= classes:
        raise ConfigError(
            f"class {max(indices)} has no name: {classes} names are given", where="options mask_values, class_names"
        )


def _single_channel(decoded: Decoded, path: Path) -> NDArray[Any]:
    if path.suffix.lower() in LOSSY:
        raise DataError("is a JPEG, whose compression mixes the classes", where=path, hint="Save masks as PNG")
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


def _integers(values: NDArray[Any], path: Path, ignore: float | None) -> NDArray[Any]:
    """Return a floating-point mask with :data:`NAN` for NaN; refuse fractions."""
    unknown = np.isnan(values)
    if unknown.any():
        if ignore is None or not np.isnan(ignore):
            row, col = np.argwhere(unknown)[0]
            raise DataError(
                f"mask is NaN at row {row}, column {col} ({int(unknown.sum())} pixels)",
                where=path,
                hint="Pass ignore_value=nan if NaN marks unknown pixels",
            )
        values = np.where(unknown, NAN, values)
    fractions = values != np.floor(values)
    if fractions.any():
        row, col = np.argwhere(fractions)[0]
        raise DataError(
            f"mask value {values[row, col]:g} at row {row}, column {col} is a fraction "
            f"({int(fractions.sum())} pixels), but classes are integers",
            where=path,
            hint="Apply a threshold to probabilities before using them as masks",
        )
    return values


# Formats


def _read_picture(path: Path, role: Role) -> Decoded:
    if _is_deep_png(path):
        return _read_tiff(path, role)
    palette: Palette = {}
    try:
        # Pillow's readers of other formats may run programs or read more than an image.
        with Image.open(path, formats=["PNG", "JPEG"]) as opened:
            picture: Image.Image = opened
            missing = None
            if role == "image":
                if picture.mode in _COLOUR_MODES:
                    transparent = picture.mode == "PA" or "transparency" in picture.info
                    picture = picture.convert(_COLOUR_MODES[picture.mode][transparent])
                if picture.mode in ("RGBA", "LA"):
                    hidden = np.asarray(picture.getchannel("A")) == 0
                    missing = hidden if hidden.any() else None
                    picture = picture.convert(picture.mode[:-1])
            elif picture.mode in ("RGBA", "LA"):
                hidden = np.asarray(picture.getchannel("A")) == 0
                picture = picture.convert(picture.mode[:-1])
                if np.asarray(picture)[hidden].any():
                    raise DataError(
                        "the mask has transparent pixels whose value is not 0, so their class is unknown",
                        where=path,
                        hint="Save the mask without transparency, as one channel of class values",
                    )
            elif picture.mode == "P":
                picture.apply_transparency()
                flat = picture.getpalette("RGBA") or []
                palette = dict(enumerate(zip(*(flat[part::4] for part in range(4)), strict=True)))
            values = np.asarray(picture)
    # The exception that Pillow raises for a damaged file depends on where the damage is.
    except PermissionError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error) as error:
        raise DataError(
            "is truncated or not a picture", where=path, hint=f"Copy it again ({first_line(error)})"
        ) from error
    except Image.DecompressionBombError as error:
        raise DataError("is far too large for a patch", where=path) from error
    return Decoded(values, "HW" if values.ndim == 2 else "HWC", missing=missing, palette=palette)


def _is_deep_png(path: Path) -> bool:
    """Return whether a file is a 16-bit PNG: Pillow reduces colours to 8 bits and drops the nodata value."""
    if path.suffix.lower() != ".png":
        return False
    with path.open("rb") as stream:
        header = stream.read(26)
    return len(header) == 26 and header[24] == 16


def _read_tiff(path: Path, role: Role) -> Decoded:
    # GDAL reports an unreadable file as "not recognised"; opening it first gives the real reason.
    with path.open("rb"):
        pass
    raster = read_raster(path, classes=role == "mask")
    return Decoded(
        raster.image,
        "CHW",
        names=raster.names if all(raster.names) else (),
        units=raster.units,
        nodata=raster.nodata,
        missing=raster.missing,
        pixel_size=raster.pixel_size,
        place=None if raster.transform is None else Place(raster.crs, tuple(raster.transform[:6])),
        palette=raster.palette,
        turned=raster.turned,
        codes=raster.codes,
        nan_is_missing=raster.nodata is not None and math.isnan(raster.nodata),
    )


def _read_npy(path: Path) -> Decoded:
    with path.open("rb"):
        pass
    values = read_npy(path)
    if values.ndim not in (2, 3):
        raise DataError(
            f"has shape {format_shape(values.shape)}, but a patch has two or three axes",
            where=path,
            hint="Save one patch per file",
        )
    return Decoded(values, "HW" if values.ndim == 2 else "?")


def _read_hdf5(path: Path, role: Role, key: str | None) -> Decoded:
    with path.open("rb"):
        pass
    with open_hdf5(path) as file:
        array = find_array(file, _choose_key(_array_keys(file), role, key, path))
        values = np.asarray(array[()])
        fill, scale, offset = (_attribute(array, names, path) for names in _ATTRIBUTES)
    axes = "HW" if values.ndim == 2 else "?"
    if (scale is None and offset is None) or values.dtype.kind not in "iuf":
        return Decoded(values, axes, nodata=fill)
    missing = missing_codes(values, values.dtype)
    scaled = values * (1.0 if scale is None else scale) + (offset or 0.0)
    if missing is not None:
        scaled[missing] = np.nan
    if fill is not None:
        scaled[values == fill] = np.nan
    return Decoded(scaled.astype(np.float32), axes, nan_is_missing=True)


def _attribute(array: h5py.Dataset, names: Sequence[str], path: Path) -> float | None:
    """Return the first of several attributes that the array has; None if it has none."""
    for name in names:
        if name in array.attrs:
            found = np.asarray(array.attrs[name])
            if found.size != 1 or found.dtype.kind not in "iuf":
                raise DataError(f"the attribute {name} of {array.name} is not a number", where=path)
            number = float(found.ravel()[0])
            plain = math.isfinite(number) or name not in ("scale_factor", "add_offset")
            if not plain or (name == "scale_factor" and number == 0):
                raise DataError(f"the attribute {name} of {array.name} is {number:g}", where=path)
            return number
    return None


def _array_keys(file: Any) -> list[str]:
    keys: list[str] = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim in (2, 3):
            keys.append(name)

    file.visititems(visit)
    return sorted(keys)


def _choose_key(keys: Sequence[str], role: Role, key: str | None, path: Path) -> str:
    if key is not None:
        if key in keys:
            return key
        raise DataError(f"has no {role} array {key!r}", where=path, hint=f"{suggestion(key, keys)} (option {role}_key)")
    if not keys:
        raise DataError("contains no array of two or three axes", where=path)
    if len(keys) == 1:
        return keys[0]
    for wanted in IMAGE_KEYS if role == "image" else MASK_KEYS:
        if wanted in keys:
            return wanted
    others = [found for found in keys if found not in _OTHER_ROLE_KEYS[role]]
    if len(others) == 1:
        return others[0]
    raise DataError(
        f"contains several arrays and none is called {role}: {', '.join(keys)}",
        where=path,
        hint=f"Name one with the option {role}_key",
    )
