"""Trials as tasks of a Ray cluster; results, weights and logs come back to the head, which writes them.

Each task runs its trial as :mod:`zoo.bench.worker` does on one machine: in a process of its own, with the recipe's time
limit and a second chance when memory runs out. A task whose node dies is run again on another one, from the beginning.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from zoo.bench.executors import LONGEST_WAIT_S, Told
from zoo.bench.results import TrialResult
from zoo.bench.speed_session import SpeedSession, SpeedSubject, time_models
from zoo.bench.worker import TrialJob, run_isolated
from zoo.errors import ConfigError
from zoo.files import atomic_path
from zoo.jobs import connected

RETRIES = 3
"""Times that a trial is run again because its node died."""

Files = dict[str, bytes]


class RayExecutor:
    """Runs trials on the nodes of a Ray cluster, which must see the data under the same path.

    Args:
        address: of the cluster.
        jobs: trials at once on the smallest node; a trial takes that part of its processors, and a GPU where its
            device is one.
        progress: told of trial, stage, done, total.

    Raises:
        ConfigError: as :func:`zoo.jobs.connected`, or if there are no jobs.
    """

    def __init__(self, address: str, jobs: int, progress: Told) -> None:
        if jobs < 1:
            raise ConfigError(f"{jobs} trials at once run nothing", where="--jobs", hint="Give 1 or more")
        self.address = address
        self.jobs = jobs
        self._progress = progress
        self._stack = ExitStack()
        self._tasks: dict[Any, TrialJob] = {}

    def __enter__(self) -> Self:
        """Connect."""
        ray = self._ray = self._stack.enter_context(connected(self.address))
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._cpus = max(1, math.floor(smallest_node(ray) / self.jobs))
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._board = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the tasks that still run, and disconnect."""
        for reference in self._tasks:
            self._ray.cancel(reference, force=True)
        self._tasks.clear()
        self._stack.close()

    @property
    def free(self) -> bool:
        """Always: the cluster keeps what it has no room for yet."""
        return True

    def submit(self, job: TrialJob) -> None:
        """Hand a trial to the cluster."""
        source = None if job.source is None else read_files(job.source)
        gpus = 1 if job.config.device.startswith("cuda") else 0
        task = self._ray.remote(run_on_node).options(
            num_cpus=self._cpus, num_gpus=gpus, max_retries=RETRIES, name=job.config.file_stem
        )
        # A GPU that Ray lends is the only one that the task sees, whatever its number is on the node.
        config = replace(job.config, device="cuda") if gpus else job.config
        reference = task.remote(replace(job, config=config, threads=self._cpus), source, self._board)
        self._tasks[reference] = job

    def poll(self) -> list[tuple[TrialJob, TrialResult]]:
        """Wait until a task ends or a second has passed."""
        ready, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=LONGEST_WAIT_S)
        self._tell()
        return [(self._tasks[reference], self._take(reference, self._tasks.pop(reference))) for reference in ready]

    def _tell(self) -> None:
        by_stem = {job.config.file_stem: job.config for job in self._tasks.values()}
        try:
            news = self._ray.get(self._board.take.remote(), timeout=10)
        except self._ray.exceptions.RayError:
            return
        for stem, stage in news.items():
            if stem in by_stem:
                self._progress(by_stem[stem], *stage)

    def _take(self, reference: Any, job: TrialJob) -> TrialResult:
        try:
            result, bundle, log = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return TrialResult(job.config, "failed", f"the cluster lost the trial: {lines[0]}", {})
        write_files(job.log.parent, {job.log.name: log})
        write_files(job.bundle, bundle)
        assert isinstance(result, TrialResult)
        return replace(result, config=job.config)


class Board:
    """Where the tasks write how far they are, and the head reads it."""

    def __init__(self) -> None:
        self._news: dict[str, tuple[str, int, int]] = {}

    def tell(self, stem: str, stage: str, done: int, total: int) -> None:
        """Note how far a trial is."""
        self._news[stem] = (stage, done, total)

    def take(self) -> dict[str, tuple[str, int, int]]:
        """Give what is new since the last call."""
        news, self._news = self._news, {}
        return news


def run_on_node(job: TrialJob, source: Files | None, board: Any) -> tuple[TrialResult, Files, bytes]:
    """Run a trial on a node, and give its result, the files of its bundle and its log.

    Args:
        job: the trial; its folders are those of the head and are not used.
        source: files of the bundle that an adapted trial starts from.
        board: the :class:`Board`.
    """
    stem = job.config.file_stem
    with tempfile.TemporaryDirectory(prefix="zoo-trial-") as name:
        folder = Path(name)
        local = replace(job, bundle=folder / "bundle", log=folder / job.log.name, state=folder / "state", source=None)
        if source is not None:
            write_files(folder / "source", source)
            local = replace(local, source=folder / "source")
        result = run_isolated(local, lambda stage, done, total: board.tell.remote(stem, stage, done, total))
        log = local.log.read_bytes() if local.log.is_file() else b""
        return result, read_files(local.bundle), log


def device_on_cluster(address: str, name: str) -> str:
    """The device that ``name`` means on a cluster: with ``auto`` a GPU where it has one.

    Raises:
        ConfigError: if there is no such device in the cluster.
    """
    with connected(address) as ray:
        gpus = int(ray.cluster_resources().get("GPU", 0))
    if name == "auto":
        return "cuda" if gpus else "cpu"
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"{name!r} is no device of a cluster", where="--device", hint="Use auto, cpu or cuda")
    if name == "cuda" and not gpus:
        raise ConfigError("the cluster has no GPU", where="--device", hint="Use --device auto or cpu")
    return name


def time_on_cluster(address: str, subjects: Sequence[SpeedSubject]) -> SpeedSession:
    """Time models beside each other on one node, which does nothing else meanwhile.

    Raises:
        ConfigError: as :func:`zoo.jobs.connected`.
    """
    with connected(address) as ray:
        cpus = max(1, math.floor(smallest_node(ray)))
        gpus = 1 if subjects[0].device.startswith("cuda") else 0
        task = ray.remote(time_models).options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)
        session: SpeedSession = ray.get(task.remote(list(subjects), threads=cpus))
        return session


def smallest_node(ray: Any) -> float:
    """Processors of the smallest node that has any.

    Raises:
        ConfigError: if no node has one.
    """
    cpus = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    working = [float(count) for count in cpus if count > 0]
    if not working:
        raise ConfigError("no node of the cluster has a processor", where="--ray", hint="Add nodes with ray start")
    return min(working)


def read_files(folder: Path) -> Files:
    """The files of a folder by name; nothing where there is no folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.is_file()}


def write_files(folder: Path, files: Files) -> None:
    """Write files, each whole or not at all, the description of a bundle last."""
    for name in sorted(files, key=lambda name: name == "bundle.json"):
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(files[name])
