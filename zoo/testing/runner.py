"""Running the contract: over one model in a script, or over many as tests of pytest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Any, Literal

from zoo.errors import ConfigError, ZooError
from zoo.registry import catalogue
from zoo.testing.checks import CHECKS, Check
from zoo.testing.subject import NotApplicable, Subject


class ContractError(ZooError):
    """A model that breaks its contract."""


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        check: its name, without ``check_``.
        status: ``passed``, ``failed`` or ``skipped`` (it has nothing to check on this model).
        message: why it failed or was skipped.
        seconds: how long it took.
    """

    check: str
    status: Literal["passed", "failed", "skipped"]
    message: str
    seconds: float


def name_of(check: Check) -> str:
    """The name by which a check is reported: that of its function without ``check_``."""
    name: str = getattr(check, "__name__", repr(check))
    return name.removeprefix("check_")


def run_checks(subject: Subject | str, checks: Sequence[Check] = CHECKS) -> list[CheckResult]:
    """Run the checks over a model and report each; a failing one stops none of the others.

    Args:
        subject: the model, or its name in the catalogue.
        checks: those to run.

    Raises:
        UnknownNameError: if there is no such model.
    """
    if isinstance(subject, str):
        subject = _registered(subject)
    results = []
    for check in checks:
        started = perf_counter()
        status: Literal["passed", "failed", "skipped"] = "passed"
        message = ""
        try:
            check(subject)
        except NotApplicable as reason:
            status, message = "skipped", str(reason)
        except AssertionError as broken:
            status, message = "failed", str(broken)
        except Exception as error:  # whatever a model raises is a failed check, and the rest still runs
            status, message = "failed", f"{type(error).__name__}: {error}"
        results.append(CheckResult(name_of(check), status, message, perf_counter() - started))
    return results


def check_model(name: str, checks: Sequence[Check] = CHECKS, **options: Any) -> list[CheckResult]:
    """Run the checks over a registered model.

    Args:
        name: as ``zoo models`` lists it.
        checks: those to run.
        options: of the model.

    Returns:
        The results, none of them failed.

    Raises:
        ContractError: naming every check that failed, with its reason.
        UnknownNameError: if there is no such model.
    """
    results = run_checks(Subject(catalogue().models.get(name), options), checks)
    failed = [result for result in results if result.status == "failed"]
    if failed:
        raise ContractError(
            f"breaks {len(failed)} of {len(results)} checks: "
            + "; ".join(f"{result.check}: {result.message}" for result in failed),
            where=f"model {name!r}",
        )
    return results


def model_contract(*names: str, checks: Sequence[Check] = CHECKS) -> Callable[..., None]:
    """A pytest test of every check over every named model.

    Assign it to a name that starts with ``test_``. Skipped tests say why the check does not apply.

    Args:
        names: of registered models.
        checks: those to run.

    Raises:
        ConfigError: if no model is named.
    """
    import pytest

    if not names:
        raise ConfigError("name at least one model", where="model_contract")

    @pytest.mark.parametrize("check", checks, ids=[name_of(check) for check in checks])
    @pytest.mark.parametrize("name", names)
    def test_contract(name: str, check: Check) -> None:
        try:
            check(_registered(name))
        except NotApplicable as reason:
            pytest.skip(str(reason))

    return test_contract


@lru_cache(maxsize=1)
def _registered(name: str) -> Subject:
    # One subject at a time keeps its model between checks; more would fill the memory of a small machine.
    return Subject(catalogue().models.get(name))
