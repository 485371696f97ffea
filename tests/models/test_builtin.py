"""Parameters and arithmetic of every row of the architecture table, and of the options that it names."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from zoo.errors import ZooError
from zoo.models.builtin import MODELS
from zoo.registry import Flag, ModelSpec, create_model, list_models

SPECS = {spec.name: spec for spec in MODELS}


def cost(name: str, *, count: bool = True, **options: Any) -> tuple[int, float]:
    """Parameters, and if asked GMAC of one 7x128x128 image, without memory or arithmetic."""
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad(), counter if count else nullcontext():
        model = create_model(name, **options).eval()
        assert model(torch.empty(1, 7, 128, 128)).shape == (1, 2, 128, 128)
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() / 2e9


TABLE = [
    ("unet", {}, 14_791_298, 8.04),
    ("enhanced_unet", {}, 15_142_727, 11.75),
    ("segnet", {}, 29_446_466, 10.05),
    ("segnet", {"decoder": "lite"}, 24_134_210, 8.69),
    ("deeplabv3plus", {}, 58_761_634, 4.98),
    ("deeplabv3plus", {"output_stride": 8}, 58_761_634, 15.70),
    ("mobilenetv2", {}, 13_351_522, 2.11),
    ("drs_unet", {}, 47_406_978, 19.94),
    ("model54_standin", {}, 23_759_138, 6.22),
    ("dndvi_threshold", {}, 0, 0.0),
]


@pytest.mark.parametrize(("name", "options", "parameters", "gmac"), TABLE)
def test_the_table(name: str, options: dict[str, Any], parameters: int, gmac: float) -> None:
    counted, macs = cost(name, **options)
    assert counted == parameters
    assert macs == pytest.approx(gmac, abs=0.005)
    if not options:
        assert SPECS[name].parameters == parameters
        assert SPECS[name].gmac == gmac


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("unet", 14),
        ("enhanced_unet", 15),
        ("deeplabv3plus", 58),
        ("mobilenetv2", 13),
        ("drs_unet", 47),
        ("model54_standin", 23),
    ],
)
def test_the_default_floors_to_the_papers_table_6(name: str, millions: int) -> None:
    parameters = SPECS[name].parameters
    assert parameters is not None
    assert parameters // 1_000_000 == millions


HYBRID = {"convolution": "standard+dilated"}
OPTIONS = [
    ("unet", {"upsample": "bilinear"}, 13_397_698, None),
    # milesial's canonical U-Net: 31,037,698 at 3 channels without biases before BN; 5,888 biases, 4 more bands.
    ("unet", {"widths": (64, 128, 256, 512, 1024)}, 31_037_698 + 5_888 + 4 * 64 * 9, None),
    ("unet", HYBRID | {"mode": "shared"}, 14_791_298, 11.73),
    ("unet", HYBRID | {"mode": "split"}, 14_791_298, 8.04),
    ("unet", HYBRID | {"mode": "partial"}, 15_164_418, None),
    ("unet", HYBRID | {"mode": "separate"}, 24_198_594, 11.73),
    ("enhanced_unet", {"mode": "split"}, 15_142_727, None),
    ("enhanced_unet", {"mode": "partial"}, 15_515_847, None),
    ("enhanced_unet", {"mode": "separate"}, 24_550_023, None),
    ("enhanced_unet", {"attention": "none"}, 14_791_298, 11.73),
    ("enhanced_unet", {"attention": "channel"}, 14_791_298 + 351_429 - 5 * 1_185, None),
    ("enhanced_unet", {"attention": "spatial"}, 14_791_298 + 5 * 1_185, None),
    ("enhanced_unet", {"reduction": 16}, 14_877_551, None),
    ("enhanced_unet", {"fusion": "mul"}, 15_142_727, 11.75),
    ("enhanced_unet", {"fusion": "residual"}, 15_142_727, 11.75),
    ("enhanced_unet", {"attention_at": ()}, 14_791_298, None),
    ("enhanced_unet", {"attention_at": ("bottleneck",)}, 14_791_298 + 149_409, None),
    ("enhanced_unet", {"attention_at": ("skip",)}, 14_791_298 + 3_585 + 10_593 + 38_433 + 149_409, None),
    ("enhanced_unet", {"attention_at": ("decoder",)}, 14_791_298 + 2 * 3_585 + 10_593 + 38_433, None),
    ("unet", {"convolution": "dilated"}, 14_791_298, 8.04),
    ("unet", {"convolution": "standard+grouped"}, 14_791_298, None),
    ("unet", {"convolution": "dilated+grouped"}, 14_791_298, None),
    # Nine of ten encoder convolutions in four groups: three quarters of their 9,400,320 weights are gone.
    ("unet", {"convolution": "grouped"}, 14_791_298 - 9_400_320 * 3 // 4, None),
    ("deeplabv3plus", {"decoder_convs": 2}, 59_351_970, None),
    ("deeplabv3plus", {"output_stride": 32}, 58_761_634, None),
    ("mobilenetv2", {"output_stride": 8}, 13_351_522, None),
    ("mobilenetv2", {"decoder_convs": 1}, 13_351_522 - 256 * 256 * 9 - 512, None),
]


@pytest.mark.parametrize(("name", "options", "parameters", "gmac"), OPTIONS)
def test_the_options(name: str, options: dict[str, Any], parameters: int, gmac: float | None) -> None:
    counted, macs = cost(name, count=gmac is not None, **options)
    assert counted == parameters
    assert gmac is None or macs == pytest.approx(gmac, abs=0.005)


def test_the_built_in_models_are_registered() -> None:
    assert set(SPECS) <= set(list_models())


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_every_option_has_help_and_a_valid_default(spec: ModelSpec) -> None:
    for option in spec.options:
        assert len(option.help) > 10
        assert option.convert(option.default) == option.default


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_every_model_documents_its_design_choices(spec: ModelSpec) -> None:
    assert all(choice.mark in ("P", "S", "O") and choice.what.endswith(".") for choice in spec.provenance)
    assert any(choice.mark == "O" for choice in spec.provenance)
    assert spec.paper
    assert spec.minimum_size >= 32 or Flag.UNTRAINED in spec.flags
    assert (Flag.PRETRAINED_ENCODER in spec.flags) == bool(spec.encoder_weights)


def test_the_enhanced_unet_has_the_options_of_the_unet_and_other_defaults() -> None:
    ours = {option.name: option for option in SPECS["enhanced_unet"].options}
    plain = {option.name: option for option in SPECS["unet"].options}
    assert set(ours) == set(plain)
    assert {name for name in ours if ours[name].default != plain[name].default} == {"convolution", "attention"}
    assert all(ours[name].choices == plain[name].choices for name in ours)


@pytest.mark.parametrize(
    ("name", "option", "choices"),
    [
        (spec.name, option.name, option.choices)
        for spec in (SPECS["segnet"], SPECS["enhanced_unet"])
        for option in spec.options
        if option.choices
    ],
)
def test_every_choice_can_be_made(name: str, option: str, choices: tuple[Any, ...]) -> None:
    with torch.device("meta"):
        for choice in choices:
            create_model(name, **{option: choice})
    with pytest.raises(ZooError, match=option):
        create_model(name, **{option: "nonsense"})


def test_specs_import_no_torch() -> None:
    program = "import sys, zoo.models, zoo.models.builtin as s; print(len(s.MODELS), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["8", "False"]
