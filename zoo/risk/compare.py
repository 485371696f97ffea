"""Table 2 on a table of places: risk models fitted and judged on the same held-out rows."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError
from zoo.physics import rainfall_factor
from zoo.physics.lsi import RAIN_CLIP
from zoo.risk.folds import Fold
from zoo.risk.models import create_risk_model, require_risk, risk_models, unsupported_reason
from zoo.risk.resampling import REPEATS, Judgement, intervals
from zoo.risk.scores import auc, pr_auc
from zoo.risk.splits import Split, make_split
from zoo.risk.tables import RiskTable

Progress = Callable[[int, int, str], None]

CURVE_ROWS = 4_000
"""Training rows of a fold, drawn at random, of which the success-rate curve is made [O]."""

OK = "ok"

_COST = ("random_forest", "svm", "spatial_meteo", "dynamic_thresholds", "xgboost", "random_forest_untuned", "gamm")
"""Longest first, so that no long fit starts when all others are done."""


@dataclass(frozen=True)
class CompareSettings:
    """What is compared, and how.

    Attributes:
        models: names of :func:`zoo.risk.models.risk_models`.
        cv: kinds of cross-validation, of :data:`zoo.risk.splits.CV_KINDS`.
        folds: of each.
        block_side, buffer: metres; None for the defaults of :func:`zoo.risk.splits.make_split`.
        seed: of folds, models and bootstrap.
        jobs: processes.
        rain: columns with intensity (mm/h) and duration (days).
        rain_clip: smallest and largest rainfall factor of the index.
        weights: how the index gets its weights; see :class:`zoo.risk.models.index.RainlessIndex`.
        repeats: draws of the bootstrap.
        curves: predict training rows too, for the success-rate curve.
    """

    models: Sequence[str] = ("random_forest",)
    cv: Sequence[str] = ("random",)
    folds: int = 5
    block_side: float | None = None
    buffer: float | None = None
    seed: int = 0
    jobs: int = 1
    rain: tuple[str, str] | None = None
    rain_clip: tuple[float, float] = RAIN_CLIP
    weights: str = "logistic"
    repeats: int = REPEATS
    curves: bool = False


@dataclass(frozen=True)
class Outcome:
    """One model under one kind of cross-validation.

    Attributes:
        model, cv: names.
        status: "ok", or why there are no figures.
        scores: figures by the names of :data:`zoo.risk.scores.SCORES`: AUC and PR-AUC are means over folds, the others
            of all held-out rows; empty without figures.
        intervals: (low, high) by figure.
        pooled: AUC and PR-AUC of the probabilities of all folds together.
        fold_auc: AUC of each fold.
        probability: of each row, held out, (N,); None without figures.
        fitted: (labels, probabilities) of training rows, for the success-rate curve; None when not asked for.
        seconds: of fitting and predicting, all folds together.
        notes: of the models, in words.
    """

    model: str
    cv: str
    status: str
    scores: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    pooled: Mapping[str, float] = field(default_factory=dict)
    fold_auc: Sequence[float] = ()
    probability: NDArray[np.float64] | None = None
    fitted: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
    seconds: float = 0.0
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Comparison:
    """All of it.

    Attributes:
        table: what was compared on.
        settings: how.
        splits: by kind of cross-validation.
        outcomes: kind by kind, models in the order asked for.
        notes: of splits and models, in words.
    """

    table: RiskTable
    settings: CompareSettings
    splits: Mapping[str, Split]
    outcomes: Sequence[Outcome]
    notes: Sequence[str]

    def get(self, model: str, cv: str) -> Outcome | None:
        """The outcome of a model under a cross-validation, when it was asked for."""
        return next((one for one in self.outcomes if (one.model, one.cv) == (model, cv)), None)

    def judgement(self, outcome: Outcome) -> Judgement:
        """The outcome's probabilities, ready to be drawn from.

        Raises:
            DataError: if it has none.
        """
        if outcome.probability is None:
            raise DataError(f"{outcome.model} has no figures: {outcome.status}")
        return Judgement(self.table.labels, outcome.probability, _fold_of(self.splits[outcome.cv]))


@dataclass(frozen=True)
class _Held:
    """What one fit gives back across the process border."""

    probability: NDArray[np.float64]
    fitted_rows: NDArray[np.int64]
    fitted: NDArray[np.float64]
    seconds: float
    notes: tuple[str, ...]
    problem: str = ""


def compare(table: RiskTable, settings: CompareSettings, progress: Progress | None = None) -> Comparison:
    """Fit every model on every fold, and judge it on the rows held out.

    A model that cannot be fitted gets an outcome that says why, and the others go on.

    Args:
        table: of :func:`zoo.risk.tables.read_table`.
        settings: what and how.
        progress: called with (fits done, fits in all, what was done last).

    Raises:
        ZooError: if the table or the settings cannot work for any model: no coordinates for blocks, fewer rows than
            folds, rain columns that are absent or negative.
        ConfigError: if the libraries of the extra ``risk`` are not installed.
    """
    require_risk()
    _check(table, settings)
    splits = {
        kind: make_split(
            table,
            kind,
            folds=settings.folds,
            side=settings.block_side,
            buffer=settings.buffer,
            seed=settings.seed,
        )
        for kind in dict.fromkeys(settings.cv)
    }
    features, group = _with_groups(table)
    skipped = {name: reason for name in settings.models if (reason := _why_skipped(name, table, settings))}
    runnable = [name for name in settings.models if name not in skipped]
    tasks = [
        (model, kind, number)
        for model in sorted(runnable, key=lambda name: _COST.index(name) if name in _COST else len(_COST))
        for kind in splits
        for number in range(len(splits[kind].folds))
    ]
    held = _run(table, features, group, settings, splits, tasks, progress)
    outcomes, notes = [], [note for split in splits.values() for note in split.notes]
    for kind, split in splits.items():
        for model in settings.models:
            if model in skipped:
                outcomes.append(Outcome(model, kind, f"skipped: {skipped[model]}"))
                continue
            parts = [held[model, kind, number] for number in range(len(split.folds))]
            outcomes.append(_outcome(table, settings, split, model, parts))
    for outcome in outcomes:
        notes += outcome.notes
        if outcome.status.startswith("failed"):
            notes.append(f"{outcome.model} under {outcome.cv} cross-validation {outcome.status}")
    return Comparison(table, settings, splits, outcomes, tuple(dict.fromkeys(notes)))


def _check(table: RiskTable, settings: CompareSettings) -> None:
    for name in settings.models:
        if name not in risk_models():
            raise UnknownNameError("risk model", name, risk_models())
    if settings.jobs < 1 or settings.repeats < 1:
        raise ConfigError("at least one process and one draw of the bootstrap are needed")
    if settings.rain is None:
        return
    if settings.rain[0] == settings.rain[1]:
        raise ConfigError("rain intensity and duration are the same column", where="option rain-columns")
    for name in settings.rain:
        if name not in table.features.columns:
            dropped = next((note for note in table.notes if note.startswith(f"{name}: left out")), None)
            if dropped is not None:
                raise DataError(f"rain cannot be compared with: {dropped}")
            known = [str(column) for column in table.features.columns]
            raise UnknownNameError("column", name, known, where="option rain-columns")
        if isinstance(table.features[name].dtype, pd.CategoricalDtype):
            raise DataError("holds classes, and rain is a number", where=f"column {name!r}")
    columns = [table.features[name].to_numpy(np.float64) for name in settings.rain]
    for name, values, what in zip(settings.rain, columns, ("intensity", "duration"), strict=True):
        if (values < 0).any():
            raise DataError(
                f"rain {what} of {np.nanmin(values):g}; {int((values < 0).sum()):,} rows are negative",
                where=f"column {name!r}",
                hint="Leave the cells empty, or name the code that means missing with --missing",
            )
    rainfall_factor(columns[0], columns[1], clip=settings.rain_clip)


def _why_skipped(name: str, table: RiskTable, settings: CompareSettings) -> str | None:
    if risk_models()[name].needs_rain and settings.rain is None:
        return "needs rain (--rain-columns P,D)"
    return unsupported_reason(name, table.features)


def _with_groups(table: RiskTable) -> tuple[pd.DataFrame, str | None]:
    if table.groups is None:
        return table.features, None
    name = "group"
    while name in table.features.columns:
        name += "_"
    return table.features.assign(**{name: pd.Categorical(table.groups)}), name


def _run(
    table: RiskTable,
    features: pd.DataFrame,
    group: str | None,
    settings: CompareSettings,
    splits: Mapping[str, Split],
    tasks: Sequence[tuple[str, str, int]],
    progress: Progress | None,
) -> dict[tuple[str, str, int], _Held]:
    from sklearn.utils.parallel import Parallel, delayed

    common = {"rain": settings.rain, "group": group, "seed": settings.seed}
    calls = (
        delayed(_fit_one)(
            (model, kind, number),
            {**common, **_options(model, settings)},
            features,
            table.labels,
            splits[kind].folds[number],
            splits[kind].inner[number],
            settings.curves,
        )
        for model, kind, number in tasks
    )
    held: dict[tuple[str, str, int], _Held] = {}
    if progress is not None:
        progress(0, len(tasks), "")
    for task, result in Parallel(n_jobs=settings.jobs, return_as="generator_unordered")(calls):
        held[task] = result
        if progress is not None:
            progress(len(held), len(tasks), f"{task[0]}, {task[1]}")
    return held


def _options(model: str, settings: CompareSettings) -> dict[str, Any]:
    if model == "lsi":
        return {"clip": settings.rain_clip, "weights": settings.weights}
    return {"weights": settings.weights} if model == "lsi_without_rain" else {}


def _fit_one(
    task: tuple[str, str, int],
    options: dict[str, Any],
    features: pd.DataFrame,
    labels: NDArray[np.int64],
    fold: Fold,
    inner: list[Fold],
    curves: bool,
) -> tuple[tuple[str, str, int], _Held]:
    began = time.perf_counter()
    empty = np.empty(0)
    nothing = np.empty(0, dtype=np.int64)
    try:
        with warnings.catch_warnings():
            # What libraries say of convergence is said about a fold of a grid, and would be printed by every process.
            warnings.simplefilter("ignore")
            model = create_risk_model(task[0], **options)
            model.fit(features.iloc[fold.train], labels[fold.train], inner or None)
            probability = model.predict_proba(features.iloc[fold.test])[:, 1]
            rows, fitted = nothing, empty
            if curves:
                rng = np.random.default_rng(task[2])
                rows = fold.train
                if len(rows) > CURVE_ROWS:
                    rows = np.sort(rng.choice(rows, CURVE_ROWS, replace=False))
                fitted = model.predict_proba(features.iloc[rows])[:, 1]
    except ZooError as error:
        return task, _Held(empty, nothing, empty, 0.0, (), str(error))
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        # Numerical libraries refuse odd tables in ways of their own; one model less is no reason to lose the others.
        return task, _Held(empty, nothing, empty, 0.0, (), f"{type(error).__name__}: {error}")
    if not np.isfinite(probability).all():
        return task, _Held(empty, nothing, empty, 0.0, (), "the model gave probabilities that are not finite")
    seconds = time.perf_counter() - began
    return task, _Held(probability.clip(0, 1), rows, fitted, seconds, tuple(model.notes_))


def _outcome(table: RiskTable, settings: CompareSettings, split: Split, model: str, parts: Sequence[_Held]) -> Outcome:
    problems = [part.problem for part in parts if part.problem]
    if problems:
        return Outcome(model, split.kind, f"failed: {problems[0].splitlines()[0]}")
    probability = np.empty(len(table))
    for fold, part in zip(split.folds, parts, strict=True):
        probability[fold.test] = part.probability
    judged = Judgement(table.labels, probability, _fold_of(split))
    rows = np.concatenate([part.fitted_rows for part in parts])
    return Outcome(
        model=model,
        cv=split.kind,
        status=OK,
        scores=judged.scores(),
        intervals=intervals(judged, split.units, repeats=settings.repeats, seed=settings.seed),
        pooled={"auc": auc(table.labels, probability), "pr_auc": pr_auc(table.labels, probability)},
        fold_auc=judged.fold_auc(),
        probability=probability,
        fitted=(table.labels[rows], np.concatenate([part.fitted for part in parts])) if len(rows) else None,
        seconds=sum(part.seconds for part in parts),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _fold_of(split: Split) -> NDArray[np.int64]:
    number = np.empty(sum(len(fold.test) for fold in split.folds), dtype=np.int64)
    for index, fold in enumerate(split.folds):
        number[fold.test] = index
    return number
