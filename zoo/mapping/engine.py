"""Blocks computed on one machine: tiles are read ahead, run on threads, and added up as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zoo.mapping.blending import BlockResult, Canvas
from zoo.mapping.forward import Forward, enter_thread, single_threaded_passes
from zoo.mapping.tiling import Block, Plan, Reach

Strip = tuple[Block, int, NDArray[np.float32], NDArray[np.bool_]]
"""A row of tiles of a block: the block, the row, its pixels (C, rows, columns), and where nothing is to be mapped."""


Results = Generator[tuple[Block, BlockResult], None, None]
"""Blocks and what became of them; to be closed when no more are wanted."""


class Pixels(Protocol):
    """What a map is made of."""

    def read(self, rows: Reach, columns: Reach) -> NDArray[np.float32]:
        """Float32 (C, rows, columns), NaN where there is nothing."""
        ...


class Mask(Protocol):
    """Where a map is wanted."""

    def covers(self, rows: Reach, columns: Reach) -> NDArray[np.bool_]:
        """Bool (rows, columns)."""
        ...


def compute_blocks(
    scene: Pixels,
    forward: Forward,
    plan: Plan,
    blocks: Iterable[Block],
    dtype: np.dtype[Any],
    *,
    mask: Mask | None = None,
    threads: int = 1,
    batch: int = 1,
) -> Results:
    """Give blocks as they become whole, in the order given.

    Args:
        scene: read by one thread at a time.
        forward: called by several threads at a time.
        plan: of the scene.
        blocks: of the plan.
        dtype: of the values; see :func:`zoo.mapping.blending.encode`.
        mask: where a map is wanted; None for everywhere.
        threads: passes that run at the same time.
        batch: tiles that wait for a free thread.

    Raises:
        DataError: if the scene is truncated somewhere.
    """
    waiting: deque[tuple[Block, int, int, Future[NDArray[np.float32]] | None, NDArray[np.bool_]]] = deque()
    canvases: dict[tuple[int, int], tuple[Canvas, int]] = {}

    def settle() -> Iterator[tuple[Block, BlockResult]]:
        block, row, column, coming, missing = waiting.popleft()
        place = block.row, block.column
        canvas, left = canvases.pop(place, (None, len(block.tile_rows) * len(block.tile_columns)))
        canvas = canvas or Canvas(plan, block, dtype)
        canvas.add(row, column, None if coming is None else coming.result(), missing)
        if left > 1:
            canvases[place] = canvas, left - 1
        else:
            yield block, canvas.result()

    with ExitStack() as exits:
        exits.enter_context(single_threaded_passes())
        pool = ThreadPoolExecutor(threads, initializer=enter_thread)
        # An error or Ctrl-C does not wait for tiles that nobody will use.
        exits.callback(pool.shutdown, wait=True, cancel_futures=True)
        for block, row, image, hidden in _read_ahead(scene, plan, blocks, mask):
            view = plan.columns.view(block.tile_columns)
            for column in block.tile_columns:
                part = plan.columns.tiles[column].within(view)
                missing = hidden[:, part]
                coming = None if missing.all() else pool.submit(forward, image[:, :, part])
                waiting.append((block, row, column, coming, missing))
                while len(waiting) > threads + batch:
                    yield from settle()
        while waiting:
            yield from settle()


def _read_ahead(scene: Pixels, plan: Plan, blocks: Iterable[Block], mask: Mask | None) -> Iterator[Strip]:
    """Rows of tiles, the next one being read meanwhile."""
    strips = ((block, row) for block in blocks for row in block.tile_rows)
    with ThreadPoolExecutor(1) as reader:
        coming: Future[Strip] | None = None
        for block, row in strips:
            after = reader.submit(_read, scene, plan, block, row, mask)
            if coming is not None:
                yield coming.result()
            coming = after
        if coming is not None:
            yield coming.result()


def _read(scene: Pixels, plan: Plan, block: Block, row: int, mask: Mask | None) -> Strip:
    rows, columns = plan.rows.tiles[row], plan.columns.view(block.tile_columns)
    image = scene.read(rows, columns)
    # The sum is finite where all bands are, and finding that out for one plane is enough where nothing is missing.
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(image.sum(0))
    if not finite.all():
        known = np.isfinite(image)
        finite = known.all(0)
        # Infinities would spread over all that a convolution touches.
        image[~known] = np.nan
    if mask is not None:
        finite &= mask.covers(rows, columns)
    return block, row, image, ~finite
