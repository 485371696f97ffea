"""Blocks computed on a Ray cluster: each worker loads the model once, and the blocks of one that dies run again."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.errors import ConfigError, ZooError
from zoo.jobs import connected
from zoo.mapping.inference import AreaMask, Form, Forward, ForwardMaker, Results, compute_blocks
from zoo.mapping.pipeline import MapOptions
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import Block, BlockResult, Plan
from zoo.physics.bands import Band
from zoo.rasters.reading import gdal_threads
from zoo.rasters.vectors import Area
from zoo.training.predictor import Predictor

QUEUED = 2
"""Blocks that a worker has at a time: it begins the second one while the first one travels."""

PATIENCE = 300.0
"""Seconds to wait for a first worker, or for another one when all are gone."""

MOST_FAILURES = 5
"""Deaths of a worker in the same block after which the block is to blame."""


@dataclass(frozen=True)
class ClusterJob:
    """What a worker has to know; every machine must reach the files under these names.

    Attributes:
        paths, bands, names: of :class:`zoo.mapping.scene.Scene`.
        tile, overlap: of :class:`zoo.mapping.tiling.Plan`.
        dtype: of the map.
        mask: file of the area; None for everywhere.
        threads, batch: of :func:`zoo.mapping.inference.compute_blocks`.
        make_forward: gives the model on a device.
    """

    paths: tuple[str, ...]
    bands: tuple[Band, ...]
    names: tuple[str, ...] | None
    tile: int
    overlap: int
    dtype: str
    mask: Path | None
    threads: int
    batch: int
    make_forward: Callable[[torch.device], Forward]


class Worker:
    """What runs on the cluster."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def open(self, job: ClusterJob) -> str:
        """Load model and scene; gives the name of the machine.

        Raises:
            ZooError: if the scene is not there.
        """
        self._job = job
        with gdal_threads(job.paths[0]):
            self._scene = Scene(job.paths, job.bands, names=job.names)
        self._plan = Plan(self._scene.shape, job.tile, job.overlap)
        self._mask = None if job.mask is None else AreaMask(Area(job.mask, self._scene.mosaic))
        self._forward = job.make_forward(self._device)
        return os.uname().nodename

    def compute(self, row: int, column: int) -> BlockResult:
        """Compute a block."""
        job = self._job
        blocks = [self._plan.block(row, column)]
        dtype = np.dtype(job.dtype)
        [(_, result)] = compute_blocks(
            self._scene,
            self._forward,
            self._plan,
            blocks,
            dtype,
            mask=self._mask,
            threads=job.threads,
            batch=job.batch,
        )
        return result


@dataclass
class _Hand:
    """A worker as the driver sees it."""

    actor: Any
    opening: Any
    running: dict[Any, Block] = field(default_factory=dict)


