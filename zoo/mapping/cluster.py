"""Computation of blocks on a Ray cluster.

Each worker is an actor that opens the scene and loads the model once, then computes many blocks. The executors of
:mod:`zoo.jobs` start a new process for each job, which would reload the model for each block, so only their connection
to the cluster is used here. The blocks of a worker that dies run again on another worker.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.errors import ConfigError, ZooError
from zoo.jobs import connected
from zoo.mapping.clouds import Clouds
from zoo.mapping.inference import (
    AreaMask,
    Forward,
    ForwardMaker,
    InferenceForm,
    MapOptions,
    Results,
    compute_blocks,
)
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import Block, BlockResult, Plan
from zoo.physics.bands import Band
from zoo.rasters.reading import gdal_threads
from zoo.rasters.vectors import Area
from zoo.training.predictor import PlausibleRange, Predictor

QUEUED = 2
"""Number of blocks queued per worker: it starts the second one while the first one is sent back."""

WORKER_TIMEOUT_S = 300.0
"""Seconds to wait for the first worker, or for a new one when all have died."""

MAX_FAILURES = 5
"""Number of workers that may die in the same block before the block is considered the cause."""


@dataclass(frozen=True)
class ClusterJob:
    """Inputs of a worker; every machine must be able to open the files under these names.

    Attributes:
        paths, bands, names, pixel_size: see :class:`zoo.mapping.scene.Scene`.
        tile, overlap: see :class:`zoo.mapping.tiling.Plan`.
        dtype: dtype of the map.
        mask: file of the area; None for everywhere.
        cloud_file, mask_bright: see :class:`zoo.mapping.clouds.Clouds`.
        threads, batch, plausible: see :func:`zoo.mapping.inference.compute_blocks`.
        make_forward: returns the forward pass on a device.
    """

    paths: tuple[str, ...]
    bands: tuple[Band, ...]
    names: tuple[str, ...] | None
    pixel_size: float | None
    tile: int
    overlap: int
    dtype: str
    mask: Path | None
    cloud_file: str | None
    mask_bright: bool
    threads: int
    batch: int
    plausible: PlausibleRange
    make_forward: Callable[[torch.device], Forward]


class Worker:
    """An actor on the cluster."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def open(self, job: ClusterJob) -> str:
        """Load the model and the scene, and return the name of the machine.

        Raises:
            ZooError: if the scene does not exist on that machine.
        """
        self._job = job
        with gdal_threads(job.paths[0]):
            self._scene = Scene(job.paths, job.bands, names=job.names, pixel_size=job.pixel_size)
            self._clouds = Clouds(self._scene, file=job.cloud_file, mask_bright=job.mask_bright)
        self._plan = Plan(self._scene.shape, job.tile, job.overlap)
        self._mask = None if job.mask is None else AreaMask(Area(job.mask, self._scene.mosaic))
        self._forward = job.make_forward(self._device)
        return os.uname().nodename

    def compute(self, row: int, column: int) -> BlockResult:
        """Compute a block."""
        job = self._job
        [(_, result)] = compute_blocks(
            self._scene,
            self._forward,
            self._plan,
            [self._plan.block(row, column)],
            np.dtype(job.dtype),
            plausible=job.plausible,
            mask=self._mask,
            clouds=self._clouds if self._clouds.masks else None,
            threads=job.threads,
            batch=job.batch,
        )
        return result


@dataclass
class _WorkerState:
    """State of a worker, kept by the driver."""

    actor: Any
    opening: Any
    running: dict[Any, Block] = field(default_factory=dict)


