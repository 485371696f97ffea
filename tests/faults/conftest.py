"""Real commands on tiny real inputs, run in copies of one warm process (:mod:`tests.faults.launcher`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely

from tests.conftest import REPOSITORY, write_patches
from tests.mapping.conftest import bundle as bundle
from tests.mapping.conftest import make_image
from tests.rasters.geotiffs import write_geotiff

OPTICAL = ("green", "red", "nir", "swir")
TRAINING = ("--steps", "8", "--batch-size", "4", "--crop", "0", "--precision", "fp32", "--device", "cpu")
GROUPS = ("--group-column", "scene", "--train-groups", "s0", "--val-groups", "s1", "--test-groups", "s2")
UNTIMED = {"started", "seconds", "resumed_from", "environment", "speed", "speed_protocol"}
"""Fields of JSON files that say when, how fast and in how many parts something was computed."""


@dataclass(frozen=True)
class Run:
    """What became of a command."""

    code: int
    events: int
    seconds: float
    orphans: list[int]
    errors: str
    folder: Path


@dataclass(frozen=True)
class Command:
    """A command of ``zoo`` that leaves its files in the folder where it runs.

    Attributes:
        arguments: the command line; ``{inputs}`` is the folder of the inputs.
        private: parts of file names that are no results: resume state and logs.
    """

    arguments: tuple[str, ...]
    private: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


COMMANDS = {
    "map": Command(
        (
            *("map", "{inputs}/bundle", "{inputs}/scene.tif", "--out", "prob.tif", "--tile", "64", "--overlap", "32"),
            *("--classes", "low,high", "--polygons", "slides.parquet", "--threads", "1", "--any-pixel-size"),
        )
    ),
    "stack": Command(
        (
            *("stack", "--dem", "{inputs}/dem.tif", "--rain", "12,2", "--baseline", "05.09", "--moisture", "ndmi"),
            *(word for role in OPTICAL for word in (f"--{role}", f"{{inputs}}/{role}.tif")),
            *("--out", "stack.tif"),
        )
    ),
    "risk map": Command(
        ("risk", "map", "{inputs}/stack.tif", "--rain", "12,2", "--out", "risk.tif", "--classes-out", "classes.tif")
    ),
    "patches": Command(
        (
            *("patches", "{inputs}/stack.tif", "--inventory", "{inputs}/slides.geojson", "--out", "patches"),
            *("--size", "32", "--phase", "post", "--negatives-per-positive", "1"),
        )
    ),
    "polygons": Command(("polygons", "{inputs}/prob.tif", "--out", "outlines.gpkg", "--scene", "{inputs}/scene.tif")),
    "train": Command(
        (
            *("train", "unet", "--data", "{inputs}/patches", *GROUPS, *TRAINING),
            *("--option", "widths=[4,4,4,4,4]", "--out", "run", "--resume"),
        ),
        private=("resume", ".log"),
    ),
    "bench": Command(
        ("bench", "--config", "{inputs}/bench.toml", "--seeds", "2", "--no-speed", "--out", "results", *TRAINING),
        private=("resume", ".log"),
    ),
}
BENCHMARK = """
title = "faults"
recipe = "quick"
[data]
name = "folder"
root = "{inputs}/patches"
group_column = "scene"
train_groups = ["s0"]
val_groups = ["s1"]
test_groups = ["s2"]
[[models]]
model = "unet"
options = {{ widths = [4, 4, 4, 4, 4] }}
"""


class Zoo:
    """Runs commands in copies of a warm process."""

    def __init__(self, inputs: Path, scratch: Path) -> None:
        self.inputs, self.scratch = inputs, scratch
        self._count = 0
        self._undisturbed: dict[str, tuple[Run, dict[str, bytes]]] = {}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ZOO_CACHE": str(scratch / "cache"), "ZOO_PLUGINS": "none"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.launcher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=environment,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the launcher died"
        return line

    def close(self) -> None:
        """End the warm process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def new_folder(self, base: Path | None = None) -> Path:
        """Return a new folder for a command to run in."""
        self._count += 1
        folder = (base or self.scratch) / f"run{self._count}"
        folder.mkdir()
        return folder

    def together(self, *tasks: tuple[str, Path, Mapping[str, Any]]) -> list[Run]:
        """Run commands, given as name, folder and fault, at the same time."""
        sent = []
        for number, (name, folder, fault) in enumerate(tasks):
            arguments = [word.format(inputs=self.inputs) for word in COMMANDS[name].arguments]
            log = str(self.scratch / f"log{number}")
            sent.append({"arguments": arguments, "folder": str(folder), "fault": dict(fault), "log": log})
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(sent) + "\n")
        self._process.stdin.flush()
        runs = []
        for task, end in zip(sent, json.loads(self._line()), strict=True):
            errors = Path(task["log"] + ".err").read_text(errors="replace")
            assert "Traceback" not in errors, errors
            assert "this is a bug" not in errors, errors
            runs.append(Run(**end, errors=errors, folder=Path(task["folder"])))
        return runs

    def run(self, name: str, folder: Path, **fault: Any) -> Run:
        """Run one command, with a fault or without."""
        return self.together((name, folder, fault))[0]

    def fuzz(self, reader: str, corpus: Path, folder: Path, seed: int, count: int) -> dict[str, Any]:
        """Let a reader read damaged files, and return the figures of :func:`tests.faults.fuzzing.fuzz`."""
        log = str(self.scratch / "fuzz")
        task = {"fuzz": reader, "corpus": str(corpus / reader), "seed": seed, "count": count}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([{**task, "folder": str(folder), "log": log}]) + "\n")
        self._process.stdin.flush()
        [end] = json.loads(self._line())
        assert end["code"] == 0, f"{reader}: {end}\n{Path(log + '.err').read_text(errors='replace')[-3000:]}"
        figures: dict[str, Any] = json.loads(Path(log + ".out").read_text().splitlines()[-1])
        return figures

    def undisturbed(self, name: str) -> tuple[Run, dict[str, bytes]]:
        """Return a run without faults and the files that it leaves."""
        if name not in self._undisturbed:
            done = self.run(name, self.new_folder())
            assert done.code == 0, done.errors
            self._undisturbed[name] = done, contents(done.folder)
        return self._undisturbed[name]


