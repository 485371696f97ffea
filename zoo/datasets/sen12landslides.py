"""Sen12Landslides (Hoehn et al. 2025): Sentinel-1 and Sentinel-2 time series with landslide masks."""

from __future__ import annotations

import hashlib
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import quote

import h5py
import numpy as np
from numpy.typing import NDArray

from zoo.datasets.archives import unpack
from zoo.datasets.arguments import Names, checked_options, names_of
from zoo.datasets.base import IGNORE, SPLITS, DataWarning, Patch, Transform
from zoo.datasets.builtin import SEN12LANDSLIDES
from zoo.datasets.download import RemoteFile, fetch, missing_dataset_error
from zoo.datasets.hdf5 import COPY_HINT, find_array, open_hdf5
from zoo.datasets.splits import Partition, by_group
from zoo.datasets.stored import PatchSource, StoredPatchDataset, binary_mask
from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError
from zoo.files import cache_folder
from zoo.jobs import ProgressCallback
from zoo.physics.bands import Band
from zoo.schema import read_json, write_json

SOURCE = "https://huggingface.co/datasets/paulhoehn/Sen12Landslides"
REPOSITORY = "paulhoehn/Sen12Landslides"
REVISION = "311f426d0e2fa9b532772fbee0641e2f9db6da00"
"""Revision with the folders data_raw and data_harmonized. Its listing gives the sha256 of each archive."""
SPLITS_REVISION = "590a726d804e9db6b967d0f34e41bbfd8400a1c0"
"""Commit of github.com/PaulH97/Sen12Landslides whose ``tasks`` folder belongs to that revision."""
EDITIONS: tuple[str, ...] = ("harmonized", "raw")

SIZE = 128
"""Height and width of a patch in pixels."""
OPTICAL: tuple[str, ...] = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
RADAR: tuple[str, ...] = ("VV", "VH")
SCENE_CLASSES = "SCL"
DEM = "DEM"

NO_DATA = 0
UNKNOWN = 255
"""Not a class of Sentinel-2's scene classification. Some files hold it over a whole image whose classification is
missing. Such pixels may be clear or not: they count as hidden when an image is chosen, and are kept in it."""
HIDDEN_CLASSES: tuple[int, ...] = (NO_DATA, 1, 3, 8, 9, 10, 11)
"""Classes under which the ground is not visible: no data, defective, cloud shadow, medium and high cloud, cirrus, snow.
The authors' list also has 2, dark ground in the shade of hills [S]; that ground is visible, so 2 is excluded [O]."""
BASELINE_4 = "2022-01-25"
"""First day of Sentinel-2's processing baseline 04.00, which adds 1000 to the digital numbers [S]."""

MAX_DATES = 1000
"""Maximum number of dates in a file [O]; the published files have 15."""
_MAX_COORDINATE = 1e9
"""Maximum absolute value of a projected coordinate in metres [O]; on Earth they stay below 3e7."""
_OFFSET = 1000
_DECODING = 1
_INDEX_VERSION = 1
_ARCHIVE = re.compile(r"\w[\w.-]*\.tar\.gz")
_PATCH_NAME = re.compile(r"(?P<region>.+)_(?P<sensor>s2|s1asc|s1dsc)_(?P<id>[^_]+)")
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_SINCE = re.compile(r"(second|minute|hour|day)s? since (\d{4}-\d{1,2}-\d{1,2})(?:[T ](\d{1,2}:\d{2}(?::\d{2})?))?")
_SPLIT_HINT = f"Get it again from {SOURCE}, or split by region with split_by=group"


