"""Table 2 on a table of places: risk models fitted and scored on the same held-out rows."""

from __future__ import annotations

import html
import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError
from zoo.files import csv_text, printable, write_text_atomic
from zoo.jobs import ProgressCallback
from zoo.physics.lsi import RAIN_CLIP
from zoo.physics.rain import check_rain, check_rain_names
from zoo.risk.models import create_risk_model, require_risk, risk_models, select_risk_models, unsupported_reason
from zoo.risk.scores import PRINTED_SCORES, REPEATS, SCORES, SortedProbabilities, base_rate, intervals, paired_intervals
from zoo.risk.splits import CV_KINDS, Fold, Split, fold_numbers, make_split
from zoo.risk.tables import MISSING_CODES, RiskTable, read_table
from zoo.schema import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVE_ROWS = 4_000
"""Number of random training rows per fold for the success-rate curve [O]."""

OK = "ok"

MAX_SEED = 2**32 - 1
"""Maximum seed of scikit-learn."""

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
"""Table 2 [P]: Hongya County, one split, other data."""

AVERAGING = (
    "AUC and PR-AUC are means over folds; the other scores use all held-out rows; brackets hold 95 % "
    "bootstrap intervals"
)

_SCHEDULE_ORDER = (
    "random_forest",
    "svm",
    "spatial_meteo",
    "dynamic_thresholds",
    "xgboost",
    "random_forest_untuned",
    "gamm",
)
"""Order of the fits, longest first, so that no long fit starts last."""

Row = dict[str, str | int | float | None]
"""One flat result row; missing scores are None."""


