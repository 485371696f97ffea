"""Distance of each tile of a scene from the training data of a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.errors import ConfigError
from zoo.evaluation.quality import UsualDistance
from zoo.jobs import StageCallback
from zoo.mapping.clouds import Clouds
from zoo.mapping.inference import single_threaded_passes
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import Reach
from zoo.training.bundle import Bundle
from zoo.training.predictor import PlausibleRange
from zoo.training.running_statistics import ImageDistances

if TYPE_CHECKING:
    from rasterio.windows import Window

SIDE = 128
"""Side of a tile in pixels, if the bundle does not record the distance of its validation patches [O]."""

BATCH = 16


@dataclass(frozen=True)
class TileDistances:
    """Distance of each square tile of a scene from the training data.

    Attributes:
        values: float32 (tile rows, tile columns), in standard deviations; NaN where too few pixels have data.
        side: side of a tile in pixels. A tile at the lower or right edge uses the last ``side`` pixels.
        usual: distance of the patches of the validation split; None if it is unknown.
    """

    values: NDArray[np.float32]
    side: int
    usual: UsualDistance | None

    def window(self, window: Window) -> NDArray[np.float32]:
        """Return the distance of each pixel's tile in a window, float32 (rows, columns)."""
        rows = np.arange(window.row_off, window.row_off + window.height) // self.side
        columns = np.arange(window.col_off, window.col_off + window.width) // self.side
        found: NDArray[np.float32] = self.values[np.ix_(rows, columns)]
        return found

    def sentence(self) -> str:
        """Return a sentence that compares the distances with those of the validation patches."""
        known = self.values[np.isfinite(self.values)]
        if not len(known):
            return f"no tile of {self.side} pixels has enough data to be compared with the training data"
        reach = f"{np.median(known):.2f} (median), {known.max():.2f} at most"
        text = f"{len(known):,} tiles of {self.side} pixels are {reach} standard deviations from the training data"
        if self.usual is None:
            return text
        farther = int(np.count_nonzero(known > self.usual.limit))
        usual = (
            f"those of validation {self.usual.median:.2f} (median), {self.usual.share:.0%} up to {self.usual.limit:.2f}"
        )
        return f"{text}, {usual}; {farther:,} tiles are farther"


def measure_tiles(
    bundle: Bundle, scene: Scene, clouds: Clouds, device: torch.device, progress: StageCallback | None = None
) -> TileDistances:
    """Measure the distance of each tile; see :class:`zoo.training.running_statistics.ImageDistances`.

    Tiles have the size of the patches of the validation split, so that their distances can be compared. Sums are
    computed on one thread, so that the same scene gives the same distances.

    Args:
        bundle: a trained model.
        scene: an open scene.
        clouds: clouds of the scene; their pixels have no weight, even where they are mapped.
        device: device to compute on.
        progress: called with the stage, the number of tiles done and the total.

    Raises:
        ConfigError: if the model was not trained.
        DataError: if the scene is truncated.
    """
    usual = bundle.usual_distance
    side = SIDE if usual is None else usual.side
    predictor = bundle.at_original_scale().predictor().to(device)
    if getattr(predictor.model, "takes_units", False):
        raise ConfigError(
            "the model was not trained, so there are no training data to compare with",
            where="--unlike",
            hint="Leave out --unlike",
        )
    plausible = PlausibleRange.of(predictor)
    rows, columns = (-(-length // side) for length in scene.shape)
    width = min(side, scene.shape[1])
    starts = [min(number * side, scene.shape[1] - width) for number in range(columns)]
    found = np.full((rows, columns), np.nan, dtype=np.float32)
    with single_threaded_passes(), torch.inference_mode():
        for row, strip in enumerate(_strips(scene, clouds, plausible, side)):
            tiles = torch.from_numpy(np.stack([strip[:, :, start : start + width] for start in starts]))
            with ImageDistances(predictor.model, only=True) as near:
                for batch in torch.split(tiles, BATCH):
                    near.run(predictor, batch.to(device))
            found[row] = near.found
            if progress is not None:
                progress("comparing tiles with the training data", (row + 1) * columns, rows * columns)
    return TileDistances(found, side, usual)


def _strips(scene: Scene, clouds: Clouds, plausible: PlausibleRange, side: int) -> Iterator[NDArray[np.float32]]:
    """Yield rows of tiles, float32 (C, rows, columns), NaN where there is no data or clouds hide the ground."""
    height, width = scene.shape
    for start in range(0, height, side):
        first = min(start, max(0, height - side))
        place = Reach(first, min(first + side, height)), Reach(0, width)
        image = scene.read(*place)
        plausible.clean(image)
        image[:, clouds.hidden(*place) | clouds.bright(*place)] = np.nan
        yield image
