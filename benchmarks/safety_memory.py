"""Measure the peak memory and time of `zoo risk safety` on stacks of several sizes.

    python benchmarks/safety_memory.py --sides 1000,2000,4000

Flow routing needs the whole elevation model in memory. Each map (20 random soils) runs in its own process, on
synthetic terrain in a temporary folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from measuring import compare_sides
from rasterio.transform import from_origin

CHILD = """
import sys
from pathlib import Path
import zoo
folder = Path(sys.argv[1])
zoo.risk.safety(folder / "stack.tif", folder / "failure.tif", rain=(12, 2), draws=20)
print(Path("/proc/self/status").read_text())
"""


def write_stack(folder: Path, side: int) -> None:
    """Write slope and elevation of rolling hills with pixels of 10 m."""
    rng = np.random.default_rng(0)
    place = np.arange(side) * 10.0
    hills = 300 * np.sin(place / 900)[:, None] * np.cos(place / 700) + 0.05 * place + rng.normal(0, 0.5, (side, side))
    down, across = np.gradient(hills, 10.0)
    slope = np.degrees(np.arctan(np.hypot(down, across)))
    size = {"width": side, "height": side, "count": 2, "dtype": "float32", "tiled": True}
    place_of = {"crs": "EPSG:32643", "transform": from_origin(600_000, 3_800_000, 10, 10)}
    with rasterio.open(folder / "stack.tif", "w", driver="GTiff", **size, **place_of) as file:
        file.write(np.stack([slope, hills]).astype(np.float32))
        file.descriptions, file.units = ("slope", "DEM"), ("degree", "m")


if __name__ == "__main__":
    compare_sides(__doc__, "1000,2000,4000", CHILD, write_stack)
