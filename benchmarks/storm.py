"""Simulate a storm in IMERG's layout over a terrain, from half-hourly files to alerts and an animation.

    python benchmarks/storm.py --out build/storm
    python benchmarks/storm.py --out build/storm --side 4000 --hours 24 --every 12
    python benchmarks/storm.py --out build/kashmir --stack terrain.tif --weights weights.json

Writes half-hourly IMERG files (HDF5, 0.1 degree) of a rain cell that moves across the stack, and four districts, runs
``zoo.risk.watch`` on them, and prints time and memory. Without --stack, it writes a smooth synthetic terrain with
slope and DEM (30 m), and its weights. The time of a step includes reading the stack, the index, its classes, the
picture and the shares.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import shapely
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds
from rasterio.windows import Window

import zoo

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.rasters.rain_layouts import axis, write_imerg

DAY = datetime(2024, 7, 29)
PEAK = 15.0
"""mm/h in the middle of the storm."""


def write_stack(path: Path, side: int) -> None:
    """Write slope and DEM of a smooth terrain, row by row of tiles."""
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=2, dtype="float32", crs="EPSG:32643", nodata=np.nan,
        transform=from_origin(330_000, 3_830_000, 30, 30), tiled=True, blockxsize=512, blockysize=512,
    ) as file:  # fmt: skip
        for row in range(0, side, 512):
            y, x = np.mgrid[row : min(row + 512, side), :side].astype(np.float32) * 30
            slope = 22 + 18 * np.sin(x / 900) * np.cos(y / 700) + 4 * np.sin((x + y) / 210)
            image = np.stack([np.clip(slope, 0, 70), 1500 + y / 20 + 300 * np.sin(x / 4000)])
            file.write(image.astype(np.float32), window=Window(0, row, side, y.shape[0]))
        for number, (name, unit) in enumerate((("slope", "degree"), ("DEM", "m")), 1):
            file.set_band_description(number, name)
            file.set_band_unit(number, unit)


def write_weights(path: Path) -> None:
    """Write a log-additive index of slope with breaks."""
    about = {
        "weights": {"slope": 1.0},
        "features": {"slope": {"low": 0.0, "high": 45.0, "unit": "degree"}},
        "risk": {
            "version": 1, "form": "log-additive", "coefficients": {"intercept": -4.0, "slope": 3.0, "gain": 1.0},
            "method": "expert", "intervals": {}, "classes": {"low": 0.05, "high": 0.15, "method": "fixed"},
            "region": {}, "evaluation": {}, "provenance": {},
        },
    }  # fmt: skip
    path.write_text(json.dumps(about))


def write_storm(folder: Path, stack: Path, hours: int) -> None:
    """Write half-hourly files of a cell of rain that crosses the stack from south-west to north-east."""
    with rasterio.open(stack) as file:
        west, south, east, north = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    west, south = np.floor(west * 10) / 10 - 0.45, np.floor(south * 10) / 10 - 0.45
    lons, lats = axis(west, int((east - west) * 10) + 6), axis(south, int((north - south) * 10) + 6)
    folder.mkdir(parents=True, exist_ok=True)
    for half in range(2 * hours):
        share = (half / (2 * hours) - 0.2) / 0.6
        x, y = west + share * (east - west + 0.4), south + share * (north - south + 0.4)
        distance = ((lons[None] - x) ** 2 + (lats[:, None] - y) ** 2) / (2 * 0.25**2)
        rate = np.where((share >= 0) & (share <= 1), PEAK * np.exp(-distance), 0.0)
        write_imerg(folder, DAY + timedelta(minutes=30 * half), np.where(rate < 0.1, 0, rate), lons, lats)


def write_districts(path: Path, stack: Path) -> None:
    """Write the four quarters of a stack."""
    with rasterio.open(stack) as file:
        left, bottom, right, top = file.bounds
        crs = file.crs
    x, y = (left + right) / 2, (bottom + top) / 2
    quarters = {
        "north-west": (left, y, x, top), "north-east": (x, y, right, top),
        "south-west": (left, bottom, x, y), "south-east": (x, bottom, right, y),
    }  # fmt: skip
    shapes = [shapely.box(*box) for box in quarters.values()]
    geopandas.GeoDataFrame({"name": list(quarters)}, geometry=shapes, crs=crs).to_file(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stack", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--side", type=int, default=1000)
    parser.add_argument("--hours", type=int, default=48)
    parser.add_argument("--every", type=float, default=6.0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    stack, weights = given.stack or given.out / "stack.tif", given.weights or given.out / "weights.json"
    if given.stack is None:
        write_stack(stack, given.side)
        write_weights(weights)
    write_storm(given.out / "imerg", stack, given.hours)
    write_districts(given.out / "districts.gpkg", stack)
    before, times = time.perf_counter(), []
    cpu = time.process_time()
    report = zoo.risk.watch(
        stack, given.out / "imerg", given.out / "watch", weights=weights, every=given.every,
        districts=given.out / "districts.gpkg", progress=lambda done, total: times.append(time.perf_counter()),
    )  # fmt: skip
    spent = np.diff(times)
    with rasterio.open(stack) as file:
        print(f"{file.width} x {file.height} pixels, {given.hours * 2} half-hourly files, {len(report.made)} steps")
    print(f"reading the rain and the first step {times[0] - before:.1f} s; each further step "
          f"{np.median(spent) if len(spent) else float('nan'):.1f} s (median); "
          f"{time.process_time() - cpu:.0f} processor seconds")  # fmt: skip
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    print((given.out / "watch" / "alerts.csv").read_text())


if __name__ == "__main__":
    main()
