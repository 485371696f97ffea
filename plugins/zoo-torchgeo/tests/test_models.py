"""The family of models: what it lists, the contract suite, and bundles that download nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torchgeo.models
from torch import nn
from torchgeo.models.api import list_models
from zoo_torchgeo import unet, variants, vit
from zoo_torchgeo.backbones import LEFT_OUT, TERRATORCH, UNETS, VITS
from zoo_torchgeo.tokens import BandEmbedding

import zoo
from zoo.datasets.statistics import BandStatistics, Statistics
from zoo.physics.bands import Band
from zoo.registry import Flag, catalogue, create_model_for, provider_of
from zoo.testing import CHECKS, ModelUnderTest, model_contract, no_network, run_checks
from zoo.testing.contract import check_exportable, check_output_shape, check_overfits, check_pretrained_encoder
from zoo.training.bundle import Bundle
from zoo.training.bundle_layout import ComputeFormat

Makers = dict[str, Callable[..., Any]]
SLOW = (check_output_shape, check_overfits, check_exportable, check_pretrained_encoder)

test_contract_of_a_real_one = model_contract(
    "torchgeo/unet-resnet18", checks=[check for check in CHECKS if check not in SLOW]
)


def test_the_table_is_that_of_the_installed_torchgeo() -> None:
    """Every backbone of torchgeo has a model or a reason, and every published weight a name or a reason."""
    sources = {backbone.source for backbone in (*UNETS.values(), *VITS.values())}
    assert set(list_models()) <= sources | set(LEFT_OUT)
    for backbone in (*UNETS.values(), *VITS.values()):
        if not backbone.enum:
            assert not backbone.weights
            continue
        same = [one for one in UNETS.values() if one.enum == backbone.enum]
        named = [name for one in same or [backbone] for name in one.weights]
        published = {entry.name for entry in getattr(torchgeo.models, backbone.enum)}
        assert sorted(named) == sorted(published - set(LEFT_OUT))


def test_names_are_listed_without_torch() -> None:
    names = zoo.list_models("torchgeo/*")
    assert {"torchgeo/unet-resnet50-sentinel2_all_moco", "torchgeo/dofa_base_patch16_224"} <= set(names)
    assert len(names) == len(variants("torchgeo")) > 120
    spec = catalogue().models.get("torchgeo/unet-efficientnet-b3-sentinel2_2class_nc_ftw")
    assert (spec.encoder_weights, spec.encoder_weights_licence) == (("SENTINEL2_2CLASS_NC_FTW",), "non-commercial")
    assert provider_of("model", spec.name).distribution == "zoo-torchgeo"
    code = "import sys, zoo; zoo.list_models(); print(sorted({'torch', 'torchgeo', 'timm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "name",
    [
        "unet-swin_v2_t",
        "vit_small_patch14_dinov2",
        "dofa_base_patch16_224",
        "copernicusfm_base",
        "panopticon_vitb14",
        "scalemae_large_patch16",
        "croma_base",
    ],
)
def test_contract_of_every_kind(name: str, small: Makers) -> None:
    """The whole suite, on a transformer of one block."""
    spec = catalogue().models.get(f"torchgeo/{name}")
    own = replace(spec, parameters=None, gmac=None, encoder_weights=spec.encoder_weights[:1])
    create = unet.create if name.startswith("unet-") else vit.create
    channels = (16, 16, 16, 16, 16)
    results = run_checks(ModelUnderTest(own, {"decoder_channels": channels}, factory=partial(create, variant=name)))
    assert {result.check: result.message for result in results if result.status == "failed"} == {}


def test_declared_numbers_are_the_real_ones() -> None:
    for name, backbone in {**UNETS, **VITS}.items():
        spec = catalogue().models.get(f"torchgeo/{'unet-' * (name in UNETS)}{name}")
        assert None not in (spec.parameters, spec.gmac), name
        if (spec.parameters or 0) < 40e6:
            try:
                with torch.device("meta"):
                    model = zoo.create_model(spec.name)
            except RuntimeError:  # timm before 1.0.16 computes with values in the constructor of Swin
                model = zoo.create_model(spec.name)
            assert sum(one.numel() for one in model.parameters() if one.requires_grad) == spec.parameters
            assert model.minimum_size == backbone.minimum_size


def test_a_bundle_opens_without_a_download(small: Makers) -> None:
    bands = (Band("B8", "1"), Band("slope", "degree"))
    name, options = "torchgeo/dofa_base_patch16_224", {"decoder_channels": [8, 8, 8, 8, 8]}
    model = create_model_for(name, bands, 2, **options)
    assert model.encoder.embedding.extra.shape == (1, 128)
    plain = partial(BandStatistics, mean=0.5, std=0.5, minimum=0, maximum=1, low=0, high=1, count=9)
    bundle = Bundle(
        model=name,
        options={**options, "weights": "DOFA_MAE"},
        bands=bands,
        statistics=Statistics(tuple(plain(name=band.name) for band in bands), patches=3),
        compute_format=ComputeFormat("fp32", True),
        class_names=("background", "landslide"),
        threshold=0.5,
        state=model.state_dict(),
    )
    with no_network() as refused:
        predictor = bundle.predictor()
    assert not refused
    assert predictor(torch.rand(1, 2, 40, 40)).shape == (1, 2, 40, 40)


def test_bands_keep_their_places_and_learned_ones_can_start_at_zero() -> None:
    vectors = [torch.full((4,), 1.0), None, torch.full((4,), 3.0), None]
    embedding = BandEmbedding(vectors, 4, gated=True)
    assert embedding()[:, 0].tolist()[::2] == [1.0, 3.0]
    assert torch.equal(embedding()[[1, 3]], embedding.extra)
    embedding.start_at_zero()
    assert embedding.gains().tolist() == [1.0, 0.0, 1.0, 0.0]
    alone = BandEmbedding([None, None], 4, gated=True)
    alone.start_at_zero()
    assert alone.gains().tolist() == [1.0, 1.0]


@pytest.mark.filterwarnings("ignore::zoo_torchgeo.weights.PretrainedBandsWarning")
def test_prithvi_with_a_terratorch_that_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A stand-in with the interface of terratorch's PrithviViT, and weights in the layout of Prithvi's files."""
    torch.manual_seed(0)

    class PatchEmbed(nn.Module):
        patch_size = (1, 16, 16)

        def __init__(self, bands: int) -> None:
            super().__init__()
            self.proj = nn.Conv3d(bands, 8, (1, 16, 16), (1, 16, 16))

    class Prithvi(nn.Module):
        embed_dim = 8

        def __init__(self, bands: int) -> None:
            super().__init__()
            self.patch_embed, self.norm = PatchEmbed(bands), nn.LayerNorm(8)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
            self.register_buffer("pos_embed", torch.zeros(1, 197, 8))

        def forward_features(self, x: torch.Tensor) -> list[torch.Tensor]:
            tokens = self.patch_embed.proj(x.unsqueeze(2)).flatten(2).transpose(1, 2)
            return [self.norm(torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1))]

    class Registry:
        def build(self, name: str, *, pretrained: bool, bands: list[int], num_frames: int) -> nn.Module:
            assert (name, pretrained, num_frames) == ("prithvi_eo_v2_300", False, 1)
            return Prithvi(len(bands))

    monkeypatch.setattr("zoo_torchgeo.tokens.terratorch_registry", lambda name: Registry())
    published = Prithvi(6)
    state = {f"encoder.{key}": value for key, value in published.state_dict().items()}
    torch.save({**state, "decoder.mask_token": torch.zeros(1)}, tmp_path / "prithvi.pt")
    model = vit.create(
        2, variant="prithvi_eo_v2_300", weights=str(tmp_path / "prithvi.pt"), bands=("nir08", "blue")
    ).eval()
    kernel = published.patch_embed.proj.weight
    assert torch.equal(model.encoder.body.patch_embed.proj.weight, kernel[:, [3, 0]])
    assert model(torch.randn(1, 2, 33, 40)).shape == (1, 2, 33, 40)
    assert set(TERRATORCH) == {name for name in variants("torchgeo") if name.startswith("prithvi")}
    assert Flag.NAMED_BANDS in catalogue().models.get("torchgeo/prithvi_eo_v2_300").flags
