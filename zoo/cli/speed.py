"""``zoo speed``: time models on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import make_table, note, out, print_json, warn
from zoo.cli.data_options import collect, data_options, parse_assignments
from zoo.cli.progress import prepare_threads, progress
from zoo.cli.values import AS_JSON, FiniteFloat

if TYPE_CHECKING:
    from zoo.api.speed import Timings

COLUMNS = {
    "model": ("model", "{}", 1),
    "latency_ms": ("ms b1", "{:.1f}", 1),
    "latency_iqr_ms": ("IQR", "{:.1f}", 1),
    "images_per_second": ("images/s", "{:.1f}", 1),
    "images_per_second_iqr": ("IQR", "{:.1f}", 1),
    "batch": ("batch", "{}", 1),
    "end_to_end_per_second": ("end to end", "{:.1f}", 1),
    "peak_mib": ("peak MiB", "{:.0f}", 1),
    "joules_per_image": ("J/image", "{:.3g}", 1),
    "parameters": ("Par. (M)", "{:.2f}", 1e6),
    "gmac": ("GMAC", "{:.2f}", 1),
}
"""Heading, format and unit of each figure of :meth:`zoo.api.speed.Timings.records`."""
ALWAYS_SHOWN = 6
"""Number of columns that are shown even if they are empty."""


@click.command()
@click.argument("models", metavar="all|NAMES|PATTERN")
@click.option("--size", type=click.IntRange(1, 65536), default=128, show_default=True, help="Image edge in pixels.")
@click.option(
    "--channels", type=click.IntRange(1, 10000), default=7, show_default=True, help="Number of bands of an image."
)
@click.option("--classes", type=click.IntRange(1, 1000), default=2, show_default=True, help="Channels of the logits.")
@click.option(
    "--batch", type=click.IntRange(1, 65536), help="Images per pass.  [default: 1, and the fastest size, searched]"
)
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True, help="Number format."
)
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Option of the models; may be repeated.")
@data_options(None)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--threads", type=click.IntRange(1, 4096), help="Threads on the processor.  [default: chosen by torch]")
@click.option(
    "--rounds", type=click.IntRange(1, 1000), default=3, show_default=True, help="Number of fresh processes per model."
)
@click.option(
    "--seconds",
    type=FiniteFloat(0, 3600, min_open=True),
    default=0.5,
    show_default=True,
    help="Seconds of timing per batch size.",
)
@click.option("--optimized", is_flag=True, help="Also time the fastest form of each model (zoo.deploy.optimize).")
@AS_JSON
def speed(models: str, options: tuple[str, ...], as_json: bool, data_options: tuple[str, ...], **given: Any) -> None:
    """Time MODELS in rounds; each round runs every model in a fresh process.

    \b
    zoo speed all
    zoo speed 'unet,enhanced_unet' --size 512 --batch 1
    zoo speed unet --data patches --json

    Prints the latency at batch 1 and the throughput at the fastest batch size (medians and quartile ranges over all
    rounds), parameters, GMAC, peak memory, energy where the machine measures it, and with --data the throughput from
    reading patches to the mask. Run it on an otherwise idle machine.
    """
    import zoo
    from zoo.cli.opening import open_split

    names = ("size", "channels", "classes", "batch", "precision", "data", "device", "threads", "rounds", "seconds")
    settings = {name: given.pop(name) for name in (*names, "optimized")}
    prepare_threads()
    with progress("timing") as bar:
        found = zoo.speed(
            models,
            **settings,
            options=parse_assignments(options, "--option"),
            data_options=collect(data_options, **given),
            progress=bar,
            open_splits=lambda source, splits: {split: open_split(source, split) for split in splits},
        )
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)
    if not found.ok:
        click.get_current_context().exit(1)


def _print(found: Timings) -> None:
    subject, protocol = found.subjects[0], found.reports[0].protocol
    rows = [
        [
            "-" if row[key] is None else pattern.format(row[key] / unit if unit != 1 else row[key])
            for key, (_, pattern, unit) in COLUMNS.items()
        ]
        for row in found.records()
    ]
    headings = [heading for heading, _, _ in COLUMNS.values()]
    used = [n for n in range(len(headings)) if n < ALWAYS_SHOWN or any(row[n] != "-" for row in rows)]
    console = out()
    console.print()
    console.print(
        f"{protocol.device_name or subject.device}, {protocol.threads or '?'} threads, torch {protocol.torch or '?'}; "
        f"{protocol.dtype}; images of {'x'.join(map(str, subject.shape))}; {protocol.rounds} rounds",
        style="bold",
        markup=False,
    )
    console.print(make_table([headings[n] for n in used], [[row[n] for n in used] for row in rows], right=headings[1:]))
    for one, report in zip(found.subjects, found.reports, strict=True):
        if report.protocol.error:
            warn(f"{one.label}: {report.protocol.error}")
    if protocol.busy:
        warn(f"other programs used the machine meanwhile ({protocol.load}): these figures are too low")
    measured = next((report.protocol for report in found.reports if report.samples), None)
    if measured is None or measured.energy is None or measured.memory is None:
        return
    if subject.data is None:
        note("end to end was not measured: name patches with --data")
    if measured.energy.source is None:
        note(f"energy was not measured: {measured.energy.why_not}")
    kind = {"rss": "resident memory of the process", "cuda": "memory of the GPU"}[measured.memory.kind]
    note(f"peak MiB: {kind} that the model and its passes add, at the batch size of images/s")
