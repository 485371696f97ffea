"""Measure how bf16 changes the masks of trained models: flipped pixels and Dice on the embedded test patches.

python benchmarks/bf16_gate.py FOLDER [--patches 64] [--json FILE]

FOLDER holds bundles that `zoo train` or `zoo bench` trained on the embedded data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from measuring import make_parser, save_rows

from zoo.datasets.synthetic import Synthetic
from zoo.deploy import fold
from zoo.deploy.backends import OpenVinoModule
from zoo.deploy.forms import TorchOptions, choose_hybrid_forms, make_torch_form
from zoo.deploy.parity import MAX_DICE_CHANGE, MAX_FLIPS_PPM, compare_masks
from zoo.training.bundle import DESCRIPTION, Bundle


def judge(folder: Path, images: torch.Tensor, masks: torch.Tensor) -> list[dict[str, Any]]:
    """One row a bf16 form of the model in ``folder``."""
    bundle = Bundle.load(folder)
    predictor = bundle.predictor()
    model = predictor.model
    batches = [
        {"image": predictor.normalise(images[start : start + 8]), "mask": masks[start : start + 8]}
        for start in range(0, len(images), 8)
    ]
    example = batches[0]["image"]
    folded = fold(model, example).model
    hybrids = choose_hybrid_forms(folded, example, "bf16")
    forms = {
        "torch": lambda: make_torch_form(folded, example, TorchOptions("bf16"), hybrids),
        "OpenVINO": lambda: OpenVinoModule(folded, example, precision="bf16", dynamic=False),
    }
    return [
        {"model": bundle.model, "form": name, **compare_masks(model, build(), batches, bundle.threshold).to_dict()}
        for name, build in forms.items()
    ]


def main() -> None:
    """Print a table, and write its rows with --json."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patches", type=int, default=64)
    arguments = parser.parse_args()
    data = Synthetic(split="test")
    samples = [data[index] for index in range(min(arguments.patches, len(data)))]
    images = torch.stack([sample["image"] for sample in samples])
    masks = torch.stack([sample["mask"] for sample in samples]).long()
    print(f"{len(images)} patches; the gate takes {MAX_FLIPS_PPM:.0f} ppm and a change of Dice by {MAX_DICE_CHANGE:g}")
    print(f"{'model':16} {'form':9} {'flips ppm':>9} {'Dice':>7} {'change':>9} {'max |dp|':>9} gate", flush=True)
    rows = []
    for description in sorted(arguments.folder.rglob(DESCRIPTION)):
        for row in judge(description.parent, images, masks):
            rows.append(row)
            change = "undefined" if row["dice_change"] is None else f"{row['dice_change']:+.6f}"
            dice = "undef." if row["dice_before"] is None else f"{row['dice_before']:.4f}"
            print(
                f"{row['model']:16} {row['form']:9} {row['flips_ppm']:9.0f} {dice:>7} {change:>9} "
                f"{row['largest']:9.4f} {'passed' if row['passed'] else 'failed'}",
                flush=True,
            )
    save_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