@dataclass(frozen=True)
class CompareSettings:
    """Settings of a comparison; :func:`compare` documents them.

    Attributes:
        models: names of :func:`zoo.risk.models.risk_models`.
        cv: kinds of cross-validation, of :data:`zoo.risk.splits.CV_KINDS`.
        folds: number of folds of each.
        block_side, buffer: metres; None for the defaults of :func:`zoo.risk.splits.make_split`.
        seed: seed of folds, models and bootstrap.
        jobs: number of processes.
        rain: columns with intensity (mm/h) and duration (days).
        rain_clip: smallest and largest rainfall factor of the index.
        weights: origin of the weights of the index; see :class:`zoo.risk.models.index.RainlessIndex`.
        repeats: number of bootstrap draws.
        curves: also predict training rows, for the success-rate curve.
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
        status: "ok", or the reason why there are no scores.
        scores: scores by the keys of :data:`zoo.risk.scores.SCORES`; may be empty.
        intervals: (low, high) by score.
        pooled: AUC and PR-AUC of the probabilities of all folds together.
        fold_auc: AUC of each fold.
        probability: held-out probability of each row, (N,); None without scores.
        fitted: (labels, probabilities) of training rows, for the success-rate curve; None if not requested.
        seconds: total time of fitting and predicting over all folds.
        notes: notes of the models, as sentences.
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

    @property
    def ok(self) -> bool:
        """Whether the model has scores."""
        return self.status == OK


@dataclass(frozen=True)
class Comparison:
    """Results of :func:`compare`; displays as a table in a notebook.

    Attributes:
        data: the table of places.
        settings: settings of the comparison.
        splits: folds by kind of cross-validation.
        outcomes: results, kind by kind, models in the order of the settings.
        notes: notes of splits and models, as sentences.
    """

    data: RiskTable
    settings: CompareSettings
    splits: Mapping[str, Split]
    outcomes: Sequence[Outcome]
    notes: Sequence[str]

    def get(self, model: str, cv: str) -> Outcome | None:
        """Return the outcome of a model under a cross-validation; None if it was not compared."""
        return next((outcome for outcome in self.outcomes if (outcome.model, outcome.cv) == (model, cv)), None)

    def sorted_probabilities(self, outcome: Outcome) -> SortedProbabilities:
        """Return the outcome's probabilities for the bootstrap.

        Raises:
            DataError: if the outcome has no probabilities.
        """
        if outcome.probability is None:
            raise DataError(f"{outcome.model} has no scores: {outcome.status}")
        return SortedProbabilities(self.data.labels, outcome.probability, fold_numbers(self.splits[outcome.cv].folds))

    def rows(self) -> list[Row]:
        """Return one flat row per model and cross-validation, as ``--json`` writes it."""
        return [self._row(outcome) for outcome in self.outcomes]

    def _row(self, outcome: Outcome) -> Row:
        row: Row = {"model": outcome.model, "cv": outcome.cv, "status": outcome.status}
        for name in SCORES:
            low, high = outcome.intervals.get(name, (math.nan, math.nan))
            row[name] = _rounded(outcome.scores.get(name, math.nan))
            row[f"{name}_low"], row[f"{name}_high"] = _rounded(low), _rounded(high)
        for name in ("auc", "pr_auc"):
            row[f"{name}_pooled"] = _rounded(outcome.pooled.get(name, math.nan))
        row["base_rate"] = _rounded(base_rate(self.data.labels))
        row["n"] = len(self.data)
        row["landslides"] = int(self.data.labels.sum())
        row["folds"] = len(self.splits[outcome.cv].folds)
        row["interval_over"] = {"random": "rows", "block": "spatial blocks", "group": "groups"}[outcome.cv]
        row["seconds"] = round(outcome.seconds, 2)
        return row

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per model and cross-validation with scores and intervals; missing scores are NaN."""
        return pd.DataFrame(self.rows())

    def table(self) -> str:
        """Return the scores as text, one table per cross-validation."""
        parts = []
        for kind, split in self.splits.items():
            shown = self._display().query("cv == @kind").drop(columns="cv")
            rows = f"{len(split.folds)} folds, {len(self.data):,} rows, base rate {base_rate(self.data.labels):.3f}"
            parts.append(f"{kind} cross-validation, {rows}")
            parts.append(shown.to_string(index=False))
        return "\n".join(parts)

    def _display(self) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {
                    "cv": outcome.cv,
                    "model": risk_models()[outcome.model].title,
                    **{
                        SCORES[name]: "-" if math.isnan(value := outcome.scores.get(name, math.nan)) else f"{value:.3f}"
                        for name in PRINTED_SCORES
                    },
                }
                for outcome in self.outcomes
            ]
        )

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(text)}</li>" for text in self.notes)
        text = f"Base rate {base_rate(self.data.labels):.3f}. {AVERAGING}"
        return f"{self._display().to_html(index=False, escape=True)}<p>{text}</p><ul>{notes}</ul>"

    def optimism(self) -> str | None:
        """Return a sentence about the higher AUC of random folds; None unless both kinds have scores."""
        gains = {}
        for outcome in self.outcomes:
            other = self.get(outcome.model, "block")
            if outcome.cv == "random" and outcome.ok and other is not None and other.ok:
                gains[outcome.model] = outcome.scores["auc"] - other.scores["auc"]
        if not gains:
            return None
        largest, smallest = max(gains, key=lambda name: gains[name]), min(gains, key=lambda name: gains[name])
        mean = sum(gains.values()) / len(gains)
        text = f"the AUC of random folds is {abs(mean):.3f} {'higher' if mean >= 0 else 'lower'} than of spatial blocks"
        if len(gains) > 1:
            low, high = (f"{gains[name]:+.3f}, {risk_models()[name].title}" for name in (smallest, largest))
            text = f"{text} on average (from {low}, to {high})"
        return f"{text}; for places without landslide records nearby, expect the scores of spatial blocks"

    def differences(self, reference: str, cv: str) -> dict[str, dict[str, tuple[float, float, float]]]:
        """Return each model's scores minus the reference's, with paired intervals: (difference, low, high) by score.

        Args:
            reference: a model of the comparison.
            cv: a kind of cross-validation.
        """
        base = self.get(reference, cv)
        if base is None or not base.ok:
            return {}
        judged = self.sorted_probabilities(base)
        return {
            outcome.model: paired_intervals(
                self.sorted_probabilities(outcome),
                judged,
                self.splits[cv].units,
                repeats=self.settings.repeats,
                seed=self.settings.seed,
            )
            for outcome in self.outcomes
            if outcome.cv == cv and outcome.ok and outcome.model != reference
        }

    def predictions(self) -> pd.DataFrame:
        """Return label, folds and held-out probabilities of every row, in the order of the file."""
        columns: dict[str, Any] = {"label": self.data.labels}
        for kind, split in self.splits.items():
            columns[f"{kind}_fold"] = fold_numbers(split.folds) + 1
        for outcome in self.outcomes:
            if outcome.probability is not None:
                columns[f"{outcome.cv}_{outcome.model}"] = outcome.probability.round(6)
        frame = pd.DataFrame(columns)
        return frame if self.data.rows is None else frame.iloc[np.argsort(self.data.rows)].reset_index(drop=True)

    def write(self, folder: str | os.PathLike[str], source: str = "") -> list[Path]:
        """Write results.json, results.csv, predictions.csv, features.csv and pictures.

        Args:
            folder: an existing folder.
            source: file of the table, as the user named it.

        Returns:
            The files.
        """
        from zoo.risk.pictures import write_pictures

        folder = Path(folder)
        rows = self.rows()
        results = _ResultFile(
            table=printable(source),
            features=[str(name) for name in self.data.features.columns],
            settings=asdict(self.settings),
            averaging=AVERAGING,
            notes=[*self.data.notes, *self.notes],
            doubts=list(self.data.warnings),
            optimism=self.optimism(),
            rows=[
                {**row, "fold_auc": [_rounded(value) for value in outcome.fold_auc], "notes": list(outcome.notes)}
                for row, outcome in zip(rows, self.outcomes, strict=True)
            ],
        )
        files = [folder / "results.json", folder / "results.csv", folder / "predictions.csv"]
        write_json(files[0], results)
        table = self.to_pandas().map(lambda value: csv_text(value) if isinstance(value, str) else value)
        write_text_atomic(files[1], table.to_csv(index=False, lineterminator="\n"))
        write_text_atomic(files[2], self.predictions().to_csv(index=False, lineterminator="\n"))
        return [*files, *write_pictures(self, folder)]

    def plot(self) -> dict[str, Figure]:
        """Return the figures "roc", "rates" and "reliability" by name; empty without scores."""
        from zoo.risk.pictures import draw_comparison

        return draw_comparison(self)


