"""The table of encoders agrees with the libraries that it was made of."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from zoo_smp import DECODERS
from zoo_smp.table import table, variants

from zoo.registry import catalogue, create_model


def test_the_table_is_of_the_installed_release_of_smp() -> None:
    name = "segmentation-models-pytorch"
    assert table().versions[name].split(".")[:2] == version(name).split(".")[:2]


def test_every_encoder_of_smp_is_there() -> None:
    from segmentation_models_pytorch.encoders import encoders

    known = {one.smp for one in table().encoders.values()}
    assert set(encoders) <= known


def test_every_encoder_of_timm_is_there_or_has_a_reason() -> None:
    import timm

    known = {one.smp for one in table().encoders.values()} | {f"tu-{name}" for name in table().left_out}
    absent = [name for name in timm.list_models() if f"tu-{name}" not in known and name not in table().left_out]
    if version("timm") == table().versions["timm"]:
        assert absent == []
    assert all(table().left_out.values())


def test_the_page_says_how_many_models_there_are() -> None:
    page = Path(__file__).parents[3] / "docs" / "how_to" / "smp.md"
    encoders = table().encoders
    models = sum(len(one.decoders) for one in encoders.values())
    assert f"{len(encoders):,} encoders in {models:,} models" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_has_encoders(decoder: str) -> None:
    found = variants(f"smp/{decoder}")
    assert len(found) > 20
    assert all(facts["minimum_size"] >= 32 for facts in found.values())


def test_the_numbers_are_those_of_the_models() -> None:
    for name in ("smp/fpn-mobilenet_v2", "smp/segformer-mit_b0"):
        with torch.device("cpu"):
            model = create_model(name)
        counted = sum(one.numel() for one in model.parameters() if one.requires_grad)
        assert counted == catalogue().models.get(name).parameters


def test_weights_have_names_and_licences() -> None:
    spec = catalogue().models.get("smp/unet-tf_efficientnet_lite0")
    assert spec.encoder_weights == ("imagenet", "package")
    assert spec.encoder_weights_licence == "apache-2.0"
    assert "swsl" in catalogue().models.get("smp/unet-resnet18").encoder_weights
