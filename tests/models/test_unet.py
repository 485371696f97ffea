from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.blocks import MCSA, ChannelAttention, HybridConv2d, SpatialAttention
from zoo.errors import UnknownNameError
from zoo.models.unet import UNet, enhanced_unet

SMALL = (8, 12, 16)


def by_hand(model: UNet, x: Tensor) -> Tensor:
    """The Enhanced U-Net from its state dict and torch.nn.functional, for three levels and the defaults."""
    state = model.state_dict()

    def norm(y: Tensor, name: str) -> Tensor:
        stats = [state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(y, *stats))

    def hybrid(y: Tensor, name: str) -> Tensor:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        standard = F.conv2d(y, weight, padding=1)
        dilated = F.conv2d(y, weight, padding=2, dilation=2)
        return 0.5 * standard + 0.5 * dilated + bias[:, None, None]

    def plain(y: Tensor, name: str) -> Tensor:
        return F.conv2d(y, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def mcsa(y: Tensor, name: str) -> Tensor:
        def branch(v: Tensor) -> Tensor:
            for layer in (0, 2, 4):
                key = f"{name}.channel.branch.{layer}"
                v = F.linear(v, state[f"{key}.weight"], state[f"{key}.bias"])
                v = v if layer == 4 else F.relu(v)
            return v

        channel = torch.sigmoid(branch(y.mean((2, 3))) + branch(y.amax((2, 3))))[:, :, None, None]
        spatial = torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], dim=1)
        for part in ("conv_1", "conv_2"):
            key = f"{name}.spatial.{part}"
            spatial = F.conv2d(spatial, state[f"{key}.weight"], state[f"{key}.bias"], padding=3)
            spatial = F.relu(spatial) if part == "conv_1" else torch.sigmoid(spatial)
        return y + channel + spatial

    levels = []
    for level in range(3):
        x = x if level == 0 else F.max_pool2d(x, 2)
        for conv in (0, 3):
            x = norm(hybrid(x, f"encoder.{level}.{conv}"), f"encoder.{level}.{conv + 1}")
        x = mcsa(x, f"encoder_attention.{level}")
        levels.append(x)
    for step, skip in enumerate((levels[1], levels[0])):
        up = f"upsample.{step}"
        x = torch.cat([skip, F.conv_transpose2d(x, state[f"{up}.weight"], state[f"{up}.bias"], stride=2)], dim=1)
        for conv in (0, 3):
            x = norm(plain(x, f"decoder.{step}.{conv}"), f"decoder.{step}.{conv + 1}")
    return F.conv2d(x, state["head.weight"], state["head.bias"])


def trained(model: UNet) -> UNet:
    """In eval mode, with statistics that are not the initial ones."""
    for _ in range(3):
        model(torch.randn(2, model.in_channels, 32, 32))
    return model.eval()


def test_enhanced_unet_is_its_equations() -> None:
    torch.manual_seed(0)
    model = trained(enhanced_unet(5, 3, widths=SMALL))
    x = torch.randn(2, 5, 24, 16)
    torch.testing.assert_close(model(x), by_hand(model, x), rtol=1e-4, atol=1e-5)


def test_unet_is_enhanced_unet_without_its_improvements() -> None:
    """A plain U-Net's weights fit the hybrid one, which equals it when the dilated operation weighs nothing."""
    torch.manual_seed(1)
    plain = trained(UNet(widths=SMALL))
    hybrid = UNet(widths=SMALL, convolution="standard+dilated", branch_weights=(1.0, 0.0))
    hybrid.load_state_dict(plain.state_dict())
    x = torch.randn(1, 7, 16, 16)
    torch.testing.assert_close(hybrid.eval()(x), plain(x), rtol=1e-5, atol=1e-6)
    assert enhanced_unet(widths=SMALL, attention="none").state_dict().keys() == plain.state_dict().keys()


def test_only_the_encoder_has_hybrid_convolutions() -> None:
    model = enhanced_unet(widths=SMALL)
    assert sum(isinstance(m, HybridConv2d) for m in model.encoder.modules()) == 6
    assert not any(isinstance(m, HybridConv2d) for m in model.decoder.modules())


def test_partial_is_separate_at_the_head_of_three_levels() -> None:
    model = enhanced_unet(widths=(8, 8, 8, 8, 8), mode="partial")
    layers = [m for m in model.encoder.modules() if isinstance(m, HybridConv2d)]
    assert [layer.mode for layer in layers] == ["separate", "single"] * 3 + ["single"] * 4
    assert {layer.convolution for layer in layers if layer.mode == "single"} == {"standard"}


