"""Sen12Landslides (Hoehn et al. 2025): Sentinel-1 and Sentinel-2 time series with landslide masks."""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.arguments import Names, names_of, number_of, whole_of
from zoo.datasets.base import IGNORE, SPLITS, DataWarning, Patch, Transform
from zoo.datasets.builtin import SEN12LANDSLIDES
from zoo.datasets.sen12landslides.channels import DEM, OPTICAL, SCENE_CLASSES, SIZE, band_names, channels_of
from zoo.datasets.sen12landslides.dates import HIDDEN, NO_DATA, choose, hidden_share, reference_dates, why_not
from zoo.datasets.sen12landslides.files import find_official, find_patches, read_official, region_of
from zoo.datasets.sen12landslides.index import read_headers
from zoo.datasets.sen12landslides.netcdf import Header, check_times, opened, read_layer, read_mask
from zoo.datasets.sen12landslides.remote import download as fetch_archives
from zoo.datasets.splits import Partition, by_group
from zoo.datasets.stored import Origin, Progress, StoredPatchDataset
from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.files import cache_folder
from zoo.registry.specs import check_options

BASELINE_4 = "2022-01-25"
"""First day of Sentinel-2's processing baseline 04.00, which adds 1000 to the digital numbers [S]."""

_OFFSET = 1000
_DECODING = 1


