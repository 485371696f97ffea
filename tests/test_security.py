"""SECURITY.md says what was tried against hostile input, and each row names tests that exist; audits are short."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
POLICY = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", POLICY)))
FIXED, UNFIXED = {"id": "X-1", "fix_versions": ["2"]}, {"id": "X-2", "fix_versions": []}


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_test_that_the_security_policy_names_exists(file: str, test: str) -> None:
    assert f"def {test}(" in (REPOSITORY / file).read_text(encoding="utf-8")


def test_every_row_names_a_test() -> None:
    rows = [line for line in POLICY.splitlines() if line.startswith("| ") and not line.startswith("| Input")]
    assert len(rows) >= 12
    assert [row for row in rows if "`tests/" not in row] == []


@pytest.mark.parametrize(
    ("packages", "lines", "vulnerable"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], ["no known vulnerabilities in 1 packages"], False),
        (
            [{"name": "a", "version": "1", "vulns": [FIXED, UNFIXED]}],
            ["vulnerability: a 1: X-1, fixed in 2", "vulnerability: a 1: X-2, no fix released"],
            True,
        ),
        (
            [{"name": name, "skip_reason": "Dependency not found"} for name in "abcdefg"],
            ["note: 7 of 7 packages could not be looked up: a, b, c, d, e, ..."],
            False,
        ),
        (
            [{"name": "a", "version": "1", "vulns": []}, {"name": "zoo", "skip_reason": "marked as editable"}],
            ["no known vulnerabilities in 1 packages"],
            False,
        ),
    ],
)  # fmt: skip
def test_an_audit_prints_a_line_for_each_vulnerability_and_one_note(
    packages: list[dict[str, object]], lines: list[str], vulnerable: bool
) -> None:
    summary = runpy.run_path(str(REPOSITORY / ".ci" / "audit.py"))["summary"]
    assert summary({"dependencies": packages}) == (lines, vulnerable)
