from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo.deploy import search, tuning_cache
from zoo.registry import create_model

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"widths": (8, 16, 16)},
    "enhanced_unet": {"widths": (8, 16, 16)},
    "drs_unet": {"widths": (8, 16), "depths": (1, 1)},
    "segnet": {"decoder": "lite"},
    "deeplabv3plus": {},
    "mobilenetv2": {},
    "model54_standin": {},
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small tensors gain nothing from a second thread, and lose much where it has to wait for a core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="module")
def _quiet_machine() -> Iterator[None]:
    """A choice that was measured beside other programs is measured again."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (search, tuning_cache):
            patch.setattr(module, "cores_in_use", lambda: 0.0)
        yield


def _as_trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch normalisation statistics and weights that are far from those it starts with."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            if module.affine:
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.bias.data.normal_(0, 0.3, generator=generator)
    return model.eval()


@cache
def _trained(name: str) -> nn.Module:
    torch.manual_seed(0)
    return _as_trained(create_model(name, **SMALL[name]))


@pytest.fixture(scope="session")
def as_trained() -> Callable[[nn.Module], nn.Module]:
    """Makes a model look trained."""
    return _as_trained


@pytest.fixture(scope="session")
def trained() -> Callable[[str], nn.Module]:
    """Gives a model of the zoo, small where it can be, as training leaves it; shared, so not to be changed."""
    return _trained


@pytest.fixture(scope="session")
def relative() -> Callable[[Tensor, Tensor], float]:
    """Norm of a difference over the norm of what was expected."""
    return lambda found, expected: float((found.double() - expected.double()).norm() / expected.double().norm())
