"""Compare the peak memory of `zoo stack` on a whole Sentinel-2 tile and on one with a sixteenth of its pixels.

    python benchmarks/stack_memory.py
    python benchmarks/stack_memory.py --sides 1372,2745

Each stack (seven channels, OPTRAM, LSI with its own percentiles: three passes) runs in its own process on synthetic
bands in a temporary folder, which needs about 12 GB for the whole tile. If the peak does not grow with the scene, a
scene of any size can be stacked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from measuring import compare_sides
from rasterio.transform import from_origin
from rasterio.windows import Window

TILE = 10_980
LEVELS = {"green": 600, "red": 500, "nir": 3000, "swir": 1800, "swir2": 1100}

CHILD = """
import json, sys
from pathlib import Path
from zoo.rasters.layers import BandFile, Sources
from zoo.rasters.stacking import StackOptions
from zoo.rasters.stacking import build_stack
folder = Path(sys.argv[1])
files = {
    role: BandFile(str(folder / f"{role}.tif"), offset=-1000.0, scale=1e-4)
    for role in ("green", "red", "nir", "swir", "swir2")
}
files["dem"] = BandFile(str(folder / "dem.tif"))
build_stack(Sources(files), folder / "stack.tif", StackOptions(moisture="optram"))
print(Path("/proc/self/status").read_text())
"""


def write_scene(folder: Path, side: int) -> None:
    """Bands at 10 m, SWIR at 20 m and a DEM at 30 m of another origin, written by strips."""
    for role in (*LEVELS, "dem"):
        pixel = {"swir": 20, "swir2": 20, "dem": 30}.get(role, 10)
        count = -(-side * 10 // pixel)
        dtype = "float32" if role == "dem" else "uint16"
        rng = np.random.default_rng(len(role))
        across = np.sin(np.arange(count) * pixel / 900.0)
        with rasterio.open(
            folder / f"{role}.tif",
            "w",
            driver="GTiff",
            width=count,
            height=count,
            count=1,
            dtype=dtype,
            crs="EPSG:32643",
            transform=from_origin(600_000, 3_800_000, pixel, pixel),
            tiled=True,
            compress="deflate",
            zlevel=1,
        ) as file:
            for top in range(0, count, 512):
                rows = min(512, count - top)
                field = np.cos(np.arange(top, top + rows) * pixel / 700.0)[:, None] * across
                if role == "dem":
                    values = 1500 + 600 * field
                else:
                    # Wet and dry ground of every greenness, or OPTRAM would find no trapezoid.
                    speckle = rng.integers(-LEVELS[role] // 3, LEVELS[role] // 3, (rows, count))
                    values = 1000 + LEVELS[role] * (1 + (0.4 if role == "nir" else -0.4) * field) + speckle
                file.write(values.astype(dtype), 1, window=Window(0, top, count, rows))


if __name__ == "__main__":
    compare_sides(__doc__, f"{TILE // 4},{TILE}", CHILD, write_scene)
