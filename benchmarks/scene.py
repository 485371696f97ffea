"""Compare `zoo map` with MONAI, torchgeo and terratorch, from GeoTIFF to GeoTIFF with the same model.

    python benchmarks/scene.py
    python benchmarks/scene.py --side 2048 --pipelines zoo,monai --repeats 1
    python benchmarks/scene.py --peer-precisions fp32,bf16

A synthetic scene of seven bands (float32, uncompressed) is mapped with a small U-Net (widths 16 to 128, random
weights) in tiles of 512 pixels that overlap by 64. Each run has its own process, and the pipelines take turns. The
time covers everything from opening the scene to closing the GeoTIFF of probabilities, after one warm-up tile. It does
not cover imports, loading the model, or choosing the fastest form, which happens once for each machine and model.
Everything is then repeated with the thresholds of glibc's allocator raised for all through the environment: without
them, torch frees and maps large tensors in every operation, and `zoo map` raises them itself.

The other libraries write a plain uncompressed float32 GeoTIFF; `zoo map` writes a cloud-optimised one with overviews
and compression, as always. MONAI and terratorch read the whole scene first; torchgeo reads it patch by patch.
Libraries that are not installed are left out: pip install monai terratorch
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

BANDS, WIDTHS = 7, (16, 32, 64, 128, 128)
PIPELINES = ("zoo", "monai", "torchgeo", "terratorch")
NEEDS = {"zoo": "zoo", "monai": "monai", "torchgeo": "torchgeo", "terratorch": "terratorch"}
THRESHOLDS = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(4 << 30)}
FLOORS = {
    ("installed", "fp32"): 3.0,
    ("installed", "bf16"): 4.5,
    ("thresholds", "fp32"): 1.7,
    ("thresholds", "bf16"): 2.4,
}


def write_scene(path: Path, side: int) -> None:
    """Seven smooth bands with noise, written by strips."""
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "width": side, "height": side, "count": BANDS, "dtype": "float32"}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512}
    place = {"crs": "EPSG:32643", "transform": from_origin(600_000, 3_800_000, 10, 10)}
    with rasterio.open(path, "w", **profile, **tiles, **place) as file:
        for top in range(0, side, 512):
            rows = min(512, side - top)
            y, x = np.mgrid[top : top + rows, :side].astype(np.float32)
            for band in range(BANDS):
                values = np.sin(x / (40 + 9 * band)) * np.cos(y / (50 + 7 * band))
                values += rng.standard_normal((rows, side), np.float32) / 4
                file.write(values.astype(np.float32), band + 1, window=Window(0, top, side, rows))
        for band in range(BANDS):
            file.set_band_description(band + 1, f"c{band}")
            file.set_band_unit(band + 1, "1")


def write_bundle(folder: Path) -> None:
    """A small U-Net that was never trained: what it says takes as long as what a trained one says."""
    import torch

    from zoo.datasets.statistics import BandStatistics, Statistics
    from zoo.physics import Band
    from zoo.registry import create_model
    from zoo.training.bundle import Bundle
    from zoo.training.bundle_layout import ComputeFormat

    torch.manual_seed(0)
    model = create_model("unet", BANDS, 2, widths=WIDTHS)
    names = [f"c{band}" for band in range(BANDS)]
    Bundle(
        model="unet",
        options={"widths": list(WIDTHS)},
        bands=tuple(Band(name, "1") for name in names),
        statistics=Statistics(tuple(BandStatistics(name, 0, 0.55, -2, 2, -1.5, 1.5, 1) for name in names), 1),
        compute_format=ComputeFormat("fp32", channels_last=True),
        class_names=("background", "landslide"),
        threshold=0.5,
        state=model.state_dict(),
    ).save(folder)


def rare(predictor: Any) -> float:
    """The probability that one pixel in two hundred of such a scene reaches, as landslides are rare on a map."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        logits = predictor(0.55 * torch.randn(1, BANDS, 256, 256, generator=generator))
    return float(predictor.landslide_probability(logits).quantile(0.995))


