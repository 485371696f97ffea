"""Exact re-estimation of the running statistics of normalisation layers on unlabelled images, at any batch size.

In training mode a batch-norm layer normalises by its batch, so the input of the next layer depends on how images are
batched. Here, layers are processed one by one in the order in which an image reaches them: the moments of a layer's
input are computed over all images, while the layers before it already use their new statistics. The result
equals that of a single batch of all images.

All batches advance together from layer to layer, so one pass is enough. It keeps what each batch needs to
continue: its activations at that layer, and those for skip connections. If this takes more than a quarter of the
memory, each layer takes a separate pass, which stops at the layer. The result is the same.

Replacing the statistics of all layers after each pass until nothing changes would not need the order, but it does not
converge: an error in one layer grows through the next ones.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo.errors import ModelError, ResultError
from zoo.files import Closable
from zoo.machine import memory_bytes

HELD_SHARE = 0.25
"""Maximum share of the memory for the activations that all batches keep while they advance together [O]."""
MAX_PASSES = 64
"""Maximum number of batches that advance together; each has a thread [O]."""
MIN_VALID_SHARE = 0.25
"""Minimum share of valid pixels for an image to have a distance, because few pixels vary less than many [O]."""


@dataclass(frozen=True)
class Moments:
    """Mean and variance of the channels of one layer's input, over images and positions.

    Attributes:
        mean: float64 ``(C,)``.
        var: population variance, float64 ``(C,)``.
        mean_error: sampling variance of ``mean`` over the choice of images, float64 ``(C,)``; ``None`` if it is
            unknown, as for a single image or for stored statistics.
        var_error: the same for ``var``.
    """

    mean: Tensor
    var: Tensor
    mean_error: Tensor | None = None
    var_error: Tensor | None = None


@dataclass(frozen=True)
class Shift:
    """Distance of one layer's statistics from those of the source, in squared standard deviations of its channels.

    Attributes:
        distance: mean over channels of ``((m1 - m0) / s0)^2 + (ln s1 / s0)^2`` [O].
        error: expected ``distance`` due to the choice of images alone; infinite if it is unknown.
        share: weight of the target in the new statistics of the layer.
    """

    distance: float
    error: float
    share: float


State = dict[str, Moments]
Reached = Generator[tuple[str, Moments | None], None, None]
"""Layers with the moments of their input, in the order in which images reach them."""


def tracked_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that normalise by running statistics, by name: any kind of batch norm from any library.

    A layer is recognised by its buffers ``running_mean`` and ``running_var``. This finds ``BatchNorm1d`` to ``3d``,
    ``SyncBatchNorm``, and the frozen and fused variants of other libraries. It excludes batch norm without running
    statistics, and instance norm, whose statistics are not those of all images together.
    """
    found = {}
    for name, module in model.named_modules():
        buffers = dict(module.named_buffers(recurse=False))
        if {"running_mean", "running_var"} <= buffers.keys() and not isinstance(module, _InstanceNorm):
            found[name] = module
    return found


def _buffers(layer: nn.Module) -> tuple[Tensor, Tensor]:
    return layer.get_buffer("running_mean"), layer.get_buffer("running_var")


def _stored_moments(layer: nn.Module, _values: Tensor) -> tuple[Tensor, Tensor]:
    return _buffers(layer)