def plain(value: Any) -> Any:
    """Return a JSON value without the fields that say when and how fast it was computed."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key not in UNTIMED}
    return [plain(item) for item in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files and folders below ``folder`` by name; a folder has no content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            found[name] = b""
        elif path.suffix == ".json" and not path.name.startswith("."):
            found[name] = json.dumps(plain(json.loads(path.read_bytes())), sort_keys=True).encode()
        else:
            found[name] = path.read_bytes()
    return found


def results(name: str, files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files under final names: neither hidden nor private."""
    private = COMMANDS[name].private
    return {
        path: content
        for path, content in files.items()
        if not any(part.startswith(".") or part.endswith(private or "\0") for part in path.split("/"))
    }


def assert_nothing_half_written(name: str, folder: Path, whole: dict[str, bytes]) -> None:
    """Check that every file under a final name has its final content."""
    for path, content in results(name, contents(folder)).items():
        assert path in whole, f"{path} is not a file of an undisturbed run"
        # A failed trial has a whole result file that says so, and is repeated.
        assert content == whole[path] or b'"status": "failed"' in content, f"{path} is half-written"


def assert_same_files(name: str, folder: Path, whole: dict[str, bytes]) -> None:
    """Check that a run left what an undisturbed one leaves, and nothing else."""
    files = contents(folder)
    assert sorted(files) == sorted(whole), "litter, or a missing file"
    wanted = results(name, whole)
    assert [path for path, content in results(name, files).items() if content != wanted[path]] == []


def write_inputs(folder: Path) -> None:
    """Write bands, elevation, an inventory, a scene, patches and a benchmark, as small as they can be."""
    rng = np.random.default_rng(5)
    side = 96
    y, x = np.mgrid[:side, :side] / 9.0
    hills = (np.sin(x) + np.cos(y * 0.7) + 2) / 4
    for number, role in enumerate(OPTICAL):
        values = 0.1 + 0.1 * number + 0.1 * hills + rng.normal(0, 0.003, hills.shape)
        write_geotiff(folder / f"{role}.tif", np.round(values * 10_000 + 1000).astype(np.uint16))
    write_geotiff(folder / "dem.tif", (900 + 500 * hills).astype(np.float32))
    write_geotiff(folder / "scene.tif", make_image(150, 130), names=(("NDVI", "1"), ("slope", "degree")), nodata=np.nan)
    slides = [shapely.Point(600_000 + rng.uniform(60, 900), 3_800_000 - rng.uniform(60, 900)).buffer(40) for _ in "123"]
    frame = geopandas.GeoDataFrame({"name": ["a", "b", "c"]}, geometry=slides, crs="EPSG:32643")
    frame.to_crs("EPSG:4326").to_file(folder / "slides.geojson", driver="GeoJSON")
    write_patches(folder / "patches", bands=2, size=32, count=15)
    (folder / "bench.toml").write_text(BENCHMARK.format(inputs=folder))


@pytest.fixture(scope="session")
def zoo(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoo]:
    """The warm process with its inputs."""
    if not hasattr(os, "fork") or not Path("/proc/self/stat").exists():
        pytest.skip("the harness needs fork and /proc")
    scratch = tmp_path_factory.mktemp("faults")
    inputs = scratch / "inputs"
    inputs.mkdir()
    write_inputs(inputs)
    (inputs / "bundle").symlink_to(bundle)
    warm = Zoo(inputs, scratch)
    try:
        for name in ("stack", "map"):
            made = warm.run(name, inputs)
            assert made.code == 0, made.errors
        yield warm
    finally:
        warm.close()
