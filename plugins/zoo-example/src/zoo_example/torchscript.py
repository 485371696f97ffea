"""A format of ``zoo export``: TorchScript, which LibTorch loads in C++ without Python."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

_METADATA = "zoo.json"


def write(model: nn.Module, sample: Tensor, texts: Mapping[str, str], path: Path) -> None:
    """Trace the model and write it with its metadata.

    A trace records only the operations on the sample. A model with branches that depend on the input size is wrong at
    other sizes; zoo compares several sizes before it keeps the file.
    """
    traced = torch.jit.trace(model, sample, check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, path, _extra_files={_METADATA: json.dumps(dict(texts))})


def read(path: Path) -> tuple[Callable[[Tensor], Tensor], dict[str, str]]:
    """Return the model of a file, as a function of images, and the metadata of the file."""
    extra = {_METADATA: ""}
    model = torch.jit.load(path, _extra_files=extra)  # type: ignore[no-untyped-call]
    return model, json.loads(extra[_METADATA])
