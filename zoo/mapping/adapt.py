"""A bundle adapted to the scene that it maps, from windows of the scene itself and without labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from zoo.mapping.forward import single_threaded_passes
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import Reach
from zoo.training.adaptation import Progress, adapt
from zoo.training.bundle import Bundle
from zoo.training.scales import AS_IT_IS

WINDOWS, SIDE = 128, 128
"""Windows that are looked at, spread over the scene, and pixels along their sides [O]."""


def adapt_to_scene(
    bundle: Bundle,
    scene: Scene,
    device: torch.device,
    progress: Progress | None = None,
    *,
    scales: Sequence[float] | Literal["auto"] = AS_IT_IS,
) -> Bundle:
    """Re-estimate the normalisation statistics of a bundle on the scene.

    The share of the scene in the statistics is chosen without labels, and may be 0; see :mod:`zoo.training.adaptation`.
    Sums are made on one thread, so that the same scene gives the same bundle. It is seen at all ``scales``, or at
    one that is chosen (``auto``).

    Raises:
        ZooError: if the model has no running statistics, or no window has a pixel with all bands.
    """
    with single_threaded_passes():
        target = {"scene": scene.mosaic.paths[0]}
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
