"""Documents that people copy from: every example in Python is Python, and no line was pasted into another."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "plugins/*/*.md")
    for path in REPOSITORY.glob(pattern)
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_python_examples_are_python(path: Path) -> None:
    for code in re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        ast.parse(code)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_block_of_code_ends(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n```") % 2 == 0
