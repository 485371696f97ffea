"""The contract of a model: one function for each check, and functions that run them.

The docstring of a check states what the contract requires. A check that finds a fault raises
:class:`CheckFailedError`; a check that does not apply raises :class:`CheckSkipped`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from zoo.errors import ConfigError, ModelError, ZooError, one_line
from zoo.registry import Flag, ModelSpec, catalogue, check_logits
from zoo.registry.specs import Spec
from zoo.testing.model_under_test import (
    CHANNELS,
    CLASSES,
    CheckFailedError,
    CheckSkipped,
    ModelUnderTest,
    no_network,
    require,
)
from zoo.testing.other_contracts import CONTRACTS

Check = Callable[[ModelUnderTest], None]
NamedChecks: TypeAlias = Sequence[tuple[str, Callable[[], None]]]

OVERFIT_STEPS = 300
OVERFIT_LOSS = 0.2
GMAC_TOLERANCE = 0.005
SIZES_TO_TRY = (64, 128, 256)
_WEIGHTS_OPTIONS = ("encoder_weights", "weights")


class ContractError(ZooError):
    """A model breaks its contract."""


@dataclass(frozen=True)
class CheckResult:
    """Result of one check.

    Attributes:
        check: name of the check, without ``check_``.
        status: ``passed``, ``failed`` or ``skipped`` (the check does not apply to this model).
        message: reason why it failed or was skipped.
        seconds: time that the check took.
    """

    check: str
    status: Literal["passed", "failed", "skipped"]
    message: str
    seconds: float


def check_output_shape(model: ModelUnderTest) -> None:
    """The logits are finite float32 and have the image's height and width, at odd sizes, with 1, 3, 7 and 14 channels.

    The smallest size is the declared minimum. The memory format of the input makes no difference.
    """
    minimum, size = model.spec.minimum_size, model.size
    sizes = ((minimum, minimum), (size, size + 1), (size + 5, size), (size + 19, size + 7))
    for channels, classes, (height, width) in zip((1, 3, 7, 14), (1, 2, 2, 5), sizes, strict=True):
        images = model.images(2, channels, height, width)
        network = model.create(channels, classes).eval()
        when = "with 1 class" if classes == 1 else f"with {classes} classes"
        for layout in (torch.contiguous_format, torch.channels_last):
            with torch.no_grad():
                try:
                    _logits(network, images.to(memory_format=layout), classes, when)
                except CheckFailedError as failed:
                    larger = _smallest_valid_size(network, model, channels, classes, height)
                    if (height, width) == (minimum, minimum) and larger:
                        require(False, str(failed), f"raise `minimum_size` to {larger}")
                    raise


def check_wrong_channels(model: ModelUnderTest) -> None:
    """An image with the wrong number of bands is refused."""
    for channels in (CHANNELS - 1, CHANNELS + 1):
        images = model.images(2, channels)
        require(
            _raises(lambda images=images: model.model()(images)),  # type: ignore[misc]
            f"a model for {CHANNELS} channels accepts {channels} channels",
            "raise an error in forward when x.shape[1] differs from in_channels",
        )


def check_modes(model: ModelUnderTest) -> None:
    """Training and evaluation return the same type and shape, and evaluation changes neither weights nor buffers."""
    images = model.images()
    _logits(model.model().train(), images, CLASSES, "in training mode")
    network = model.model()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        first = _logits(network, images, CLASSES, "in eval mode")
        second = _logits(network, images, CLASSES, "in eval mode")
    hint = "use nn.Dropout, or pass training=self.training to functional layers"
    require(torch.equal(first, second), "two evaluations of the same images differ", hint)
    changed = [key for key, value in network.state_dict().items() if not torch.equal(value, before[key])]
    require(not changed, f"evaluation changes {', '.join(changed)}", "change buffers only if self.training")


def check_gradients(model: ModelUnderTest) -> None:
    """Every trainable parameter receives a finite gradient from the loss.

    In training, a bias before batch normalisation has no gradient except rounding errors, so this is tested in eval
    mode. Parameters that start at zero are changed first, because a zero gate hides the layers behind it. A ReLU behind
    a single channel stops the gradient for half of all random weights, and large activations saturate a sigmoid or the
    softmax of an attention, so the check replaces these functions. A bias needs no gradient if the weight of its layer
    has one: the layer is used, but a constant has no effect behind it, as before a normalisation.
    """
    _require_training(model)
    images, targets = model.images(), _targets(model)
    network = model.model().train()
    _backward(network, images, targets)
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    require(bool(named), "the model has no trainable parameter", "make weights nn.Parameter")
    absent = [name for name, parameter in named if parameter.grad is None]
    require(not absent, f"no gradient reaches {_shorten_list(absent)}", "use the parameter in forward, or remove it")
    infinite = [name for name, p in named if p.grad is not None and not bool(p.grad.isfinite().all())]
    require(
        not infinite,
        f"the gradient is not finite in {_shorten_list(infinite)}",
        "look for sqrt, log or a division at zero",
    )

    network = model.model()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _, parameter in named:
            if not bool(parameter.any()):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    with _Unsaturated():
        _backward(network, images, targets)
    reached = {name for name, p in named if p.grad is not None and bool(p.grad.any())}
    zero = [name for name, _ in named if name not in reached and _weight_of(name) not in reached]
    require(
        not zero,
        f"the gradient is zero everywhere in {_shorten_list(zero)}",
        "use the parameter in forward, or remove it",
    )


def _weight_of(name: str) -> str:
    """Return the name of the weight of the layer whose bias has this name; empty for other parameters."""
    layer, _, parameter = name.rpartition(".")
    return f"{layer}.weight" if parameter == "bias" else ""


def check_batch_of_one(model: ModelUnderTest) -> None:
    """In evaluation, the logits of an image do not depend on the rest of the batch, and a batch of one works."""
    images = model.images()
    network = model.model()
    with torch.no_grad():
        together = _logits(network, images, CLASSES, "in eval mode")
        alone = _logits(network, images[:1], CLASSES, "for a batch of one")
    hint = "compute no statistics over the batch in eval mode"
    require(_close(alone, together[:1]), "the logits of an image depend on the rest of the batch in eval mode", hint)


def check_batch1_training(model: ModelUnderTest) -> None:
    """``batch1_training`` is declared if and only if a training step on one image works."""
    _require_training(model)
    images, targets = model.images(1), _targets(model)[:1]

    def step() -> None:
        network = model.model().train()
        _backward(network, images, targets)
        finite = all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)
        problem = "a training step on one image gives gradients that are not finite"
        require(finite, problem, _drop_flag("batch1_training"))

    if model.declares(Flag.BATCH1_TRAINING):
        step()
    else:
        require(_raises(step), "a training step on one image works", "add the flag `batch1_training`")


def check_determinism(model: ModelUnderTest) -> None:
    """The same seed gives the same weights and logits, also in training mode; another seed gives other weights."""
    first, second, other = model.create(seed=3), model.create(seed=3), model.create(seed=4)
    hint = "draw weights from torch's global generator, and set no seed in the model"
    require(_same_state(first, second), "the same seed gives different weights", hint)
    if not model.declares(Flag.UNTRAINED):
        require(not _same_state(first, other), "another seed gives the same weights", hint)
    images = model.images()
    for mode in ("training", "eval"):
        logits = []
        for network in (first, second):
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(5)
                logits.append(_logits(network.train(mode == "training"), images, CLASSES, f"in {mode} mode"))
        require(torch.equal(logits[0], logits[1]), f"the same seed gives different logits in {mode} mode", hint)


def check_state_dict(model: ModelUnderTest) -> None:
    """The weights survive safetensors: another model that loads them gives bit-identical logits."""
    network, other = model.model(), model.create(seed=6).eval()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
        other.load_state_dict(load_file(path), strict=True)
    images = model.images()
    with torch.no_grad():
        require(
            torch.equal(_logits(network, images, CLASSES), _logits(other, images, CLASSES)),
            "the logits differ after the weights were saved and loaded",
            "make everything random or learned a parameter or a registered buffer",
        )


def check_bf16(model: ModelUnderTest) -> None:
    """Under bfloat16 autocast, logits and gradients are finite."""
    images, targets = model.images(), _targets(model)
    network = model.model()
    hint = "compute sums, logarithms and differences of close numbers in float32"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            evaluated = _tensor(network, images, CLASSES, "in bfloat16, eval mode")
        require(bool(evaluated.isfinite().all()), "the logits are not finite in bfloat16, eval mode", hint)
        logits = _tensor(network.train(), images, CLASSES, "in bfloat16, training mode")
    require(bool(logits.isfinite().all()), "the logits are not finite in bfloat16, training mode", hint)
    if model.declares(Flag.UNTRAINED):
        return
    _propagate(F.cross_entropy(logits.float(), targets))
    infinite = [n for n, p in network.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    require(not infinite, f"the gradient is not finite in bfloat16 in {_shorten_list(infinite)}", hint)


def check_overfits(model: ModelUnderTest) -> None:
    """Adam brings the loss of one batch below 0.2 within 300 steps.

    The class shifts every band by as much as the noise, so that even a network that sees one pixel can learn it.
    """
    _require_training(model)
    targets = _targets(model)
    images = model.images() + (2.0 * targets - 1.0)[:, None]
    network = model.model().train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    first = last = float("inf")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for step in range(OVERFIT_STEPS):
            loss = F.cross_entropy(_logits(network, images, CLASSES, f"in training step {step + 1}"), targets)
            optimiser.zero_grad()
            _propagate(loss)
            optimiser.step()
            last = loss.item()
            first = last if step == 0 else first
            if last < OVERFIT_LOSS:
                return
    require(
        False,
        f"the loss of one batch only falls from {first:.3f} to {last:.3f} in {OVERFIT_STEPS} steps",
        "check that gradients reach the first layers and that the logits are not scaled down",
    )


def check_parameters(model: ModelUnderTest) -> None:
    """The number of trainable parameters is the declared one, for 7 channels and 2 classes."""
    expected = model.spec.parameters
    if expected is None:
        raise CheckSkipped("the spec declares no number of parameters")
    if model.options:
        raise CheckSkipped("the declared number is for the default options")
    counted = sum(p.numel() for p in model.model().parameters() if p.requires_grad)
    problem = f"the model has {counted:,} trainable parameters, and the spec declares {expected:,}"
    require(counted == expected, problem, f"set `parameters` to {counted}")


def check_gmac(model: ModelUnderTest) -> None:
    """The multiply-accumulates for one 7x128x128 image match the declared number within 0.5 % or 0.005 GMAC."""
    expected = model.spec.gmac
    if expected is None:
        raise CheckSkipped("the spec declares no number of multiply-accumulates")
    if model.options:
        raise CheckSkipped("the declared number is for the default options")
    images = model.images(1, CHANNELS, 128, 128)
    network = model.model()
    # The FLOP counter does not support fused attention on the CPU.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _logits(network, images, CLASSES)
    counted = counter.get_total_flops() / 2e9
    require(
        abs(counted - expected) <= max(GMAC_TOLERANCE, GMAC_TOLERANCE * expected),
        f"the model takes {counted:.3f} GMAC, and the spec declares {expected}",
        f"set `gmac` to {counted:.2f}",
    )


def check_exportable(model: ModelUnderTest) -> None:
    """``exportable`` is declared if and only if ``torch.export`` with a dynamic batch works, with equal logits."""
    images = model.images(3)
    network = model.model()

    def export() -> nn.Module:
        batch = torch.export.Dim("batch", max=1024)  # PyTorch 2.7 rejects some models if there is no maximum
        return torch.export.export(network, (images[:2],), dynamic_shapes=({0: batch},), strict=False).module()

    if not model.declares(Flag.EXPORTABLE):
        require(_raises(export), "torch.export works", "add the flag `exportable`")
        return
    try:
        exported = export()
    except Exception as error:
        hint = f"{_drop_flag('exportable')}, or make forward independent of the data"
        raise CheckFailedError(f"torch.export raised {one_line(error)}; {hint}") from error
    with torch.no_grad():
        found = _tensor(exported, images, CLASSES, "after torch.export")
        same = _close(found, _tensor(network, images, CLASSES, "in eval mode"))
    require(same, "the exported program gives other logits", _drop_flag("exportable"))


def check_no_download(model: ModelUnderTest) -> None:
    """Creating the model with default options and a forward pass do not use the network."""
    with no_network() as refused, torch.no_grad():
        network = model.create().eval()
        if not model.declares(Flag.NEEDS_RAIN):
            _logits(network, model.images(), CLASSES, "without a network")
    hint = "download weights only when an option names them"
    require(
        not refused, f"the model tries to connect to {_shorten_list(refused)} although no weights were requested", hint
    )


def check_pretrained_encoder(model: ModelUnderTest) -> None:
    """``pretrained_encoder`` is declared if and only if the option ``weights`` or ``encoder_weights`` takes a name.

    Without a network, a name raises an error or loads an earlier download; it never gives random weights.
    """
    names = model.spec.encoder_weights
    if not model.declares(Flag.PRETRAINED_ENCODER):
        hint = "add the flag `pretrained_encoder`"
        require(not names, f"the spec names the weights {', '.join(names)}", hint)
        for option in _WEIGHTS_OPTIONS:
            chosen: dict[str, Any] = {option: "imagenet"}
            takes = not _raises(partial(model.create, **chosen))
            require(not takes, f"the model takes {option}='imagenet'", hint)
        return
    hint = "name them in `encoder_weights` of the spec"
    require(bool(names), "the flag `pretrained_encoder` is declared, but no weights are named", hint)
    declared = [option.name for option in model.declared_options]
    option = next((name for name in _WEIGHTS_OPTIONS if name in declared), "encoder_weights")
    for name in names:
        chosen = {option: name}
        with no_network():
            try:
                network = model.create(**chosen)
            except Exception:  # any error passes; tests of the model check its message
                continue
        random = _same_state(network, model.create())
        require(not random, f"{option}={name!r} gives random weights", "load the weights, or raise an error")


def check_named_bands(model: ModelUnderTest) -> None:
    """``named_bands`` is declared if and only if the option ``bands`` takes the names of the bands."""
    names = [*model.spec.needs_bands, *(f"band{index}" for index in range(CHANNELS))][:CHANNELS]
    takes = "bands" in [option.name for option in model.declared_options]
    if not model.declares(Flag.NAMED_BANDS):
        require(not takes, "the model has the option `bands`", "add the flag `named_bands`")
        raise CheckSkipped("the model identifies its bands by number")
    require(takes, "the model has no option `bands`", _drop_flag("named_bands"))
    refuses = _raises(lambda: model.create(bands=names[1:]))
    require(refuses, f"{CHANNELS - 1} names are accepted for {CHANNELS} bands", "raise an error")
    with torch.no_grad():
        _logits(model.create(bands=names).eval(), model.images(), CLASSES, "with names of unknown bands")


def check_untrained(model: ModelUnderTest) -> None:
    """``untrained`` is declared if and only if no parameter is trainable; ``calibrate`` then takes images."""
    count = sum(parameter.numel() for parameter in model.model().parameters() if parameter.requires_grad)
    if not model.declares(Flag.UNTRAINED):
        require(count > 0, "the model has no trainable parameter", "make weights nn.Parameter, or add `untrained`")
        raise CheckSkipped("the model is trained")
    require(count == 0, f"the model has {count:,} trainable parameters", _drop_flag("untrained"))
    calibrate: Any = getattr(model.model(), "calibrate", None)
    if calibrate is not None:
        # Values in the tens, like slopes in degrees.
        calibrate(iter(10 * model.images()))


def check_needs_rain(model: ModelUnderTest) -> None:
    """A model that declares ``needs_rain`` refuses an image without rain."""
    if not model.declares(Flag.NEEDS_RAIN):
        raise CheckSkipped("the model predicts from images")
    images = torch.zeros(2, CHANNELS, model.size, model.size)
    refuses = _raises(lambda: model.model()(images))
    require(refuses, "the model predicts from an image without rain", _drop_flag("needs_rain"))


def check_options(model: ModelUnderTest) -> None:
    """The docstring describes every option, and every choice of an option creates a model."""
    options = model.declared_options
    if not options:
        raise CheckSkipped("the model has no options")
    silent = [option.name for option in options if not option.help]
    require(not silent, f"the docstring does not describe {_shorten_list(silent)}", "add it to the section 'Args:'")
    for option in options:
        for choice in option.choices:
            chosen: dict[str, Any] = {option.name: choice}
            try:
                _create_cheaply(model, chosen)
            except Exception as error:
                raise CheckFailedError(f"{option.name}={choice!r} raised {one_line(error)}") from error


def _create_cheaply(model: ModelUnderTest, options: Mapping[str, Any]) -> None:
    """Create the model without memory for its weights, or with them if its constructor computes with values."""
    try:
        with torch.device("meta"):
            model.create(**options)
    except Exception:
        model.create(**options)


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
    check_named_bands,
    check_untrained,
    check_needs_rain,
    check_options,
)
"""All checks, in the order in which they run."""


def name_of(check: Callable[..., None]) -> str:
    """Return the name of a check: the name of its function without ``check_``."""
    name: str = getattr(check, "__name__", repr(check))
    return name.removeprefix("check_")


def run_checks(
    model: ModelUnderTest | str,
    checks: Sequence[Check] = CHECKS,
    on_start: Callable[[str, int, int], None] | None = None,
) -> list[CheckResult]:
    """Run the checks on a model and return their results; a failing check does not stop the others.

    Args:
        model: the model, or its registered name.
        checks: the checks to run.
        on_start: called before every check with its name, the number of finished checks and the total.

    Raises:
        UnknownNameError: if there is no such model.
    """
    if isinstance(model, str):
        model = _registered(model)
    subject = model
    return _run([(name_of(check), partial(check, subject)) for check in checks], on_start)


def run_spec_checks(
    spec: Spec, options: Mapping[str, Any] | None = None, on_start: Callable[[str, int, int], None] | None = None
) -> list[CheckResult]:
    """Run the checks on a registered model, data set, loss, metric or risk model and return their results.

    Args:
        spec: spec of the entry to check.
        options: its options; for a data set also ``root``.
        on_start: see :func:`run_checks`.

    Raises:
        ConfigError: if there are no checks for this kind of entry.
    """
    return _run(_checks_of(spec, dict(options or {})), on_start)


def _checks_of(spec: Spec, options: Mapping[str, Any]) -> NamedChecks:
    """Return the checks for the kind of ``spec``, ready to be called, with their names."""
    if isinstance(spec, ModelSpec):
        model = ModelUnderTest(spec, options)
        return [(name_of(check), partial(check, model)) for check in CHECKS]
    for kind, checks in CONTRACTS.items():
        if isinstance(spec, kind):
            return [(name_of(check), partial(check, spec, options)) for check in checks]
    raise ConfigError(f"there are no checks for a {spec.kind}", where=spec.label)


def _run(checks: NamedChecks, on_start: Callable[[str, int, int], None] | None) -> list[CheckResult]:
    results = []
    for done, (name, check) in enumerate(checks):
        if on_start is not None:
            on_start(name, done, len(checks))
        started = perf_counter()
        status: Literal["passed", "failed", "skipped"] = "passed"
        message = ""
        try:
            check()
        except CheckSkipped as reason:
            status, message = "skipped", str(reason)
        except AssertionError as broken:
            status, message = "failed", str(broken)
        except (Exception, SystemExit) as error:  # any exception is a failed check; the rest still runs
            status, message = "failed", one_line(error)
        results.append(CheckResult(name, status, message, perf_counter() - started))
    return results


def check_model(
    name: str,
    checks: Sequence[Check] = CHECKS,
    on_start: Callable[[str, int, int], None] | None = None,
    **options: Any,
) -> list[CheckResult]:
    """Run the checks on a registered model.

    Args:
        name: name of the model, as ``zoo models`` lists it.
        checks: the checks to run.
        on_start: called before every check with its name, the number of finished checks and the total.
        options: options of the model.

    Returns:
        The results, none of which failed.

    Raises:
        ContractError: if a check fails; the message lists every failed check with its reason.
        UnknownNameError: if there is no such model.
    """
    results = run_checks(ModelUnderTest(catalogue().models.get(name), options), checks, on_start)
    failed = [result for result in results if result.status == "failed"]
    if failed:
        raise ContractError(
            f"{len(failed)} of {len(results)} checks failed: "
            + "; ".join(f"{result.check}: {result.message}" for result in failed),
            where=f"model {name!r}",
        )
    return results


def model_contract(*names: str, checks: Sequence[Check] = CHECKS) -> Callable[..., None]:
    """Return a pytest test of every check on every named model.

    Assign it to a name that starts with ``test_``. A skipped test gives the reason why the check does not apply.

    Args:
        names: names of registered models.
        checks: the checks to run.

    Raises:
        ConfigError: if no model is named.
    """
    import pytest

    if not names:
        raise ConfigError("name at least one model", where="model_contract")

    @pytest.mark.parametrize("check", checks, ids=[name_of(check) for check in checks])
    @pytest.mark.parametrize("name", names)
    def test_contract(name: str, check: Check) -> None:
        try:
            check(_registered(name))
        except CheckSkipped as reason:
            pytest.skip(str(reason))

    return test_contract


def contract_of(name: str, **options: Any) -> Callable[..., None]:
    """Return a pytest test of every check on a registered model, data set, loss, metric or risk model.

    Assign it to a name that starts with ``test_``. A skipped test gives the reason why the check does not apply.

    Args:
        name: registered name.
        options: its options; for a data set also ``root``.

    Raises:
        UnknownNameError: if there is no such name.
    """
    import pytest

    checks = dict(_checks_of(catalogue().find(name), options))

    @pytest.mark.parametrize("check", checks)
    def test_contract(check: str) -> None:
        try:
            checks[check]()
        except CheckSkipped as reason:
            pytest.skip(str(reason))

    return test_contract


@lru_cache(maxsize=1)
def _registered(name: str) -> ModelUnderTest:
    # Keep only one model between checks; more would fill the memory of a small machine.
    return ModelUnderTest(catalogue().models.get(name))


def _tensor(network: nn.Module, images: Tensor, classes: int, when: str = "") -> Tensor:
    """Return the output of the network, which must be a tensor of the image's height and width.

    Args:
        network: the model.
        images: its input.
        classes: channels of the output.
        when: circumstances for the error message.
    """
    place = _describe_input(images, when)
    try:
        output: object = network(images)
    except (Exception, SystemExit) as error:
        raise CheckFailedError(f"forward raised {one_line(error)} {place}") from error
    try:
        return check_logits(output, images, classes, when)
    except ModelError as error:
        hint = error.hint or ""
        raise CheckFailedError(f"{error.problem}; {hint[:1].lower()}{hint[1:]}") from error


def _logits(network: nn.Module, images: Tensor, classes: int, when: str = "") -> Tensor:
    """Return the output of the network, which must be finite float32 logits of the image's height and width."""
    logits = _tensor(network, images, classes, when)
    place = _describe_input(images, when)
    require(logits.dtype == torch.float32, f"forward returned {logits.dtype} {place}", "return float32 logits")
    finite = logits.isfinite()
    share = "all" if not bool(finite.any()) else "some"
    problem = f"{share} logits are NaN or infinite {place}"
    require(bool(finite.all()), problem, "look for a logarithm, a square root or a division by zero in forward")
    return logits