class Sen12Landslides(StoredPatchDataset):
    """Sentinel-2, or ascending or descending Sentinel-1, before and after landslides in fifteen regions.

    Dataset features:

    * 13,628 patches of Sentinel-2, 13,306 and 12,622 of Sentinel-1 (ascending, descending), 128 x 128 pixels of 10 m,
      each with 15 dates, a DEM and a mask; about half show landslides, 75,000 in all [S: the authors' README]
    * one date, two dates or all 15 as channels; the channels of one date are B02 ... B12 and DEM, or VV, VH and DEM
    * groups are regions; location, event and dates of each patch are known

    Dataset format:

    * NetCDF-4, one patch per file, ``data_harmonized/s2/italy_s2_6982.nc``: REGION_SENSOR_ID
    * variables B02-B08, B8A, B11, B12, SCL (int16), or VV, VH (float32, dB), DEM (int16, m), MASK (uint8, the same at
      each date), on dimensions time, y and x in either order of the last two; attributes event_date, annotated, crs
    * two editions: in ``data_harmonized`` the offset of +1000 that digital numbers have since processing baseline 04.00
      is removed, in ``data_raw`` it is not. Digital numbers are returned unchanged; the description of each band
      states the edition
    * official splits: ``tasks/S12LS-LD/harmonized/s2/splits.json``

    Our decisions [O]: an image from the day of the event counts neither as before nor as after it. A patch with several
    events counts as after the event only after the last one. A patch without an event uses the most frequent event date
    of its region. A patch without a suitable image is left out, and ``split_notes`` state how many. NaN marks pixels
    that are nodata in SCL, values below the range of digital numbers (int16 overflow) and fill values; the mask is
    ignored where all measured bands are missing.

    If you use this dataset, cite Hoehn, Heidler, Behling & Zhu (2025), "A spatio-temporal dataset for satellite-based
    landslide detection", Scientific Data 12, 1772, https://doi.org/10.1038/s41597-025-06167-2. Licence: CC BY 4.0.

    Published F1 of the landslide class, S12LS-LD, Sentinel-2 and DEM, 15 dates, mean of three seeds (README of the
    authors' repository): 61.95 U-ConvLSTM, 61.80 U-TAE, 59.06 ConvGRU, 58.82 U-Net3D. The tables of the paper are macro
    averages over both classes and cannot be compared with them. The official split shuffles patches within each region,
    so all of these figures are for ground that is also in the training split.

    Args:
        root: folder that contains data_harmonized or data_raw; None for ``datasets/sen12landslides`` in the cache
            folder.
        split: "train", "val" or "test".
        transforms: function that is applied to every sample.
        sensor: Sentinel-2, or Sentinel-1 on ascending or descending orbits.
        dates: the first clear image after the event, the last one before it, both, or all images as channels.
        bands: names ("B02,B03,B04"), or "all" for every measured band and the DEM; SCL only by name.
        max_cloud: maximum share of hidden pixels, 0 to 1, of a clear image; if no image is clear, the clearest is used.
        clouds: keep clouds in the image, or set clouds, cloud shadows, snow and defective pixels to missing.
        edition: edition of the files; by default harmonized if both are present.
        task: landslide or anomaly detection, whose official split is used.
        split_by: use the official split or keep regions whole; by default official if its file is present and no region
            is named.
        train_groups: regions of the training split ("italy,nepal").
        val_groups: regions of the validation split; if not given, it is carved from training.
        test_groups: regions of the test split; if not given, the remaining regions.
        seed: random seed of a split by region.
        download: whether to download missing files (Sentinel-2: about 39 GB, twice that unpacked).
        cache: whether to keep decoded patches in the cache folder; if false, patches are decoded at every read.
        progress: called with the number of items done and the total: bytes, then files or patches.

    Raises:
        DataError: if files are missing, damaged or not as published.
        ConfigError: if options are out of range or contradict each other.
        UnknownNameError: if a band, region or split does not exist.

    >>> data = Sen12Landslides("S12LS", "train", dates="pre_post", bands="B04,B08,DEM")  # doctest: +SKIP
    """

    name = "sen12landslides"
    citation: ClassVar[str] = SEN12LANDSLIDES.citation
    licence = SEN12LANDSLIDES.licence
    pixel_size = 10.0

    @checked_options
    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "train",
        transforms: Transform | None = None,
        *,
        sensor: Literal["s2", "s1asc", "s1dsc"] = "s2",
        dates: Literal["post", "pre", "pre_post", "all"] = "post",
        bands: Names = "all",
        max_cloud: float = 0.2,
        clouds: Literal["keep", "mask"] = "keep",
        edition: Literal["harmonized", "raw"] | None = None,
        task: Literal["S12LS-LD", "S12LS-AD"] = "S12LS-LD",
        split_by: Literal["official", "group"] | None = None,
        train_groups: Names = None,
        val_groups: Names = None,
        test_groups: Names = None,
        seed: int = 0,
        download: bool = False,
        cache: bool = True,
        progress: ProgressCallback | None = None,
    ) -> None:
        self._begin(root, split, transforms, progress)
        if not 0 <= max_cloud <= 1:
            raise ConfigError(f"{max_cloud} is not a share", where="option max_cloud", hint="Give a number from 0 to 1")
        self.sensor, self.dates, self.clouds, self.max_cloud = sensor, dates, clouds, float(max_cloud)
        self._names = _band_names(sensor, bands)
        named = {"train": names_of(train_groups), "val": names_of(val_groups), "test": names_of(test_groups)}
        if download:
            _download(self.root, sensor, edition or "harmonized", task, progress)
        self.edition, self._files = find_patches(self.root, sensor, edition)
        regions = {name: region_of(name) for name in self._files}
        self._headers = _read_headers(self._files, progress)
        dated = _reference_dates(regions, self._headers)
        self._reference = {name: dated.get(region) for name, region in regions.items()}
        reasons = {
            name: _unusable_reason(header, dates, self._reference[name]) for name, header in self._headers.items()
        }
        self._left_out = Counter(reason for reason in reasons.values() if reason is not None)
        patches = _locate([name for name, reason in reasons.items() if reason is None], regions, self._headers)
        self.partition = self._partition(patches, task, split_by, named, seed)
        self.patches = tuple(patches[index] for index in self.partition.of(split))
        self._verify()
        self.bands = _channels(self._names, sensor, self.edition, self._suffixes())
        self.split_notes = (*self.partition.notes, *self._notes())
        settings = {
            "decoding": _DECODING,
            "bands": [band.name for band in self.bands],
            "dates": dates,
            "max_cloud": self.max_cloud,
            "clouds": clouds,
            "sensor": sensor,
            "edition": self.edition,
            "references": {patch.name: self._reference[patch.name] for patch in self.patches},
        }
        self._store([PatchSource((self._files[patch.name],)) for patch in self.patches], settings, cache=cache)

    def decode(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Decode one patch; see :meth:`zoo.datasets.stored.StoredPatchDataset.decode`."""
        name = self.patches[index].name
        header = self._headers[name]
        with open_hdf5(self._files[name]) as file:
            mask = _read_mask(file, len(header.times))
            layers = []
            measured = []
            for position in self._choose(file, name):
                time = header.order[position]
                classes = _read_layer(file, SCENE_CLASSES, time) if self.sensor == "s2" else None
                for band in self._names:
                    if band == DEM:
                        continue
                    layer = _read_layer(file, band, time)
                    if band != SCENE_CLASSES:
                        layer[self._missing(layer, classes)] = np.nan
                        measured.append(np.isnan(layer))
                    layers.append(layer)
            if DEM in self._names:
                layers.append(_read_layer(file, DEM, 0))
        if measured:
            mask[np.all(measured, axis=0)] = IGNORE
        return np.stack(layers), mask

    def acquisitions(self, index: int) -> tuple[str, ...]:
        """Return the ISO dates of the images in a patch, in the order of its channels.

        Args:
            index: index into ``patches``.
        """
        name = self.patches[index].name
        with open_hdf5(self._files[name]) as file:
            return tuple(self._headers[name].times[position] for position in self._choose(file, name))

    def events(self, index: int) -> tuple[str, ...]:
        """Return the ISO dates of the events whose landslides a patch shows; empty for a patch without landslides.

        Args:
            index: index into ``patches``.
        """
        return self._headers[self.patches[index].name].events

    def _verify(self) -> None:
        """Check that the split contains patches, and that they have the same number of dates if all dates are stacked.

        The content of the files is checked when they are decoded.
        """
        if not self.patches:
            sizes = ", ".join(f"{name} {len(self.partition.of(name))}" for name in SPLITS)
            raise DataError(
                f"the {self.split} split is empty ({sizes})", where=self.root, hint="Name other regions or other dates"
            )
        if self.dates != "all":
            return
        counts = {patch.name: len(self._headers[patch.name].times) for patch in self.patches}
        (usual, _), *others = Counter(counts.values()).most_common()
        for name, count in counts.items() if others else ():
            if count != usual:
                raise DataError(
                    f"has {count} dates, but most patches have {usual}, so all dates cannot be stacked",
                    where=name,
                    hint="Choose dates=post, pre or pre_post, or remove the patch from the folder",
                )

    def _suffixes(self) -> tuple[str, ...]:
        if self.dates == "pre_post":
            return "_pre", "_post"
        if self.dates == "all":
            return tuple(f"_t{time:02d}" for time in range(len(self._headers[self.patches[0].name].times)))
        return ("",)

    def _choose(self, file: h5py.File, name: str) -> list[int]:
        header = self._headers[name]

        def share(position: int) -> float:
            if self.sensor == "s2":
                classes = _read_layer(file, SCENE_CLASSES, header.order[position])
                return float(np.mean(np.isin(classes, (*HIDDEN_CLASSES, UNKNOWN)) | np.isnan(classes)))
            return float(np.isnan(_read_layer(file, "VV", header.order[position])).mean())

        return _choose_images(header, self.dates, self._reference[name], self.max_cloud, share)

    def _missing(self, layer: NDArray[np.float32], classes: NDArray[np.float32] | None) -> NDArray[np.bool_]:
        if classes is None:
            # The authors' code treats -9999 as invalid in Sentinel-1; no backscatter is near it.
            return np.asarray(np.isnan(layer) | (layer <= -9999))
        # Digital numbers above 32767 overflowed to negative int16; a genuine one without offset is at least -1000.
        lowest = 0 if self.edition == "raw" else -_OFFSET
        hidden = HIDDEN_CLASSES if self.clouds == "mask" else (NO_DATA,)
        return np.asarray(np.isnan(layer) | (layer < lowest) | np.isin(classes, hidden))

    def _partition(
        self,
        patches: Sequence[Patch],
        task: str,
        split_by: str | None,
        named: Mapping[str, tuple[str, ...] | None],
        seed: int,
    ) -> Partition:
        some = any(value is not None for value in named.values())
        if some and split_by == "official":
            raise ConfigError("regions are named, but split_by is official", hint="Give one of the two")
        official = None
        if split_by == "official" or (split_by is None and not some):
            official = _find_official(self.root, task, self.edition, self.sensor)
            if official is None and split_by == "official":
                raise DataError(
                    f"there is no official split of {task} for {self.sensor} (tasks/{task}/{self.sensor}/splits.json)",
                    where=self.root,
                    hint="Get the folder tasks from https://github.com/PaulH97/Sen12Landslides, or pass split_by=group",
                )
        if official is None:
            return by_group(patches, train=named["train"], val=named["val"], test=named["test"], seed=seed)
        parts = _read_official(official, self.sensor, self._files)
        places = {patch.name: index for index, patch in enumerate(patches)}
        chosen = {split: tuple(places[name] for name in names if name in places) for split, names in parts.items()}
        taken = {index for indices in chosen.values() for index in indices}
        return Partition(
            **chosen,
            unused=tuple(index for index in range(len(patches)) if index not in taken),
            notes=(
                f"split: official, {task}, {official.relative_to(official.parents[2])}",
                "leak: the official split shuffles patches within each region, so training and test share events and "
                "neighbouring ground; split_by=group keeps regions apart",
            ),
        )

    def _notes(self) -> Iterator[str]:
        yield f"dates: {self.dates}; images up to {self.max_cloud:.0%} hidden count as clear, clouds: {self.clouds}"
        for reason, count in sorted(self._left_out.items()):
            yield f"dates: {count} of {len(self._headers)} patches left out: {reason}"
        events = Counter(
            (patch.group, event) for patch in self.patches for event in self._headers[patch.name].events
        ).most_common(5)
        if events:
            yield "events: " + ", ".join(f"{group} {event} ({count} patches)" for (group, event), count in events)
        without = sum(not self._headers[patch.name].events for patch in self.patches)
        if without and self.dates != "all":
            yield f"dates: {without} patches without an event use the most frequent event date of their region"
        if self.sensor == "s2" and set(self._names) & set(OPTICAL) and self.edition != "harmonized":
            yield from self._offset_notes()

    def _offset_notes(self) -> Iterator[str]:
        times = [time for patch in self.patches for time in self._headers[patch.name].times]
        late = sum(time >= BASELINE_4 for time in times)
        edition = "raw" if self.edition == "raw" else "unknown"
        yield f"offset: edition {edition}; {late} of {len(times)} images are from {BASELINE_4} or later"
        if 0 < late < len(times):
            warnings.warn(
                DataWarning(
                    f"{self.root}: {late} of {len(times)} images are from {BASELINE_4} or later, when digital numbers "
                    f"got an offset of {_OFFSET}; the {edition} edition may contain it. Use edition=harmonized"
                ),
                stacklevel=5,
            )


# Patch files


@dataclass(frozen=True)
class Header:
    """Dates, events and location of a patch file, without its pixels.

    Attributes:
        times: ISO dates of the images, ascending.
        order: index in the file of each of ``times``.
        events: ISO dates of the events whose landslides are in the mask, ascending, without duplicates.
        annotated: whether landslides are mapped.
        undated: whether a mapped landslide has no date.
        x: minimum x coordinate of the patch, metres in ``crs``; None if the file has none.
        y: maximum y coordinate of the patch; None if the file has none.
        step: side of a pixel in metres; None if the file has no coordinates.
        crs: coordinate reference system such as "EPSG:32632"; "" if the file does not state it.
    """

    times: tuple[str, ...]
    order: tuple[int, ...]
    events: tuple[str, ...]
    annotated: bool
    undated: bool
    x: float | None
    y: float | None
    step: float | None
    crs: str

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.times))):
            raise ValueError("the order does not fit the times")


@dataclass(frozen=True)
class _Indexed:
    """Header with path, size and modification time (ns) of the file from which it was read."""

    stamp: tuple[str, int, int]
    header: Header


@dataclass(frozen=True)
class _Index:
    """Headers of thousands of files, stored in the cache folder."""

    version: int = _INDEX_VERSION
    patches: dict[str, _Indexed] = field(default_factory=dict)


def _read_headers(files: Mapping[str, Path], progress: ProgressCallback | None = None) -> dict[str, Header]:
    """Return the header of each file; open only files that are new or have changed since the last call."""
    folders = sorted({str(path.parent.resolve()) for path in files.values()})
    key = hashlib.sha256("\n".join(folders).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    place = cache_folder("datasets") / "headers" / f"sen12landslides-{key}.json"
    try:
        index = read_json(place, _Index)
    except (FileNotFoundError, ZooError):
        index = _Index()
    known = index.patches if index.version == _INDEX_VERSION else {}
    entries: dict[str, _Indexed] = {}
    unread: dict[str, tuple[str, int, int]] = {}
    for name, path in files.items():
        try:
            state = path.stat()
        except OSError as error:
            raise DataError("the file is missing", where=path, hint=COPY_HINT) from error
        stamp = (str(path), state.st_size, state.st_mtime_ns)
        if name in known and known[name].stamp == stamp:
            entries[name] = known[name]
        else:
            unread[name] = stamp
    for done, (name, stamp) in enumerate(unread.items(), start=1):
        entries[name] = _Indexed(stamp, read_header(files[name]))
        if progress is not None:
            progress(done, len(unread))
    if unread:
        # If the cache folder cannot be written, the only cost is time at the next opening.
        with suppress(ZooError):
            write_json(place, _Index(patches=entries))
    return {name: entries[name].header for name in files}


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read dates, events and location of a patch.

    Raises:
        DataError: if the file is damaged, or has no valid times, events or coordinates.
    """
    with open_hdf5(path) as file:
        times = _times(file)
        order = np.argsort(times, kind="stable")
        dates = [part.strip() for part in _decode_attribute(file.attrs.get("event_date")).split(",") if part.strip()]
        events = sorted({_event(part, path) for part in dates if part != "None"})
        annotated = _decode_attribute(file.attrs.get("annotated")) == "True"
        x, y = _coordinate(file, "x"), _coordinate(file, "y")
        return Header(
            times=tuple(str(times[index].astype("datetime64[D]")) for index in order),
            order=tuple(int(index) for index in order),
            events=tuple(events),
            annotated=annotated,
            undated="None" in dates or (annotated and not events),
            x=None if x is None else float(x.min()),
            y=None if y is None else float(y.max()),
            step=None if x is None else float(abs(x[-1] - x[0]) / (len(x) - 1)),
            crs=_decode_attribute(file.attrs.get("crs")),
        )


def _read_layer(file: h5py.File, name: str, time: int) -> NDArray[np.float32]:
    """Return one variable at one time, float32 (128, 128), with rows in the order of the y coordinate.

    The order of the dimensions is taken from their names: the authors' code writes (time, y, x), their documentation
    prints (time, x, y). Fill values and infinities become NaN; ``scale_factor`` and ``add_offset`` are applied.
    """
    variable = find_array(file, name, what="variable")
    axes = [dim[0].name.rsplit("/", 1)[-1] if len(dim) else dim.label or "unnamed" for dim in variable.dims]
    if sorted(axes) != ["time", "x", "y"]:
        raise DataError(
            f"variable {name!r} has the dimensions ({', '.join(axes)}) instead of time, y and x",
            where=file.filename,
            hint=COPY_HINT,
        )
    sizes = dict(zip(axes, variable.shape, strict=True))
    if (sizes["y"], sizes["x"]) != (SIZE, SIZE) or time >= sizes["time"]:
        raise DataError(
            f"variable {name!r} is {sizes['y']} x {sizes['x']} pixels at {sizes['time']} dates, as published "
            f"{SIZE} x {SIZE} at each date of the file",
            where=file.filename,
            hint=COPY_HINT,
        )
    raw = variable[tuple(time if axis == "time" else slice(None) for axis in axes)]
    layer = np.asarray(raw, dtype=np.float32)
    for key in ("_FillValue", "missing_value"):
        if key in variable.attrs:
            layer[np.isin(raw, np.atleast_1d(variable.attrs[key]))] = np.nan
    layer = layer * _number(variable, "scale_factor", 1.0) + _number(variable, "add_offset", 0.0)
    layer[~np.isfinite(layer)] = np.nan
    return layer if axes.index("y") < axes.index("x") else np.ascontiguousarray(layer.T)


def _read_mask(file: h5py.File, dates: int) -> NDArray[np.uint8]:
    """Return the mask, uint8 (128, 128) of 0 and 1, which must be the same at every date."""
    first = _read_layer(file, "MASK", 0)
    mask = binary_mask(first, Path(file.filename), hint=COPY_HINT)
    for time in range(1, dates):
        if not np.array_equal(first, _read_layer(file, "MASK", time)):
            raise DataError(
                f"the mask at date {time} differs from that at date 0; as published it is the same at all dates",
                where=file.filename,
                hint=COPY_HINT,
            )
    return mask


def _times(file: h5py.File) -> NDArray[np.datetime64]:
    variable = find_array(file, "time", what="variable")
    units = _decode_attribute(variable.attrs.get("units"))
    found = _SINCE.match(units)
    if found is None or variable.ndim != 1 or not 0 < len(variable) <= MAX_DATES:
        raise DataError(
            f"the variable time holds no dates (units {units!r}, shape {variable.shape})",
            where=file.filename,
            hint=COPY_HINT,
        )
    clock = [int(part) for part in (found[3] or "0:0").split(":")]
    try:
        start = datetime(*(int(part) for part in found[2].split("-")), *clock)  # type: ignore[arg-type]
    except ValueError as error:
        raise DataError(f"the variable time has the units {units!r}", where=file.filename, hint=COPY_HINT) from error
    seconds = np.round(np.asarray(variable[:], dtype=np.float64) * _UNITS[found[1]])
    if not (np.abs(seconds) < 1e11).all():
        raise DataError("a date is missing or out of range", where=file.filename, hint=COPY_HINT)
    times = np.asarray(np.datetime64(start, "s") + seconds.astype("timedelta64[s]"))
    if (times < np.datetime64("1900-01-01")).any() or (times > np.datetime64("2200-01-01")).any():
        raise DataError(f"a date is out of range ({times.min()} to {times.max()})", where=file.filename, hint=COPY_HINT)
    return times


def _event(text: str, path: str | os.PathLike[str]) -> str:
    try:
        return date.fromisoformat(text[:10]).isoformat()
    except ValueError as error:
        raise DataError(f"attribute event_date is {text[:80]!r}, not a date", where=path, hint=COPY_HINT) from error


def _coordinate(file: h5py.File, name: str) -> NDArray[np.float64] | None:
    if name not in file:
        return None
    found = find_array(file, name, what="variable")
    if found.ndim != 1 or len(found) < 2:
        return None
    values = np.asarray(found[:], dtype=np.float64)
    step = abs(values[-1] - values[0]) / (len(values) - 1)
    if not (np.abs(values) < _MAX_COORDINATE).all() or not 1e-3 < step < _MAX_COORDINATE:
        raise DataError(
            f"the coordinate {name} is not in metres (from {values[0]:g} to {values[-1]:g})",
            where=file.filename,
            hint=COPY_HINT,
        )
    return values


def _decode_attribute(value: Any) -> str:
    """Return a text attribute, which libraries write as str, bytes, a one-element array, or empty."""
    if value is None or isinstance(value, h5py.Empty):
        return ""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size else ""
    return value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else str(value).strip()


def _number(variable: h5py.Dataset, key: str, default: float) -> np.float32:
    value = float(np.asarray(variable.attrs.get(key, default)).reshape(-1)[0])
    if not math.isfinite(value):
        raise DataError(f"{key} of variable {variable.name!r} is {value}", where=variable.file.filename, hint=COPY_HINT)
    return np.float32(value)


# Bands and dates


def _band_names(sensor: str, bands: Names) -> tuple[str, ...]:
    """Return the requested bands; "all" means every measured band and the DEM."""
    measured = OPTICAL if sensor == "s2" else RADAR
    names = names_of(bands) or ()
    if tuple(name.lower() for name in names) == ("all",):
        return (*measured, DEM)
    known = (*measured, SCENE_CLASSES, DEM) if sensor == "s2" else (*measured, DEM)
    for name in names:
        if name not in known:
            raise UnknownNameError("band", name, known, where="option bands")
    if not names or len(set(names)) < len(names):
        raise ConfigError("name each band once, and at least one", where="option bands", hint="Write B04,B08,DEM")
    return names


def _channels(names: Sequence[str], sensor: str, edition: str | None, suffixes: Sequence[str]) -> tuple[Band, ...]:
    """Return the channels: each band at each date, then the DEM once."""
    channels = [_band(name, f"{name}{suffix}", sensor, edition) for suffix in suffixes for name in names if name != DEM]
    if DEM in names:
        channels.append(Band(DEM, "m", description="elevation above sea level; 0 below it [S]"))
    return tuple(channels)


def _band(name: str, label: str, sensor: str, edition: str | None) -> Band:
    if name == SCENE_CLASSES:
        return Band(label, "class", description="scene classification of level 2A; 255 where there is none")
    if sensor != "s2":
        return Band(label, "dB", description=f"backscatter, {name}")
    offset = {
        "harmonized": "reflectance x 10000, the offset of processing baseline 04.00 removed",
        "raw": "digital number; 1000 + reflectance x 10000 where the processing baseline is 04.00 or later",
    }.get(str(edition), "digital number; the files do not state whether the offset of baseline 04.00 is included")
    return Band(label, "DN", description=offset)


def _reference_dates(regions: Mapping[str, str], headers: Mapping[str, Header]) -> dict[str, str]:
    """Return the most frequent event date of each region; in a tie, the earlier one.

    Patches without a landslide have no event. They use this date, so that images of both types of patches come from the
    same season [O].
    """
    counts: dict[str, Counter[str]] = {}
    for name, header in headers.items():
        counts.setdefault(regions[name], Counter()).update(header.events)
    return {
        region: min(found, key=lambda event: (-found[event], event))
        for region, found in sorted(counts.items())
        if found
    }


def _unusable_reason(header: Header, dates: str, reference: str | None) -> str | None:
    """Return why a patch has no image of the requested type; None if it has one."""
    if dates == "all":
        return None
    if header.undated:
        return "a landslide without a date"
    if not header.events and reference is None:
        return "no event in its region has a date"
    before, after = _sides(header, reference)
    if dates in ("post", "pre_post") and not after:
        return "no image after its event"
    if dates in ("pre", "pre_post") and not before:
        return "no image before its event"
    return None


def _choose_images(
    header: Header, dates: str, reference: str | None, max_cloud: float, share: Callable[[int], float]
) -> list[int]:
    """Choose the images of a patch.

    "post" is the first image after the last event of the patch whose hidden share is at most ``max_cloud``, otherwise
    the clearest image after it. "pre" is the last such image before the first event. An image from the day of the event
    may show the ground before it, so it is neither [O].

    Args:
        header: header of the patch, for which :func:`_unusable_reason` returned None.
        dates: "post", "pre", "pre_post" (both) or "all".
        reference: date to use as the event of a patch without one.
        max_cloud: maximum hidden share, 0..1.
        share: returns the hidden share of an image, given its index in ``header.times``.

    Returns:
        Indices into ``header.times``.
    """
    if dates == "all":
        return list(range(len(header.times)))
    before, after = _sides(header, reference)
    chosen = []
    if dates in ("pre", "pre_post"):
        chosen.append(_clear(reversed(before), max_cloud, share))
    if dates in ("post", "pre_post"):
        chosen.append(_clear(after, max_cloud, share))
    return chosen


def _sides(header: Header, reference: str | None) -> tuple[list[int], list[int]]:
    """Return the indices of the images before and after the events."""
    events = header.events or ((reference,) if reference else ())
    before = [index for index, time in enumerate(header.times) if events and time < events[0]]
    after = [index for index, time in enumerate(header.times) if events and time > events[-1]]
    return before, after


def _clear(candidates: Iterable[int], max_cloud: float, share: Callable[[int], float]) -> int:
    shares: dict[int, float] = {}
    for index in candidates:
        shares[index] = share(index)
        if shares[index] <= max_cloud:
            return index
    return min(shares, key=lambda index: shares[index])


# Folders, official splits and downloads


def find_patches(root: Path, sensor: str, edition: str | None) -> tuple[str | None, dict[str, Path]]:
    """Find the patch files of one sensor.

    Args:
        root: folder of the data set.
        sensor: "s2", "s1asc" or "s1dsc".
        edition: "harmonized" or "raw"; None for the edition that is present, harmonized if both are.

    Returns:
        The edition, or None if the folder names do not state it; and the files by name, sorted.

    Raises:
        DataError: if there are no files, or two have the same name.
    """
    for wanted in EDITIONS if edition is None else (edition,):
        for place in (f"data_{wanted}/{sensor}", f"data/{wanted}/{sensor}", f"{wanted}/{sensor}"):
            if found := _patch_files(root / place, sensor):
                return wanted, found
    if edition is None:
        for place in (f"data/{sensor}", f"data/final/{sensor}", sensor, "."):
            if found := _patch_files(root / place, sensor):
                return None, found
    shown = edition or EDITIONS[0]
    packed = root.is_dir() and next(root.rglob("*.tar.gz"), None) is not None
    instruction = f"unpack its archives there (tar -xzf FILE -C data_{shown}/{sensor})"
    raise missing_dataset_error(
        "sen12landslides",
        root,
        expected=f"data_{shown}/{sensor}/REGION_{sensor}_ID.nc",
        source=f"{SOURCE} (folder data_{shown}/{sensor})",
        advice=instruction if packed else f"{instruction}, or add --data-option download=true",
    )


def region_of(name: str) -> str:
    """Return the region in the name of a patch: "usa_puertorico_s2_698" is in usa_puertorico.

    kyrgyzstan1 and kyrgyzstan2 are two inventories of neighbouring ground, so both are "kyrgyzstan" [O].
    """
    found = _PATCH_NAME.fullmatch(name)
    region = name if found is None else found["region"]
    return region.rstrip("0123456789") or region


def _patch_files(folder: Path, sensor: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    for path in sorted(folder.rglob("*.nc")):
        name = _PATCH_NAME.fullmatch(path.stem)
        if name is None or name["sensor"] != sensor:
            continue
        if path.stem in found:
            raise DataError(
                f"two files are called {path.name}",
                where=path,
                hint=f"The other is {found[path.stem]}; keep one edition, or name it with edition=harmonized or raw",
            )
        found[path.stem] = path
    return dict(sorted(found.items()))


def _find_official(root: Path, task: str, edition: str | None, sensor: str) -> Path | None:
    """Find the file of the official split, in the folder of the data set or next to it; None if there is none."""
    shown = edition or ""
    folders = [
        f"tasks/{task}/{shown}",
        f"tasks/{shown}/{task}",
        f"tasks/{task}-{shown.capitalize()}",
        f"tasks/{task}",
        task,
    ]
    for base in (root, root.parent):
        for folder in folders:
            for name in ("splits.json", "data_paths.json"):
                if (path := base / folder / sensor / name).is_file():
                    return path
    return None


@dataclass(frozen=True)
class _Official:
    """Official split: ``splits.json`` holds objects with the file of each sensor, ``data_paths.json`` holds paths."""

    train: list[str | dict[str, Any]]
    val: list[str | dict[str, Any]]
    test: list[str | dict[str, Any]]


def _read_official(path: Path, sensor: str, patches: Mapping[str, Path]) -> dict[str, list[str]]:
    """Return the sorted names of the patches of each split.

    Raises:
        DataError: if the file is damaged, names a patch twice, or names one that is not in ``patches``.
    """
    official = read_json(path, _Official, what="official split", hint=_SPLIT_HINT, error=DataError)
    splits: dict[str, list[str]] = {}
    homes: dict[str, str] = {}
    for split, items in (("train", official.train), ("val", official.val), ("test", official.test)):
        splits[split] = sorted(_patch_name(item, sensor, path) for item in items)
        for name in splits[split]:
            if name in homes:
                raise DataError(f"{name} is in {homes[name]} and in {split}", where=path, hint=_SPLIT_HINT)
            homes[name] = split
    missing = sorted(set(homes) - set(patches))
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(homes)} patches of the official split are missing, such as {missing[0]}.nc",
            where=path,
            hint="Unpack the other archives too (download=true does), or split by region with split_by=group",
        )
    return splits


