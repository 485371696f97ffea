"""Every figure is a column, the metrics of plugins too; a metric that fails loses its column and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from zoo import registry
from zoo.errors import UnknownNameError
from zoo.evaluation.columns import (
    BUILT_IN,
    Column,
    FigureInputs,
    MetricWarning,
    SplitCounts,
    all_columns,
    choose_columns,
    figure_columns,
    summarise,
)
from zoo.evaluation.counts import Counts
from zoo.evaluation.histograms import ProbabilityHistogram

SPECS = """
    from zoo.registry import MetricSpec, hookimpl

    @hookimpl
    def zoo_register_metrics(register):
        for name in ("good", "scalar", "text", "raises", "leaves", "short"):
            register(MetricSpec(name=name, target=f"zoo_odd_metrics_code:{name}", summary=f"the {name} one."))
"""
CODE = """
import numpy as np

def good(tp, fp, fn, tn):
    tp += 1
    return (tp - 1) / (tp - 1 + fp)

def scalar(tp, fp, fn, tn):
    return float(tp.sum())

def text(tp, fp, fn, tn):
    return np.array(["a"] * len(tp))

def raises(tp, fp, fn, tn):
    raise RuntimeError("no such luck")

def leaves(tp, fp, fn, tn):
    raise SystemExit(0)

def short(tp, fp, fn, tn):
    return np.zeros(len(tp) + 1)
"""


@pytest.fixture
def odd_metrics(install: Callable[[str, str], None], tmp_path: Path) -> Iterator[None]:
    """Register one metric that works and five that fail."""
    install("zoo-odd-metrics", SPECS)
    (tmp_path / "site" / "zoo_odd_metrics_code.py").write_text(CODE)
    registry.reload()
    yield
    registry.reload()


def measurements() -> FigureInputs:
    counts = Counts(*(np.array([30, 0]), np.array([10, 0]), np.array([10, 0]), np.array([50, 100])))
    return FigureInputs(SplitCounts(counts, ("a", "b"), ProbabilityHistogram.empty()), seconds={1: 0.5, 4: 1.0})


def figures_of(found: FigureInputs) -> dict[str, float | int | None]:
    return {column.key: column.of(found) for column in figure_columns()}


@pytest.mark.usefixtures("odd_metrics")
def test_a_metric_of_a_plugin_is_a_column_and_one_that_fails_is_empty() -> None:
    with pytest.warns(MetricWarning) as caught:
        both = figures_of(measurements()), summarise(measurements().split.counts)
    for found in both:
        assert found["good"] == pytest.approx(0.75)
        assert found["dice"] == pytest.approx(0.75)
        assert all(found[name] is None for name in ("scalar", "text", "raises", "leaves", "short"))
    texts = {str(one.message) for one in caught}
    failed = "metric 'raises' of plugin zoo-odd-metrics failed (RuntimeError: no such luck); its column is left empty"
    assert failed in texts
    scalar = next(text for text in texts if "'scalar'" in text)
    assert "failed (TypeError: returned a scalar, expected float64 in the shape of its arguments)" in scalar
    assert len(texts) == 5
    (column,) = choose_columns(["good"])
    assert column.description.startswith("the good one; ")
    assert "good" in {one.key for one in choose_columns()}


def test_every_column_has_a_heading_a_description_and_a_format() -> None:
    keys = [column.key for column in all_columns()]
    assert len(keys) == len(set(keys))
    assert set(keys) >= BUILT_IN
    headings = [column.heading for column in all_columns()]
    assert len(headings) == len(set(headings))
    assert all(column.description.endswith(".") for column in all_columns())
    assert choose_columns(["mcc", "all"])[0].key == "mcc"
    with pytest.raises(UnknownNameError, match="Did you mean 'dice'"):
        choose_columns(["dcie"])


def test_values_have_the_format_of_their_column() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = figures_of(measurements())
    columns = {column.key: column for column in all_columns()}
    assert (figures["fps"], figures["fps_batch"]) == (2.0, 4.0)
    assert columns["fps_batch"].text(figures["fps_batch"]) == "4.0"
    assert columns["parameters"].text(1_500_000) == "1.50"
    assert columns["ece"].text(figures["ece"]) == "-"
    assert columns["difference"].text(0.01) == "+0.010"
    assert Column("a", "A", "an a.").text("text") == "text"
