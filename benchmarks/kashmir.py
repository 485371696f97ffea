"""Turn the elevation model of Kashmir and its 2,619 landslides into audited patches, with pictures.

    python benchmarks/kashmir.py [--data DIR] [--pictures docs/images] [--json FILE]

Runs the commands of docs/tutorials/kashmir.md in order, as a user types them, and prints their output. ``--data`` is
a folder with ``AW3D30.tif`` and ``landslides.shp``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from zoo.cli import run
from zoo.datasets import Folder
from zoo.datasets.splits import LeakageWarning
from zoo.physics import horn_gradient
from zoo.rasters.stacks import Stack

KASHMIR = Path(__file__).parents[1].parent / "shared" / "data" / "kashmir"
SIZE = 64
COLOURS = {"train": "#5b8dd9", "val": "#f3a712", "test": "#e4002b"}


def zoo(*arguments: str, expected: int = 0) -> None:
    """Run a command of zoo; its output goes where this program's goes."""
    print("\n$ zoo", *(Path(text).name if text.endswith((".tif", ".shp")) else text for text in arguments), flush=True)
    code = run(list(arguments))
    if code != expected:
        raise SystemExit(f"exit code {code} instead of {expected}")


def shrink(source: Path, target: Path, width: int) -> None:
    """Write a picture again, smaller and in 64 colours, the rare ones among them."""
    with Image.open(source) as picture:
        small = picture.convert("RGB").resize((width, round(picture.height * width / picture.width)), Image.LANCZOS)
    small.quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"wrote {target} ({target.stat().st_size / 1000:.0f} kB)")


def draw_splits(verdicts: dict[str, str], target: Path) -> None:
    """Draw which patch is in which split, one panel a way of splitting, over the hillshade."""
    with Stack("kashmir.tif") as stack:
        dem = stack.read()[[band.name for band in stack.bands].index("DEM")]
        down, right = horn_gradient(dem, stack.pixel_size or 1.0)
    shade = np.clip((right + down + np.sqrt(2)) / (2 * np.sqrt(1 + down**2 + right**2)), 0, 1)
    figure = Figure(figsize=(9.0, 7.6), layout="constrained")
    for panel, (manner, verdict) in zip(figure.subplots(1, len(verdicts)), verdicts.items(), strict=True):
        panel.imshow(shade, cmap="gray", vmin=0, vmax=1)
        for split, colour in COLOURS.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", LeakageWarning)  # which is what the picture is to show
                patches = Folder("patches", split, split_by=manner).patches
            corners = [(SIZE * patch.col, SIZE * patch.row) for patch in patches]
            squares = [((x, y), (x + SIZE, y), (x + SIZE, y + SIZE), (x, y + SIZE)) for x, y in corners]
            panel.add_collection(PolyCollection(squares, facecolors=colour, edgecolors=colour, alpha=0.45))
        panel.set_title(f"--split {manner}\n{verdict}", fontsize=9)
        panel.set_axis_off()
    handles = [Patch(color=colour, alpha=0.45, label=split) for split, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig("splits.png", dpi=110)
    shrink(Path("splits.png"), target, 800)


def main() -> None:
    """Run the commands in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=KASHMIR)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    pictures = None if arguments.pictures is None else arguments.pictures.resolve()
    target = None if arguments.json is None else arguments.json.resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["ZOO_CACHE"] = str(Path(folder) / "cache")
        zoo("stack", "--dem", str(data / "AW3D30.tif"), "--phase", "post", "--scene", "kashmir", "--out", "kashmir.tif")
        inventory = ("--inventory", str(data / "landslides.shp"))
        zoo("patches", "kashmir.tif", *inventory, "--size", str(SIZE), "--out", "patches")
        zoo("audit", "patches", "--split", "random", "--json", "random.json", expected=1)
        zoo("audit", "patches", "--split", "block", "--json", "block.json")
        zoo("describe", "patches", "--split", "train", "--picture", "describe.png", "--json", "describe.json")
        found: dict[str, Any] = {name: json.loads(Path(f"{name}.json").read_text()) for name in ("random", "block")}
        if pictures is not None:
            shrink(Path("patches/overview.png"), pictures / "kashmir_patches.png", 600)
            shrink(Path("describe.png"), pictures / "kashmir_channels.png", 800)
            test = {name: one["verdict"].split(";")[0].split(" (")[0] for name, one in found.items()}
            draw_splits(test, pictures / "kashmir_splits.png")
        if target is not None:
            cut = json.loads(Path("patches/patches.json").read_text())
            target.write_text(json.dumps({"patches": cut, "audit": found}, indent=1))


if __name__ == "__main__":
    main()
