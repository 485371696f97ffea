"""``zoo risk compare``: the comparison of the paper's Table 2 on a table of places."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import err, make_table, note, out, relative, warn
from zoo.cli.progress import progress
from zoo.cli.risk import name_pair
from zoo.cli.values import PATH, parse_names, parse_numbers
from zoo.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from zoo.jobs import ProgressCallback
    from zoo.risk import Comparison, RiskTable
    from zoo.risk.comparison import Row


@click.command(short_help="Compare risk models on a table of places (Table 2).")
@click.argument("table", type=PATH)
@click.option("--label", required=True, metavar="COLUMN", help="Column that marks landslides: 0/1, yes/no.")
@click.option("--drop", default="", metavar="A,B", help="Columns that are not features.")
@click.option(
    "--coords", metavar="X,Y", help="Columns with x and y (longitude, latitude); a vector file has its geometry."
)
@click.option("--crs", metavar="EPSG:CODE", help="Coordinate system of --coords.  [default: degrees, or metres]")
@click.option("--group", metavar="COLUMN", help="Column with the region or event.")
@click.option("--rain-columns", metavar="P,D", help="Columns with rain intensity (mm/h) and duration (days).")
@click.option(
    "--rain-clip", default="0,5", show_default=True, metavar="LOW,HIGH", help="Bounds of the rainfall factor."
)
@click.option(
    "--categorical", metavar="A,B", help="Categorical columns.  [default: text columns, and names such as litho]"
)
@click.option(
    "--missing", metavar="N,N", help="Numbers that mean missing, in addition to -9999, -999, 999 and the like."
)
@click.option("--models", default="all", show_default=True, metavar="all|NAMES", help="Models, separated by commas.")
@click.option(
    "--lsi-weights",
    type=click.Choice(("logistic", "spearman", "paper")),
    default="logistic",
    show_default=True,
    help="Origin of the weights of the index: fitted to the training rows, or Table 1.",
)
@click.option(
    "--cv",
    metavar="random,block,group",
    help="Kinds of cross-validation.  [default: random, and block if there are coordinates]",
)
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Number of folds.")
@click.option("--block-side", type=float, metavar="METRES", help="Side of a block.  [default: a fifth of the region]")
@click.option(
    "--buffer",
    type=float,
    metavar="METRES",
    help="Width of the buffer around test blocks, without training rows.  [default: a tenth of the side]",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed of folds, models and intervals."
)
@click.option("--jobs", type=click.IntRange(1), help="Number of processes.  [default: one per core]")
@click.option("--out", "folder", type=PATH, help="Folder for results, predictions and pictures.")
@click.option("--json", "json_file", type=PATH, help="Write the result rows to this file.")
def compare(
    table: Path, label: str, folder: Path | None, json_file: Path | None, jobs: int | None, **given: Any
) -> None:
    """Fit risk models to TABLE and score them on rows held out at random and in spatial blocks.

    \b
    zoo risk compare slope_units.csv --label presence --drop area_slide,count --coords POINT_X,POINT_Y
    zoo risk compare places.gpkg --label landslide --rain-columns P,D --group event --cv block,group
    zoo risk compare places.csv --label landslide --models gamm,xgboost --cv random --json rows.json

    TABLE is a CSV, Parquet, XLSX or vector file. Models: svm, random_forest, xgboost, gamm, lsi_without_rain, lsi;
    with rain also dynamic_thresholds and spatial_meteo; and random_forest_untuned. Exit code 0: every model has
    scores, or needs rain that the table does not have; 1: a model failed; 2: bad input.
    """
    from zoo.files import check_could_write, check_output
    from zoo.risk.models import require_risk, select_risk_models
    from zoo.schema import write_json

    rain_columns = name_pair(given["rain_columns"], "--rain-columns")
    named = given["missing"] and parse_numbers(given["missing"], "--missing", "-1,-8888")
    select_risk_models(given["models"], rain_columns is not None)
    if json_file is not None:
        check_output(json_file, (table,), overwrite=True)
    if folder is not None:
        check_could_write(folder)
    require_risk()

    import zoo.risk
    from zoo.risk.tables import MISSING_CODES

    data = zoo.risk.read_table(
        table,
        label,
        drop=parse_names(given["drop"]) or [],
        coords=name_pair(given["coords"], "--coords"),
        crs=given["crs"],
        group=given["group"],
        categorical=parse_names(given["categorical"]),
        missing=(*MISSING_CODES, *(named or ())),
    )
    _print_table(data, table)
    low, high = parse_numbers(given["rain_clip"], "--rain-clip", "0,5", count=2)
    with _fit_progress() as show:
        comparison = zoo.risk.compare(
            data,
            rain_columns=rain_columns,
            rain_clip=(low, high),
            models=given["models"],
            lsi_weights=given["lsi_weights"],
            cv=_kinds(given["cv"], data),
            folds=given["folds"],
            block_side=given["block_side"],
            buffer=given["buffer"],
            seed=given["seed"],
            jobs=jobs or os.cpu_count() or 1,
            curves=folder is not None,
            progress=show,
        )
    if json_file is not None:
        write_json(json_file, comparison.rows())
    _print_scores(comparison)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        files = comparison.write(folder, str(table))
        note(f"written to {relative(folder)}: {', '.join(file.name for file in files)}")
    if any(outcome.status.startswith("failed") for outcome in comparison.outcomes):
        click.get_current_context().exit(1)


def _print_table(data: RiskTable, path: Path) -> None:
    note(
        f"{relative(path)}: {len(data):,} rows, {int(data.labels.sum()):,} with a landslide "
        f"({data.labels.mean():.1%}); {data.features.shape[1]} features: {', '.join(map(str, data.features.columns))}"
    )
    for text in data.notes:
        note(f"  {text}")
    for text in data.warnings:
        warn(text)


def _kinds(cv: str | None, data: RiskTable) -> list[str] | None:
    from zoo.risk.splits import CV_KINDS

    if cv is None:
        if data.coordinates is None:
            warn(
                "rows have no coordinates, so there is no spatial cross-validation. Scores of random folds are too "
                "high where places are close to each other; name the columns with --coords X,Y"
            )
        return None
    kinds = parse_names(cv) or []
    for kind in kinds:
        if kind not in CV_KINDS:
            raise UnknownNameError("cross-validation", kind, CV_KINDS, where="option --cv")
    if not kinds:
        raise ConfigError("no cross-validation is named", where="option --cv", hint="Choose from: random, block, group")
    return kinds


@contextmanager
def _fit_progress() -> Iterator[ProgressCallback]:
    """Show the number of fits: a bar on a terminal, five lines elsewhere."""
    with progress("fits") as bar:

        def show(done: int, total: int) -> None:
            bar(done, total)
            if not err().is_terminal and done and done % max(1, total // 5) == 0:
                note(f"  {done} of {total} fits")

        yield show


def _print_scores(comparison: Comparison) -> None:
    from zoo.risk.comparison import AVERAGING, OK, PAPER_TABLE2
    from zoo.risk.models import risk_models
    from zoo.risk.scores import PRINTED_SCORES, SCORES, base_rate

    for text in comparison.notes:
        note(f"  {text}")
    console = out()
    paper = ("paper: acc", "AUC", "MSE")
    headings = ("model", *(SCORES[name] for name in PRINTED_SCORES), *paper)
    rate = f"base rate {base_rate(comparison.data.labels):.3f} (accuracy of the more frequent label everywhere)"
    for kind, split in comparison.splits.items():
        console.print(
            f"\n[bold]{kind} cross-validation[/bold]  {len(split.folds)} folds, {len(comparison.data):,} rows, {rate}"
        )
        rows = [row for row in comparison.rows() if row["cv"] == kind]
        cells = []
        for row in rows:
            published = PAPER_TABLE2.get(str(row["model"]), {})
            printed = [f"{published[name]:.3f}" if name in published else "" for name in ("accuracy", "auc", "mse")]
            title = risk_models()[str(row["model"])].title
            cells.append([title, *(_score(row, name) for name in PRINTED_SCORES), *printed])
        console.print(make_table(headings, cells, right=headings[2:]))
        for row in rows:
            if row["status"] != OK:
                console.print(f"{risk_models()[str(row['model'])].title}: {row['status']}", markup=False)
    console.print()
    note(f"{AVERAGING}; the paper's scores are from other data and one split")
    gain = comparison.optimism()
    if gain is not None:
        console.print(gain, markup=False)


def _score(row: Row, name: str) -> str:
    if row[name] is None:
        return "-"
    if row[f"{name}_low"] is None:
        return f"{row[name]:.3f}"
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"
