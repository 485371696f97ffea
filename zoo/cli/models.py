"""``zoo models``: the catalogue of architectures."""

from __future__ import annotations

import click

from zoo.cli.columns import print_columns
from zoo.cli.console import make_table, out, print_json, print_options
from zoo.registry import ModelSpec, catalogue
from zoo.registry.specs import plain


@click.command(short_help="List models, or show one.")
@click.argument("words", nargs=-1, metavar="[PATTERN] | show NAME")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for other programs.")
def models(words: tuple[str, ...], as_json: bool) -> None:
    """List the models whose name matches PATTERN (such as '*unet*'), or show all that is known of one.

    Listing imports no torch. `show` builds the model without memory for its weights, and counts.
    """
    if words and words[0] == "show":
        if len(words) != 2:
            raise click.UsageError("show takes one NAME, as in: zoo models show unet")
        _show(words[1], as_json)
        return
    if len(words) > 1:
        raise click.UsageError("give one PATTERN, in quotes, as in: zoo models '*unet*'")
    table = catalogue().models
    specs = table.match(words[0] if words else None)
    if not specs and words:
        table.get(words[0])  # raises with the nearest names
    if as_json:
        print_json([{**spec.to_dict(), "provider": table.provider(spec.name)} for spec in specs])
        return
    rows = [
        (spec.name, _millions(spec.parameters), _number(spec.gmac), spec.summary, table.provider(spec.name))
        for spec in specs
    ]
    print_columns(("model", "params (M)", "GMAC", "summary", "from"), rows, right=("params (M)", "GMAC"))


def _show(name: str, as_json: bool) -> None:
    spec = catalogue().models.get(name)
    counted = _count_parameters(spec)
    if as_json:
        beside = {"options": plain(spec.options), "provenance": plain(spec.provenance)}
        provider = catalogue().models.provider(name)
        print_json({**spec.to_dict(), **beside, "provider": provider, "parameters_counted": counted})
        return
    console = out()
    console.print(f"[bold]{spec.name}[/bold]  {spec.summary}", soft_wrap=True)
    expected = "not stated" if spec.parameters is None else f"{spec.parameters:,}"
    facts = [
        ("parameters", f"{expected} expected, {counted:,} counted (7 channels, 2 classes)"),
        ("GMAC", f"{_number(spec.gmac)} expected (1x7x128x128)"),
        ("minimum size", f"{spec.minimum_size} x {spec.minimum_size} px"),
        ("can", ", ".join(sorted(spec.flags)) or "nothing declared"),
        ("encoder weights", ", ".join(spec.encoder_weights) or "none"),
        ("paper", spec.paper or "not stated"),
        ("DOI", spec.doi or "not stated"),
        ("licence", spec.licence),
        ("code", f"{spec.target} (from {catalogue().models.provider(name)})"),
    ]
    console.print(make_table(("", ""), facts))
    print_options(console, spec.options, "zoo train NAME --option NAME=VALUE")
    if spec.provenance:
        console.print("\n[bold]where its choices come from[/bold]  (P paper, S cited source, O ours)")
        console.print(make_table(("", "choice", "source"), [(c.mark, c.what, c.source) for c in spec.provenance]))


def _count_parameters(spec: ModelSpec) -> int:
    import torch

    from zoo.registry import create_model

    with torch.device("meta"):
        model = create_model(spec.name)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _millions(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.2f}"


def _number(value: float | None) -> str:
    return "not stated" if value is None else f"{value:.2f}"
