"""Scenes on disk, and the processes that make the missing ones."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

import zoo
from zoo.datasets.synthetic.landslides import Rain
from zoo.datasets.synthetic.scene import Scene, SceneConfig, generate_scene
from zoo.errors import DataError, ZooError
from zoo.files import atomic_path, check_writable_folder

_STORED: Mapping[str, type[np.generic]] = {
    "image": np.float32,
    "mask": np.uint8,
    "landslide_id": np.uint16,
    "cover": np.uint8,
    # Truth for oracles; half precision is finer than any of it is known.
    "visibility": np.float16,
    "safety": np.float16,
    "wetness": np.float16,
}

_STALE = 3600.0  # seconds after which a temporary file is what a killed process left behind


@dataclass(frozen=True)
class StoredScene:
    """What is kept of a scene; arrays as in :class:`zoo.datasets.synthetic.scene.Scene`, each (..., size, size).

    Args:
        arrays: image, mask, landslide_id (uint16), cover, visibility, safety and wetness (float16).
        rain: the event's rain.
        rain_factor: R_m of equation 5.
        digest: sha256 of the arrays, hex.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    rain: Rain
    rain_factor: float
    digest: str


def scene_path(folder: Path, seed: int, config: SceneConfig) -> Path:
    """Return where the scene of a seed is kept; the name changes with the generator, the settings and the seed."""
    key = hashlib.sha256(f"{seed} {config.key()}".encode()).hexdigest()[:16]
    return folder / f"{config.region}-{config.difficulty}-{config.phase}-{seed}-{key}.safetensors"


def save_scene(path: Path, scene: Scene) -> None:
    """Write a scene, whole or not at all.

    Raises:
        ZooError: if the folder cannot be written to.
    """
    arrays = {name: np.ascontiguousarray(getattr(scene, name), dtype=kind) for name, kind in _STORED.items()}
    about = {
        "key": scene.config.key(),
        "seed": scene.seed,
        "intensity": scene.rain.intensity,
        "duration": scene.rain.duration,
        "rain_factor": scene.rain_factor,
        "sha256": _digest(arrays),
    }
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata={"scene": json.dumps(about)})


