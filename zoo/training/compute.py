"""Devices, number formats of training, and a description of the machine and its software."""

from __future__ import annotations

import copy
import math
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import __version__
from zoo.errors import ConfigError
from zoo.training.bundle_layout import ComputeFormat, Environment
from zoo.training.recipes import Precision

PACKAGES = ("torch", "torchgeo", "lightning", "segmentation-models-pytorch", "timm", "albumentations", "numpy", "scipy")


def describe_environment(device: torch.device) -> Environment:
    """Return the machine and software used for computation on ``device``."""
    versions = {"landslide-zoo": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Environment(
        platform=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        device=str(device),
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        versions=versions,
    )


def resolve_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` selects the first GPU, or the CPU if there is none.

    Raises:
        ConfigError: if the name is invalid, or this machine does not have the device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device {name!r}", hint="Use auto, cpu, cuda, cuda:1 or mps") from None
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise ConfigError(f"this machine has no device {name!r}", hint="Use --device auto or --device cpu")
    return device


def autocast(form: ComputeFormat, device: torch.device) -> torch.autocast:
    """Return the context in which a model computes in this format, or in float32 if the device lacks bfloat16.

    On a processor without bfloat16 instructions, emulation is many times slower than float32, so a bundle that was
    trained on a newer machine would be unusable. The probabilities differ only by the rounding of bfloat16.
    """
    enabled = form.precision == "bf16" and bf16_in_hardware(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def memory_format(form: ComputeFormat) -> torch.memory_format:
    """Return the memory layout of a format as torch names it."""
    return torch.channels_last if form.channels_last else torch.contiguous_format


def bf16_in_hardware(device: torch.device) -> bool:
    """Return whether the device has bfloat16 instructions; emulated bfloat16 is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def depthwise_in_float32(model: nn.Module) -> Iterator[nn.Module]:
    """Let depthwise convolutions with a stride or a kernel above 3 compute in float32 under autocast.

    Their backward pass in oneDNN takes about six times as long in bfloat16 as in float32 (torch 2.14, Intel with AMX),
    which is more than the rest of an EfficientNet gains from bfloat16. The model is as before when the context ends.
    """
    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d)
        and 1 < layer.groups == layer.in_channels
        and (max(layer.kernel_size) > 3 or max(layer.stride) > 1)
    ]
    classes = [type(layer) for layer in layers]
    for layer, kind in zip(layers, classes, strict=True):
        layer.__class__ = type(kind.__name__, (_InFloat32, kind), {})
    try:
        yield model
    finally:
        for layer, kind in zip(layers, classes, strict=True):
            layer.__class__ = kind


class _InFloat32(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            out: Tensor = super().forward(images.float())
        return out


def choose_format(
    model: nn.Module, batch: Tensor, precision: Precision, *, trials: int = 1, recorded: ComputeFormat | None = None
) -> ComputeFormat:
    """Return the format called ``precision``; for ``auto``, time a few training steps and return the fastest format.

    A named precision is used with channels last and without timing, so the same command gives the same weights on the
    same machine. ``auto`` may choose differently on a busy machine; results record which format was used. The model,
    its batch-norm statistics and the random number generators are left unchanged. Models for which channels last gives
    wrong gradients (:func:`corrupts_channels_last`) use channels first.

    Args:
        model: maps ``batch`` to logits, on the training device.
        batch: float32 ``(B, C, H, W)``, of the size used in training, because the fastest format depends on the size.
        precision: ``fp32``, ``bf16`` or ``auto``.
        trials: number of steps to time after one warm-up step; a format whose first step takes twice the best time
            is dropped.
        recorded: format of an earlier training of the same trial, which ``auto`` keeps if the hardware has it.
    """
    corrupts = batch.device.type == "cpu" and corrupts_channels_last(model)
    if precision != "auto":
        return ComputeFormat(precision, channels_last=not corrupts)
    if corrupts:
        return ComputeFormat("fp32", channels_last=False)
    if recorded is not None and (recorded.precision == "fp32" or bf16_in_hardware(batch.device)):
        return recorded
    # bf16 with channels first is not tried: oneDNN reorders every tensor, which makes a step many times slower.
    bf16, fp32 = ComputeFormat("bf16", channels_last=True), ComputeFormat("fp32", channels_last=True)
    seconds = {}
    with torch.random.fork_rng(devices=[batch.device] if batch.device.type == "cuda" else []):
        if bf16_in_hardware(batch.device):
            seconds[bf16] = _step_seconds(model, batch, bf16, trials, give_up=math.inf)
        seconds[fp32] = _step_seconds(model, batch, fp32, trials, give_up=2 * seconds.get(bf16, math.inf))
        if math.isfinite(seconds[fp32]):
            # The layouts differ by tens of percent, so the second layout cannot win if float32 takes twice as long.
            channels_first = ComputeFormat("fp32", channels_last=False)
            seconds[channels_first] = _step_seconds(
                model, batch, channels_first, trials, give_up=2 * min(seconds.values())
            )
    return min(seconds, key=seconds.__getitem__)


def corrupts_channels_last(model: nn.Module) -> bool:
    """Return whether the backward pass of a model on the CPU is wrong with channels last.

    For a 1 x 1 convolution with a stride and fewer than 16 input channels, oneDNN writes past the end of a buffer:
    gradients are wrong or the process crashes [S: oneDNN issue 6035, seen with torch 2.14.1]. The first layer of
    MobileOne and RepVGG is such a convolution.
    """
    return any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels < 16 * layer.groups
        and not 1 < layer.groups == layer.in_channels
        for layer in model.modules()
    )


def _step_seconds(model: nn.Module, batch: Tensor, candidate: ComputeFormat, trials: int, give_up: float) -> float:
    trained = copy.deepcopy(model).train().to(memory_format=memory_format(candidate))
    images = batch.to(memory_format=memory_format(candidate))
    target = torch.zeros((batch.shape[0], *batch.shape[2:]), dtype=torch.int64, device=batch.device)
    best = math.inf
    for trial in range(trials + 1):
        start = time.perf_counter()
        with autocast(candidate, batch.device), depthwise_in_float32(trained):
            logits = trained(images)
        torch.autograd.backward(F.cross_entropy(logits.float(), target))
        if batch.device.type == "cuda":
            torch.cuda.synchronize(batch.device)
        seconds = time.perf_counter() - start
        if seconds > give_up:
            break
        if trial:
            best = min(best, seconds)
    return best


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
