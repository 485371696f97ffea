"""Running statistics of normalisation layers, computed anew over unlabelled images, exactly and at any batch size.

In training mode a batch-norm layer normalises by its batch, so what reaches the layer behind it depends on which
images share a batch. Here layers are taken one by one, in the order in which images reach them: the moments of a
layer's input are gathered over all images, while the layers before it normalise by the statistics that they have
already been given. That is what one batch of all images would give, in the memory of a small one; it takes as many
passes as there are layers, each as far as its layer.

Replacing all layers after each pass until nothing moves, which needs no order, does not work: an error in one layer
grows on its way through the next ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.instancenorm import _InstanceNorm

from zoo.errors import ModelError, ResultError


@dataclass(frozen=True)
class Moments:
    """Mean and variance of the channels of one layer's input, over images and places.

    Attributes:
        mean: float64 ``(C,)``.
        var: population variance, float64 ``(C,)``.
    """

    mean: Tensor
    var: Tensor


State = dict[str, Moments]


def tracked_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that normalise by running statistics, by name: batch norm of any kind, of any library.

    A layer is known by its buffers ``running_mean`` and ``running_var``, so that ``BatchNorm1d`` to ``3d``,
    ``SyncBatchNorm``, and the frozen and fused variants of other libraries are all found. A batch norm that tracks
    nothing is none, nor is an instance norm, whose statistics are not those of all images together.
    """
    found = {}
    for name, module in model.named_modules():
        buffers = dict(module.named_buffers(recurse=False))
        if {"running_mean", "running_var"} <= buffers.keys() and not isinstance(module, _InstanceNorm):
            found[name] = module
    return found


def _buffers(layer: nn.Module) -> tuple[Tensor, Tensor]:
    return layer.get_buffer("running_mean"), layer.get_buffer("running_var")