def _normalised(_model: nn.Module, values: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros(values.shape[1]), torch.ones(values.shape[1])


def stored_statistics(model: nn.Module) -> State:
    """Return the running statistics stored in the layers of ``model``.

    Raises:
        ResultError: if a layer holds a NaN, an infinity or a negative variance; the message names the layer.
    """
    state = {}
    for name, layer in tracked_layers(model).items():
        mean, var = (buffer.detach().double().cpu() for buffer in _buffers(layer))
        if not (torch.isfinite(mean).all() and torch.isfinite(var).all() and (var >= 0).all()):
            raise ResultError(
                f"the running statistics of layer {name!r} are not finite",
                hint="The model diverged in training, or the bundle was edited; train it again",
            )
        state[name] = Moments(mean, var)
    return state


def store(model: nn.Module, state: State) -> None:
    """Copy ``state`` into the layers of ``model``."""
    layers = tracked_layers(model)
    for name, moments in state.items():
        mean, var = _buffers(layers[name])
        mean.copy_(moments.mean)
        var.copy_(moments.var)


def measure_shift(source: Moments, target: Moments) -> Shift:
    """Return the distance between the statistics of training and of a region, and the part explained by chance.

    The share is that of the positive-part James-Stein estimator [S: Efron and Morris 1973, J. Am. Stat. Assoc. 68,
    117-130]: ``max(0, 1 - error / distance)``. With few or very different images, the statistics of the source are
    nearly kept; a shift far beyond chance replaces them.
    """
    # The floor prevents a division by the zero variance of a dead channel.
    floor = 1e-5 * source.var.mean() + 1e-12
    before, after = source.var + floor, target.var + floor
    moved = (target.mean - source.mean).square() / before + (0.5 * (after / before).log()).square()
    distance = float(moved.mean())
    if target.mean_error is None or target.var_error is None:
        return Shift(distance, math.inf, 0.0)
    error = float((target.mean_error / before + target.var_error / (4 * after.square())).mean())
    return Shift(distance, error, max(0.0, 1 - error / distance) if distance else 0.0)


@torch.inference_mode()
def replace_statistics(
    model: nn.Module,
    run: Callable[[Tensor], object],
    batches: Callable[[], Iterable[Tensor]],
    share: float | None = None,
    on_layer: Callable[[int], None] | None = None,
    uses: Mapping[str, int] | None = None,
) -> dict[str, Shift]:
    """Move the statistics of layers, fully or partly, to those of their input over the images.

    A layer that receives no image, or a single value, keeps its statistics. A layer that is used several times gets
    the moments of all its uses together.

    Args:
        model: in eval mode; changed in place.
        run: passes a batch through the model.
        batches: returns the same batches at every call: float32 ``(B, C, H, W)``, NaN where missing. Missing pixels
            have no weight.
        share: weight of the images in mean and variance, in [0, 1]; ``None`` for a share per layer, by
            :func:`measure_shift`.
        on_layer: called with the number of layers done.
        uses: layers to process, in their order, with the number of times that an image reaches each
            (:func:`order_of_use`); earlier layers must already be done. ``None`` for all layers.

    Returns:
        The shift of each layer by name, in the order in which an image reaches them.

    Raises:
        ModelError: if the model has no layer with running statistics.
        ResultError: if the stored statistics or the input of a layer are not finite; the message names the layer.
    """
    layers = tracked_layers(model)
    if not layers:
        raise ModelError(
            "the model has no normalisation layer with running statistics (batch norm), so none can be re-estimated",
            where=type(model).__name__,
        )
    source = stored_statistics(model)
    uses = order_of_use(model, run, batches) if uses is None else uses
    task = _Task({name: layers[name] for name in uses}, uses, run, batches)
    if _can_run_together(task):
        with closing(_parallel_moments(task)) as reached, suppress(_OtherOrderError, torch.OutOfMemoryError):
            return _replace_each(model, source, reached, share, on_layer)
    return _replace_each(model, source, _sequential_moments(task), share, on_layer)


def _replace_each(
    model: nn.Module,
    source: State,
    reached: Iterable[tuple[str, Moments | None]],
    share: float | None,
    on_layer: Callable[[int], None] | None,
) -> dict[str, Shift]:
    """Replace the statistics of each layer before the next one is reached; return the shifts."""
    shifts: dict[str, Shift] = {}
    for number, (name, found) in enumerate(reached):
        if found is not None:
            if not (torch.isfinite(found.mean).all() and torch.isfinite(found.var).all()):
                raise ResultError(
                    f"the input of layer {name!r} is not finite",
                    hint="Look for infinities or a wrong unit in the target's bands (zoo describe)",
                )
            shift = measure_shift(source[name], found)
            shifts[name] = shift if share is None else replace(shift, share=share)
            weight = shifts[name].share
            mean, var = (torch.lerp(getattr(source[name], one), getattr(found, one), weight) for one in ("mean", "var"))
            store(model, {name: Moments(mean, var)})
        if on_layer is not None:
            on_layer(number + 1)
    return shifts


def order_of_use(
    model: nn.Module, run: Callable[[Tensor], object], batches: Callable[[], Iterable[Tensor]]
) -> dict[str, int]:
    """Return how often one image reaches each layer with running statistics, in the order of the first use.

    Args:
        model: in eval mode.
        run: passes a batch through the model.
        batches: returns batches; only one image is used.
    """
    uses: dict[str, int] = {}

    def count(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _layer, _inputs: uses.update({name: uses.get(name, 0) + 1})

    handles = [layer.register_forward_pre_hook(count(name)) for name, layer in tracked_layers(model).items()]
    try:
        run(next(iter(batches()))[:1])
    finally:
        for handle in handles:
            handle.remove()
    return uses


@dataclass(frozen=True)
class _Task:
    """Layers and data for computing moments.

    Attributes:
        layers: the layers to process, by name.
        uses: how often an image reaches each of them, in the order of first use.
        run: passes a batch through the model.
        batches: returns the same batches at every call, NaN where missing.
    """

    layers: Mapping[str, nn.Module]
    uses: Mapping[str, int]
    run: Callable[[Tensor], object]
    batches: Callable[[], Iterable[Tensor]]


class _ReachedError(Exception):
    """Raised to stop a pass at the layer whose input is needed."""


def _sequential_moments(task: _Task) -> Reached:
    """Yield each layer with the moments of its input, computed in a separate pass that ends at the layer.

    The caller must replace the statistics of a layer before it requests the next one.
    """
    for name in task.uses:
        yield name, _moments(task, name)


def _moments(task: _Task, name: str) -> Moments | None:
    """Return the moments of one layer's input; ``None`` if it receives at most a single value."""
    sums = MomentSums()
    valid: Tensor | None = None
    seen = 0

    def hook(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal seen
        sums.add(inputs[0], valid)
        seen += 1
        if seen == task.uses[name]:
            raise _ReachedError

    handle = task.layers[name].register_forward_pre_hook(hook)
    try:
        for batch in task.batches():
            valid, seen = _valid_pixels(batch), 0
            with suppress(_ReachedError):
                task.run(batch)
    finally:
        handle.remove()
    return sums.moments()


def _valid_pixels(batch: Tensor) -> Tensor | None:
    """Return ``(B, 1, H, W)``, 1 where all bands of a batch are valid and 0 elsewhere; ``None`` if all are valid."""
    missing = torch.isnan(batch).any(1, keepdim=True)
    return (~missing).float() if bool(missing.any()) else None


def _can_run_together(task: _Task) -> bool:
    """Return whether all batches can advance together: several layers, each used once, and enough memory."""
    if len(task.uses) < 2 or max(task.uses.values()) > 1:
        return False
    images, passes, first = 0, 0, None
    for batch in task.batches():
        first = batch[:1] if first is None else first
        images, passes = images + len(batch), passes + 1
    if first is None or passes > MAX_PASSES:
        return False
    with _TensorMemory(task.layers.values()) as held:
        task.run(first)
    on_gpu = first.device.type == "cuda"
    memory = torch.cuda.get_device_properties(first.device).total_memory if on_gpu else memory_bytes()
    return bool(held.most * images <= HELD_SHARE * memory)


class _TensorMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Measures the memory of the tensors that are alive when an image reaches a layer; a context manager.

    Attributes:
        most: maximum size over the layers, in bytes, without weights that existed before.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._handles = ExitStack()
        for layer in layers:
            self._handles.callback(layer.register_forward_pre_hook(self._measure).remove)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())  # type: ignore[no-untyped-call]
        return made

    def _measure(self, _layer: nn.Module, _inputs: tuple[Tensor, ...]) -> None:
        self._alive = {key: one for key, one in self._alive.items() if not one[0].expired()}  # type: ignore[no-untyped-call]
        self.most = max(self.most, sum(size for _, size in self._alive.values()))

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._handles.close()


def _parallel_moments(task: _Task) -> Reached:
    """Yield each layer with the moments of its input, computed in one pass in which all batches wait at the layer.

    Each batch has a thread; only one computes at a time. The caller must replace the statistics of a layer before it
    requests the next one.

    Raises:
        _OtherOrderError: if a batch does not reach the layers in the order of ``task.uses``.
    """

    def pause(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            current = threading.current_thread()
            assert isinstance(current, _Pass)
            current.pause(name, inputs[0])

        return hook

    passes: list[_Pass] = []
    with ExitStack() as exits:
        for name in task.uses:
            exits.callback(task.layers[name].register_forward_pre_hook(pause(name)).remove)
        for batch in task.batches():
            passes.append(_Pass(task.run, batch))
            exits.callback(passes[-1].stop)
            passes[-1].start()
        for name in task.uses:
            sums = MomentSums()
            for pass_ in passes:
                pass_.advance(name, sums)
            yield name, sums.moments()


class _OtherOrderError(Exception):
    """Raised if a batch reaches the layers in another order than the first image, or not all of them."""


class _Pass(threading.Thread):
    """Pass of one batch through a model that pauses at every layer until it is resumed."""

    def __init__(self, run: Callable[[Tensor], object], batch: Tensor) -> None:
        super().__init__(daemon=True)
        self._forward, self._images, self._valid = run, batch, _valid_pixels(batch)
        self._sums, self._expected, self._cancelled = MomentSums(), "", False
        self._error: BaseException | None = None
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)

    def advance(self, name: str, sums: MomentSums) -> None:
        """Compute up to the next layer, which must have the given name, and add its input to ``sums``."""
        self._expected, self._sums = name, sums
        self._go.release()
        self._paused.acquire()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the pass at its current layer."""
        self._cancelled = True
        self._go.release()
        self.join()

    def pause(self, name: str, inputs: Tensor) -> None:
        """Take the input of a layer and wait. The layer calls this in the thread of the pass."""
        if name != self._expected:
            raise _OtherOrderError(name)
        self._sums.add(inputs, self._valid)
        self._paused.release()
        self._await_turn()

    def _await_turn(self) -> None:
        self._go.acquire()
        if self._cancelled:
            raise _ReachedError

    def run(self) -> None:
        """Compute until the pass is stopped."""
        try:
            self._await_turn()
            with torch.inference_mode():  # threads do not inherit it
                self._forward(self._images)
            raise _OtherOrderError(self._expected)
        except _ReachedError:
            pass
        except BaseException as error:
            self._error = error
        self._paused.release()


class MomentSums:
    """Moments of one layer's input, accumulated image by image, so that each image stays in the processor's cache."""

    def __init__(self) -> None:
        self.weights: list[float] = []
        self.means: list[Tensor] = []
        self.variances: list[Tensor] = []

    def add(self, inputs: Tensor, valid: Tensor | None) -> None:
        """Add a layer's input ``(B, C, ...)`` with the valid pixels of the images ``(B, 1, H, W)``."""
        weights = _place_weights(inputs, valid)
        for number, image in enumerate(inputs.detach()):
            # This is a view for channels last, and a copy for channels first.
            values = image.movedim(0, -1).reshape(-1, len(image)).float()
            if weights is None:
                weight, mean = float(len(values)), values.mean(0)
                squares = (values - mean).square_().sum(0)
            else:
                places = weights[number][:, None]
                weight = float(places.double().sum())
                mean = (values * places).sum(0) / max(weight, 1e-12)
                squares = (values - mean).square_().mul_(places).sum(0)
            if weight > 0:
                self.add_image(weight, mean.double().cpu(), squares.double().cpu() / weight)

    def add_image(self, weight: float, mean: Tensor, var: Tensor) -> None:
        """Add one image, given its weight and the mean and variance of its channels, float64 ``(C,)``."""
        self.weights.append(weight)
        self.means.append(mean)
        self.variances.append(var)

    def moments(self) -> Moments | None:
        """Return the moments of all images added; ``None`` for at most a single value."""
        if sum(self.weights) <= 1:
            return None
        weights = torch.tensor(self.weights, dtype=torch.float64)[:, None]
        weights = weights / weights.sum()
        means = torch.stack(self.means)
        mean = (weights * means).sum(0)
        spreads = torch.stack(self.variances) + (means - mean).square()
        var = (weights * spreads).sum(0)
        images = 1 / float(weights.square().sum())
        if images < 1.5:
            return Moments(mean, var)
        errors = (
            (weights * (one - centre).square()).sum(0) / (images - 1) for one, centre in ((means, mean), (spreads, var))
        )
        return Moments(mean, var, *errors)


class ImageDistances(Closable):
    """Measures the distance from the training data of each image that a model processes; a context manager.

    It is the distance of :func:`measure_shift` for the first layer with running statistics and a single image. For a
    model without such a layer, it is computed from the normalised input.

    Args:
        model: in eval mode.
        only: stop each pass at that layer, if nothing else is needed.

    Attributes:
        found: distance of each image in standard deviations; NaN for an image with too few valid pixels, and for a
            model that takes images in units without normalisation.
    """

    def __init__(self, model: nn.Module, *, only: bool = False) -> None:
        self.found: list[float] = []
        self._only, self._valid, self._waiting = only, torch.empty(0), False
        self._handles = ExitStack()
        tracked = list(tracked_layers(model).values())
        for layer in [] if getattr(model, "takes_units", False) else tracked or [model]:
            hook = partial(self._measure, _stored_moments if tracked else _normalised)
            self._handles.callback(layer.register_forward_pre_hook(hook).remove)

    def run(self, predictor: Callable[[Tensor], Tensor], images: Tensor) -> Tensor | None:
        """Process a batch, float32 ``(B, C, H, W)`` in units, NaN where missing; return None if the pass stopped."""
        self._valid, self._waiting = (~torch.isnan(images).any(1, keepdim=True)).float(), True
        logits = None
        with suppress(_ReachedError):
            logits = predictor(images)
        if self._waiting:
            self.found += [math.nan] * len(images)
        return logits

    def _measure(
        self,
        trained: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]],
        layer: nn.Module,
        inputs: tuple[Tensor, ...],
    ) -> None:
        if not self._waiting:
            return
        self._waiting = False
        source = Moments(*(one.detach().double().cpu() for one in trained(layer, inputs[0])))
        for values, valid in zip(torch.split(inputs[0], 1), torch.split(self._valid, 1), strict=True):
            sums = MomentSums()
            if valid.mean() >= MIN_VALID_SHARE:
                sums.add(values, None if valid.all() else valid)
            moments = sums.moments()
            self.found.append(math.nan if moments is None else math.sqrt(measure_shift(source, moments).distance))
        if self._only:
            raise _ReachedError

    def close(self) -> None:
        """Remove the hooks."""
        self._handles.close()


def _place_weights(inputs: Tensor, valid: Tensor | None) -> Tensor | None:
    """Return the valid share of each position of a layer's input, ``(B, H * W)``; ``None`` for equal weights."""
    if valid is None or inputs.ndim != 4 or len(inputs) != len(valid):
        return None
    return F.adaptive_avg_pool2d(valid, (inputs.shape[2], inputs.shape[3])).flatten(1)
