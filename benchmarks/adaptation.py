"""Measure bundles on every region of their test split, plain and adapted.

Each bundle is measured as trained, adapted as far as `zoo adapt` decides, and fully adapted. Statistics of its
predictions that need no labels are printed too. The bundle's own region is its validation split, which is separate
from the training split. Adaptation and measurement use the same images (transductive); only the measurement reads the
labels.

zoo train unet --data PATCHES --group-column scene --train-groups S1 --test-groups S2,S3,S4 \\
    --recipe quick --steps 300 --crop 0 --precision bf16 --seed 0 --out run0
python benchmarks/adaptation.py run0 [run1 ...] [--scales auto 1,1.5,2] [--json FILE]
python benchmarks/adaptation.py --thresholds benchmarks/results/weights    # adapted trials at three thresholds
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import make_parser, save_rows
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from zoo.bench.results import load_results
from zoo.datasets.source import DataSource
from zoo.evaluation.histograms import PROBABILITY_BINS, ThresholdCurve
from zoo.mapping.inference import TileForward
from zoo.schema import to_plain
from zoo.training.adaptation import adapt
from zoo.training.bundle import Bundle
from zoo.training.compute import autocast, memory_format

OWN = "own"
PLAIN = "plain"
SHARES = {PLAIN: 0.0, "auto": None, "full": 1.0}
COLUMNS = (
    "region",
    "patches",
    "images",
    "statistics",
    "scales",
    "dice_at_half",
    "dice_validated",
    "called",
    "truth",
    "entropy",
    "expected_dice",
)


def ways(scales: list[str]) -> Iterator[tuple[str, float | None, Any]]:
    """What is measured: a name, the share of the region in the statistics, and the magnifications."""
    for name, share in SHARES.items():
        yield name, share, (1.0,)
        for text in scales if share is None else ():
            yield f"{name}, x{text}", share, text if text == "auto" else tuple(map(float, text.split(",")))


def regions(bundle: Bundle, own: int, every: int, wanted: list[str]) -> Iterator[tuple[str, Subset[Any]]]:
    """Every group of the test split, or every so many of its patches, and ``own`` of the validation split."""
    source = DataSource(bundle.data["name"], bundle.data["options"])
    test, val = (source.open(split) for split in ("test", "val"))
    for group in sorted({patch.group for patch in test.patches if not wanted or patch.group in wanted}):
        places = [index for index, patch in enumerate(test.patches) if patch.group == group]
        yield group, Subset(test, places[::every])
    if not wanted or OWN in wanted:
        yield OWN, Subset(val, list(range(0, len(val), max(1, -(-len(val) // own)))))


@torch.inference_mode()
def predict(bundle: Bundle, patches: Subset[Any], turns: int = 0) -> Tensor:
    """Landslide probability of every pixel, predicted from images turned by quarters, float64 (N, H, W)."""
    predictor = bundle.predictor().to(memory_format=memory_format(bundle.compute_format))
    found = []
    for batch in DataLoader(patches, batch_size=16):
        images = torch.rot90(batch["image"], turns, (-2, -1))
        with autocast(bundle.compute_format, torch.device("cpu")):
            logits = predictor(images.contiguous(memory_format=memory_format(bundle.compute_format)))
        found.append(torch.rot90(predictor.landslide_probability(logits), -turns, (-2, -1)).double())
    return torch.cat(found)


@torch.inference_mode()
def predict_d4(bundle: Bundle, patches: Subset[Any]) -> Tensor:
    """The same, averaged over the eight flips and rotations as `zoo map --tta` does it."""
    forward = TileForward(bundle.predictor(), torch.device("cpu"), tta=True)
    return torch.from_numpy(np.stack([forward(sample["image"].numpy()) for sample in patches]))


def overlap(one: Tensor, other: Tensor) -> float:
    """Dice of two masks."""
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def measure(bundle: Bundle, validated: float, patches: Subset[Any], views: bool, d4: bool) -> dict[str, float]:
    """Pooled Dice at 0.5 and at the validated threshold, and what a user without labels could compute."""
    probability = predict(bundle, patches)
    truth = torch.stack([sample["mask"] for sample in patches]) == 1
    called = probability >= 0.5
    inside = probability.clamp(1e-7, 1 - 1e-7)
    figures = {
        "dice_at_half": overlap(called, truth),
        "dice_validated": overlap(probability >= validated, truth),
        "called": float(called.double().mean()),
        "truth": float(truth.double().mean()),
        "entropy": float(-(inside * inside.log() + (1 - inside) * (1 - inside).log()).mean()),
        "expected_dice": float(2 * probability[called].sum() / (called.sum() + probability.sum())),
    }
    if d4:
        figures["dice_d4"] = overlap(predict_d4(bundle, patches) >= 0.5, truth)
    if views:
        figures["agreement"] = overlap(called, predict(bundle, patches, turns=1) >= 0.5)
    return figures


def rows_of(path: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row a region, number of images adapted to, and way of adapting."""
    plain = Bundle.load(path)
    for region, patches in regions(plain, arguments.own, arguments.every, arguments.regions):
        about = {"bundle": path.name, "seed": plain.seed, "region": region, "patches": len(patches)}
        for count in arguments.few or [len(patches)]:
            chosen = torch.linspace(0, len(patches) - 1, count).long().tolist()
            for name, share, scales in ways(arguments.scales):
                images = (patches[index]["image"][None] for index in chosen)
                bundle = plain if name == PLAIN else adapt(plain, images, share=share, scales=scales)
                adaptation = {} if bundle.adaptation is None else to_plain(bundle.adaptation)
                yield {
                    **about,
                    "images": count,
                    "statistics": name,
                    "scales": bundle.scales,
                    "scale_agreements": adaptation.get("scale_agreements"),
                    **measure(bundle, plain.threshold, patches, arguments.views, arguments.d4),
                    "shifts": adaptation.get("shifts", []),
                }


