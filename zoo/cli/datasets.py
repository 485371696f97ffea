"""``zoo datasets``: the catalogue of data sets."""

from __future__ import annotations

import click

from zoo.cli.columns import print_columns
from zoo.cli.console import make_table, out, print_json, print_options
from zoo.registry import catalogue
from zoo.registry.specs import plain


@click.command(short_help="List data sets, or show one.")
@click.argument("words", nargs=-1, metavar="[PATTERN] | show NAME")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for other programs.")
def datasets(words: tuple[str, ...], as_json: bool) -> None:
    """List the data sets whose name matches PATTERN, or show all that is known of one."""
    table = catalogue().datasets
    if words and words[0] == "show":
        if len(words) != 2:
            raise click.UsageError("show takes one NAME, as in: zoo datasets show synthetic")
        _show(words[1], as_json)
        return
    if len(words) > 1:
        raise click.UsageError("give one PATTERN, in quotes, as in: zoo datasets '*land*'")
    specs = table.match(words[0] if words else None)
    if not specs and words:
        table.get(words[0])  # raises with the nearest names
    if as_json:
        print_json([{**spec.to_dict(), "provider": table.provider(spec.name)} for spec in specs])
        return
    rows = [(spec.name, ", ".join(spec.channels) or "as in the files", spec.summary, spec.licence) for spec in specs]
    print_columns(("data set", "channels", "summary", "licence"), rows)


def _show(name: str, as_json: bool) -> None:
    spec = catalogue().datasets.get(name)
    if as_json:
        provider = catalogue().datasets.provider(name)
        print_json({**spec.to_dict(), "options": plain(spec.options), "provider": provider})
        return
    console = out()
    console.print(f"[bold]{spec.name}[/bold]  {spec.summary}", soft_wrap=True)
    facts = [
        ("channels", ", ".join(spec.channels) or "as in the files"),
        ("licence", spec.licence or "not stated"),
        ("citation", spec.citation or "not stated"),
        ("DOI", spec.doi or "none"),
        ("from", spec.url or "nothing to fetch"),
        ("code", f"{spec.target} (from {catalogue().datasets.provider(name)})"),
    ]
    console.print(make_table(("", ""), facts))
    print_options(console, spec.options, "zoo bench --data-option NAME=VALUE")
