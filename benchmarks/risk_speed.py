"""Compare the speed of `zoo risk map` with copying the same raster with rasterio, and measure its peak memory.

    python benchmarks/risk_speed.py --side 3000
    python benchmarks/risk_speed.py --side 10000 --compress none,deflate --repeats 3 --json speed.json

A synthetic stack of seven float32 bands is written to a temporary folder (2.8 GB at 10,000 x 10,000 without
compression; the outputs need twice that). The copy and the map run in their own processes and take turns, with the
same tiles and compression and with the number of GDAL threads that makes the copy fastest. Each ends when its bytes
are on the disk. The copy reads and writes seven bands; the map reads seven and writes one, as a cloud-optimised file
with overviews (and its classes with --classes). 100 % is the speed of the copy. If other programs use the machine,
compare processor time.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from measuring import make_parser, run_job, save_rows
from rasterio.transform import from_origin
from rasterio.windows import Window

TILE = 512
BANDS = {"SMI": "1", "NDBI": "1", "NDVI": "1", "NDWI": "1", "slope": "degree", "DEM": "m", "LSI": "1"}

COPY = """
import os, re, sys, time
from pathlib import Path
import rasterio
from rasterio.windows import Window
source_path, target_path, compress = sys.argv[1:4]
begin, begin_cpu = time.perf_counter(), time.process_time()
threads = {} if compress == "none" else {"GDAL_NUM_THREADS": "ALL_CPUS"}
with rasterio.Env(GDAL_CACHEMAX=128, **threads), rasterio.open(source_path) as source:
    profile = {**source.profile, "tiled": True, "blockxsize": 512, "blockysize": 512, "bigtiff": "IF_SAFER"}
    profile["compress"] = None if compress == "none" else compress
    if compress != "none":
        profile["predictor"] = 3
    with rasterio.open(target_path, "w", **profile) as target:
        for row in range(0, source.height, 1024):
            for column in range(0, source.width, 1024):
                height, width = min(1024, source.height - row), min(1024, source.width - column)
                window = Window(column, row, width, height)
                target.write(source.read(window=window), window=window)
with open(target_path, "rb") as file:
    os.fsync(file.fileno())
print(time.perf_counter() - begin, time.process_time() - begin_cpu)
print(Path("/proc/self/status").read_text())
"""

MAP = """
import sys, time
from pathlib import Path
from zoo.physics import FeatureRange, IndexParameters, PAPER_WEIGHTS
from zoo.rasters.reading import gdal_threads
from zoo.rasters.stacks import Stack
from zoo.risk.index import RiskIndex
from zoo.risk.mapping import write_map
from zoo.risk.surfaces import prepare_index
source_path, target_path, compress, classes = sys.argv[1:5]
ranges = {name: FeatureRange(0, 1) for name in PAPER_WEIGHTS} | {
    "slope": FeatureRange(0, 60), "DEM": FeatureRange(500, 3000)
}
index = RiskIndex(IndexParameters(ranges=ranges))
begin, begin_cpu = time.perf_counter(), time.process_time()
with gdal_threads(source_path), Stack(source_path) as stack:
    prepared = prepare_index(stack, index, rain=(12.0, 2.0), classes=(0.5, 0.6))
    where = Path(classes) if classes != "-" else None
    write_map(stack, prepared, Path(target_path), where, compress=compress)
print(time.perf_counter() - begin, time.process_time() - begin_cpu)
print(Path("/proc/self/status").read_text())
"""


def write_stack(path: Path, side: int, compress: str) -> None:
    """Smooth fields with the noise of a sensor, written by strips."""
    rng = np.random.default_rng(0)
    across = np.sin(np.arange(side) / 90.0)
    with rasterio.open(
        path,
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
        blockxsize=TILE,
        blockysize=TILE,
        interleave="band",
        bigtiff="IF_SAFER",
        **({} if compress == "none" else {"compress": compress, "predictor": 3}),
    ) as file:
        for number, (name, unit) in enumerate(BANDS.items(), 1):
            file.set_band_description(number, name)
            file.set_band_unit(number, unit)
        for top in range(0, side, TILE):
            rows = min(TILE, side - top)
            field = np.cos(np.arange(top, top + rows) / 70.0)[:, None] * across
            for number, name in enumerate(BANDS, 1):
                scale, middle = {"slope": (25, 30), "DEM": (1200, 1700)}.get(name, (0.4, 0.5))
                noise = rng.normal(0, 0.02, (rows, side))
                values = (middle + scale * (field + noise)).astype(np.float32)
                file.write(values, number, window=Window(0, top, side, rows))


def measure(code: str, *arguments: object) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak memory in MB of a job in a process of its own."""
    output, _, peak = run_job(code, *arguments)
    seconds, processor = map(float, output.split()[:2])
    return seconds, processor, peak


def compare(side: int, compress: str, repeats: int, classes: bool) -> dict[str, object]:
    """One row: medians over repeats that take turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_stack(folder / "stack.tif", side, compress)
        copies, maps = [], []
        class_file = folder / "classes.tif" if classes else "-"
        for _ in range(repeats):
            copies.append(measure(COPY, folder / "stack.tif", folder / "copy.tif", compress))
            (folder / "copy.tif").unlink()
            maps.append(measure(MAP, folder / "stack.tif", folder / "map.tif", compress, class_file))
            (folder / "map.tif").unlink()
    copy_seconds, map_seconds = (statistics.median(row[0] for row in rows) for rows in (copies, maps))
    copy_processor, map_processor = (statistics.median(row[1] for row in rows) for rows in (copies, maps))
    return {
        "side": side,
        "compress": compress,
        "classes": classes,
        "copy_seconds": copy_seconds,
        "map_seconds": map_seconds,
        "speed_of_copy": copy_seconds / map_seconds,
        "copy_processor_seconds": copy_processor,
        "map_processor_seconds": map_processor,
        "copy_peak_mb": max(row[2] for row in copies),
        "map_peak_mb": max(row[2] for row in maps),
        "repeats": repeats,
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--side", default="2000,4000", help="pixels along a side, separated by commas")
    parser.add_argument("--compress", default="none,deflate", help="none, deflate, zstd or lzw, separated by commas")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--classes", action="store_true", help="write the class raster too")
    arguments = parser.parse_args()
    rows = []
    print(
        f"{'pixels':>15}  {'compress':>8}  {'copy s':>7}  {'map s':>7}  {'map/copy speed':>14}  "
        f"{'copy cpu s':>10}  {'map cpu s':>9}  {'peak MB':>7}"
    )
    for compress in arguments.compress.split(","):
        for side in map(int, arguments.side.split(",")):
            row = compare(side, compress, arguments.repeats, arguments.classes)
            rows.append(row)
            print(
                f"{side:>6} x {side:<6}  {compress:>8}  {row['copy_seconds']:7.2f}  {row['map_seconds']:7.2f}  "
                f"{row['speed_of_copy']:14.0%}  {row['copy_processor_seconds']:10.2f}  "
                f"{row['map_processor_seconds']:9.2f}  {row['map_peak_mb']:7.0f}",
                flush=True,
            )
    save_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
