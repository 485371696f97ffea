"""The model on tiles and blocks of a scene."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.deploy import optimize
from zoo.deploy.tuning_cache import TunedChoice, cache_key, load_choice, store_choice
from zoo.errors import ZooError
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import PROBABILITY_STEPS, Block, BlockResult, Canvas, Plan, Reach
from zoo.rasters.reading import window_of
from zoo.rasters.vectors import Area
from zoo.training.predictor import Predictor

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Maps float32 (C, h, w), in units, NaN where missing, to float32 (h, w): probabilities that are multiples of
1 / :data:`zoo.mapping.tiling.PROBABILITY_STEPS`."""


class TileForward:
    """Gives the landslide probability of one tile.

    A pass takes one tile and runs on one thread of the processor: sums inside a convolution are split otherwise among
    two threads than on one, and their last bits differ. Tiles run beside each other instead, which is faster too.

    Args:
        predictor: in eval mode, on ``device``.
        device: where it runs.
        tta: average over the eight flips and rotations of a square (D4).
    """

    def __init__(self, predictor: Predictor, device: torch.device, *, tta: bool = False) -> None:
        self._predictor, self._device, self._tta = predictor, device, tta
        self._mean, self._std = (one.flatten().cpu().numpy() for one in (predictor.mean, predictor.std))
        self._smallest = smallest_side(predictor)

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :data:`Forward`. Threads may call it at the same time."""
        height, width = image.shape[1:]
        image = padded(image, self._smallest)
        with torch.inference_mode():
            tile = torch.from_numpy(self._normalised(image))[None].to(self._device)
            probability = self._averaged(tile) if self._tta else self._probability(tile)
            found = torch.round(probability[0] * PROBABILITY_STEPS) / PROBABILITY_STEPS
            result: NDArray[np.float32] = found[:height, :width].cpu().numpy()
        return result

    def _normalised(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """What :meth:`Predictor.normalise` gives, band by band: one stays in the processor's cache."""
        found = np.empty(image.shape, dtype=np.float32)
        for band, values, mean, std in zip(found, image, self._mean, self._std, strict=True):
            np.subtract(values, mean, out=band)
            np.divide(band, std, out=band)
            np.copyto(band, 0, where=np.isnan(band))
        return found

    def _probability(self, tile: Tensor) -> Tensor:
        return self._predictor.landslide_probability(self._predictor.model(tile))

    def _averaged(self, tile: Tensor) -> Tensor:
        total: Tensor | None = None
        for turns in range(4):
            turned = torch.rot90(tile, turns, (2, 3))
            for flipped in (False, True):
                seen = self._probability(turned.flip(3) if flipped else turned)
                back = torch.rot90(seen.flip(2) if flipped else seen, -turns, (1, 2))
                total = back.clone() if total is None else total.add_(back)
        assert total is not None
        return total / 8


def smallest_side(predictor: Predictor) -> int:
    """Pixels that a model needs along a side."""
    return int(getattr(predictor.model, "minimum_size", 1))


def padded(image: NDArray[np.float32], smallest: int) -> NDArray[np.float32]:
    """Repeat the last row and column of (C, h, w) until both sides have ``smallest`` pixels."""
    below, beyond = (max(0, smallest - side) for side in image.shape[1:])
    return np.pad(image, ((0, 0), (0, below), (0, beyond)), mode="edge") if below or beyond else image


