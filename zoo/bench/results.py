"""Result files: one typed JSON file per trial, from which every table is computed.

The fields of :class:`TrialMeasurements` are the sections of a result file, with the same names, except that
``adaptations`` is written as ``adaptation``.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from zoo.bench.config import TrialConfig
from zoo.bench.samples import FOLDER as PICTURES
from zoo.bench.samples import Pictures, Samples, keep_pictures
from zoo.datasets.audit import AuditSummary
from zoo.errors import ResultError, ZooError
from zoo.evaluation.columns import SplitCounts
from zoo.evaluation.counts import BoundaryCounts, Counts, ObjectCounts
from zoo.evaluation.histograms import LogitHistogram, ProbabilityHistogram
from zoo.files import check_could_write, check_writable_folder, locked, remove_abandoned, write_json_atomic
from zoo.machine import is_busy
from zoo.physics.bands import Band
from zoo.registry import Provider
from zoo.schema import decode_json, read_json, to_plain, write_json
from zoo.training.bundle_layout import Adaptation, ComputeFormat, Environment

SCHEMA = 2
"""Version of the layout. Files of version 1 can also be read: they hold only counts and a probability histogram."""
FOLDER = "trials"
DESCRIPTION = "benchmark.json"
LOCK = ".lock"
MAX_FILE_BYTES = 64 * 2**20
"""Maximum size in bytes of a result file that is read; one of 10,000 patches has 8 MB."""

TrialStatus = Literal["ok", "failed", "out-of-memory", "skipped"]


MAX_FIGURE = 10**15
"""Maximum plausible count, time in seconds or GMAC; a file with a larger value was edited."""


def _check_range(name: str, value: float | None, low: float = 0, high: float = MAX_FIGURE) -> None:
    """Check that a number lies within a range.

    Raises:
        ValueError: if it does not; the message names the field.
    """
    if value is not None and not low <= value <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}")


MemoryKind = Literal["rss", "cuda"]

BUSY_LOAD = 1.25
"""Load average per processor above which timings are marked; the timed process itself adds 1 [O]."""


@dataclass(frozen=True)
class SpeedSample:
    """Timing of one batch size.

    Attributes:
        batch: images per pass.
        median_s: median seconds of a pass.
        iqr_s: interquartile range in seconds.
        passes: number of timed passes, after the warm-up.
    """

    batch: int
    median_s: float
    iqr_s: float
    passes: int

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= 10**9 or not 1e-9 <= self.median_s <= 1e9:
            raise ValueError("a timing needs a batch of at least 1 and a time from 1e-9 to 1e9 s")

    @classmethod
    def of(cls, batch: int, seconds: list[float]) -> SpeedSample:
        """Return the sample of one or more passes with durations ``seconds``."""
        if len(seconds) == 1:
            return cls(batch, seconds[0], 0.0, 1)
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(batch, median, high - low, len(seconds))

    @property
    def images_per_second(self) -> float:
        """Frames per second (eq. 20), computed from the median pass."""
        return self.batch / self.median_s


@dataclass(frozen=True)
class MemoryUse:
    """Peak memory of a model.

    Attributes:
        kind: ``rss`` (resident set of the process) or ``cuda`` (allocated on the device).
        peak_bytes: peak above the memory that the process used before the model was created, by batch size.
    """

    kind: MemoryKind
    peak_bytes: dict[int, int]


@dataclass(frozen=True)
class EnergyUse:
    """Energy of an inference.

    Attributes:
        source: ``rapl`` or ``nvml``; ``None`` if there is no counter.
        why_not: reason why there is no energy figure.
        joules_per_image: energy at the fastest batch size; ``None`` if it was not measured.
    """

    source: str | None
    why_not: str
    joules_per_image: float | None


@dataclass(frozen=True, kw_only=True)
class SpeedProtocol:
    """How the speed of a model was measured, and further measurements.

    Attributes:
        session: identifier shared by all models that were timed together.
        rounds: processes per model.
        models: number of models in the session.
        seconds_a_batch_size: seconds of timing per batch size and round.
        dtype: number format.
        layout: memory layout of the input.
        device, device_name, threads, platform, torch: machine and software.
        cores: number of logical processors.
        load_average: highest one-minute load average before a process of the session started; ``None`` if the system
            does not report it.
        cores_in_use: maximum number of cores that other programs kept busy after a process of the session had ended;
            ``None`` if the system does not report it.
        form: ``eager`` or ``optimized``.
        best_batch: the fastest batch size.
        search_ended: why no larger batch was tried.
        memory, energy: memory and energy use of the model; ``None`` if nothing was measured.
        parameters: number of trainable parameters.
        gmac: multiply-accumulates of one image in units of 1e9.
        searched: every batch size of the first round.
        end_to_end: timing at the fastest batch size, from reading the patches to the mask in host memory; ``None``
            without data.
        error: why samples are missing; empty if none are.
    """

    session: str
    rounds: int
    models: int
    seconds_a_batch_size: float
    dtype: str
    layout: str
    device: str = ""
    device_name: str = ""
    threads: int | None = None
    platform: str = ""
    torch: str = ""
    cores: int | None = None
    load_average: float | None = None
    cores_in_use: float | None = None
    form: str = "eager"
    best_batch: int | None = None
    search_ended: str = ""
    memory: MemoryUse | None = None
    energy: EnergyUse | None = None
    parameters: int | None = None
    gmac: float | None = None
    searched: tuple[SpeedSample, ...] = ()
    end_to_end: SpeedSample | None = None
    error: str = ""

    @property
    def busy(self) -> bool:
        """Whether other programs used the machine: they kept cores busy, or many processes were waiting to run."""
        crowded = self.load_average is not None and self.load_average > BUSY_LOAD * (self.cores or math.inf)
        return crowded or is_busy(self.cores_in_use)

    @property
    def load(self) -> str:
        """Return the known load of the machine, in words."""
        load = "" if self.load_average is None else f"load {self.load_average:.1f} on {self.cores} processors"
        others = "" if self.cores_in_use is None else f"{self.cores_in_use:.1f} cores used by other programs"
        return ", ".join(filter(None, (load, others)))


@dataclass(frozen=True)
class SplitSizes:
    """Number of patches in each split."""

    train: int
    val: int
    test: int

    def __post_init__(self) -> None:
        for name in ("train", "val", "test"):
            _check_range(name, getattr(self, name))


@dataclass(frozen=True)
class DataSummary:
    """Data of a trial.

    Attributes:
        name: label of the data set.
        bands: the channels of an image, in order.
        class_names: names of the classes, the background first.
        pixel_size: side of a pixel in metres; ``None`` if it is unknown.
        patch: channels, height and width of a test patch.
        patches: number of patches in each split.
        split_notes: notes of the data set about its splits.
    """

    name: str
    bands: tuple[Band, ...]
    class_names: tuple[str, ...]
    pixel_size: float | None
    patch: tuple[int, int, int]
    patches: SplitSizes
    split_notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_range("pixel_size", self.pixel_size, 1e-6, 1e7)
        for length in self.patch:
            _check_range("patch", length, 1, 10**6)


@dataclass(frozen=True)
class ValidationFigures:
    """Figures of the validation split; an adapted trial has none.

    Attributes:
        loss: mean cross-entropy per pixel; ``None`` if it is undefined.
        histogram: pixels by predicted probability.
        odds: pixels by logit, from which the temperature is fitted.
    """

    loss: float | None = None
    histogram: ProbabilityHistogram | None = None
    odds: LogitHistogram | None = None

    def __post_init__(self) -> None:
        _check_range("loss", self.loss)


@dataclass(frozen=True)
class TestFigures:
    """Counts of the test split.

    Attributes:
        names: names of the test images, in the order of the counts.
        groups: scene or event of each test image.
        counts: confusion counts of each image at the frozen threshold.
        histogram: pixels by predicted probability.
        loss: mean cross-entropy per pixel; ``None`` if it is undefined.
        objects: landslides found and missed; ``None`` in a file of schema 1.
        boundaries: boundary pixels; ``None`` in a file of schema 1.
        odds: pixels by logit; ``None`` in a file of schema 1.
    """

    __test__ = False  # keep pytest from collecting the class because of its name

    names: tuple[str, ...]
    groups: tuple[str, ...]
    counts: Counts
    objects: ObjectCounts | None = field(default=None, kw_only=True)
    boundaries: BoundaryCounts | None = field(default=None, kw_only=True)
    histogram: ProbabilityHistogram
    odds: LogitHistogram | None = field(default=None, kw_only=True)
    loss: float | None

    def __post_init__(self) -> None:
        _check_range("loss", self.loss)


@dataclass(frozen=True)
class TrainingRecord:
    """Record of a training run.

    Attributes:
        steps: number of optimiser steps.
        seconds: time of the steps in this run, excluding earlier interrupted runs.
        resumed_from: step at which an interrupted run was resumed; ``None`` if it was not interrupted.
        batch: patches per optimiser step.
        micro_batch: patches per forward pass; smaller than ``batch`` after running out of memory.
        format: number format and memory layout.
        curve: step and training loss, in order.
    """

    steps: int
    seconds: float
    resumed_from: int | None = None
    batch: int | None = None
    micro_batch: int | None = None
    format: ComputeFormat | None = None
    curve: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "seconds", "resumed_from", "batch", "micro_batch"):
            _check_range(name, getattr(self, name))
        for step, loss in self.curve:
            _check_range("curve", step)
            _check_range("curve", loss, -MAX_FIGURE)


@dataclass(frozen=True)
class Attempt:
    """Training run that ran out of memory.

    Attributes:
        micro_batch: patches per forward pass.
        status: ``out-of-memory``.
        error: the reason in one line.
    """

    micro_batch: int
    status: str
    error: str


@dataclass(frozen=True, kw_only=True)
class TrialMeasurements:
    """All measurements of a trial, in the order of the result file.

    Attributes:
        data: summary of the data.
        threshold: landslide probability at or above which a pixel counts as landslide, from the validation split.
        test: counts of the test split.
        samples: predictions on the patches that the report shows; ``None`` in an older file.
        val: figures of the validation split.
        training: record of the training; ``None`` for an adapted trial, and for a model without parameters.
        adaptations: records of an adapted trial: one for the whole test split, or one per group. Empty for a trained
            trial.
        parameters: number of trainable parameters.
        gmac: multiply-accumulates of one test patch in units of 1e9.
        seconds: time of each stage: ``data``, ``train`` or ``adapt``, ``evaluate``.
        environment: machine and software.
        weights_sha256: sha256 of the weights in the bundle.
        provider: plugin that registered the model; ``None`` in an older file.
        started: start of the trial, ISO 8601 in UTC.
        audit: findings of the audit of the splits; ``None`` in an older file.
        speed: timed batch sizes; ``None`` if speed was not measured, empty if measuring failed.
        speed_protocol: how speed was measured; ``None`` if it was not.
    """

    data: DataSummary
    threshold: float
    test: TestFigures
    samples: Samples | None = None
    val: ValidationFigures = ValidationFigures()
    training: TrainingRecord | None = None
    adaptations: tuple[Adaptation, ...] = ()
    parameters: int
    gmac: float
    seconds: dict[str, float] = field(default_factory=dict)
    environment: Environment = field(default_factory=Environment)
    weights_sha256: str = ""
    provider: Provider | None = None
    started: str = ""
    audit: AuditSummary | None = None
    speed: tuple[SpeedSample, ...] | None = None
    speed_protocol: SpeedProtocol | None = None

    def __post_init__(self) -> None:
        _check_range("threshold", self.threshold, 0, 1)
        for name in ("parameters", "gmac"):
            _check_range(name, getattr(self, name))
        for value in self.seconds.values():
            _check_range("seconds", value)


@dataclass(frozen=True)
class TrialResult:
    """Result of a trial.

    The properties ``data``, ``test``, ``val`` and so on return fields of the measurements, which only a result with
    status ``ok`` has.

    Attributes:
        config: configuration of the trial.
        status: ``ok``, ``failed``, ``out-of-memory`` or ``skipped``.
        error: why the status is not ``ok``, in one line.
        measurements: measurements of an ``ok`` trial.
        attempts: earlier attempts that ran out of memory.
        pictures: patches that the report shows; :meth:`save` writes them once for all trials, in a separate file.
            ``None`` in a result that was loaded.
    """

    config: TrialConfig
    status: TrialStatus
    error: str = ""
    measurements: TrialMeasurements | None = None
    attempts: tuple[Attempt, ...] = ()
    pictures: Pictures | None = field(default=None, compare=False, repr=False)

    @property
    def ok(self) -> bool:
        """Whether the trial has figures."""
        return self.status == "ok"

    @property
    def _figures(self) -> TrialMeasurements:
        if self.measurements is None:
            raise ResultError(f"{self.config.label} has no figures: {self.status}")
        return self.measurements

    @property
    def data(self) -> DataSummary:
        """Summary of the data."""
        return self._figures.data

    @property
    def threshold(self) -> float:
        """The frozen threshold."""
        return self._figures.threshold

    @property
    def test(self) -> TestFigures:
        """Counts of the test split."""
        return self._figures.test

    @property
    def counts(self) -> Counts:
        """Confusion counts of every test image."""
        return self._figures.test.counts

    @property
    def val(self) -> ValidationFigures:
        """Figures of the validation split."""
        return self._figures.val

    @property
    def environment(self) -> Environment:
        """Machine and software."""
        return self._figures.environment

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return self._figures.parameters

    @property
    def gmac(self) -> float:
        """Multiply-accumulates of one test patch in units of 1e9."""
        return self._figures.gmac

    @property
    def training(self) -> TrainingRecord | None:
        """Record of the training; ``None`` for a trial that is adapted or has no figures."""
        return None if self.measurements is None else self.measurements.training

    @property
    def speed(self) -> tuple[SpeedSample, ...]:
        """Timed batch sizes; empty if speed was not measured."""
        return () if self.measurements is None else self.measurements.speed or ()

    @property
    def speed_protocol(self) -> SpeedProtocol | None:
        """How speed was measured; ``None`` if it was not."""
        return None if self.measurements is None else self.measurements.speed_protocol

    @property
    def samples(self) -> Samples | None:
        """Predictions on the patches that the report shows."""
        return None if self.measurements is None else self.measurements.samples

    @property
    def audit(self) -> AuditSummary | None:
        """Findings of the audit of the splits."""
        return None if self.measurements is None else self.measurements.audit

    @property
    def seconds(self) -> float:
        """Total time of all stages."""
        return 0.0 if self.measurements is None else sum(self.measurements.seconds.values())

    @property
    def evaluated(self) -> SplitCounts:
        """All counts of the test split; ``None`` for those that an older file lacks."""
        test = self.test
        return SplitCounts(
            counts=test.counts,
            groups=test.groups,
            histogram=test.histogram,
            objects=test.objects,
            boundaries=test.boundaries,
            logit_histogram=test.odds,
            validation_logit_histogram=self.val.odds,
        )

    def with_measurements(self, **changes: Any) -> TrialResult:
        """Return the result with some fields of its measurements replaced."""
        return replace(self, measurements=replace(self._figures, **changes))

    def with_audit(self, found: AuditSummary | None) -> TrialResult:
        """Return the result with the findings of an audit; unchanged if it already has them or has no figures."""
        if found is None or not self.ok:
            return self
        known = self.audit
        if known is not None and (known.leaks, known.touched) == (found.leaks, found.touched):
            return self
        return self.with_measurements(audit=found)

    def save(self, folder: Path) -> Path:
        """Write the result to ``folder/trials`` atomically, and its pictures once for all trials.

        Raises:
            ZooError: if the folder cannot be written to.
        """
        path = result_path(folder, self.config)
        content = {
            "schema": SCHEMA,
            "key": self.config.key,
            "status": self.status,
            "error": self.error,
            "config": self.config.to_dict(),
            **self.to_dict(),
        }
        if self.pictures is not None:
            keep_pictures(folder, self.config, self.pictures)
        write_json_atomic(path, content)
        return path

    def to_dict(self) -> dict[str, Any]:
        """Return the sections of the file as plain JSON values, without missing sections."""
        sections: dict[str, Any] = {}
        if self.measurements is not None:
            plain = to_plain(replace(self.measurements, adaptations=()))
            adaptation = {"adaptations": ("adaptation", _plain_adaptations(self.measurements.adaptations))}
            renamed = (adaptation.get(name, (name, value)) for name, value in plain.items())
            sections = {name: value for name, value in renamed if value is not None}
            for section, names in (("test", ("objects", "boundaries", "odds")), ("val", ("histogram", "odds"))):
                for name in names:
                    if sections[section].get(name, ...) is None:
                        del sections[section][name]
        if self.attempts:
            sections["attempts"] = to_plain(self.attempts)
        return sections

    @classmethod
    def load(cls, path: Path) -> TrialResult:
        """Read and check a result file.

        Raises:
            ResultError: if the file is damaged, has another schema, or its figures contradict each other.
        """
        hint = "Delete it and run the same zoo bench again: only that trial is repeated"
        content = _read(path, hint)
        head = decode_json(content, _Head, what="result file", where=path, hint=hint)
        if head.schema is None or head.schema < 1:
            raise ResultError(f"has schema {head.schema!r}: it is not a result file", where=path, hint=hint)
        if head.schema > SCHEMA:
            raise ResultError(
                f"has schema {head.schema}, but this version reads schemas 1 to {SCHEMA}: a newer landslide-zoo wrote "
                f"it",
                where=path,
                hint="Install that version: pip install --upgrade landslide-zoo",
            )
        try:
            body = decode_json(content, _Body, what="result file")
            if body.config.key != body.key:
                raise ResultError("the configuration is not the one that was run (its key differs)")
            result = cls(body.config, body.status, body.error, attempts=body.attempts)
            if result.ok:
                measurements = decode_json(content, TrialMeasurements, what="result file")
                measurements = replace(measurements, adaptations=_adaptations(content, body.adaptation))
                result = replace(result, measurements=measurements)
                _check_sums(result)
        except (KeyError, TypeError, ValueError, AttributeError, ZooError) as error:
            problem = error.problem if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
            raise ResultError(f"is damaged: {problem}", where=path, hint=hint) from error
        return result


@dataclass(frozen=True)
class _Head:
    schema: int | None = None


@dataclass(frozen=True)
class _Body:
    key: str
    status: TrialStatus
    error: str
    config: TrialConfig
    attempts: tuple[Attempt, ...] = ()
    adaptation: _AdaptedGroups | None = None


@dataclass(frozen=True)
class _AdaptedGroups:
    """Section of a trial that was adapted to each group; for any other adapted trial it has no ``groups``."""

    groups: dict[str, Adaptation] | None = None


@dataclass(frozen=True)
class _AdaptedSplit:
    adaptation: Adaptation


def _adaptations(content: bytes, found: _AdaptedGroups | None) -> tuple[Adaptation, ...]:
    if found is None:
        return ()
    if found.groups is None:
        return (decode_json(content, _AdaptedSplit, what="result file").adaptation,)
    for name, adaptation in found.groups.items():
        if adaptation.target.group != name:
            raise ResultError(f"the adaptation of group {name!r} names another group, {adaptation.target.group!r}")
    return tuple(found.groups.values())


def _plain_adaptations(adaptations: Sequence[Adaptation]) -> dict[str, Any] | None:
    """Return the section ``adaptation`` of the file, without choices of the target that were not made."""
    records = to_plain(adaptations)
    for record in records:
        record["target"] = {name: value for name, value in record["target"].items() if value is not None}
    if [adaptation.target.group for adaptation in adaptations] == [None]:
        section: dict[str, Any] = records[0]
        return section
    return {"groups": {record["target"]["group"]: record for record in records}} if records else None


def _read(path: Path, hint: str) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ResultError("is too large for a result file", where=path, hint=hint)
        return path.read_bytes()
    except OSError as error:
        raise ResultError(f"cannot be read ({error.strerror})", where=path) from error


def _check_sums(result: TrialResult) -> None:
    """Reject edited counts: values that are counted twice must be equal.

    Raises:
        ResultError: if two counts of the same quantity differ.
    """
    evaluated = result.evaluated
    images = len(result.test.names)
    parts = {
        "counts": len(evaluated.counts),
        "groups": len(evaluated.groups),
        "landslides": images if evaluated.objects is None else len(evaluated.objects.total),
        "boundaries": images if evaluated.boundaries is None else len(evaluated.boundaries.truth),
    }
    for name, length in parts.items():
        if length != images:
            raise ResultError(f"has {name} for {length} images, but names for {images}")
    if result.samples is not None:
        result.samples.check(evaluated.counts, result.data.patch[1:])
    pooled = evaluated.counts.pooled()
    truth = {"landslide": int(pooled.tp[0] + pooled.fn[0]), "background": int(pooled.fp[0] + pooled.tn[0])}
    for name, histogram in (("probabilities", evaluated.histogram), ("logits", evaluated.logit_histogram)):
        if histogram is None:
            continue
        sums = {"landslide": int(histogram.positive.sum()), "background": int(histogram.negative.sum())}
        for kind, pixels in truth.items():
            if sums[kind] != pixels:
                raise ResultError(
                    f"its counts do not add up: {pixels} {kind} pixels, and {sums[kind]} in the histogram of {name}"
                )


def result_path(folder: Path, config: TrialConfig) -> Path:
    """Return the path of a trial's result file."""
    return folder / FOLDER / f"{config.file_stem}.json"


