"""Forecast runs: index and classes at each time step, and alerts for districts; of one county or of many."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from zoo.errors import ConfigError, DataError, ZooError
from zoo.files import check_writable_folder, file_name, locked, working_folder
from zoo.jobs import Executor, Job, LocalExecutor, Outcome, ProgressCallback, RayExecutor, Work
from zoo.physics.rain_events import EventRules, parse_time, rain_at, time_text
from zoo.rasters.alignment import RainLayers
from zoo.rasters.ground import PixelAreas
from zoo.rasters.map_frame import save_picture
from zoo.rasters.rain_bands import TAG_RAIN_AT, source_bands, write_source
from zoo.rasters.rain_files import RainField, RainPaths, find_files, read_rain
from zoo.rasters.rain_series import RainReading
from zoo.rasters.reading import gdal_threads
from zoo.rasters.stacks import Stack
from zoo.rasters.vectors import Zones
from zoo.risk.index import CLASS_NAMES
from zoo.risk.mapping import write_map
from zoo.risk.pictures import draw_map
from zoo.risk.surfaces import Breaks, MapInputs, Rain, Weights, prepare_index
from zoo.risk.watch_files import (
    CLASSES,
    INDEX,
    ITEM,
    PICTURE,
    Alert,
    StepRecord,
    publish,
    read_item,
    read_items,
    write_item,
)

STEP_HOURS = 6.0
"""Hours from one step to the next [O]."""

ALERT_SHARE = 0.1
"""Share of a district in the high class that raises an alert [O]."""

WHOLE_DISTRICT = "all"
"""Name of the single district if no file of districts is given."""

_MAX_STEPS = 10_000


@dataclass(frozen=True)
class WatchReport:
    """Summary of a run.

    Attributes:
        folder: output folder.
        made: times of the steps that were computed.
        kept: times of the steps that already existed.
        alerts: one entry per district.
        notes: findings and decisions, as sentences.
        warnings: steps that could not be computed, and problems of the index.
    """

    folder: Path
    made: tuple[str, ...]
    kept: tuple[str, ...]
    alerts: tuple[Alert, ...]
    notes: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())


# long: one parameter for each option of `zoo risk watch`
def watch(
    stack: str | os.PathLike[str],
    rain: RainPaths,
    out: str | os.PathLike[str],
    *,
    weights: Weights = None,
    every: float = STEP_HOURS,
    start: str | None = None,
    districts: str | os.PathLike[str] | None = None,
    name: str = "name",
    alert_share: float = ALERT_SHARE,
    classes: Breaks = None,
    rules: EventRules | None = None,
    reading: RainReading | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> WatchReport:
    """Map the risk index at each time step under the rain at that time. The command is ``zoo risk watch``.

    Existing steps with the same rain are kept, so an interrupted run resumes, and a new rain file adds its steps.
    Memory does not grow with the stack.

    Args:
        stack: raster with the bands of the index.
        rain: rain files, folders or patterns; see :func:`zoo.rain`.
        out: folder: one folder per step with ``index.tif``, ``classes.tif``, ``map.png`` and ``item.json``; and
            ``catalog.json`` (STAC), ``alerts.csv``, ``shares.csv`` and ``animation.gif``.
        weights: file of ``zoo risk calibrate``, or the result of :func:`zoo.risk.calibrate`; None for Table 1.
        every: hours between steps; steps are at multiples of it from 00 UTC.
        start: time of the first step in UTC; by default the first with rain data.
        districts: polygons for which class shares are computed; None for the whole stack as one.
        name: attribute with the names of the districts.
        alert_share: share of a district in the high class that raises an alert, 0..1.
        classes: as in :func:`zoo.risk.map`; all steps have the same breaks, so "scenario" is not allowed.
        rules, reading: as in :func:`zoo.rain`.
        seed: seed of the pixels drawn for class breaks.
        progress: called with the number of steps done and the total.

    Returns:
        Steps made and kept, and the alerts.

    Raises:
        ZooError: if an input is missing, damaged or incompatible, no step can be computed, another run uses the folder,
            or the folder contains steps with other weights, districts or rules.

    Example:
        >>> import zoo
        >>> report = zoo.risk.watch("stack.tif", "imerg/", "watch/", weights="w.json", every=3)  # doctest: +SKIP
        >>> [(one.district, one.first) for one in report.alerts]  # doctest: +SKIP
        [('Neelum', '2024-06-11T09:00Z'), ('Poonch', None)]
    """
    if classes == "scenario":
        raise ConfigError("breaks of a scenario differ from step to step", where="--classes", hint="Use jenks or A,B")
    if not 0 < every <= 24 * 31 or every * 60 % 1:
        raise ConfigError(f"steps of {every:g} hours", where="--every", hint="Give whole minutes, such as 0.5 or 6")
    if not 0 < alert_share <= 1:
        raise ConfigError(
            f"an alert share of {alert_share:g}", where="--alert-share", hint="Give more than 0, at most 1"
        )
    rules, reading = rules or EventRules(), reading or RainReading()
    files = find_files(rain)
    folder = check_writable_folder(out)
    busy = ZooError("another run uses this folder", where=folder, hint="Wait until it has finished")
    with locked(folder / ".watch.lock", busy, remove=True), gdal_threads(stack), Stack(stack) as opened:
        prepared = prepare_index(opened, weights, classes=classes, seed=seed)
        assert prepared.index is not None
        zones = None if districts is None else Zones(Path(districts), opened, name)
        observed = read_rain(files, opened, reading)
        run = _Run(folder, opened, prepared, zones, observed, rules, reading.max_missing)
        run.refuse_foreign_steps()
        made: list[str] = []
        kept: list[str] = []
        warnings: list[str] = []
        times = _steps(observed, every, start)
        for number, time in enumerate(times, 1):
            try:
                (made if run.compute(time) else kept).append(time_text(time))
            except DataError as error:
                warnings.append(f"no map of {time_text(time)}: {error.problem}")
            if progress is not None:
                progress(number, len(times))
        items = read_items(folder)
        if not items:
            raise DataError(warnings[0] if warnings else "there is no step", where=folder)
        alerts = publish(folder, opened, items, run.names, alert_share, animate=bool(made))
    warnings += prepared.warnings
    worst = max(item.record.negative for item in items)
    if worst > 0:
        warnings.append(
            f"the weighted sum is negative in {worst:.1%} of the pixels, where more rain LOWERS the index; to avoid "
            "this, calibrate with --form log-additive"
        )
    notes = (*prepared.notes, *observed.notes, str(rules))
    return WatchReport(folder, tuple(made), tuple(kept), alerts, notes, tuple(warnings))


def _steps(observed: RainField, every: float, start: str | None) -> list[np.datetime64]:
    """Return the multiples of ``every`` hours from 00 UTC within the rain."""
    series = observed.series
    step = np.timedelta64(round(every * 3600), "s")
    first = series.ends[0] if start is None else parse_time(start, "--start")
    origin = series.starts[0].astype("datetime64[D]").astype("datetime64[s]")
    count = max(0, -int((origin - first) // step))
    times = np.arange(origin + count * step, series.ends[-1] + np.timedelta64(1, "s"), step)
    if not len(times):
        raise DataError(
            f"the rain from {time_text(series.starts[0])} to {time_text(series.ends[-1])} contains no step of "
            f"{every:g} h from {time_text(first)}",
            hint="Choose shorter steps with --every, or an earlier --start",
        )
    if len(times) > _MAX_STEPS:
        raise ConfigError(f"{len(times):,} steps", where="--every", hint="Choose longer steps, or a later --start")
    return list(times)


@dataclass(frozen=True)
class _Run:
    """State shared by the steps of one run."""

    folder: Path
    stack: Stack
    prepared: MapInputs
    zones: Zones | None
    observed: RainField
    rules: EventRules
    max_missing: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the districts."""
        return (WHOLE_DISTRICT,) if self.zones is None else self.zones.names

    @cached_property
    def settings(self) -> str:
        """Digest of the settings shared by all steps; the stack is identified by size and modification time."""
        about = self.stack.path.stat()
        breaks = self.prepared.breaks
        assert self.prepared.index is not None
        parts = [
            zoo.__version__,
            self.prepared.index.digest(),
            f"{breaks.low!r} {breaks.high!r}",
            f"{self.stack.path.name} {about.st_size} {about.st_mtime_ns} {self.stack.shape}",
            str(self.rules),
            *self.names,
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def refuse_foreign_steps(self) -> None:
        """Check that the folder contains no steps with other settings.

        Raises:
            ConfigError: if there is one.
        """
        if any(item.record.settings != self.settings for item in read_items(self.folder)):
            raise ConfigError(
                "holds steps of another stack, weights, class breaks, districts or rain rules",
                where=self.folder,
                hint="Name another folder, or remove this one",
            )

    def compute(self, time: np.datetime64) -> bool:
        """Map one step unless it exists; return whether it was mapped.

        Raises:
            DataError: if too much rain data is missing.
        """
        state = rain_at(self.observed.series, time, self.rules)
        bands, _ = source_bands(self.observed, state, time, self.max_missing)
        bands = {band: bands[band] for band in ("intensity", "duration")}
        content = hashlib.sha256(self.settings.encode())
        for values in bands.values():
            content.update(np.ascontiguousarray(values).tobytes())
        digest = content.hexdigest()
        name = file_name(time_text(time).replace(":", "").replace("-", ""))
        place = self.folder / name
        if self._has_step(place, digest):
            return False
        place.mkdir(exist_ok=True)
        (place / ITEM).unlink(missing_ok=True)
        assert self.prepared.index is not None
        parameters = self.prepared.index.index
        with working_folder(place / "rain") as work, ExitStack() as exits:
            source = work / f"rain_{name}.tif"
            write_source(bands, self.observed, source)
            layers = exits.enter_context(RainLayers(source, self.stack))
            on_stack = Rain(parameters.rain_parameters, parameters.rain_clip, layers=layers)
            tags = {**self.prepared.tags, TAG_RAIN_AT: f"{time_text(time)}; {self.rules}"}
            prepared = replace(self.prepared, rain=on_stack, tags=tags)
            report = write_map(self.stack, prepared, place / INDEX, place / CLASSES)
            # Describe the rain by its wettest cell; the default would be the name of the working file.
            wettest = np.unravel_index(np.argmax(state.depth), state.depth.shape)
            title = (
                f"Landslide risk, {time_text(time)}\n"
                f"most rain: {state.depth[wettest]:.0f} mm in {24 * state.days[wettest]:.3g} h"
            )
            save_picture(draw_map(self.stack, self.prepared, report, title), place / PICTURE)
        record = StepRecord(
            digest=digest,
            settings=self.settings,
            rain_from=time_text(self.observed.series.starts[0]),
            shares=self._shares(place / CLASSES),
            raining=float(np.mean(state.depth > 0)),
            missing_hours=float(state.missing_hours.max()),
            negative=report.negative,
        )
        write_item(place, self.stack, time, record)
        return True

    def _has_step(self, place: Path, digest: str) -> bool:
        """Return whether a step exists for this rain, or for rain that begins earlier and is more complete."""
        if not all((place / name).is_file() for name in (INDEX, CLASSES, PICTURE, ITEM)):
            return False
        record = read_item(place / ITEM).record
        return record.digest == digest or record.rain_from < time_text(self.observed.series.starts[0])

    def _shares(self, path: Path) -> dict[str, dict[str, float]]:
        areas = np.zeros((len(self.names) + 1, 4))
        pixels = PixelAreas(self.stack.crs, self.stack.transform, self.stack.shape)
        with Stack(path, classes=True) as classes:
            for window in classes.windows():
                # The reader converts nodata (0) to NaN.
                found = np.nan_to_num(classes.read(window)[0]).astype(np.int64)
                zone = np.ones_like(found) if self.zones is None else self.zones.numbers(window).astype(np.int64)
                counts = np.bincount((4 * zone + found).ravel(), minlength=areas.size)
                areas += counts.reshape(areas.shape) * pixels.mean(window)
        shares = {}
        for name, (unknown, *known) in zip(self.names, areas[1:], strict=True):
            total = max(float(sum(known)), 1e-9)
            shares[name] = {one: float(area) / total for one, area in zip(CLASS_NAMES, known, strict=True)}
            shares[name]["known"] = float(sum(known)) / max(float(unknown + sum(known)), 1e-9)
            shares[name]["km2"] = float(unknown + sum(known)) / 1e6
        return shares


NAME = "{name}"
"""Placeholder for the name of a county in a path."""


def watch_counties(
    stacks: Sequence[str | os.PathLike[str]],
    rain: RainPaths,
    out: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    districts: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    cluster: str | None = None,
    progress: ProgressCallback | None = None,
    **options: Any,
) -> dict[str, Outcome[WatchReport]]:
    """Run :func:`watch` on many counties. The command is ``zoo risk watch`` with several stacks.

    A county that fails does not stop the others. Each has its own folder, so an interrupted run resumes.

    Args:
        stacks: one raster per county; the file name without suffix is the name of the county.
        rain: see :func:`watch`.
        out: folder; each county gets ``out/NAME``.
        weights, districts: see :func:`watch`; ``{name}`` in a path is replaced by the name of the county.
        jobs: number of counties in parallel; on a cluster, per smallest node.
        cluster: address of a Ray cluster (:func:`zoo.jobs.connected`), whose nodes must have all files under the same
            paths; None for this machine.
        progress: called with the number of counties done and the total.
        **options: further options of :func:`watch`, the same for all counties.

    Returns:
        The outcome of each county by name: its report, or the reason for its failure (:class:`zoo.jobs.Outcome`).

    Raises:
        ConfigError: if two stacks have the same name, or the cluster cannot be used.

    Example:
        >>> import zoo
        >>> found = zoo.risk.watch_counties(["hongya.tif", "emei.tif"], "imerg/", "watch/", jobs=2)  # doctest: +SKIP
        >>> found["emei"].unwrap().alerts  # doctest: +SKIP
    """
    names = [Path(stack).stem for stack in stacks]
    duplicates = [name for name in names if names.count(name) > 1]
    if duplicates:
        raise ConfigError(
            f"two stacks are called {duplicates[0]}", hint="Their names are used as the names of the counties"
        )
    paths = [rain] if isinstance(rain, (str, os.PathLike)) else list(rain)
    pending = [
        Job[WatchReport](
            f"{__name__}:run_county",
            {
                "stack": Path(stack).absolute(),
                "rain": [Path(path).absolute() for path in paths],
                "out": Path(out).absolute() / name,
                "weights": _path_of(weights, name),
                "districts": _path_of(districts, name),
                **options,
            },
            name=name,
        )
        for name, stack in zip(names, stacks, strict=True)
    ]
    found: dict[str, Outcome[WatchReport]] = {}
    executor: Executor[WatchReport]
    executor = LocalExecutor[WatchReport](jobs) if cluster is None else RayExecutor[WatchReport](cluster, jobs)
    with executor:
        waiting = list(reversed(pending))
        while len(found) < len(pending):
            while waiting and executor.free:
                executor.submit(waiting.pop())
            found |= {job.name: outcome for job, outcome in executor.poll()}
            if progress is not None:
                progress(len(found), len(pending))
    return {name: found[name] for name in names}


def _path_of(path: str | os.PathLike[str] | None, name: str) -> Path | None:
    return None if path is None else Path(os.fspath(path).replace(NAME, name)).absolute()


def run_county(given: dict[str, Any], work: Work) -> WatchReport:
    """Run :func:`watch` in a child process."""
    return watch(**given, progress=lambda done, total: work.report("mapping steps", done, total))
