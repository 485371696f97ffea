"""Decoded patches of a folder, read once by a thread pool, checked for consistency and shared by the splits."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from zoo import machine
from zoo.datasets.base import IGNORE
from zoo.datasets.cache import PatchCache, digest_files, open_cache
from zoo.datasets.folder.decoding import (
    NAN,
    MaskEncoding,
    Place,
    channels_first,
    check_same_place,
    find_encoding,
    flatten_mask,
    hide_missing_codes,
    read_file,
)
from zoo.datasets.folder.grouping import MAX_COORDINATE
from zoo.datasets.folder.pairing import Pair
from zoo.errors import ConfigError, DataError
from zoo.jobs import ProgressCallback
from zoo.rasters.palettes import check_background
from zoo.rasters.reading import ignore_missing_georeference


@dataclass(frozen=True)
class ReadingOptions:
    """Options for reading the files of a folder; data sets with equal options share their patches.

    Attributes:
        image_key: name of the image array in HDF5 files; None to detect it.
        mask_key: name of the mask array in HDF5 files; None to detect it.
        layout: "auto", "CHW" or "HWC", for NPY and HDF5.
        nodata: image value of missing pixels; None for the value in the files.
        nodata_rule: "any" ignores a pixel if at least one band is missing; "all" if every band is.
        ignore_value: mask value of ignored pixels; None to detect it.
        mask_values: pairs of raw mask value and class; None to detect them.
        class_names: names of the classes; None for as many as there are.
        landslide_class: names or numbers of the classes that are landslides; None to detect them.
        band_names: names of the bands for messages; empty if the user names none.
    """

    image_key: str | None = None
    mask_key: str | None = None
    layout: str = "auto"
    nodata: float | None = None
    nodata_rule: str = "any"
    ignore_value: float | None = None
    mask_values: tuple[tuple[int, int], ...] | None = None
    class_names: tuple[str, ...] | None = None
    landslide_class: tuple[str, ...] | None = None
    band_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _DecodedPair:
    """Decoded image with its mask; ``values`` counts the pixels of each raw mask value."""

    image: NDArray[Any]
    missing: NDArray[np.bool_] | None
    mask: NDArray[np.int16]
    mask_missing: NDArray[np.bool_] | None
    values: dict[int, int]
    names: tuple[str, ...]
    units: tuple[str, ...]
    nodata: float | None
    mask_nodata: int | None
    pixel_size: float | None
    place: Place | None
    codes: Mapping[str, frozenset[float]]
    nan_is_missing: bool
    turned: tuple[bool, bool]


class PatchStore:
    """All patches of a folder, for all splits.

    Images keep the dtype of their files, at most float32. If they need more than ``memory_limit`` bytes, they are
    checked once and then mapped from the cache of decoded patches, or read again each time if the cache cannot be
    written. Masks are kept in memory, one byte per pixel.

    Args:
        pairs: image and mask files.
        options: how to read them.
        progress: called with the number of pairs done and the total.
        memory_limit: maximum number of bytes for images; None for half of the machine's memory.

    Raises:
        DataError: if a file is damaged or differs from the others; the message names it.

    Attributes:
        shape: bands, height and width of every image.
        dtype: dtype in which the images are kept.
        names: names of the bands in the files.
        units: units of the bands in the files.
        nodata: image value of missing pixels.
        pixel_size: side of a pixel in metres, if all files agree.
        corners: row and column, in pixels, of the upper left corner of every image; None if not all are georeferenced
            in one coordinate system with one pixel size.
        encoding: meaning of the mask values.
        warnings: possible problems of the files, in words.
        missing_pixels: number of pixels that are ignored because they are missing in the image.
        class_pixels: int64 (N, K), number of pixels of each class in each mask.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        options: ReadingOptions,
        progress: ProgressCallback | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self.pairs = tuple(pairs)
        self.options = options
        self._digests: dict[int, bytes] = {}
        self._hidden: dict[int, NDArray[np.uint8]] = {}
        self._mapped: PatchCache | None = None
        self._as_float = False
        with ignore_missing_georeference():
            try:
                self._load(progress, memory_limit)
            except _MixedDtypesError:
                # A missing code turns an integer image into floats, so all images must become floats.
                self._as_float = True
                self._hidden.clear()
                self._load(progress, memory_limit)

    def _load(self, progress: ProgressCallback | None, memory_limit: int | None) -> None:
        first = self._decode(self.pairs[0])
        self.shape = (len(first.image), *first.mask.shape)
        self.dtype = self._stored_dtype(first.image.dtype)
        needed = len(self.pairs) * math.prod(self.shape) * self.dtype.itemsize
        self.in_memory = needed <= (machine.memory_bytes() // 2 if memory_limit is None else memory_limit)
        self._images: NDArray[Any] | None = (
            np.empty((len(self.pairs), *self.shape), self.dtype) if self.in_memory else None
        )
        raw_masks = np.empty((len(self.pairs), *self.shape[1:]), np.int16)
        values: dict[int, tuple[int, Path]] = {}
        shapes: list[tuple[int, int, int]] = []
        dtypes: list[np.dtype[Any]] = []
        tags: dict[float | str, Path] = {}
        mask_tags: set[int] = set()
        sizes: list[float | None] = []
        places: list[Place | None] = []
        codes: dict[str, set[float]] = {}
        turned = [0, 0]
        masked: dict[int, NDArray[np.uint8]] = {}
        self._nan_is_missing = False
        self.names, self.units = first.names, first.units
        for index, one in enumerate(self._decode_all(progress)):
            pair = self.pairs[index]
            shapes.append(one.image.shape)
            dtypes.append(self._stored_dtype(one.image.dtype))
            if dtypes[-1] != self.dtype and (codes or one.codes) and {dtypes[-1].kind, self.dtype.kind} == {"f", "i"}:
                raise _MixedDtypesError
            for band, found in one.codes.items():
                codes.setdefault(band, set()).update(found)
            turned = [total + flag for total, flag in zip(turned, one.turned, strict=True)]
            if one.nan_is_missing:
                self._nan_is_missing = True
            elif one.nodata is not None:
                tags.setdefault("nan" if math.isnan(one.nodata) else one.nodata, pair.image)
            if one.mask_nodata is not None:
                mask_tags.add(one.mask_nodata)
            sizes.append(one.pixel_size)
            places.append(one.place)
            if one.image.shape != self.shape or dtypes[-1] != self.dtype:
                continue
            self._check_bands(one, pair.image)
            for value, count in one.values.items():
                values.setdefault(value, (count, pair.mask))
            raw_masks[index] = one.mask
            if one.mask_missing is not None:
                masked[index] = np.packbits(one.mask_missing)
            if one.missing is not None:
                self._hidden[index] = np.packbits(one.missing)
            if self._images is not None:
                self._images[index] = self._cast(one.image)
        self._check_equal(shapes, dtypes)
        self.nodata = self._find_nodata(tags)
        self.pixel_size = _common_pixel_size(sizes)
        self.corners = _corners(places)
        self.warnings = tuple(self._warnings(codes, turned, sizes))
        self.encoding: MaskEncoding = find_encoding(
            values,
            mask_values=None if self.options.mask_values is None else dict(self.options.mask_values),
            ignore=self.options.ignore_value,
            class_names=self.options.class_names,
            landslide_class=self.options.landslide_class,
            tagged=frozenset(mask_tags),
        )
        self._masks = np.stack([self.encoding.apply(raw) for raw in raw_masks])
        del raw_masks
        for index, bits in masked.items():
            self._masks[index][self._unpacked(bits)] = IGNORE
        self.missing_pixels = self._ignore_missing_pixels()
        if not self.in_memory:
            self._map_images(progress)
        count = len(self.encoding.class_names)
        self.class_pixels = np.stack([np.bincount(mask.ravel(), minlength=256)[:count] for mask in self._masks])

    def _check_bands(self, one: _DecodedPair, image: Path) -> None:
        """Check that the bands of an image have the same names and units as those of the first image."""
        first = self.pairs[0].image.name
        if one.names != self.names:
            raise DataError(
                f"bands are {_join_names(one.names)}, but in {first} they are {_join_names(self.names)}", where=image
            )
        for number, (unit, usual) in enumerate(zip(one.units, self.units, strict=False), start=1):
            if unit and usual and unit != usual:
                raise DataError(
                    f"band {number} is in {unit}, but in {first} it is in {usual}",
                    where=image,
                    hint="Convert the images to one unit",
                )

    @property
    def memory_bytes(self) -> int:
        """Return the memory in bytes of the decoded images and masks."""
        return self._masks.nbytes + (0 if self._images is None else self._images.nbytes)

    def image(self, index: int) -> NDArray[np.float32]:
        """Return one image, float32 (C, H, W), NaN where missing; the caller may modify it."""
        values = self._raw_image(index)
        image = values.astype(np.float32)
        missing = self._missing(index, values)
        if missing is not None:
            image[missing] = np.nan
        return image

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Return one mask, uint8 (H, W), with classes and IGNORE; the caller may modify it."""
        copy: NDArray[np.uint8] = self._masks[index].copy()
        return copy

    def digest(self, index: int) -> bytes:
        """Return the sha256 of one image and mask after decoding, independent of the compression of their files."""
        if index not in self._digests:
            hasher = hashlib.sha256(repr((self.shape, str(self.dtype), self.nodata)).encode())
            hasher.update(np.ascontiguousarray(self._raw_image(index)).data)
            hasher.update(self._masks[index].data)
            self._digests[index] = hasher.digest()
        return self._digests[index]

    def _map_images(self, progress: ProgressCallback | None) -> None:
        digests = digest_files(pair.image for pair in self.pairs)
        reading = (self.options.image_key, self.options.layout, self.shape, str(self.dtype))
        content = repr(([digests[pair.image] for pair in self.pairs], reading))
        self._mapped = open_cache(
            hashlib.sha256(content.encode()).hexdigest()[:32],
            len(self.pairs),
            lambda index: (self._cast(self._decode(self.pairs[index]).image), self._masks[index]),
            slot=hashlib.sha256(repr(self.pairs).encode()).hexdigest(),
            progress=progress,
        )

    def _raw_image(self, index: int) -> NDArray[Any]:
        if self._images is not None:
            image: NDArray[Any] = self._images[index]
            return image
        if self._mapped is not None:
            return np.asarray(self._mapped.images[index])
        with ignore_missing_georeference():
            one = self._decode(self.pairs[index])
        if one.image.shape != self.shape:
            raise DataError("has changed since it was checked", where=self.pairs[index].image)
        return self._cast(one.image)

    def _cast(self, image: NDArray[Any]) -> NDArray[Any]:
        # A number outside the range of float32 becomes infinite, and is then refused with its location.
        with np.errstate(over="ignore"):
            return image.astype(self.dtype, copy=False)

    def _missing(self, index: int, values: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Return where values are missing, bool (C, H, W); None if nothing can be missing."""
        missing: NDArray[np.bool_] | None = None
        if self.nodata is not None:
            missing = np.isnan(values) if math.isnan(self.nodata) else values == self.dtype.type(self.nodata)
            if self.dtype.kind == "f" and not math.isnan(self.nodata):
                missing = missing & np.isfinite(values)
        if self._nan_is_missing and self.dtype.kind == "f":
            missing = np.isnan(values) if missing is None else missing | np.isnan(values)
        if index in self._hidden:
            hidden = self._unpacked(self._hidden[index])
            missing = np.broadcast_to(hidden, self.shape) if missing is None else missing | hidden
        return missing

    def _unpacked(self, bits: NDArray[np.uint8]) -> NDArray[np.bool_]:
        height, width = self.shape[1:]
        return np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)

    def _decode_all(self, progress: ProgressCallback | None) -> Iterator[_DecodedPair]:
        workers = min(8, 2 * (os.cpu_count() or 1))
        with ThreadPoolExecutor(workers) as pool:
            try:
                # Submit in batches, so that only a few decoded patches wait to be checked.
                step = 8 * workers
                for start in range(0, len(self.pairs), step):
                    for done, one in enumerate(pool.map(self._decode, self.pairs[start : start + step]), start + 1):
                        yield one
                        if progress is not None:
                            progress(done, len(self.pairs))
            finally:
                pool.shutdown(cancel_futures=True)

    def _decode(self, pair: Pair) -> _DecodedPair:
        options = self.options
        drawn = read_file(pair.mask, role="mask", key=options.mask_key)
        tag = drawn.nodata
        nan_is_tagged = options.ignore_value is None and tag is not None and math.isnan(tag)
        mask = flatten_mask(drawn, pair.mask, math.nan if nan_is_tagged else options.ignore_value)
        decoded = hide_missing_codes(read_file(pair.image, role="image", key=options.image_key))
        check_same_place(decoded, drawn, (pair.image, pair.mask))
        height, width = mask.shape
        image = channels_first(decoded, (height, width), options.layout, pair.image)
        if min(height, width) < 2:
            raise DataError(
                f"is a patch of {height} x {width} pixels, which is too small for a segmentation",
                where=pair.image,
                hint="Patches of 64 to 512 pixels per side are usual",
            )
        seen = mask if drawn.missing is None else mask[~drawn.missing]
        unique, counts = np.unique(seen, return_counts=True)
        if options.mask_values is None and options.landslide_class is None:
            check_background(drawn.palette, {value for value in unique.tolist() if value != tag}, pair.mask)
        return _DecodedPair(
            image=image,
            missing=decoded.missing,
            mask=mask,
            mask_missing=drawn.missing,
            values=dict(zip(unique.tolist(), counts.tolist(), strict=True)),
            names=decoded.names,
            units=decoded.units,
            nodata=decoded.nodata,
            mask_nodata=None if tag is None else NAN if math.isnan(tag) else int(tag),
            pixel_size=decoded.pixel_size,
            place=decoded.place,
            codes=decoded.codes,
            nan_is_missing=decoded.nan_is_missing,
            turned=(decoded.turned, drawn.turned),
        )

    def _stored_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        if dtype.kind == "b":
            return np.dtype(np.uint8)
        return np.dtype(np.float32) if dtype.kind == "f" or self._as_float else dtype.newbyteorder("=")

    def _warnings(
        self, codes: Mapping[str, set[float]], turned: Sequence[int], sizes: Sequence[float | None]
    ) -> Iterator[str]:
        """Yield possible problems of the files, in words."""
        for band, found in codes.items():
            where = f" in band {band}" if band else ""
            values = ", ".join(f"{code:g}" for code in sorted(found) if code != self.options.nodata)
            if values:
                yield f"{values}{where} counts as missing, although no nodata tag says so"
        for count, role in zip(turned, ("images", "masks"), strict=True):
            if count:
                yield f"{count} {role} are stored with south up or mirrored, and were reoriented to north up"
        known = [size for size in sizes if size is not None]
        if known and max(known) > 1.01 * min(known):
            yield f"pixels have different sizes on the ground, from {min(known):g} to {max(known):g} m"

    def _check_equal(self, shapes: Sequence[tuple[int, int, int]], dtypes: Sequence[np.dtype[Any]]) -> None:
        """Check that all images have the same bands, size and dtype."""
        bands = [shape[0] for shape in shapes]
        self._refuse_differing(bands, lambda count: f"{count} band" + ("s" if count != 1 else ""), "")
        self._refuse_differing(
            [shape[1:] for shape in shapes],
            lambda size: f"{size[0]} x {size[1]} pixels",
            "Cut or pad them to one size; training takes random crops itself",
        )
        self._refuse_differing(dtypes, lambda dtype: f"{dtype} values", "Write them with one dtype and one scale")

    def _refuse_differing(self, values: Sequence[Any], describe: Callable[[Any], str], hint: str) -> None:
        counted = Counter(values)
        if len(counted) == 1:
            return
        usual, number = counted.most_common(1)[0]
        odd = [index for index, value in enumerate(values) if value != usual]
        named = ", ".join(f"{self.pairs[index].name} ({describe(values[index])})" for index in odd[:3])
        raise DataError(
            f"{len(odd)} of {len(values)} images differ from the {number} that have {describe(usual)}: {named}"
            + (", ..." if len(odd) > 3 else ""),
            where=self.pairs[odd[0]].image,
            hint=hint or "All images of a data set must have the same bands",
        )

    def _find_nodata(self, tags: Mapping[float | str, Path]) -> float | None:
        """Return the value of missing pixels: the user's, otherwise that of the files if they agree.

        Args:
            tags: each nodata tag that occurs, with a file that contains it.
        """
        nodata = self.options.nodata
        if nodata is None and len(tags) > 1:
            (one, first), (other, second) = list(tags.items())[:2]
            raise DataError(
                f"its nodata value is {other}, but in {first.name} it is {one}",
                where=second,
                hint="Set it with the option nodata",
            )
        if nodata is None and tags:
            nodata = float(next(iter(tags)))
        if nodata is None or self.dtype.kind == "f":
            return nodata
        info = None if self.dtype.kind == "b" else np.iinfo(self.dtype)
        if info is None or math.isnan(nodata) or nodata != int(nodata) or not info.min <= nodata <= info.max:
            if self.options.nodata is not None:
                raise ConfigError(f"no {self.dtype} value can be {nodata:g}", where="option nodata")
            return None
        return nodata

    def _ignore_missing_pixels(self) -> int:
        """Ignore pixels that are missing in the image; refuse NaN and infinite values that are not missing.

        Returns:
            The number of ignored pixels.
        """
        if self.dtype.kind != "f" and self.nodata is None and not self._hidden:
            return 0
        pixels = 0
        for index, pair in enumerate(self.pairs):
            values = self._raw_image(index)
            missing = self._missing(index, values)
            if self.dtype.kind == "f":
                not_finite = ~np.isfinite(values)
                if missing is not None:
                    not_finite &= ~missing
                if not_finite.any():
                    self._refuse_not_finite(values, not_finite, pair.image)
            if missing is not None and missing.any():
                ignored = missing.any(axis=0) if self.options.nodata_rule == "any" else missing.all(axis=0)
                self._masks[index][ignored] = IGNORE
                pixels += int(ignored.sum())
        return pixels

    def _refuse_not_finite(self, values: NDArray[Any], not_finite: NDArray[np.bool_], path: Path) -> None:
        band, row, col = (int(place) for place in np.argwhere(not_finite)[0])
        value = values[band, row, col]
        names = self.options.band_names or self.names
        called = f" ({names[band]})" if len(names) == len(values) else ""
        raise DataError(
            f"{'NaN' if np.isnan(value) else value} in band {band + 1}{called} at row {row}, column {col}; "
            f"{int(not_finite.sum())} such values in this image",
            where=path,
            hint="If NaN marks missing pixels, pass nodata=nan; otherwise repair the file"
            if np.isnan(value)
            else "Repair the file, or mark such pixels with a nodata value",
        )


