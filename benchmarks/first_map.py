"""Map real Sentinel-2 imagery with trained weights: scene, commands, figures and picture.

    python benchmarks/first_map.py BUNDLE [--scene S2] [--out FOLDER] [--picture docs/images/first_map.png]
    python benchmarks/first_map.py BUNDLE --whole-tile      # time and memory for an image of 10,980 x 10,980 pixels
    python benchmarks/first_map.py BUNDLE --chattogram      # a city, which the training data do not contain

The scene is a mosaic of one of the four scenes of Landslide4Sense (CC BY 4.0), whose patches are neighbours on the
ground. Each patch was published with its own brightness scale, so the brightness jumps between patches. This script
removes the jumps: it multiplies each patch by the factor with which its edges fit those of its neighbours best. The
location of the scene is not published, so the coordinates are invented. Dice, precision and recall are computed from
the masks of the same patches. BUNDLE may have been trained on them.

The whole tile consists of patches in random order, with a black border and clouds, as JPEG 2000. The command that
maps it prints its time and memory. The mosaic of Chattogram has red, green, blue and near infrared, and sparse
labels.
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
CHATTOGRAM = DATA.with_name("chattogram")
TILE = 10_980
"""Rows and columns of a Sentinel-2 tile at 10 m."""
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


def whole_tile(images: dict[Place, Image8]) -> Image8:
    """Return a picture as large as a Sentinel-2 tile, uint8 (3, TILE, TILE): patches, a black border, white clouds."""
    generator = np.random.default_rng(0)
    patches = np.stack(list(images.values())).transpose(0, 3, 1, 2)
    across = -(-TILE // SIDE)
    chosen = patches[generator.integers(len(patches), size=(across, across))]
    tile = np.maximum(chosen.transpose(2, 0, 3, 1, 4).reshape(3, across * SIDE, across * SIDE)[:, :TILE, :TILE], 1)
    coarse = ndimage.gaussian_filter(generator.standard_normal((TILE // 60, TILE // 60)), 3)
    clouds = ndimage.zoom(coarse, 60, order=1) > np.quantile(coarse, 0.95)
    tile[:, clouds] = 250
    rows, columns = np.ogrid[:TILE, :TILE]
    tile[:, columns + rows // 4 < TILE // 5] = 0  # the edge of the swath
    return tile


def write(path: Path, scene: Image8) -> None:
    """Write a scene as a true-colour image: lossy JPEG 2000 where the name ends in jp2, as published, else GeoTIFF."""
    profile = {"driver": "GTiff", "dtype": "uint8", "tiled": True, "compress": "deflate", "crs": "EPSG:32651"}
    if path.suffix == ".jp2":
        profile = {"driver": "JP2OpenJPEG", "dtype": "uint8", "quality": 20, "crs": "EPSG:32651"}
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


def separation(path: Path, labels: Path) -> str:
    """Return how well a map separates class 1 of the labels from all other pixels."""
    from sklearn.metrics import roc_auc_score  # the extra `risk`; the other pictures need none

    with rasterio.open(path) as file, rasterio.open(labels) as other:
        values, called = file.read(1), other.read(1) == 1
    known = values != 255
    return f"area under the ROC curve {roc_auc_score(called[known], values[known]):.2f}, {called[known].sum()} pixels"


def map_it(bundle: str, scene: Path, out: Path, options: list[str]) -> None:
    """Run the command on a scene, with polygons and a picture beside the map."""
    products = ["--polygons", str(out.with_suffix(".gpkg")), "--picture", str(out.with_suffix(".png"))]
    command = ["map", bundle, str(scene), *options, "--out", str(out), *products, "--overwrite"]
    print("\n$ zoo", *command, flush=True)
    if run(command) != 0:
        raise SystemExit("the map was not made")


def main() -> None:
    """Map a scene plain and adapted, and measure both maps where the truth is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--data", type=Path, default=DATA)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--scene", default="S2")
    kind.add_argument("--whole-tile", action="store_true")
    kind.add_argument("--chattogram", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("build/first_map"))
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    truth, options, title = None, [], f"Landslide4Sense, scene {arguments.scene}"
    if arguments.chattogram:
        image, options, title = CHATTOGRAM / "mosaic_RGBN_uint16.tif", ["--bands", "red,green,blue,nir"], "Chattogram"
    elif arguments.whole_tile:
        image, title = arguments.out / "T32TQM_20240611T054639_TCI_10m.jp2", "Patches of Landslide4Sense"
        if not image.exists():
            write(image, whole_tile(read_tiles(arguments.data, "S1")[0]))
    else:
        image = arguments.out / f"{arguments.scene}_TCI.tif"
        scene, truth = mosaic(*read_tiles(arguments.data, arguments.scene))
        write(image, scene)
    for name, adapt in (("plain", []), ("adapted", ["--adapt"])):
        target = arguments.out / f"{name}.tif"
        map_it(arguments.bundle, image, target, [*options, *adapt, "--title", title])
        if truth is not None:
            print(f"{name}: {measure(target, truth)}", flush=True)
        if arguments.chattogram:
            print(f"{name}: {separation(target, CHATTOGRAM / 'mosaic_label_uint8.tif')}", flush=True)
    if arguments.picture is not None:
        shrink(arguments.out / "adapted.png", arguments.picture, 1000)


if __name__ == "__main__":
    main()