def _patch_name(item: str | dict[str, Any], sensor: str, path: Path) -> str:
    text = item.get(sensor) if isinstance(item, dict) else item
    if not isinstance(text, str) or not text.endswith(".nc"):
        raise DataError(
            f"an entry of the official split names no file of {sensor}: {str(item)[:80]}", where=path, hint=_SPLIT_HINT
        )
    return Path(text.replace("\\", "/")).stem


@dataclass(frozen=True)
class _StoredObject:
    """Size in bytes and sha256 of a large file on Hugging Face."""

    size: int
    oid: str


@dataclass(frozen=True)
class _RepositoryEntry:
    """One entry of a folder listing of Hugging Face."""

    path: str
    type: str
    lfs: _StoredObject | None = None


def _download(root: Path, sensor: str, edition: str, task: str, progress: ProgressCallback | None) -> None:
    """Download and unpack the missing archives of one sensor and edition, and the official split.

    Each archive is unpacked to a folder with its own name and then deleted, so that an interrupted download can resume.
    """
    folder = root / f"data_{edition}" / sensor
    for file in _archives(folder, sensor, edition, progress):
        part = folder / file.name.removesuffix(".tar.gz")
        if not part.is_dir():
            archive = fetch(file, folder, progress)
            unpack(archive, part, progress=progress)
            archive.unlink()
    splits = (
        f"https://raw.githubusercontent.com/PaulH97/Sen12Landslides/{SPLITS_REVISION}"
        f"/tasks/{task}/{edition}/{sensor}/splits.json"
    )
    fetch(RemoteFile(splits, "splits.json"), root / "tasks" / task / edition / sensor, progress)


