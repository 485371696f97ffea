"""The forms that a model could take on a device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from zoo.deploy.gpu import CompiledForm, GraphedForm
from zoo.deploy.hybrid import HybridForm
from zoo.deploy.parallel import ParallelForm
from zoo.deploy.torch_form import Precision, ThreadedForm, TorchForm, TorchOptions, make_torch_form
from zoo.training.compute import bf16_in_hardware

AS_IT_WAS = "as it was"
AT_ONCE = (1, 2, 4)
"""Images that go through the model together, where a batch has more: fewer of them stay in the cache."""

MANY_THREADS = 4
"""From so many on, half of them are tried too: two of a core share its arithmetic, and small maps keep few busy."""


@dataclass(frozen=True)
class Candidate:
    """A form that could be chosen.

    Attributes:
        name: in words.
        precision: ``fp32`` or ``bf16``.
        build: makes it; may fail with any error, which is the reason that it cannot be used.
        any_size: whether it takes other sizes than the example's.
    """

    name: str
    precision: Precision
    build: Callable[[], nn.Module]
    any_size: bool = True


def candidates_for(
    model: nn.Module,
    folded: nn.Module,
    example: Tensor,
    precisions: tuple[Precision, ...],
    hybrids: Mapping[Precision, Mapping[str, HybridForm]],
) -> list[Candidate]:
    """All forms for the example's device, the model as it was among them.

    Args:
        model: as it was given.
        folded: the model, folded.
        example: float32 ``(B, C, H, W)``.
        precisions: that may be used.
        hybrids: form of each hybrid convolution, for each precision.
    """

    made: WeakValueDictionary[TorchOptions, TorchForm] = WeakValueDictionary()

    def torch_form(options: TorchOptions) -> TorchForm:
        form = made.get(options)
        if form is None and options.images:
            form = torch_form(replace(options, images=0)).at_once(options.images)
        elif form is None:
            form = make_torch_form(folded, example, options, hybrids.get(options.precision, {}))
        made[options] = form
        return form

    def as_it_was() -> nn.Module:
        return TorchForm(copy.deepcopy(model), TorchOptions(channels_last=False, fused=False)).eval()

    found = [Candidate(AS_IT_WAS, "fp32", as_it_was)]
    threads = torch.get_num_threads()
    streams = min(threads, len(example)) if example.device.type == "cpu" else 1
    options = [TorchOptions("fp32", channels_last=False, fused=False), TorchOptions("fp32", fused=False)]
    if "bf16" in precisions and bf16_in_hardware(example.device):
        options.append(TorchOptions("bf16", fused=False))
    for one in [option for option in options if option.precision in precisions]:
        if one.channels_last:
            fused = replace(one, fused=True)
            found.append(_torch(fused, torch_form))
            for count in [count for count in AT_ONCE if count * streams <= len(example) and count < len(example)]:
                if streams == 1:
                    found.append(_torch(replace(fused, images=count), torch_form))
                else:
                    beside = partial(ParallelForm, streams=streams, threads=threads // streams, images=count)
                    found.append(_wrapped(f"{streams} streams of {count}", fused, torch_form, beside))
        found.append(_torch(one, torch_form))
    if example.device.type == "cpu" and threads >= MANY_THREADS:
        half = partial(ThreadedForm, threads=threads // 2)
        found += [
            _wrapped(f"{threads // 2} threads", replace(one, fused=True), torch_form, half) for one in options[1:]
        ]
    if example.device.type == "cuda":
        for one in options[1:]:
            if one.precision in precisions:
                fused = replace(one, fused=True)
                found.append(_wrapped("torch.compile", fused, torch_form, CompiledForm))
                found.append(_wrapped("CUDA graph", fused, torch_form, lambda form: GraphedForm(form, example)))
    if example.device.type == "cpu":
        found += _backends(folded, example, precisions)
    return [one for one in found if one.precision in precisions]


def _torch(options: TorchOptions, build: Callable[[TorchOptions], TorchForm]) -> Candidate:
    return Candidate(options.name, options.precision, lambda: build(options))


def _wrapped(
    name: str,
    options: TorchOptions,
    build: Callable[[TorchOptions], TorchForm],
    wrap: Callable[[TorchForm], nn.Module],
    *,
    any_size: bool = True,
) -> Candidate:
    return Candidate(f"{name}, {options.name}", options.precision, lambda: wrap(build(options)), any_size)


def _backends(folded: nn.Module, example: Tensor, precisions: tuple[Precision, ...]) -> list[Candidate]:
    # Graphs of one size: backends plan their memory for it, and a trace follows the branch that the example takes, so
    # that one with dead taps would be wrong at another.
    @cache
    def graph() -> Any:
        from zoo.deploy.onnx_graph import export_onnx

        return export_onnx(folded, example[:2], dynamic=False)

    def onnx_runtime() -> nn.Module:
        from zoo.deploy.backends import OnnxRuntimeModule

        return OnnxRuntimeModule(folded, example, dynamic=False, graph=graph())

    def openvino(precision: Precision) -> nn.Module:
        from zoo.deploy.backends import OpenVinoModule

        return OpenVinoModule(folded, example, precision=precision, dynamic=False, graph=graph())

    found = [
        Candidate("ONNX Runtime, fp32", "fp32", onnx_runtime, any_size=False),
        Candidate("OpenVINO, fp32", "fp32", lambda: openvino("fp32"), any_size=False),
    ]
    if bf16_in_hardware(torch.device("cpu")):
        found.append(Candidate("OpenVINO, bf16", "bf16", lambda: openvino("bf16"), any_size=False))
    return found
