"""The option ``--sample``: how many random models run the whole contract suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "number of random models that run the whole contract suite; 40 in the nightly run"
    parser.addoption("--sample", type=int, default=0, help=help)
