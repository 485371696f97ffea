"""What the numbers in a folder's masks mean: found over the whole data set, said in words, and overridable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.base import IGNORE
from zoo.datasets.folder.files import LOSSY, Decoded
from zoo.errors import ConfigError, DataError

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