@dataclass(frozen=True)
class _ResultFile:
    """Layout of results.json."""

    table: str
    features: list[str]
    settings: dict[str, Any]
    averaging: str
    notes: list[str]
    doubts: list[str]
    optimism: str | None
    rows: list[dict[str, Any]]
    paper: dict[str, dict[str, float]] = field(
        default_factory=lambda: {name: dict(values) for name, values in PAPER_TABLE2.items()}
    )
    format: str = "zoo-risk-compare"
    version: int = 1


def compare(
    table: RiskTable | pd.DataFrame | str | os.PathLike[str],
    label: str | None = None,
    *,
    drop: Sequence[str] = (),
    coords: tuple[str, str] | None = None,
    crs: str | None = None,
    group: str | None = None,
    rain_columns: tuple[str, str] | None = None,
    rain_clip: tuple[float, float] = RAIN_CLIP,
    categorical: Sequence[str] | None = None,
    missing: Sequence[float] = MISSING_CODES,
    models: str | Sequence[str] = "all",
    lsi_weights: str = "logistic",
    cv: Sequence[str] | None = None,
    folds: int = 5,
    block_side: float | None = None,
    buffer: float | None = None,
    seed: int = 0,
    jobs: int = 1,
    repeats: int = REPEATS,
    curves: bool = False,
    progress: ProgressCallback | None = None,
) -> Comparison:
    """Fit risk models to a table of places and score them on held-out rows. The command is ``zoo risk compare``.

    If a model cannot be fitted, its outcome states the reason, and the other models continue.

    Args:
        table: CSV, Parquet, XLSX or vector file, a DataFrame, or the result of :func:`read_table`. For the latter, the
            arguments that describe columns, up to ``missing``, do not apply.
        label: column that marks landslides: 0 and 1, true and false, yes and no.
        drop: columns that are not features.
        coords: columns with x and y, in metres or degrees.
        crs: coordinate system of ``coords``, such as "EPSG:32643".
        group: column with the region or event.
        rain_columns: columns with rain intensity (mm/h) and duration (days).
        rain_clip: smallest and largest rainfall factor of the index.
        categorical: columns with classes; None for text columns, and for whole numbers in columns with names such as
            "litho".
        missing: numbers that mark missing values.
        models: "all", or names of :func:`zoo.risk.models.risk_models`.
        lsi_weights: origin of the weights of the index: "logistic", "spearman" or "paper".
        cv: kinds of cross-validation: "random", "block", "group"; None for random, and block if there are coordinates.
        folds: number of folds of each.
        block_side: side of a block in metres; None for a fifth of the region.
        buffer: width in metres of the buffer around test blocks, without training rows; None for a tenth of the side.
        seed: seed of folds, models and intervals.
        jobs: number of processes.
        repeats: number of bootstrap draws.
        curves: also predict training rows, for the success-rate curve.
        progress: called with the number of fits done and the total.

    Raises:
        ZooError: if the table or the settings are unusable for all models: no coordinates for blocks, fewer rows than
            folds, missing or negative rain.
        ConfigError: if the libraries of the extra ``risk`` are not installed.

    Example:
        >>> import numpy as np, pandas as pd, zoo
        >>> slope = np.random.default_rng(0).uniform(0, 60, 200)
        >>> places = pd.DataFrame({"slope": slope, "landslide": (slope > 35).astype(int)})
        >>> found = zoo.risk.compare(places, "landslide", models=["lsi_without_rain"], folds=3)
        >>> found.to_pandas()[["model", "cv", "auc"]].values.tolist()
        [['lsi_without_rain', 'random', 1.0]]
    """
    if not isinstance(table, RiskTable):
        if label is None:
            raise ConfigError("no label column is given", hint="For example label='landslide'")
        table = read_table(
            table, label, drop=drop, coords=coords, crs=crs, group=group, categorical=categorical, missing=missing
        )
    if cv is None:
        cv = ("random",) if table.coordinates is None else ("random", "block")
    if not isinstance(models, str):
        models = ",".join(models)
    if rain_columns and (used := {*drop, *(coords or ()), group, label} & set(rain_columns)):
        raise ConfigError(
            f"{', '.join(sorted(map(repr, used)))} is rain, and the label, a group, a coordinate or dropped too",
            where="option rain-columns",
            hint="Name each column once",
        )
    settings = CompareSettings(
        models=select_risk_models(models, rain_columns is not None),
        cv=tuple(dict.fromkeys(cv)),
        folds=folds,
        block_side=block_side,
        buffer=buffer,
        seed=seed,
        jobs=jobs,
        rain=rain_columns,
        rain_clip=rain_clip,
        weights=lsi_weights,
        repeats=repeats,
        curves=curves,
    )
    return compare_table(table, settings, progress)


