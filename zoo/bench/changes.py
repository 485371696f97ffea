"""Changes between two sets of results, and whether they exceed the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoo.bench.leaderboard import Row, make_rows
from zoo.bench.results import TrialResult
from zoo.errors import ResultError
from zoo.evaluation.comparison import LEVEL, Resampling, adjusted_p_values, interval
from zoo.evaluation.counts import FloatArray
from zoo.evaluation.metrics import dice
from zoo.schema import encode_json

Setting = tuple[str, str]


@dataclass(frozen=True)
class Change:
    """Change of one model in one setting.

    Attributes:
        data: label of the data.
        model: label of the model.
        before: pooled Dice, mean over seeds; ``None`` if the model has no figures.
        now: pooled Dice, mean over seeds; ``None`` if the model has no figures.
        difference: ``now`` minus ``before``, on the same test images; ``None`` if one is missing.
        low: lower end of its paired bootstrap interval.
        high: upper end of its paired bootstrap interval.
        p: p-value for no change, corrected for all models (Romano-Wolf).
        speed: frames per second now divided by those before, at batch size 1; ``None`` if unknown.
        verdict: ``better``, ``worse``, ``within noise``, ``the same``, ``new``, ``gone`` or ``no figures``.
    """

    data: str
    model: str
    before: float | None
    now: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    speed: float | None
    verdict: str


def compare_results(now: Sequence[TrialResult], before: Sequence[TrialResult]) -> list[Change]:
    """Compare two folders of results, model by model.

    Models are paired if their test images are the same. Recipes may differ, because their effect may be the question.
    If there are several seeds, the intervals include the variation between them.

    Args:
        now: results of the current folder.
        before: results of the other folder.

    Returns:
        One change per model and setting, in the order of the tables of ``now``; models that no longer exist are last.

    Raises:
        ResultError: if the folders share no test split.
    """
    current, earlier = _settings(now), _settings(before)
    shared = [setting for setting in current if setting in earlier]
    if not shared:
        raise ResultError(
            "the two folders share no test images, so there is nothing to compare",
            hint="Run zoo bench on the same data and split; zoo report FOLDER names them",
        )
    pending: list[tuple[Change, FloatArray | None]] = []
    for setting in shared:
        pending += _changes(current[setting], earlier[setting])
    differences = [drawn for _, drawn in pending if drawn is not None]
    adjusted = iter(adjusted_p_values(np.stack(differences, axis=1)) if differences else ())
    return [
        change if drawn is None else _with_verdict(change, drawn, float(next(adjusted))) for change, drawn in pending
    ]


def changes_as_json(changes: Sequence[Change]) -> str:
    """Return the changes as a JSON list."""
    return encode_json(list(changes), indent=2) + "\n"


def _settings(results: Sequence[TrialResult]) -> dict[Setting, list[TrialResult]]:
    found: dict[Setting, list[TrialResult]] = {}
    for result in results:
        found.setdefault((result.config.fingerprints["test"], result.config.device), []).append(result)
    return found


def _changes(now: list[TrialResult], before: list[TrialResult]) -> list[tuple[Change, FloatArray | None]]:
    rows = {row.model: row for row in make_rows(now)}
    old = {row.model: row for row in make_rows(before)}
    label = now[0].config.data.label
    models = [*rows, *(name for name in old if name not in rows)]
    return [
        (
            _change_without_interval(label, model, rows.get(model), old.get(model)),
            _difference(_results_with_figures(now, model), _results_with_figures(before, model)),
        )
        for model in models
    ]


def _results_with_figures(results: Sequence[TrialResult], model: str) -> list[TrialResult]:
    return [result for result in results if result.ok and result.config.label == model]


def _difference(now: list[TrialResult], before: list[TrialResult]) -> FloatArray | None:
    if not now or not before:
        return None
    resampling = Resampling.draw(now[0].evaluated.groups)
    sides = [
        resampling.over_seeds([resampling.pooled(trial.counts, dice) for trial in trials]) for trials in (now, before)
    ]
    return sides[0] - sides[1]


def _change_without_interval(label: str, model: str, after: Row | None, earlier: Row | None) -> Change:
    now = None if after is None else after.figures.get("dice")
    before = None if earlier is None else earlier.figures.get("dice")
    fps = [None if row is None else row.figures.get("fps") for row in (after, earlier)]
    speed = fps[0] / fps[1] if fps[0] and fps[1] else None
    verdict = "new" if earlier is None else "gone" if after is None else "no figures"
    return Change(label, model, before, now, None, None, None, None, speed, verdict)


def _with_verdict(change: Change, drawn: FloatArray, p: float) -> Change:
    if change.now is None or change.before is None:
        return change
    difference = change.now - change.before
    low, high = interval(drawn)
    if not drawn.any():
        verdict = "the same"
    else:
        verdict = "within noise" if not p < 1 - LEVEL else "better" if difference > 0 else "worse"
    return replace(change, difference=difference, low=low, high=high, p=p, verdict=verdict)