def _describe_input(images: Tensor, when: str) -> str:
    return ", ".join([*([when] if when else []), f"for images of shape {tuple(images.shape)}"])


def _smallest_valid_size(
    network: nn.Module, model: ModelUnderTest, channels: int, classes: int, above: int
) -> int | None:
    for size in (32, *SIZES_TO_TRY):
        if size > above and not _raises(
            lambda size=size: _logits(network, model.images(2, channels, size, size), classes)  # type: ignore[misc]
        ):
            return size
    return None


def _backward(network: nn.Module, images: Tensor, targets: Tensor) -> None:
    logits = _tensor(network, images, CLASSES, "in training mode" if network.training else "in eval mode")
    _propagate(F.cross_entropy(logits, targets))


def _propagate(loss: Tensor) -> None:
    """Compute the gradients of the loss, which must have some."""
    hint = "keep forward free of detach(), no_grad() and NumPy"
    require(loss.requires_grad, "the logits do not depend on any parameter", hint)
    loss.backward()  # type: ignore[no-untyped-call]


_RELU = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_SATURATING = (
    *(F.sigmoid, torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_, F.hardsigmoid),
    *(F.tanh, torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_),
    *(F.softmax, torch.softmax, Tensor.softmax),
)


class _Unsaturated(TorchFunctionMode):
    """Replaces functions that can stop a gradient inside the ``with`` block.

    A ReLU becomes a leaky ReLU. The input of a sigmoid, tanh or softmax is compressed, so that large values still
    have a gradient.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if not args and function in (*_RELU, *_SATURATING):
            args = (kwargs.pop("input"),)
        if function in _RELU:
            return F.leaky_relu(args[0], 0.1)
        if function in _SATURATING:
            # The copy keeps its value if the model changes the input in place, as x.mul_(x.sigmoid()) does.
            args = (args[0].clone().asinh().asinh(), *args[1:])
        return function(*args, **kwargs)


def _targets(model: ModelUnderTest) -> Tensor:
    """Return masks in which half of each image is class 1; the halves differ, so that no constant fits both."""
    size = model.size
    masks = torch.zeros(2, size, size, dtype=torch.long)
    masks[0, :, : size // 2] = 1
    masks[1, size // 2 :] = 1
    return masks


def _require_training(model: ModelUnderTest) -> None:
    if model.declares(Flag.UNTRAINED):
        raise CheckSkipped("the model has no parameters to train")


def _raises(action: Callable[[], object]) -> bool:
    try:
        action()
    except (Exception, SystemExit):
        return True
    return False


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4 * max(1.0, b.abs().max().item()))


def _same_state(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def _shorten_list(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _drop_flag(flag: str) -> str:
    return f"remove the flag `{flag}`"
