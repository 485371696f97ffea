"""The forms that a folded model can take on a device: layouts, number formats, fused layers, streams, GPU graphs."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from threading import Thread
from typing import Any, Literal
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from zoo.blocks import MCSA, HybridConv2d
from zoo.deploy.folding import is_plain, record_flow, replace_module
from zoo.deploy.fused import (
    NO_ACTIVATION,
    FoldedHybridConv2d,
    FusedMCSA,
    HybridForm,
    PackedConv2d,
    can_pack,
    hybrid_forms_of,
    move_activations,
    packing_available,
    replace_doubling_blocks,
)
from zoo.training.compute import bf16_in_hardware

Precision = Literal["fp32", "bf16"]
UNCHANGED = "unchanged"
"""Name of the form that runs the unchanged model."""
IMAGES_PER_PASS = (1, 2, 4)
"""Images per pass for larger batches; a few images fit in the cache."""
MAX_TIME_RATIO = 1.3
"""Candidates whose first timed pass took longer than this times the best one are not timed again."""


@dataclass(frozen=True)
class TorchOptions:
    """How torch runs a folded model.

    Attributes:
        precision: precision of weights and activations, ``fp32`` or ``bf16``; image and logits are always float32.
        channels_last: memory layout NHWC instead of NCHW.
        fused: fuse activations into convolutions, and use the fast forms of hybrid convolutions, MCSA and smp decoders.
        images: images of a batch per forward pass; 0 for all.
    """

    precision: Precision = "fp32"
    channels_last: bool = True
    fused: bool = True
    images: int = 0

    @property
    def name(self) -> str:
        """Return the options in words, for reports."""
        parts = ["torch", self.precision, "channels last" if self.channels_last else "channels first"]
        if self.fused:
            parts.append("fused")
        if self.images:
            parts.append(f"{self.images} at once")
        return ", ".join(parts)

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of weights and activations."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @property
    def memory_format(self) -> torch.memory_format:
        """Return the memory layout as torch names it."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


class TorchForm(nn.Module):
    """A folded model with :class:`TorchOptions` applied, with the model's interface.

    Args:
        model: the folded model; not copied.
        options: the options that were applied to it.

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

    def with_images(self, images: int) -> TorchForm:
        """Return the same form with another number of images per pass; the weights are shared."""
        return TorchForm(self.model, replace(self.options, images=images)).eval()


class ParallelForm(nn.Module):
    """A form that runs on several parts of a batch in parallel, each part on its own cores.

    Threads that share an operation wait for each other when it ends and compete for the cache. Threads with separate
    images do neither.

    Args:
        form: the form to run; all parts share its weights.
        streams: number of parts that run in parallel.
        threads: threads per part.
        images: largest number of images in a part; a small batch is divided evenly.

    Shape:
        As ``form``, without gradients.
    """

    def __init__(self, form: nn.Module, *, streams: int, threads: int, images: int) -> None:
        super().__init__()
        self.form = form
        self.streams = streams
        self.threads = threads
        self.images = images
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        size = min(self.images, math.ceil(len(x) / self.streams))
        parts = torch.split(x, size)
        if len(parts) == 1:
            return self._run_part(x)
        return torch.cat(list(self._executor().map(self._run_part, parts)))

    def _run_part(self, x: Tensor) -> Tensor:
        # The gradient mode is set per thread.
        with torch.no_grad():
            logits: Tensor = self.form(x)
        return logits

    def _executor(self) -> ThreadPoolExecutor:
        # Threads do not survive a fork.
        if self._pool is None or self._pool[0] != os.getpid():
            start = partial(_use_threads, self.threads, torch.get_num_threads())
            self._pool = os.getpid(), ThreadPoolExecutor(self.streams, "zoo-images", start)
        return self._pool[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None}


def _use_threads(count: int, elsewhere: int) -> None:
    """Let the operations of this thread use ``count`` threads, and keep ``elsewhere`` for all other threads.

    torch keeps one number per thread and a default, which a thread copies when it first reads its number. Setting the
    number of a thread also sets the default.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)
    restorer = Thread(target=torch.set_num_threads, args=(elsewhere,))
    restorer.start()
    restorer.join()