class _MixedDtypesError(Exception):
    """Raised if some images are integers, and others are floats because they contain missing codes."""


_OPEN_STORES: WeakValueDictionary[tuple[object, ...], PatchStore] = WeakValueDictionary()


def open_store(
    pairs: Sequence[Pair],
    options: ReadingOptions,
    progress: ProgressCallback | None = None,
    memory_limit: int | None = None,
) -> PatchStore:
    """Return the patches of these files, decoded only once while a data set uses them and no file changes.

    Args:
        pairs: image and mask files.
        options: how to read them.
        progress: called with the number of pairs done and the total.
        memory_limit: maximum number of bytes for images; None for half of the machine's memory.

    Raises:
        DataError: as :class:`PatchStore`.
    """
    stamps = []
    for pair in pairs:
        for path in (pair.image, pair.mask):
            status = path.stat()
            stamps.append((str(path), status.st_size, status.st_mtime_ns))
    key = (tuple(stamps), repr(options), memory_limit)
    store = _OPEN_STORES.get(key)
    if store is None:
        store = PatchStore(pairs, options, progress, memory_limit)
        _OPEN_STORES[key] = store
    elif progress is not None:
        progress(len(pairs), len(pairs))
    return store


def _common_pixel_size(sizes: Sequence[float | None]) -> float | None:
    """Return the pixel size if all files agree within a hundredth; None if they differ or one is unknown."""
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or not known or max(known) > 1.01 * min(known):
        return None
    return known[0] if max(known) == min(known) else float(f"{np.median(known):.4g}")


def _corners(places: Sequence[Place | None]) -> tuple[tuple[int, int], ...] | None:
    """Return the row and column of each corner, counted from the northernmost and westernmost one."""
    known = [place for place in places if place is not None]
    if len(known) < len(places) or any(place.crs != known[0].crs for place in known[1:]):
        return None
    width, turn, _, skew, height, _ = known[0].transform
    transforms = np.array([place.transform for place in known])
    # All at one place: copies of one georeference, which says nothing.
    if turn or skew or np.ptp(transforms[:, [2, 5]], axis=0).max() == 0:
        return None
    if not np.allclose(transforms[:, [0, 1, 3, 4]], [width, 0, 0, height], rtol=1e-3, atol=0):
        return None
    rows = np.rint((transforms[:, 5].max() - transforms[:, 5]) / abs(height))
    cols = np.rint((transforms[:, 2] - transforms[:, 2].min()) / abs(width))
    if max(rows.max(), cols.max()) >= MAX_COORDINATE:
        return None
    return tuple(zip(rows.astype(int).tolist(), cols.astype(int).tolist(), strict=True))


def _join_names(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "not named"
