"""Band statistics of the training split, and the normalisation that uses them.

Training, evaluation, adaptation and mapping all normalise with :func:`normalise_bands` and the scale from
:func:`normalisation_scale`. A band is normalised as ``(value - mean) / scale``; a missing value becomes 0, the mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import ConfigError, DataError
from zoo.jobs import ProgressCallback
from zoo.physics.running import SampledMoments
from zoo.schema import Number, restore_numbers

if TYPE_CHECKING:
    from zoo.datasets.base import PatchDataset

CONSTANT_RATIO = 1e-7
"""Maximum ratio of standard deviation to mean of a constant band; float32 cannot represent finer differences."""


@dataclass(frozen=True)
class BandStatistics:
    """Statistics of one band over its valid pixels.

    Attributes:
        name: name of the band.
        mean: mean, in the band's unit.
        std: population standard deviation, in the band's unit.
        minimum: minimum value.
        maximum: maximum value.
        low: 0.5th percentile.
        high: 99.5th percentile.
        count: number of valid pixels.
        nodata: value that marks a missing pixel, in addition to NaN; None if there is none.

    Raises:
        ValueError: if a statistic is not a finite number.
    """

    name: str
    mean: float
    std: float
    minimum: float
    maximum: float
    low: float
    high: float
    count: int
    nodata: Number | None = None

    def __post_init__(self) -> None:
        restore_numbers(self, "nodata")
        for name in ("mean", "std", "minimum", "maximum", "low", "high"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} of band {self.name!r} is not a finite number")


@dataclass(frozen=True)
class Statistics:
    """Statistics of all bands of a training split.

    Attributes:
        bands: statistics of each band, in order.
        patches: number of patches in the split.
        source: fingerprint of the split.
        landslide_share: share of landslide pixels among the counted mask pixels; ``None`` if it is unknown.

    Raises:
        ValueError: if the share is outside 0 to 1.
    """

    bands: tuple[BandStatistics, ...]
    patches: int
    source: str = ""
    landslide_share: float | None = None

    def __post_init__(self) -> None:
        if self.landslide_share is not None and not 0 <= self.landslide_share <= 1:
            raise ValueError(f"landslide_share is {self.landslide_share!r}, expected a number from 0 to 1")

    @property
    def mean(self) -> NDArray[np.float64]:
        """Return the means, float64 (C,)."""
        return np.array([band.mean for band in self.bands])

    @property
    def std(self) -> NDArray[np.float64]:
        """Return the standard deviations, float64 (C,)."""
        return np.array([band.std for band in self.bands])

    @property
    def scale(self) -> NDArray[np.float64]:
        """Return the divisors of the normalisation, float64 (C,); see :func:`normalisation_scale`."""
        return normalisation_scale(self.mean, self.std)


def compute_statistics(dataset: PatchDataset, progress: ProgressCallback | None = None) -> Statistics:
    """Compute the statistics of a training split in one pass over its patches.

    Moments are accumulated in float64, patch by patch (:class:`zoo.physics.running.SampledMoments`). Percentiles use
    at most two million pixels per band, every k-th pixel with a start that varies from patch to patch [O]: they are
    exact up to that size, and their rank is off by less than 0.02 % above it.

    Args:
        dataset: a training split; its transforms are not applied.
        progress: called with the number of patches done and the total.

    Returns:
        Statistics of the pixels that are neither NaN nor the band's nodata value, and the landslide share of the masks.

    Raises:
        ConfigError: if the split is not "train": statistics of another split would leak into the model.
        DataError: if the split is empty, or a band has no valid pixel or contains an infinite value.
    """
    from zoo.datasets.base import IGNORE

    if dataset.split != "train":
        raise ConfigError(
            f"statistics need the training split, but this is the {dataset.split!r} split",
            hint="Open the data set with split='train'",
        )
    if not len(dataset):
        raise DataError("the training split is empty, so it has no statistics")
    moments: list[SampledMoments] = []
    landslides = known = 0
    for index in range(len(dataset)):
        image, mask = dataset.read(index)
        counted = mask != IGNORE
        known += int(counted.sum())
        landslides += int(((mask != 0) & counted).sum())
        if index == 0:
            moments = [SampledMoments(len(dataset) * image[0].size) for _ in dataset.bands]
        for band, moment, values in zip(dataset.bands, moments, image, strict=True):
            valid = _valid_values(values, band.nodata)
            if np.isinf(valid).any():
                raise DataError(
                    "contains an infinite value",
                    where=f"band {band.name!r} of {dataset.patches[index].name}",
                    hint="Mark such pixels with a nodata value",
                )
            moment.add(valid, start=index)
        if progress is not None:
            progress(index + 1, len(dataset))
    bands = []
    for band, moment in zip(dataset.bands, moments, strict=True):
        if moment.count == 0:
            raise DataError(
                f"band {band.name!r} has no valid pixel in the training split", hint="Leave the band out with bands="
            )
        low, high = moment.percentiles()
        bands.append(
            BandStatistics(
                name=band.name,
                mean=moment.mean,
                std=moment.std,
                minimum=moment.minimum,
                maximum=moment.maximum,
                low=low,
                high=high,
                count=moment.count,
                nodata=band.nodata,
            )
        )
    return Statistics(tuple(bands), len(dataset), dataset.fingerprint(), landslides / known if known else None)


def normalisation_scale(
    mean: Sequence[float] | NDArray[np.float64], std: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the divisor of each band: its standard deviation, or 1 if the band is constant.

    A band is constant if its standard deviation is at most 1e-7 of the absolute value of its mean. Float32 cannot
    represent such differences, so they are rounding errors, and dividing by them would turn any other value into a
    huge number. A constant band is only centred.

    Args:
        mean: mean of each band, (C,).
        std: standard deviation of each band, (C,).

    Returns:
        float64 (C,), all positive.
    """
    deviations = np.asarray(std, dtype=np.float64)
    return np.where(deviations > CONSTANT_RATIO * np.abs(np.asarray(mean, dtype=np.float64)), deviations, 1.0)


