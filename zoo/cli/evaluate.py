"""``zoo evaluate``: a bundle's figures again, or on other data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import make_table, note, out, print_json, warn
from zoo.cli.data_options import collect, data_options
from zoo.errors import ConfigError
from zoo.schema import to_plain

if TYPE_CHECKING:
    from zoo.training.bundle import Adaptation

TOLERANCE = 1e-3
"""Largest difference of a figure that another machine's rounding explains."""


@click.command(short_help="Print a bundle's figures again, or on other data.")
@click.argument("bundle", type=click.Path(path_type=Path))
@data_options(None)
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True, help="What to measure."
)
@click.option("--threshold", type=click.FloatRange(0, 1), help="Instead of the one that validation chose.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for other programs.")
def evaluate(
    bundle: Path,
    data: str | None,
    split: str,
    threshold: float | None,
    device: str,
    as_json: bool,
    data_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Measure BUNDLE, a folder that zoo train or zoo bench wrote, on its own test split or on --data.

    The bands of the data must be those of the bundle, in name, unit and order. The threshold is the bundle's. Of a
    bundle that zoo adapt wrote it is said to what, and whether these patches are the images that it was adapted to.
    """
    from torch.utils.data import DataLoader

    from zoo.cli.opening import open_split
    from zoo.datasets.source import DataSource
    from zoo.evaluation.columns import summarise
    from zoo.training.adaptation_data import count_adapted_patches
    from zoo.training.bundle import Bundle
    from zoo.training.compute import resolve_device
    from zoo.training.evaluate import evaluate as measure

    loaded = Bundle.load(bundle)
    options = collect(data_options, **given)
    if data is None:
        known = loaded.data.source
        if known is None:
            raise ConfigError(
                "the bundle does not say which data it was trained on", where=bundle, hint="Name it: --data FOLDER"
            )
        source = DataSource(known.name, {**known.options, **options})
    else:
        source = DataSource.parse(data, options)
    place = resolve_device(device)
    predictor = loaded.predictor().to(place)
    dataset = open_split(source, split)
    loaded.check_bands(dataset.bands, source.label)
    found = measure(
        predictor,
        loaded.compute_format,
        DataLoader(dataset, batch_size=loaded.batch_size),
        loaded.threshold if threshold is None else threshold,
    )
    figures: dict[str, Any] = {**summarise(found.counts, dataset.pixel_size), "loss": found.loss}
    same = dataset.fingerprint() == loaded.data.fingerprints.get(split)
    seen = count_adapted_patches(loaded, source, dataset) if loaded.adaptation else None
    if as_json:
        about = {"bundle": str(bundle), "data": source.to_dict(), "split": split, "patches": len(dataset)}
        if loaded.adaptation:
            figures = {"adaptation": _adaptation(loaded.adaptation, seen), **figures}
        print_json({**about, "threshold": found.threshold, "same_patches_as_training_run": same, **figures})
    else:
        headings = (f"{loaded.model} on {split}", "now", "in the bundle")
        stored = loaded.metrics if same and split == "test" else {}
        rows = [(name, _text(value), _text(stored.get(name)) if stored else "") for name, value in figures.items()]
        out().print(make_table(headings, rows, right=headings[1:]))
        patches = "the bundle's own patches" if same else "other patches than the bundle's own"
        note(f"threshold {found.threshold:g}; {patches}")
    if loaded.adaptation:
        _tell_adaptation(loaded.adaptation, seen, len(dataset))
    if same and split == "test" and threshold is None:
        moved = [name for name, value in loaded.metrics.items() if _differs(value, figures.get(name))]
        if moved:
            warn(f"{', '.join(moved)} differ from the bundle's by more than {TOLERANCE:g}")


def _adaptation(adaptation: Adaptation, seen: int | None) -> dict[str, Any]:
    about: dict[str, Any] = to_plain(adaptation)
    return {**{name: about[name] for name in ("target", "statistics", "share")}, "patches_seen": seen}


def _tell_adaptation(adaptation: Adaptation, seen: int | None, patches: int) -> None:
    """Say to what the bundle was adapted, and whether the figures are of those images."""
    target = adaptation.target
    place = target.options.get("root") or target.name or target.scene or "an unnamed target"
    parts = [f"{target.split} split" if target.split not in (None, "all") else ""]
    parts += [f"scenes {', '.join(target.groups)}" if target.groups else ""]
    which = f" ({', '.join(filter(None, parts))})" if any(parts) else ""
    note(
        f"this bundle is adapted to {target.used} images of {place}{which}, whose labels were not read: "
        f"share of the target {adaptation.share:.2f}"
    )
    if seen is None:
        note("whether the patches measured here are among those images cannot be told")
    elif seen:
        warn(
            f"{seen} of the {patches} patches measured here are images that the bundle was adapted to: these figures "
            "are transductive, and have to be named so"
        )
    else:
        note(f"none of the {patches} patches measured here is among those images")


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _differs(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before is not now
    return abs(before - now) > TOLERANCE
