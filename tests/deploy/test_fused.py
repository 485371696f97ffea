"""The fast forms of layers and models compute what they stand for."""

from __future__ import annotations

import copy
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.blocks import MCSA, HybridConv2d
from zoo.deploy import fold, fused
from zoo.deploy.forms import ParallelForm, TorchOptions, choose_hybrid_forms, make_torch_form
from zoo.deploy.fused import (
    HYBRID_FORMS,
    NO_ACTIVATION,
    PACKED_SHAPES,
    RELU,
    Activation,
    DoubledConv2d,
    DoublingBlock,
    FoldedHybridConv2d,
    FusedMCSA,
    PackedConv2d,
    hybrid_forms_of,
    packing_available,
    replace_doubling_blocks,
)

EXACT = 5e-6
Relative = Callable[[Tensor, Tensor], float]
LAYERS = [
    HybridConv2d(5, 8),
    HybridConv2d(8, 4, branch_weights=(0.3, -1.2), dilation=3, bias=False),
    HybridConv2d(6, 6, kernel_size=5),
    HybridConv2d(6, 8, mode="split"),
    HybridConv2d(6, 8, mode="separate", branch_weights=(0.9, 0.2)),
    HybridConv2d(4, 8, convolution="dilated+grouped"),
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layer", LAYERS, ids=repr)
@torch.no_grad()
def test_every_form_of_a_hybrid_convolution_is_equal(layer: HybridConv2d, packed: bool, relative: Relative) -> None:
    for form, (height, width) in itertools.product(hybrid_forms_of(layer), [(16, 16), (7, 12), (3, 2)]):
        x = torch.randn(3, layer.in_channels, height, width).contiguous(memory_format=torch.channels_last)
        kept = x.clone()
        y = FoldedHybridConv2d(layer, form, RELU, packed=packed and packing_available())(x)
        assert relative(y, layer(x).relu()) <= EXACT
        assert torch.equal(x, kept)


def test_strips_of_any_height_give_the_same(monkeypatch: pytest.MonkeyPatch, relative: Relative) -> None:
    layer = HybridConv2d(4, 6).eval()
    x = torch.randn(2, 4, 13, 10)
    with torch.no_grad():
        expected = layer(x)
        for strip in (1, 5000, 10**9):
            monkeypatch.setattr(fused, "STRIP_BYTES", strip)
            assert relative(FoldedHybridConv2d(layer, "averaged")(x), expected) <= EXACT


@pytest.mark.parametrize(("height", "most"), [(128, 7), (64, 7), (32, 14), (16, 7), (8, 14), (13, 1), (7, 0), (31, 30)])
def test_strips_overlap_by_at_most_five_per_cent(height: int, most: int) -> None:
    rows = fused._strip_height(height, most)
    assert 1 <= rows <= max(1, most)
    assert height <= rows * -(-height // rows) <= 1.05 * height


def test_only_shared_dense_kernels_can_be_averaged() -> None:
    assert [hybrid_forms_of(layer) for layer in LAYERS] == [*[HYBRID_FORMS] * 3, *[("two", "merged")] * 3]
    assert hybrid_forms_of(HybridConv2d(4, 4, branch_weights=(0.0, 1.0))) == ("two", "merged")


@pytest.mark.parametrize("fusion", ["add", "mul", "residual"])
@torch.no_grad()
def test_mcsa_without_its_map_is_equal(fusion: str, relative: Relative) -> None:
    block = MCSA(8, fusion).eval()
    x = torch.randn(3, 8, 9, 14)
    for images in (x, x.contiguous(memory_format=torch.channels_last)):
        assert relative(FusedMCSA(block)(images), block(images)) <= EXACT


@pytest.mark.skipif(not packing_available(), reason="this build of torch has no oneDNN operators")
@pytest.mark.parametrize(
    "activation", [RELU, Activation("hardtanh", (0.0, 6.0)), Activation()], ids=lambda one: one.name
)
@torch.no_grad()
def test_packed_convolutions_are_equal(activation: Activation, relative: Relative) -> None:
    for conv in (
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, stride=2, groups=8, bias=False),
        nn.Conv2d(8, 6, 1, dilation=2),
    ):
        x = 10 * torch.randn(2, conv.in_channels, 11, 14).contiguous(memory_format=torch.channels_last)
        assert relative(PackedConv2d(conv, activation)(x), activation(conv(x))) <= EXACT


@pytest.mark.slow
@pytest.mark.parametrize("name", ["enhanced_unet", "drs_unet", "mobilenetv2"])
@torch.no_grad()
def test_forms_of_a_model_agree_at_any_size(name: str, trained: Callable[[str], nn.Module], relative: Relative) -> None:
    model, example = trained(name), torch.randn(2, 7, 64, 64)
    folded = fold(model, example).model
    layers = [key for key, module in folded.named_modules() if isinstance(module, HybridConv2d)]
    images = torch.randn(3, 7, 70, 97)
    expected = model(images)
    for form in HYBRID_FORMS if layers else HYBRID_FORMS[:1]:
        for options, limit in (
            (TorchOptions(), 2e-5),
            (TorchOptions(images=2), 2e-5),
            (TorchOptions(channels_last=False, fused=False), 2e-5),
            (TorchOptions("bf16"), 0.2),
            (TorchOptions("bf16", fused=False), 0.2),
        ):
            made = make_torch_form(folded, example, options, dict.fromkeys(layers, form))
            found = made(images)
            assert found.dtype == torch.float32
            assert relative(found, expected) <= limit
    assert folded.state_dict().keys() == fold(model, example).model.state_dict().keys()


def test_hybrid_forms_are_chosen_by_time(monkeypatch: pytest.MonkeyPatch, trained: Callable[[str], nn.Module]) -> None:
    def slowest_averaged(candidates: dict[str, Any], device: torch.device, **limits: Any) -> dict[str, float]:
        return {name: {"two": 2.0, "merged": 1.0, "averaged": 3.0}[name] for name in candidates}

    example = torch.randn(1, 7, 32, 32)
    folded = fold(trained("enhanced_unet"), example).model
    assert set(choose_hybrid_forms(folded, example, "fp32").values()) <= set(HYBRID_FORMS)
    monkeypatch.setattr("zoo.deploy.forms.time_interleaved", slowest_averaged)
    chosen = choose_hybrid_forms(folded, example, "fp32")
    assert len(chosen) == 6
    assert set(chosen.values()) == {"merged"}


TRITON = """
import torch
from zoo.blocks import HybridConv2d
from zoo.deploy.triton_average import averaged_convolution

torch.manual_seed(0)
layer = HybridConv2d(5, 6, branch_weights=(0.4, 0.7)).eval()
x = torch.randn(2, 5, 7, 9)
weight = (0.4 * layer.weight).permute(0, 2, 3, 1).flatten(1).detach()
for relu in (False, True):
    y = averaged_convolution(x, weight, layer.bias.detach(), rates=(1, 2), taps=3, ratio=0.7 / 0.4, relu=relu)
    expected = layer(x).relu() if relu else layer(x)
    print(float((y - expected).norm() / expected.norm()))
"""


@pytest.mark.slow
def test_the_triton_kernel_is_equal_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", TRITON],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all(float(line) <= EXACT for line in done.stdout.split())


def test_parallel_images_give_the_same_results_in_the_same_order(relative: Relative) -> None:
    layer = nn.Conv2d(3, 4, 3, padding=1).eval()
    form = ParallelForm(layer, streams=2, threads=1, images=2)
    threads = torch.get_num_threads()
    for count in (0, 1, 2, 3, 9):
        x = torch.randn(count, 3, 8, 8)
        y = form(x)
        assert not y.requires_grad
        assert y.shape == (count, 4, 8, 8)
        assert count == 0 or relative(y, layer(x).detach()) <= EXACT
    assert torch.get_num_threads() == threads
    assert list(ThreadPoolExecutor(1).map(lambda _: torch.get_num_threads(), [0])) == [threads]


def test_each_stream_has_its_own_threads_and_a_copy_has_its_own_streams() -> None:
    seen: list[tuple[int, int]] = []

    class Look(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((torch.get_num_threads(), threading.get_ident()))
            return x

    before = torch.get_num_threads()
    form = ParallelForm(Look(), streams=2, threads=before + 2, images=1)
    form(torch.zeros(4, 1, 1, 1))
    assert {count for count, _ in seen} == {before + 2}
    first = {name for _, name in seen}
    assert threading.get_ident() not in first
    seen.clear()
    copy.deepcopy(form)(torch.zeros(4, 1, 1, 1))
    assert first.isdisjoint({name for _, name in seen})


def test_an_error_in_a_stream_reaches_the_caller() -> None:
    form = ParallelForm(nn.Conv2d(3, 4, 3).eval(), streams=2, threads=1, images=1)
    with pytest.raises(RuntimeError, match="channels"):
        form(torch.zeros(4, 2, 8, 8))


@pytest.mark.skipif(not packing_available(), reason="this build of torch has no oneDNN operators")
@torch.no_grad()
def test_weights_are_packed_for_each_number_of_threads(monkeypatch: pytest.MonkeyPatch, relative: Relative) -> None:
    """A layout for two threads is rearranged at every call by one, which took six times as long as the model."""
    conv = nn.Conv2d(8, 8, 3, padding=1)
    packed, x = PackedConv2d(conv), torch.randn(1, 8, 9, 9).contiguous(memory_format=torch.channels_last)
    layouts = []
    for threads in (1, 2, 1, 7, 8, 9):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        layouts.append(packed.kernel.packed(tuple(x.shape)))
        assert relative(packed(x), conv(x)) <= EXACT
    assert layouts[0] is layouts[2]
    assert layouts[0] is not layouts[1]
    assert len(packed.kernel._packed) == PACKED_SHAPES


EXACT = 5e-6
Relative = Callable[[Tensor, Tensor], float]
pytestmark = pytest.mark.skipif(not packing_available(), reason="this build of torch has no oneDNN operators")


@pytest.mark.parametrize("activation", [RELU, NO_ACTIVATION], ids=lambda one: one.name)
@pytest.mark.parametrize(("doubled", "beside"), [(5, 3), (4, 0)])
@torch.no_grad()
def test_a_convolution_of_a_doubled_map_is_equal(
    doubled: int, beside: int, activation: Activation, relative: Relative
) -> None:
    conv = nn.Conv2d(doubled + beside, 6, 3, padding=1, bias=activation is RELU)
    fast = DoubledConv2d(conv, doubled, activation)
    for height, width in ((1, 1), (2, 3), (7, 4)):
        x = torch.randn(2, doubled, height, width).contiguous(memory_format=torch.channels_last)
        skip = torch.randn(2, beside, 2 * height, 2 * width).contiguous(memory_format=torch.channels_last)
        kept = x.clone(), skip.clone()
        large = torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skip], dim=1)
        assert relative(fast(x, skip if beside else None), activation(conv(large))) <= EXACT
        assert torch.equal(x, kept[0])
        assert torch.equal(skip, kept[1])