class Sen12Landslides(StoredPatchDataset):
    """Sentinel-2, or ascending or descending Sentinel-1, before and after landslides in fifteen regions.

    Dataset features:

    * 13,628 patches of Sentinel-2, 13,306 and 12,622 of Sentinel-1 (ascending, descending), 128 x 128 pixels of 10 m,
      each with 15 dates, a DEM and a mask; about half show landslides, 75,000 in all [S: the authors' README]
    * one date, two, or all 15 as channels; the channels of one date are B02 ... B12 and DEM, or VV, VH and DEM
    * groups are regions; place, event and dates of each patch are known

    Dataset format:

    * NetCDF-4, one patch a file, ``data_harmonized/s2/italy_s2_6982.nc``: REGION_SENSOR_ID
    * variables B02-B08, B8A, B11, B12, SCL (int16), or VV, VH (float32, dB), DEM (int16, m), MASK (uint8, the same at
      each date), on dimensions time, y and x in either order of the last two; attributes event_date, annotated, crs
    * two editions: in ``data_harmonized`` the offset of +1000 that digital numbers carry since processing baseline
      04.00 is removed, in ``data_raw`` it is not. Digital numbers are given as they are, and the band says which
    * official splits: ``tasks/S12LS-LD/harmonized/s2/splits.json``

    Decisions of ours [O]: an image of the event's own day counts neither as before nor as after; a patch with several
    events is seen after the last one; a patch without one takes the most frequent event date of its region; a patch
    that has no such image is left out, and ``split_notes`` count them. NaN is what SCL calls no data, what is below the
    range of digital numbers (int16 that ran over) and what a fill value marks; the mask is ignored where no measured
    band is left.

    If you use this dataset, cite Hoehn, Heidler, Behling & Zhu (2025), "A spatio-temporal dataset for satellite-based
    landslide detection", Scientific Data 12, 1772, https://doi.org/10.1038/s41597-025-06167-2. Licence: CC BY 4.0.

    Published, on the landslide class, S12LS-LD, Sentinel-2 and DEM, 15 dates, mean of three seeds (README of the
    authors' repository): F1 61.95 U-ConvLSTM, 61.80 U-TAE, 59.06 ConvGRU, 58.82 U-Net3D. The paper's own tables are
    macro averages over both classes, and are not to be put beside them. The official split shuffles patches within
    each region, so that both are on ground that training has seen.
    """

    citation: ClassVar[str] = SEN12LANDSLIDES.citation
    licence = SEN12LANDSLIDES.licence
    pixel_size = 10.0

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "train",
        transforms: Transform | None = None,
        *,
        sensor: Literal["s2", "s1asc", "s1dsc"] = "s2",
        dates: Literal["post", "pre", "pre_post", "all"] = "post",
        bands: Names = "all",
        max_cloud: float | str = 0.2,
        clouds: Literal["keep", "mask"] = "keep",
        edition: Literal["harmonized", "raw"] | None = None,
        task: Literal["S12LS-LD", "S12LS-AD"] = "S12LS-LD",
        split_by: Literal["official", "group"] | None = None,
        train_groups: Names = None,
        val_groups: Names = None,
        test_groups: Names = None,
        seed: int | str = 0,
        download: bool = False,
        cache: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Open one split.

        Args:
            root: folder that holds data_harmonized or data_raw; None for zoo's cache folder.
            split: "train", "val" or "test".
            transforms: applied to every sample.
            sensor: Sentinel-2, or Sentinel-1 on ascending or descending orbits.
            dates: the first clear image after the event, the last one before it, both, or all as channels.
            bands: names ("B02,B03,B04"), or "all" for every measured band and the DEM; SCL by name only.
            max_cloud: hidden share, 0..1, up to which an image is taken; where none is that clear, the clearest is.
            clouds: "keep" them, or "mask": make what SCL calls cloud, cloud shadow, snow or defective missing.
            edition: "harmonized" or "raw"; None for what is there, harmonized first.
            task: landslide or anomaly detection, whose official split is used.
            split_by: "official", or "group" for whole regions; None for the official one if its file is there and no
                region is named.
            train_groups: regions of the training split.
            val_groups: regions of the validation split.
            test_groups: regions of the test split.
            seed: seed of a split by region.
            download: fetch missing files (Sentinel-2: about 39 GB, twice that unpacked).
            cache: keep decoded patches on disk.
            progress: called with the number of files or patches done and of all.

        Raises:
            DataError: if files are missing, damaged or not as published.
            ConfigError: if options are out of range or contradict each other.
            UnknownNameError: for a band, region or split that does not exist.
        """
        given = {"sensor": sensor, "dates": dates, "clouds": clouds, "edition": edition, "task": task}
        check_options(SEN12LANDSLIDES, {**given, "split_by": split_by})
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
        self.root = cache_folder("datasets") / "sen12landslides" if root is None else Path(root)
        self.split = split
        self.transforms = transforms
        self.sensor, self.dates, self.clouds = sensor, dates, clouds
        self.max_cloud = _share(max_cloud)
        self._names = band_names(sensor, bands)
        groups = {"train": train_groups, "val": val_groups, "test": test_groups}
        if download:
            fetch_archives(self.root, sensor, edition or "harmonized", task, progress)
        self.edition, self._files = find_patches(self.root, sensor, edition)
        regions = {name: region_of(name) for name in self._files}
        self._headers = read_headers(self._files, progress)
        self._references = reference_dates(regions, self._headers)
        self._reference = {name: self._references.get(region) for name, region in regions.items()}
        usable = self._usable()
        patches = _patches(usable, regions, self._headers)
        self.partition = self._partition(patches, task, split_by, groups, whole_of(seed, "seed"))
        self.patches = tuple(patches[index] for index in self.partition.of(split))
        self._verify()
        self.bands = channels_of(self._names, sensor, self.edition, self._suffixes())
        self.split_notes = (*self.partition.notes, *self._notes())
        self._store(
            [Origin((self._files[patch.name],)) for patch in self.patches],
            {
                "decoding": _DECODING,
                "bands": [band.name for band in self.bands],
                "dates": dates,
                "max_cloud": self.max_cloud,
                "clouds": clouds,
                "sensor": sensor,
                "edition": self.edition,
                "references": {patch.name: self._reference[patch.name] for patch in self.patches},
            },
            cache=cache,
            progress=progress,
        )

    def decode(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Decode one patch; see :meth:`zoo.datasets.stored.StoredPatchDataset.decode`."""
        name = self.patches[index].name
        header = self._headers[name]
        with opened(self._files[name]) as file:
            mask = read_mask(file, len(header.times))
            layers = []
            measured = []
            for position in self._choose(file, name):
                time = header.order[position]
                classes = read_layer(file, SCENE_CLASSES, time) if self.sensor == "s2" else None
                for band in self._names:
                    if band == DEM:
                        continue
                    layer = read_layer(file, band, time)
                    if band != SCENE_CLASSES:
                        layer[self._missing(layer, classes)] = np.nan
                        measured.append(np.isnan(layer))
                    layers.append(layer)
            if DEM in self._names:
                layers.append(read_layer(file, DEM, 0))
        for height, width in {mask.shape, *(layer.shape for layer in layers)}:
            if (height, width) != (SIZE, SIZE):
                raise DataError(
                    f"the patch is {height} x {width} pixels, as published it is {SIZE} x {SIZE}",
                    where=self._files[name],
                    hint="Copy or unpack it again",
                )
        if measured:
            mask[np.all(measured, axis=0)] = IGNORE
        return np.stack(layers), mask

    def acquisitions(self, index: int) -> tuple[str, ...]:
        """Give the ISO dates of the images that a patch is made of, in the order of its channels.

        Args:
            index: position in ``patches``.
        """
        name = self.patches[index].name
        with opened(self._files[name]) as file:
            return tuple(self._headers[name].times[position] for position in self._choose(file, name))

    def events(self, index: int) -> tuple[str, ...]:
        """Give the ISO dates of the events whose landslides a patch shows; none for a patch without landslides.

        Args:
            index: position in ``patches``.
        """
        return self._headers[self.patches[index].name].events

    def _verify(self) -> None:
        """Check that the split holds patches and, when all dates are stacked, that they are equally many.

        What is in the files is checked when they are decoded.
        """
        if not self.patches:
            sizes = ", ".join(f"{name} {len(self.partition.of(name))}" for name in SPLITS)
            raise DataError(
                f"the {self.split} split is empty ({sizes})", where=self.root, hint="Name other regions or other dates"
            )
        if self.dates == "all":
            check_times({patch.name: self._headers[patch.name] for patch in self.patches})

    def _suffixes(self) -> tuple[str, ...]:
        if self.dates == "pre_post":
            return "_pre", "_post"
        if self.dates == "all":
            return tuple(f"_t{time:02d}" for time in range(len(self._headers[self.patches[0].name].times)))
        return ("",)

    def _choose(self, file: Any, name: str) -> list[int]:
        header = self._headers[name]

        def share(position: int) -> float:
            layer = "SCL" if self.sensor == "s2" else "VV"
            values = read_layer(file, layer, header.order[position])
            return hidden_share(values) if self.sensor == "s2" else float(np.isnan(values).mean())

        return choose(header, self.dates, self._reference[name], self.max_cloud, share)

    def _missing(self, layer: NDArray[np.float32], classes: NDArray[np.float32] | None) -> NDArray[np.bool_]:
        if classes is None:
            # The authors' code calls -9999 invalid in Sentinel-1; no backscatter is near it.
            return np.asarray(np.isnan(layer) | (layer <= -9999))
        # Digital numbers above 32767 ran over into negative int16; without its offset a true one is at least -1000.
        least = 0 if self.edition == "raw" else -_OFFSET
        hidden = HIDDEN if self.clouds == "mask" else (NO_DATA,)
        return np.asarray(np.isnan(layer) | (layer < least) | np.isin(classes, hidden))

    def _usable(self) -> list[str]:
        reasons = {name: why_not(header, self.dates, self._reference[name]) for name, header in self._headers.items()}
        self._left_out = Counter(reason for reason in reasons.values() if reason is not None)
        return [name for name, reason in reasons.items() if reason is None]

    def _partition(
        self, patches: list[Patch], task: str, split_by: str | None, groups: dict[str, Names], seed: int
    ) -> Partition:
        named = {name: names_of(value) for name, value in groups.items()}
        some = any(value is not None for value in named.values())
        if some and split_by == "official":
            raise ConfigError("regions are named, and the official split is asked for", hint="Leave one of the two out")
        official = None
        if split_by == "official" or (split_by is None and not some):
            official = find_official(self.root, task, self.edition, self.sensor)
            if official is None and split_by == "official":
                raise DataError(
                    f"there is no official split of {task} for {self.sensor} (tasks/{task}/{self.sensor}/splits.json)",
                    where=self.root,
                    hint="Get the folder tasks from https://github.com/PaulH97/Sen12Landslides, or pass split_by=group",
                )
        if official is None:
            return by_group(patches, train=named["train"], val=named["val"], test=named["test"], seed=seed)
        parts = read_official(official, self.sensor, self._files)
        places = {patch.name: index for index, patch in enumerate(patches)}
        chosen = {split: tuple(places[name] for name in names if name in places) for split, names in parts.items()}
        taken = {index for indices in chosen.values() for index in indices}
        return Partition(
            **chosen,
            unused=tuple(index for index in range(len(patches)) if index not in taken),
            notes=(
                f"split: official, {task}, {official.relative_to(official.parents[2])}",
                "leak: the official split shuffles patches within each region, so the same event, and neighbouring "
                "ground, are in training and test; split_by=group keeps regions apart",
            ),
        )

    def _notes(self) -> Iterable[str]:
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
            yield f"dates: {without} patches without an event take their region's most frequent event date"
        if self.sensor == "s2" and set(self._names) & set(OPTICAL) and self.edition != "harmonized":
            yield from self._offset_notes()

    def _offset_notes(self) -> Iterable[str]:
        times = [time for patch in self.patches for time in self._headers[patch.name].times]
        late = sum(time >= BASELINE_4 for time in times)
        edition = "raw" if self.edition == "raw" else "unknown"
        yield f"offset: edition {edition}; {late} of {len(times)} images are of {BASELINE_4} or later"
        if 0 < late < len(times):
            warnings.warn(
                DataWarning(
                    f"{self.root}: {late} of {len(times)} images are of {BASELINE_4} or later, when digital numbers "
                    f"got an offset of {_OFFSET}, which the {edition} edition may hold; take edition=harmonized"
                ),
                stacklevel=4,
            )


def _share(value: float | str) -> float:
    share = number_of(value, "max_cloud")
    if share is None or not 0 <= share <= 1:
        raise ConfigError(f"{value!r} is no share between 0 and 1", where="option max_cloud")
    return share


def _patches(names: list[str], regions: dict[str, str], headers: dict[str, Header]) -> list[Patch]:
    """Place patches on a grid of their own size; zones of the map projection lie far apart on it."""
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
