"""Distance of a scene, and of each of its tiles, from a bundle's training data, without labels.

The first layer with running statistics (batch norm) stores the mean and variance of its input over the training data.
``zoo map`` compares these with the statistics over windows of the scene. The distance separates regions where a model
works from regions where it fails: in docs/how_to/adapt.md the unadapted model has a Dice of 0.60 to 0.62 at a distance
of 0.14 to 0.23, and of 0.06 to 0.22 at 0.65 to 0.79.
"""

from __future__ import annotations

import math
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
from zoo.mapping.tiling import PixelRange
from zoo.training.adaptation import PatchSample
from zoo.training.bundle import Bundle
from zoo.training.predictor import PlausibleRange
from zoo.training.running_statistics import ImageDistances, order_of_use, replace_statistics, tracked_layers

if TYPE_CHECKING:
    from rasterio.windows import Window

DEFAULT_TILE_SIDE = 128
"""Side of a tile in pixels, if the bundle does not record the distance of its validation patches [O]."""

BATCH_SIZE = 16

MIN_SHIFT = 0.4
"""Distance of the first layer above which a scene is unlike the training data, in standard deviations [O]."""

MIN_RATIO_TO_CHANCE = 2.0
"""The distance must be this many times larger than the part explained by the choice of windows [O]."""

MAX_BAND_SHIFT, MAX_BAND_SPREAD = 1.0, 2.0
"""Maximum shift of a band's mean, in training standard deviations, and maximum ratio of its standard deviations, for
a scene that is like the training data. Without running statistics, only these decide [O]."""


@dataclass(frozen=True)
class BandShift:
    """Statistics of one band in a scene and in the training data.

    Attributes:
        name: name of the band.
        mean, std: over the scene, in the band's unit.
        trained_mean, trained_std: over the training data.
    """

    name: str
    mean: float
    std: float
    trained_mean: float
    trained_std: float

    @property
    def shift(self) -> float:
        """Difference of the means in training standard deviations."""
        return abs(self.mean - self.trained_mean) / max(self.trained_std, 1e-12)

    @property
    def spread(self) -> float:
        """Ratio of the larger standard deviation to the smaller one."""
        pair = sorted((max(self.std, 1e-12), max(self.trained_std, 1e-12)))
        return pair[1] / pair[0]

    @property
    def is_large(self) -> bool:
        """Whether the band is unlike the training data."""
        return self.shift > MAX_BAND_SHIFT or self.spread > MAX_BAND_SPREAD


@dataclass(frozen=True)
class DomainShift:
    """Distance of a scene from the training data.

    Attributes:
        bands: shift of each band.
        distance: distance of the first layer in standard deviations; ``None`` without running statistics.
        chance: distance explained by the choice of windows alone; ``None`` if it is unknown.
    """

    bands: tuple[BandShift, ...]
    distance: float | None
    chance: float | None

    @property
    def is_large(self) -> bool:
        """Whether the scene is unlike the training data."""
        if self.distance is None or self.chance is None:
            return self.distance is None and any(band.is_large for band in self.bands)
        return self.distance > MIN_SHIFT and self.distance > MIN_RATIO_TO_CHANCE * self.chance

    def sentence(self) -> str:
        """Return how far the scene is from the training data, in words."""
        worst = max(self.bands, key=lambda band: max(band.shift / MAX_BAND_SHIFT, band.spread / MAX_BAND_SPREAD))
        shown = (
            f"{worst.name} {worst.mean:.4g} ± {worst.std:.3g} here, {worst.trained_mean:.4g} ± {worst.trained_std:.3g} "
            "there"
        )
        if self.distance is None or self.chance is None:
            return f"the largest difference is in band {shown}"
        return f"its first layer is {self.distance:.2f} standard deviations away, {self.chance:.2f} by chance; {shown}"


def measure_domain_shift(bundle: Bundle, sample: PatchSample, device: torch.device | str = "cpu") -> DomainShift:
    """Compare windows of a scene with the training data of a bundle.

    Args:
        bundle: a trained model.
        sample: windows in the units of the bundle's bands.
        device: device of the computation.

    Raises:
        ResultError: if the stored statistics or the layer's input are not finite.
    """
    bands = []
    for number, trained in enumerate(bundle.statistics.bands):
        values = sample.images[:, number]
        values = values[~torch.isnan(values)].double()
        mean, std = (float(values.mean()), float(values.std(correction=0))) if len(values) else (math.nan, math.nan)
        bands.append(BandShift(trained.name, mean, std, trained.mean, trained.std))
    # Some models compute with their weights on creation, which inference mode forbids.
    predictor = bundle.at_original_scale().predictor().to(device)
    if not tracked_layers(predictor.model):
        return DomainShift(tuple(bands), None, None)

    @torch.inference_mode()
    def run(images: torch.Tensor) -> object:
        return predictor(images.to(device))

    uses = order_of_use(predictor.model, run, lambda: sample.batches(1))
    first = dict(list(uses.items())[:1])
    shifts = replace_statistics(predictor.model, run, lambda: sample.batches(16), share=0.0, uses=first)
    if not shifts:
        return DomainShift(tuple(bands), None, None)
    [shift] = shifts.values()
    chance = math.sqrt(shift.error) if math.isfinite(shift.error) else None
    return DomainShift(tuple(bands), math.sqrt(shift.distance), chance)


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
    side = DEFAULT_TILE_SIDE if usual is None else usual.side
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
                for batch in torch.split(tiles, BATCH_SIZE):
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
        place = PixelRange(first, min(first + side, height)), PixelRange(0, width)
        image = scene.read(*place)
        plausible.clean(image)
        image[:, clouds.hidden(*place) | clouds.bright(*place)] = np.nan
        yield image