def normalise_bands(image: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Return ``(image - mean) / scale``, with 0, the mean, for NaN.

    Args:
        image: (..., C, H, W), floating point, in the units of the bands, NaN where missing.
        mean: (C, 1, 1).
        scale: (C, 1, 1), from :func:`normalisation_scale`.
    """
    return torch.nan_to_num((image - mean) / scale, nan=0.0)


def normalise(image: Tensor, statistics: Statistics) -> Tensor:
    """Normalise an image with the statistics of a training split.

    Args:
        image: (..., C, H, W), in the units of the bands, NaN or the band's nodata value where missing.
        statistics: statistics of the training split.

    Returns:
        An array of the same shape, in float32 or the floating type of ``image``: each band has mean 0 and standard
        deviation 1 over the training split (a constant band is only centred), and is 0 where the image is missing.

    Raises:
        DataError: if the image has another number of bands.
    """
    bands = statistics.bands
    if image.ndim < 3 or image.shape[-3] != len(bands):
        found = image.shape[-3] if image.ndim >= 3 else 0
        raise DataError(f"the image has {found} bands, but the statistics have {len(bands)}")
    values = image if image.is_floating_point() else image.float()
    if any(band.nodata is not None for band in bands):
        # NaN never compares equal, so a band without a nodata value has no match.
        nodata = values.new_tensor([math.nan if band.nodata is None else band.nodata for band in bands])
        values = values.masked_fill(values == nodata[:, None, None], math.nan)
    mean = values.new_tensor(statistics.mean.tolist())[:, None, None]
    scale = values.new_tensor(statistics.scale.tolist())[:, None, None]
    return normalise_bands(values, mean, scale)


def _valid_values(values: NDArray[np.float32], nodata: float | None) -> NDArray[np.float32]:
    """Return the values that are neither NaN nor nodata, flattened."""
    flat = values.ravel()
    valid = ~np.isnan(flat)
    if nodata is not None:
        valid &= flat != np.float32(nodata)
    return flat if valid.all() else flat[valid]
