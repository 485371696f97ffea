"""Measure Dice with few labelled patches of a new scene: from scratch, fine-tuned, and adapted without labels.

The parent of a scene is a bundle that was trained without that scene. N patches of the scene are drawn for training;
the others are the test set. Two models are trained on the N patches with the same recipe, steps and seed: one from
random weights, one from the parent. The parent and the fine-tuned model are also adapted to images of the scene
without their masks. Dice is pooled over the test patches at a probability of 0.5, because no labelled patch is left
for choosing a threshold.

python benchmarks/few_shot.py PATCHES --parent S2=no_S2 --parent S4=no_S4 --json benchmarks/few_shot.json
python benchmarks/few_shot.py --table benchmarks/few_shot.json       # print the table of committed figures

Rows are written after every training run; the same command resumes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from zoo.api.train import open_parent
from zoo.datasets.augmentation import TrainingAugmentation
from zoo.datasets.base import PatchDataset
from zoo.datasets.datamodule import PatchDataModule
from zoo.datasets.source import DataSource
from zoo.evaluation.counts import Counts
from zoo.physics.bands import records_light
from zoo.registry import create_model_for
from zoo.schema import write_json
from zoo.training.adaptation import adapt
from zoo.training.bundle import Bundle
from zoo.training.compute import memory_format
from zoo.training.evaluate import evaluate
from zoo.training.finetuning import plan_transfer
from zoo.training.fit import fit, seed_everything
from zoo.training.recipes import JITTERS, FineTuning, Recipe, get_recipe

LABELLED = (1, 5, 20, 100)
MIN_TEST_PATCHES = 20
"""Patches of a scene that are kept for the test at least; a small scene gets fewer labelled patches."""
ADAPTED_TO = 40
"""Images that the statistics are computed on at most: the adaptation takes longer than the training."""
CPU = torch.device("cpu")


class Chosen(PatchDataset):
    """Some patches of a data set, as a split."""

    def __init__(self, whole: PatchDataset, places: Sequence[int], split: str) -> None:
        self.whole, self.places, self.split = whole, list(places), split
        self.bands, self.class_names, self.pixel_size = whole.bands, whole.class_names, whole.pixel_size
        self.patches = tuple(whole.patches[place] for place in self.places)

    def read(self, index: int) -> Any:
        """Return one patch."""
        return self.whole.read(self.places[index])


def measure(bundle: Bundle, patches: PatchDataset) -> Counts:
    """Return the counts of every patch at a probability of 0.5."""
    predictor = bundle.predictor().to(memory_format=memory_format(bundle.compute_format))
    return evaluate(predictor, bundle.compute_format, DataLoader(patches, batch_size=16), 0.5).counts


def adapted(bundle: Bundle, patches: PatchDataset) -> Bundle:
    """Return the bundle adapted to the images of a scene, or to a sample of :data:`ADAPTED_TO` of them."""
    images = (patches[place]["image"][None] for place in range(len(patches)))
    return adapt(bundle, images, pixels=ADAPTED_TO * patches[0]["mask"].numel())


def train(parent: Bundle, start: FineTuning | None, labelled: PatchDataset, recipe: Recipe, seed: int) -> Bundle:
    """Train the parent's architecture on the labelled patches, from the parent or from random weights."""
    data = PatchDataModule(
        labelled,
        batch_size=recipe.batch_size,
        steps=recipe.steps,
        augmentation=TrainingAugmentation(
            recipe.crop,
            radiometric_bands=[place for place, band in enumerate(labelled.bands) if records_light(band)],
            seed=seed,
            **{name: getattr(recipe, name) for name in JITTERS},
        ),
        seed=seed,
    )
    transfer = None
    if start is not None:
        transfer = plan_transfer(parent, parent.options, labelled.bands, labelled.class_names, start)
    seed_everything(seed)
    model = create_model_for(parent.model, labelled.bands, len(labelled.class_names), **parent.options)
    if transfer is not None:
        transfer.load(model, parent)
    fitted = fit(model, data, recipe, seed=seed, device=CPU, transfer=transfer)
    return replace(
        parent,
        bands=labelled.bands,
        statistics=data.statistics,
        compute_format=fitted.compute_format,
        state=fitted.predictor.model.state_dict(),
        scales=(1.0,),
        adaptation=None,
        weights_sha256="",
    )