class RayRunner:
    """Spreads blocks over a cluster; see :class:`zoo.mapping.pipeline.Runner`.

    Args:
        address: of the cluster, see :func:`zoo.jobs.connected`.
        job: what workers have to know. Its ``threads`` are the processors that each of them takes.
        gpu: give each worker a GPU.
        told: called with a sentence when a worker comes or dies.

    Raises:
        ConfigError: if Ray is not installed, or there is no cluster.
    """

    def __init__(
        self, address: str, job: ClusterJob, *, gpu: bool = False, told: Callable[[str], None] | None = None
    ) -> None:
        self._address, self._job, self._gpu = address, job, gpu
        self._told = told or (lambda text: None)
        self._failures: dict[tuple[int, int], int] = {}

    def __call__(self, blocks: Iterable[Block]) -> Results:
        """Give blocks as they become whole, in any order.

        Raises:
            ZooError: if no worker is left, or a block is too much for every worker.
        """
        todo = deque(blocks)
        if not todo:
            return
        with connected(self._address) as ray:
            hands: list[_Hand] = []
            try:
                yield from self._run(ray, todo, hands)
            finally:
                for hand in hands:
                    with suppress(Exception):
                        ray.kill(hand.actor)

    def _run(self, ray: Any, todo: deque[Block], hands: list[_Hand]) -> Iterator[tuple[Block, BlockResult]]:
        count, kind = self._worker_kind(ray)
        job = ray.put(self._job)
        hands += [_start(kind, job) for _ in range(min(count, len(todo)))]
        spare = 3 * len(hands)
        while todo or any(hand.running for hand in hands):
            for hand in hands:
                while hand.opening is None and todo and len(hand.running) < QUEUED:
                    block = todo.popleft()
                    hand.running[hand.actor.compute.remote(block.row, block.column)] = block
            # Who has just come is looked at first, or those who work already would get all there is to do.
            waited = [hand.opening for hand in hands if hand.opening is not None]
            waited += [one for hand in hands for one in hand.running]
            someone_works = any(hand.running for hand in hands)
            found = ray.wait(waited, num_returns=1, timeout=None if someone_works else PATIENCE)[0] if waited else []
            if not found:
                raise ZooError(
                    "no worker of the cluster is left", where=self._address, hint="The same command goes on from here"
                )
            [ready] = found
            hand = next(one for one in hands if ready is one.opening or ready in one.running)
            try:
                result = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, Exception) else error) from None
            except ray.exceptions.RayError as error:
                hands.remove(hand)
                with suppress(Exception):
                    ray.kill(hand.actor)
                self._take_back(hand, todo, error)
                if spare > 0:
                    spare -= 1
                    hands.append(_start(kind, job))
                continue
            if ready is hand.opening:
                hand.opening = None
                self._told(f"a worker is ready on {result}")
            else:
                yield hand.running.pop(ready), result

    def _take_back(self, hand: _Hand, todo: deque[Block], error: Exception) -> None:
        self._told(f"a worker is gone ({type(error).__name__}); its {len(hand.running)} blocks run again")
        for block in hand.running.values():
            place = block.row, block.column
            self._failures[place] = self._failures.get(place, 0) + 1
            if self._failures[place] >= MOST_FAILURES:
                raise ZooError(
                    f"{MOST_FAILURES} workers died in the same block",
                    where=self._address,
                    hint="Do they have enough memory? Fewer --threads or a smaller --tile need less",
                ) from error
            todo.appendleft(block)

    def _worker_kind(self, ray: Any) -> tuple[int, Any]:
        """How many workers there is room for, and how one is made."""
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
    form: Form,
    scene: Scene,
    options: MapOptions,
    *,
    mask: Area | None = None,
    names: Sequence[str] | None = None,
    told: Callable[[str], None] | None = None,
) -> RayRunner:
    """What computes the blocks of :func:`zoo.mapping.pipeline.map_scene` on a cluster.

    Args:
        address, told: see :class:`RayRunner`.
        predictor: as it was trained, on the CPU.
        form: that every worker takes.
        scene: an open one; every machine must reach its files under the same names.
        options: of the map. ``threads`` are the processors of each worker, one by default; a GPU if ``device`` is one.
        mask: of the map.
        names: of :class:`zoo.mapping.scene.Scene`.
    """
    job = ClusterJob(
        paths=tuple(_absolute(path) for path in scene.mosaic.paths),
        bands=scene.bands,
        names=None if names is None else tuple(names),
        tile=options.tile,
        overlap=options.overlap,
        dtype=options.dtype,
        mask=None if mask is None else mask.path.absolute(),
        threads=options.threads or 1,
        batch=options.batch,
        make_forward=ForwardMaker(predictor, form, options.tta),
    )
    return RayRunner(address, job, gpu=options.device.type == "cuda", told=told)


def _absolute(path: str) -> str:
    return path if path.startswith("/vsi") or "://" in path else os.path.abspath(path)  # noqa: PTH100 - no links


def _start(make: Callable[[], Any], job: Any) -> _Hand:
    actor = make()
    return _Hand(actor, actor.open.remote(job))
