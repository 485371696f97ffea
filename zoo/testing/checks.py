"""The checks, one function each, of a :class:`Subject`; the docstring is what the contract demands.

A check that finds a fault raises :class:`BrokenContractError`, one with nothing to check :class:`NotApplicable`.
Errors of the model itself pass through, for their traceback tells its author more than a summary would.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from zoo.registry import Flag
from zoo.testing.network import no_network
from zoo.testing.subject import CHANNELS, CLASSES, NotApplicable, Subject, require

Check = Callable[[Subject], None]

OVERFIT_STEPS = 300
OVERFIT_LOSS = 0.2
GMAC_TOLERANCE = 0.005


def check_output_shape(subject: Subject) -> None:
    """Float32 logits of the image's height and width, finite, at odd sizes and with 1, 3, 7 and 14 channels.

    The sizes start at the declared minimum; the memory format of the input makes no difference.
    """
    minimum, size = subject.spec.minimum_size, subject.size
    sizes = ((minimum, minimum), (size, size + 1), (size + 5, size), (size + 19, size + 7))
    for channels, classes, (height, width) in zip((1, 3, 7, 14), (1, 2, 2, 5), sizes, strict=True):
        images = subject.images(2, channels, height, width)
        model = subject.make(channels, classes).eval()
        for layout in (torch.contiguous_format, torch.channels_last):
            with torch.no_grad():
                logits = model(images.to(memory_format=layout))
            _require_logits(logits, images, classes, f"for {channels} channels, {classes} classes")


def check_wrong_channels(subject: Subject) -> None:
    """An image of the wrong number of bands is refused, not silently misread."""
    for channels in (CHANNELS - 1, CHANNELS + 1):
        images = subject.images(2, channels)
        require(
            _fails(lambda images=images: subject.model()(images)),  # type: ignore[misc]
            f"made for {CHANNELS} channels, it takes {channels} without a word",
        )


def check_modes(subject: Subject) -> None:
    """Training and evaluation return the same type and shape, and evaluation changes neither weights nor buffers."""
    images = subject.images()
    model = subject.model().train()
    _require_logits(model(images), images, CLASSES, "in training mode")
    model = subject.model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        first, second = model(images), model(images)
    _require_logits(first, images, CLASSES, "in eval mode")
    require(torch.equal(first, second), "two evaluations of the same images differ")
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    require(not changed, f"evaluation changes {', '.join(changed)}")


def check_gradients(subject: Subject) -> None:
    """Every trainable parameter receives a finite gradient, and none is out of reach of the loss.

    In training a bias before a batch normalisation has no gradient but rounding errors, so reach is judged in eval
    mode. Parameters that start as zeros are moved off them first: a gate of zero hides what is behind it.
    """
    images, targets = subject.images(), _targets(subject)
    model = subject.model().train()
    _backward(model, images, targets)
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    require(bool(named), "has no trainable parameter")
    absent = [name for name, parameter in named if parameter.grad is None]
    require(not absent, f"no gradient reaches {_few(absent)}")
    infinite = [name for name, p in named if p.grad is not None and not bool(p.grad.isfinite().all())]
    require(not infinite, f"the gradient is not finite in {_few(infinite)}")

    model = subject.model()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _, parameter in named:
            if not bool(parameter.any()):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    _backward(model, images, targets)
    zero = [name for name, p in named if p.grad is None or not bool(p.grad.any())]
    require(not zero, f"the gradient is zero everywhere in {_few(zero)}")


def check_batch_of_one(subject: Subject) -> None:
    """In evaluation an image's logits do not depend on its company; one image makes a batch."""
    images = subject.images()
    model = subject.model()
    with torch.no_grad():
        together, alone = model(images), model(images[:1])
    _require_logits(alone, images[:1], CLASSES, "for a batch of one")
    require(_close(alone, together[:1]), "an image's logits depend on the rest of the batch in eval mode")


def check_batch1_training(subject: Subject) -> None:
    """``batch1_training`` is declared if and only if a training step on one image works."""
    images, targets = subject.images(1), _targets(subject)[:1]

    def step() -> None:
        model = subject.model().train()
        _backward(model, images, targets)
        require(
            all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None),
            "a training step on one image gives gradients that are not finite",
        )

    if subject.declares(Flag.BATCH1_TRAINING):
        step()
    else:
        require(_fails(step), "trains on a batch of one, but does not declare batch1_training")


