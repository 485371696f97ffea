"""Every decoder passes the contract suite.

By default each decoder runs the checks that take less than a second, and one model runs all of them.
``pytest plugins/zoo-smp/tests --sample 40`` runs the whole suite on every decoder and on 40 models drawn at random
(with a seed), which takes about ten minutes of one core.
"""

from __future__ import annotations

import random

import pytest
from zoo_smp import DECODERS
from zoo_smp.table import table

from zoo.registry import list_models
from zoo.testing import contract, run_checks

WHOLE = "smp/unet-tf_efficientnet_lite0"
QUICK = (
    contract.check_output_shape,
    contract.check_wrong_channels,
    contract.check_gradients,
    contract.check_batch1_training,
    contract.check_parameters,
    contract.check_no_download,
)
GRADIENTS = contract.check_gradients
DEAD = ("manet", "pan")
"""Decoders of smp in which some weights get no gradient. MA-Net has attention of one channel before a ReLU, dead
from the start with half of all seeds; PAN has biases before batch norm, which removes them, and such a channel too."""
LARGEST = 60_000_000
"""Parameters of the largest model in a sample: larger ones need more memory than a small machine has."""


def model_of(decoder: str) -> str:
    encoder = "vit_tiny_patch16_224" if decoder == "dpt" else "tf_efficientnet_lite0"
    return f"smp/{decoder}-{encoder}"


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_passes(decoder: str, pytestconfig: pytest.Config) -> None:
    whole = bool(pytestconfig.getoption("sample")) or model_of(decoder) == WHOLE
    checks = contract.CHECKS if whole else QUICK
    assert_passes(model_of(decoder), tuple(one for one in checks if not (decoder in DEAD and one is GRADIENTS)))


def test_a_sample_passes(pytestconfig: pytest.Config) -> None:
    count = pytestconfig.getoption("sample")
    if not count:
        pytest.skip("give --sample 40 to run the whole contract suite on 40 models")
    small = [name for name in list_models("smp/*") if small_enough(name)]
    problems = {}
    for name in random.Random(0).sample(small, count):
        failed = failures(name, contract.CHECKS)
        if failed:
            problems[name] = failed
    assert not problems


def small_enough(name: str) -> bool:
    decoder, _, encoder = name.removeprefix("smp/").partition("-")
    count = table().encoders[encoder].decoders[decoder].parameters
    return count is not None and count < LARGEST


def failures(name: str, checks: tuple[contract.Check, ...]) -> dict[str, str]:
    return {one.check: one.message for one in run_checks(name, checks) if one.status == "failed"}


def assert_passes(name: str, checks: tuple[contract.Check, ...]) -> None:
    assert failures(name, checks) == {}
