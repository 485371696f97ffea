"""Frames per second and multiply-accumulates of a model, eager and in float32, as a user would run it."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

BATCHES = (1, 8)


@dataclass(frozen=True)
class SpeedSample:
    """Timing of one batch size: model alone, input already on the device.

    Attributes:
        batch: images a forward pass.
        median_s: median seconds of a pass.
        iqr_s: difference of the third and first quartile in seconds.
        passes: passes timed, after the warm-up.
    """

    batch: int
    median_s: float
    iqr_s: float
    passes: int

    @property
    def images_per_second(self) -> float:
        """Frames per second (eq. 20) by the median pass."""
        return self.batch / self.median_s

    def to_dict(self) -> dict[str, float | int]:
        """Plain JSON values."""
        return asdict(self)


@torch.inference_mode()
def measure_speed(
    model: nn.Module, shape: tuple[int, int, int], device: torch.device, *, seconds: float = 1.0, least: int = 4
) -> list[SpeedSample]:
    """Time the forward pass at each of :data:`BATCHES`, in eval mode.

    Args:
        model: on ``device``; its training mode is restored.
        shape: channels, height, width of an image.
        device: to compute on.
        seconds: how long to time each batch size.
        least: passes to time at least.
    """
    was_training = model.training
    model.eval()
    samples = []
    for batch in BATCHES:
        images = torch.randn((batch, *shape), device=device)
        model(images)
        times: list[float] = []
        _synchronise(device)
        started = time.perf_counter()
        while len(times) < least or time.perf_counter() - started < seconds:
            start = time.perf_counter()
            model(images)
            _synchronise(device)
            times.append(time.perf_counter() - start)
        low, median, high = statistics.quantiles(times, n=4)
        samples.append(SpeedSample(batch, median, high - low, len(times)))
    model.train(was_training)
    return samples


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


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
