"""Time several models in rounds; each round runs every model in a fresh process.

Changes on the machine (heat, other programs, fragmented memory) affect all models equally: each round times every model
once and starts with a different model. Compare figures only within a session; across sessions, compare only ratios.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from zoo.bench.results import EnergyUse, MemoryUse, SpeedProtocol, SpeedSample, TrialResult
from zoo.bench.speed import Measurement, measure, measure_end_to_end
from zoo.datasets.source import DataSource
from zoo.jobs import Job, Outcome, ProgressCallback, RayExecutor, Work, prepare, run_job
from zoo.machine import cores_in_use
from zoo.registry import catalogue, create_model
from zoo.training.bundle import without_downloads
from zoo.training.bundle_layout import Environment
from zoo.training.compute import describe_environment
from zoo.training.predictor import Predictor

DEFAULT_PROCESSES = 3
DEFAULT_SECONDS = 0.5
"""Default number of processes per model, and of seconds of timing per batch size in each process."""
LIMIT_S = 300.0
"""Time limit in seconds for a measuring process."""


@dataclass(frozen=True)
class SpeedSubject:
    """Model to time.

    Attributes:
        model: registered name.
        options: options of the model.
        classes: channels of the logits.
        shape: channels, height, width of an image.
        device: resolved device.
        precision: ``fp32`` or ``bf16``.
        label: name in tables.
        data: data set whose test split provides patches for the end-to-end timing; ``None`` for no such timing.
        optimized: whether to time the form that :func:`zoo.deploy.optimize` finds for each batch size instead of the
            eager model. It uses the batch sizes of the eager subject, which must come before it.
    """

    model: str
    options: dict[str, Any]
    classes: int
    shape: tuple[int, int, int]
    device: str
    precision: str = "fp32"
    label: str = ""
    data: DataSource | None = None
    optimized: bool = False


@dataclass(frozen=True)
class SpeedReport:
    """Timings of one model.

    Attributes:
        samples: batch size 1 and the fastest one, with all rounds pooled; empty if measuring failed.
        protocol: how they were measured, with memory, energy, parameters and the reason for a failure.
    """

    samples: tuple[SpeedSample, ...]
    protocol: SpeedProtocol

    @property
    def best(self) -> SpeedSample | None:
        """The sample with the most images per second."""
        return max(self.samples, key=lambda sample: sample.images_per_second, default=None)


@dataclass(frozen=True)
class SpeedSettings:
    """Settings for timing models.

    Attributes:
        rounds: processes per model.
        seconds: seconds of timing per batch size in each process.
        batches: batch sizes to time; ``None`` for 1 and the fastest, which the first round searches for.
        threads: number of torch threads; ``None`` for torch's default.
    """

    rounds: int = DEFAULT_PROCESSES
    seconds: float = DEFAULT_SECONDS
    batches: tuple[int, ...] | None = None
    threads: int | None = None


TimeModels = Callable[[Sequence[SpeedSubject]], list[SpeedReport]]


def time_models(
    subjects: Sequence[SpeedSubject],
    settings: SpeedSettings | None = None,
    progress: ProgressCallback | None = None,
) -> list[SpeedReport]:
    """Time models in rounds on this machine.

    Args:
        subjects: models, all on one device.
        settings: how to time them.
        progress: called with the number of processes done and the total.

    Returns:
        One report per subject; if every process of a model failed, its report gives the reason.
    """
    prepare("zoo.bench.trial")
    settings = settings or SpeedSettings()
    total = settings.rounds * len(subjects)
    parts: list[list[Measurement]] = [[] for _ in subjects]
    errors = ["" for _ in subjects]
    machine = Environment()
    loads: list[float] = []
    others: list[float] = []
    for turn in range(settings.rounds):
        order = [(turn + place) % len(subjects) for place in range(len(subjects))]
        for place, number in enumerate(order):
            subject = subjects[number]
            if progress is not None:
                progress(turn * len(subjects) + place, total)
            eager = next(place for place, other in enumerate(subjects) if _same_model(other, subject))
            batches = list(settings.batches) if settings.batches is not None else _batches(parts[eager])
            if subject.optimized and batches is None:
                batches = [1]
            if turn and not parts[number]:
                continue
            loads += _load_average()
            order_one = _ProcessSettings(subject, batches, settings.seconds, turn == 0)
            outcome = _measure_in_process(order_one, settings.threads)
            # Measure the load afterwards: before the first process, the server process is still importing torch.
            in_use = cores_in_use()
            others += [] if in_use is None else [in_use]
            if outcome.value is not None:
                machine = outcome.value.environment or machine
                if outcome.value.passes:
                    parts[number].append(outcome.value)
            errors[number] = errors[number] or outcome.error
    if progress is not None:
        progress(total, total)
    protocol = SpeedProtocol(
        session=uuid.uuid4().hex[:12],
        rounds=settings.rounds,
        models=len(subjects),
        seconds_a_batch_size=settings.seconds,
        dtype={"fp32": "float32", "bf16": "bfloat16 (autocast)"}[subjects[0].precision],
        layout="channels first",
        device=machine.device,
        device_name=machine.device_name,
        threads=machine.threads,
        platform=machine.platform,
        torch=machine.versions.get("torch", ""),
        cores=os.cpu_count(),
        load_average=max(loads, default=None),
        cores_in_use=max(others, default=None),
    )
    return [
        _report(part, replace(protocol, form="optimized" if subject.optimized else "eager", error=error))
        for subject, part, error in zip(subjects, parts, errors, strict=True)
    ]


def time_models_on_cluster(address: str, subjects: Sequence[SpeedSubject]) -> list[SpeedReport]:
    """Time models in rounds on one node of a Ray cluster, which runs nothing else in the meantime.

    Raises:
        ZooError: if the cluster cannot be used.
    """
    gpus = 1 if subjects[0].device.startswith("cuda") else 0
    job: Job[list[SpeedReport]] = Job("zoo.bench.speed_session:_time_on_node", list(subjects), "speed", gpus=gpus)
    with RayExecutor[list[SpeedReport]](address) as executor:
        executor.submit(job)
        while not (ended := executor.poll()):
            pass
    return ended[0][1].unwrap()


def _time_on_node(subjects: list[SpeedSubject], work: Work) -> list[SpeedReport]:
    return time_models(subjects, SpeedSettings(threads=torch.get_num_threads()))


def time_results(results: Sequence[TrialResult], folder: Path, time_all: TimeModels) -> list[TrialResult]:
    """Time the models of results in rounds and store the figures in their result files.

    Models that were all timed in one session are not timed again. Trials of the same model are timed once, regardless
    of seed and adaptation.

    Args:
        results: results of trials on one device, from one or several settings.
        folder: folder of the results.
        time_all: times subjects, such as :func:`time_models`.

    Returns:
        The results, with ``speed`` and ``speed_protocol`` where a trial is ``ok``.
    """
    good = [result for result in results if result.ok]
    sessions = {session_of(result) for result in good}
    if not good or (len(sessions) == 1 and None not in sessions):
        return list(results)
    subjects: dict[str, SpeedSubject] = {}
    for result in good:
        subjects.setdefault(_identity(result), _subject(result))
    reports = dict(zip(subjects, time_all(list(subjects.values())), strict=True))
    timed = []
    for result in results:
        if result.ok:
            report = reports[_identity(result)]
            result = result.with_measurements(speed=report.samples, speed_protocol=report.protocol)
            result.save(folder)
        timed.append(result)
    return timed


def session_of(result: TrialResult | None) -> str | None:
    """Return the identifier of the session that timed a result; ``None`` if it was not timed."""
    return None if result is None or result.speed_protocol is None else result.speed_protocol.session


def _subject(result: TrialResult) -> SpeedSubject:
    config = result.config.plain
    return SpeedSubject(
        config.model,
        config.options,
        len(result.data.class_names),
        result.data.patch,
        config.device,
        label=config.label,
        data=config.data,
    )


def _identity(result: TrialResult) -> str:
    config, data = result.config, result.data
    return json.dumps([config.model, config.options, len(data.class_names), list(data.patch)], sort_keys=True)


def _load_average() -> list[float]:
    try:
        return [os.getloadavg()[0]]
    except (AttributeError, OSError):
        return []


def _same_model(one: SpeedSubject, other: SpeedSubject) -> bool:
    return (one.model, one.options) == (other.model, other.options)


def _batches(parts: Sequence[Measurement]) -> list[int] | None:
    return sorted({1, parts[0].best_batch}) if parts else None


def _report(parts: Sequence[Measurement], protocol: SpeedProtocol) -> SpeedReport:
    """Pool the rounds of one model."""
    if not parts:
        return SpeedReport((), replace(protocol, error=protocol.error or "nothing was measured"))
    first = parts[0]
    best = first.best_batch
    wanted = sorted({1, best}) if 1 in first.passes else sorted(first.passes)

    def pooled(batch: int) -> list[float]:
        return [seconds for part in parts for seconds in part.passes.get(batch, ())]

    end_to_end = [seconds for part in parts for seconds in part.end_to_end.get(best, ())]
    joules = [part.joules[best] for part in parts if best in part.joules]
    return SpeedReport(
        tuple(SpeedSample.of(batch, pooled(batch)) for batch in wanted),
        replace(
            protocol,
            best_batch=best,
            search_ended=first.stopped,
            memory=MemoryUse(
                first.memory_kind, {batch: max(part.memory.get(batch, 0) for part in parts) for batch in wanted}
            ),
            energy=EnergyUse(
                first.energy_source or None, first.why_no_energy, sum(joules) / len(joules) if joules else None
            ),
            parameters=first.parameters,
            gmac=first.gmac,
            searched=tuple(SpeedSample.of(batch, times) for batch, times in sorted(first.passes.items())),
            end_to_end=SpeedSample.of(best, end_to_end) if end_to_end else None,
        ),
    )


@dataclass(frozen=True)
class _ProcessSettings:
    """Settings for one measuring process."""

    subject: SpeedSubject
    batches: list[int] | None
    seconds: float
    end_to_end: bool


def _measure_in_process(order: _ProcessSettings, threads: int | None) -> Outcome[Measurement]:
    return run_job(Job("zoo.bench.speed_session:_measure_subject", order, "speed", time_limit=LIMIT_S, threads=threads))


def _measure_subject(order: _ProcessSettings, work: Work) -> Measurement:
    """Measure a model; runs in a separate process."""
    subject = order.subject
    device = torch.device(subject.device)
    environment = describe_environment(device)
    work.keep(Measurement(environment=environment))
    # The imports of the model must not count as its memory.
    catalogue().models.get(subject.model).resolve()
    torch.manual_seed(0)
    made: list[torch.nn.Module] = []
    options = without_downloads(subject.model, subject.options)

    def make() -> torch.nn.Module:
        made.append(create_model(subject.model, subject.shape[0], subject.classes, **options))
        return made[0]

    def keep(found: Measurement) -> None:
        work.keep(replace(found, environment=environment))

    found = measure(
        make,
        subject.shape,
        device,
        precision=subject.precision,
        batches=order.batches,
        seconds=order.seconds,
        form=_optimize(subject.precision) if subject.optimized else None,
        on_batch=keep,
    )
    found.environment = environment
    # Only one round reads the data, because opening a data set may take longer than timing a model.
    if subject.data is not None and order.end_to_end and found.passes and not subject.optimized:
        dataset = subject.data.open("test")
        predictor = Predictor(made[0], [0.0] * subject.shape[0], [1.0] * subject.shape[0]).to(device).eval()

        def run(images: torch.Tensor) -> torch.Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=subject.precision == "bf16"):
                logits = predictor(images.to(device))
            return (predictor.landslide_probability(logits) >= 0.5).cpu()

        def read(number: int) -> torch.Tensor:
            image: torch.Tensor = dataset[number]["image"]
            return image

        best = found.best_batch
        found.end_to_end[best] = measure_end_to_end(run, read, len(dataset), best, seconds=order.seconds)
    return found


def _optimize(precision: str) -> Callable[[torch.nn.Module, torch.Tensor], torch.nn.Module]:
    from zoo.deploy import optimize

    def form(model: torch.nn.Module, images: torch.Tensor) -> torch.nn.Module:
        # Masks of untrained weights are useless for the gate of bf16.
        return optimize(model, images, "bf16" if precision == "bf16" else "fp32", gate=False)

    return form
