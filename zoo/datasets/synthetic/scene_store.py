"""Cache synthetic scenes on disk, one file per scene, and generate missing scenes in child processes.

This module does not import torch, so that child processes start quickly.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from zoo.datasets.synthetic.landslides import Rain
from zoo.datasets.synthetic.scene import Scene, SceneConfig, generate_scene
from zoo.errors import DataError, ZooError
from zoo.files import atomic_path, check_writable_folder, remove_abandoned
from zoo.jobs import Job, LocalExecutor, ProgressCallback, Work
from zoo.schema import decode_json, encode_json

SceneKey: TypeAlias = tuple[int, SceneConfig]
"""Seed and configuration of a scene."""

_STORED: Mapping[str, type[np.generic]] = {
    "image": np.float32,
    "mask": np.uint8,
    "landslide_id": np.uint16,
    "cover": np.uint8,
    # Half precision is sufficient for the ground truth.
    "visibility": np.float16,
    "safety": np.float16,
    "wetness": np.float16,
}

_MAKE_BATCH = f"{__name__}:make_batch"


class CacheWarning(UserWarning):
    """Warning that a cached scene is damaged and is generated again."""


@dataclass(frozen=True)
class StoredScene:
    """Scene as stored on disk.

    The arrays are those of :class:`zoo.datasets.synthetic.scene.Scene`, each (..., size, size).

    Attributes:
        arrays: image, mask, landslide_id (uint16), cover, visibility, safety and wetness (float16), by name.
        rain: rain of the event.
        rain_factor: R_m of equation 5.
        digest: SHA-256 of the arrays in hexadecimal.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    rain: Rain
    rain_factor: float
    digest: str


@dataclass(frozen=True)
class _Header:
    """Metadata of a scene file."""

    key: str
    seed: int
    intensity: float
    duration: float
    rain_factor: float
    sha256: str


@dataclass(frozen=True)
class _Batch:
    """Scenes that one child process generates."""

    folder: Path
    scenes: tuple[SceneKey, ...]


def scene_path(folder: Path, seed: int, config: SceneConfig) -> Path:
    """Return the file of a scene; the name depends on the generator version, the settings and the seed."""
    key = hashlib.sha256(f"{seed} {config.key()}".encode()).hexdigest()[:16]
    return folder / f"{config.region}-{config.difficulty}-{config.phase}-{seed}-{key}.safetensors"


def save_scene(path: Path, scene: Scene) -> None:
    """Write a scene atomically.

    Raises:
        ZooError: if the folder cannot be written to.
    """
    arrays = {name: np.ascontiguousarray(getattr(scene, name), dtype=kind) for name, kind in _STORED.items()}
    header = _Header(
        key=scene.config.key(),
        seed=scene.seed,
        intensity=scene.rain.intensity,
        duration=scene.rain.duration,
        rain_factor=scene.rain_factor,
        sha256=_digest(arrays),
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(arrays, metadata={"scene": encode_json(header)}))


def load_scene(path: Path, seed: int, config: SceneConfig) -> StoredScene:
    """Read a scene and check it against its checksum.

    Raises:
        DataError: if the file is truncated or changed, or has a different seed or configuration.
    """
    try:
        with safe_open(path, framework="numpy") as stored:
            text = (stored.metadata() or {})["scene"]
            arrays = {name: stored.get_tensor(name) for name in _STORED}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError("is not a complete scene file", where=path) from error
    header = decode_json(text, _Header, what="scene file", where=path, error=DataError)
    if header.seed != seed or header.key != config.key():
        raise DataError("contains a different scene than its name states", where=path)
    if header.sha256 != _digest(arrays):
        raise DataError("does not match its checksum", where=path)
    return StoredScene(arrays, Rain(header.intensity, header.duration), header.rain_factor, header.sha256)


def obtain_scenes(
    folder: Path, keys: Sequence[SceneKey], workers: int | None = None, progress: ProgressCallback | None = None
) -> list[StoredScene]:
    """Return scenes from the cache; missing and damaged scenes are generated first.

    Args:
        folder: cache folder.
        keys: seed and configuration of each scene.
        workers: number of processes that generate scenes; None for one per core.
        progress: called with the number of scenes generated and the total; not called if no scene is missing.

    Raises:
        ZooError: if scenes are missing and the folder cannot be written to, or a process fails.

    Warns:
        CacheWarning: if a file is truncated or changed.
    """
    scenes: dict[SceneKey, StoredScene] = {}
    missing: list[SceneKey] = []
    for key in dict.fromkeys(keys):
        path = scene_path(folder, *key)
        if not path.exists():
            missing.append(key)
            continue
        try:
            scenes[key] = load_scene(path, *key)
        except DataError as error:
            warnings.warn(f"{error}; the scene is generated again", CacheWarning, stacklevel=3)
            missing.append(key)
    if missing:
        _check_folder(folder)
        remove_abandoned(folder)
        _make_scenes(folder, missing, workers, progress or (lambda done, total: None))
        for key in missing:
            scenes[key] = load_scene(scene_path(folder, *key), *key)
    return [scenes[key] for key in keys]


def make_batch(batch: _Batch, work: Work) -> None:
    """Generate the scenes of a batch one by one, except those that another process has already generated.

    Raises:
        ZooError: if the folder cannot be written to.
    """
    for done, (seed, config) in enumerate(batch.scenes, start=1):
        path = scene_path(batch.folder, seed, config)
        try:
            load_scene(path, seed, config)
        except (ZooError, OSError):
            save_scene(path, generate_scene(seed, config))
        work.report("scenes", done, len(batch.scenes))


def _make_scenes(folder: Path, missing: Sequence[SceneKey], workers: int | None, progress: ProgressCallback) -> None:
    """Generate scenes in child processes, or in this process if one worker is enough."""
    count = min(_core_count() if workers is None else max(1, workers), len(missing))
    progress(0, len(missing))
    if count == 1:
        work = Work(send=lambda message: progress(message[2], len(missing)))
        make_batch(_Batch(folder, tuple(missing)), work)
        return
    # A fresh interpreter imports only numpy and scipy, and does not inherit the threads of this process.
    jobs: list[Job[None]] = [
        Job(
            _MAKE_BATCH,
            _Batch(folder.absolute(), tuple(missing[number::count])),
            name=f"scenes {number}",
            threads=1,
            fresh=True,
        )
        for number in range(count)
    ]
    done = dict.fromkeys((job.name for job in jobs), 0)

    def add(job: Job[None], stage: str, finished: int, total: int) -> None:
        if stage == "scenes":
            done[job.name] = finished
            progress(sum(done.values()), len(missing))

    executor: LocalExecutor[None] = LocalExecutor(count, add)
    with executor:
        for job in jobs:
            executor.submit(job)
        running = count
        while running:
            for _, outcome in executor.poll():
                running -= 1
                if outcome.status != "ok" and outcome.exception is None:
                    raise ZooError(
                        f"a process that generates scenes failed: {outcome.error}",
                        where=folder,
                        hint="If memory is short, use workers=1 to generate one scene at a time",
                    )
                outcome.unwrap()


def _check_folder(folder: Path) -> None:
    try:
        check_writable_folder(folder)
    except ZooError as error:
        raise ZooError(
            f"synthetic scenes must be generated, but {error.problem}",
            where=error.where,
            hint="Set ZOO_CACHE to a folder that you can write to, or give root=",
        ) from error


def _digest(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    total = hashlib.sha256()
    for name in sorted(_STORED):
        array = arrays[name]
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _core_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