def load_scene(path: Path, seed: int, config: SceneConfig) -> StoredScene:
    """Read a scene and check it against its checksum.

    Raises:
        DataError: if the file is cut short, changed, or of another seed or configuration.
    """
    try:
        with safe_open(path, framework="numpy") as stored:
            about = json.loads((stored.metadata() or {})["scene"])
            arrays = {name: stored.get_tensor(name) for name in _STORED}
        if about["seed"] != seed or about["key"] != config.key():
            raise DataError("another scene than its name says", where=path)
        if about["sha256"] != _digest(arrays):
            raise DataError("the contents do not match their checksum", where=path)
        rain = Rain(float(about["intensity"]), float(about["duration"]))
        return StoredScene(arrays, rain, float(about["rain_factor"]), str(about["sha256"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError("not a whole scene file", where=path) from error


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that processes killed over an hour ago left in ``folder``."""
    for left in folder.glob(".*.safetensors"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE:
                left.unlink()


def _digest(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    total = hashlib.sha256()
    for name in sorted(_STORED):
        array = arrays[name]
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def make_scene(folder: Path, seed: int, config: SceneConfig) -> None:
    """Put one scene into ``folder`` unless another process has done so in the meantime.

    Raises:
        ZooError: if the folder cannot be written to.
    """
    path = scene_path(folder, seed, config)
    with suppress(ZooError, OSError):
        load_scene(path, seed, config)
        return
    save_scene(path, generate_scene(seed, config))


def main() -> None:
    """Read jobs, one line of JSON each, until there are no more."""
    # Ctrl-C reaches the whole process group; the parent closes stdin or ends us, without two tracebacks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        job = json.loads(line)
        answer: dict[str, object] = {"seed": job["seed"]}
        try:
            make_scene(Path(job["folder"]), job["seed"], SceneConfig(**job["config"]))
        except ZooError as error:
            answer["error"] = {"problem": error.problem, "where": error.where, "hint": error.hint}
        try:
            print(json.dumps(answer), flush=True)
        except BrokenPipeError:
            # Nobody listens any more; keep the interpreter from flushing into the broken pipe again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return


if __name__ == "__main__":
    main()


Progress = Callable[[int, int], None]
"""Called with (scenes done, scenes to make) before the first and after each one."""

Job = tuple[int, SceneConfig]


class CacheWarning(UserWarning):
    """A cached scene was damaged and has been made again."""


def obtain_scenes(
    folder: Path, jobs: Sequence[Job], workers: int | None = None, progress: Progress | None = None
) -> list[StoredScene]:
    """Return scenes from ``folder``, making those that are missing or damaged.

    Args:
        folder: the cache.
        jobs: (seed, configuration) of each scene.
        workers: processes to make scenes with; None for one a core.
        progress: told how far it is; not called when nothing is to be made.

    Raises:
        ZooError: if scenes are missing and the folder cannot be written to.

    Warns:
        CacheWarning: if a file was cut short or changed.
    """
    scenes: dict[Job, StoredScene] = {}
    missing: list[Job] = []
    for job in dict.fromkeys(jobs):
        path = scene_path(folder, *job)
        if not path.exists():
            missing.append(job)
            continue
        try:
            scenes[job] = load_scene(path, *job)
        except DataError as error:
            warnings.warn(f"{error}; the scene is made again", CacheWarning, stacklevel=3)
            missing.append(job)
    if missing:
        _check_folder(folder)
        remove_leftovers(folder)
        _make(folder, missing, workers, progress)
        for job in missing:
            scenes[job] = load_scene(scene_path(folder, *job), *job)
    return [scenes[job] for job in jobs]


def _check_folder(folder: Path) -> None:
    try:
        check_writable_folder(folder)
    except ZooError as error:
        raise ZooError(
            f"synthetic scenes have to be made, and {error.problem}",
            where=error.where,
            hint="Set ZOO_CACHE to a folder that you may write to, or give root=",
        ) from error


def _make(folder: Path, missing: list[Job], workers: int | None, progress: Progress | None) -> None:
    count = min(_cores() if workers is None else max(1, workers), len(missing))
    if progress is not None:
        progress(0, len(missing))
    if count == 1 or not sys.executable:
        for done, (seed, config) in enumerate(missing, start=1):
            make_scene(folder, seed, config)
            if progress is not None:
                progress(done, len(missing))
        return
    _make_in_processes(folder, missing, count, progress)


def _make_in_processes(folder: Path, missing: list[Job], count: int, progress: Progress | None) -> None:
    waiting = [
        json.dumps({"folder": str(folder.absolute()), "seed": seed, "config": asdict(config)}) + "\n"
        for seed, config in reversed(missing)
    ]
    answers: queue.Queue[tuple[int, str]] = queue.Queue()
    crew = [_start() for _ in range(count)]
    try:
        for number, worker in enumerate(crew):
            threading.Thread(target=_listen, args=(number, worker, answers), daemon=True).start()
            _hand_out(worker, waiting)
        done = 0
        while done < len(missing):
            # A timeout keeps Ctrl-C working where a blocking get would hold it back.
            try:
                number, line = answers.get(timeout=0.5)
            except queue.Empty:
                continue
            if not line:
                raise ZooError(
                    f"a process that makes scenes ended with exit code {crew[number].wait()}",
                    where=folder,
                    hint="Was it killed for want of memory? workers=1 makes one scene at a time",
                )
            answer = json.loads(line)
            if "error" in answer:
                raise ZooError(answer["error"]["problem"], where=answer["error"]["where"], hint=answer["error"]["hint"])
            done += 1
            _hand_out(crew[number], waiting)
            if progress is not None:
                progress(done, len(missing))
    finally:
        for worker in crew:
            worker.kill()
        for worker in crew:
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                # What is left in its buffer cannot be flushed to a process that is gone.
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()


def _start() -> subprocess.Popen[str]:
    home = str(Path(zoo.__file__).parent.parent)
    paths = os.environ.get("PYTHONPATH")
    environment = os.environ | {
        "PYTHONPATH": home + (os.pathsep + paths if paths else ""),
        "OMP_NUM_THREADS": "1",
    }
    # -P: nothing is imported from the working directory.
    command = [sys.executable, "-P", "-m", "zoo.datasets.synthetic.scene_store"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment
    )


def _listen(number: int, worker: subprocess.Popen[str], answers: queue.Queue[tuple[int, str]]) -> None:
    assert worker.stdout is not None
    try:
        for line in worker.stdout:
            answers.put((number, line))
    except ValueError:
        return  # the pipe was closed under us: the parent is done
    answers.put((number, ""))


def _hand_out(worker: subprocess.Popen[str], waiting: list[str]) -> None:
    if not waiting:
        return
    assert worker.stdin is not None
    try:
        worker.stdin.write(waiting.pop())
        worker.stdin.flush()
    except BrokenPipeError:
        return  # it died; its listener says so


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
