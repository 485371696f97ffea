"""How fast a model is, what it costs in arithmetic, memory and energy: measured in the process that asks.

:mod:`zoo.bench.speed_session` starts such processes, one a model and round. Eager, in eval mode, as users run it.
"""

from __future__ import annotations

import math
import os
import re
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from zoo.bench.energy import EnergyMeter

LARGEST = {"cpu": 64}
LARGEST_ON_GPU = 512
LONGEST_PASS_S = 1.5
"""A batch whose pass takes longer ends the search for the fastest batch size [O]."""
WORTH = 1.02
"""Gain in images a second below which a larger batch is not worth its memory [O]."""


@dataclass(frozen=True)
class SpeedSample:
    """Timing of one batch size.

    Attributes:
        batch: images a pass.
        median_s: median seconds of a pass.
        iqr_s: difference of the third and first quartile in seconds.
        passes: passes timed, after the warm-up.
    """

    batch: int
    median_s: float
    iqr_s: float
    passes: int

    @classmethod
    def of(cls, batch: int, seconds: list[float]) -> SpeedSample:
        """The sample of passes that took ``seconds``, one or more."""
        if len(seconds) == 1:
            return cls(batch, seconds[0], 0.0, 1)
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(batch, median, high - low, len(seconds))

    @property
    def images_per_second(self) -> float:
        """Frames per second (eq. 20) by the median pass."""
        return self.batch / self.median_s

    def to_dict(self) -> dict[str, float | int]:
        """Plain JSON values."""
        return asdict(self)


@dataclass
class Measurement:
    """What one process measures of one model; every pass is kept, so that rounds can be pooled.

    Attributes:
        passes: seconds of each pass, by batch size: the model alone, input already on the device.
        end_to_end: seconds of each batch from reading the patches to the mask in host memory, by batch size.
        memory: peak bytes by batch size, above what the process held before the model was made.
        memory_kind: ``rss`` (resident set of the process) or ``cuda`` (allocated on the device).
        joules: energy of one image at each batch size, where it was measured.
        energy_source: ``rapl`` or ``nvml``; empty where nothing counts energy.
        why_no_energy: the reason then.
        parameters: that training changes.
        gmac: of one image.
        stopped: why no larger batch was tried.
    """

    passes: dict[int, list[float]] = field(default_factory=dict)
    end_to_end: dict[int, list[float]] = field(default_factory=dict)
    memory: dict[int, int] = field(default_factory=dict)
    memory_kind: str = "rss"
    joules: dict[int, float] = field(default_factory=dict)
    energy_source: str = ""
    why_no_energy: str = ""
    parameters: int = 0
    gmac: float = math.nan
    stopped: str = ""

    @property
    def best_batch(self) -> int:
        """The batch size with the most images a second; the smaller one where a larger gains little."""
        best = 1
        for batch in sorted(self.passes):
            rate = batch / statistics.median(self.passes[batch])
            if best not in self.passes or rate > WORTH * best / statistics.median(self.passes[best]):
                best = batch
        return best


