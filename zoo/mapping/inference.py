"""Inference on the tiles and blocks of a scene, in the model's fastest form; results do not depend on threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.deploy import optimize
from zoo.deploy.tuning_cache import TunedChoice
from zoo.errors import ConfigError, ZooError
from zoo.mapping.probability import PROBABILITY_STEPS, MapDtype
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import Block, BlockResult, Canvas, PixelRange, Plan, check_tiling, join
from zoo.rasters.cog import COMPRESSIONS
from zoo.rasters.reading import window_of
from zoo.rasters.stacks import read_ahead
from zoo.training.predictor import VIEWS, PlausibleRange, Predictor, in_views

if TYPE_CHECKING:
    from zoo.rasters.vectors import Area

MapPrecision = Literal["fp32", "bf16", "auto"]

MIN_TILES_FOR_SEARCH = 32
"""Minimum number of tiles at which the search for the fastest form saves more time than it takes."""

AS_TRAINED = "as it was trained"

MAX_THREADS = 1024


@dataclass(frozen=True)
class MapOptions:
    """Options of a map. Only the first five fields affect the bytes of the map.

    Args:
        tile: side of a tile in pixels, a multiple of 32.
        overlap: pixels that neighbouring tiles share, a multiple of 32 up to half a tile. Tiles are blended over its
            middle half.
        tta: average over the eight flips and rotations of each tile.
        dtype: "uint8", steps of 0.004 with 255 for nodata, or "float32" with NaN.
        compress: one of :data:`zoo.rasters.cog.COMPRESSIONS`.
        threads: number of tiles computed in parallel; None for torch's number of threads (one on a GPU).
        batch: number of tiles to read ahead.
        device: device of the predictor.

    Raises:
        ConfigError: if a value is out of range.
    """

    tile: int = 512
    overlap: int = 64
    tta: bool = False
    dtype: MapDtype = "uint8"
    compress: str = "deflate"
    threads: int | None = None
    batch: int = 4
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        check_tiling(self.tile, self.overlap)
        if self.dtype not in ("uint8", "float32"):
            raise ConfigError(f"unknown dtype {self.dtype!r}", hint="Use uint8 or float32")
        if self.compress not in COMPRESSIONS:
            raise ConfigError(f"unknown compression {self.compress!r}", hint=f"Use one of: {', '.join(COMPRESSIONS)}")
        if not 1 <= self.workers <= MAX_THREADS or not 1 <= self.batch <= MAX_THREADS:
            raise ConfigError(f"threads and batch must be between 1 and {MAX_THREADS}")

    @property
    def workers(self) -> int:
        """Number of tiles computed in parallel."""
        if self.threads is not None:
            return self.threads
        return torch.get_num_threads() if self.device.type == "cpu" else 1


Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Maps float32 (C, h, w), in physical units, NaN where missing, to float32 (h, w): probabilities in multiples of
1 / :data:`zoo.mapping.probability.PROBABILITY_STEPS`; or to (2, h, w): mean probability and spread."""

SPREAD_LAYERS = (2,)
"""Layers of a map with a spread."""

Results = Generator[tuple[Block, BlockResult], None, None]
"""Yields blocks and their results; close it when no more are needed."""


class TileForward:
    """Forward pass that returns the landslide probability of one tile.

    A pass runs one tile on one thread, because the last bits of a convolution depend on the number of threads that
    share its sums. Tiles run in parallel instead, which is also faster.

    Args:
        predictor: predictor in eval mode, on ``device``.
        device: device to compute on.
        tta: average over the eight flips and rotations of a square (D4).
    """

    def __init__(self, predictor: Predictor, device: torch.device, *, tta: bool = False) -> None:
        self._predictor, self._device, self._tta = predictor, device, tta
        self._mean, self._std = (one.flatten().cpu().numpy() for one in (predictor.mean, predictor.std))
        self._smallest = smallest_side(predictor)

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run a tile; see :data:`Forward`. Several threads may call it at the same time."""
        height, width = image.shape[1:]
        with torch.inference_mode():
            mean = reduce(torch.add, self.views(image)) / (8 if self._tta else 1)
            result: NDArray[np.float32] = rounded(mean)[:height, :width].cpu().numpy()
        return result

    def views(self, image: NDArray[np.float32]) -> Iterator[Tensor]:
        """Yield the predictions of a tile, float32 (h, w), with h and w padded to the minimum size of the model.

        There is one prediction without ``tta``, and one per flip and rotation (eight) with it.
        """
        tile = torch.from_numpy(self._normalised(padded(image, self._smallest)))[None].to(self._device)
        for seen in in_views(self._probability, tile, VIEWS if self._tta else VIEWS[:1]):
            yield seen[0]

    def _normalised(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what :meth:`Predictor.normalise` returns, band by band: one band stays in the processor's cache."""
        found = np.empty(image.shape, dtype=np.float32)
        for band, values, mean, std in zip(found, image, self._mean, self._std, strict=True):
            np.subtract(values, mean, out=band)
            np.divide(band, std, out=band)
            np.copyto(band, 0, where=np.isnan(band))
        return found

    def _probability(self, tile: Tensor) -> Tensor:
        return self._predictor.landslide_probability(self._predictor.model(tile))


