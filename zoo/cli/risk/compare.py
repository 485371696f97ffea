"""``zoo risk compare``: Table 2 on a table of places."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import err, make_table, note, out, relative, warn
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.risk.compare import CompareSettings, Comparison
    from zoo.risk.tables import RiskTable


@click.command(short_help="Table 2: risk models on a table of places.")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--label", required=True, metavar="COLUMN", help="Column that says where a landslide is: 0/1, yes/no.")
@click.option("--drop", default="", metavar="A,B", help="Columns that are no features.")
@click.option("--coords", metavar="X,Y", help="Columns with coordinates, metres or degrees; a vector file has its own.")
@click.option("--group", metavar="COLUMN", help="Column with the region or event.")
@click.option(
    "--rain-columns",
    metavar="P,D",
    help="Columns with rain intensity (mm/h) and duration (days), for the index.",
)
@click.option(
    "--rain-clip", default="0,5", show_default=True, metavar="LOW,HIGH", help="Bounds of the rainfall factor."
)
@click.option("--categorical", metavar="A,B", help="Columns that hold classes; by default texts and names like litho.")
@click.option("--missing", metavar="N,N", help="Numbers that mean missing; -9999, -99999 and -32768 by default.")
@click.option("--models", default="all", show_default=True, metavar="all|NAMES", help="Models, separated by commas.")
@click.option(
    "--lsi-weights",
    type=click.Choice(("logistic", "spearman", "paper")),
    default="logistic",
    show_default=True,
    help="Where the index gets its weights: the training rows, or Table 1.",
)
@click.option("--cv", metavar="random,block,group", help="Cross-validations; random, and block when places are known.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Folds of each.")
@click.option("--block-side", type=float, metavar="M", help="Side of a block; a fifth of the region by default.")
@click.option("--buffer", type=float, metavar="M", help="Kept free around test blocks; a tenth of the side by default.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of folds, models and intervals.")
@click.option("--jobs", type=click.IntRange(1), help="Processes; one a core by default.")
@click.option("--out", "folder", type=click.Path(path_type=Path), help="Folder for results, predictions and pictures.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows to this file.")
def compare(
    table: Path,
    label: str,
    drop: str,
    coords: str | None,
    group: str | None,
    rain_columns: str | None,
    rain_clip: str,
    categorical: str | None,
    missing: str | None,
    models: str,
    lsi_weights: str,
    cv: str | None,
    folds: int,
    block_side: float | None,
    buffer: float | None,
    seed: int,
    jobs: int | None,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    """Fit risk models on TABLE and judge them on rows held out at random and in whole blocks of ground.

    \b
    zoo risk compare slope_units.csv --label presence --drop area_slide,count --coords POINT_X,POINT_Y
    zoo risk compare places.gpkg --label landslide --rain-columns P,D --group event --cv block,group
    zoo risk compare places.csv --label landslide --models gamm,xgboost --cv random --json rows.json

    TABLE is CSV, Parquet, XLSX, or a vector file. Models: svm, random_forest, xgboost, gamm, lsi_without_rain, lsi;
    with rain also dynamic_thresholds and spatial_meteo; and random_forest_untuned. Exit code 0: every model has
    figures, or needed rain that the table does not have; 1: a model failed; 2: bad input.
    """
    from zoo.files import check_could_write, write_json_atomic
    from zoo.rasters.cog import check_output
    from zoo.risk.models import require_risk, select_risk_models

    rain = _pair(rain_columns, "rain-columns")
    names = select_risk_models(models, rain is not None)
    if json_file is not None:
        check_output(json_file, (table,), overwrite=True)
    if folder is not None:
        check_could_write(folder)
    require_risk()

    from zoo.risk.compare import CompareSettings
    from zoo.risk.report import make_rows, write_report
    from zoo.risk.tables import MISSING_CODES, read_table

    read = read_table(
        table,
        label,
        drop=_names(drop),
        coords=_pair(coords, "coords"),
        group=group,
        categorical=None if categorical is None else _names(categorical),
        missing=MISSING_CODES if missing is None else _numbers(missing, "missing"),
    )
    _describe(read, table)
    settings = CompareSettings(
        models=names,
        cv=_kinds(cv, read),
        folds=folds,
        block_side=block_side,
        buffer=buffer,
        seed=seed,
        jobs=jobs or os.cpu_count() or 1,
        rain=rain,
        rain_clip=_clip(rain_clip),
        weights=lsi_weights,
        curves=folder is not None,
    )
    comparison = _compared(read, settings)
    rows = make_rows(comparison)
    if json_file is not None:
        write_json_atomic(json_file, rows)
    files = [] if folder is None else write_report(comparison, folder, str(table))
    _print(comparison, rows)
    if folder is not None:
        from zoo.risk.pictures import write_pictures

        files += write_pictures(comparison, folder)
        note(f"written to {relative(folder)}: {', '.join(file.name for file in files)}")
    if any(outcome.status.startswith("failed") for outcome in comparison.outcomes):
        click.get_current_context().exit(1)


def _describe(read: RiskTable, path: Path) -> None:
    share = read.labels.mean()
    note(
        f"{relative(path)}: {len(read):,} rows, {int(read.labels.sum()):,} with a landslide ({share:.1%}); "
        f"{read.features.shape[1]} features: {', '.join(map(str, read.features.columns))}"
    )
    for text in read.notes:
        note(f"  {text}")
    for text in read.doubts:
        warn(text)


def _kinds(cv: str | None, read: RiskTable) -> list[str]:
    from zoo.errors import UnknownNameError
    from zoo.risk.splits import CV_KINDS

    if cv is None:
        if read.coordinates is None:
            warn(
                "rows have no coordinates, so there is no spatial cross-validation: figures under random folds are "
                "too good where places lie beside each other. Name the columns with --coords X,Y"
            )
            return ["random"]
        return ["random", "block"]
    kinds = _names(cv)
    for kind in kinds:
        if kind not in CV_KINDS:
            raise UnknownNameError("cross-validation", kind, CV_KINDS, where="option --cv")
    if not kinds:
        raise ConfigError("no cross-validation is named", where="option --cv", hint="There are: random, block, group")
    return list(dict.fromkeys(kinds))


def _compared(read: RiskTable, settings: CompareSettings) -> Comparison:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from zoo.risk.compare import compare as run

    console = err()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("fits", total=None)

        def show(done: int, total: int, last: str) -> None:
            bar.update(task, completed=done, total=total, description=f"fits ({last})" if last else "fits")
            if not console.is_terminal and done and done % max(1, total // 5) == 0:
                note(f"  {done} of {total} fits")

        return run(read, settings, show)


def _print(comparison: Comparison, rows: Sequence[dict[str, Any]]) -> None:
    from zoo.risk.compare import OK
    from zoo.risk.models import risk_models
    from zoo.risk.report import HEADLINE, PAPER_TABLE2, optimism
    from zoo.risk.scores import SCORES

    for text in comparison.notes:
        note(f"  {text}")
    console = out()
    headings = ("model", *(name.replace("_", "-").upper() if name != "accuracy" else "accuracy" for name in SCORES))
    paper = ("paper: acc", "AUC", "MSE")
    for kind, split in comparison.splits.items():
        console.print(
            f"\n[bold]{kind} cross-validation[/bold]  {len(split.folds)} folds, {len(comparison.table):,} rows"
        )
        cells = []
        for row in rows:
            if row["cv"] != kind:
                continue
            beside = PAPER_TABLE2.get(row["model"], {})
            printed = [f"{beside[name]:.3f}" if name in beside else "" for name in ("accuracy", "auc", "mse")]
            cells.append([risk_models()[row["model"]].title, *(_figure(row, name) for name in SCORES), *printed])
        console.print(make_table((*headings, *paper), cells, right=(*headings[2:], *paper)))
        for row in rows:
            if row["cv"] == kind and row["status"] != OK:
                console.print(f"{risk_models()[row['model']].title}: {row['status']}", markup=False)
    console.print()
    note(f"{HEADLINE}; the paper's figures are from other data and one split")
    gain = optimism(comparison)
    if gain is not None:
        console.print(gain, markup=False)


def _figure(row: dict[str, Any], name: str) -> str:
    if row[name] is None:
        return "-"
    if row[f"{name}_low"] is None:
        return f"{row[name]:.3f}"
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _pair(text: str | None, option: str) -> tuple[str, str] | None:
    if text is None:
        return None
    names = _names(text)
    if len(names) != 2:
        raise ConfigError(f"{text!r} is not two columns", where=f"option --{option}", hint="Write them as A,B")
    return names[0], names[1]


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in _names(text)]
    except ValueError:
        raise ConfigError(f"{text!r} are not numbers", where=f"option --{option}", hint="Write them as A,B") from None


def _clip(text: str) -> tuple[float, float]:
    numbers = _numbers(text, "rain-clip")
    if len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1]:
        raise ConfigError(f"{text!r} are no bounds", where="option --rain-clip", hint="Write LOW,HIGH, 0 or more")
    return numbers[0], numbers[1]
