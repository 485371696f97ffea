"""Measure the speed, arithmetic, memory and energy of a model in the calling process.

:mod:`zoo.bench.speed_session` starts these processes, one per model and round. Models run in eager and eval mode, as
users run them.
"""

from __future__ import annotations

import math
import os
import re
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoo.bench.results import MemoryKind
from zoo.training.bundle_layout import Environment

MAX_BATCH = {"cpu": 64}
MAX_BATCH_ON_GPU = 512
MAX_PASS_S = 0.75
"""If a pass takes longer than this, the search for the fastest batch size ends [O]."""
MIN_PASSES = 3
"""Passes that are timed per batch size and process, however long they take [O]."""
MIN_BATCH_GAIN = 1.02
"""Gain in images per second below which a larger batch is not worth its memory [O]."""
RAPL = Path("/sys/class/powercap")


@dataclass
class Measurement:
    """Measurements of one model in one process. All passes are kept, so that rounds can be pooled.

    Attributes:
        passes: seconds of each pass by batch size: only the model, with its input already on the device.
        end_to_end: seconds of each batch, from reading the patches to the mask in host memory, by batch size.
        memory: peak bytes by batch size, above the memory that the process used before the model was created.
        memory_kind: see :class:`MemoryUse`.
        joules: energy of one image by batch size, if it was measured.
        energy_source: see :class:`EnergyUse`; empty if there is no energy counter.
        why_no_energy: why there is no energy counter.
        parameters: number of trainable parameters.
        gmac: multiply-accumulates of one image in units of 1e9.
        stopped: why no larger batch was tried.
        environment: machine and software; ``None`` before they are recorded.
    """

    passes: dict[int, list[float]] = field(default_factory=dict)
    end_to_end: dict[int, list[float]] = field(default_factory=dict)
    memory: dict[int, int] = field(default_factory=dict)
    memory_kind: MemoryKind = "rss"
    joules: dict[int, float] = field(default_factory=dict)
    energy_source: str = ""
    why_no_energy: str = ""
    parameters: int = 0
    gmac: float = math.nan
    stopped: str = ""
    environment: Environment | None = None

    @property
    def best_batch(self) -> int:
        """The batch size with the most images per second; the smaller one if a larger one gains little."""
        best = 1
        for batch in sorted(self.passes):
            rate = batch / statistics.median(self.passes[batch])
            if best not in self.passes or rate > MIN_BATCH_GAIN * best / statistics.median(self.passes[best]):
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
    on_batch: Callable[[Measurement], None] | None = None,
) -> Measurement:
    """Time the forward pass of a model, and measure its memory and energy.

    After a warm-up, passes are timed until ``seconds`` have passed; the device is synchronised after each pass.

    Args:
        make: creates the model on the host; its memory counts.
        shape: channels, height, width of an image.
        device: device of the computation.
        precision: ``fp32``, or ``bf16`` autocast.
        batches: batch sizes to time; ``None`` searches: 1, 2, 4 ... until two in a row gain nothing.
        seconds: seconds of timing per batch size.
        form: creates another form of the model for a batch, which is timed instead and handles the precision itself.
        on_batch: called after each batch size, so that its measurement survives the process.
    """
    found = Measurement(memory_kind="cuda" if device.type == "cuda" else "rss")
    baseline = _memory_now(device)
    model = make().to(device).eval()
    found.parameters = count_parameters(model)
    found.gmac = count_gmac(model, shape, device)
    meter = EnergyMeter.find(device)
    found.energy_source, found.why_no_energy = meter.source, meter.reason
    largest = MAX_BATCH.get(device.type, MAX_BATCH_ON_GPU)
    sizes = [2**power for power in range(largest.bit_length())] if batches is None else sorted(set(batches))
    for batch in sizes:
        _reset_peak_memory(device)
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
        if on_batch is not None:
            on_batch(found)
        # Require two in a row, so that one noisy timing does not end the search.
        if batches is None and 2 * found.best_batch < batch:
            found.stopped = f"batch {batch} is no faster than {found.best_batch}"
            break
        if batches is None and 2 * statistics.median(times) > MAX_PASS_S:
            found.stopped = f"a pass of batch {2 * batch} would take more than {MAX_PASS_S:g} s"
            break
    return found