class SpreadForward:
    """Forward pass that returns the mean and the population standard deviation of several predictions of one tile.

    Args:
        members: forward passes; each gives eight predictions with ``tta``.
    """

    def __init__(self, members: Sequence[TileForward]) -> None:
        self._members = members

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run a tile; see :data:`Forward`. Several threads may call it at the same time."""
        height, width = image.shape[1:]
        with torch.inference_mode():
            seen = torch.stack([one[:height, :width] for member in self._members for one in member.views(image)])
            found = torch.stack([seen.mean(0), seen.std(0, correction=0)])
            result: NDArray[np.float32] = rounded(found).cpu().numpy()
        return result


def rounded(probability: Tensor) -> Tensor:
    """Round to multiples of 1 / :data:`zoo.mapping.probability.PROBABILITY_STEPS`."""
    return torch.round(probability * PROBABILITY_STEPS) / PROBABILITY_STEPS


def smallest_side(predictor: Predictor) -> int:
    """Return the minimum side of a model's input in pixels."""
    return int(getattr(predictor.model, "minimum_size", 1))


def padded(image: NDArray[np.float32], smallest: int) -> NDArray[np.float32]:
    """Pad (C, h, w) by repeating the last row and column until both sides have at least ``smallest`` pixels."""
    below, beyond = (max(0, smallest - side) for side in image.shape[1:])
    return np.pad(image, ((0, 0), (0, below), (0, beyond)), mode="edge") if below or beyond else image


@contextmanager
def single_threaded_passes() -> Iterator[None]:
    """Limit torch to one thread per pass inside the block, in threads that call :func:`enter_thread`."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def enter_thread() -> None:
    """Prepare a thread that runs passes, because OpenMP keeps its thread count per thread."""
    torch.set_num_threads(1)


class Pixels(Protocol):
    """The source of a map's pixels."""

    def read(self, rows: PixelRange, columns: PixelRange) -> NDArray[np.float32]:
        """Return float32 (C, rows, columns), NaN where there is no data."""
        ...


class Mask(Protocol):
    """The mask of pixels to map."""

    def covers(self, rows: PixelRange, columns: PixelRange) -> NDArray[np.bool_]:
        """Return bool (rows, columns)."""
        ...


class Hidden(Protocol):
    """The mask of pixels that clouds or snow hide."""

    def hidden(self, rows: PixelRange, columns: PixelRange) -> NDArray[np.bool_]:
        """Return bool (rows, columns)."""
        ...


class AreaMask:
    """An :class:`Area` addressed by rows and columns."""

    def __init__(self, area: Area) -> None:
        self._area = area

    def covers(self, rows: PixelRange, columns: PixelRange) -> NDArray[np.bool_]:
        """Return the mask of pixels whose centre is in the area, bool (rows, columns)."""
        return self._area.covers(window_of((rows.start, rows.stop), (columns.start, columns.stop)))


@dataclass(frozen=True)
class _Strip:
    """A row of tiles of a block: pixels (C, rows, columns), and masks of those that are not mapped, by reason."""

    block: Block
    row: int
    image: NDArray[np.float32]
    missing: NDArray[np.bool_]
    implausible: NDArray[np.bool_] | None
    hidden: NDArray[np.bool_] | None


@dataclass(frozen=True)
class _PendingTile:
    """A tile whose pass has started; ``coming`` is None if none of its pixels is mapped."""

    block: Block
    row: int
    column: int
    coming: Future[NDArray[np.float32]] | None
    missing: NDArray[np.bool_]
    implausible: NDArray[np.bool_] | None
    hidden: NDArray[np.bool_] | None