class CompiledForm(nn.Module):
    """A form compiled by ``torch.compile``, for a GPU.

    Args:
        form: the form to compile.
    """

    def __init__(self, form: TorchForm) -> None:
        super().__init__()
        self.form = form
        self._compiled = torch.compile(form, dynamic=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self._compiled(x)
        return logits


class GraphedForm(nn.Module):
    """A form recorded as a CUDA graph and replayed, which launches all kernels of a pass at once.

    Args:
        form: the form to record.
        example: ``(B, C, H, W)`` on the GPU; other shapes run the form itself.

    Shape:
        As ``form``. The logits are a copy, which the next replay does not change.
    """

    def __init__(self, form: TorchForm, example: Tensor) -> None:
        super().__init__()
        self.form = form
        self._input = example.clone()
        with torch.no_grad():
            side = torch.cuda.Stream(example.device)  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream(example.device))
            with torch.cuda.stream(side):
                for _ in range(3):
                    form(self._input)
            torch.cuda.current_stream(example.device).wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._output: Tensor = form(self._input)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        if x.shape != self._input.shape:
            logits: Tensor = self.form(x)
            return logits
        self._input.copy_(x)
        self._graph.replay()
        return self._output.clone()


def make_torch_form(
    folded: nn.Module, example: Tensor, options: TorchOptions, hybrids: Mapping[str, HybridForm]
) -> TorchForm:
    """Build a form of a folded model, which is not changed.

    Args:
        folded: a folded model in eval mode.
        example: ``(B, C, H, W)``; one image is used.
        options: what to apply.
        hybrids: form of each hybrid convolution by name; the others use two convolutions.
    """
    with torch.no_grad():
        model = copy.deepcopy(folded).to(dtype=options.dtype).to(memory_format=options.memory_format)
        image = example[:1].to(dtype=options.dtype, memory_format=options.memory_format)
        if options.fused:
            _fuse(model, image, hybrids)
    return TorchForm(model, options).eval()


def _fuse(model: nn.Module, image: Tensor, hybrids: Mapping[str, HybridForm]) -> None:
    packed = image.device.type == "cpu" and packing_available(image.dtype)
    if packed:
        replace_doubling_blocks(model, image)
    flow = record_flow(model, image, (nn.Conv2d, nn.ReLU, nn.ReLU6, HybridConv2d))
    modules = dict(model.named_modules())
    mixed = {name for name, module in modules.items() if is_plain(module, HybridConv2d)}
    plain = {name for name, module in modules.items() if can_pack(module)} if packed else set()
    activations = move_activations(model, flow, mixed | plain)
    for name, module in modules.items():
        activation = activations.get(name, NO_ACTIVATION)
        if name in plain:
            assert isinstance(module, nn.Conv2d)
            replace_module(model, name, PackedConv2d(module, activation))
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
    """Time the forms of each hybrid convolution and return the fastest of each, by name.

    Args:
        folded: a folded model in eval mode.
        example: ``(B, C, H, W)``; one image is used.
        precision: number format to compute in.
    """
    options = TorchOptions(precision)
    flow = record_flow(folded, example[:1], (HybridConv2d,))
    packed = example.device.type == "cpu" and packing_available(options.dtype)
    chosen: dict[str, HybridForm] = {}
    known: dict[tuple[object, ...], HybridForm] = {}
    for name, calls in flow.calls.items():
        layer = folded.get_submodule(name)
        if not is_plain(layer, HybridConv2d) or not calls[0].shape:
            continue
        assert isinstance(layer, HybridConv2d)
        # The time depends on the geometry of a layer and the size of its map, not on its weights.
        geometry = (repr(layer), tuple(layer.weight.shape), calls[0].shape)
        if geometry not in known:
            cast = copy.deepcopy(layer).to(dtype=options.dtype).to(memory_format=torch.channels_last)
            x = torch.randn(calls[0].shape, device=example.device).to(options.dtype, memory_format=torch.channels_last)
            forms = {form: FoldedHybridConv2d(cast, form, packed=packed) for form in hybrid_forms_of(layer)}
            seconds = time_interleaved(
                {form: partial(module, x) for form, module in forms.items()},
                example.device,
                seconds=0.2,
                max_passes=7,
            )
            known[geometry] = min(forms, key=seconds.__getitem__)
        chosen[name] = known[geometry]
    return chosen


