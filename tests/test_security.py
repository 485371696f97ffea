"""SECURITY.md says what was tried against hostile input, and each row names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
POLICY = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", POLICY)))


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_test_that_the_security_policy_names_exists(file: str, test: str) -> None:
    assert f"def {test}(" in (REPOSITORY / file).read_text(encoding="utf-8")


def test_every_row_names_a_test() -> None:
    rows = [line for line in POLICY.splitlines() if line.startswith("| ") and not line.startswith("| Input")]
    assert len(rows) >= 12
    assert [row for row in rows if "`tests/" not in row] == []