def compute_blocks(
    scene: Pixels,
    forward: Forward,
    plan: Plan,
    blocks: Iterable[Block],
    dtype: np.dtype[Any],
    *,
    plausible: PlausibleRange,
    mask: Mask | None = None,
    clouds: Hidden | None = None,
    threads: int = 1,
    batch: int = 1,
    layers: tuple[int, ...] = (),
) -> Results:
    """Compute blocks in the given order.

    Args:
        scene: source of the pixels; read by one thread at a time.
        forward: forward pass of a tile; called by several threads at once.
        plan: plan of the scene.
        blocks: blocks of the plan.
        dtype: dtype of the values; see :func:`zoo.mapping.probability.encode`.
        plausible: range of values that count as data.
        mask: pixels to map; None for all.
        clouds: pixels to skip because the ground is hidden; None for none.
        threads: number of passes that run in parallel.
        batch: number of tiles to read ahead.
        layers: shape of the output of ``forward`` per pixel; see :class:`zoo.mapping.tiling.Canvas`.

    Raises:
        DataError: if the scene is truncated.
    """
    waiting: deque[_PendingTile] = deque()
    canvases: dict[tuple[int, int], tuple[Canvas, int]] = {}

    def settle() -> Iterator[tuple[Block, BlockResult]]:
        tile = waiting.popleft()
        place = tile.block.row, tile.block.column
        canvas, left = canvases.pop(place, (None, len(tile.block.tile_rows) * len(tile.block.tile_columns)))
        canvas = canvas or Canvas(plan, tile.block, dtype, layers)
        probability = None if tile.coming is None else tile.coming.result()
        canvas.add(tile.row, tile.column, probability, tile.missing, tile.implausible, tile.hidden)
        if left > 1:
            canvases[place] = canvas, left - 1
        else:
            yield tile.block, canvas.result()

    with ExitStack() as exits:
        exits.enter_context(single_threaded_passes())
        pool = ThreadPoolExecutor(threads, initializer=enter_thread)
        # After an error or Ctrl-C, do not wait for tiles that are no longer needed.
        exits.callback(pool.shutdown, wait=True, cancel_futures=True)
        places = ((block, row) for block in blocks for row in block.tile_rows)
        for strip in read_ahead(places, lambda place: _read_strip(scene, plan, *place, mask, clouds, plausible)):
            view = plan.columns.view(strip.block.tile_columns)
            for column in strip.block.tile_columns:
                part = plan.columns.tiles[column].within(view)
                missing = strip.missing[:, part]
                implausible = None if strip.implausible is None else strip.implausible[:, part]
                hidden = None if strip.hidden is None else strip.hidden[:, part]
                coming = None if missing.all() else pool.submit(forward, strip.image[:, :, part])
                waiting.append(_PendingTile(strip.block, strip.row, column, coming, missing, implausible, hidden))
                while len(waiting) > threads + batch:
                    yield from settle()
        while waiting:
            yield from settle()


def _read_strip(
    scene: Pixels,
    plan: Plan,
    block: Block,
    row: int,
    mask: Mask | None,
    clouds: Hidden | None,
    plausible: PlausibleRange,
) -> _Strip:
    rows, columns = plan.rows.tiles[row], plan.columns.view(block.tile_columns)
    image = scene.read(rows, columns)
    missing, implausible = plausible.clean(image)
    hidden: NDArray[np.bool_] | None = None
    if clouds is not None:
        hidden = clouds.hidden(rows, columns) & ~missing
        image[:, hidden] = np.nan
        missing |= hidden
    if mask is not None:
        covered = mask.covers(rows, columns)
        missing |= ~covered
        implausible = None if implausible is None else implausible & covered
        hidden = None if hidden is None else hidden & covered
    return _Strip(block, row, image, missing, implausible, hidden)


@dataclass(frozen=True)
class InferenceForm:
    """Form in which a predictor runs; can be sent to other machines.

    Attributes:
        name: name of the form, recorded in the map's tags and in the key of its journal.
        precision: the requested precision.
        example: a tile of the scene, float32 (C, h, w); None for the predictor as trained.
        choices: the measurements that led to the form, by precision.
        threshold: threshold of the mask, at which bf16 is checked.
    """

    name: str
    precision: MapPrecision
    example: NDArray[np.float32] | None
    choices: Mapping[str, TunedChoice]
    threshold: float


