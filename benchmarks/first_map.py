"""A map of real Sentinel-2 imagery with trained weights: the scene, the two commands, the figures and the picture.

    python benchmarks/first_map.py BUNDLE [--scene S2] [--out FOLDER] [--picture docs/images/first_map.png]

The scene is a mosaic of one of the four scenes of Landslide4Sense (CC BY 4.0), whose patches are neighbours on the
ground. They were published as pictures that are scaled one by one, so their brightness jumps from patch to patch. The
jumps are removed here: each patch gets the one factor with which its edges fit those of its neighbours best. The place
of the scene is not published; the coordinates are those of no real place. Dice, precision and recall are computed from
the masks of the same patches, which the model may have been trained on: BUNDLE decides.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import rasterio
from kashmir import shrink
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import lsqr

from zoo.cli import run

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "landslide4sense_rgb"
SIDE = 128
BRIGHTNESS = 60.0
"""Mean of the mosaic: that of the patches."""

Place = tuple[int, int]
Image8 = NDArray[np.uint8]


def read_tiles(root: Path, scene: str) -> tuple[dict[Place, Image8], dict[Place, Image8]]:
    """Return the pictures, uint8 (H, W, 3), and the masks, uint8 (H, W), of a scene by row and column."""
    with (root / "tiles.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["scene"] == scene]
    places = {(int(row["row"]), int(row["col"])): row["tile"] for row in rows}
    images = {place: np.asarray(Image.open(root / "images" / name).convert("RGB")) for place, name in places.items()}
    masks = {place: np.asarray(Image.open(root / "masks" / name)) for place, name in places.items()}
    return images, masks


def together(images: dict[Place, Image8]) -> dict[Place, Image8]:
    """Return the largest group of pictures that are neighbours: the brightness of the others is unknown."""
    grid = np.zeros([max(place[side] for place in images) + 1 for side in (0, 1)], dtype=bool)
    for place in images:
        grid[place] = True
    numbers = ndimage.label(grid)[0]
    largest = np.bincount(numbers[grid]).argmax()
    return {place: image for place, image in images.items() if numbers[place] == largest}


def factors(images: dict[Place, Image8]) -> dict[Place, float]:
    """Return the factor of each picture with which the edges of neighbours fit best, by least squares of logarithms."""
    numbers = {place: number for number, place in enumerate(images)}
    entries: list[tuple[int, int, float]] = []
    jumps: list[float] = []
    for (row, column), image in images.items():
        for other, own_edge, their_edge in (
            ((row, column + 1), image[:, -1], images.get((row, column + 1), image)[:, 0]),
            ((row + 1, column), image[-1], images.get((row + 1, column), image)[0]),
        ):
            if other not in images:
                continue
            own, their = own_edge.astype(float).mean(axis=1), their_edge.astype(float).mean(axis=1)
            known = (own > 5) & (their > 5)
            if known.sum() < SIDE // 4:
                continue
            entries += [(len(jumps), numbers[row, column], 1.0), (len(jumps), numbers[other], -1.0)]
            jumps.append(float(np.median(np.log(their[known] / own[known]))))
    entries.append((len(jumps), 0, 1.0))  # the brightness of the whole is free
    jumps.append(0.0)
    lines, columns, values = zip(*entries, strict=True)
    found = lsqr(csr_matrix((values, (lines, columns)), shape=(len(jumps), len(images))), np.array(jumps))[0]
    return {place: float(np.exp(found[number])) for place, number in numbers.items()}


def mosaic(images: dict[Place, Image8], masks: dict[Place, Image8]) -> tuple[Image8, Image8]:
    """Return the scene, uint8 (3, H, W) with 0 where there is no patch, and its mask, uint8 (H, W)."""
    images = together(images)
    gains = factors(images)
    top, left = min(row for row, _ in images), min(column for _, column in images)
    rows, columns = max(row for row, _ in images) - top + 1, max(column for _, column in images) - left + 1
    scene = np.zeros((3, rows * SIDE, columns * SIDE))
    truth = np.zeros(scene.shape[1:], np.uint8)
    for (row, column), image in images.items():
        part = np.s_[(row - top) * SIDE : (row - top + 1) * SIDE, (column - left) * SIDE : (column - left + 1) * SIDE]
        for band, values in enumerate(image.transpose(2, 0, 1)):
            scene[band][part] = values * gains[row, column]
        truth[part] = masks[row, column] > 0
    known = scene.any(axis=0)
    scene *= BRIGHTNESS / scene[:, known].mean()
    found = np.clip(np.rint(scene), 1, 255).astype(np.uint8)
    found[:, ~known] = 0
    return found, truth


def write(path: Path, scene: Image8) -> None:
    """Write a scene as a true-colour image."""
    profile = {"driver": "GTiff", "dtype": "uint8", "tiled": True, "compress": "deflate", "crs": "EPSG:32651"}
    shape = {"count": 3, "height": scene.shape[1], "width": scene.shape[2]}
    with rasterio.open(path, "w", transform=from_origin(5e5, 25e5, 10, 10), **shape, **profile) as file:
        file.write(scene)
        file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def measure(path: Path, truth: Image8) -> str:
    """Return Dice, precision and recall of a map."""
    with rasterio.open(path) as file:
        values, tags = file.read(1), file.tags()
    known = values != 255
    called = (values * 0.004 >= float(tags["THRESHOLD"]) - 1e-6) & known
    hits, all_called, all_true = (called & (truth > 0)).sum(), called.sum(), ((truth > 0) & known).sum()
    return (
        f"Dice {2 * hits / max(all_called + all_true, 1):.3f}, precision {hits / max(all_called, 1):.3f}, recall "
        f"{hits / max(all_true, 1):.3f}; {called.sum() / known.sum():.2%} called landslide, "
        f"{all_true / known.sum():.2%} is one"
    )


def main() -> None:
    """Map a scene plain and adapted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--scene", default="S2")
    parser.add_argument("--out", type=Path, default=Path("build/first_map"))
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    scene, truth = mosaic(*read_tiles(arguments.data, arguments.scene))
    tile = arguments.out / f"{arguments.scene}_TCI.tif"
    write(tile, scene)
    for name, options in (("plain", []), ("adapted", ["--adapt"])):
        target, drawn = arguments.out / f"{name}.tif", arguments.out / f"{name}.png"
        title = f"Landslide4Sense, scene {arguments.scene}"
        products = ["--polygons", str(arguments.out / f"{name}.gpkg"), "--picture", str(drawn), "--title", title]
        command = ["map", arguments.bundle, str(tile), *options, "--out", str(target), *products, "--overwrite"]
        print("\n$ zoo", *command, flush=True)
        if run(command) != 0:
            raise SystemExit("the map was not made")
        print(f"{name}: {measure(target, truth)}", flush=True)
    if arguments.picture is not None:
        shrink(arguments.out / "adapted.png", arguments.picture, 1000)


if __name__ == "__main__":
    main()
