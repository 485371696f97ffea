"""A trial in a process of its own: what kills it, kills nothing else, and want of memory gets a second chance.

The processes are forked from a server that has imported torch, Lightning and torchgeo once and run nothing, so
that a trial starts in a fraction of a second instead of ten. Where there is no fork, they are spawned.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from zoo.bench.config import TrialConfig
from zoo.bench.results import TrialResult
from zoo.files import write_json_atomic
from zoo.registry import Flag, catalogue

Progress = Callable[[str, int, int], None]
"""Called with a stage (``data``, ``train``, ``adapt``, ``val``, ``test``), what is done of it, and how much it is."""
TrialContext = ForkServerContext | SpawnContext
ATTEMPTS = "attempts.json"


@dataclass(frozen=True)
class TrialJob:
    """A trial and everything about where it runs that its result does not depend on.

    Attributes:
        config: the trial.
        bundle: folder for the bundle.
        log: file for what the process prints.
        state: folder for the private resume state; ``None`` for none. Whoever keeps the result removes it.
        source: folder of the bundle that an adapted trial starts from.
        resume: go on from the state, where there is one.
        threads: for torch; ``None`` for as many as it likes.
        environment: variables set in the process before anything is computed.
    """

    config: TrialConfig
    bundle: Path
    log: Path
    state: Path | None = None
    source: Path | None = None
    resume: bool = True
    threads: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def trial_context() -> TrialContext:
    """The way processes are started here; begins the heavy imports in the background, once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zoo.bench.trial"])
    forkserver.ensure_running()
    return context


def run_isolated(job: TrialJob, progress: Progress, *, context: TrialContext | None = None) -> TrialResult:
    """Run one trial in its own process, within the recipe's time limit; see :class:`RunningTrial`.

    Args:
        job: the trial.
        progress: told of stage, done, total.
        context: from :func:`trial_context`.
    """
    running = RunningTrial(job, progress, context or trial_context())
    try:
        while (result := running.result) is None:
            wait([running.connection], timeout=running.seconds_left)
            running.advance()
        return result
    finally:
        running.stop()


