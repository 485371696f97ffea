"""What was chosen by measuring, kept so that it is measured once for a machine, its software, a model and a shape."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo import __version__
from zoo.deploy.allocator import thresholds_are_raised
from zoo.errors import ZooError
from zoo.files import cache_folder, write_json_atomic
from zoo.training.compute import describe_environment

FORMAT = 2
PACKAGES = ("torch", "onnxruntime", "openvino", "onnx")


def signature(model: nn.Module, example: Tensor, precision: str) -> dict[str, Any]:
    """Everything that decides which form is fastest, weights' values left out, as plain JSON values.

    Args:
        model: as it was given.
        example: ``(B, C, H, W)``.
        precision: what was asked for.
    """
    environment = describe_environment(example.device)
    structure = hashlib.sha256()
    for name, module in model.named_modules():
        structure.update(
            f"{name} {type(module).__module__}.{type(module).__qualname__} {module.extra_repr()}\n".encode()
        )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        structure.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
    return {
        "format": FORMAT,
        "zoo": __version__,
        "machine": {
            "name": platform.node(),
            "processor": environment.processor,
            "device": environment.device_name,
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "allocator": thresholds_are_raised(),
        },
        "versions": {package: _version(package) for package in PACKAGES},
        "model": structure.hexdigest(),
        "shape": list(example.shape),
        "precision": precision,
    }


def recall(key: dict[str, Any]) -> dict[str, Any] | None:
    """What :func:`remember` kept for ``key``; ``None`` if there is nothing, or nothing that can be trusted.

    A file of another machine or version has another name, and one that was copied here says whose it is.
    """
    with suppress(OSError, ValueError):
        kept = json.loads(_path(key).read_text(encoding="utf-8"))
        if isinstance(kept, dict) and kept.get("key") == key and isinstance(kept.get("choice"), dict):
            choice: dict[str, Any] = kept["choice"]
            return choice
    return None


def remember(key: dict[str, Any], choice: dict[str, Any]) -> str | None:
    """Keep ``choice`` for ``key``.

    Returns:
        ``None`` when it is kept, otherwise why it is not: a full disk is no reason to fail.
    """
    try:
        write_json_atomic(_path(key), {"key": key, "choice": choice})
    except ZooError as error:
        return str(error)
    return None


def _path(key: dict[str, Any]) -> Path:
    text = json.dumps(key, sort_keys=True)
    return cache_folder("deploy") / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
