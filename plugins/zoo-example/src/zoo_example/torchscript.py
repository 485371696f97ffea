"""A format of ``zoo export``: TorchScript, which LibTorch loads in C++ without Python."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

_METADATA = "zoo.json"


def write(model: nn.Module, sample: Tensor, texts: Mapping[str, str], path: Path) -> None:
    """Trace the model and write it with its metadata.

    A trace holds what the sample did. A model that decides by the size of its input is then wrong at other sizes; zoo
    compares them before it keeps the file.
    """
    traced = torch.jit.trace(model, sample, check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, path, _extra_files={_METADATA: json.dumps(dict(texts))})


def read(path: Path) -> tuple[Callable[[Tensor], Tensor], dict[str, str]]:
    """Return the model of a file, as a function of images, and its metadata."""
    extra = {_METADATA: ""}
    model = torch.jit.load(path, _extra_files=extra)  # type: ignore[no-untyped-call]
    return model, json.loads(extra[_METADATA])