class RunningTrial:
    """A trial that runs in a process of its own, and again in another one while it wants memory.

    A process that runs out of memory, or is killed by the system, is followed by one that takes the batch in parts
    half as large and accumulates their gradients: the same patches and steps. The result says so, with every attempt.

    Args:
        job: the trial; its process starts at once.
        progress: told of stage, done, total.
        context: from :func:`trial_context`.

    Attributes:
        connection: ready when :meth:`advance` has something to do.
        result: the trial's own; or one with status ``failed`` or ``out-of-memory`` when its process died or was
            stopped, saying where it was; ``None`` while it runs.
    """

    def __init__(self, job: TrialJob, progress: Progress, context: TrialContext) -> None:
        self.job = job
        self.result: TrialResult | None = None
        self._progress = progress
        self._context = context
        limit = job.config.recipe.time_limit
        self._deadline = None if limit is None else time.monotonic() + limit
        self._stage: tuple[str, int, int] = ("start", 0, 1)
        self._accumulate, self._attempts = _read_attempts(job)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        self._start()

    @property
    def seconds_left(self) -> float | None:
        """Until the time limit; ``None`` without one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def advance(self) -> None:
        """Take what the process has told, and look at the clock; does not wait."""
        while self.result is None and self.connection.poll():
            try:
                message = self.connection.recv()
            except EOFError:
                self._process.join()
                status, error = _cause_of_death(self._process.exitcode, self._stage[0], self.job.log)
                self._ended(TrialResult(self.job.config, status, error, {}))
                continue
            if isinstance(message, TrialResult):
                self._ended(message)
            else:
                self._stage = message
                self._progress(*message)
        if self.result is None and self.seconds_left == 0:
            limit, (stage, done, total) = self.job.config.recipe.time_limit, self._stage
            error = f"time limit of {limit:g} s reached in stage {stage!r}, {done} of {total} done"
            self._finish(TrialResult(self.job.config, "failed", error, {}))

    def stop(self) -> None:
        """End the process, whatever it does; the resume state stays."""
        self.connection.close()
        end_process(self._process, patience=1.0 if self.result is not None else 0.0)

    def _start(self) -> None:
        receiver, sender = self._context.Pipe(duplex=False)
        self.connection: Connection = receiver
        self._process = self._context.Process(
            target=_child, args=(sender, self.job, self._accumulate, bool(self._attempts)), daemon=True
        )
        self._stage = ("start", 0, 1)
        self._process.start()
        sender.close()

    def _ended(self, result: TrialResult) -> None:
        config = self.job.config
        smaller = _more_parts(config, self._accumulate) if result.status == "out-of-memory" else None
        if smaller is None or config.adapted:
            self._finish(result)
            return
        micro_batch = config.recipe.batch_size // self._accumulate
        self._attempts.append({"micro_batch": micro_batch, "status": result.status, "error": result.error})
        self._accumulate = smaller
        self.stop()
        if self.job.state is not None:
            # A state of larger parts counts other batches.
            shutil.rmtree(self.job.state, ignore_errors=True)
            content = {"accumulate": self._accumulate, "attempts": self._attempts}
            write_json_atomic(self.job.state / ATTEMPTS, content)
        self._start()

    def _finish(self, result: TrialResult) -> None:
        if self._attempts:
            error = result.error
            if not result.ok:
                tried = ", ".join(str(attempt["micro_batch"]) for attempt in self._attempts)
                last = self.job.config.recipe.batch_size // self._accumulate
                error = f"{error} (with {last} patches at a time, after memory ran out with {tried})"
            result = replace(result, error=error, measured={**result.measured, "attempts": self._attempts})
        self.result = result


def _more_parts(config: TrialConfig, accumulate: int) -> int | None:
    """Parts at most half as large that a batch can be cut into, or ``None`` when they cannot get smaller."""
    batch = config.recipe.batch_size
    spec = catalogue().models.get(config.model) if config.model in catalogue().models else None
    smallest = 1 if spec is not None and Flag.BATCH1_TRAINING in spec.flags else 2
    sizes = (size for size in range(batch // accumulate // 2, smallest - 1, -1) if batch % size == 0)
    size = next(sizes, None)
    return None if size is None else batch // size


def _read_attempts(job: TrialJob) -> tuple[int, list[dict[str, Any]]]:
    """What an earlier call had to learn about memory before it was interrupted."""
    if job.state is None or not job.resume:
        return 1, []
    try:
        content = json.loads((job.state / ATTEMPTS).read_text(encoding="utf-8"))
        return int(content["accumulate"]), list(content["attempts"])
    except (OSError, ValueError, KeyError, TypeError):
        return 1, []


def _child(sender: Connection, job: TrialJob, accumulate: int, again: bool) -> None:
    # The parent decides what Ctrl-C means: it stops the trials that run and keeps those that are done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.environ.update(job.environment)
    handle = os.open(job.log, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if again else os.O_TRUNC), 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)

    import torch

    from zoo.bench.trial import run_trial
    from zoo.deploy import raise_allocator_thresholds

    # The process is this trial's own and ends with it; what allocators cannot do, they leave as it is.
    raise_allocator_thresholds()
    if job.threads is not None:
        torch.set_num_threads(job.threads)

    def report(stage: str, done: int, total: int) -> None:
        sender.send((stage, done, total))

    result = run_trial(job, report, accumulate=accumulate)
    trace = result.measured.pop("traceback", None)
    if trace:
        print(trace, file=sys.stderr, flush=True)
    sender.send(result)
    sender.close()


def end_process(process: BaseProcess, patience: float = 1.0) -> None:
    """Leave no process behind: wait for its own end, then kill it.

    Args:
        process: that was started.
        patience: seconds to wait.
    """
    if process.is_alive():
        process.join(timeout=patience)
    if process.is_alive():
        process.kill()
    process.join()


def end_with_parent() -> None:
    """End this process when the one that started it is gone; to be run in a thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _cause_of_death(exit_code: int | None, stage: str, log: Path) -> tuple[str, str]:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        if name == "SIGKILL":
            return "out-of-memory", f"killed by the system in stage {stage!r}, most likely for want of memory"
        return "failed", f"the process died of {name} in stage {stage!r}; see {log.name}"
    return "failed", f"the process ended with exit code {exit_code} in stage {stage!r}; see {log.name}"
