"""The contract of the zoo over ``mondini_rain``: as it is, and with rain, where the checks that need images apply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo_mondini import MONDINI_RAIN
from zoo_mondini.model import MondiniRain

from zoo.registry import Flag, catalogue, forwards_options
from zoo.testing import CHECKS, Check, CheckSkipped, ModelUnderTest, model_contract, run_checks
from zoo.testing.contract import name_of

test_contract = model_contract("mondini_rain")

ELSEWHERE = {
    "output_shape": "knows two classes, and refuses 3 or 14 bands unless the slope is named",
    "overfits": "sees one band and no texture: it cannot learn the check's patterns, nor should it",
    "gmac": "the spec states none",
    "parameters": "checked without the wrapper",
    "needs_rain": "checked without the wrapper",
    "named_bands": "not declared: it finds the slope by the option `slope`",
    "exportable": "not declared, since an image alone is no input; checked below",
}


class UnderRain(nn.Module):
    """The model with a rainfall history of its own for every image, so that it takes images alone."""

    @forwards_options(MondiniRain)
    def __init__(self, in_channels: int, classes: int, **options: Any) -> None:
        super().__init__()
        self.model = MondiniRain(in_channels, classes, **options)

    def forward(self, x: Tensor) -> Tensor:
        hours = self.model.rain.hours
        return self.model(x, x[:, 0, 0, :1].abs().float() + torch.arange(hours) % 5)


@pytest.mark.parametrize("check", [c for c in CHECKS if name_of(c) not in ELSEWHERE], ids=name_of)
def test_contract_under_rain(check: Check) -> None:
    spec = replace(MONDINI_RAIN, flags=MONDINI_RAIN.flags - {Flag.NEEDS_RAIN})
    try:
        check(ModelUnderTest(spec, factory=UnderRain))
    except CheckSkipped as reason:
        pytest.skip(str(reason))


def test_the_contract_really_runs() -> None:
    results = {result.check: result.status for result in run_checks("mondini_rain")}
    assert "failed" not in results.values()
    assert {name for name, status in results.items() if status == "passed"} == {
        "parameters", "no_download", "pretrained_encoder", "needs_rain", "options",
    }  # fmt: skip
    assert catalogue().models.get("mondini_rain") is MONDINI_RAIN


def test_exports_with_rain() -> None:
    model = MondiniRain().eval()
    images, rain = torch.randn(3, 7, 8, 8), torch.rand(3, 72)
    batch = torch.export.Dim("batch", max=1024)
    shapes = ({0: batch}, {0: batch})
    exported = torch.export.export(model, (images[:2], rain[:2]), dynamic_shapes=shapes, strict=False).module()
    assert torch.allclose(exported(images, rain), model(images, rain), atol=1e-5)