def stored(model: nn.Module) -> State:
    """The running statistics that the layers of ``model`` hold now.

    Raises:
        ResultError: naming the layer that holds a NaN, an infinity or a negative variance.
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
    """Put ``state`` into the layers of ``model``."""
    layers = tracked_layers(model)
    for name, moments in state.items():
        mean, var = _buffers(layers[name])
        mean.copy_(moments.mean)
        var.copy_(moments.var)


def blended(source: State, target: State, share: float) -> State:
    """``(1 - share) * source + share * target``, mean and variance apart [S: Schneider et al. 2020, eq. 2]."""
    return {
        name: Moments(
            torch.lerp(one.mean, target[name].mean, share),
            torch.lerp(one.var, target[name].var, share),
        )
        for name, one in source.items()
    }


def distances(source: State, target: State) -> dict[str, float]:
    """How far each layer's statistics moved, in the source's standard deviations: the root mean square over channels.

    Mean and spread count alike: ``sqrt(mean(((m1 - m0) / s0)^2 + (ln s1 / s0)^2))`` [O].
    """
    found = {}
    for name, one in source.items():
        # A dead channel has no spread to measure by.
        floor = 1e-5 * float(one.var.mean()) + 1e-12
        before, after = one.var + floor, target[name].var + floor
        shift = (target[name].mean - one.mean) / before.sqrt()
        stretch = 0.5 * (after / before).log()
        found[name] = float((shift.square() + stretch.square()).mean().sqrt())
    return found


@torch.inference_mode()
def replace_statistics(
    model: nn.Module,
    run: Callable[[Tensor], object],
    batches: Callable[[], Iterable[Tensor]],
    on_layer: Callable[[int], None] | None = None,
) -> None:
    """Give every layer of ``model`` the statistics of its input over the images.

    A layer that no image reaches, or only a single value, keeps what it has. A layer that is used several times gets
    the moments of all its uses together.

    Args:
        model: in eval mode; changed in place.
        run: gives a batch to the model.
        batches: gives the same batches at every call: float32 ``(B, C, H, W)``, NaN where missing. A missing place
            weighs nothing.
        on_layer: called with the number of layers done.

    Raises:
        ModelError: if the model has no layer with running statistics.
        ResultError: naming the layer whose stored statistics or input are not finite.
    """
    layers = tracked_layers(model)
    if not layers:
        raise ModelError(
            "the model has no normalisation layer with running statistics (batch norm), so none can be re-estimated",
            where=type(model).__name__,
        )
    stored(model)
    for number, (name, uses) in enumerate(_order_of_use(layers, run, batches).items()):
        mean, var = _buffers(layers[name])
        found = _moments(layers[name], uses, run, batches)
        if found is not None:
            if not (torch.isfinite(found.mean).all() and torch.isfinite(found.var).all()):
                raise ResultError(
                    f"what reaches layer {name!r} is not finite",
                    hint="Look for infinities or a wrong unit in the target's bands (zoo describe)",
                )
            mean.copy_(found.mean)
            var.copy_(found.var)
        if on_layer is not None:
            on_layer(number + 1)


def _order_of_use(
    layers: dict[str, nn.Module], run: Callable[[Tensor], object], batches: Callable[[], Iterable[Tensor]]
) -> dict[str, int]:
    """How often one image reaches each layer, in the order in which it first does."""
    uses: dict[str, int] = {}

    def count(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _layer, _inputs: uses.update({name: uses.get(name, 0) + 1})

    handles = [layer.register_forward_pre_hook(count(name)) for name, layer in layers.items()]
    try:
        run(next(iter(batches()))[:1])
    finally:
        for handle in handles:
            handle.remove()
    return uses


class _ReachedError(Exception):
    """What lies behind a layer is not needed."""


def _moments(
    layer: nn.Module, uses: int, run: Callable[[Tensor], object], batches: Callable[[], Iterable[Tensor]]
) -> Moments | None:
    """Moments of what reaches one layer; ``None`` if that is a single value or nothing."""
    sums = _Sums()
    valid: Tensor | None = None
    seen = 0

    def hook(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal seen
        sums.add(inputs[0], valid)
        seen += 1
        if seen == uses:
            raise _ReachedError

    handle = layer.register_forward_pre_hook(hook)
    try:
        for batch in batches():
            missing = torch.isnan(batch).any(1, keepdim=True)
            valid = (~missing).float() if bool(missing.any()) else None
            seen = 0
            with suppress(_ReachedError):
                run(batch)
    finally:
        handle.remove()
    return sums.moments()


class _Sums:
    """Weighted moments of one layer's input, image by image, combined in float64 [S: Chan, Golub and LeVeque 1983].

    One image at a time stays in the processor's cache, where a whole batch in float32 would not.
    """

    def __init__(self) -> None:
        self.weight = 0.0
        self.mean: Tensor | None = None
        self.squares: Tensor | None = None

    def add(self, inputs: Tensor, valid: Tensor | None) -> None:
        weights = _weights(inputs, valid)
        for number, image in enumerate(inputs.detach()):
            # Channels last, whatever the layout: a view where the layout is that, else a copy.
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
                self._combine(weight, mean.double().cpu(), squares.double().cpu())

    def _combine(self, weight: float, mean: Tensor, squares: Tensor) -> None:
        if self.mean is None or self.squares is None:
            self.weight, self.mean, self.squares = weight, mean, squares
            return
        together = self.weight + weight
        shift = mean - self.mean
        self.mean = self.mean + shift * (weight / together)
        self.squares = self.squares + squares + shift.square() * (self.weight * weight / together)
        self.weight = together

    def moments(self) -> Moments | None:
        if self.mean is None or self.squares is None or self.weight <= 1:
            return None
        return Moments(self.mean, self.squares / self.weight)


def _weights(inputs: Tensor, valid: Tensor | None) -> Tensor | None:
    """The valid share of every place of a layer's input, ``(B, H * W)``; ``None`` where all places count alike."""
    if valid is None or inputs.ndim != 4 or len(inputs) != len(valid):
        return None
    return F.adaptive_avg_pool2d(valid, (inputs.shape[2], inputs.shape[3])).flatten(1)
