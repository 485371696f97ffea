"""``zoo evaluate``: measure a bundle on its own or other data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import make_table, note, out, print_json, relative, warn
from zoo.cli.data_options import collect, data_options
from zoo.cli.opening import bundle_argument, open_bundle
from zoo.cli.progress import stage_progress
from zoo.cli.values import AS_JSON, PROBABILITY, parse_scales
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.api.evaluation import SplitEvaluation
    from zoo.training.bundle_layout import Adaptation


@click.command()
@bundle_argument
@data_options(None)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="test",
    show_default=True,
    help="Split to evaluate on.",
)
@click.option("--threshold", type=PROBABILITY, help="Landslide threshold.  [default: the bundle's]")
@click.option(
    "--adapt", "adapted", is_flag=True,
    help="First adapt the model to the images of each scene, without labels; the bundle does not change.",
)  # fmt: skip
@click.option(
    "--scales", metavar="auto|X,X,...", default="1", show_default=True,
    help="With --adapt, magnifications applied to every image; auto chooses one for each scene.",
)  # fmt: skip
@click.option(
    "--tta", is_flag=True, help="Average over the eight flips and rotations of each image: eight times slower."
)
@click.option("--record", is_flag=True, help="Store the figures in the bundle; maps and the model card quote them.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@AS_JSON
def evaluate(
    bundle: str,
    sha256: str | None,
    data: str | None,
    split: str,
    threshold: float | None,
    adapted: bool,
    scales: str,
    tta: bool,
    record: bool,
    device: str,
    as_json: bool,
    data_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Evaluate BUNDLE on its own test split or on --data.

    BUNDLE is a folder that zoo train or zoo bench wrote, weights that zoo weights lists, a .zip, or a URL.

    \b
    zoo evaluate runs/unet
    zoo evaluate runs/unet --data patches/ --group-column scene --test-groups S2
    zoo evaluate runs/unet --data patches/ --adapt --scales auto --tta
    zoo evaluate runs/unet --data patches/ --record

    The bands of the data must be those of the bundle, in name, unit and order. For an adapted bundle, the command says
    whether it was adapted to these patches.
    """
    from zoo.api.evaluation import TOLERANCE
    from zoo.cli.opening import data_warnings
    from zoo.schema import to_plain

    model = open_bundle(bundle, sha256, device)
    if record and model.folder is None:
        hint = f"Copy it first: zoo pull {bundle} --out runs/copy"
        raise ConfigError("--record needs a bundle in a local folder of yours", where=bundle, hint=hint)
    with data_warnings(), stage_progress("reading the data") as show:
        found = model.evaluate(
            data,
            split=split,
            threshold=threshold,
            adapted=adapted,
            scales=parse_scales(scales),
            tta=tta,
            record=record,
            progress=show,
            data_options=collect(data_options, **given),
        )
    if as_json:
        about = {"bundle": bundle, "data": found.data.to_dict(), "split": split, "patches": found.patches}
        about |= {"threshold": found.threshold, "same_patches_as_training_run": found.same_patches}
        if model.adaptation is not None:
            whole = to_plain(model.adaptation)
            adaptation = {name: whole[name] for name in ("target", "statistics", "share")}
            about["adaptation"] = {**adaptation, "patches_seen": found.adapted_patches}
        print_json({**about, **to_plain(found.figures), "measured": to_plain(found.measured)})
    else:
        headings = (f"{model.bundle.model} on {split}", "now", "in the bundle")
        rows = [
            (name, _format_figure(value), _format_figure(found.stored.get(name)) if found.stored else "")
            for name, value in found.figures.items()
        ]
        out().print(make_table(headings, rows, right=headings[1:]))
        own = (
            "the patches of the bundle's own split"
            if found.same_patches
            else "not the patches of the bundle's own split"
        )
        note(f"threshold {found.threshold:.6g}; {own}")
        for measured in found.measured:
            note(str(measured))
            if measured.calibration is not None and measured.calibration.coverage is not None:
                coverage = measured.calibration.coverage
                note(f"{coverage}{', on which they were chosen' if split == 'val' else ''}")
                if coverage.by_block is not None:
                    note(f"  {coverage.by_block}")
    if record:
        assert model.folder is not None
        note(f"recorded in {relative(model.folder / 'bundle.json')}")
    for text in found.warnings:
        warn(text)
    if model.adaptation is not None:
        _print_adaptation(model.adaptation, found)
    if found.changed:
        warn(f"{', '.join(found.changed)} differ from the bundle's figures by more than {TOLERANCE:g}")


def _print_adaptation(adaptation: Adaptation, found: SplitEvaluation) -> None:
    target = adaptation.target
    place = target.options.get("root") or target.name or target.scene or "an unnamed region"
    parts = [f"{target.split} split" if target.split not in (None, "all") else ""]
    parts += [f"scenes {', '.join(target.groups)}" if target.groups else ""]
    which = f" ({', '.join(filter(None, parts))})" if any(parts) else ""
    note(
        f"this bundle was adapted to {target.used} images of {place}{which}, without their labels: "
        f"share of the target {adaptation.share:.2f}"
    )
    if found.adapted_patches is None:
        note("it is unknown whether the measured patches are among those images")
    elif found.adapted_patches:
        warn(
            f"the bundle was adapted to {found.adapted_patches} of the {found.patches} measured patches: "
            "report these figures as transductive"
        )
    else:
        note(f"none of the {found.patches} measured patches is among those images")


def _format_figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
