"""Folding: what evaluation can leave out of a model, on a copy of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from zoo.blocks import HybridConv2d
from zoo.deploy.batch_norm import CONVOLUTIONS, NORMS, fold_batch_norms
from zoo.deploy.dead_taps import fold_dead_taps
from zoo.deploy.flow import record_flow
from zoo.deploy.hybrid import plain_convolution
from zoo.deploy.surgery import is_plain, replace_module
from zoo.errors import ModelError


@dataclass(frozen=True)
class Folded:
    """A model with its batch normalisation folded away.

    Attributes:
        model: a copy; right for every size that the model takes, in evaluation alone.
        batch_norms: folded into convolutions.
        dead_taps: rate, height and width of the map of each convolution that only touched its centre.
    """

    model: nn.Module
    batch_norms: int
    dead_taps: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """What a user should know about the model at the size of the example."""
        if not self.dead_taps:
            return []
        rates = ", ".join(str(rate) for rate in sorted({rate for rate, _, _ in self.dead_taps}))
        height, width = self.dead_taps[0][1:]
        return [
            f"the pyramid of dilated convolutions (ASPP) is degenerate at this size: its map is {height}x{width}, and "
            f"rates {rates} read nothing but their centre pixel; larger patches or a smaller output stride use them"
        ]


def fold(model: nn.Module, example: Tensor) -> Folded:
    """Fold what is exact in evaluation: batch normalisation into convolutions, dead taps into their centre.

    Hybrid convolutions of a single operation become ordinary ones; combinations stay, for each form to choose its own.

    How the layers are connected is seen in one run on the example, not in the code, so that any module can be folded;
    what is not understood is left as it is. The model itself is not changed.

    Args:
        model: in eval mode.
        example: float32 ``(B, C, H, W)``, of which one image is used. Dead taps are those of its size; at a larger
            size the whole convolution is computed.

    Raises:
        ModelError: if the model is in training mode, or cannot run on the example.
    """
    check_evaluates(model)
    with torch.no_grad():
        folded = copy.deepcopy(model).requires_grad_(False)
        leaves = (*CONVOLUTIONS, *NORMS)
        for name, module in list(folded.named_modules()):
            plain = plain_convolution(module) if is_plain(module, HybridConv2d) else None
            if plain is not None:
                replace_module(folded, name, plain)
        norms = fold_batch_norms(folded, record_flow(folded, example[:1], leaves))
        dead = fold_dead_taps(folded, record_flow(folded, example[:1], leaves))
    return Folded(folded, norms, dead)


def check_evaluates(model: nn.Module) -> None:
    """Refuse a model in training mode, whole or in part.

    Raises:
        ModelError: naming the part.
    """
    training = next((name for name, module in model.named_modules() if module.training), None)
    if training is not None:
        part = f"its part {training!r} is" if training else "it is"
        raise ModelError(
            f"cannot be optimised while {part} in training mode: batch normalisation still depends on the batch",
            where=type(model).__name__,
            hint="Call model.eval() first",
        )