def trial_files(folder: Path) -> list[Path]:
    """Return the result files of a folder in order, without partial files, whose names begin with a dot."""
    return sorted(path for path in (folder / FOLDER).glob("*.json") if not path.name.startswith("."))


def files_of(folder: Path) -> list[Path]:
    """Return the files of a results folder from which a report is made: results, pictures and the description."""
    return [*trial_files(folder), *(folder / PICTURES).glob("*.json"), folder / DESCRIPTION]


def load_results(folder: Path) -> tuple[list[TrialResult], list[ResultError]]:
    """Load all results of a folder.

    Returns:
        The results, and an error for each file that cannot be used.

    Raises:
        ResultError: if there are no result files.
    """
    hint = "Name the folder that was given to zoo bench as --out"
    if not folder.is_dir():
        problem = "is a file, but results are in a folder" if folder.exists() else "there is no such folder"
        raise ResultError(problem, where=folder, hint=hint)
    paths = trial_files(folder)
    if not paths:
        raise ResultError("holds no results", where=folder, hint=hint)
    results, problems = [], []
    for path in paths:
        try:
            results.append(TrialResult.load(path))
        except ResultError as error:
            problems.append(error)
    return results, problems


def valid_result(folder: Path, config: TrialConfig) -> TrialResult | None:
    """Return the result of an earlier run if it has figures, otherwise ``None``.

    Raises:
        ResultError: if the file cannot be used.
    """
    path = result_path(folder, config)
    if not path.is_file():
        return None
    result = TrialResult.load(path)
    return result if result.ok else None


