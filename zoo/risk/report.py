"""A comparison in words, rows and files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zoo.files import write_json_atomic, write_text_atomic
from zoo.risk.compare import OK, Comparison, Outcome
from zoo.risk.models import risk_models
from zoo.risk.resampling import paired_intervals
from zoo.risk.scores import SCORES

PAPER_TABLE2: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "svm": {"accuracy": 0.870, "auc": 0.902, "mse": 0.222},
        "random_forest": {"accuracy": 0.904, "auc": 0.926, "mse": 0.180},
        "xgboost": {"accuracy": 0.963, "auc": 0.965, "mse": 0.166},
        "gamm": {"accuracy": 0.955, "auc": 0.958, "mse": 0.169},
        "lsi_without_rain": {"accuracy": 0.935, "auc": 0.956, "mse": 0.171},
        "lsi": {"accuracy": 0.960, "auc": 0.968, "mse": 0.163},
    }
)
"""Table 2 [P]: Hongya County, one split, not these data."""

HEADLINE = (
    "AUC and PR-AUC are means over folds, the other figures are of all held-out rows; in brackets 95 % bootstrap "
    "intervals"
)


def make_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Give one flat row a model and cross-validation, as ``--json`` writes it; absent figures are None."""
    return [_row(comparison, outcome) for outcome in comparison.outcomes]


def _row(comparison: Comparison, outcome: Outcome) -> dict[str, Any]:
    row: dict[str, Any] = {"model": outcome.model, "cv": outcome.cv, "status": outcome.status}
    for name in SCORES:
        low, high = outcome.intervals.get(name, (math.nan, math.nan))
        row[name] = _finite(outcome.scores.get(name, math.nan))
        row[f"{name}_low"], row[f"{name}_high"] = _finite(low), _finite(high)
    for name in ("auc", "pr_auc"):
        row[f"{name}_pooled"] = _finite(outcome.pooled.get(name, math.nan))
    split = comparison.splits[outcome.cv]
    row["n"] = len(comparison.table)
    row["landslides"] = int(comparison.table.labels.sum())
    row["folds"] = len(split.folds)
    row["interval_over"] = {"random": "rows", "block": "spatial blocks", "group": "groups"}[outcome.cv]
    row["seconds"] = round(outcome.seconds, 2)
    return row


def optimism(comparison: Comparison) -> str | None:
    """Say how much better random cross-validation looks; None unless both kinds have figures."""
    gains = {}
    for outcome in comparison.outcomes:
        other = comparison.get(outcome.model, "block")
        if outcome.cv == "random" and outcome.status == OK and other is not None and other.status == OK:
            gains[outcome.model] = outcome.scores["auc"] - other.scores["auc"]
    if not gains:
        return None
    most, least = max(gains, key=lambda name: gains[name]), min(gains, key=lambda name: gains[name])
    mean = sum(gains.values()) / len(gains)
    text = f"random folds make AUC look {abs(mean):.3f} {'better' if mean >= 0 else 'worse'} than spatial blocks do"
    if len(gains) > 1:
        text = (
            f"{text} on average (from {gains[least]:+.3f}, {risk_models()[least].title}, to {gains[most]:+.3f}, "
            f"{risk_models()[most].title})"
        )
    return f"{text}; for places without a landslide record nearby, the figures under blocks are the ones to expect"


def differences(comparison: Comparison, reference: str, cv: str) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Give each model's figures less the reference's, with paired intervals: (difference, low, high) by figure.

    Args:
        comparison: with the reference in it.
        reference: a model.
        cv: a kind of cross-validation.
    """
    base = comparison.get(reference, cv)
    if base is None or base.status != OK:
        return {}
    settings = comparison.settings
    judged = comparison.judgement(base)
    return {
        outcome.model: paired_intervals(
            comparison.judgement(outcome),
            judged,
            comparison.splits[cv].units,
            repeats=settings.repeats,
            seed=settings.seed,
        )
        for outcome in comparison.outcomes
        if outcome.cv == cv and outcome.status == OK and outcome.model != reference
    }


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV with a head; absent figures are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_report(comparison: Comparison, folder: Path, source: str) -> list[Path]:
    """Write results.json, results.csv and predictions.csv.

    Args:
        comparison: what to write.
        folder: where; it exists.
        source: the table's file, as the user named it.

    Returns:
        the files.
    """
    rows = make_rows(comparison)
    settings = asdict(comparison.settings)
    whole = {
        "format": "zoo-risk-compare",
        "version": 1,
        "table": source,
        "features": [str(name) for name in comparison.table.features.columns],
        "settings": {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()},
        "averaging": HEADLINE,
        "notes": [*comparison.table.notes, *comparison.notes],
        "doubts": list(comparison.table.doubts),
        "optimism": optimism(comparison),
        "rows": [
            {**row, "fold_auc": [_finite(value) for value in outcome.fold_auc], "notes": list(outcome.notes)}
            for row, outcome in zip(rows, comparison.outcomes, strict=True)
        ],
        "paper": {name: dict(values) for name, values in PAPER_TABLE2.items()},
    }
    files = [folder / "results.json", folder / "results.csv", folder / "predictions.csv"]
    write_json_atomic(files[0], whole)
    write_text_atomic(files[1], as_csv(rows))
    write_text_atomic(files[2], _predictions(comparison))
    return files


def _predictions(comparison: Comparison) -> str:
    import pandas as pd

    columns: dict[str, Any] = {"label": comparison.table.labels}
    for kind, split in comparison.splits.items():
        fold_of = pd.Series(0, index=range(len(comparison.table)))
        for number, fold in enumerate(split.folds):
            fold_of.iloc[fold.test] = number + 1
        columns[f"{kind}_fold"] = fold_of.to_numpy()
    for outcome in comparison.outcomes:
        if outcome.probability is not None:
            columns[f"{outcome.cv}_{outcome.model}"] = outcome.probability.round(6)
    text: str = pd.DataFrame(columns).to_csv(index=False, lineterminator="\n")
    return text


def _finite(value: float) -> float | None:
    return None if not math.isfinite(value) else round(value, 6)
