"""Backbones of one block and few channels, made by the published classes, so that tests are fast."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torchgeo.models
import torchvision
from torch import nn
from torchgeo.models.panopticon import Panopticon
from torchgeo.models.scale_mae import ScaleMAE
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

SMALL: dict[str, Any] = {"embed_dim": 48, "depth": 1, "num_heads": 3}
_create = timm.create_model


def small_vit(**options: Any) -> nn.Module:
    return _create("vit_small_patch16_224", **SMALL, **options)


def small_dino(**options: Any) -> nn.Module:
    return _create("vit_small_patch14_dinov2", **SMALL, **options)


def small_dofa(**options: Any) -> nn.Module:
    return torchgeo.models.DOFA(patch_size=16, **SMALL, **options)


def small_copernicus(**options: Any) -> nn.Module:
    return torchgeo.models.CopernicusFM(**SMALL, **options)


def small_scalemae(**options: Any) -> nn.Module:
    norm = partial(nn.LayerNorm, eps=1e-6)
    return ScaleMAE(patch_size=16, mlp_ratio=4, qkv_bias=True, norm_layer=norm, **SMALL, **options)


def small_croma(**options: Any) -> nn.Module:
    return torchgeo.models.CROMA(encoder_dim=48, encoder_depth=1, **options)


def small_panopticon(img_size: int = 224) -> nn.Module:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchgeo.models.panopticon.timm.create_model", partial(_create, **SMALL))
        return Panopticon(attn_dim=48, embed_dim=48, img_size=img_size)


def small_swin_v2() -> nn.Module:
    return torchvision.models.SwinTransformer(
        [4, 4], 12, [1, 1, 1, 1], [1, 2, 4, 8], [8, 8], block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2
    )


def small_swin(**_: Any) -> nn.Module:
    return torchvision.models.SwinTransformer([4, 4], 12, [1, 1, 1, 1], [1, 2, 4, 8], [7, 7])


MAKERS = {
    "vit_small_patch16_224": small_vit,
    "vit_small_patch14_dinov2": small_dino,
    "dofa_base_patch16_224": small_dofa,
    "copernicusfm_base": small_copernicus,
    "scalemae_large_patch16": small_scalemae,
    "croma_base": small_croma,
    "panopticon_vitb14": small_panopticon,
    "swin_v2_t": small_swin_v2,
    "swin_t": small_swin,
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[..., Any]]:
    """Replace the backbones of torchgeo by small ones, and return what makes them, by name."""
    for name, make in MAKERS.items():
        monkeypatch.setattr(torchgeo.models, name, make)
    return MAKERS
