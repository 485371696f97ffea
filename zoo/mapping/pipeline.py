"""From a scene and a predictor to a map."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from zoo import __version__
from zoo.errors import ConfigError, DataError
from zoo.jobs import ProgressCallback
from zoo.mapping.inference import AreaMask, Results, TileForward, compute_blocks, single_threaded_passes
from zoo.mapping.journal import Journal, half_published
from zoo.mapping.output import MapReport, write_map
from zoo.mapping.probability import ProbabilityClasses
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import Block, Plan, Reach, check_tiling
from zoo.rasters.cog import COMPRESSIONS, check_output, check_room
from zoo.rasters.vectors import Area
from zoo.training.adaptation import adapt
from zoo.training.bundle import AdaptationTarget, Bundle
from zoo.training.compute import describe_environment
from zoo.training.predictor import ORIGINAL_SCALE, Predictor

WINDOWS, SIDE = 128, 128
"""Windows that are looked at, spread over the scene, and pixels along their sides [O]."""


def adapt_to_scene(
    bundle: Bundle,
    scene: Scene,
    device: torch.device,
    progress: ProgressCallback | None = None,
    *,
    scales: Sequence[float] | Literal["auto"] = ORIGINAL_SCALE,
) -> Bundle:
    """Re-estimate the normalisation statistics of a bundle on the scene.

    The share of the scene in the statistics is chosen without labels, and may be 0; see :mod:`zoo.training.adaptation`.
    Sums are made on one thread, so that the same scene gives the same bundle. It is seen at all ``scales``, or at
    one that is chosen (``auto``).

    Raises:
        ZooError: if the model has no running statistics, or no window has a pixel with all bands.
    """
    with single_threaded_passes():
        target = AdaptationTarget(scene=scene.mosaic.paths[0])
        return adapt(bundle, _windows(scene), scales=scales, device=device, target=target, progress=progress)


def _windows(scene: Scene) -> Iterator[Tensor]:
    """One window of each cell of an even grid, at a place drawn with a fixed seed; every pixel of a small scene."""
    height, width = scene.shape
    down = min(-(-height // SIDE), max(1, round((WINDOWS * height / width) ** 0.5)))
    across = min(-(-width // SIDE), max(1, WINDOWS // down))
    generator = np.random.default_rng(0)
    rows, columns = min(SIDE, height), min(SIDE, width)
    for row in range(down):
        for column in range(across):
            top = _place(generator, row, down, height - rows)
            left = _place(generator, column, across, width - columns)
            image = scene.read(Reach(top, top + rows), Reach(left, left + columns))
            image[~np.isfinite(image)] = np.nan
            yield torch.from_numpy(image)[None]


def _place(generator: np.random.Generator, cell: int, cells: int, room: int) -> int:
    first, last = cell * room // cells, (cell + 1) * room // cells
    return int(generator.integers(first, last + 1))


ROOM = 3.8
"""Times the bytes of the map: its blocks, a working file with overviews, and at worst as much again for the result."""

StageProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class MapOptions:
    """How a map is made. The first five change its bytes, the others do not.

    Args:
        tile: pixels along the side of a tile, a multiple of 32.
        overlap: pixels that neighbours share, a multiple of 32 up to half a tile. They are blended over its middle
            half.
        tta: average over the eight flips and rotations of each tile.
        dtype: "uint8", steps of 0.004 with 255 for nodata, or "float32" with NaN.
        compress: one of :data:`zoo.rasters.cog.COMPRESSIONS`.
        threads: tiles computed at the same time; None for as many as torch has threads (one on a GPU).
        batch: tiles read and ready for a free thread.
        device: where the predictor runs.

    Raises:
        ConfigError: for a value that is out of range.
    """

    tile: int = 512
    overlap: int = 64
    tta: bool = False
    dtype: Literal["uint8", "float32"] = "uint8"
    compress: str = "deflate"
    threads: int | None = None
    batch: int = 4
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        check_tiling(self.tile, self.overlap)
        if self.dtype not in ("uint8", "float32"):
            raise ConfigError(f"numbers of type {self.dtype!r}", hint="uint8 or float32")
        if self.compress not in COMPRESSIONS:
            raise ConfigError(f"compression {self.compress!r}", hint=f"One of: {', '.join(COMPRESSIONS)}")
        if (self.threads is not None and self.threads < 1) or self.batch < 1:
            raise ConfigError("less than one thread, or than one tile a batch")

    @property
    def workers(self) -> int:
        """Tiles computed at the same time."""
        if self.threads is not None:
            return self.threads
        return torch.get_num_threads() if self.device.type == "cpu" else 1


class Runner(Protocol):
    """What computes blocks: this process, or a cluster."""

    def __call__(self, blocks: Iterable[Block]) -> Results:
        """Give the blocks as they become whole, in any order."""
        ...


def map_scene(
    predictor: Predictor,
    scene: Scene,
    out: Path,
    options: MapOptions | None = None,
    *,
    threshold: float = 0.5,
    mask: Area | None = None,
    classes: ProbabilityClasses | None = None,
    classes_out: Path | None = None,
    tags: Mapping[str, str] | None = None,
    identity: Mapping[str, Any] | None = None,
    runner: Runner | None = None,
    overwrite: bool = False,
    progress: StageProgress | None = None,
) -> MapReport:
    """Write the landslide probability of every pixel of a scene as a cloud-optimised GeoTIFF.

    Tiles are blended by windows that add up to exactly 1. The bytes do not depend on batch, threads or workers. Memory
    does not grow with the scene. What a killed run has finished lies in a hidden folder beside ``out``, and the same
    call goes on from there; ``out`` appears when it is whole.

    A pixel that lacks a band is nodata in the map. Where a convolution reaches it, the predictor takes the band's mean.

    Args:
        predictor: in eval mode, on ``options.device``; takes the bands of ``scene``.
        scene: an open one.
        out: the probability.
        options: how it is made.
        threshold: probability from which a pixel counts as landslide in the report; kept as a tag.
        mask: where the map is wanted; None for everywhere. Elsewhere is nodata.
        classes: that ``classes_out`` is made of.
        classes_out: uint8 classes from 1, with colours, 0 for nodata; None for none.
        tags: of the files.
        identity: what else the bytes depend on, as JSON can hold it. "predictor" takes the place of a digest of its
            weights, which a predictor in an optimised form no longer shows.
        runner: computes blocks elsewhere; None for here.
        overwrite: replace outputs that are there.
        progress: called as the work goes on.

    Raises:
        ZooError: if an output is there already or cannot be written, the scene is truncated, or no pixel has all bands.
    """
    options = options or MapOptions()
    if (classes is None) != (classes_out is None):
        raise ConfigError("classes and a file for them go together")
    inputs = [Path(path) for path in scene.mosaic.paths]
    outputs = (out, *([] if classes_out is None else [classes_out]))
    for path in outputs:
        check_output(path, inputs, overwrite=overwrite or half_published(out))
    plan = Plan(scene.shape, options.tile, options.overlap)
    told = {
        **_scene_tags(scene),
        **(tags or {}),
        "TILE": str(options.tile),
        "OVERLAP": str(options.overlap),
        "TEST_TIME_AVERAGING": "D4" if options.tta else "none",
        "ZOO_VERSION": __version__,
    }
    if mask is not None:
        told["MASK"] = mask.path.name
    key = {
        "tags": told,
        "predictor": (identity or {}).get("predictor") or predictor_digest(predictor),
        "scene": scene.identity(),
        "mask": None if mask is None else _file_digest(mask.path),
        "dtype": options.dtype,
        "compress": options.compress,
        "threshold": threshold,
        "classes": None if classes is None else asdict(classes),
        "classes_out": None if classes_out is None else str(classes_out),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "device": describe_environment(options.device).device_name if runner is None else options.device.type,
        **(identity or {}),
    }
    with Journal(out, key) as journal:
        for path in outputs:
            check_output(path, inputs, overwrite=overwrite or journal.publishing)
        done = journal.done()
        _check_room(journal, out, scene.shape, options.dtype, classes is not None)
        todo = [block for block in plan.blocks() if (block.row, block.column) not in done]
        if runner is None:
            runner = local_runner(predictor, scene, plan, options, mask)
        total = len(done) + len(todo)
        with closing(runner(todo)) as results:
            for number, (block, result) in enumerate(results, len(done) + 1):
                journal.save(block, result)
                if progress is not None:
                    progress("mapping", number, total)
        area = None if scene.mosaic.pixel_size is None else scene.mosaic.pixel_size**2
        report = MapReport(out, classes_out, scene.shape, plan.tile_count, area, total, len(done))
        try:
            write_map(
                report,
                scene.mosaic,
                plan,
                journal,
                dtype=options.dtype,
                threshold=threshold,
                classes=classes,
                tags=told,
                compress=options.compress,
                progress=None if progress is None else lambda done, all_: progress("writing", done, all_),
            )
        except DataError as error:
            journal.discard()
            raise DataError(error.problem, where=scene.mosaic.paths[0], hint=error.hint) from None
        journal.discard()
    return report


def local_runner(
    predictor: Predictor, scene: Scene, plan: Plan, options: MapOptions, mask: Area | None = None
) -> Runner:
    """Compute blocks in this process."""
    forward = TileForward(predictor, options.device, tta=options.tta)

    def run(blocks: Iterable[Block]) -> Results:
        return compute_blocks(
            scene,
            forward,
            plan,
            blocks,
            np.dtype(options.dtype),
            mask=None if mask is None else AreaMask(mask),
            threads=options.workers,
            batch=options.batch,
        )

    return run


def predictor_digest(predictor: Predictor) -> str:
    """A sha256 of weights, buffers, normalisation and magnifications: what tells one predictor from another."""
    model = predictor.model
    digest = hashlib.sha256(f"{type(model).__qualname__} {model.extra_repr()}".encode())
    tensors = {**predictor.state_dict(), "mean": predictor.mean, "std": predictor.std}
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _scene_tags(scene: Scene) -> dict[str, str]:
    tags = {name: scene.mosaic.tags[name] for name in ("SCENE", "DATE", "PHASE") if name in scene.mosaic.tags}
    tags.setdefault("SCENE", Path(scene.mosaic.paths[0]).stem)
    return {**tags, "BANDS": ", ".join(f"{band.name} [{band.unit}]" for band in scene.bands)}


def _check_room(journal: Journal, out: Path, shape: tuple[int, int], dtype: str, classes: bool) -> None:
    needed = ROOM * shape[0] * shape[1] * (np.dtype(dtype).itemsize + classes)
    there = sum(path.stat().st_size for path in journal.folder.glob("block-*.npz"))
    check_room(out, needed - there, out.parent)