def unet(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return smp.Unet("resnet18", encoder_weights=None, in_channels=4, classes=2, **options)


@pytest.mark.parametrize(
    ("options", "blocks"),
    [
        ({}, 5),
        ({"decoder_use_norm": False}, 5),
        ({"decoder_interpolation": "bilinear"}, 0),
        ({"decoder_attention_type": "scse"}, 0),
    ],
    ids=str,
)
@torch.no_grad()
def test_only_blocks_that_double_and_convolve_are_replaced(
    options: dict[str, Any], blocks: int, as_trained: Callable[[nn.Module], nn.Module], relative: Relative
) -> None:
    model, image = as_trained(unet(**options)), torch.randn(2, 4, 32, 64)
    folded = fold(model, image).model
    form = make_torch_form(folded, image, TorchOptions(), {})
    assert sum(isinstance(module, DoublingBlock) for module in form.modules()) == blocks
    assert not [module for module in folded.modules() if isinstance(module, DoublingBlock)]
    assert relative(form(image), model(image)) <= EXACT


@torch.no_grad()
def test_what_is_not_doubled_takes_the_long_way(relative: Relative) -> None:
    block = smp.decoders.unet.decoder.UnetDecoderBlock(4, 3, 6, use_norm=False).eval()
    holder = nn.Module()
    holder.add_module("block", block)
    x, skip = torch.randn(1, 4, 5, 6), torch.randn(1, 3, 9, 12)
    holder.forward = lambda _: holder.block(x, 9, 12, skip)  # type: ignore[method-assign,assignment]
    expected = holder(None)
    assert replace_doubling_blocks(holder, x) == 1
    assert isinstance(holder.block, DoublingBlock)
    assert relative(holder(None), expected) <= EXACT
    hooked = smp.decoders.unet.decoder.UnetDecoderBlock(4, 3, 6, use_norm=False).eval()
    hooked.register_forward_hook(lambda *_: None)
    assert replace_doubling_blocks(hooked, x) == 0