@dataclass(frozen=True)
class _Fit:
    """Result of one fit, sent back from its process."""

    probability: NDArray[np.float64]
    fitted_rows: NDArray[np.int64]
    fitted: NDArray[np.float64]
    seconds: float
    notes: tuple[str, ...] = ()
    problem: str = ""


def compare_table(table: RiskTable, settings: CompareSettings, progress: ProgressCallback | None = None) -> Comparison:
    """Fit every model on every fold and score it on the held-out rows; see :func:`compare`."""
    require_risk()
    _check(table, settings)
    splits = {
        kind: make_split(
            table, kind, folds=settings.folds, side=settings.block_side, buffer=settings.buffer, seed=settings.seed
        )
        for kind in dict.fromkeys(settings.cv)
    }
    skipped = {name: reason for name in settings.models if (reason := _skip_reason(name, table, settings))}
    fits = _fit_all(table, settings, splits, [name for name in settings.models if name not in skipped], progress)
    outcomes, notes = [], [note for split in splits.values() for note in split.notes]
    dry = table.features[list(settings.rain or ())].isna().any(axis=1).sum()
    if dry:
        notes.append(f"{dry:,} of {len(table):,} rows have no rain; models fill it in from the training rows")
    for kind, split in splits.items():
        for model in settings.models:
            if model in skipped:
                outcomes.append(Outcome(model, kind, f"skipped: {skipped[model]}"))
                continue
            parts = [fits[model, kind, number] for number in range(len(split.folds))]
            outcomes.append(_outcome(table, settings, split, model, parts))
    for outcome in outcomes:
        notes += outcome.notes
        if outcome.status.startswith("failed"):
            notes.append(f"{outcome.model}, {outcome.cv} cross-validation: {outcome.status}")
    return Comparison(table, settings, splits, outcomes, tuple(dict.fromkeys(notes)))