class Scene:
    """A scene with its parent, which was trained without it.

    Args:
        name: name of the scene.
        parent: the parent as ``zoo train --from`` takes it.
        arguments: options of the command.
    """

    def __init__(self, name: str, parent: str, arguments: argparse.Namespace) -> None:
        self.name, self.arguments = name, arguments
        bundle, self.start = open_parent(FineTuning(parent, tuple(arguments.freeze), arguments.old_lr_factor))
        self.parent = replace(bundle, options={**bundle.options, **without_weights(bundle.options)})
        options = {"root": str(arguments.patches), "group_column": "scene", "test_groups": [name]}
        self.patches = DataSource("folder", options).open("test")
        self.counts = {
            "parent plain": measure(self.parent, self.patches),
            "parent adapted": measure(adapted(self.parent, self.patches), self.patches),
        }
        most = len(self.patches) - MIN_TEST_PATCHES
        self.numbers = sorted({min(number, most) for number in arguments.labelled})
        self.recipe = get_recipe("strong").changed(
            steps=arguments.steps,
            batch_size=arguments.batch_size,
            crop=arguments.crop,
            lr=arguments.lr,
            precision=arguments.precision,
        )

    def rows(self, seed: int, number: int) -> Iterator[dict[str, Any]]:
        """Yield the figures of every method for a number of labelled patches."""
        order = np.random.default_rng((seed, len(self.patches))).permutation(len(self.patches))
        labelled, tested = sorted(order[:number]), sorted(order[number:])
        rest = Chosen(self.patches, tested, "test")
        found = {method: figures.select(tested) for method, figures in self.counts.items()}
        for method, start in (("scratch", None), ("fine-tuned", self.start)):
            begun = time.perf_counter()
            bundle = train(self.parent, start, Chosen(self.patches, labelled, "train"), self.recipe, seed)
            found[f"{method} plain"] = measure(bundle, rest)
            if start is not None:
                found[f"{method} adapted"] = measure(adapted(bundle, self.patches), rest)
            print(f"{self.name}, seed {seed}, {number} patches, {method}: {time.perf_counter() - begun:.0f} s")
        about = {"scene": self.name, "seed": seed, "labelled": number, "tested": len(tested)}
        for method, figures in found.items():
            yield {**about, "method": method, **pooled(figures)}


def without_weights(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that load pretrained weights, switched off: scratch means random weights."""
    return {name: None for name in ("encoder_weights",) if options.get(name)}


def pooled(counts: Counts) -> dict[str, float]:
    """Return Dice, precision and recall of all patches together."""
    total = counts.pooled()
    tp, fp, fn = (float(values[0]) for values in (total.tp, total.fp, total.fn))
    return {
        "dice": 2 * tp / (2 * tp + fp + fn),
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / (tp + fn),
    }


METHODS = {
    "parent plain": "weights trained without the scene",
    "parent adapted": "the same, adapted without labels",
    "scratch plain": "from scratch",
    "fine-tuned plain": "fine-tuned",
    "fine-tuned adapted": "fine-tuned, then adapted",
}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table: mean and standard deviation over the seeds."""
    columns = sorted({(row["scene"], row["labelled"]) for row in rows})
    lines = ["| method | " + " | ".join(f"{scene}, {number}" for scene, number in columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for method, title in METHODS.items():
        cells = []
        for column in columns:
            chosen = [row for row in rows if (row["scene"], row["labelled"], row["method"]) == (*column, method)]
            dice = [row["dice"] for row in chosen]
            spread = f" ± {stdev(dice):.3f}" if len(dice) > 1 else ""
            cells.append(f"{mean(dice):.3f}{spread}" if dice else "-")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train, measure and print the table, or print the table of a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patches", type=Path, nargs="?", help="folder of labelled patches with a column scene")
    parser.add_argument("--parent", action="append", default=[], metavar="SCENE=BUNDLE")
    parser.add_argument("--labelled", type=int, nargs="+", default=LABELLED)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--old-lr-factor", type=float, default=FineTuning.old_lr_factor)
    parser.add_argument("--freeze", nargs="*", default=[])
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path, help="print the table of this file and stop")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table(json.loads(arguments.table.read_text())["rows"]))
        return
    names = ("steps", "batch_size", "crop", "lr", "precision", "old_lr_factor", "freeze")
    settings = {name: getattr(arguments, name) for name in names}
    rows: list[dict[str, Any]] = []
    if arguments.json is not None and arguments.json.exists():
        rows = json.loads(arguments.json.read_text())["rows"]
    done = {(row["scene"], row["seed"], row["labelled"]) for row in rows}
    scenes = [Scene(*text.split("=", 1), arguments) for text in arguments.parent]
    for seed, scene in itertools.product(range(arguments.seeds), scenes):
        for number in scene.numbers:
            if (scene.name, seed, number) not in done:
                rows += scene.rows(seed, number)
                if arguments.json is not None:
                    write_json(arguments.json, {"recipe": settings, "rows": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