@torch.inference_mode()
def measure_end_to_end(
    run: Callable[[Tensor], Tensor], read: Callable[[int], Tensor], patches: int, batch: int, *, seconds: float = 0.5
) -> list[float]:
    """Return the seconds of each batch, from reading its patches to the mask in host memory, without the first batch.

    Args:
        run: maps images ``(B, C, H, W)`` in host memory to a mask there.
        read: returns the image of a patch, given its number.
        patches: number of patches; they are read repeatedly.
        batch: patches per batch.
        seconds: seconds of timing.
    """
    times: list[float] = []
    number = 0
    begun = math.inf
    while len(times) < MIN_PASSES or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        run(torch.stack([read((number + place) % patches) for place in range(batch)]))
        ended = time.perf_counter()
        if begun == math.inf:
            begun = ended
        else:
            times.append(ended - start)
        number += batch
    return times


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@torch.inference_mode()
def count_gmac(model: nn.Module, shape: tuple[int, int, int], device: torch.device) -> float:
    """Return the multiply-accumulates of one image in units of 1e9, for convolutions and matrix products.

    Args:
        model: the model on ``device``; its training mode is restored.
        shape: channels, height, width of the image.
        device: device of the computation.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports triton, which takes long

    was_training = model.training
    model.eval()
    # The counter tracks gradients of parameters that a module gets as input, which do not exist here.
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        # Fused attention is not counted on the CPU.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(torch.zeros((1, *shape), device=device))
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
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
    while len(times) < MIN_PASSES or time.perf_counter() - begun < seconds:
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


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        # Writing 5 resets the peak of the resident set (proc(5)); without permission, peaks only grow.
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


class EnergyMeter:
    """Reads an energy counter in joules, which covers the whole package or GPU, including other programs.

    Args:
        reason: why there is no energy counter.

    Attributes:
        source: ``rapl`` or ``nvml``; empty if there is no energy counter.
        reason: why there is no energy counter.
    """

    source = ""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    @staticmethod
    def find(device: torch.device, rapl: Path = RAPL) -> EnergyMeter:
        """Return the meter of a device, or one that reads nothing and states the reason.

        Args:
            device: device of the computation.
            rapl: the kernel's power capping folder.
        """
        if device.type == "cuda":
            return _find_nvml(device.index or 0)
        if device.type != "cpu":
            return EnergyMeter(f"no energy counter is known for {device.type}")
        packages = sorted(rapl.glob("intel-rapl:[0-9]*")) if rapl.is_dir() else []
        packages = [package for package in packages if package.name.count(":") == 1]
        if not packages:
            return EnergyMeter("this machine has no RAPL counter")
        meter = RaplMeter(packages)
        try:
            meter.joules()
        except (OSError, ValueError) as error:
            return EnergyMeter(
                f"the RAPL counter cannot be read ({type(error).__name__}); most systems allow it to root only"
            )
        return meter

    def joules(self) -> list[float] | None:
        """Return the current values of the counters, or ``None``."""
        return None

    def between(self, before: list[float], after: list[float]) -> float:
        """Return the joules between two readings."""
        return sum(after) - sum(before)


class RaplMeter(EnergyMeter):
    """Reads the package counters of Intel and AMD processors under ``/sys/class/powercap``, which wrap around.

    Args:
        packages: folders ``intel-rapl:N``.
    """

    source = "rapl"

    def __init__(self, packages: list[Path]) -> None:
        super().__init__()
        self.packages = packages

    def joules(self) -> list[float]:
        """Return one value per package."""
        return [int((package / "energy_uj").read_text(encoding="ascii")) / 1e6 for package in self.packages]

    def between(self, before: list[float], after: list[float]) -> float:
        """Return the joules of all packages, corrected for one wrap-around each."""
        total = 0.0
        for package, first, last in zip(self.packages, before, after, strict=True):
            if last < first:
                last += int((package / "max_energy_range_uj").read_text(encoding="ascii")) / 1e6
            total += last - first
        return total


class NvmlMeter(EnergyMeter):
    """Reads the counter of one NVIDIA GPU, which starts when its driver is loaded.

    Args:
        nvml: the initialised module ``pynvml``.
        index: number of the GPU.
    """

    source = "nvml"

    def __init__(self, nvml: Any, index: int) -> None:
        super().__init__()
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def joules(self) -> list[float]:
        """Return one value."""
        return [self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3]


def _find_nvml(index: int) -> EnergyMeter:
    try:
        import pynvml

        pynvml.nvmlInit()
        meter = NvmlMeter(pynvml, index)
        meter.joules()
    except ImportError:
        return EnergyMeter("NVML is not installed (pip install nvidia-ml-py)")
    except Exception as error:  # NVML's errors have no useful common base class
        return EnergyMeter(f"NVML does not answer ({type(error).__name__})")
    return meter
