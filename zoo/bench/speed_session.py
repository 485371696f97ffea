"""Timing several models beside each other: each in a fresh process, interleaved over the models in rounds.

Whatever changes on the machine while it is measured (heat, a neighbour, memory in pieces) meets all models alike: each
round times every model once, and begins with another one. Figures of one session compare; of two sessions, ratios do.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from zoo.bench.speed import Measurement, SpeedSample, measure, measure_end_to_end
from zoo.bench.worker import TrialContext, end_process, end_with_parent, trial_context
from zoo.datasets.source import DataSource
from zoo.errors import ZooError

if TYPE_CHECKING:
    import torch

LIMIT_S = 300.0
"""Seconds after which a process that measures is stopped."""

Told = Callable[[str, int, int], None]
"""Called with the model that was timed, how many processes are done, and how many there will be."""


@dataclass(frozen=True)
class SpeedSubject:
    """A model to time.

    Attributes:
        model: registered name.
        options: of the model.
        classes: channels of the logits.
        shape: channels, height, width of an image.
        device: resolved.
        precision: ``fp32`` or ``bf16``.
        label: for people.
        data: where patches for the end-to-end timing come from, from the test split; ``None`` for none.
        optimized: the form that :func:`zoo.deploy.optimize` finds for each batch size, instead of the eager one; it is
            timed at the batch sizes of the eager one, which has to come before it.
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
    """What a session says of one model.

    Attributes:
        samples: batch 1 and the fastest batch size, all rounds pooled.
        searched: every batch size of the first round.
        end_to_end: at the fastest batch size, reading and the mask in host memory included; ``None`` without data.
        facts: memory, energy, parameters and GMAC, as plain JSON values.
        error: why there are no samples; empty when there are.
    """

    samples: list[SpeedSample] = field(default_factory=list)
    searched: list[SpeedSample] = field(default_factory=list)
    end_to_end: SpeedSample | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def best(self) -> SpeedSample | None:
        """The sample with the most images a second."""
        return max(self.samples, key=lambda sample: sample.images_per_second, default=None)


@dataclass(frozen=True)
class SpeedSession:
    """Reports of models that were timed beside each other.

    Attributes:
        reports: in the order of the subjects.
        protocol: how, where and with what they were timed, as plain JSON values.
        optimized: whether a subject was timed in another form than the eager one.
    """

    reports: list[SpeedReport]
    protocol: dict[str, Any]
    optimized: list[bool] = field(default_factory=list)

    def record(self, number: int) -> dict[str, Any]:
        """What a result file keeps of the subject with a number: ``speed`` and ``speed_protocol``."""
        report = self.reports[number]
        protocol = {
            **self.protocol,
            "form": "optimized" if any(self.optimized[number : number + 1]) else "eager",
            **report.facts,
            "searched": [sample.to_dict() for sample in report.searched],
            "end_to_end": None if report.end_to_end is None else report.end_to_end.to_dict(),
            "error": report.error,
        }
        return {"speed": [sample.to_dict() for sample in report.samples], "speed_protocol": protocol}


def time_models(
    subjects: Sequence[SpeedSubject],
    *,
    rounds: int = 3,
    seconds: float = 0.5,
    batches: Sequence[int] | None = None,
    threads: int | None = None,
    told: Told | None = None,
) -> SpeedSession:
    """Time models beside each other.

    Args:
        subjects: the models, all on one device.
        rounds: processes a model.
        seconds: to time each batch size in each of them.
        batches: sizes to time; ``None`` for 1 and the fastest, which the first round searches.
        threads: of torch; ``None`` for its own choice.
        told: of progress.

    Returns:
        A report a subject; one whose process failed in every round says why.
    """
    context = trial_context()
    total = rounds * len(subjects)
    parts: list[list[Measurement]] = [[] for _ in subjects]
    errors = ["" for _ in subjects]
    environment: dict[str, Any] = {}
    for turn in range(rounds):
        order = [(turn + place) % len(subjects) for place in range(len(subjects))]
        for place, number in enumerate(order):
            subject = subjects[number]
            if told is not None:
                told(subject.label or subject.model, turn * len(subjects) + place, total)
            model = next(place for place, other in enumerate(subjects) if _same_model(other, subject))
            sizes = list(batches) if batches is not None else _sizes(parts[model])
            if subject.optimized and sizes is None:
                sizes = [1]
            if turn and not parts[number]:
                continue
            found, error = _in_process(context, _Order(subject, sizes, seconds, threads, turn == 0), environment)
            if found is not None and found.passes:
                parts[number].append(found)
            errors[number] = errors[number] or error
    if told is not None:
        told("", total, total)
    protocol = {
        "session": uuid.uuid4().hex[:12],
        "rounds": rounds,
        "models": len(subjects),
        "seconds_a_batch_size": seconds,
        "dtype": {"fp32": "float32", "bf16": "bfloat16 (autocast)"}[subjects[0].precision],
        "layout": "channels first",
        **environment,
    }
    reports = [_report(part, error) for part, error in zip(parts, errors, strict=True)]
    return SpeedSession(reports, protocol, [subject.optimized for subject in subjects])


