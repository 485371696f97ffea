"""The decoded patches of a folder: read once in a thread pool, checked against each other, shared by the splits."""

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

from zoo.datasets.base import IGNORE
from zoo.datasets.cache import PatchCache, digest_files, open_cache
from zoo.datasets.folder.decoding import NAN, Decoded, Encoding, channels_first, find_encoding, flatten_mask, read_file
from zoo.datasets.folder.pairing import Pair
from zoo.errors import ConfigError, DataError
from zoo.rasters.reading import plain_patches

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Reading:
    """How the files of a folder are read; two data sets that agree in it share their patches.

    Attributes:
        image_key: name of the image array in HDF5 files, None to find it.
        mask_key: name of the mask array in HDF5 files, None to find it.
        layout: "auto", "CHW" or "HWC", for NPY and HDF5.
        nodata: image value that means "nothing here"; None for what the files say.
        nodata_rule: "any": a pixel counts nowhere when one band is missing; "all": when every band is.
        ignore_value: mask value that counts nowhere; None to find it.
        mask_values: raw mask value and class, in pairs; None to find them.
        classes: number of named classes; None for as many as there are.
        band_names: for errors; empty when the user names none.
    """

    image_key: str | None = None
    mask_key: str | None = None
    layout: str = "auto"
    nodata: float | None = None
    nodata_rule: str = "any"
    ignore_value: float | None = None
    mask_values: tuple[tuple[int, int], ...] | None = None
    classes: int | None = None
    band_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _One:
    """One pair, read."""

    image: NDArray[Any]
    missing: NDArray[np.bool_] | None
    mask: NDArray[np.int16]
    values: dict[int, int]
    names: tuple[str, ...]
    units: tuple[str, ...]
    nodata: float | None
    mask_nodata: int | None
    pixel_size: float | None


