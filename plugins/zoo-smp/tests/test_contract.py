"""Every decoder passes the contract suite, and a random sample of models does.

By default each decoder runs quick checks with a tiny encoder, one model runs all of them, 10 small models run
those that are cheap, and 6 of any size are created without memory for their weights. Three decoders are exported.
``pytest plugins/zoo-smp/tests --sample 40`` runs the whole suite on every decoder and on 40 models of any size, and
exports them all, as ``make nightly`` does.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from zoo_smp import DECODERS
from zoo_smp.table import table

import zoo
from zoo.bench.speed import count_gmac
from zoo.errors import ZooError
from zoo.registry import catalogue, create_model
from zoo.testing import contract, run_checks

TINY = ("test_efficientnet", "test_vit")
"""A convolutional encoder, and a transformer for DPT."""
QUICK = (
    contract.check_output_shape,
    contract.check_wrong_channels,
    contract.check_gradients,
    contract.check_batch1_training,
    contract.check_parameters,
    contract.check_no_download,
)
CHEAP = (
    contract.check_wrong_channels,
    contract.check_modes,
    contract.check_gradients,
    contract.check_batch_of_one,
    contract.check_batch1_training,
    contract.check_state_dict,
    contract.check_parameters,
)
"""The checks that take a second together. The figures and odd sizes of the sample are tested without values."""
EXPORTED = ("unet", "pspnet", "deeplabv3plus")
"""Decoders that are exported in every run: the plain one, and those that pool over the whole image."""
SMALL, LARGE = 6_000_000, 60_000_000
"""Most parameters of a model in a sample: in every run, and in the nightly run, where memory is the limit."""


def model_of(decoder: str, *, tiny: bool) -> str:
    """The name of a model with this decoder, with an encoder of a few hundred thousand parameters if ``tiny``."""
    plain, transformer = TINY if tiny else ("tf_efficientnet_lite0", "vit_tiny_patch16_224")
    return f"smp/{decoder}-{transformer if decoder == 'dpt' else plain}"


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_passes(decoder: str, pytestconfig: pytest.Config) -> None:
    nightly = bool(pytestconfig.getoption("sample"))
    checks = contract.CHECKS if nightly or decoder == "unet" else QUICK
    assert failures(model_of(decoder, tiny=not nightly and decoder != "unet"), checks) == {}


def sample(most: int) -> list[str]:
    """The names of 40 models with no more parameters than ``most``, drawn with a seed."""
    found = [
        f"smp/{decoder}-{name}"
        for name, encoder in table().encoders.items()
        for decoder, facts in encoder.decoders.items()
        if facts.parameters is not None and facts.parameters <= most
    ]
    return random.Random(0).sample(sorted(found), 40)


@pytest.mark.parametrize("name", sample(LARGE))
def test_a_sample_has_the_declared_figures_and_shape(name: str, pytestconfig: pytest.Config) -> None:
    if name not in sample(LARGE)[:6] and not pytestconfig.getoption("sample"):
        pytest.skip("give --sample 40 to create 40 models")
    spec = catalogue().models.get(name)
    try:
        with torch.device("meta"):
            model = create_model(name)
    except RuntimeError:  # some encoders compute with values when they are created
        model = create_model(name).to("meta")
    with torch.device("meta"):
        assert sum(one.numel() for one in model.parameters() if one.requires_grad) == spec.parameters
        height, width = spec.minimum_size, spec.minimum_size + 19
        if spec.gmac is not None:
            assert count_gmac(model, (7, 128, 128), torch.device("meta")) == pytest.approx(spec.gmac, abs=0.001)
        assert model.eval()(torch.empty(1, 7, height, width)).shape == (1, 2, height, width)


@pytest.mark.parametrize("name", sample(SMALL))
def test_a_sample_of_small_models_passes_what_is_cheap(name: str, pytestconfig: pytest.Config) -> None:
    if name not in sample(SMALL)[:10] and not pytestconfig.getoption("sample"):
        pytest.skip("give --sample 40 to check 40 models")
    assert failures(name, CHEAP) == {}


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_is_written_as_an_onnx_graph(decoder: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """zoo compares the graph with the model at three sizes."""
    if decoder not in EXPORTED and not pytestconfig.getoption("sample"):
        pytest.skip("give --sample 40 to export every decoder")
    tiny = not pytestconfig.getoption("sample")
    assert export_failures([model_of(decoder, tiny=tiny)], tmp_path) == {}


def test_a_sample_is_written_as_onnx_graphs(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    count = pytestconfig.getoption("sample")
    if not count:
        pytest.skip("give --sample 40 to export 40 models")
    assert export_failures(sample(LARGE)[:count], tmp_path) == {}


def export_failures(names: list[str], folder: Path) -> dict[str, str]:
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    found = {}
    for name in names:
        try:
            zoo.export(name, folder / "model.onnx", to="onnx", overwrite=True)
        except ZooError as error:
            found[name] = str(error)
    return found


def test_a_sample_passes(pytestconfig: pytest.Config) -> None:
    count = pytestconfig.getoption("sample")
    if not count:
        pytest.skip("give --sample 40 to run the whole contract suite on 40 models")
    found = {name: failures(name, contract.CHECKS) for name in sample(LARGE)[:count]}
    assert {name: failed for name, failed in found.items() if failed} == {}


def failures(name: str, checks: tuple[contract.Check, ...]) -> dict[str, str]:
    return {one.check: one.message for one in run_checks(name, checks) if one.status == "failed"}
