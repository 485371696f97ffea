"""``zoo models``, ``datasets``, ``plugins``, ``plugin``, ``check`` and ``doctor``: list, create and check entries."""

from __future__ import annotations

import shutil
import sys
import textwrap
import warnings
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, TypeVar

import click

from zoo.cli.console import make_table, note, out, print_json, print_options, warn
from zoo.cli.values import AS_JSON
from zoo.errors import ConfigError, PluginError
from zoo.files import printable
from zoo.registry import catalogue, plugin_reports, provider_of
from zoo.registry.specs import plain

if TYPE_CHECKING:
    from rich.console import Console

    from zoo.registry import DatasetSpec, ModelFamilySpec, ModelSpec
    from zoo.registry.catalogue import ModelTable, Table
    from zoo.registry.specs import Entry

    SpecT = TypeVar("SpecT", bound=Entry)


EXIT_CHECKS_FAILED = 1


@click.command()
@click.argument("words", nargs=-1, metavar="[PATTERN] | show NAME")
@click.option("--all", "every", is_flag=True, help="List every model of every family too.")
@AS_JSON
def models(words: tuple[str, ...], every: bool, as_json: bool) -> None:
    """List the models whose name matches PATTERN (such as '*unet*'), or show everything about one model.

    \b
    zoo models
    zoo models '*resnet*'
    zoo models show enhanced_unet

    A family of models, such as smp/unet-*, is shown as one row with its number of models. --all or a PATTERN lists
    them.
    """
    table = catalogue().models
    one = shown(words, table, "zoo models show unet", "zoo models '*unet*'")
    if one is not None:
        _show_model(one, as_json)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names = table.names(words[0] if words else None) if words or every else list(table)
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        warn(text)
    if words and not names:
        table.get(words[0])
    if as_json:
        print_json([_listed_model(table, name) for name in names])
        return
    rows = [
        (spec.name, _format_millions(spec.parameters), _number(spec.gmac), spec.summary, spec.provider)
        for spec in table.listed(names)
    ]
    if not words and not every:
        rows += [(family.pattern, "", "", _family_summary(family), provider) for family, provider in table.families]
    print_columns(("model", "params (M)", "GMAC", "summary", "provider"), rows, right=("params (M)", "GMAC"))
    if not words and not every and table.families:
        note(f"zoo models '{table.families[0][0].pattern}' lists the models of a family, zoo models --all every model")


@click.command()
@click.argument("words", nargs=-1, metavar="[PATTERN] | show NAME")
@AS_JSON
def datasets(words: tuple[str, ...], as_json: bool) -> None:
    """List the data sets whose name matches PATTERN, or show everything about one data set.

    \b
    zoo datasets
    zoo datasets show folder
    """
    table = catalogue().datasets
    one = shown(words, table, "zoo datasets show synthetic", "zoo datasets '*land*'")
    if one is not None:
        _show_dataset(one, as_json)
        return
    specs = matching(words, table)
    if as_json:
        print_json([{**spec.to_dict(), "provider": table.provider(spec.name)} for spec in specs])
        return
    rows = [(spec.name, ", ".join(spec.channels) or "as in the files", spec.summary, spec.licence) for spec in specs]
    print_columns(("data set", "channels", "summary", "licence"), rows)


@click.command()
@click.argument("words", nargs=-1, metavar="[disable NAME | enable NAME]")
@AS_JSON
def plugins(words: tuple[str, ...], as_json: bool) -> None:
    """List every installed plugin with its distribution and version, what it provides, or why it failed.

    \b
    zoo plugins
    zoo plugins disable zoo-my-net
    zoo plugins enable zoo-my-net

    A plugin that fails is left out, and everything else works. `disable` leaves a plugin out from now on; its name is
    kept in plugins.json in the folder $ZOO_CONFIG (by default ~/.config/landslide-zoo). ZOO_PLUGINS=a,b (or none)
    limits the plugins of one command and loads a disabled one that it names; ZOO_STRICT_PLUGINS=1 makes the first
    failure an error. --json includes the traceback of a failure.
    """
    if words:
        _change_plugin(words)
        return
    reports = plugin_reports()
    if as_json:
        print_json([report.to_dict() for report in reports])
        return
    rows = []
    for report in reports:
        provides = "; ".join(f"{kind.replace('_', ' ')}: {', '.join(names)}" for kind, names in report.provides.items())
        distribution = f"{report.distribution} {report.version}".rstrip()
        rows.append((report.name, distribution, report.status, report.error or provides or "nothing"))
    print_columns(("plugin", "distribution", "status", "provides, or why it failed"), rows)


def _change_plugin(words: Sequence[str]) -> None:
    import zoo

    if len(words) != 2 or words[0] not in ("disable", "enable"):
        raise click.UsageError("give disable NAME or enable NAME, as in: zoo plugins disable zoo-my-net")
    change = zoo.disable_plugin if words[0] == "disable" else zoo.enable_plugin
    change(words[1])
    note(f"{words[1]} is {words[0]}d")