def _check(table: RiskTable, settings: CompareSettings) -> None:
    for name in settings.models:
        if name not in risk_models():
            raise UnknownNameError("risk model", name, risk_models())
    if not 0 <= settings.seed <= MAX_SEED:
        raise ConfigError(f"seed {settings.seed}", hint=f"Give 0 to {MAX_SEED}")
    if settings.jobs < 1 or settings.repeats < 1:
        raise ConfigError("at least one process and one bootstrap draw are needed")
    if not settings.cv:
        raise ConfigError("no cross-validation is named", where="option cv", hint=f"Choose from: {', '.join(CV_KINDS)}")
    low, high = settings.rain_clip
    if not 0 <= low <= high < math.inf:
        raise ConfigError(
            f"bounds {low:g} and {high:g} of the rainfall factor",
            where="option rain-clip",
            hint="Write LOW,HIGH with 0 <= LOW <= HIGH",
        )
    if settings.rain is None:
        return
    if settings.rain[0] == settings.rain[1]:
        raise ConfigError("rain intensity and duration are the same column", where="option rain-columns")
    for name in settings.rain:
        if name not in table.features.columns:
            dropped = next((note for note in table.notes if note.startswith(f"{name}: left out")), None)
            if dropped is not None:
                raise DataError(f"rain cannot be used: {dropped}")
            known = [str(column) for column in table.features.columns]
            raise UnknownNameError("column", name, known, where="option rain-columns")
        if isinstance(table.features[name].dtype, pd.CategoricalDtype):
            raise DataError("contains classes, but rain is a number", where=f"column {name!r}")
    check_rain_names(*settings.rain, where="option rain-columns")
    columns = [table.features[name].to_numpy(np.float64) for name in settings.rain]
    for name, values, what in zip(settings.rain, columns, ("intensity", "duration"), strict=True):
        if (values < 0).any():
            raise DataError(
                f"rain {what} of {np.nanmin(values):g}; {int((values < 0).sum()):,} rows are negative",
                where=f"column {name!r}",
                hint="Leave the cells empty, or name the code for missing values with --missing",
            )
    check_rain(columns[0], columns[1], where=f"columns {', '.join(settings.rain)}")


def _skip_reason(name: str, table: RiskTable, settings: CompareSettings) -> str | None:
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