def check_determinism(subject: Subject) -> None:
    """The same seed gives the same weights and the same logits, in training too; another seed gives others."""
    first, second, other = subject.make(seed=3), subject.make(seed=3), subject.make(seed=4)
    require(_same_state(first, second), "the same seed gives different weights")
    require(not _same_state(first, other), "another seed gives the same weights")
    images = subject.images()
    for mode in (True, False):
        logits = []
        for model in (first, second):
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(5)
                logits.append(model.train(mode)(images))
        require(
            torch.equal(logits[0], logits[1]),
            f"the same seed gives different logits in {'training' if mode else 'eval'} mode",
        )


def check_state_dict(subject: Subject) -> None:
    """The weights survive safetensors: a model of another seed that loads them gives the same logits, bit by bit."""
    model, other = subject.model(), subject.make(seed=6).eval()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
        other.load_state_dict(load_file(path), strict=True)
    images = subject.images()
    with torch.no_grad():
        require(torch.equal(model(images), other(images)), "the logits differ after a round trip of the weights")


def check_bf16(subject: Subject) -> None:
    """Under bfloat16 autocast logits and gradients are finite."""
    images, targets = subject.images(), _targets(subject)
    model = subject.model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            require(bool(model(images).isfinite().all()), "logits are not finite in bfloat16, eval mode")
        logits = model.train()(images)
    require(bool(logits.isfinite().all()), "logits are not finite in bfloat16, training mode")
    F.cross_entropy(logits.float(), targets).backward()  # type: ignore[no-untyped-call]
    infinite = [n for n, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    require(not infinite, f"gradients are not finite in bfloat16 in {_few(infinite)}")


def check_overfits(subject: Subject) -> None:
    """Adam brings the loss of one batch under 0.2 within 300 steps: the network can learn at all.

    The class shifts every band, in noise of the same strength, so that a network that sees one pixel can learn it.
    """
    targets = _targets(subject)
    images = subject.images() + (2.0 * targets - 1.0)[:, None]
    model = subject.model().train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    first = last = float("inf")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for step in range(OVERFIT_STEPS):
            loss = F.cross_entropy(model(images), targets)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            last = loss.item()
            first = last if step == 0 else first
            if last < OVERFIT_LOSS:
                return
    require(False, f"the loss of one batch goes from {first:.3f} to {last:.3f} only, in {OVERFIT_STEPS} steps")


def check_parameters(subject: Subject) -> None:
    """As many trainable parameters as the spec expects for 7 channels and 2 classes."""
    expected = subject.spec.parameters
    if expected is None:
        raise NotApplicable("the spec expects no number of parameters")
    if subject.options:
        raise NotApplicable("the spec's number is for the default options")
    counted = sum(p.numel() for p in subject.model().parameters() if p.requires_grad)
    require(counted == expected, f"has {counted:,} trainable parameters, the spec says {expected:,}")


def check_gmac(subject: Subject) -> None:
    """As many multiply-accumulates as the spec expects for one 7x128x128 image, to 0.5 % and 0.005 GMAC."""
    expected = subject.spec.gmac
    if expected is None:
        raise NotApplicable("the spec expects no number of multiply-accumulates")
    if subject.options:
        raise NotApplicable("the spec's number is for the default options")
    images = subject.images(1, CHANNELS, 128, 128)
    model = subject.model()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)
    counted = counter.get_total_flops() / 2e9
    require(
        abs(counted - expected) <= max(GMAC_TOLERANCE, GMAC_TOLERANCE * expected),
        f"takes {counted:.3f} GMAC, the spec says {expected}",
    )


def check_exportable(subject: Subject) -> None:
    """``exportable`` is declared if and only if ``torch.export`` with a dynamic batch works, with equal logits."""
    images = subject.images(3)
    model = subject.model()

    def export() -> nn.Module:
        batch = torch.export.Dim("batch")
        return torch.export.export(model, (images[:2],), dynamic_shapes=({0: batch},)).module()

    if not subject.declares(Flag.EXPORTABLE):
        require(_fails(export), "torch.export works, but exportable is not declared")
        return
    exported = export()
    with torch.no_grad():
        require(_close(exported(images), model(images)), "the exported program gives other logits")