@click.command()
@AS_JSON
def doctor(as_json: bool) -> None:
    """Find problems that keep zoo from working on this machine, and say how to fix them.

    Checks versions and their conflicts, devices, threads and load, memory, caches and their size, data folders
    and plugins. It changes nothing. The exit code is 1 if a problem is found.
    """
    import zoo

    findings = zoo.doctor()
    problems = sum(finding.status == "problem" for finding in findings)
    if as_json:
        print_json([dict(vars(finding)) for finding in findings])
    else:
        rows = [(finding.topic, finding.status, finding.text, finding.advice) for finding in findings]
        print_columns(("topic", "status", "finding", "what to do"), rows)
        note(f"{problems} problems" if problems != 1 else "1 problem")
    if problems:
        click.get_current_context().exit(EXIT_CHECKS_FAILED)


@click.group(short_help="Create a new plugin.")
def plugin() -> None:
    """Write a new plugin; `zoo plugins` lists the installed ones."""


@plugin.command(short_help="Write a new plugin from a template.")
@click.argument("name")
@click.option(
    "--kind",
    default="model",
    show_default=True,
    metavar="KIND",
    help="model, dataset, loss, metric, risk-model, command, exporter or weights.",
)
@click.option("--out", type=click.Path(), help="Folder to write; by default NAME.")
def new(name: str, kind: str, out: str | None) -> None:
    """Write a complete plugin called NAME: one file to edit, tests, packaging and a CI file.

    \b
    zoo plugin new zoo-my-net
    pip install --editable zoo-my-net
    zoo check my_net
    """
    from typing import cast

    from zoo.api.plugin import PluginKind, new_plugin

    folder = new_plugin(name, cast(PluginKind, kind), out)
    note(f"wrote {folder}; next: pip install --editable {folder}, and see {folder / 'README.md'}")


@click.command()
@click.argument("name", metavar="NAME|FOLDER")
@click.option(
    "--option", "options", multiple=True, metavar="NAME=VALUE", help="Option of the model or data set; may be repeated."
)
@AS_JSON
def check(name: str, options: tuple[str, ...], as_json: bool) -> None:
    """Check a model, data set, loss, metric or risk model, with one line for each property.

    \b
    zoo check my_model
    zoo check unet --option "widths=(8, 16)"
    zoo check svm
    zoo check patches                  # a folder of images and masks
    zoo check zoo-my-net               # everything that an installed plugin registers: its name or its folder

    The exit code is 1 if a check fails. zoo.testing runs the same checks as pytest tests.
    """
    from zoo.api.plugin import specs_to_check
    from zoo.cli.data_options import parse_assignments
    from zoo.registry import check_options

    specs, given = specs_to_check(name)
    given |= parse_assignments(options, "--option")
    if given and len(specs) > 1:
        names = ", ".join(spec.name for spec in specs)
        raise ConfigError(
            f"the plugin registers {names}, which have different options", where="--option", hint="Name one"
        )

    from zoo.testing import run_spec_checks

    terminal = sys.stderr.isatty()
    results = []
    for spec in specs:
        root = {"root": given.pop("root")} if spec.kind == "data set" and "root" in given else {}
        chosen = {**root, **check_options(spec, given)}

        def show_start(check_name: str, done: int, total: int, of: str = spec.name) -> None:
            if terminal:
                click.echo(f"\r\x1b[K{of}: {done}/{total} {check_name}", err=True, nl=False)

        results += [(spec.name, result) for result in run_spec_checks(spec, chosen, show_start)]
    if terminal:
        click.echo("\r\x1b[K", err=True, nl=False)
    failed = sum(result.status == "failed" for _, result in results)
    if as_json:
        print_json([{"name": of, **vars(result)} for of, result in results])
    else:
        rows = [(of, result.check, result.status, f"{result.seconds:.1f}", result.message) for of, result in results]
        headings = ("name", "check", "status", "seconds", "reason")
        first = 1 if len(specs) == 1 else 0
        print_columns(headings[first:], [row[first:] for row in rows], right=("seconds",))
        subject = specs[0].name if len(specs) == 1 else f"each of {', '.join(spec.name for spec in specs)}"
        note(f"{failed} of {len(results)} checks failed" if failed else f"{subject} passes every check that applies")
    if failed:
        click.get_current_context().exit(EXIT_CHECKS_FAILED)


def shown(words: Sequence[str], table: Table[SpecT], show: str, pattern: str) -> SpecT | None:
    """Return the spec requested by ``show NAME``; ``None`` for a listing."""
    if words and words[0] == "show":
        if len(words) != 2:
            raise click.UsageError(f"show takes one NAME, as in: {show}")
        return table.get(words[1])
    if len(words) > 1:
        raise click.UsageError(f"give one PATTERN, in quotes, as in: {pattern}")
    return None


def matching(words: Sequence[str], table: Table[SpecT]) -> list[SpecT]:
    """Return the specs whose name matches the pattern.

    Raises:
        UnknownNameError: if there is none; the message lists the nearest names.
    """
    specs = table.match(words[0] if words else None)
    if not specs and words:
        table.get(words[0])
    return specs


