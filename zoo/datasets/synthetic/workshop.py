"""Makes the scenes that are not on disk yet, on all cores.

Workers are fresh interpreters that import numpy and scipy alone, not forks or ``multiprocessing`` children: those
would import torch again, run the caller's script a second time when it has no main guard, or inherit its threads.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import zoo
from zoo.datasets.synthetic.config import SceneConfig
from zoo.datasets.synthetic.store import StoredScene, load_scene, remove_leftovers, scene_path
from zoo.datasets.synthetic.worker import make_scene
from zoo.errors import DataError, ZooError
from zoo.files import check_writable_folder

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
    command = [sys.executable, "-P", "-m", "zoo.datasets.synthetic.worker"]
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
