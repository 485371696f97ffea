"""Cache of measured choices, one for each machine, its software, model and input shape."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo import __version__
from zoo.deploy.fused import HybridForm
from zoo.errors import ZooError
from zoo.files import cache_folder
from zoo.machine import cores_in_use, is_busy, thresholds_are_raised
from zoo.schema import read_json, to_plain, write_json
from zoo.training.compute import describe_environment

FORMAT = 3
PACKAGES = ("torch", "onnxruntime", "openvino", "onnx")


@dataclass(frozen=True)
class MachineKey:
    """The machine on which a choice was measured."""

    name: str
    processor: str
    device: str
    cores: int | None
    threads: int
    allocator: bool


@dataclass(frozen=True)
class CacheKey:
    """Everything that determines which form is fastest; the values of the weights do not.

    Attributes:
        format: version of the cache file.
        zoo: version of landslide-zoo.
        machine: the machine.
        versions: version of each package that runs models; ``None`` if it is not installed.
        model: sha256 over the model's structure and the shapes of its parameters.
        shape: shape of the example.
        precision: requested precision.
    """

    format: int
    zoo: str
    machine: MachineKey
    versions: dict[str, str | None]
    model: str
    shape: tuple[int, ...]
    precision: str


@dataclass(frozen=True)
class TunedChoice:
    """The outcome of a measurement.

    Attributes:
        ranking: name and shortest seconds of each form, fastest first.
        hybrids: form of each hybrid convolution by name, for each precision.
        cores_in_use: cores that other programs used; ``None`` if the system does not report it.
    """

    ranking: tuple[tuple[str, float], ...]
    hybrids: dict[str, dict[str, HybridForm]]
    cores_in_use: float | None = None


@dataclass(frozen=True)
class _CacheFile:
    key: CacheKey
    choice: TunedChoice


def cache_key(model: nn.Module, example: Tensor, precision: str) -> CacheKey:
    """Return the key of a measurement.

    Args:
        model: the unchanged model.
        example: ``(B, C, H, W)``.
        precision: requested precision.
    """
    environment = describe_environment(example.device)
    structure = hashlib.sha256()
    for name, module in model.named_modules():
        structure.update(
            f"{name} {type(module).__module__}.{type(module).__qualname__} {module.extra_repr()}\n".encode()
        )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        structure.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
    machine = MachineKey(
        name=platform.node(),
        processor=environment.processor,
        device=environment.device_name,
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        allocator=thresholds_are_raised(),
    )
    versions = {package: _version(package) for package in PACKAGES}
    return CacheKey(FORMAT, __version__, machine, versions, structure.hexdigest(), tuple(example.shape), precision)


def load_choice(key: CacheKey) -> TunedChoice | None:
    """Return the choice stored for ``key``; ``None`` if it has to be measured.

    It has to be measured if there is none, if the file is damaged or from another machine, or if the choice was
    measured while other programs ran and the machine is idle now.
    """
    try:
        stored = read_json(_path(key), _CacheFile)
    except (FileNotFoundError, ZooError):
        return None
    if stored.key != key or (is_busy(stored.choice.cores_in_use) and not is_busy(cores_in_use())):
        return None
    return stored.choice


def store_choice(key: CacheKey, choice: TunedChoice) -> str | None:
    """Store ``choice`` for ``key``.

    Returns:
        ``None`` if it was stored, otherwise the reason why not; a full disk must not stop the work.
    """
    try:
        write_json(_path(key), _CacheFile(key, choice))
    except ZooError as error:
        return str(error)
    return None


def _path(key: CacheKey) -> Path:
    text = json.dumps(to_plain(key), sort_keys=True)
    return cache_folder("deploy") / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
