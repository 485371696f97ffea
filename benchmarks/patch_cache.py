"""Compare reading patches from the memory-mapped cache and from one HDF5 file per patch, both in the page cache.

Files are written in the format of Landslide4Sense: float64 128 x 128 x 14 under the key "img", uint8 masks.

python benchmarks/patch_cache.py [--patches 512] [--repeats 7] [--json FILE]
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from measuring import make_parser, save_rows


def write(root: Path, count: int) -> None:
    """A training split of noise: what is in the pixels makes no difference to how fast they are read."""
    rng = np.random.default_rng(0)
    for kind in ("img", "mask"):
        (root / "TrainData" / kind).mkdir(parents=True)
    for number in range(1, count + 1):
        with h5py.File(root / "TrainData" / "img" / f"image_{number}.h5", "w") as file:
            file["img"] = rng.normal(1, 0.3, (128, 128, 14))
        with h5py.File(root / "TrainData" / "mask" / f"mask_{number}.h5", "w") as file:
            file["mask"] = (rng.random((128, 128)) < 0.02).astype(np.uint8)


def raw_hdf5(root: Path) -> Callable[[int], object]:
    """What a data set written by hand does: open, read, transpose, convert."""

    def read(index: int) -> object:
        with h5py.File(root / "TrainData" / "img" / f"image_{index + 1}.h5") as file:
            image = np.ascontiguousarray(np.moveaxis(file["img"][:], -1, 0), dtype=np.float32)
        with h5py.File(root / "TrainData" / "mask" / f"mask_{index + 1}.h5") as file:
            return image, file["mask"][:]

    return read


def main() -> None:
    """Print a table, and write its rows with --json."""
    parser = make_parser(__doc__)
    parser.add_argument("--patches", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZOO_CACHE"] = str(Path(folder) / "cache")
        from zoo.datasets.landslide4sense import Landslide4Sense

        root = Path(folder) / "data"
        write(root, arguments.patches)
        start = time.perf_counter()
        cached = Landslide4Sense(root, "train")
        first = time.perf_counter() - start
        start = time.perf_counter()
        cached = Landslide4Sense(root, "train")
        second = time.perf_counter() - start
        plain = Landslide4Sense(root, "train", cache=False)
        readers: dict[str, Callable[[int], object]] = {
            "one HDF5 a patch, by hand": raw_hdf5(root),
            "this data set, cache=False": plain.read,
            "this data set, cached": cached.read,
        }
        count = len(cached)
        order = np.random.default_rng(1).permutation(count).tolist()
        rates: dict[str, list[float]] = {name: [] for name in readers}
        for repeat in range(arguments.repeats + 1):
            for name, read in readers.items():
                start = time.perf_counter()
                for index in order:
                    read(index)
                if repeat:
                    rates[name].append(count / (time.perf_counter() - start))
    base = statistics.median(rates["one HDF5 a patch, by hand"])
    rows = [
        {"reader": name, "patches_per_s": statistics.median(values), "ratio": statistics.median(values) / base}
        for name, values in rates.items()
    ]
    print(f"{count} patches of 14 x 128 x 128; opened first in {first:.1f} s, again in {second:.2f} s")
    print(f"{'reader':28} {'patches/s':>10} {'ratio':>7}")
    for row in rows:
        print(f"{row['reader']:28} {row['patches_per_s']:10.0f} {row['ratio']:7.1f}")
    save_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
