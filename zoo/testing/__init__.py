"""Contract suites for models, data sets, losses, metrics and risk models, built in or from a plugin.

A plugin's test file needs two lines, for each of these kinds::

    from zoo.testing import contract_of

    test_contract = contract_of("my_model")

pytest then runs every check as its own test; ``model_contract`` takes several models, or some of the checks. Without
pytest, ``check_model("my_model")`` runs them all and raises an error that lists the failures; ``zoo check my_model``
does the same on the command line.
"""

from __future__ import annotations

from zoo.testing.contract import (
    CHECKS,
    Check,
    CheckResult,
    ContractError,
    check_model,
    contract_of,
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
    "contract_of",
    "model_contract",
    "no_network",
    "run_checks",
    "run_spec_checks",
]
