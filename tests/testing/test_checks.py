"""Every check of the contract can fail: each meets a model that is broken in that one way, and no other check does."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ConfigError, UnknownNameError
from zoo.registry import Flag, ModelSpec, catalogue
from zoo.testing import (
    CHECKS,
    ContractError,
    ModelUnderTest,
    check_model,
    model_contract,
    no_network,
    run_checks,
)
from zoo.testing.contract import check_gmac, check_gradients, check_options, name_of
from zoo.testing.model_under_test import DRAWN, NetworkRefusedError


class Sound(nn.Module):
    """A small network that keeps the whole contract."""

    def __init__(self, in_channels: int = 7, classes: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.conv(x))))


SOUND = ModelSpec(
    name="sound",
    target="nowhere:Sound",
    summary="a small network",
    parameters=7 * 8 * 9 + 8 + 16 + 8 * 2 + 2,
    gmac=(7 * 8 * 9 + 8 * 2) * 128 * 128 / 1e9,
    minimum_size=8,
    flags=frozenset({Flag.EXPORTABLE, Flag.BATCH1_TRAINING}),
)


class ForgetsOddSizes(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., : x.shape[3] - x.shape[3] % 2]


class WrongBelowItsMinimum(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., : x.shape[2] if x.shape[2] >= 32 else 1, :]


class HalfPrecision(Sound):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.training or x.shape[1] != 1 else y.double()


class IgnoresExtraBands(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, : self.conv.in_channels])


class CountsItsCalls(Sound):
    def __init__(self, in_channels: int = 7, classes: int = 2) -> None:
        super().__init__(in_channels, classes)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_exporting():
            self.calls += 1
        return super().forward(x)


class NoiseInEval(Sound):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.training else F.dropout(y, 0.5, training=True)


class TwoHeadsInTraining(Sound):
    def forward(self, x: Tensor) -> Any:
        y = super().forward(x)
        return (y, y) if self.training else y


class UnusedParameter(Sound):
    def __init__(self, in_channels: int = 7, classes: int = 2) -> None:
        super().__init__(in_channels, classes)
        self.head.register_parameter("unused", nn.Parameter(torch.ones(0)))


class UnreachedParameter(Sound):
    def __init__(self, in_channels: int = 7, classes: int = 2) -> None:
        super().__init__(in_channels, classes)
        self.head.bias = None
        self.last_bias = nn.Parameter(torch.ones(classes))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.0 * self.last_bias[:, None, None]


class WithBranch(Sound):
    """A network with a branch of one channel that is combined with the input of the head."""

    def __init__(self, in_channels: int = 7, classes: int = 2) -> None:
        super().__init__(in_channels, classes)
        self.branch = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x)))
        return self.head(self.combined(y, self.branch(y)))

    def combined(self, y: Tensor, branch: Tensor) -> Tensor:
        raise NotImplementedError


class MutedBranch(WithBranch):
    def combined(self, y: Tensor, branch: Tensor) -> Tensor:
        return y + 0.0 * branch


class SoftmaxOfOneChannel(WithBranch):
    def combined(self, y: Tensor, branch: Tensor) -> Tensor:
        return y * branch.softmax(dim=1)


class InfiniteGradient(Sound):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y + (self.head.weight.sum() * 0.0).abs().sqrt()


class LooksAtItsNeighbours(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.training else x - x.mean(dim=0, keepdim=True))


class PooledNorm(Sound):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            F.batch_norm(x.mean(dim=(2, 3)), None, None, training=True)
        return super().forward(x)


class Unseeded(Sound):
    def __init__(self, in_channels: int = 7, classes: int = 2) -> None:
        super().__init__(in_channels, classes)
        generator = torch.Generator()
        generator.seed()
        nn.init.normal_(self.conv.weight, std=0.1, generator=generator)


class AlwaysTheSame(Sound):
    def __init__(self, in_channels: int = 7, classes: int = 2) -> None:
        torch.manual_seed(0)
        super().__init__(in_channels, classes)


class HiddenState(Sound):
    def __init__(self, in_channels: int = 7, classes: int = 2) -> None:
        super().__init__(in_channels, classes)
        self.offset = torch.randn(classes, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.offset


class LosesItsDigits(Sound):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y + 1e-3 * ((1.0 + 1e-3 * y.sigmoid()) - 1.0).log()


class Deaf(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return 1e-6 * super().forward(x)


class AllNaN(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float("nan")


class ReturnsADict(Sound):
    def forward(self, x: Tensor) -> Any:
        return {"out": super().forward(x)}


class Raises(Sound):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no")


class LooksAtTheData(Sound):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if x.abs().sum() > 0 else y + 1.0


class CallsHome(Sound):
    def __init__(self, in_channels: int = 7, classes: int = 2) -> None:
        super().__init__(in_channels, classes)
        with suppress(OSError):
            socket.getaddrinfo("localhost", 9)


class IgnoresItsWeights(Sound):
    """A network.

    Args:
        encoder_weights: None for random weights, or the name of weights.
    """

    def __init__(self, in_channels: int = 7, classes: int = 2, encoder_weights: str | None = None) -> None:
        super().__init__(in_channels, classes)


class MiscountsItsBands(Sound):
    """A small network.

    Args:
        bands: names of the bands.
    """

    def __init__(self, in_channels: int = 7, classes: int = 2, *, bands: Sequence[str] | None = None) -> None:
        super().__init__(in_channels, classes)


class WithGain(Sound):
    """A network.

    Args:
        gain: scale of the logits.
    """

    def __init__(self, in_channels: int = 7, classes: int = 2, gain: Literal["one", "two"] = "one") -> None:
        super().__init__(in_channels, classes)
        if gain == "two":
            raise ValueError("two is not implemented")


class WithoutHelp(Sound):
    def __init__(self, in_channels: int = 7, classes: int = 2, gain: float = 1.0) -> None:
        super().__init__(in_channels, classes)


BROKEN: list[tuple[str, ModelSpec, type[nn.Module]]] = [
    ("output_shape", SOUND, ForgetsOddSizes),
    ("output_shape", SOUND, WrongBelowItsMinimum),
    ("output_shape", SOUND, HalfPrecision),
    ("wrong_channels", SOUND, IgnoresExtraBands),
    ("modes", SOUND, CountsItsCalls),
    ("gradients", SOUND, UnusedParameter),
    ("gradients", SOUND, UnreachedParameter),
    ("batch_of_one", SOUND, LooksAtItsNeighbours),
    ("batch1_training", SOUND, PooledNorm),
    ("batch1_training", replace(SOUND, flags=frozenset({Flag.EXPORTABLE})), Sound),
    ("determinism", SOUND, Unseeded),
    ("determinism", SOUND, AlwaysTheSame),
    ("state_dict", SOUND, HiddenState),
    ("bf16", SOUND, LosesItsDigits),
    ("overfits", SOUND, Deaf),
    ("parameters", replace(SOUND, parameters=SOUND.parameters + 1), Sound),  # type: ignore[operator]
    ("gmac", replace(SOUND, gmac=SOUND.gmac + 0.01), Sound),  # type: ignore[operator]
    ("exportable", SOUND, LooksAtTheData),
    ("exportable", replace(SOUND, flags=frozenset({Flag.BATCH1_TRAINING})), Sound),
    ("no_download", SOUND, CallsHome),
    (
        "pretrained_encoder",
        replace(SOUND, flags=SOUND.flags | {Flag.PRETRAINED_ENCODER}, encoder_weights=("imagenet",)),
        IgnoresItsWeights,
    ),
    ("pretrained_encoder", replace(SOUND, flags=SOUND.flags | {Flag.PRETRAINED_ENCODER}), Sound),
    ("pretrained_encoder", SOUND, IgnoresItsWeights),
    ("named_bands", replace(SOUND, flags=SOUND.flags | {Flag.NAMED_BANDS}), Sound),
    ("named_bands", replace(SOUND, flags=SOUND.flags | {Flag.NAMED_BANDS}), MiscountsItsBands),
    ("named_bands", SOUND, MiscountsItsBands),
    ("untrained", replace(SOUND, flags=SOUND.flags | {Flag.UNTRAINED}), Sound),
    ("needs_rain", replace(SOUND, flags=SOUND.flags | {Flag.NEEDS_RAIN}), Sound),
    ("options", SOUND, WithGain),
    ("options", SOUND, WithoutHelp),
]


def failures(spec: ModelSpec, model: type[nn.Module]) -> dict[str, str]:
    results = run_checks(ModelUnderTest(spec, factory=model))
    assert [result.check for result in results] == [name_of(check) for check in CHECKS]
    return {result.check: result.message for result in results if result.status == "failed"}


class PassesItsKernel(Sound):
    """A layer gets a parameter, whose gradient the counter of operations follows."""

    def __init__(self, in_channels: int = 7, classes: int = 2) -> None:
        super().__init__(in_channels, classes)
        self.same = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.same(self.conv.weight)
        return self.head(F.relu(self.norm(F.conv2d(x, kernel, self.conv.bias, padding=1))))


def test_operations_are_counted_where_a_layer_gets_a_parameter() -> None:
    check_gmac(ModelUnderTest(SOUND, factory=PassesItsKernel))


def test_a_sound_model_passes() -> None:
    assert failures(SOUND, Sound) == {}


class Detached(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


class Exits(Sound):
    def forward(self, x: Tensor) -> Tensor:
        raise SystemExit(3)


@pytest.mark.parametrize(
    ("check", "spec", "model"), BROKEN, ids=[f"{check}-{model.__name__}" for check, _, model in BROKEN]
)
def test_a_broken_model_fails_its_check_and_no_other(check: str, spec: ModelSpec, model: type[nn.Module]) -> None:
    found = failures(spec, model)
    assert list(found) == [check], found
    assert len(found[check]) > 20


def test_every_check_has_a_broken_model() -> None:
    assert {check for check, _, _ in BROKEN} == {name_of(check) for check in CHECKS}
    assert all(check.__doc__ for check in CHECKS)


@pytest.mark.parametrize(
    ("model", "check", "word"),
    [
        (NoiseInEval, "modes", "two evaluations"),
        (TwoHeadsInTraining, "modes", "forward returned a tuple in training mode, for images of shape"),
        (WrongBelowItsMinimum, "output_shape", "raise `minimum_size` to 32"),
        (ForgetsOddSizes, "output_shape", "return logits of shape (B, K, H, W), here (2, 2, 32, 33)"),
        (AllNaN, "output_shape", "all logits are NaN or infinite with 1 class,"),
        (ReturnsADict, "output_shape", "forward returned a dict"),
        (Raises, "output_shape", "forward raised ValueError: no"),
        (ReturnsADict, "overfits", "forward returned a dict in training step 1, for images"),
        (AllNaN, "overfits", "all logits are NaN or infinite in training step 1"),
        (Detached, "gradients", "the logits do not depend on any parameter; keep forward free of detach()"),
        (Exits, "output_shape", "forward raised SystemExit: 3"),
        (InfiniteGradient, "gradients", "not finite"),
        (CountsItsCalls, "modes", "calls"),
        (UnusedParameter, "gradients", "head.unused"),
        (UnreachedParameter, "gradients", "last_bias"),
        (MutedBranch, "gradients", "branch.weight, branch.bias;"),
        (SoftmaxOfOneChannel, "gradients", "branch.weight, branch.bias;"),
        (CallsHome, "no_download", "localhost"),
        (WithGain, "options", "gain='two' raised ValueError: two is not implemented"),
        (WithoutHelp, "options", "does not describe gain"),
    ],
)
def test_messages_name_the_culprit(model: type[nn.Module], check: str, word: str) -> None:
    assert word in failures(SOUND, model)[check]


def test_a_channel_that_starts_dead_has_a_gradient() -> None:
    class StartsDead(Sound):
        def __init__(self, in_channels: int = 7, classes: int = 2) -> None:
            super().__init__(in_channels, classes)
            self.norm.bias.data.fill_(-100.0)

    results = run_checks(ModelUnderTest(SOUND, factory=StartsDead), [check_gradients])
    assert [result.status for result in results] == ["passed"]


GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": Tensor.tanh,
    "hardsigmoid": F.hardsigmoid,
    "swish in place": lambda branch: branch.mul_(branch.sigmoid()).sigmoid(),
    "sigmoid by keyword": lambda branch: torch.sigmoid(input=branch),
    "softmax over positions": lambda branch: branch.flatten(1).softmax(dim=1).view_as(branch),
}


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES)
def test_a_gate_that_saturates_before_training_has_a_gradient(gate: Callable[[Tensor], Tensor]) -> None:
    class Gated(WithBranch):
        def __init__(self, in_channels: int = 7, classes: int = 2) -> None:
            super().__init__(in_channels, classes)
            self.branch.weight.data.fill_(1e6)

        def combined(self, y: Tensor, branch: Tensor) -> Tensor:
            return y * gate(branch)

    check_gradients(ModelUnderTest(SOUND, factory=Gated))


def test_a_bias_that_a_difference_cancels_needs_no_gradient() -> None:
    class Differs(WithBranch):
        def combined(self, y: Tensor, branch: Tensor) -> Tensor:
            left, right = branch.chunk(2, dim=3)
            return y * (left - right).mean(dim=(1, 2, 3), keepdim=True)

    check_gradients(ModelUnderTest(SOUND, factory=Differs))


def test_a_constructor_that_computes_with_values_passes_the_check_of_options() -> None:
    class Measures(WithGain):
        """A network.

        Args:
            gain: scale of the logits.
        """

        def __init__(self, in_channels: int = 7, classes: int = 2, gain: Literal["one", "half"] = "one") -> None:
            super().__init__(in_channels, classes)
            self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]

    check_options(ModelUnderTest(SOUND, factory=Measures))


def test_numbers_that_a_spec_leaves_out_are_skipped_not_passed() -> None:
    results = run_checks(ModelUnderTest(replace(SOUND, parameters=None, gmac=None), factory=Sound))
    skipped = {result.check for result in results if result.status == "skipped"}
    assert skipped == {"parameters", "gmac", "named_bands", "untrained", "needs_rain", "options"}


def test_rain_models_skip_what_needs_images() -> None:
    class Rain(Sound):
        def forward(self, x: Tensor, rain: Tensor | None = None) -> Tensor:
            if rain is None:
                raise ValueError("no rain")
            return super().forward(x)

    results = run_checks(ModelUnderTest(replace(SOUND, flags=SOUND.flags | {Flag.NEEDS_RAIN}), factory=Rain))
    assert {result.status for result in results} == {"passed", "skipped"}
    passed = {result.check for result in results if result.status == "passed"}
    assert passed == {"parameters", "no_download", "pretrained_encoder", "needs_rain"}


@pytest.mark.parametrize("model", [AllNaN, ReturnsADict, Raises])
def test_a_wrong_output_is_described_by_every_check(model: type[nn.Module]) -> None:
    for message in failures(SOUND, model).values():
        assert "object has no attribute" not in message
        assert "must be" not in message


def test_progress_names_every_check() -> None:
    seen: list[tuple[str, int, int]] = []
    run_checks(
        ModelUnderTest(SOUND, factory=Sound), CHECKS[:2], lambda name, done, total: seen.append((name, done, total))
    )
    assert seen == [("output_shape", 0, 2), ("wrong_channels", 1, 2)]


def test_check_model_reports_every_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(SOUND, parameters=1, gmac=1.0)
    monkeypatch.setattr(type(catalogue().models), "get", lambda self, name: spec)
    monkeypatch.setattr(ModelSpec, "resolve", lambda self, target=None: Sound)
    with pytest.raises(ContractError, match=r"2 of 19 checks failed: parameters: .*; gmac: ") as error:
        check_model("sound")
    assert "model 'sound'" in str(error.value)


def test_unknown_models_get_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="enhanced_unet"):
        check_model("enhanced_unett")
    with pytest.raises(ConfigError):
        model_contract()


def test_the_model_is_restored_between_checks() -> None:
    tested = ModelUnderTest(SOUND, factory=Sound)
    model = tested.model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        model.conv.weight.zero_()
        model.train()(tested.images())
    restored = tested.model()
    assert restored is model
    assert not restored.training
    assert all(torch.equal(value, before[key]) for key, value in restored.state_dict().items())


def test_making_a_model_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    ModelUnderTest(SOUND, factory=Sound).create()
    assert torch.equal(torch.rand(3), expected)


def test_no_network_refuses_and_records_connections() -> None:
    logger = logging.getLogger("huggingface_hub")
    assert logger.isEnabledFor(logging.WARNING)
    with no_network() as refused, pytest.raises(NetworkRefusedError):
        assert not logger.isEnabledFor(logging.WARNING)
        socket.create_connection(("203.0.113.1", 80), timeout=1)
    assert "203.0.113.1" in refused[0]
    assert logger.isEnabledFor(logging.WARNING)


def test_large_weights_repeat_their_random_numbers() -> None:
    model = ModelUnderTest(SOUND, factory=lambda in_channels, classes: nn.Linear(700, 600))
    before = torch.get_rng_state()
    weight, other = (model.create(seed=seed).weight.detach() for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(weight.unique()) <= DRAWN < weight.numel() // 2
    assert len(weight.unique(dim=0)) == 600
    assert not torch.equal(weight, other)
    bound = 700**-0.5
    assert 0.99 * bound < weight.abs().max() <= bound
    assert abs(weight.mean()) < 0.01 * bound


def test_zoo_testing_imports_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import zoo.testing; print(len(zoo.testing.CHECKS))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(len(CHECKS))
