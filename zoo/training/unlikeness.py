"""Distance of a scene from a bundle's training data, without labels.

The first layer with running statistics (batch norm) stores the mean and variance of its input over the training data.
``zoo adapt`` prints the distance between these and the statistics over windows of a scene. It separates regions where a
model works from regions where it fails: in docs/how_to/adapt.md the unadapted model has a Dice of 0.60 to 0.62 at a
distance of 0.14 to 0.23, and of 0.06 to 0.22 at 0.65 to 0.79.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from zoo.training.adaptation_data import PatchSample
from zoo.training.bundle import Bundle
from zoo.training.running_statistics import order_of_use, replace_statistics, tracked_layers

FAR = 0.4
"""Distance of the first layer at or above which a scene is unlike the training data, in standard deviations [O]."""

BEYOND_CHANCE = 2.0
"""The distance must be this many times larger than the part explained by the choice of windows [O]."""

BAND_SHIFT, BAND_SPREAD = 1.0, 2.0
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
    def far(self) -> bool:
        """Whether the band is unlike the training data."""
        return self.shift > BAND_SHIFT or self.spread > BAND_SPREAD


@dataclass(frozen=True)
class Unlikeness:
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
    def far(self) -> bool:
        """Whether the scene is unlike the training data."""
        if self.distance is None or self.chance is None:
            return self.distance is None and any(band.far for band in self.bands)
        return self.distance > FAR and self.distance > BEYOND_CHANCE * self.chance

    def sentence(self) -> str:
        """Return how far the scene is from the training data, in words."""
        worst = max(self.bands, key=lambda band: max(band.shift / BAND_SHIFT, band.spread / BAND_SPREAD))
        shown = (
            f"{worst.name} {worst.mean:.4g} ± {worst.std:.3g} here, {worst.trained_mean:.4g} ± {worst.trained_std:.3g} "
            "there"
        )
        if self.distance is None or self.chance is None:
            return f"the largest difference is in band {shown}"
        return f"its first layer is {self.distance:.2f} standard deviations away, {self.chance:.2f} by chance; {shown}"


def measure_unlikeness(bundle: Bundle, sample: PatchSample, device: torch.device | str = "cpu") -> Unlikeness:
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
        return Unlikeness(tuple(bands), None, None)

    @torch.inference_mode()
    def run(images: torch.Tensor) -> object:
        return predictor(images.to(device))

    uses = order_of_use(predictor.model, run, lambda: sample.batches(1))
    first = dict(list(uses.items())[:1])
    shifts = replace_statistics(predictor.model, run, lambda: sample.batches(16), share=0.0, uses=first)
    if not shifts:
        return Unlikeness(tuple(bands), None, None)
    [shift] = shifts.values()
    chance = math.sqrt(shift.error) if math.isfinite(shift.error) else None
    return Unlikeness(tuple(bands), math.sqrt(shift.distance), chance)