def _listed_model(table: ModelTable, name: str) -> dict[str, object]:
    """Return the spec of a model, or the reason why the plugin's spec is invalid."""
    provider = table.provider(name)
    try:
        return {**table.get(name).to_dict(), "provider": provider}
    except PluginError as error:
        return {"name": name, "error": str(error), "provider": provider}


def _family_summary(family: ModelFamilySpec) -> str:
    """Return the summary with the number of models, or with the reason why they cannot be listed."""
    try:
        return f"{family.summary}: {len(family.table):,} models"
    except PluginError as error:
        return str(error)


def _show_model(spec: ModelSpec, as_json: bool) -> None:
    counted = _count_parameters(spec)
    provider = provider_of("model", spec.name)
    if as_json:
        shown = {"options": plain(spec.options), "provenance": plain(spec.provenance)}
        print_json({**spec.to_dict(), **shown, "provider": provider.plugin, "parameters_counted": counted})
        return
    console = out()
    print_title(console, spec)
    facts = [
        ("parameters", _parameters(spec.parameters, counted)),
        ("GMAC", "not declared" if spec.gmac is None else f"{spec.gmac:.2f} (one 7x128x128 image)"),
        ("minimum size", f"{spec.minimum_size} x {spec.minimum_size} px"),
        ("capabilities", ", ".join(sorted(spec.flags)) or "none declared"),
        ("encoder weights", ", ".join(spec.encoder_weights) or "none"),
        *([("licence of weights", spec.encoder_weights_licence or "not stated")] if spec.encoder_weights else []),
        ("paper", spec.paper or "none"),
        ("DOI", spec.doi or "none"),
        ("licence", spec.licence or "not stated"),
        ("code", spec.target),
        ("provider", f"{provider.plugin} {provider.version}".rstrip()),
    ]
    console.print(make_table(("", ""), facts))
    print_options(console, spec.options, f"zoo train {spec.name} --option NAME=VALUE")
    if spec.provenance:
        console.print("\n[bold]sources of the design choices[/bold]  (P paper, S cited source, O our own choice)")
        choices = [(choice.mark, choice.what, choice.source) for choice in spec.provenance]
        console.print(make_table(("", "choice", "source"), choices))


def _show_dataset(spec: DatasetSpec, as_json: bool) -> None:
    provider = provider_of("dataset", spec.name)
    if as_json:
        print_json({**spec.to_dict(), "options": plain(spec.options), "provider": provider.plugin})
        return
    console = out()
    print_title(console, spec)
    facts = [
        ("channels", ", ".join(spec.channels) or "as in the files"),
        ("licence", spec.licence or "not stated"),
        ("citation", spec.citation or "not stated"),
        ("DOI", spec.doi or "none"),
        ("source", spec.url or "no download"),
        ("code", spec.target),
        ("provider", f"{provider.plugin} {provider.version}".rstrip()),
    ]
    console.print(make_table(("", ""), facts))
    print_options(console, spec.options, "zoo bench --data-option NAME=VALUE")


def print_title(console: Console, spec: Entry) -> None:
    from rich.text import Text

    console.print(Text.assemble((spec.name, "bold"), "  ", spec.summary), soft_wrap=True)


def _parameters(declared: int | None, counted: int) -> str:
    if declared is None or declared == counted:
        return f"{counted:,}" + (" (none declared)" if declared is None else " (7 channels, 2 classes)")
    return f"{counted:,}, but {declared:,} declared (7 channels, 2 classes)"


def _count_parameters(spec: ModelSpec) -> int:
    """Count the trainable parameters, without allocating the weights if the model allows it."""
    import torch

    from zoo.registry import create_model

    try:
        with torch.device("meta"):
            model = create_model(spec.name)
    except (NotImplementedError, RuntimeError):  # the model computes with its weights during construction
        model = create_model(spec.name)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _format_millions(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


COLUMN_GAP = "  "
MIN_COLUMN_WIDTH = 20
"""Minimum width of a folded column on any terminal."""


def print_columns(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print rows under their headings; on a terminal the widest column is folded until the lines fit.

    Args:
        headings: headings of the columns.
        rows: cells as strings.
        right: headings of right-aligned columns.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    if sys.stdout.isatty():
        widest = widths.index(max(widths))
        spare = shutil.get_terminal_size().columns - sum(widths) - len(COLUMN_GAP) * (len(widths) - 1)
        widths[widest] = max(min(MIN_COLUMN_WIDTH, widths[widest]), widths[widest] + min(0, spare))
    line = COLUMN_GAP.join(
        f"{{:{'>' if heading in right else '<'}{width}}}" for heading, width in zip(headings, widths, strict=True)
    )
    click.secho(line.format(*headings).rstrip(), bold=True)
    lines = []
    for row in rows:
        if all(len(cell) <= width for cell, width in zip(row, widths, strict=True)):
            lines.append(line.format(*row).rstrip())
        else:
            cells = [
                [cell] if len(cell) <= width else textwrap.wrap(cell, width)
                for cell, width in zip(row, widths, strict=True)
            ]
            lines += [line.format(*parts).rstrip() for parts in zip_longest(*cells, fillvalue="")]
    if lines:
        click.echo("\n".join(lines))