def _archives(folder: Path, sensor: str, edition: str, progress: ProgressCallback | None) -> list[RemoteFile]:
    """Return the archives of one sensor and edition, with size and sha256, from a fixed revision."""
    listing = f"https://huggingface.co/api/datasets/{REPOSITORY}/tree/{REVISION}/data_{edition}/{sensor}"
    path = fetch(RemoteFile(listing, "listing.json"), folder, progress)
    try:
        entries = read_json(path, list[_RepositoryEntry], what="listing", hint="Try again later", error=DataError)
        archives = [
            RemoteFile(
                f"https://huggingface.co/datasets/{REPOSITORY}/resolve/{REVISION}/{quote(entry.path)}",
                entry.path.rsplit("/", 1)[-1],
                size=entry.lfs.size,
                sha256=entry.lfs.oid,
            )
            for entry in entries
            if entry.type == "file" and entry.lfs is not None and _ARCHIVE.fullmatch(entry.path.rsplit("/", 1)[-1])
        ]
        if not archives:
            raise DataError("the listing names no archives", where=listing, hint="Try again later")
    except ZooError:
        path.unlink(missing_ok=True)
        raise
    return sorted(archives, key=lambda file: file.name)


def _locate(names: Sequence[str], regions: Mapping[str, str], headers: Mapping[str, Header]) -> list[Patch]:
    """Place patches on a grid with cells of patch size; different zones of the map projection are far apart on it."""
    zones = {crs: number for number, crs in enumerate(sorted({header.crs for header in headers.values()}))}
    patches = []
    for name in names:
        header = headers[name]
        row = col = None
        if header.x is not None and header.y is not None and header.step:
            side = SIZE * header.step
            row = -math.floor(header.y / side + 0.5)
            col = math.floor(header.x / side + 0.5) + 10_000 * zones[header.crs]
        patches.append(Patch(name, regions[name], row, col))
    return patches
