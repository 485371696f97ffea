"""A process that has imported everything once and runs ``zoo`` commands in copies of itself, with faults.

Starting ``zoo`` takes seconds and forking takes milliseconds, so a harness of hundreds of kills is possible. Each line
on standard input is a JSON list of runs that begin together; the answer is a JSON list of what became of them.

A fault comes at a moment (seconds after the start) or at an event. Events are the calls by which Python changes files
below the folder of the run, counted over the command and its child processes.
"""

from __future__ import annotations

import errno
import json
import mmap
import multiprocessing
import os
import resource
import shutil
import signal
import struct
import sys
import time
import traceback
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

PRELOAD = (
    *("zoo.cli.bench", "zoo.cli.train", "zoo.cli.map", "zoo.cli.risk", "zoo.cli.risk.map", "zoo.cli.stack"),
    *(
        "zoo.cli.patches",
        "zoo.bench.trial",
        "zoo.bench.plan",
        "zoo.bench.speed_session",
        "zoo.mapping",
        "zoo.mapping.pipeline",
    ),
    *("zoo.mapping.pictures", "zoo.training.fit", "zoo.training.pictures", "zoo.api.train", "zoo.api.benchmark"),
    *("zoo.api.preparation", "zoo.rasters.patches", "zoo.rasters.polygons", "zoo.risk.mapping"),
    *("zoo.risk.pictures", "zoo.datasets.folder.folder_dataset", "zoo.models.unet", "lightning.pytorch"),
    *(
        "matplotlib.backends.backend_agg",
        "pyarrow.parquet",
        "rasterio.shutil",
        "geopandas",
        "mapclassify",
        "sklearn.linear_model",
    ),
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FOLDER_HANDLE = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.rename": 2, "os.chmod": 2, "os.truncate": None}
"""Events beside ``open``, and the position of the argument that holds the descriptor of the folder."""
CREATING = {"open", "os.mkdir", "os.rename", "os.truncate"}
"""Events that a full or read-only disk refuses."""
PATIENCE_S = 600.0


class Faults:
    """Counts events in shared memory and brings about the fault of a run."""

    def __init__(self, fault: dict[str, Any], folder: str) -> None:
        self.fault, self.folder, self.root = fault, folder, os.getpid()
        self.counter = mmap.mmap(-1, 8)
        self.busy = False

    @property
    def events(self) -> int:
        return int(struct.unpack("q", self.counter[:8])[0])

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.busy or (event != "open" and event not in FOLDER_HANDLE):
            return
        self.busy = True
        try:
            if self.concerns(event, arguments):
                self.counter[:8] = struct.pack("q", self.events + 1)
                self.strike(event)
        finally:
            self.busy = False

    def concerns(self, event: str, arguments: tuple[Any, ...]) -> bool:
        path = arguments[0]
        if not isinstance(path, (str, bytes)) or (event == "open" and not (arguments[2] or 0) & WRITING):
            return False
        path, position = os.fsdecode(path), FOLDER_HANDLE.get(event)
        if position is not None and arguments[position] >= 0:
            path = str(Path(f"/proc/self/fd/{arguments[position]}").readlink() / path)
        return os.path.abspath(path).startswith(self.folder + os.sep)  # noqa: PTH100

    def strike(self, event: str) -> None:
        at, kind = self.fault.get("event"), self.fault.get("kind")
        if at is None or self.events < at:
            return
        if kind == "refuse" and event in CREATING:
            number = getattr(errno, self.fault["errno"])
            raise OSError(number, os.strerror(number))
        if self.events > at:
            return
        if kind == "signal":
            os.kill(self.root, self.fault["number"])
        elif kind == "vanish":
            shutil.rmtree(self.folder, ignore_errors=True)


def jump(seconds: float) -> None:
    """Let the clock jump back and forth by ``seconds`` at every look."""
    true, looks = time.time, [0]

    def jumping() -> float:
        looks[0] += 1
        return true() + (seconds if looks[0] % 3 == 1 else -seconds if looks[0] % 3 == 2 else 0.0)

    time.time = jumping


def run(task: dict[str, Any], faults: Faults) -> None:
    """Run a command as a process of its own; the whole life of a child."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for stream, name in ((0, os.devnull), (1, task["log"] + ".out"), (2, task["log"] + ".err")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), stream)
    os.chdir(task["folder"])
    os.environ.update(task.get("environment", {}))
    faults.root = os.getpid()
    import zoo.bench.speed_session
    import zoo.jobs
    import zoo.mapping.tiling
    from zoo.cli import run as run_zoo

    zoo.mapping.tiling.BLOCK = 128
    zoo.bench.speed_session.SpeedSettings = partial(zoo.bench.speed_session.SpeedSettings, seconds=0.01)
    # A job is a copy of this process; the server that real commands start would take seconds.
    zoo.jobs._context = lambda *, fresh: multiprocessing.get_context("fork")
    fault = faults.fault
    if fault.get("kind") == "clock":
        jump(fault["seconds"])
    if fault.get("kind") == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault["bytes"], fault["bytes"]))
    code = 99
    try:
        if "fuzz" in task:
            from tests.faults.fuzzing import fuzz

            print(
                json.dumps(fuzz(task["fuzz"], Path(task["corpus"]), Path(task["folder"]), task["seed"], task["count"]))
            )
            code = 0
        else:
            sys.addaudithook(faults.hook)
            code = run_zoo(task["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def members(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            try:
                state, *fields = (place / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == session and state != "Z":
                found.append(int(place.name))
    return found


def serve(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Start runs together and wait until they and their child processes have ended."""
    begun = time.monotonic()
    running: dict[int, tuple[dict[str, Any], Faults]] = {}
    for task in tasks:
        faults = Faults(task.get("fault") or {}, task["folder"])
        process = os.fork()
        if process == 0:
            run(task, faults)
        running[process] = (task, faults)
    ended: dict[int, dict[str, Any]] = {}
    while len(ended) < len(running):
        process, status = os.waitpid(-1, os.WNOHANG)
        elapsed = time.monotonic() - begun
        if process in running:
            code = os.waitstatus_to_exitcode(status)
            ended[process] = {"code": code, "events": running[process][1].events, "seconds": elapsed}
            continue
        for one, (task, _) in running.items():
            fault = task.get("fault") or {}
            if one not in ended and fault.get("after") is not None and elapsed >= fault["after"]:
                os.kill(one, fault["number"])
                fault["after"] = None
            if one not in ended and elapsed > PATIENCE_S:
                os.kill(one, signal.SIGKILL)
        time.sleep(0.003)
    for process, end in ended.items():
        deadline = time.monotonic() + 30
        while (left := members(process)) and time.monotonic() < deadline:
            time.sleep(0.02)
        end["orphans"] = left
    return [ended[process] for process in running]


def main() -> None:
    for name in PRELOAD:
        import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
    os._exit(0)  # the libraries take seconds to be torn down


if __name__ == "__main__":
    main()
