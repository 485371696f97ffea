"""``zoo plugins``: what is plugged in, what it brought, and what went wrong."""

from __future__ import annotations

import click

from zoo.cli.columns import print_columns
from zoo.cli.console import print_json
from zoo.registry import plugin_reports


@click.command(short_help="List plugins and what became of them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for other programs, tracebacks included.")
def plugins(as_json: bool) -> None:
    """List every installed plugin: loaded, failed with its reason, or skipped by ZOO_PLUGINS.

    A plugin that fails is taken back whole and stops nothing. ZOO_PLUGINS=a,b (or none) limits what is loaded;
    ZOO_STRICT_PLUGINS=1 makes the first failure an error.
    """
    reports = plugin_reports()
    if as_json:
        print_json([report.to_dict() for report in reports])
        return
    rows = []
    for report in reports:
        provides = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in report.provides.items())
        rows.append((report.name, report.version, report.status, report.error or provides))
    print_columns(("plugin", "version", "status", "provides, or why it failed"), rows)