class RayRunner:
    """Distribute blocks over a cluster; see :class:`zoo.mapping.pipeline.Runner`.

    Args:
        address: address of the cluster; see :func:`zoo.jobs.connected`.
        job: inputs of the workers. Its ``threads`` is the number of CPUs per worker.
        gpu: give each worker a GPU.
        notify: called with a sentence when a worker starts or dies.

    Raises:
        ConfigError: if Ray is not installed, or there is no cluster.
    """

    def __init__(
        self, address: str, job: ClusterJob, *, gpu: bool = False, notify: Callable[[str], None] | None = None
    ) -> None:
        self._address, self._job, self._gpu = address, job, gpu
        self._notify = notify or (lambda text: None)
        self._failures: dict[tuple[int, int], int] = {}

    def __call__(self, blocks: Iterable[Block]) -> Results:
        """Yield blocks as they are finished, in any order.

        Raises:
            ZooError: if no worker is left, or every worker dies in the same block.
        """
        pending = deque(blocks)
        if not pending:
            return
        with connected(self._address) as ray:
            workers: list[_WorkerState] = []
            try:
                yield from self._run(ray, pending, workers)
            finally:
                for worker in workers:
                    with suppress(Exception):
                        ray.kill(worker.actor)

    def _run(self, ray: Any, pending: deque[Block], workers: list[_WorkerState]) -> Iterator[tuple[Block, BlockResult]]:
        count, make = self._worker_factory(ray)
        job = ray.put(self._job)
        workers += [_start(make, job) for _ in range(min(count, len(pending)))]
        spare = 3 * len(workers)
        while pending or any(worker.running for worker in workers):
            for worker in workers:
                while worker.opening is None and pending and len(worker.running) < QUEUED:
                    block = pending.popleft()
                    worker.running[worker.actor.compute.remote(block.row, block.column)] = block
            # New workers come first; otherwise the busy ones would take all blocks.
            waited = [worker.opening for worker in workers if worker.opening is not None]
            waited += [block for worker in workers for block in worker.running]
            timeout = None if any(worker.running for worker in workers) else WORKER_TIMEOUT_S
            found = ray.wait(waited, num_returns=1, timeout=timeout)[0] if waited else []
            if not found:
                raise ZooError(
                    "no worker of the cluster is left",
                    where=self._address,
                    hint="The same command resumes from here",
                )
            [ready] = found
            worker = next(worker for worker in workers if ready is worker.opening or ready in worker.running)
            try:
                result = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, Exception) else error) from None
            except ray.exceptions.RayError as error:
                workers.remove(worker)
                with suppress(Exception):
                    ray.kill(worker.actor)
                self._requeue_blocks(worker, pending, error)
                if spare > 0:
                    spare -= 1
                    workers.append(_start(make, job))
                continue
            if ready is worker.opening:
                worker.opening = None
                self._notify(f"a worker is ready on {result}")
            else:
                yield worker.running.pop(ready), result

    def _requeue_blocks(self, worker: _WorkerState, pending: deque[Block], error: Exception) -> None:
        self._notify(f"a worker died ({type(error).__name__}); its {len(worker.running)} blocks run again")
        for block in worker.running.values():
            place = block.row, block.column
            self._failures[place] = self._failures.get(place, 0) + 1
            if self._failures[place] >= MAX_FAILURES:
                raise ZooError(
                    f"{MAX_FAILURES} workers died in the same block",
                    where=self._address,
                    hint="Do they have enough memory? Fewer --threads or a smaller --tile needs less",
                ) from error
            pending.appendleft(block)

    def _worker_factory(self, ray: Any) -> tuple[int, Callable[[], Any]]:
        """Return the number of workers that fit on the cluster, and a function that starts one."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if self._gpu:
            count = int(sum(node.get("GPU", 0) for node in nodes))
            options: dict[str, Any] = {"num_gpus": 1}
        else:
            count = int(sum(node.get("CPU", 0) // self._job.threads for node in nodes))
            options = {"num_cpus": self._job.threads}
        if count == 0:
            need = "a GPU" if self._gpu else f"{self._job.threads} processors"
            raise ConfigError(f"no machine of the cluster has {need}", where=self._address)
        remote = ray.remote(**options, scheduling_strategy="SPREAD")(Worker)
        device = "cuda" if self._gpu else "cpu"
        return count, lambda: remote.remote(device)


def cluster_runner(
    address: str,
    predictor: Predictor,
    form: InferenceForm,
    scene: Scene,
    options: MapOptions,
    *,
    mask: Area | None = None,
    clouds: Clouds | None = None,
    notify: Callable[[str], None] | None = None,
) -> RayRunner:
    """Return a runner that computes the blocks of :func:`zoo.mapping.pipeline.map_scene` on a cluster.

    Args:
        address: see :class:`RayRunner`.
        predictor: the predictor as trained, on the CPU.
        form: the form that every worker uses.
        scene: an open scene; every machine must be able to open its files under the same names.
        options: options of the map. ``threads`` is the number of CPUs per worker, one by default; a worker has a GPU
            if ``device`` is one.
        mask: area of the map.
        clouds: clouds of the scene; None to map them.
        notify: see :class:`RayRunner`.
    """
    job = ClusterJob(
        paths=tuple(_absolute(path) for path in scene.mosaic.paths),
        bands=scene.bands,
        names=None if scene.names is None else tuple(scene.names),
        pixel_size=scene.resampled_to,
        tile=options.tile,
        overlap=options.overlap,
        dtype=options.dtype,
        mask=None if mask is None else mask.path.absolute(),
        cloud_file=None if clouds is None or clouds.file is None else _absolute(clouds.file),
        mask_bright=clouds is not None and clouds.mask_bright,
        threads=options.threads or 1,
        batch=options.batch,
        plausible=PlausibleRange.of(predictor),
        make_forward=ForwardMaker(predictor, form, options.tta),
    )
    return RayRunner(address, job, gpu=options.device.type == "cuda", notify=notify)


def _absolute(path: str) -> str:
    return path if path.startswith("/vsi") or "://" in path else os.path.abspath(path)  # noqa: PTH100 - keeps links


def _start(make: Callable[[], Any], job: Any) -> _WorkerState:
    actor = make()
    return _WorkerState(actor, actor.open.remote(job))