class Store:
    """All patches of a folder, whatever their split.

    Images stay in the dtype of their files, at most float32; where all of them need more than ``memory_limit`` bytes
    they are checked once and then mapped from the cache of decoded patches, or read again when asked for where that
    cannot be written. Masks are kept, one byte a pixel.

    Args:
        pairs: image and mask files.
        reading: how to read them.
        progress: called with the number of pairs done and the number of all.
        memory_limit: bytes that images may take; None for half of the machine's memory.

    Raises:
        DataError: naming the file that is damaged or differs from the others.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        reading: Reading,
        progress: Progress | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self.pairs = tuple(pairs)
        self.reading = reading
        self._digests: dict[int, bytes] = {}
        self._hidden: dict[int, NDArray[np.uint8]] = {}
        self._mapped: PatchCache | None = None
        with plain_patches():
            self._load(progress, memory_limit)

    def _load(self, progress: Progress | None, memory_limit: int | None) -> None:
        first = self._read_raw(self.pairs[0])
        self.shape = (len(first.image), *first.mask.shape)
        self.dtype = _kept_dtype(first.image.dtype)
        needed = len(self.pairs) * math.prod(self.shape) * self.dtype.itemsize
        self.in_memory = needed <= (_half_of_memory() if memory_limit is None else memory_limit)
        self._images: NDArray[Any] | None = (
            np.empty((len(self.pairs), *self.shape), self.dtype) if self.in_memory else None
        )
        raw_masks = np.empty((len(self.pairs), *self.shape[1:]), np.int16)
        values: dict[int, tuple[int, Path]] = {}
        shapes: list[tuple[int, int, int]] = []
        dtypes: list[np.dtype[Any]] = []
        tags: dict[float | str, Path] = {}
        mask_tags: set[int] = set()
        sizes: Counter[float | None] = Counter()
        self.names, self.units = first.names, first.units
        for index, one in enumerate(self._read_all(progress)):
            pair = self.pairs[index]
            shapes.append(one.image.shape)
            dtypes.append(_kept_dtype(one.image.dtype))
            if one.nodata is not None:
                tags.setdefault("nan" if math.isnan(one.nodata) else one.nodata, pair.image)
            if one.mask_nodata is not None:
                mask_tags.add(one.mask_nodata)
            sizes[one.pixel_size] += 1
            if one.image.shape != self.shape or dtypes[-1] != self.dtype:
                continue
            if one.names != self.names:
                raise DataError(
                    f"bands are {_listed(one.names)}, and in {self.pairs[0].image.name} they are {_listed(self.names)}",
                    where=pair.image,
                )
            for value, count in one.values.items():
                before = values.get(value)
                values[value] = (count, pair.mask) if before is None else before
            raw_masks[index] = one.mask
            if one.missing is not None:
                self._hidden[index] = np.packbits(one.missing)
            if self._images is not None:
                self._images[index] = self._cast(one.image)
        self._check_same(shapes, dtypes)
        self.nodata = self._one_nodata(tags)
        self.pixel_size = next(iter(sizes)) if len(sizes) == 1 else None
        self.encoding: Encoding = find_encoding(
            values,
            mask_values=None if self.reading.mask_values is None else dict(self.reading.mask_values),
            ignore=self.reading.ignore_value,
            classes=self.reading.classes,
            tagged=frozenset(mask_tags),
        )
        self._masks = np.stack([self.encoding.apply(raw) for raw in raw_masks])
        del raw_masks
        self.missing_pixels = self._hide_missing_and_check_numbers()
        if not self.in_memory:
            self._map_images(progress)
        self.class_pixels = np.stack(
            [np.bincount(mask.ravel(), minlength=256)[: self.encoding.count] for mask in self._masks]
        )

    @property
    def memory_bytes(self) -> int:
        """Bytes that the decoded images and masks take."""
        return self._masks.nbytes + (0 if self._images is None else self._images.nbytes)

    def _map_images(self, progress: Progress | None) -> None:
        digests = digest_files(pair.image for pair in self.pairs)
        reading = (self.reading.image_key, self.reading.layout, self.shape, str(self.dtype))
        content = repr(([digests[pair.image] for pair in self.pairs], reading))
        self._mapped = open_cache(
            hashlib.sha256(content.encode()).hexdigest()[:32],
            len(self.pairs),
            lambda index: (self._cast(self._read_raw(self.pairs[index]).image), self._masks[index]),
            slot=hashlib.sha256(repr(self.pairs).encode()).hexdigest(),
            progress=progress,
        )

    def image(self, index: int) -> NDArray[np.float32]:
        """Give one image, float32 (C, H, W), NaN where missing; the caller owns it."""
        values = self._raw_image(index)
        image = values.astype(np.float32)
        missing = self._missing(index, values)
        if missing is not None:
            image[missing] = np.nan
        return image

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Give one mask, uint8 (H, W), classes and IGNORE; the caller owns it."""
        copy: NDArray[np.uint8] = self._masks[index].copy()
        return copy

    def digest(self, index: int) -> bytes:
        """Give the sha256 of one image and mask as they are used, whatever the compression of their files."""
        if index not in self._digests:
            hasher = hashlib.sha256(repr((self.shape, str(self.dtype), self.nodata)).encode())
            hasher.update(np.ascontiguousarray(self._raw_image(index)).data)
            hasher.update(self._masks[index].data)
            self._digests[index] = hasher.digest()
        return self._digests[index]

    def _raw_image(self, index: int) -> NDArray[Any]:
        if self._images is not None:
            image: NDArray[Any] = self._images[index]
            return image
        if self._mapped is not None:
            return np.asarray(self._mapped.images[index])
        with plain_patches():
            one = self._read_raw(self.pairs[index])
        if one.image.shape != self.shape:
            raise DataError("has changed since it was checked", where=self.pairs[index].image)
        return self._cast(one.image)

    def _cast(self, image: NDArray[Any]) -> NDArray[Any]:
        # What float32 cannot hold becomes an infinity, which is refused with its place.
        with np.errstate(over="ignore"):
            return image.astype(self.dtype, copy=False)

    def _missing(self, index: int, values: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Where values are missing, bool (C, H, W); None where nothing can be."""
        missing: NDArray[np.bool_] | None = None
        if self.nodata is not None:
            missing = np.isnan(values) if math.isnan(self.nodata) else values == self.dtype.type(self.nodata)
            if self.dtype.kind == "f" and not math.isnan(self.nodata):
                missing = missing & np.isfinite(values)
        if index in self._hidden:
            height, width = self.shape[1:]
            hidden = np.unpackbits(self._hidden[index], count=height * width).reshape(height, width).astype(bool)
            missing = np.broadcast_to(hidden, self.shape) if missing is None else missing | hidden
        return missing

    def _read_all(self, progress: Progress | None) -> Iterator[_One]:
        workers = min(8, 2 * (os.cpu_count() or 1))
        with ThreadPoolExecutor(workers) as pool:
            try:
                # Submitted in slices, so that what waits to be checked never holds more than a few patches.
                step = 8 * workers
                for start in range(0, len(self.pairs), step):
                    for done, one in enumerate(pool.map(self._read_raw, self.pairs[start : start + step]), start + 1):
                        yield one
                        if progress is not None:
                            progress(done, len(self.pairs))
            finally:
                pool.shutdown(cancel_futures=True)

    def _read_raw(self, pair: Pair) -> _One:
        reading = self.reading
        drawn = read_file(pair.mask, role="mask", key=reading.mask_key)
        tag = drawn.nodata
        nan_is_tagged = reading.ignore_value is None and tag is not None and math.isnan(tag)
        mask = flatten_mask(drawn, pair.mask, math.nan if nan_is_tagged else reading.ignore_value)
        decoded: Decoded = read_file(pair.image, role="image", key=reading.image_key)
        height, width = mask.shape
        image = channels_first(decoded, (height, width), reading.layout, pair.image)
        if min(height, width) < 2:
            raise DataError(
                f"is a patch of {height} x {width} pixels, and a segmentation needs a surrounding",
                where=pair.image,
                hint="Patches of 64 to 512 pixels a side are usual",
            )
        unique, counts = np.unique(mask, return_counts=True)
        return _One(
            image=image,
            missing=decoded.missing,
            mask=mask,
            values=dict(zip(unique.tolist(), counts.tolist(), strict=True)),
            names=decoded.names,
            units=decoded.units,
            nodata=decoded.nodata,
            mask_nodata=None if tag is None else NAN if math.isnan(tag) else int(tag),
            pixel_size=decoded.pixel_size,
        )

    def _check_same(self, shapes: Sequence[tuple[int, int, int]], dtypes: Sequence[np.dtype[Any]]) -> None:
        bands = [shape[0] for shape in shapes]
        self._refuse_odd(bands, lambda count: f"{count} band" + ("s" if count != 1 else ""), "")
        self._refuse_odd(
            [shape[1:] for shape in shapes],
            lambda size: f"{size[0]} x {size[1]} pixels",
            "Cut or pad them to one size; training takes random crops itself",
        )
        self._refuse_odd(dtypes, lambda dtype: f"{dtype} values", "Write them with one dtype and one scale")

    def _refuse_odd(self, values: Sequence[Any], words: Callable[[Any], str], hint: str) -> None:
        counted = Counter(values)
        if len(counted) == 1:
            return
        usual, number = counted.most_common(1)[0]
        odd = [index for index, value in enumerate(values) if value != usual]
        named = ", ".join(f"{self.pairs[index].name} ({words(values[index])})" for index in odd[:3])
        raise DataError(
            f"{len(odd)} of {len(values)} images differ from the {number} that have {words(usual)}: {named}"
            + (", ..." if len(odd) > 3 else ""),
            where=self.pairs[odd[0]].image,
            hint=hint or "All images of a data set must have the same bands",
        )

    def _one_nodata(self, tags: Mapping[float | str, Path]) -> float | None:
        nodata = self.reading.nodata
        if nodata is None and len(tags) > 1:
            (one, first), (other, second) = list(tags.items())[:2]
            raise DataError(
                f"its nodata value is {other}, and in {first.name} it is {one}",
                where=second,
                hint="Say which with the option nodata",
            )
        if nodata is None and tags:
            nodata = float(next(iter(tags)))
        if nodata is None or self.dtype.kind == "f":
            return nodata
        info = None if self.dtype.kind == "b" else np.iinfo(self.dtype)
        if info is None or math.isnan(nodata) or nodata != int(nodata) or not info.min <= nodata <= info.max:
            if self.reading.nodata is not None:
                raise ConfigError(f"no {self.dtype} value can be {nodata:g}", where="option nodata")
            return None
        return nodata

    def _hide_missing_and_check_numbers(self) -> int:
        """Mask out the pixels that are missing in the image, and refuse NaN and infinities that are not."""
        if self.dtype.kind != "f" and self.nodata is None and not self._hidden:
            return 0
        pixels = 0
        for index, pair in enumerate(self.pairs):
            values = self._raw_image(index)
            missing = self._missing(index, values)
            if self.dtype.kind == "f":
                strange = ~np.isfinite(values)
                if missing is not None:
                    strange &= ~missing
                if strange.any():
                    self._refuse_strange(values, strange, pair.image)
            if missing is not None and missing.any():
                gone = missing.any(axis=0) if self.reading.nodata_rule == "any" else missing.all(axis=0)
                self._masks[index][gone] = IGNORE
                pixels += int(gone.sum())
        return pixels

    def _refuse_strange(self, values: NDArray[Any], strange: NDArray[np.bool_], path: Path) -> None:
        band, row, col = (int(place) for place in np.argwhere(strange)[0])
        value = values[band, row, col]
        names = self.reading.band_names or self.names
        called = f" ({names[band]})" if len(names) == len(values) else ""
        raise DataError(
            f"{'NaN' if np.isnan(value) else value} in band {band + 1}{called} at row {row}, column {col}; "
            f"{int(strange.sum())} such values in this image",
            where=path,
            hint="If NaN marks missing pixels pass nodata=nan; else repair the file"
            if np.isnan(value)
            else "Repair the file, or mark such pixels with a nodata value",
        )


_STORES: WeakValueDictionary[tuple[object, ...], Store] = WeakValueDictionary()


def open_store(
    pairs: Sequence[Pair], reading: Reading, progress: Progress | None = None, memory_limit: int | None = None
) -> Store:
    """Give the patches of these files, decoded once as long as a data set holds them and no file changes.

    Raises:
        DataError: as :class:`Store`.
    """
    stamps = []
    for pair in pairs:
        for path in (pair.image, pair.mask):
            status = path.stat()
            stamps.append((str(path), status.st_size, status.st_mtime_ns))
    key = (tuple(stamps), repr(reading), memory_limit)
    store = _STORES.get(key)
    if store is None:
        store = Store(pairs, reading, progress, memory_limit)
        _STORES[key] = store
    elif progress is not None:
        progress(len(pairs), len(pairs))
    return store


def _kept_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(np.float32) if dtype.kind == "f" else dtype.newbyteorder("=")


def _half_of_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        # Systems without sysconf: what a small laptop can spare.
        return 4 * 2**30


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "not named"