@pytest.mark.parametrize("mode", ["shared", "split", "separate"])
def test_the_stem_is_dense_where_the_rest_is_grouped(mode: str) -> None:
    model = UNet(7, widths=(8, 16, 16), convolution="standard+grouped", mode=mode)
    layers = [m for m in model.encoder.modules() if isinstance(m, HybridConv2d)]
    assert [max(branch.groups for branch in layer.branches) for layer in layers] == [1, 4, 4, 4, 4, 4]
    assert model.eval()(torch.randn(1, 7, 8, 8)).shape == (1, 2, 8, 8)


@pytest.mark.parametrize(
    ("attention", "kind"), [("channel", ChannelAttention), ("spatial", SpatialAttention), ("mcsa", MCSA)]
)
@pytest.mark.parametrize(
    ("places", "count"),
    [(("encoder",), 2), (("bottleneck",), 1), (("skip",), 2), (("decoder",), 2), (("encoder", "decoder"), 4), ((), 0)],
)
def test_attention_blocks_are_at_the_chosen_places(
    attention: str, kind: type, places: tuple[str, ...], count: int
) -> None:
    model = UNet(widths=SMALL, attention=attention, attention_at=places)
    modules = [m for m in model.modules() if type(m) is kind]
    assert len(modules) == count
    seen: list[Any] = []
    for module in modules:
        module.register_forward_hook(lambda module, args, output: seen.append(args[0].shape[1]))
    model.eval()(torch.randn(1, 7, 8, 8))
    assert len(seen) == count, "each is used exactly once"


def test_skip_attention_leaves_the_pool_alone() -> None:
    torch.manual_seed(2)
    model = UNet(widths=SMALL, attention="mcsa", attention_at=("skip",)).eval()
    inputs: dict[str, Tensor] = {}
    model.encoder[1].register_forward_pre_hook(lambda module, args: inputs.__setitem__("level 2", args[0]))
    x = torch.randn(1, 7, 8, 8)
    model(x)
    torch.testing.assert_close(inputs["level 2"], F.max_pool2d(model.encoder[0](x), 2))


def test_encoder_attention_comes_before_skip_and_pool() -> None:
    torch.manual_seed(3)
    model = UNet(widths=SMALL, attention="mcsa", attention_at=("encoder",)).eval()
    inputs: dict[str, Tensor] = {}
    model.encoder[1].register_forward_pre_hook(lambda module, args: inputs.__setitem__("level 2", args[0]))
    model.decoder[1].register_forward_pre_hook(lambda module, args: inputs.__setitem__("decoder", args[0]))
    x = torch.randn(1, 7, 8, 8)
    model(x)
    attended = model.encoder_attention[0](model.encoder[0](x))
    torch.testing.assert_close(inputs["level 2"], F.max_pool2d(attended, 2))
    torch.testing.assert_close(inputs["decoder"][:, : SMALL[0]], attended)


@pytest.mark.parametrize(
    ("widths", "outputs"),
    [
        ((64, 128, 256, 512, 512), [256, 128, 64, 64]),
        ((64, 128, 256, 512, 1024), [512, 256, 128, 64]),
        ((8, 16), [8]),
        ((8, 8), [8]),
    ],
)
def test_decoder_widths(widths: tuple[int, ...], outputs: list[int]) -> None:
    with torch.device("meta"):
        model = UNet(widths=widths)
    assert [block[0].out_channels for block in model.decoder] == outputs  # type: ignore[index]
    assert model.stride == 2 ** (len(widths) - 1)
    assert model.minimum_size == 2 * model.stride


def test_split_takes_a_single_band() -> None:
    model = enhanced_unet(1, widths=SMALL, mode="split").eval()
    assert model(torch.randn(1, 1, 9, 11)).shape == (1, 2, 9, 11)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upsample": "bilinaer"}, "Did you mean 'bilinear'"),
        ({"mode": "partail"}, "Did you mean 'partial'"),
        ({"attention": "mcas"}, "Did you mean 'mcsa'"),
        ({"attention_at": ("encoder", "bottelneck")}, "Did you mean 'bottleneck'"),
        ({"attention": "mcsa", "fusion": "plus"}, "unknown fusion 'plus'"),
    ],
)
def test_misspelt_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        UNet(widths=SMALL, **options)
