"""Compare the peak memory of `zoo map` on a large scene and on a scene with a sixteenth of its pixels.

    python benchmarks/map_memory.py
    python benchmarks/map_memory.py --sides 4096,16384 --json memory.json

Each map (seven float32 channels, tile 512, overlap 64, uint8 with overviews and classes) runs in its own process and
in a temporary folder, which needs about 9 GB for the large scene. The model is one 3x3 convolution, so the figures
show reading, blending, journalling and writing. If the peak does not grow with the scene, a scene of any size can be
mapped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from measuring import compare_sides
from rasterio.transform import from_origin
from rasterio.windows import Window

BANDS = {"SMI": "1", "NDBI": "1", "NDVI": "1", "NDWI": "1", "slope": "degree", "DEM": "m", "LSI": "1"}

CHILD = """
import sys
from pathlib import Path
import torch
from zoo.mapping import MapOptions, ProbabilityClasses, Scene, map_scene
from zoo.physics.bands import PAPER_CHANNELS
from zoo.training.predictor import Predictor
folder = Path(sys.argv[1])
torch.manual_seed(0)
predictor = Predictor(torch.nn.Conv2d(7, 2, 3, padding=1), [0.0] * 7, [1.0] * 7).eval()
classes = ProbabilityClasses(("low", "high"), (0.5,))
with Scene([folder / "scene.tif"], PAPER_CHANNELS) as scene:
    map_scene(predictor, scene, folder / "prob.tif", MapOptions(threads=2), classes=classes,
              classes_out=folder / "classes.tif")
print(Path("/proc/self/status").read_text())
"""


def write_scene(folder: Path, side: int) -> None:
    """Noise in seven bands, uncompressed tiles, written by rows of them."""
    rng = np.random.default_rng(0)
    strip = rng.normal(0, 1, (len(BANDS), 512, side)).astype(np.float32)
    with rasterio.open(
        folder / "scene.tif",
        "w",
        driver="GTiff",
        width=side,
        height=side,
        count=len(BANDS),
        dtype="float32",
        crs="EPSG:32643",
        transform=from_origin(600_000, 3_800_000, 10, 10),
        nodata=np.nan,
        tiled=True,
        blockxsize=512,
        blockysize=512,
        bigtiff="IF_SAFER",
    ) as file:
        for number, (name, unit) in enumerate(BANDS.items(), 1):
            file.set_band_description(number, name)
            file.set_band_unit(number, unit)
        for top in range(0, side, 512):
            rows = min(512, side - top)
            file.write(np.roll(strip, top // 7, axis=2)[:, :rows], window=Window(0, top, side, rows))


if __name__ == "__main__":
    compare_sides(__doc__, "4096,16384", CHILD, write_scene)
