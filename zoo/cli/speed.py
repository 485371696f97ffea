"""``zoo speed``: how fast models are here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import make_table, note, out, print_json, warn
from zoo.cli.data_options import collect, data_options, parse_assignments

if TYPE_CHECKING:
    from zoo.bench.speed_session import SpeedReport, SpeedSession, SpeedSubject


@click.command(short_help="Time models beside each other.")
@click.argument("models", metavar="all|NAMES|PATTERN")
@click.option("--size", type=click.IntRange(1), default=128, show_default=True, help="Edge of an image in pixels.")
@click.option("--channels", type=click.IntRange(1), default=7, show_default=True, help="Bands of an image.")
@click.option("--classes", type=click.IntRange(1), default=2, show_default=True, help="Channels of the logits.")
@click.option(
    "--batch", type=click.IntRange(1), help="Images a pass; without it 1, and the fastest, which is searched."
)
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True, help="Number format."
)
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Option of the models; may be repeated.")
@data_options(None)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--threads", type=click.IntRange(1), help="Threads on the processor; torch's own choice without it.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Fresh processes a model.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=0.5, show_default=True, help="To time a batch size."
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
    """Time MODELS beside each other: each in a fresh process, interleaved in rounds.

    \b
    zoo speed all
    zoo speed 'unet,enhanced_unet' --size 512 --batch 1
    zoo speed unet --data patches --json

    Prints latency at batch 1 and throughput at the fastest batch size (medians and quartile ranges over all rounds),
    with --data also the throughput from reading patches to the mask, and parameters, GMAC, peak memory and energy where
    the machine counts it. Measure on a machine that does nothing else.
    """
    from zoo.bench.config import select_models
    from zoo.datasets.source import DataSource
    from zoo.registry import catalogue, check_options

    names = select_models(models)
    chosen = parse_assignments(options, "--option")
    for name in names:
        check_options(catalogue().models.get(name), chosen)
    data_given = collect(data_options, **given)
    source = None if data is None else DataSource.parse(data, data_given)

    from zoo.bench.worker import trial_context

    trial_context()

    from zoo.bench.speed_session import SpeedSubject, time_models
    from zoo.cli.progress import progress
    from zoo.training.compute import resolve_device

    place = str(resolve_device(device))
    shape = (channels, size, size)
    if source is not None:
        from zoo.cli.opening import open_split

        test = open_split(source, "test")
        image = test[0]["image"]
        shape, classes = (image.shape[0], image.shape[1], image.shape[2]), len(test.class_names)
    subjects = [SpeedSubject(name, chosen, classes, shape, place, precision, name, source) for name in names]
    if optimized:
        subjects += [replace(subject, label=f"{subject.label}, optimized", optimized=True) for subject in subjects]
    with progress("timing") as bar:
        session = time_models(
            subjects,
            rounds=rounds,
            seconds=seconds,
            batches=None if batch is None else [batch],
            threads=threads,
            told=lambda _label, done, total: bar(done, total),
        )
    if as_json:
        rows = [
            {"model": subject.model, "options": subject.options, **session.record(number)}
            for number, subject in enumerate(subjects)
        ]
        print_json(rows)
    else:
        _print(session, subjects)
    if all(report.error and not report.samples for report in session.reports):
        click.get_current_context().exit(1)


def _print(session: SpeedSession, subjects: list[SpeedSubject]) -> None:
    about = session.protocol
    order = sorted(range(len(subjects)), key=lambda number: -_rate(session.reports[number]))
    headings = (
        "model",
        "ms b1",
        "IQR",
        "images/s",
        "IQR",
        "batch",
        "end to end",
        "peak MiB",
        "J/image",
        "Par. (M)",
        "GMAC",
    )
    rows = [_row(subjects[number].label, session.reports[number]) for number in order]
    used = [place for place in range(len(headings)) if place < 6 or any(row[place] != "-" for row in rows)]
    console = out()
    size = "x".join(map(str, subjects[0].shape))
    console.print()
    console.print(
        f"{about.get('device_name', subjects[0].device)}, {about.get('threads', '?')} threads, torch "
        f"{about.get('torch', '?')}; {about['dtype']}; images of {size}; {about['rounds']} rounds",
        style="bold",
        markup=False,
    )
    console.print(make_table([headings[p] for p in used], [[row[p] for p in used] for row in rows], right=headings[1:]))
    for number in order:
        report = session.reports[number]
        if report.error:
            warn(f"{subjects[number].label}: {report.error}")
    measured = next((report for report in session.reports if report.samples), None)
    if measured is None:
        return
    if subjects[0].data is None:
        note("end to end was not measured: name patches with --data")
    if measured.facts["energy"]["source"] is None:
        note(f"energy was not measured: {measured.facts['energy']['why_not']}")
    kind = {"rss": "resident memory of the process", "cuda": "memory of the GPU"}[measured.facts["memory"]["kind"]]
    note(f"peak MiB: {kind} that model and passes add, at the batch size of images/s")


def _row(label: str, report: SpeedReport) -> list[str]:
    best = report.best
    if best is None:
        return [label, *["-"] * 10]
    single = next((sample for sample in report.samples if sample.batch == 1), None)
    # The range of a rate follows from that of the time: rate * IQR / median.
    end, joules = report.end_to_end, report.facts["energy"]["joules_per_image"]
    peak = report.facts["memory"]["peak_bytes"].get(str(best.batch))
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
        f"{report.facts['parameters'] / 1e6:.2f}",
        f"{report.facts['gmac']:.2f}",
    ]


def _rate(report: SpeedReport) -> float:
    return 0.0 if report.best is None else report.best.images_per_second
