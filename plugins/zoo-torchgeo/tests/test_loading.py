"""Published layouts are loaded, and the features are those of torchgeo's own model on the same bands.

The state dicts are made by the published classes with random weights, without what the published files lack and with
what torchgeo's factory functions strip.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchgeo.models
from safetensors.torch import save_file
from torch import Tensor, nn
from zoo_torchgeo import unet, vit
from zoo_torchgeo.backbones import UNETS, VITS
from zoo_torchgeo.bands import SENTINEL2_STATISTICS
from zoo_torchgeo.weights import CROMA_BANDS, PretrainedBandsWarning, adapt_stem, match_bands, published

from zoo.errors import ConfigError, ModelError, PluginError, UnknownNameError
from zoo.testing import no_network

SENTINEL2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
Makers = dict[str, Callable[..., Any]]
ORDER = ("B12", "B3", "B8A", "B1", "B4", "B2", "B5", "B9", "B7", "B6", "B11", "B10", "B8")
pytestmark = [
    pytest.mark.usefixtures("small"),
    pytest.mark.filterwarnings("ignore::zoo_torchgeo.weights.PretrainedBandsWarning"),
]


def drop(state: dict[str, Tensor], *starts: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(starts)}


def shaken(network: nn.Module) -> Any:
    """The network in eval mode, with weights and statistics that are all different from their initial values."""
    torch.manual_seed(5)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.05 * torch.rand_like(tensor))
    return network.eval()


def picture(bands: int, size: int = 64) -> Tensor:
    return torch.randn(2, bands, size, size, generator=torch.Generator().manual_seed(1))


def scale_of(band: str, divisor: float = 10000.0) -> tuple[float, float]:
    mean, std = SENTINEL2_STATISTICS[band]
    return std / divisor, mean / divisor


def close(ours: Tensor, theirs: Tensor, atol: float = 1e-4) -> bool:
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-3, atol=atol)


def load(path: Path, content: Any, create: Callable[..., Any], variant: str, **options: Any) -> Any:
    torch.save(content, path)
    with no_network() as refused:
        model = create(variant=variant, weights=str(path), **options).eval()
    assert not refused
    return model


def test_resnet_reads_bands_in_any_order_and_in_the_expected_scale(tmp_path: Path) -> None:
    theirs = shaken(timm.create_model("resnet18", in_chans=13))
    variant = "unet-resnet18-sentinel2_all_moco"
    ours = load(tmp_path / "w.pth", drop(theirs.state_dict(), "fc."), unet.create, variant, in_channels=13, bands=ORDER)
    x = picture(13)
    scaled = torch.empty_like(x)
    for index, band in enumerate(ORDER):
        std, mean = scale_of(band)
        scaled[:, SENTINEL2.index(band)] = x[:, index] * std + mean
    with torch.no_grad():
        assert close(ours.encoder(ours.scaling(x))[-1], theirs.forward_features(scaled))


def test_missing_bands_are_filled_with_their_mean_and_extra_ones_do_nothing(tmp_path: Path, small: Makers) -> None:
    """Exactly so in a transformer; a ResNet pads with zeros, so its first map differs at the border alone."""
    theirs = shaken(small["vit_small_patch16_224"](in_chans=13, num_classes=0, global_pool="", dynamic_img_size=True))
    bands = ("slope", "B4", "B3")
    x = picture(3)
    filled = torch.stack([torch.full_like(x[:, 0], scale_of(band)[1]) for band in SENTINEL2], dim=1)
    for index, band in ((1, "B4"), (2, "B3")):
        std, mean = scale_of(band)
        filled[:, SENTINEL2.index(band)] = x[:, index] * std + mean
    name = "vit_small_patch16_224-sentinel2_all_moco"
    ours = load(tmp_path / "w.pth", drop(theirs.state_dict(), "norm."), vit.create, name, in_channels=3, bands=bands)
    theirs.norm.reset_parameters()
    with torch.no_grad():  # in float64: the blocks amplify the rounding of the statistics in float32
        mine = ours.double().encoder(ours.scaling(x.double()))
        assert close(mine, ours.encoder.to_map(theirs.double().forward_features(filled.double())[:, 1:], x))

    resnet = shaken(timm.create_model("resnet18", in_chans=13))
    variant = "unet-resnet18-sentinel2_all_moco"
    ours = load(tmp_path / "r.pth", resnet.state_dict(), unet.create, variant, in_channels=3, bands=bands)
    with torch.no_grad():
        mine, same = ours.encoder(ours.scaling(x))[1], resnet.act1(resnet.bn1(resnet.conv1(filled)))
    assert close(mine[..., 2:-2, 2:-2], same[..., 2:-2, 2:-2])


def test_what_was_matched_is_said(tmp_path: Path) -> None:
    state = timm.create_model("resnet18", in_chans=3).state_dict()
    create = lambda **more: load(  # noqa: E731
        tmp_path / "w.pth", state, unet.create, "unet-resnet18-sentinel2_rgb_moco", **more
    )
    with pytest.warns(PretrainedBandsWarning, match=r"matched red -> B4.*missing B2 .*extra slope"):
        create(in_channels=3, bands=("red", "green", "slope"))
    with pytest.warns(PretrainedBandsWarning, match="names of the bands are not known"):
        create(in_channels=3)
    with pytest.warns(PretrainedBandsWarning, match="no band of the data is among the trained bands"):
        create(in_channels=2, bands=("slope", "DEM"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create(in_channels=3, bands=("blue", "green", "red"))


def test_the_mean_kernel_keeps_the_magnitude() -> None:
    entry = published(UNETS["resnet18"])["SENTINEL2_RGB_MOCO"]
    kernel = torch.randn(8, 3, 7, 7)
    adapted, constant = adapt_stem(kernel, match_bands(entry, None, 7, "sentinel2"), entry.shift)
    assert adapted.shape == (8, 7, 7, 7)
    assert torch.allclose(adapted.sum(1), kernel.sum(1), atol=1e-5)
    assert not constant.any()


def test_swin_in_both_layouts(tmp_path: Path, small: Makers) -> None:
    theirs = small["swin_v2_t"]()
    theirs.features[0][0] = nn.Conv2d(9, 12, 4, 4)
    shaken(theirs)
    bands = ("B04", "B03", "B02", "B05", "B06", "B07", "B08", "B11", "B12")
    variant = "unet-swin_v2_t-sentinel2_mi_ms_satlas"
    ours = load(tmp_path / "w.pth", theirs.state_dict(), unet.create, variant, in_channels=9, bands=bands)
    x = picture(9)
    with torch.no_grad():
        assert close(ours.encoder(x)[-1], theirs.features(x).permute(0, 3, 1, 2))
        assert [tuple(one.shape[1:]) for one in ours.encoder(x)[:3]] == [(9, 64, 64), (0, 32, 32), (12, 16, 16)]
    other = shaken(small["swin_t"]())
    content = {"state_dict": drop(other.state_dict(), "norm.", "head."), "feat_norms_state_dict": {}}
    ours = load(tmp_path / "c.pth", content, unet.create, "unet-swin_t", in_channels=3, bands=("R", "G", "B"))
    with torch.no_grad():
        assert close(ours.encoder(x[:, :3])[-1], other.features(x[:, :3]).permute(0, 3, 1, 2))


def test_earthloc_leaves_its_descriptor_out(tmp_path: Path) -> None:
    theirs = shaken(torchgeo.models.EarthLoc(image_size=64, desc_dim=64, pretrained=False))
    bands = ("B4", "B3", "B2")
    ours = load(tmp_path / "w.pth", theirs.state_dict(), unet.create, "unet-earthloc", in_channels=3, bands=bands)
    x = picture(3)
    with torch.no_grad():
        assert close(ours.encoder(x)[-1], theirs.backbone(x))


def test_unet_weights_bring_their_decoder(tmp_path: Path) -> None:
    """Fields of the World takes four bands at two dates; with one date both get it."""
    theirs = shaken(smp.Unet("efficientnet-b3", encoder_weights=None, in_channels=8, classes=2))
    state, variant = theirs.state_dict(), "unet-efficientnet-b3-sentinel2_2class_ftw"
    ours = load(tmp_path / "w.pth", state, unet.create, variant, in_channels=4, bands=("B8", "B2", "B3", "B4"))
    x = picture(4)
    expected = [x[:, 3 - index] if index < 3 else x[:, 0] for index in range(4)]
    scales = [scale_of(band, 3000.0) for band in ("B4", "B3", "B2", "B8")]
    dates = torch.stack([one * std + mean for one, (std, mean) in zip(expected, scales, strict=True)] * 2, dim=1)
    with torch.no_grad():
        assert close(ours(x), theirs(dates))
    three = load(tmp_path / "w.pth", state, unet.create, variant, in_channels=4, classes=3, bands=SENTINEL2[1:5])
    assert three(x).shape == (2, 3, 64, 64)


@pytest.mark.parametrize("name", ["dofa_base_patch16_224", "copernicusfm_base"])
def test_spectral_models_get_the_wavelengths(tmp_path: Path, name: str, small: Makers) -> None:
    theirs = shaken(small[name](num_classes=0))
    theirs.fc_norm.reset_parameters()
    state = drop(theirs.state_dict(), "fc_norm.", "head.")
    ours = load(tmp_path / "w.pth", state, vit.create, name, in_channels=3, bands=("B8", "slope", "B2"))
    ours.encoder.body.fc_norm = nn.Identity()
    x = picture(3, 224)
    more: dict[str, Any] = {"wavelengths": [0.842, 0.490]}
    if name.startswith("copernicus"):
        metadata = torch.full((2, 4), float("nan"))
        more = {"metadata": metadata, "wavelengths": [842, 490], "bandwidths": [115, 65]}
    with torch.no_grad():
        pooled = theirs.fc_norm(ours.encoder(x).mean((2, 3)))
        # torchgeo takes micrometres for DOFA, and 0.842 times 1000 is not 842 in float32.
        assert close(pooled, theirs.forward_features(x[:, [0, 2]], **more), atol=2e-3)


def test_panopticon(tmp_path: Path, small: Makers) -> None:
    theirs = shaken(small["panopticon_vitb14"]())
    state = theirs.model.state_dict()
    state["mask_token"] = torch.zeros(1, 48)
    bands = ("VH", "B8", "B2")
    ours = load(tmp_path / "w.pth", state, vit.create, "panopticon_vitb14", in_channels=3, bands=bands)
    x = picture(3, 224)
    with torch.no_grad():
        inputs = {"imgs": x.clone(), "chn_ids": torch.tensor([[-2.0, 842.0, 490.0]] * 2)}
        assert close(ours.encoder(x), ours.encoder.to_map(theirs.model.forward_features(inputs)[:, 1:], x))
    state["pos_embed"] = torch.randn(1, 1 + 37 * 37, 48)
    ours = load(tmp_path / "w.pth", state, vit.create, "panopticon_vitb14", in_channels=2, bands=("slope", "B2"))
    assert ours.encoder.body.pos_embed.shape == (1, 257, 48)
    assert ours(picture(2, 30)).shape == (2, 2, 30, 30)


def test_scale_mae_places_tokens_in_metres(tmp_path: Path, small: Makers) -> None:
    theirs = shaken(small["scalemae_large_patch16"](in_chans=3, num_classes=0, global_pool="", res=10.0))
    state = {**theirs.state_dict(), "decoder_embed.weight": torch.zeros(2), "mask_token": torch.zeros(1)}
    bands = ("B4", "B3", "B2")
    ours = load(tmp_path / "w.pth", state, vit.create, "scalemae_large_patch16", in_channels=3, bands=bands)
    x = picture(3, 224)
    with torch.no_grad():
        assert close(ours.encoder(x), ours.encoder.to_map(theirs.forward_features(x)[:, 1:], x))


def test_croma_from_its_nested_layout(tmp_path: Path, small: Makers) -> None:
    theirs = small["croma_base"](modalities=["sar", "optical"], image_size=64)
    bias = theirs.attn_bias.clone()
    shaken(theirs)
    parts = ("s1_encoder", "s1_GAP_FFN", "s2_encoder", "s2_GAP_FFN", "joint_encoder")
    content = {part: getattr(theirs, part).state_dict() for part in parts}
    bands = tuple(reversed(CROMA_BANDS))
    ours = load(tmp_path / "w.pt", content, vit.create, "croma_base", in_channels=12, bands=bands)
    x = picture(12)
    with torch.no_grad():
        optical = theirs.s2_encoder(imgs=x.flip(1) / 4 + 0.5, attn_bias=bias)
        assert close(ours.encoder(ours.scaling(x)), ours.encoder.to_map(optical, x))


def test_safetensors_and_the_published_file_name(tmp_path: Path) -> None:
    state = timm.create_model("resnet18", in_chans=3).state_dict()
    entry = published(UNETS["resnet18"])["SENTINEL2_RGB_MOCO"]
    path = tmp_path / Path(entry.url).name
    torch.save(state, path)
    model = unet.create(3, variant="unet-resnet18", weights=str(path), bands=("red", "green", "blue"))
    assert torch.equal(model.encoder.body.conv1.weight, state["conv1.weight"])
    unknown = tmp_path / "weights.safetensors"
    save_file(state, unknown)
    with pytest.raises(ConfigError, match=r"not known which weights weights\.safetensors holds"):
        unet.create(3, variant="unet-resnet18", weights=str(unknown))
    assert unet.create(3, variant="unet-resnet18-sentinel2_rgb_moco", weights=str(unknown))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "holds a list"),
        (b"not a file of torch", "does not hold a state dict"),
        ({"a": torch.zeros(1)}, "the weights lack"),
        (drop(timm.create_model("resnet18", in_chans=3).state_dict(), "layer1.0.conv1"), "lack layer1.0.conv1.weight"),
        ({**timm.create_model("resnet18", in_chans=3).state_dict(), "other": torch.zeros(1)}, "unknown keys other"),
        (timm.create_model("resnet18", in_chans=5).state_dict(), "other shapes of conv1.weight"),
    ],
    ids=["list", "rubbish", "other", "missing", "unknown", "bands"],
)
def test_wrong_files_are_refused_in_words(tmp_path: Path, content: Any, reason: str) -> None:
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ModelError, match=reason):
        unet.create(7, variant="unet-resnet18-sentinel2_rgb_moco", weights=str(path))


def test_wrong_names_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown weights 'sentinel2_all_moko'.*Did you mean"):
        unet.create(variant="unet-resnet50", weights="sentinel2_all_moko")
    with pytest.raises(ConfigError, match="has the weights SENTINEL2_ALL_DINO, not SENTINEL2_ALL_MOCO"):
        unet.create(variant="unet-resnet50-sentinel2_all_dino", weights="SENTINEL2_ALL_MOCO")
    with pytest.raises(ConfigError, match="3 names of bands for 7 bands"):
        vit.create(variant="dofa_base_patch16_224", bands=("B2", "B3", "B4"))
    with pytest.raises(ConfigError, match="decoder_channels must be 5 positive numbers"):
        unet.create(variant="unet-resnet18", decoder_channels=(8, 8))
    with pytest.raises(ConfigError, match="pixel_size"):
        vit.create(variant="scalemae_large_patch16", pixel_size=0.0)


def test_a_download_that_fails_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with no_network() as refused, pytest.raises(ModelError, match="could not be downloaded") as error:
        unet.create(variant="unet-resnet18", weights="sentinel2_all_moco")
    assert refused
    assert "pass the path" in str(error.value)


def test_standardised_inputs_stay_so_where_nothing_else_is_known() -> None:
    resnet, dino = published(UNETS["resnet50"]), published(VITS["vit_base_patch14_dinov2"])
    assert resnet["SENTINEL2_ALL_MOCO"].scale[3] == pytest.approx(1144.9 / 10000)
    assert set(resnet["SENTINEL2_RGB_SECO"].scale) == {1.0}
    assert set(resnet["SENTINEL2_MI_MS_SATLAS"].scale) == {1.0}
    assert set(resnet["SENTINEL1_ALL_MOCO"].shift) == {0.0}
    assert set(dino["SENTINEL2_ALL_SOFTCON"].scale) == {1.0}
    assert resnet["LANDSAT_OLI_SR_MOCO"].sensor == "landsat_oli"
    assert resnet["FMOW_RGB_GASSL"].bands == ("R", "G", "B")


def test_prithvi_needs_terratorch() -> None:
    with pytest.raises(PluginError, match=r"needs terratorch.*pip install terratorch"):
        vit.create(variant="prithvi_eo_v2_300")
