"""The contract that every model of the catalogue keeps, built in or plugged in.

A plugin's test file needs two lines::

    from zoo.testing import model_contract

    test_contract = model_contract("my_model")

and pytest runs every check as a test of its own. Without pytest, ``check_model("my_model")`` runs them all and
raises with the list of those that failed. pytest is imported by :func:`model_contract` alone.
"""

from __future__ import annotations

from zoo.testing.checks import CHECKS, Check
from zoo.testing.runner import CheckResult, ContractError, check_model, model_contract, run_checks
from zoo.testing.subject import BrokenContractError, NotApplicable, Subject

__all__ = [
    "CHECKS",
    "BrokenContractError",
    "Check",
    "CheckResult",
    "ContractError",
    "NotApplicable",
    "Subject",
    "check_model",
    "model_contract",
    "run_checks",
]