def check_no_download(subject: Subject) -> None:
    """Making the model with its default options, and a forward pass, ask nothing of the network."""
    with no_network() as refused, torch.no_grad():
        model = subject.make().eval()
        if not subject.declares(Flag.NEEDS_RAIN):
            model(subject.images())
    require(not refused, f"tries to reach {_few(refused)} without being asked to")


def check_pretrained_encoder(subject: Subject) -> None:
    """``pretrained_encoder`` is declared if and only if ``encoder_weights`` takes a name.

    Without a network, asking by name is an error or gives the weights of an earlier download, never random ones.
    """
    names = subject.spec.encoder_weights
    if not subject.declares(Flag.PRETRAINED_ENCODER):
        require(not names, f"names the weights {', '.join(names)}, but does not declare pretrained_encoder")
        require(
            _fails(lambda: subject.make(encoder_weights="imagenet")),
            "takes encoder_weights, but does not declare pretrained_encoder",
        )
        return
    require(bool(names), "declares pretrained_encoder, but names no weights in encoder_weights")
    for name in names:
        with no_network():
            try:
                model = subject.make(encoder_weights=name)
            except Exception:  # any refusal is honest; tests of the model judge its words
                continue
        require(not _same_state(model, subject.make()), f"gives random weights for encoder_weights={name!r}")


def check_needs_rain(subject: Subject) -> None:
    """A model that declares ``needs_rain`` refuses an image alone; what does not declare it is fed images here."""
    if not subject.declares(Flag.NEEDS_RAIN):
        raise NotApplicable("predicts from images")
    images = torch.zeros(2, CHANNELS, subject.size, subject.size)
    require(_fails(lambda: subject.model()(images)), "declares needs_rain, but predicts from an image without rain")


def check_options(subject: Subject) -> None:
    """The docstring describes every option, and every choice of an option makes a model."""
    options = subject.declared_options
    if not options:
        raise NotApplicable("has no options")
    silent = [option.name for option in options if not option.help]
    require(not silent, f"the docstring does not describe {_few(silent)}; add it to the section 'Args:'")
    for option in options:
        for choice in option.choices:
            chosen: dict[str, Any] = {option.name: choice}
            try:
                with torch.device("meta"):
                    subject.make(**chosen)
            except Exception as error:
                require(False, f"{option.name}={choice!r} makes no model: {type(error).__name__}: {error}")


CHECKS: tuple[Check, ...] = (
    check_output_shape,
    check_wrong_channels,
    check_modes,
    check_gradients,
    check_batch_of_one,
    check_batch1_training,
    check_determinism,
    check_state_dict,
    check_bf16,
    check_overfits,
    check_parameters,
    check_gmac,
    check_exportable,
    check_no_download,
    check_pretrained_encoder,
    check_needs_rain,
    check_options,
)
"""All checks, in the order in which they run."""


def _backward(model: nn.Module, images: Tensor, targets: Tensor) -> None:
    F.cross_entropy(model(images), targets).backward()  # type: ignore[no-untyped-call]


def _targets(subject: Subject) -> Tensor:
    """Half of each image is of class 1: another half in each, so that no constant can fit them."""
    size = subject.size
    masks = torch.zeros(2, size, size, dtype=torch.long)
    masks[0, :, : size // 2] = 1
    masks[1, size // 2 :] = 1
    return masks


def _require_logits(logits: object, images: Tensor, classes: int, when: str) -> None:
    require(isinstance(logits, Tensor), f"returns {type(logits).__name__}, not a tensor, {when}")
    assert isinstance(logits, Tensor)
    expected = (images.shape[0], classes, *images.shape[2:])
    got = tuple(logits.shape)
    require(got == expected, f"returns {got}, not {expected}, {when}, images {tuple(images.shape)}")
    require(logits.dtype == torch.float32, f"returns {logits.dtype}, not float32, {when}")
    require(bool(logits.isfinite().all()), f"returns logits that are not finite, {when}")


def _fails(action: Callable[[], object]) -> bool:
    try:
        action()
    except Exception:
        return True
    return False


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4 * max(1.0, b.abs().max().item()))


def _same_state(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
