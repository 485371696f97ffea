"""Measure how hard the synthetic scenes are, from a rule of two thresholds to a small U-Net, with upper bounds.

    python benchmarks/synthetic_ladder.py [--difficulty easy|default|hard] [--phase pre] [--json FILE]

Everything is fitted on the training scenes, thresholds are chosen on the validation scenes, and figures are those of
the test scenes. Dice is pooled over all pixels of the split. The risk index has nothing to fit, so its AUC is
computed over the scenes of all splits: rain differs between scenes, and four scenes are too few.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from torch import nn

from zoo.datasets.synthetic import Synthetic
from zoo.datasets.synthetic.scene import FEATURE_RANGES
from zoo.physics.lsi import weighted_sum

Array = NDArray[Any]
NAMES = ("SMI", "NDBI", "NDVI", "NDWI", "slope", "DEM", "LSI")


class Split:
    """A split as whole arrays.

    Args:
        data: the data set.
    """

    def __init__(self, data: Synthetic) -> None:
        pairs = [data.read(i) for i in range(len(data))]
        self.images = np.stack([image for image, _ in pairs])
        self.masks = np.stack([mask for _, mask in pairs]).astype(bool)
        truth = [data.truth(i) for i in range(len(data))]
        self.safety = np.stack([t["safety"] for t in truth]).astype(np.float32)
        self.wetness = np.stack([t["wetness"] for t in truth]).astype(np.float32)
        self.rain = np.array([data.rain(i)[1] for i in range(len(data))])

    def channel(self, name: str) -> Array:
        """Return (patches, 128, 128)."""
        return self.images[:, NAMES.index(name)]

    def dry_index(self) -> Array:
        """Return the weighted sum of the index, which ranks as the index does without rain."""
        total = [weighted_sum(dict(zip(NAMES, image, strict=True)), FEATURE_RANGES) for image in self.images]
        return np.stack(total)


def dice(predicted: Array, true: Array) -> float:
    """Return pooled Dice of two boolean arrays."""
    both = np.count_nonzero(predicted & true)
    return 2.0 * both / max(1, np.count_nonzero(predicted) + np.count_nonzero(true))


def best_threshold(score: Array, true: Array) -> float:
    """Return the threshold of ``score`` with the highest pooled Dice."""
    order = np.argsort(-score.ravel(), kind="stable")
    hits = np.cumsum(true.ravel()[order])
    at = 2.0 * hits / (np.arange(1, hits.size + 1) + hits[-1])
    return float(score.ravel()[order][int(np.argmax(at))])


def rule(train: Split, test: Split) -> float:
    """Return Dice of "little vegetation on a steep slope", both thresholds fitted."""
    best = (0.0, 0.0, 0.0)
    for low in np.arange(0.2, 0.75, 0.025):
        for steep in np.arange(6.0, 34.0, 2.0):
            value = dice((train.channel("NDVI") < low) & (train.channel("slope") > steep), train.masks)
            best = max(best, (value, float(low), float(steep)))
    return dice((test.channel("NDVI") < best[1]) & (test.channel("slope") > best[2]), test.masks)


def features(split: Split, oracle: bool = False) -> Array:
    """Return (pixels, features): channels, their 5x5 means and spreads; with ``oracle`` true safety and wetness."""
    chosen = split.images[:, :6]
    means = ndimage.uniform_filter(chosen, size=(1, 1, 5, 5))
    spread = np.sqrt(np.clip(ndimage.uniform_filter(chosen**2, size=(1, 1, 5, 5)) - means**2, 0, None))
    parts = [split.images, means[:, :5], spread[:, [2, 4, 5]]]
    if oracle:
        parts.append(np.stack([np.minimum(split.safety, 5.0), split.wetness], axis=1))
    stacked = np.concatenate(parts, axis=1)
    return stacked.transpose(0, 2, 3, 1).reshape(-1, stacked.shape[1])


def forest(train: Split, val: Split, test: Split, oracle: bool = False) -> tuple[float, float]:
    """Return (Dice, AUC) of a random forest on single pixels."""
    rng = np.random.default_rng(0)
    true = train.masks.ravel()
    positive, negative = np.flatnonzero(true), np.flatnonzero(~true)
    chosen = np.concatenate(
        [
            rng.choice(positive, min(15_000, positive.size), replace=False),
            rng.choice(negative, 60_000, replace=False),
        ]
    )
    model = RandomForestClassifier(120, min_samples_leaf=5, n_jobs=2, random_state=0)
    model.fit(features(train, oracle)[chosen], true[chosen])
    score = model.predict_proba(features(test, oracle))[:, 1]
    threshold = best_threshold(model.predict_proba(features(val, oracle))[:, 1], val.masks)
    return dice(score >= threshold, test.masks.ravel()), float(roc_auc_score(test.masks.ravel(), score))


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class SmallUNet(nn.Module):
    """A U-Net of four levels, (B, 7, H, W) to (B, H, W) logits, H and W multiples of 8.

    Args:
        base: channels of the first level.
    """

    def __init__(self, base: int) -> None:
        super().__init__()
        widths = [base, 2 * base, 4 * base, 8 * base]
        self.down = nn.ModuleList(_double(a, b) for a, b in zip([7, *widths[:3]], widths, strict=True))
        self.up = nn.ModuleList(_double(a + b, a) for a, b in itertools.pairwise(widths))
        self.head = nn.Conv2d(base, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        kept: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
            kept.append(x)
        for level in (2, 1, 0):
            larger = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.up[level](torch.cat([kept[level], larger], dim=1))
        return self.head(x)[:, 0]


def unet(train: Split, val: Split, test: Split, steps: int, base: int) -> float:
    """Return Dice of a small U-Net after ``steps`` of batch 16 on 64-pixel crops."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    mean = train.images.mean(axis=(0, 2, 3), keepdims=True)
    scale = train.images.std(axis=(0, 2, 3), keepdims=True)
    images, masks = (train.images - mean) / scale, train.masks.astype(np.float32)
    model = SmallUNet(base).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(steps):
        x, y = zip(*(_crop(images, masks, rng) for _ in range(16)), strict=True)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(torch.from_numpy(np.stack(x)).to(memory_format=torch.channels_last)).float()
        target = torch.from_numpy(np.stack(y))
        probability = logits.sigmoid()
        overlap = 1 - (2 * (probability * target).sum() + 1) / (probability.sum() + target.sum() + 1)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target) + overlap
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        plan.step()
    model.eval()

    def score(split: Split) -> Array:
        with torch.inference_mode():
            parts = [
                model(torch.from_numpy((batch - mean) / scale)).sigmoid().numpy()
                for batch in np.array_split(split.images, max(1, len(split.images) // 16))
            ]
        return np.concatenate(parts)

    return dice(score(test) >= best_threshold(score(val), val.masks), test.masks)


def _crop(images: Array, masks: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    i, y, x = rng.integers(len(images)), rng.integers(65), rng.integers(65)
    turns, flip = rng.integers(4), rng.integers(2)
    image, mask = images[i, :, y : y + 64, x : x + 64], masks[i, y : y + 64, x : x + 64]
    image, mask = np.rot90(image, turns, (1, 2)), np.rot90(mask, turns)
    if flip:
        image, mask = image[:, :, ::-1], mask[:, ::-1]
    return image.copy(), mask.copy()


def ladder(splits: dict[str, Split], steps: int, base: int) -> Iterator[tuple[str, str, float]]:
    """Yield (step, metric, value) one by one, from the simplest on."""
    train, val, test = splits["train"], splits["val"], splits["test"]
    every = list(splits.values())
    labels = np.concatenate([split.masks.ravel() for split in every])
    yield "landslide pixels, all scenes", "share", float(labels.mean())
    wet = np.concatenate([split.channel("LSI").ravel() for split in every])
    dry = np.concatenate([split.dry_index().ravel() for split in every])
    yield "LSI without rain, all scenes", "AUC", float(roc_auc_score(labels, expit(dry)))
    yield "LSI with rain, all scenes", "AUC", float(roc_auc_score(labels, wet))
    yield "NDVI x slope rule", "Dice", rule(train, test)
    at = best_threshold(-val.safety, val.masks)
    yield "true factor of safety, no scar seen", "Dice", dice(-test.safety >= at, test.masks)
    yield "true factor of safety, no scar seen", "AUC", float(roc_auc_score(test.masks.ravel(), -test.safety.ravel()))
    value, area = forest(train, val, test)
    yield "random forest", "Dice", value
    yield "random forest", "AUC", area
    yield "random forest + true safety and wetness", "Dice", forest(train, val, test, oracle=True)[0]
    if steps:
        yield f"small U-Net (base {base}, {steps} steps)", "Dice", unet(train, val, test, steps, base)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--difficulty", default="default", choices=("easy", "default", "hard"))
    parser.add_argument("--phase", default="post", choices=("post", "pre"))
    parser.add_argument("--region", default="subtropical")
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=None, help="cache folder")
    parser.add_argument("--steps", type=int, default=400, help="training steps of the U-Net; 0 leaves it out")
    parser.add_argument("--base", type=int, default=24, help="channels of the U-Net's first level")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=None, help="write the rows here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    made = {
        name: Split(
            Synthetic(
                options.root,
                name,
                scenes=options.scenes,
                seed=options.seed,
                phase=options.phase,
                region=options.region,
                difficulty=options.difficulty,
            )
        )
        for name in ("train", "val", "test")
    }
    rows = []
    print(f"{options.region}, {options.difficulty}, {options.phase}, seed {options.seed}, {options.scenes} scenes")
    began = time.perf_counter()
    for step, metric, value in ladder(made, options.steps, options.base):
        seconds = time.perf_counter() - began
        rows.append({"step": step, "metric": metric, "value": value, "seconds": round(seconds, 1)})
        print(f"  {step:<42}{metric:>6}  {value:.3f}   {seconds:6.1f} s", flush=True)
        began = time.perf_counter()
    if options.json is not None:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
        options.json.write_text(json.dumps({"settings": settings, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