def choose_form(
    predictor: Predictor, scene: Scene, plan: Plan, precision: MapPrecision, device: torch.device, threshold: float
) -> tuple[Predictor, InferenceForm, tuple[str, ...]]:
    """Choose the fastest form of a predictor by measurement, once per machine, model and tile size.

    Small scenes in fp32 use the model as trained, because a search would not pay off.

    Args:
        predictor: predictor on ``device``.
        scene: scene to map; a tile from its middle is the example.
        plan: plan of the scene.
        precision: see :func:`zoo.deploy.optimize`.
        device: device to compute on.
        threshold: threshold of the bundle.

    Returns:
        The predictor to use, its form, and messages for the user.
    """
    if precision == "fp32" and plan.tile_count < MIN_TILES_FOR_SEARCH:
        return predictor, InferenceForm(AS_TRAINED, precision, None, {}, threshold), ()
    rows = plan.rows.tiles[max(0, len(plan.rows) // 2 - 1)]
    columns = plan.columns.tiles[max(0, len(plan.columns) // 2 - 1)]
    image = padded(scene.read(rows, columns), smallest_side(predictor))
    PlausibleRange.of(predictor).clean(image)
    with single_threaded_passes():
        example = torch.from_numpy(image)[None].to(device)
        found = _optimized(predictor, example, precision, threshold)
    report: Any = found.model.report
    form = InferenceForm(str(report.chosen), precision, image, report.choices, threshold)
    return found, form, tuple(report.messages)


def _optimized(
    predictor: Predictor,
    example: torch.Tensor,
    precision: MapPrecision,
    threshold: float,
    choices: Mapping[str, TunedChoice] | None = None,
) -> Predictor:
    # A choice of another machine must not enter the cache of this one.
    found = optimize(predictor, example, precision, threshold=threshold, use_cache=choices is None, choices=choices)
    assert isinstance(found, Predictor)
    # The optimised model has the same minimum input size but lacks the attribute.
    inner: Any = found.model
    inner.minimum_size = smallest_side(predictor)
    return found


@dataclass(frozen=True)
class ForwardMaker:
    """Factory of a map's forward pass on another machine, in the form that the first machine chose.

    Attributes:
        predictor: the predictor as trained, on the CPU.
        form: the form to use.
        tta: see :class:`TileForward`.
    """

    predictor: Predictor
    form: InferenceForm
    tta: bool

    def __call__(self, device: torch.device) -> TileForward:
        """Return a forward pass on ``device``.

        Raises:
            ZooError: if this machine does not support that form, because its results would differ.
        """
        predictor = self.predictor.to(device).eval()
        if self.form.example is not None:
            predictor = self._require_form(predictor, torch.from_numpy(self.form.example)[None].to(device))
        return TileForward(predictor, device, tta=self.tta)

    def _require_form(self, predictor: Predictor, example: torch.Tensor) -> Predictor:
        form = self.form
        with single_threaded_passes():
            found = _optimized(predictor, example, form.precision, form.threshold, form.choices)
        chosen = str(getattr(found.model, "report").chosen)  # noqa: B009 - a module's attribute of another type
        if chosen != form.name:
            raise ZooError(
                f"computes in the form {chosen!r} instead of {form.name!r}, so its pixels would differ",
                where=os.uname().nodename,
                hint="Use machines of one kind, or --precision fp32",
            )
        return found


def predict_image(
    forward: Forward, image: NDArray[np.float32], plausible: PlausibleRange, *, tile: int, overlap: int, threads: int
) -> NDArray[np.float32]:
    """Return the landslide probability of an image in memory, as ``zoo map --dtype float32`` computes it.

    Args:
        forward: forward pass of a tile.
        image: float32 (C, H, W), in physical units, NaN where missing.
        plausible: range of values that count as data.
        tile: see :class:`zoo.mapping.tiling.Axis`.
        overlap: see :class:`zoo.mapping.tiling.Axis`.
        threads: number of passes that run in parallel.

    Returns:
        float32 (H, W), NaN where a band is missing or implausible, or the model returns no finite probability.
    """
    plan = Plan((image.shape[1], image.shape[2]), tile, overlap)
    source, dtype = _ArrayPixels(image), np.dtype(np.float32)
    done: dict[tuple[int, int], BlockResult] = {}
    for block, result in compute_blocks(
        source, forward, plan, plan.blocks(), dtype, plausible=plausible, threads=threads, batch=2
    ):
        done[block.row, block.column] = result
    found = np.empty(image.shape[1:], dtype=np.float32)
    for block in plan.blocks():
        rows, columns, values = join(plan, block, lambda one, field: getattr(done[one.row, one.column], field))
        found[rows.start : rows.stop, columns.start : columns.stop] = values
    return found


class _ArrayPixels:
    """An image in memory as a source of pixels."""

    def __init__(self, image: NDArray[np.float32]) -> None:
        self._image = image

    def read(self, rows: PixelRange, columns: PixelRange) -> NDArray[np.float32]:
        """Return a copy, which the caller may change."""
        return self._image[:, rows.start : rows.stop, columns.start : columns.stop].copy()
