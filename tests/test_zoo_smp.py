"""The plugin zoo-smp, installed where nothing else sees it: it lists thousands of names without torch and works."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from tests.conftest import NIGHTLY, REPOSITORY

TESTS = REPOSITORY / "plugins" / "zoo-smp" / "tests"
CONFIGURATIONS = REPOSITORY / "tests" / "bench" / "test_benchmark.py"

pytestmark = [pytest.mark.slow, pytest.mark.fresh]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def site(plugin_site: Callable[[str], str]) -> str:
    """A folder with the installed plugin, for PYTHONPATH."""
    return plugin_site("zoo-smp")


def test_families_are_rows_and_patterns_list_their_models(zoo: Run, site: str) -> None:
    (report,) = [
        one for one in json.loads(zoo("plugins", "--json", PYTHONPATH=site).stdout) if one["name"] == "zoo-smp"
    ]
    assert "smp/unet-*" in report["provides"]["models"]
    rows = [line for line in zoo("models", check=True, PYTHONPATH=site).stdout.splitlines() if line.startswith("smp/")]
    assert len(rows) == 12
    assert all(line.endswith("zoo-smp") and " models " in line for line in rows)
    listed = zoo("models", "smp/*-resnet34", check=True, PYTHONPATH=site).stdout
    assert "smp/unet-resnet34" in listed
    assert "smp/dpt" not in listed
    every = zoo("models", "--all", check=True, PYTHONPATH=site).stdout
    assert len(every.splitlines()) > 5000


def test_listing_every_name_imports_no_torch(python: Run, site: str) -> None:
    code = "import sys, zoo; print(len(zoo.list_models('smp/*')) > 5000, 'torch' in sys.modules, 'timm' in sys.modules)"
    assert python("-c", code, PYTHONPATH=site).stdout == "True False False\n"


def test_its_own_tests_and_those_of_the_configurations_with_its_models_pass(python: Run, site: str) -> None:
    test = f"{CONFIGURATIONS}::test_every_row_of_a_table_is_a_row_of_the_papers"
    rows = [f"{test}[{name}]" for name in ("smp", "weights", "weights_standardised")]
    sample = ("--sample", "40") if NIGHTLY else ()
    done = python("-m", "pytest", "-p", "no:cacheprovider", "-v", TESTS, *rows, *sample, check=True, PYTHONPATH=site)
    assert all(f"[{name}] PASSED" in done.stdout for name in ("smp", "weights", "weights_standardised")), done.stdout