def network(folder: Path, precision: str) -> Callable[[Any], Any]:
    """The bundle's model as the other libraries take it: image in units to (B, 1, H, W) probabilities."""
    import torch

    from zoo.training.bundle import Bundle

    predictor = Bundle.load(folder).predictor()

    def run(image: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = predictor(image)
        return predictor.landslide_probability(logits)[:, None]

    return run


def write_plain(path: Path, probability: np.ndarray, scene: Path) -> None:
    """One band of float32 on the grid of the scene."""
    import rasterio

    with rasterio.open(scene) as source:
        profile = {**source.profile, "count": 1, "dtype": "float32"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(probability.astype(np.float32, copy=False), 1)


def run_monai(scene: Path, bundle: Path, out: Path, precision: str, a: argparse.Namespace) -> Callable[[], None]:
    """SlidingWindowInferer on the whole scene."""
    import rasterio
    import torch
    from monai.inferers import SlidingWindowInferer

    model = network(bundle, precision)
    inferer = SlidingWindowInferer((a.tile, a.tile), sw_batch_size=a.batch, overlap=a.overlap / a.tile)

    def work() -> None:
        with rasterio.open(scene) as source:
            image = torch.from_numpy(source.read())[None]
        write_plain(out, inferer(image, model)[0, 0].numpy(), scene)

    return _warmed(model, a, work)


def run_torchgeo(scene: Path, bundle: Path, out: Path, precision: str, a: argparse.Namespace) -> Callable[[], None]:
    """RasterDataset and GridGeoSampler, overlaps averaged."""
    import rasterio
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    model = network(bundle, precision)

    class Scene(RasterDataset):
        filename_glob = scene.name

    def work() -> None:
        dataset = Scene(str(scene.parent))
        sampler = GridGeoSampler(dataset, size=a.tile, stride=a.tile - a.overlap)
        with rasterio.open(scene) as source:
            transform, (rows, columns) = source.transform, source.shape
        total, count = np.zeros((rows, columns), np.float32), np.zeros((rows, columns), np.float32)
        for batch in DataLoader(dataset, batch_size=a.batch, sampler=sampler, collate_fn=stack_samples):
            found = model(batch["image"])[:, 0].numpy()
            for patch, (x, y, *_) in zip(found, batch["bounds"], strict=True):
                column, row = (round(one) for one in ~transform * (x.start, y.stop))
                top, left = max(row, 0), max(column, 0)
                bottom, right = min(row + a.tile, rows), min(column + a.tile, columns)
                total[top:bottom, left:right] += patch[top - row : bottom - row, left - column : right - column]
                count[top:bottom, left:right] += 1
        write_plain(out, total / np.maximum(count, 1), scene)

    return _warmed(model, a, work)


def run_terratorch(scene: Path, bundle: Path, out: Path, precision: str, a: argparse.Namespace) -> Callable[[], None]:
    """tiled_inference on the whole scene."""
    import rasterio
    import torch
    from terratorch.tasks.tiled_inference import tiled_inference

    model = network(bundle, precision)

    def work() -> None:
        with rasterio.open(scene) as source:
            image = torch.from_numpy(source.read())[None]
        found = tiled_inference(
            model, image, crop=a.tile, stride=a.tile - a.overlap, delta=0, batch_size=a.batch, padding=False
        )
        write_plain(out, found[0, 0].numpy(), scene)

    return _warmed(model, a, work)


def _warmed(model: Callable[[Any], Any], a: argparse.Namespace, work: Callable[[], None]) -> Callable[[], None]:
    import torch

    def warmed() -> None:
        with torch.inference_mode():
            work()

    with torch.inference_mode():
        model(torch.zeros(a.batch, BANDS, a.tile, a.tile))
    return warmed


def run_zoo(scene: Path, bundle: Path, out: Path, precision: str, a: argparse.Namespace) -> Callable[[], None]:
    """What `zoo map` runs; the time that threads spend in the model is added up beside it."""
    import torch

    from zoo.deploy import raise_allocator_thresholds
    from zoo.mapping import MapOptions, Scene, map_scene
    from zoo.mapping.inference import TileForward, choose_form
    from zoo.mapping.tiling import Plan
    from zoo.rasters.reading import gdal_threads
    from zoo.training.bundle import Bundle

    raise_allocator_thresholds()
    loaded = Bundle.load(bundle)
    options = MapOptions(tile=a.tile, overlap=a.overlap)
    predictor = loaded.predictor()
    with Scene([scene], loaded.bands) as opened:
        plan = Plan(opened.shape, a.tile, a.overlap)
        fast, form, _ = choose_form(predictor, opened, plan, precision, torch.device("cpu"), rare(predictor))
    FORMS.append(form.name)
    plain, lock = TileForward.__call__, threading.Lock()

    def timed(self: TileForward, image: np.ndarray) -> np.ndarray:
        begin = time.perf_counter()
        found = plain(self, image)
        with lock:
            MODEL_SECONDS.append(time.perf_counter() - begin)
        return found

    TileForward.__call__ = timed

    def work() -> None:
        MODEL_SECONDS.clear()
        with gdal_threads(scene), Scene([scene], loaded.bands) as opened:
            map_scene(fast, opened, out, options, overwrite=True)
        WORKERS.append(options.workers)

    return work


FORMS: list[str] = []
MODEL_SECONDS: list[float] = []
WORKERS: list[int] = []


def child(a: argparse.Namespace) -> None:
    """One run in this process; prints a row as JSON."""
    folder = Path(a.folder)
    out = folder / f"{a.child}.tif"
    work = globals()[f"run_{a.child}"](folder / "scene.tif", folder / "bundle", out, a.precision, a)
    begin = time.perf_counter()
    work()
    seconds = time.perf_counter() - begin
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "this needs Linux's /proc"
    outside = None
    if MODEL_SECONDS:
        outside = 1 - sum(MODEL_SECONDS) / (WORKERS[-1] * seconds)
    row = {"seconds": seconds, "peak_memory_mb": int(found[1]) / 1024, "outside_model": outside}
    print(json.dumps({**row, "form": FORMS[-1] if FORMS else "eager"}))


def measure(a: argparse.Namespace, folder: Path, pipeline: str, precision: str, allocator: str) -> dict[str, Any]:
    """Start a process for one run."""
    environment = {
        **os.environ,
        "ZOO_CACHE": str(folder / "cache"),
        **(THRESHOLDS if allocator == "thresholds" else {}),
    }
    given = [f"--{name}={getattr(a, name)}" for name in ("tile", "overlap", "batch")]
    command = [sys.executable, __file__, "--child", pipeline, "--precision", precision, "--folder", str(folder), *given]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{pipeline}, {precision}: {done.stderr.strip().splitlines()[-1]}")
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return row


def difference(folder: Path, pipeline: str) -> float:
    """Mean difference of a pipeline's probabilities from those of `zoo map`, over every 16th row."""
    import rasterio
    from rasterio.windows import Window

    with rasterio.open(folder / "zoo.tif") as ours, rasterio.open(folder / f"{pipeline}.tif") as theirs:
        scale = ours.scales[0]
        rows = [Window(0, row, ours.width, 1) for row in range(0, ours.height, 16)]
        return float(np.mean([np.abs(ours.read(1, window=w) * scale - theirs.read(1, window=w)).mean() for w in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4096, help="pixels along a side of the scene")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--overlap", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4, help="tiles a pass of the other libraries takes")
    parser.add_argument("--pipelines", default=",".join(PIPELINES), help="separated by commas")
    parser.add_argument("--precisions", default="fp32,bf16", help="of zoo map")
    parser.add_argument("--peer-precisions", default="fp32", help="of the others; bf16 is autocast")
    parser.add_argument("--allocators", default="installed,thresholds")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child:
        child(a)
        return
    wanted = a.pipelines.split(",")
    missing = [name for name in wanted if find_spec(NEEDS[name]) is None]
    if missing:
        print(f"left out, as not installed: {', '.join(missing)} (pip install {' '.join(missing)})")
    runs = [
        (name, precision, allocator)
        for allocator in a.allocators.split(",")
        for name in wanted
        if name not in missing
        for precision in (a.precisions if name == "zoo" else a.peer_precisions).split(",")
    ]
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {run: [] for run in runs}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scene(folder / "scene.tif", a.side)
        write_bundle(folder / "bundle")
        for _ in range(a.repeats):
            for run in runs:
                found[run].append(measure(a, folder, *run))
        if "zoo" in wanted:
            for peer in sorted({run[0] for run in runs} - {"zoo"}):
                print(f"{peer}: mean |dp| from zoo map {difference(folder, peer):.4f}")
    report(a, found)


def report(a: argparse.Namespace, found: dict[tuple[str, str, str], list[dict[str, Any]]]) -> None:
    """Print medians and ratios to the fastest peer under the same allocator, and write them as JSON."""
    rows = []
    for (pipeline, precision, allocator), runs in found.items():
        speed = statistics.median(a.side**2 / 1e6 / run["seconds"] for run in runs)
        outside = [run["outside_model"] for run in runs if run["outside_model"] is not None]
        rows.append(
            {
                "pipeline": pipeline,
                "precision": precision,
                "allocator": allocator,
                "side": a.side,
                "megapixels_per_s": speed,
                "peak_memory_mb": max(run["peak_memory_mb"] for run in runs),
                "outside_model": statistics.median(outside) if outside else None,
                "form": runs[-1]["form"],
            }
        )
    print(
        f"{'allocator':<11} {'pipeline':<11} {'format':<6} {'Mpx/s':>6} {'peak MB':>8} {'ratio':>6} {'floor':>6}  ",
        end="",
    )
    print("reading, preparing, blending, writing")
    for row in rows:
        peers = [
            other["megapixels_per_s"]
            for other in rows
            if other["pipeline"] != "zoo" and other["precision"] == "fp32" and other["allocator"] == row["allocator"]
        ]
        row["ratio"] = row["megapixels_per_s"] / max(peers) if peers else None
        floor = FLOORS.get((row["allocator"], row["precision"])) if row["pipeline"] == "zoo" else None
        print(
            f"{row['allocator']:<11} {row['pipeline']:<11} {row['precision']:<6} {row['megapixels_per_s']:6.2f} "
            f"{row['peak_memory_mb']:8.0f} {'-' if row['ratio'] is None else format(row['ratio'], '6.2f'):>6} "
            f"{'' if floor is None else format(floor, '.1f'):>6}  "
            + ("" if row["outside_model"] is None else f"{row['outside_model']:.0%}, {row['form']}"),
            flush=True,
        )
    print("ratio: to the fastest of the others in fp32 under the same allocator")
    print("outside the model: share of the threads' time for reading, preparing, blending and writing")
    if a.json:
        a.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
