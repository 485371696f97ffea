"""Sections of plugins in the HTML report: shown as text, and isolated when they fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zoo.api.results import read_results
from zoo.registry import reload

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "synthetic_quick"
PLUGIN = """
    from zoo.registry import ReportSection, ReportSectionSpec, hookimpl

    @hookimpl
    def zoo_register_report_sections(register):
        for name in ("good", "raises", "wrong", "none", "ragged"):
            register(ReportSectionSpec(name=name, target=f"zoo_pages:{name}", summary=f"Section {name}"))

    def good(board):
        return ReportSection("Models <b>", "All models.", ("model", "n"), tuple((row.model, "1") for row in board.rows))

    def raises(board):
        raise RuntimeError("boom")

    def wrong(board):
        return "<script>alert(1)</script>"

    def none(board):
        return None

    def ragged(board):
        return ReportSection("Ragged", headings=("a", "b"), rows=(("1",),))
"""


@pytest.fixture
def page(install: Callable[[str, str], None], tmp_path: Path) -> Iterator[str]:
    install("zoo-pages", PLUGIN)
    reload()
    yield read_results(RESULTS).html(tmp_path / "report.html").read_text(encoding="utf-8")
    reload()


def test_sections_are_escaped_and_failures_named(page: str) -> None:
    assert "<h3>Models &lt;b&gt;</h3>" in page
    assert '<th scope="row">unet</th><td>1</td>' in page
    assert "This section of plugin zoo-pages failed: RuntimeError: boom" in page
    assert "it returned str, not a ReportSection" in page
    assert "a row has not 2 cells" in page
    assert "alert(1)" not in page
    assert "Section none" not in page
