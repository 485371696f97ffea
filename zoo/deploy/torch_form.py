"""A folded model in the forms that torch can run it in: layout, number format, fused operators, images at once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.blocks import MCSA, HybridConv2d
from zoo.deploy.attention import FusedMCSA
from zoo.deploy.dead_taps import CentreTapConv2d
from zoo.deploy.flow import record_flow
from zoo.deploy.fused import (
    NO_ACTIVATION,
    PackedConv2d,
    PackedConvTranspose2d,
    give_activations,
    is_upsampling,
    packable,
    packing_works,
)
from zoo.deploy.hybrid import FoldedHybridConv2d, HybridForm, forms_of
from zoo.deploy.surgery import is_plain, replace_module
from zoo.deploy.timing import time_interleaved
from zoo.deploy.upsampling import fuse_doubling

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class TorchOptions:
    """How torch runs a folded model.

    Attributes:
        precision: of weights and activations, ``fp32`` or ``bf16``; image and logits are float32 in either.
        channels_last: memory layout NHWC instead of NCHW.
        fused: activations fused into convolutions, hybrid convolutions and MCSA in their fast forms.
        images: of a batch that go through the model at once; 0 is all of them.
    """

    precision: Precision = "fp32"
    channels_last: bool = True
    fused: bool = True
    images: int = 0

    @property
    def name(self) -> str:
        """In words, for reports."""
        words = ["torch", self.precision, "channels last" if self.channels_last else "channels first"]
        if self.fused:
            words.append("fused")
        if self.images:
            words.append(f"{self.images} at once")
        return ", ".join(words)

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout as torch names it."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


class TorchForm(nn.Module):
    """A folded model as :class:`TorchOptions` say, behind the model's interface.

    Args:
        model: folded; taken over, not copied.
        options: what was done to it.

    Shape:
        float32 ``(B, C, H, W)`` -> float32 logits, for any size that the model takes.
    """

    def __init__(self, model: nn.Module, options: TorchOptions) -> None:
        super().__init__()
        self.model = model
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        step = self.options.images or len(x)
        if len(x) <= step:
            return self._run(x)
        first = self._run(x[:step])
        logits = first.new_empty((len(x), *first.shape[1:]))
        logits[:step] = first
        for start in range(step, len(x), step):
            logits[start : start + step] = self._run(x[start : start + step])
        return logits

    def _run(self, x: Tensor) -> Tensor:
        images = x.to(dtype=self.options.dtype, memory_format=self.options.memory_format)
        logits: Tensor = self.model(images)
        return logits.to(torch.float32, memory_format=torch.contiguous_format)

    def at_once(self, images: int) -> TorchForm:
        """The same model with another number of images at once; the weights are shared."""
        return TorchForm(self.model, replace(self.options, images=images)).eval()


class ThreadedForm(nn.Module):
    """A form that runs with its own number of threads, and leaves torch's as it was.

    Args:
        form: to run.
        threads: to run it with.
    """

    def __init__(self, form: nn.Module, threads: int) -> None:
        super().__init__()
        self.form = form
        self.threads = threads
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            logits: Tensor = self.form(x)
        finally:
            torch.set_num_threads(before)
        return logits


def make_torch_form(
    folded: nn.Module, example: Tensor, options: TorchOptions, hybrids: Mapping[str, HybridForm]
) -> TorchForm:
    """Build a form of a folded model, which is left as it was.

    Args:
        folded: in eval mode.
        example: ``(B, C, H, W)``, of which one image is used.
        options: what to do.
        hybrids: the form of each hybrid convolution by its name; those not named take two convolutions.
    """
    with torch.no_grad():
        model = copy.deepcopy(folded).to(dtype=options.dtype).to(memory_format=options.memory_format)
        image = example[:1].to(dtype=options.dtype, memory_format=options.memory_format)
        if options.fused:
            _fuse(model, image, hybrids)
    return TorchForm(model, options).eval()


def _fuse(model: nn.Module, image: Tensor, hybrids: Mapping[str, HybridForm]) -> None:
    packed = image.device.type == "cpu" and packing_works()
    if packed:
        fuse_doubling(model, image)
    # What follows a convolution with a dead tap follows it at every size, so its parts must not take it over.
    flow = record_flow(model, image, (nn.Conv2d, nn.ReLU, nn.ReLU6, HybridConv2d, CentreTapConv2d))
    modules = dict(model.named_modules())
    mixed = {name for name, module in modules.items() if is_plain(module, HybridConv2d)}
    plain = {name for name, module in modules.items() if packable(module)} if packed else set()
    activations = give_activations(model, flow, mixed | plain)
    for name, module in modules.items():
        activation = activations.get(name, NO_ACTIVATION)
        if name in plain:
            assert isinstance(module, nn.Conv2d)
            replace_module(model, name, PackedConv2d(module, activation))
        elif packed and is_upsampling(module):
            assert isinstance(module, nn.ConvTranspose2d)
            replace_module(model, name, PackedConvTranspose2d(module))
        elif name in mixed:
            assert isinstance(module, HybridConv2d)
            form = hybrids.get(name, "two")
            replace_module(model, name, FoldedHybridConv2d(module, form, activation, packed=packed))
        elif is_plain(module, MCSA):
            assert isinstance(module, MCSA)
            replace_module(model, name, FusedMCSA(module))
    model.eval()


@torch.inference_mode()
def choose_hybrid_forms(folded: nn.Module, example: Tensor, precision: Precision) -> dict[str, HybridForm]:
    """The fastest form of each hybrid convolution, timed on one image of the example's size.

    Args:
        folded: in eval mode.
        example: ``(B, C, H, W)``, of which one image is used.
        precision: to compute in.
    """
    options = TorchOptions(precision)
    flow = record_flow(folded, example[:1], (HybridConv2d,))
    packed = example.device.type == "cpu" and packing_works()
    chosen: dict[str, HybridForm] = {}
    known: dict[tuple[object, ...], HybridForm] = {}
    for name, calls in flow.calls.items():
        layer = folded.get_submodule(name)
        if not is_plain(layer, HybridConv2d) or not calls[0].shape:
            continue
        assert isinstance(layer, HybridConv2d)
        # Layers of one geometry on maps of one size take equally long, whatever their weights.
        geometry = (repr(layer), tuple(layer.weight.shape), calls[0].shape)
        if geometry not in known:
            cast = copy.deepcopy(layer).to(dtype=options.dtype).to(memory_format=torch.channels_last)
            x = torch.randn(calls[0].shape, device=example.device).to(options.dtype, memory_format=torch.channels_last)
            forms = {form: FoldedHybridConv2d(cast, form, packed=packed) for form in forms_of(layer)}
            seconds = time_interleaved(
                {form: partial(module, x) for form, module in forms.items()},
                example.device,
                seconds=0.2,
                most=7,
            )
            known[geometry] = min(forms, key=seconds.__getitem__)
        chosen[name] = known[geometry]
    return chosen
