"""``zoo speed``: time models on this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import make_table, note, out, print_json, warn
from zoo.cli.data_options import collect, data_options, parse_assignments
from zoo.cli.values import FiniteFloat

if TYPE_CHECKING:
    from zoo.bench.speed_session import SpeedReport, SpeedSubject

HEADINGS = (
    "model", "ms b1", "IQR", "images/s", "IQR", "batch", "end to end", "peak MiB", "J/image", "Par. (M)", "GMAC",
)  # fmt: skip


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
@click.option("--rounds", type=click.IntRange(1, 1000), default=3, show_default=True, help="Fresh processes per model.")
@click.option(
    "--seconds",
    type=FiniteFloat(0, 3600, min_open=True),
    default=0.5,
    show_default=True,
    help="Seconds of timing per batch size.",
)
@click.option("--optimized", is_flag=True, help="Also time the fastest form of each model (zoo.deploy.optimize).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for other programs.")
def speed(
    models: str,
    size: int,
    channels: int,
    classes: int,
    batch: int | None,
    precision: str,
    options: tuple[str, ...],
    data: str | None,
    device: str,
    threads: int | None,
    rounds: int,
    seconds: float,
    optimized: bool,
    as_json: bool,
    data_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Time MODELS beside each other: each in fresh processes, in rounds over all models.

    \b
    zoo speed all
    zoo speed 'unet,enhanced_unet' --size 512 --batch 1
    zoo speed unet --data patches --json

    Prints the latency at batch 1 and the throughput at the fastest batch size (medians and quartile ranges over all
    rounds), parameters, GMAC, peak memory, energy where the machine counts it, and with --data the throughput from
    reading patches to the mask. Run it on a machine that does nothing else.
    """
    from zoo.bench.config import select_models
    from zoo.datasets.source import DataSource
    from zoo.jobs import prepare
    from zoo.registry import catalogue, check_options

    names = select_models(models)
    chosen = parse_assignments(options, "--option")
    checked = {name: check_options(catalogue().models.get(name), chosen) for name in names}
    data_given = collect(data_options, **given)
    source = None if data is None else DataSource.parse(data, data_given)
    prepare("zoo.bench.trial")

    from zoo.bench.speed_session import SpeedSettings, SpeedSubject, time_models
    from zoo.cli.progress import progress
    from zoo.schema import to_plain
    from zoo.training.compute import resolve_device

    place = str(resolve_device(device))
    shape = (channels, size, size)
    if source is not None:
        from zoo.cli.opening import open_split

        test = open_split(source, "test")
        image = test[0]["image"]
        shape, classes = (image.shape[0], image.shape[1], image.shape[2]), len(test.class_names)
    subjects = [SpeedSubject(name, checked[name], classes, shape, place, precision, name, source) for name in names]
    if optimized:
        subjects += [replace(subject, label=f"{subject.label}, optimized", optimized=True) for subject in subjects]
    settings = SpeedSettings(rounds, seconds, None if batch is None else (batch,), threads)
    with progress("timing") as bar:
        reports = time_models(subjects, settings, bar)
    if as_json:
        rows = [
            {
                "model": subject.model,
                "options": subject.options,
                "speed": to_plain(report.samples),
                "speed_protocol": to_plain(report.protocol),
            }
            for subject, report in zip(subjects, reports, strict=True)
        ]
        print_json(rows)
    else:
        _print(reports, subjects)
    if not any(report.samples for report in reports):
        click.get_current_context().exit(1)


def _print(reports: list[SpeedReport], subjects: list[SpeedSubject]) -> None:
    about = reports[0].protocol
    order = sorted(range(len(subjects)), key=lambda number: -_rate(reports[number]))
    rows = [_row(subjects[number].label, reports[number]) for number in order]
    used = [place for place in range(len(HEADINGS)) if place < 6 or any(row[place] != "-" for row in rows)]
    console = out()
    size = "x".join(map(str, subjects[0].shape))
    console.print()
    console.print(
        f"{about.device_name or subjects[0].device}, {about.threads or '?'} threads, torch {about.torch or '?'}; "
        f"{about.dtype}; images of {size}; {about.rounds} rounds",
        style="bold",
        markup=False,
    )
    console.print(make_table([HEADINGS[p] for p in used], [[row[p] for p in used] for row in rows], right=HEADINGS[1:]))
    for number in order:
        if reports[number].protocol.error:
            warn(f"{subjects[number].label}: {reports[number].protocol.error}")
    if about.busy:
        warn(
            f"other programs used the machine meanwhile (load average {about.load_average:.1f} on {about.cores} "
            "processors): these figures are too low"
        )
    measured = next((report.protocol for report in reports if report.samples), None)
    if measured is None or measured.energy is None or measured.memory is None:
        return
    if subjects[0].data is None:
        note("end to end was not measured: name patches with --data")
    if measured.energy.source is None:
        note(f"energy was not measured: {measured.energy.why_not}")
    kind = {"rss": "resident memory of the process", "cuda": "memory of the GPU"}[measured.memory.kind]
    note(f"peak MiB: {kind} that the model and its passes add, at the batch size of images/s")


def _row(label: str, report: SpeedReport) -> list[str]:
    best, protocol = report.best, report.protocol
    if best is None or protocol.memory is None or protocol.energy is None:
        return [label, *["-"] * 10]
    single = next((sample for sample in report.samples if sample.batch == 1), None)
    # The range of a rate follows from that of the time: rate * IQR / median.
    end, joules = protocol.end_to_end, protocol.energy.joules_per_image
    peak = protocol.memory.peak_bytes.get(best.batch)
    return [
        label,
        "-" if single is None else f"{1e3 * single.median_s:.1f}",
        "-" if single is None else f"{1e3 * single.iqr_s:.1f}",
        f"{best.images_per_second:.1f}",
        f"{best.images_per_second * best.iqr_s / best.median_s:.1f}",
        str(best.batch),
        "-" if end is None else f"{end.images_per_second:.1f}",
        "-" if not peak else f"{peak / 2**20:.0f}",
        "-" if joules is None else f"{joules:.3g}",
        f"{(protocol.parameters or 0) / 1e6:.2f}",
        f"{protocol.gmac or 0:.2f}",
    ]


def _rate(report: SpeedReport) -> float:
    return 0.0 if report.best is None else report.best.images_per_second