@dataclass(frozen=True)
class Candidate:
    """A form that could be chosen.

    Attributes:
        name: the form in words.
        precision: ``fp32`` or ``bf16``.
        build: function that builds the form; an error it raises is the reason why the form cannot be used.
        any_size: whether the form takes sizes other than the example's.
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
    hybrids: Mapping[str, Mapping[str, HybridForm]],
) -> list[Candidate]:
    """Return all forms for the example's device, including the unchanged model.

    Args:
        model: the unchanged model.
        folded: the folded model.
        example: float32 ``(B, C, H, W)``.
        precisions: number formats that may be used.
        hybrids: form of each hybrid convolution, for each precision.
    """
    made: WeakValueDictionary[TorchOptions, TorchForm] = WeakValueDictionary()

    def torch_form(options: TorchOptions) -> TorchForm:
        form = made.get(options)
        if form is None and options.images:
            form = torch_form(replace(options, images=0)).with_images(options.images)
        elif form is None:
            form = make_torch_form(folded, example, options, hybrids.get(options.precision, {}))
        made[options] = form
        return form

    def add(name: str, options: TorchOptions, wrap: Callable[[TorchForm], nn.Module]) -> None:
        found.append(Candidate(f"{name}, {options.name}", options.precision, lambda: wrap(torch_form(options))))

    def add_torch(options: TorchOptions) -> None:
        found.append(Candidate(options.name, options.precision, lambda: torch_form(options)))

    def unchanged() -> nn.Module:
        return TorchForm(copy.deepcopy(model), TorchOptions(channels_last=False, fused=False)).eval()

    found = [Candidate(UNCHANGED, "fp32", unchanged)]
    on_cpu = example.device.type == "cpu"
    threads = torch.get_num_threads()
    streams = min(threads, len(example)) if on_cpu else 1
    usable = [precision for precision in precisions if precision == "fp32" or bf16_in_hardware(example.device)]
    for fused in [TorchOptions(precision) for precision in usable]:
        add_torch(fused)
        for count in [count for count in IMAGES_PER_PASS if count * streams <= len(example) and count < len(example)]:
            if streams == 1:
                add_torch(replace(fused, images=count))
            else:
                parallel = partial(ParallelForm, streams=streams, threads=threads // streams, images=count)
                add(f"{streams} streams of {count}", fused, parallel)
        add_torch(replace(fused, fused=False))
        if example.device.type == "cuda":
            add("torch.compile", fused, CompiledForm)
            add("CUDA graph", fused, lambda form: GraphedForm(form, example))
    if on_cpu:
        found += _backends(folded, example)
    return [one for one in found if one.precision in precisions]


def _backends(folded: nn.Module, example: Tensor) -> list[Candidate]:
    # The graphs have a fixed size: backends plan their memory for it.
    @cache
    def graph() -> Any:
        from zoo.deploy.backends import export_onnx

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


def time_interleaved(
    candidates: Mapping[str, Callable[[], object]],
    device: torch.device,
    *,
    seconds: float = 2.0,
    max_passes: int = 20,
    min_passes: int = 3,
) -> dict[str, float]:
    """Return the shortest time of each candidate in seconds.

    The candidates are timed in rounds, so that other load on the machine affects all equally. Load only adds time, so
    the minimum is reported.

    Args:
        candidates: functions to time, by name.
        device: the device that they compute on.
        seconds: time for all rounds after the first.
        max_passes: maximum number of rounds.
        min_passes: minimum number of rounds.
    """
    if not candidates:
        return {}
    times: dict[str, list[float]] = {}
    for name, run in candidates.items():
        run()
        times[name] = [_seconds(run, device)]
    best = min(values[0] for values in times.values())
    near = {name: run for name, run in candidates.items() if times[name][0] <= MAX_TIME_RATIO * best}
    turns = 1
    started = time.perf_counter()
    while len(near) > 1 and turns < max_passes and (turns < min_passes or time.perf_counter() - started < seconds):
        for name, run in near.items():
            times[name].append(_seconds(run, device))
        turns += 1
    return {name: min(values) for name, values in times.items()}


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