@torch.inference_mode()
def measure(
    make: Callable[[], nn.Module],
    shape: tuple[int, int, int],
    device: torch.device,
    *,
    precision: str = "fp32",
    batches: Iterable[int] | None = None,
    seconds: float = 0.5,
    form: Callable[[nn.Module, Tensor], nn.Module] | None = None,
    told: Callable[[Measurement], None] | None = None,
) -> Measurement:
    """Time the forward pass of a model, and count what it takes.

    Warm-up, then passes until ``seconds`` are over, the device synchronised after each.

    Args:
        make: makes the model, on the host; its memory counts.
        shape: channels, height, width of an image.
        device: to compute on.
        precision: ``fp32``, or ``bf16`` autocast.
        batches: sizes to time; ``None`` searches: 1, 2, 4 ... until two in a row gain nothing.
        seconds: to time each.
        form: makes another form of the model for a batch, which is timed instead; that takes the precision on itself.
        told: called after each batch size, so that what was measured survives the process.
    """
    found = Measurement(memory_kind="cuda" if device.type == "cuda" else "rss")
    baseline = _memory_now(device)
    model = make().to(device).eval()
    found.parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    found.gmac = count_gmac(model, shape, device)
    meter = EnergyMeter.find(device)
    found.energy_source, found.why_no_energy = meter.source, meter.why_not
    largest = LARGEST.get(device.type, LARGEST_ON_GPU)
    sizes = [2**power for power in range(largest.bit_length())] if batches is None else sorted(set(batches))
    for batch in sizes:
        _forget_peak(device)
        try:
            images = torch.randn((batch, *shape), device=device)
            timed = model if form is None else form(model, images)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16" and form is None):
                joules, times = _time(partial(timed, images), device, seconds, meter)
        except (torch.OutOfMemoryError, MemoryError):
            found.stopped = f"memory ran out at batch {batch}"
            break
        found.passes[batch] = times
        found.memory[batch] = max(0, _peak_memory(device) - baseline)
        if joules is not None:
            found.joules[batch] = joules / (batch * len(times))
        if told is not None:
            told(found)
        # Twice in a row: a neighbour's noise must not end the search.
        if batches is None and 2 * found.best_batch < batch:
            found.stopped = f"batch {batch} is no faster than {found.best_batch}"
            break
        if batches is None and 2 * statistics.median(times) > LONGEST_PASS_S:
            found.stopped = f"a pass of batch {2 * batch} would take more than {LONGEST_PASS_S:g} s"
            break
    return found


@torch.inference_mode()
def measure_end_to_end(
    run: Callable[[Tensor], Tensor], read: Callable[[int], Tensor], patches: int, batch: int, *, seconds: float = 0.5
) -> list[float]:
    """Seconds of each batch from reading its patches to the mask in host memory, after one that is not counted.

    Args:
        run: maps images ``(B, C, H, W)`` in host memory to a mask there.
        read: gives the image of a patch by its number.
        patches: how many there are; they are read over and over.
        batch: patches at a time.
        seconds: to time.
    """
    times: list[float] = []
    number = 0
    begun = math.inf
    while len(times) < 4 or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        run(torch.stack([read((number + place) % patches) for place in range(batch)]))
        ended = time.perf_counter()
        if begun == math.inf:
            begun = ended
        else:
            times.append(ended - start)
        number += batch
    return times


@torch.inference_mode()
def count_gmac(model: nn.Module, shape: tuple[int, int, int], device: torch.device) -> float:
    """Multiply-accumulates of one image in units of 1e9: convolutions and matrix products alone.

    Args:
        model: on ``device``; its training mode is restored.
        shape: channels, height, width of the image.
        device: to compute on.
    """
    was_training = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros((1, *shape), device=device))
    model.train(was_training)
    return float(counter.get_total_flops()) / 2e9


def _time(
    run: Callable[[], Any], device: torch.device, seconds: float, meter: EnergyMeter
) -> tuple[float | None, list[float]]:
    warm = time.perf_counter()
    for _ in range(3):
        run()
        _synchronise(device)
        if time.perf_counter() - warm > seconds:
            break
    times: list[float] = []
    before = meter.joules()
    begun = time.perf_counter()
    while len(times) < 4 or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        run()
        _synchronise(device)
        times.append(time.perf_counter() - start)
    after = meter.joules()
    return (None if before is None or after is None else meter.between(before, after)), times


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _memory_now(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _resident("VmRSS")


def _peak_memory(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        # Writing 5 resets the peak of the resident set (proc(5)); where that is not allowed, peaks only grow.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _resident(field_name: str) -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        found = re.search(rf"^{field_name}:\s+(\d+) kB", status, re.MULTILINE)
        if found:
            return int(found.group(1)) * 1024
    except OSError:
        pass
    if os.name != "posix":
        return 0
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