@contextmanager
def single_threaded_passes() -> Iterator[None]:
    """Let torch use one thread a pass inside, in threads that call :func:`enter_thread`."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def enter_thread() -> None:
    """Called by each thread that runs passes: OpenMP counts threads by thread."""
    torch.set_num_threads(1)


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
        dtype: of the values; see :func:`zoo.mapping.tiling.encode`.
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


class AreaMask:
    """An :class:`Area` by rows and columns."""

    def __init__(self, area: Area) -> None:
        self._area = area

    def covers(self, rows: Reach, columns: Reach) -> NDArray[np.bool_]:
        """Bool (rows, columns): the pixels whose centre lies in the area."""
        return self._area.covers(window_of((rows.start, rows.stop), (columns.start, columns.stop)))


MapPrecision = Literal["fp32", "bf16", "auto"]

FEWEST_TILES = 32
"""With fewer tiles than this, looking for the fastest form takes longer than it saves."""

AS_TRAINED = "as it was trained"


@dataclass(frozen=True)
class Form:
    """How a predictor computes; can be sent to other machines.

    Attributes:
        name: of the form, which stands in the map's tags and in the key of its journal.
        precision: that was asked for.
        example: float32 (C, h, w), a tile of the scene; None for the predictor as it was trained.
        choice: what was remembered of measuring.
        threshold: landslide probability of the mask, by which bf16 is judged.
    """

    name: str
    precision: MapPrecision
    example: NDArray[np.float32] | None
    choice: TunedChoice | None
    threshold: float


def fastest(
    predictor: Predictor, scene: Scene, plan: Plan, precision: MapPrecision, device: torch.device, threshold: float
) -> tuple[Predictor, Form, tuple[str, ...]]:
    """Choose by measuring, once for a machine, a model and a tile; small scenes in fp32 are not worth it.

    Args:
        predictor: on ``device``.
        scene, plan: of the map; a tile from their middle is the example.
        precision: see :func:`zoo.deploy.optimize`.
        device: where it will run.
        threshold: of the bundle.

    Returns:
        The predictor to use, its form, and what the user should know.
    """
    if precision == "fp32" and plan.tile_count < FEWEST_TILES:
        return predictor, Form(AS_TRAINED, precision, None, None, threshold), ()
    rows = plan.rows.tiles[max(0, len(plan.rows) // 2 - 1)]
    columns = plan.columns.tiles[max(0, len(plan.columns) // 2 - 1)]
    image = padded(scene.read(rows, columns), smallest_side(predictor))
    image[~np.isfinite(image)] = np.nan
    with single_threaded_passes():
        example = torch.from_numpy(image)[None].to(device)
        found = _optimized(predictor, example, precision, threshold)
        choice = load_choice(cache_key(predictor.model, predictor.normalise(example), precision))
    report: Any = found.model.report
    return found, Form(str(report.chosen), precision, image, choice, threshold), tuple(report.messages)


def _optimized(predictor: Predictor, example: torch.Tensor, precision: MapPrecision, threshold: float) -> Predictor:
    found = optimize(predictor, example, precision, threshold=threshold)
    assert isinstance(found, Predictor)
    # The optimised model still refuses what is smaller, and does not say so in a way that can be asked.
    inner: Any = found.model
    inner.minimum_size = smallest_side(predictor)
    return found


@dataclass(frozen=True)
class ForwardMaker:
    """Makes the forward pass of a map on another machine, in the form that the first machine chose.

    Attributes:
        predictor: as it was trained, on the CPU.
        form: to take.
        tta: see :class:`zoo.mapping.inference.TileForward`.
    """

    predictor: Predictor
    form: Form
    tta: bool

    def __call__(self, device: torch.device) -> TileForward:
        """A forward pass on ``device``.

        Raises:
            ZooError: if this machine cannot compute in that form: its results would differ.
        """
        predictor = self.predictor.to(device).eval()
        if self.form.example is not None:
            predictor = self._same_form(predictor, torch.from_numpy(self.form.example)[None].to(device))
        return TileForward(predictor, device, tta=self.tta)

    def _same_form(self, predictor: Predictor, example: torch.Tensor) -> Predictor:
        form = self.form
        before = os.environ.get("ZOO_CACHE")
        with single_threaded_passes(), tempfile.TemporaryDirectory() as folder:
            # What is remembered here of this machine's own measurements stays as it is.
            os.environ["ZOO_CACHE"] = folder
            try:
                if form.choice is not None:
                    store_choice(cache_key(predictor.model, predictor.normalise(example), form.precision), form.choice)
                found = _optimized(predictor, example, form.precision, form.threshold)
            finally:
                os.environ.pop("ZOO_CACHE")
                if before is not None:
                    os.environ["ZOO_CACHE"] = before
        chosen = str(getattr(found.model, "report").chosen)  # noqa: B009 - a module's attribute of another type
        if chosen != form.name:
            raise ZooError(
                f"computes in the form {chosen!r} and not in {form.name!r}, so its pixels would differ",
                where=os.uname().nodename,
                hint="Use machines of one kind, or --precision fp32",
            )
        return found