def _fit_all(
    table: RiskTable,
    settings: CompareSettings,
    splits: Mapping[str, Split],
    models: Sequence[str],
    progress: ProgressCallback | None,
) -> dict[tuple[str, str, int], _Fit]:
    from sklearn.utils.parallel import Parallel, delayed

    features, group = _with_groups(table)
    rank = {name: place for place, name in enumerate(_SCHEDULE_ORDER)}
    tasks = [
        (model, kind, number)
        for model in sorted(models, key=lambda name: rank.get(name, len(rank)))
        for kind in splits
        for number in range(len(splits[kind].folds))
    ]
    calls = (
        delayed(_fit_one)(
            (model, kind, number),
            {"rain": settings.rain, "group": group, "seed": settings.seed, **_model_options(model, settings)},
            features,
            table.labels,
            splits[kind].folds[number],
            splits[kind].inner[number],
            settings.curves,
        )
        for model, kind, number in tasks
    )
    fits: dict[tuple[str, str, int], _Fit] = {}
    if progress is not None:
        progress(0, len(tasks))
    for task, result in Parallel(n_jobs=settings.jobs, return_as="generator_unordered")(calls):
        fits[task] = result
        if progress is not None:
            progress(len(fits), len(tasks))
    return fits


def _model_options(model: str, settings: CompareSettings) -> dict[str, Any]:
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
) -> tuple[tuple[str, str, int], _Fit]:
    began = time.perf_counter()
    empty, no_rows = np.empty(0), np.empty(0, dtype=np.int64)
    try:
        with warnings.catch_warnings():
            # Convergence warnings concern one fold of a grid, and every process would print them.
            warnings.simplefilter("ignore")
            model = create_risk_model(task[0], **options)
            model.fit(features.iloc[fold.train], labels[fold.train], inner or None)
            probability = model.predict_proba(features.iloc[fold.test])[:, 1]
            rows, fitted = no_rows, empty
            if curves:
                rows = fold.train
                if len(rows) > CURVE_ROWS:
                    rows = np.sort(np.random.default_rng(task[2]).choice(rows, CURVE_ROWS, replace=False))
                fitted = model.predict_proba(features.iloc[rows])[:, 1]
    except ZooError as error:
        return task, _Fit(empty, no_rows, empty, 0.0, problem=str(error))
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        # Numerical libraries raise various errors for unusual tables; the other models must continue.
        return task, _Fit(empty, no_rows, empty, 0.0, problem=f"{type(error).__name__}: {error}")
    if not np.isfinite(probability).all():
        return task, _Fit(empty, no_rows, empty, 0.0, problem="the model returned probabilities that are not finite")
    seconds = time.perf_counter() - began
    return task, _Fit(probability.clip(0, 1), rows, fitted, seconds, tuple(model.notes_))


def _outcome(table: RiskTable, settings: CompareSettings, split: Split, model: str, parts: Sequence[_Fit]) -> Outcome:
    problems = [part.problem for part in parts if part.problem]
    if problems:
        return Outcome(model, split.kind, f"failed: {problems[0].splitlines()[0]}")
    probability = np.empty(len(table))
    for fold, part in zip(split.folds, parts, strict=True):
        probability[fold.test] = part.probability
    judged = SortedProbabilities(table.labels, probability, fold_numbers(split.folds))
    pooled = SortedProbabilities(table.labels, probability).scores()
    rows = np.concatenate([part.fitted_rows for part in parts])
    return Outcome(
        model=model,
        cv=split.kind,
        status=OK,
        scores=judged.scores(),
        intervals=intervals(judged, split.units, repeats=settings.repeats, seed=settings.seed),
        pooled={name: pooled[name] for name in ("auc", "pr_auc")},
        fold_auc=judged.fold_auc(),
        probability=probability,
        fitted=(table.labels[rows], np.concatenate([part.fitted for part in parts])) if len(rows) else None,
        seconds=sum(part.seconds for part in parts),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _rounded(value: float) -> float | None:
    return None if not math.isfinite(value) else round(value, 6)
