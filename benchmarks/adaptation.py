"""Plain and adapted figures of trained bundles on every region of their test split, and on their own region.

For each bundle and region: the bundle as it is, with the statistics of the region's unlabelled patches in every share
that `zoo adapt` tries, and with the share that it chooses. The own region is the bundle's validation split, which is
spatially apart from training. Adapting and measuring use the same patches (transductive); labels are read by the
measurement alone.

zoo train unet --data PATCHES --group-column scene --train-groups S1 --test-groups S2,S3,S4 \\
    --recipe quick --steps 300 --crop 0 --precision bf16 --seed 0 --out run0
python benchmarks/adaptation.py run0 [run1 ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from zoo.bench.config import DataSource
from zoo.evaluation.metrics import dice
from zoo.training.adaptation import SHARES, Adapter
from zoo.training.bundle import Bundle
from zoo.training.evaluate import evaluate
from zoo.training.label_free import choose

OWN = "own"


def regions(bundle: Bundle, own: int) -> Iterator[tuple[str, Subset[Any]]]:
    """Every group of the test split, and patches of the validation split, evenly chosen."""
    source = DataSource(bundle.data["name"], bundle.data["options"])
    test, val = (source.open(split) for split in ("test", "val"))
    for group in sorted({patch.group for patch in test.patches}):
        yield group, Subset(test, [index for index, patch in enumerate(test.patches) if patch.group == group])
    yield OWN, Subset(val, list(range(0, len(val), max(1, -(-len(val) // own)))))


def measure(adapter: Adapter, bundle: Bundle, patches: Subset[Any], share: float) -> dict[str, float]:
    """Pooled Dice at 0.5 and at the bundle's threshold."""
    adapter.use(share)
    found = {}
    for name, threshold in (("dice_at_half", 0.5), ("dice", bundle.threshold)):
        loader = DataLoader(patches, batch_size=16)
        counts = evaluate(adapter.predictor, bundle.compute_format, loader, threshold).counts.pooled()
        found[name] = float(dice(counts.tp, counts.fp, counts.fn, counts.tn)[0])
    return found


def rows_of(path: Path, own: int) -> Iterator[dict[str, Any]]:
    """One row a region and share."""
    bundle = Bundle.load(path)
    for region, patches in regions(bundle, own):
        adapter = Adapter(bundle, (sample["image"][None] for sample in patches))
        adapter.estimate()
        scores = {share: adapter.score(share) for share in SHARES}
        chosen = choose(scores)
        for share in SHARES:
            yield {
                "bundle": path.name,
                "seed": bundle.seed,
                "region": region,
                "patches": len(patches),
                "share": share,
                "chosen": share == chosen,
                **measure(adapter, bundle, patches, share),
                **scores[share].to_dict(),
            }


def main() -> None:
    """Print a table, and write its rows with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--own", type=int, default=120, help="patches of the own region")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    columns = ("bundle", "region", "share", "dice_at_half", "dice", "expected_dice", "agreement", "positive", "chosen")
    print(" ".join(f"{column:>13}" for column in columns))
    for path in arguments.bundles:
        for row in rows_of(path, arguments.own):
            rows.append(row)
            cells = [f"{row[column]:.3f}" if isinstance(row[column], float) else row[column] for column in columns]
            print(" ".join(f"{cell!s:>13}" for cell in cells), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