def group_by_setting(results: Iterable[TrialResult]) -> list[list[TrialResult]]:
    """Group results that belong to one table: same patches, recipe, device, configuration and setting."""
    groups: dict[tuple[str, ...], list[TrialResult]] = {}
    for result in results:
        config = result.config
        patches = json.dumps(config.fingerprints, sort_keys=True)
        setting = (config.benchmark, config.setting, patches, config.recipe.name, config.device)
        groups.setdefault(setting, []).append(result)
    return list(groups.values())


# A results folder belongs to one benchmark, and only one process may use it at a time.


def check_folder(folder: Path, name: str) -> None:
    """Check that a folder contains no results of another benchmark.

    Args:
        folder: the folder; it need not exist and is not created.
        name: name of the configuration; empty for trials without a configuration.

    Raises:
        ZooError: if the folder contains anything else or cannot be written to.
    """
    check_could_write(folder)
    held = _benchmark_name(folder)
    if held in (name, None):
        return
    content = f"the results of {held!r}" if held else "results of trials without a configuration"
    raise ResultError(f"holds {content}", where=folder, hint="Name another --out, or delete the folder")


@contextmanager
def locked_results(folder: Path, description: dict[str, Any]) -> Iterator[None]:
    """Lock a results folder while trials run, write its description, and remove partial files of a killed run.

    Args:
        folder: the folder.
        description: the benchmark as plain JSON values, with its ``name``.

    Raises:
        ZooError: if the folder contains another benchmark, cannot be written to, or is used by another process.
    """
    check_folder(folder, description["name"])
    check_writable_folder(folder)
    busy = ResultError(
        "another zoo bench uses this folder", where=folder, hint="Wait until it is finished, or name another --out"
    )
    with locked(folder / LOCK, busy):
        for place in (folder, folder / FOLDER, folder / PICTURES):
            remove_abandoned(place)
        if description["name"]:
            write_json(folder / DESCRIPTION, description)
        yield


@dataclass(frozen=True)
class _Description:
    name: str


def _benchmark_name(folder: Path) -> str | None:
    """Return the name of the benchmark in a results folder: empty without a configuration, ``None`` without results.

    Raises:
        ResultError: if the description is damaged and no result names the benchmark.
    """
    try:
        return read_json(folder / DESCRIPTION, _Description, what="benchmark description").name
    except FileNotFoundError:
        damage = None
    except ZooError as error:
        damage = error
    paths = trial_files(folder)
    for path in paths:
        with suppress(ResultError):
            return TrialResult.load(path).config.benchmark
    if damage is not None and paths:
        raise ResultError(damage.problem, where=damage.where, hint="Name another --out")
    return "" if paths else None
