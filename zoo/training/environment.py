"""What a result has to say about the machine and the software that made it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from zoo import __version__
from zoo.errors import ConfigError

PACKAGES = ("torch", "torchgeo", "lightning", "segmentation-models-pytorch", "timm", "albumentations", "numpy", "scipy")


def resolve_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is the first GPU there is, else the CPU.

    Raises:
        ConfigError: if the name is no device, or this machine has none such.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"{name!r} is no device", hint="Use auto, cpu, cuda, cuda:1 or mps") from None
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise ConfigError(f"this machine has no device {name!r}", hint="Use --device auto or --device cpu")
    return device


def describe_environment(device: torch.device) -> dict[str, object]:
    """Versions, processor, threads and device as plain JSON values."""
    versions = {"landslide-zoo": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
