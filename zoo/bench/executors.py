"""Where trials run: in processes of this machine, or on the nodes of a cluster (:mod:`zoo.bench.ray_executor`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.connection import wait
from types import TracebackType
from typing import Protocol, Self

from zoo.bench.config import TrialConfig
from zoo.bench.results import TrialResult
from zoo.bench.worker import RunningTrial, TrialContext, TrialJob, trial_context
from zoo.errors import ConfigError

Told = Callable[[TrialConfig, str, int, int], None]
LONGEST_WAIT_S = 1.0


class Executor(Protocol):
    """Runs trials until it is left; what still runs then is stopped."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop whatever still runs."""

    @property
    def free(self) -> bool:
        """Whether another trial may be submitted."""

    def submit(self, job: TrialJob) -> None:
        """Begin a trial."""

    def poll(self) -> list[tuple[TrialJob, TrialResult]]:
        """Wait for a while, at most until something ends, and give what has ended."""


class LocalExecutor:
    """Runs a number of trials at once on this machine, threads divided among them.

    Args:
        jobs: trials at once.
        progress: told of trial, stage, done, total.

    Raises:
        ConfigError: if there are no jobs.
    """

    def __init__(self, jobs: int, progress: Told) -> None:
        if jobs < 1:
            raise ConfigError(f"{jobs} trials at once run nothing", where="--jobs", hint="Give 1 or more")
        self.jobs = jobs
        self._progress = progress
        self._running: dict[int, RunningTrial] = {}
        self._context: TrialContext | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the processes that still run."""
        for trial in self._running.values():
            trial.stop()
        self._running.clear()

    @property
    def free(self) -> bool:
        """Whether fewer trials run than may."""
        return len(self._running) < self.jobs

    def submit(self, job: TrialJob) -> None:
        """Start a process for a trial."""
        self._context = self._context or trial_context()
        slot = next(number for number in range(self.jobs) if number not in self._running)
        placed = on_slot(job, slot, self.jobs)
        self._running[slot] = RunningTrial(placed, partial(self._progress, job.config), self._context)

    def poll(self) -> list[tuple[TrialJob, TrialResult]]:
        """Wait until a process says something or a second has passed."""
        limits = [trial.seconds_left for trial in self._running.values() if trial.seconds_left is not None]
        wait([trial.connection for trial in self._running.values()], timeout=min([LONGEST_WAIT_S, *limits]))
        ended = []
        for slot, trial in list(self._running.items()):
            trial.advance()
            if trial.result is not None:
                trial.stop()
                del self._running[slot]
                ended.append((trial.job, trial.result))
        return ended


def on_slot(job: TrialJob, slot: int, jobs: int) -> TrialJob:
    """A trial with its share of the machine: threads divided, and where there are several GPUs, one of them."""
    if jobs == 1:
        return job
    environment = dict(job.environment)
    gpus = _visible_gpus()
    if job.config.device == "cuda" and len(gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return replace(job, threads=max(1, threads_here() // jobs), environment=environment)


def threads_here() -> int:
    """Threads that torch would take for one trial alone."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    import torch

    return torch.get_num_threads()


def _visible_gpus() -> list[str]:
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]
