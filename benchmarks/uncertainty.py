"""Estimate uncertainty on a real scene with three networks that never saw it: spread, prediction sets, distances.

    python benchmarks/uncertainty.py landslide4sense_rgb --out build/uncertainty [--pictures docs/images]

Trains a narrow U-Net with three seeds on the scenes S1, S3 and S4 of Landslide4Sense (true colour, CC BY 4.0), prints
the commands of docs/how_to/uncertainty.md with their output, and draws the two pictures of that page. The mapped
scene is the mosaic of S2 (see ``first_map.py``). It takes about ten minutes on two cores; a second run uses the
trained networks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio
from first_map import mosaic, read_tiles, write
from kashmir import shrink
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from zoo.cli import run
from zoo.mapping.output import SET_COLOURS, SET_NAMES

SEEDS = (0, 1, 2)
TRAIN = [
    *("--option", "widths=[16, 32, 64, 96, 128]", "--group-column", "scene", "--test-groups", "S2"),
    *("--data-option", "pixel_size=10", "--recipe", "modern", "--steps", "400", "--batch-size", "16", "--crop", "64"),
    *("--lr", "0.003", "--device", "cpu"),
]


def command(*words: str | Path) -> None:
    """Print a command and run it.

    Raises:
        SystemExit: if it fails.
    """
    texts = [str(word) for word in words]
    print("$ zoo", *texts, flush=True)
    if run(texts):
        raise SystemExit(1)
    print(flush=True)


def read(path: Path) -> np.ndarray:
    """Return the bands of a file as they are written."""
    with rasterio.open(path) as file:
        return file.read()


def draw(folder: Path, truth: np.ndarray, path: Path) -> None:
    """Draw the scene and what is known of its map."""
    scene = read(folder / "S2.tif").transpose(1, 2, 0)
    nothing = ~scene.any(axis=2)
    probability, spread, sets, far = (
        read(folder / name)[0] for name in ("mean.tif", "spread.tif", "sets.tif", "far.tif")
    )
    figure = Figure(figsize=(11, 5.6), dpi=110, layout="constrained")
    axes = figure.subplots(2, 3)
    shown = np.where(nothing[..., None], 255, np.clip(scene * 1.6, 0, 255)).astype(np.uint8)
    axes[0, 0].imshow(shown)
    axes[0, 0].contour(truth, levels=[0.5], colors="red", linewidths=0.4)
    axes[0, 0].set_title("scene S2, landslides outlined")
    for axis, values, title, top, colours in (
        (axes[0, 1], probability, "mean probability of three models", 1.0, "YlOrRd"),
        (axes[0, 2], spread, "spread of the three models", 0.5, "viridis"),
        (axes[1, 0], far, "distance from the training data", None, "magma"),
    ):
        known = np.where(nothing | (values == 255), np.nan, values / (250 if values.dtype == np.uint8 else 1))
        image = axis.imshow(known, cmap=colours, vmin=0, vmax=top, interpolation="nearest")
        figure.colorbar(image, ax=axis, shrink=0.7)
        axis.set_title(title)
    with rasterio.open(folder / "far.tif") as file:
        limit = float(file.tags(1)["LIMIT"])
    axes[1, 1].imshow(
        np.where(np.isnan(far), np.nan, far > limit),
        cmap=ListedColormap(["#e0e0e0", "#6a3d9a"]),
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    axes[1, 1].set_title(f"farther than 95 % of validation ({limit:.2f})")
    colours = ["white", "#74add1", *(np.array(SET_COLOURS[number]) / 255 for number in (2, 3, 4))]
    axes[1, 2].imshow(
        sets, cmap=ListedColormap(colours), norm=BoundaryNorm(np.arange(6) - 0.5, 5), interpolation="nearest"
    )
    axes[1, 2].set_title("prediction sets of the first model")
    axes[1, 2].legend(
        handles=[Patch(color=colours[number], label=name) for number, name in enumerate(SET_NAMES, 1)],
        loc="lower right", fontsize=8,
    )  # fmt: skip
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(folder / "uncertainty.png")
    shrink(folder / "uncertainty.png", path, 1100)


def main() -> None:
    """Train, map and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder landslide4sense_rgb")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, help="folder of the pictures; by default the same")
    given = parser.parse_args()
    out, pictures = given.out, given.pictures or given.out
    out.mkdir(parents=True, exist_ok=True)
    bundles = [out / f"unet-s{seed}" for seed in SEEDS]
    for seed, bundle in zip(SEEDS, bundles, strict=True):
        if not (bundle / "bundle.json").exists():
            command("train", "unet", "--data", given.data, *TRAIN, "--seed", str(seed), "--out", bundle, "--resume")
    scene, truth = mosaic(*read_tiles(given.data, "S2"))
    write(out / "S2.tif", scene)
    command("evaluate", bundles[0], "--split", "val")
    command("evaluate", bundles[0])
    command(
        "map", bundles[0], out / "S2.tif", "--dtype", "float32", "--sets", out / "sets.tif",
        "--unlike", out / "far.tif", "--out", out / "prob.tif", "--overwrite",
    )  # fmt: skip
    command(
        "map", bundles[0], out / "S2.tif", *(word for one in bundles[1:] for word in ("--ensemble", one)),
        "--spread", out / "spread.tif", "--out", out / "mean.tif", "--overwrite",
    )  # fmt: skip
    groups = ["--group-column", "scene", "--test-groups", "S2", "--data-option", "pixel_size=10"]
    command("card", bundles[0], "--data", given.data, *groups)
    draw(out, truth, pictures / "uncertainty.png")
    shrink(bundles[0] / "card" / "reliability.png", pictures / "uncertainty_reliability.png", 480)


if __name__ == "__main__":
    main()
