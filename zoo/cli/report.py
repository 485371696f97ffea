"""``zoo report``: the table again, from the files."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Print the table of a results folder again.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "csv", "markdown", "json"]),
    default="terminal",
    show_default=True,
    help="How to print it.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def report(folder: Path, form: str, as_json: bool) -> None:
    """Print the table of the results in FOLDER, computed anew from its files.

    Trials of different data, recipes or devices get a table each. A result file that cannot be used is named, the
    others are printed all the same, and the exit code is 2.
    """
    from zoo.bench.leaderboard import make_rows
    from zoo.bench.render import as_json as render_json
    from zoo.bench.render import comma_separated, describe_setting, markdown
    from zoo.bench.results import group_by_setting, load_results
    from zoo.cli.console import note, out
    from zoo.cli.tables import print_leaderboard

    results, problems = load_results(folder)
    groups = group_by_setting(results)
    form = "json" if as_json else form
    if form in ("json", "csv"):
        rows = [row for group in groups for row in make_rows(group)]
        if len(groups) > 1:
            note(f"{len(groups)} settings are mixed in {folder}; the rows follow each other")
        click.echo(render_json(rows) if form == "json" else comma_separated(rows), nl=False)
    elif form == "markdown":
        tables = (f"{describe_setting(group)}\n\n{markdown(make_rows(group))}" for group in groups)
        click.echo("\n".join(tables), nl=False)
    else:
        for group in groups:
            print_leaderboard(group, make_rows(group), out())
    for problem in problems:
        note(f"error: {problem}")
    if problems:
        click.get_current_context().exit(2)