def _same_model(one: SpeedSubject, other: SpeedSubject) -> bool:
    return (one.model, one.options) == (other.model, other.options)


def _sizes(parts: Sequence[Measurement]) -> list[int] | None:
    return sorted({1, parts[0].best_batch}) if parts else None


def _report(parts: Sequence[Measurement], error: str) -> SpeedReport:
    if not parts:
        return SpeedReport(error=error or "nothing was measured")
    first = parts[0]
    best = first.best_batch
    wanted = sorted({1, best}) if 1 in first.passes else sorted(first.passes)

    def pooled(batch: int) -> list[float]:
        return [seconds for part in parts for seconds in part.passes.get(batch, ())]

    end_to_end = [(batch, seconds) for part in parts for batch, seconds in part.end_to_end.items()]
    joules = [part.joules[best] for part in parts if best in part.joules]
    facts = {
        "best_batch": best,
        "search_ended": first.stopped,
        "memory": {
            "kind": first.memory_kind,
            "peak_bytes": {str(batch): max(part.memory.get(batch, 0) for part in parts) for batch in wanted},
        },
        "energy": {
            "source": first.energy_source or None,
            "why_not": first.why_no_energy,
            "joules_per_image": sum(joules) / len(joules) if joules else None,
        },
        "parameters": first.parameters,
        "gmac": first.gmac,
    }
    return SpeedReport(
        samples=[SpeedSample.of(batch, pooled(batch)) for batch in wanted],
        searched=[SpeedSample.of(batch, times) for batch, times in sorted(first.passes.items())],
        end_to_end=SpeedSample.of(best, [s for batch, times in end_to_end if batch == best for s in times])
        if any(batch == best for batch, _ in end_to_end)
        else None,
        facts=facts,
        error=error,
    )


@dataclass(frozen=True)
class _Order:
    subject: SpeedSubject
    batches: list[int] | None
    seconds: float
    threads: int | None
    end_to_end: bool


def _in_process(context: TrialContext, order: _Order, environment: dict[str, Any]) -> tuple[Measurement | None, str]:
    """One process: what it measured before it ended, and why it ended early."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, order), daemon=True)
    process.start()
    sender.close()
    found: Measurement | None = None
    deadline = time.monotonic() + LIMIT_S
    try:
        while True:
            if not receiver.poll(max(0.0, deadline - time.monotonic())):
                return found, f"stopped after {LIMIT_S:g} s"
            try:
                message = receiver.recv()
            except EOFError:
                process.join()
                return found, f"the process ended with exit code {process.exitcode}"
            if isinstance(message, Measurement):
                found = message
            elif isinstance(message, dict):
                environment.update(message)
            else:
                return found, str(message)
    finally:
        receiver.close()
        end_process(process)


def _child(sender: Connection, order: _Order) -> None:
    import torch

    # The parent decides what Ctrl-C means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    if order.threads is not None:
        torch.set_num_threads(order.threads)
    try:
        _measure_all(sender, order)
        sender.send("")
    except (torch.OutOfMemoryError, MemoryError):
        sender.send("out of memory")
    except ZooError as error:
        sender.send(str(error))
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        sender.send(f"{type(error).__name__}: {lines[0]}")
    sender.close()


def _measure_all(sender: Connection, order: _Order) -> None:
    import torch

    from zoo.registry import create_model
    from zoo.training.compute import describe_environment
    from zoo.training.predictor import Predictor

    subject = order.subject
    device = torch.device(subject.device)
    described = describe_environment(device)
    kept = ("device", "device_name", "threads", "platform")
    sender.send({**{name: getattr(described, name) for name in kept}, "torch": str(torch.__version__)})
    torch.manual_seed(0)
    made: list[torch.nn.Module] = []

    def make() -> torch.nn.Module:
        made.append(create_model(subject.model, subject.shape[0], subject.classes, **subject.options))
        return made[0]

    found = measure(
        make,
        subject.shape,
        device,
        precision=subject.precision,
        batches=order.batches,
        seconds=order.seconds,
        form=_optimize(subject.precision) if subject.optimized else None,
        told=sender.send,
    )
    # One round reads the data: opening a data set may take longer than timing a model.
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
    sender.send(found)


def _optimize(precision: str) -> Callable[[torch.nn.Module, torch.Tensor], torch.nn.Module]:
    from zoo.deploy import optimize

    def form(model: torch.nn.Module, images: torch.Tensor) -> torch.nn.Module:
        # Fresh weights have no masks to guard: the gate of bf16 is for trained ones.
        return optimize(model, images, "bf16" if precision == "bf16" else "fp32", gate=False)

    return form
