"""The contract suite of models, built in or from a plugin, and those of data sets, losses, metrics and risk models.

A plugin's test file needs two lines::

    from zoo.testing import model_contract

    test_contract = model_contract("my_model")

pytest then runs every check as its own test. Without pytest, ``check_model("my_model")`` runs them all and raises an
error that lists the failures; ``zoo check my_model`` does the same on the command line.
"""

from __future__ import annotations

from zoo.testing.contract import (
    CHECKS,
    Check,
    CheckResult,
    ContractError,
    check_model,
    model_contract,
    run_checks,
    run_spec_checks,
)
from zoo.testing.model_under_test import CheckFailedError, CheckSkipped, ModelUnderTest, no_network

__all__ = [
    "CHECKS",
    "Check",
    "CheckFailedError",
    "CheckResult",
    "CheckSkipped",
    "ContractError",
    "ModelUnderTest",
    "check_model",
    "model_contract",
    "no_network",
    "run_checks",
    "run_spec_checks",
]
