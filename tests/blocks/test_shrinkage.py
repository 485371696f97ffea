from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from zoo.blocks import ResidualShrinkage, soft_threshold
from zoo.errors import ConfigError, ModelError

numbers = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20)


@given(values=numbers, threshold=st.floats(0, 50, width=32))
def test_soft_threshold_is_sign_times_shrunk_magnitude(values: list[float], threshold: float) -> None:
    x = np.array(values, dtype=np.float64)
    expected = np.sign(x) * np.maximum(np.abs(x) - threshold, 0)
    got = soft_threshold(torch.from_numpy(x), torch.tensor(threshold, dtype=torch.float64))
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-12)


def test_gradients_of_soft_threshold() -> None:
    x = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0], requires_grad=True)
    threshold = torch.tensor(1.0, requires_grad=True)
    soft_threshold(x, threshold).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 0, 0, 0, 1]
    assert threshold.grad is not None
    assert threshold.grad.item() == 0.0, "one term shrinks upwards, one downwards"


def unit_by_hand(unit: ResidualShrinkage, x: Tensor, training: bool) -> Tensor:
    """The unit from its state dict and torch.nn.functional, as the DRSN paper draws it."""
    state = unit.state_dict()

    def norm(y: Tensor, name: str) -> Tensor:
        mean, var = (None, None) if training else (state[f"{name}.running_mean"], state[f"{name}.running_var"])
        return F.batch_norm(y, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], training=training)

    z = F.conv2d(F.relu(norm(x, "residual.0")), state["residual.2.weight"], stride=unit.stride, padding=1)
    z = F.conv2d(F.relu(norm(z, "residual.3")), state["residual.5.weight"], padding=1)
    a = z.abs().mean(dim=(2, 3))
    hidden = F.relu(norm(F.linear(a, state["reduce.weight"], state["reduce.bias"]), "norm"))
    alpha = torch.sigmoid(F.linear(hidden, state["expand.weight"], state["expand.bias"]))
    tau = (alpha * a)[:, :, None, None]
    shrunk = torch.sign(z) * torch.clamp(z.abs() - tau, min=0)
    identity = x[:, :, :: unit.stride, :: unit.stride]
    out = torch.zeros_like(shrunk)
    before = (shrunk.shape[1] - x.shape[1]) // 2
    out[:, before : before + x.shape[1]] = identity
    return shrunk + out


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 1), (8, 16, 2), (8, 13, 1), (4, 8, 3)])
def test_unit_is_the_reference(inputs: int, outputs: int, stride: int, training: bool) -> None:
    torch.manual_seed(0)
    unit = ResidualShrinkage(inputs, outputs, stride)
    x = torch.randn(4, inputs, 11, 9)
    for _ in range(3):
        unit(torch.randn(4, inputs, 11, 9))
    expected = unit_by_hand(unit, x, training)
    torch.testing.assert_close(unit.train(training)(x), expected, rtol=1e-4, atol=1e-5)


def test_thresholds_lie_below_the_mean_magnitude() -> None:
    torch.manual_seed(1)
    unit = ResidualShrinkage(6, 6)
    z = torch.randn(5, 6, 8, 8)
    tau = unit.threshold(z)
    assert tau.shape == (5, 6, 1, 1)
    assert bool((tau > 0).all())
    assert bool((tau < z.abs().mean(dim=(2, 3), keepdim=True)).all())


def test_batch_of_one_is_refused_in_training_with_a_clear_message() -> None:
    unit = ResidualShrinkage(4, 4)
    x = torch.randn(1, 4, 8, 8)
    with pytest.raises(ModelError, match=r"batch of one.*Use a batch of two"):
        unit(x)
    assert unit.eval()(x).shape == x.shape


def test_a_frozen_norm_trains_on_one() -> None:
    unit = ResidualShrinkage(4, 4)
    unit.norm.eval()
    unit(torch.randn(1, 4, 8, 8)).sum().backward()
    assert unit.reduce.weight.grad is not None


def test_channels_never_shrink() -> None:
    with pytest.raises(ConfigError, match="cannot shrink 8 channels to 4"):
        ResidualShrinkage(8, 4)