def thresholds_table(folder: Path) -> str:
    """Dice of adapted trials at the validated threshold, at 0.5 and at the best one: means over seeds, as Markdown."""
    results, _ = load_results(folder)
    trained = {(one.config.setting, one.config.seed): one.threshold for one in results if not one.config.adapted}
    rows: dict[str, list[tuple[float, ...]]] = {}
    for one in results:
        if one.config.adapted and one.test is not None:
            validated = trained[one.config.setting, one.config.seed]
            dice = ThresholdCurve.from_histogram(one.test.histogram).dice
            there, half = (dice[round(value * PROBABILITY_BINS)] for value in (validated, 0.5))
            rows.setdefault(one.config.setting, []).append((there, half, float(np.nanmax(dice))))
    lines = ["| scene | seeds | at the validated threshold | at 0.5 | at the best |", "|---|---:|---:|---:|---:|"]
    for setting, found in sorted(rows.items()):
        cells = " | ".join(f"{mean:.3f}" for mean in np.mean(found, axis=0))
        lines.append(f"| {setting} | {len(found)} | {cells} |")
    return "\n".join(lines)


def width(column: str) -> int:
    """Characters of a column of the table."""
    return max(30 if column == "statistics" else 7, len(column))


def main() -> None:
    """Print a table, and write its rows with --json."""
    parser = make_parser(__doc__)
    parser.add_argument("bundles", type=Path, nargs="*")
    parser.add_argument("--thresholds", type=Path, help="print the table of adapted trials in this folder, and stop")
    parser.add_argument("--own", type=int, default=120, help="number of patches of the own region")
    parser.add_argument("--every", type=int, default=1, help="use every Nth patch of the other regions")
    parser.add_argument("--regions", nargs="+", default=[], help=f"only these regions; {OWN} is the own region")
    parser.add_argument("--scales", nargs="+", default=[], help="also with these magnifications: auto, 2 or 1,1.5,2")
    parser.add_argument("--views", action="store_true", help="print the agreement with rotated images too")
    parser.add_argument("--d4", action="store_true", help="also averaged over flips and rotations (--tta)")
    parser.add_argument("--few", type=int, nargs="+", default=[], help="adapt to this many images instead of all")
    arguments = parser.parse_args()
    if arguments.thresholds is not None:
        print(thresholds_table(arguments.thresholds))
        return
    columns = (*COLUMNS, *["agreement"] * arguments.views, *["dice_d4"] * arguments.d4)
    print(" ".join(f"{column:>{width(column)}}" for column in ("bundle", *columns)))
    rows = []
    for path in arguments.bundles:
        for row in rows_of(path, arguments):
            rows.append(row)
            shown = {
                one: ",".join(f"{part:g}" for part in row[one])
                if one == "scales"
                else f"{row[one]:.3f}"
                if isinstance(row[one], float)
                else row[one]
                for one in ("bundle", *columns)
            }
            print(" ".join(f"{cell!s:>{width(column)}}" for column, cell in shown.items()), flush=True)
    save_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
