"""Running statistics of channels: one pass over any number of pixels, none of them kept but a sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.physics.bands import Band
from zoo.physics.running import RunningMoments

PERCENTILES = (0.5, 99.5)
SAMPLED = 2_000_000
"""Values a channel kept for its percentiles: beyond, they are every k-th one, and a rank is off by under 0.02 %."""


@dataclass(frozen=True)
class ChannelStatistics:
    """Statistics of one channel over its own valid values.

    Attributes:
        name: of the channel.
        unit: of the values.
        count: valid values.
        missing: share of values that are missing, 0..1.
        infinite: values that are infinite; they are in no statistic.
        minimum: smallest value; NaN when there is none, like all below.
        low: 0.5th percentile.
        mean: arithmetic mean.
        std: population standard deviation.
        high: 99.5th percentile.
        maximum: largest value.
        outside: share of the valid values outside the channel's valid range; None when it has none.
    """

    name: str
    unit: str
    count: int
    missing: float
    infinite: int
    minimum: float
    low: float
    mean: float
    std: float
    high: float
    maximum: float
    outside: float | None

    @property
    def constant(self) -> bool:
        """Whether all valid values are equal."""
        return self.count > 0 and self.minimum == self.maximum


class Moments:
    """Count, mean and co-moments of channels, updated chunk by chunk in float64.

    The update is that of [S] Chan, Golub and LeVeque (1983), The American Statistician 37, 242-247, for matrices: it
    loses no digits on an elevation of 3,000 m that varies by 1. Channels are described over their own valid values;
    co-moments count the pixels at which every channel is valid (listwise), so that the correlation matrix is one [O].

    Args:
        bands: names, units, valid ranges and nodata values of the channels.
        expected: pixels that will come, to choose the step of the sample; 0 when unknown.
    """

    def __init__(self, bands: tuple[Band, ...], expected: int = 0) -> None:
        self.bands = bands
        self.pixels = 0
        self.complete = 0
        self._step = max(1, math.ceil(expected / SAMPLED))
        self._channels = [_Running(band, self._step) for band in bands]
        self._means = np.zeros(len(bands))
        self._products = np.zeros((len(bands), len(bands)))

    def add(self, image: NDArray[np.floating]) -> None:
        """Count the pixels of an image.

        Args:
            image: float (C, ...), NaN or the channel's nodata value where missing.

        Raises:
            DataError: if it has another number of channels.
        """
        if len(image) != len(self.bands):
            raise DataError(f"an image of {len(image)} channels among images of {len(self.bands)}")
        values = image.reshape(len(image), -1)
        valid = np.isfinite(values)
        for band, (row, good) in enumerate(zip(values, valid, strict=True)):
            nodata = self.bands[band].nodata
            if nodata is not None and not math.isnan(nodata):
                # A nodata value such as -1.8e308 has no float32; what held it is infinite here, so invalid already.
                with np.errstate(over="ignore"):
                    good &= row != row.dtype.type(nodata)
            self._channels[band].add(row, good, self.pixels)
        self.pixels += values.shape[1]
        whole = valid.all(axis=0)
        self._update(values[:, whole].astype(np.float64))

    def _update(self, values: NDArray[np.float64]) -> None:
        count = values.shape[1]
        if not count:
            return
        means = values.mean(axis=1)
        values -= means[:, None]
        shift = means - self._means
        total = self.complete + count
        self._products += values @ values.T + np.outer(shift, shift) * (self.complete * count / total)
        self._means += shift * count / total
        self.complete = total

    @property
    def means(self) -> NDArray[np.float64]:
        """Means over the complete pixels, float64 (C,)."""
        return self._means.copy()

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Population covariance over the complete pixels, float64 (C, C); NaN when there is none."""
        if not self.complete:
            return np.full_like(self._products, np.nan)
        # Rounding leaves the two triangles a few units in the last place apart.
        return (self._products + self._products.T) / (2 * self.complete)

    def statistics(self) -> tuple[ChannelStatistics, ...]:
        """Give the statistics of every channel."""
        return tuple(channel.finish() for channel in self._channels)


class _Running:
    def __init__(self, band: Band, step: int) -> None:
        self._band = band
        self._step = step
        self._seen = self._infinite = self._outside = 0
        self._moments = RunningMoments()
        self._sampled: list[NDArray[np.floating]] = []

    def add(self, row: NDArray[np.floating], valid: NDArray[np.bool_], offset: int) -> None:
        self._seen += row.size
        self._infinite += int(np.isinf(row).sum())
        values = row[valid]
        if not values.size:
            return
        self._moments.add(values)
        low, high = self._band.valid_min, self._band.valid_max
        # Bounds of the type of the values: 0.1 as float32 must not lie above 0.1.
        if low is not None:
            self._outside += int((values < values.dtype.type(low)).sum())
        if high is not None:
            self._outside += int((values > values.dtype.type(high)).sum())
        # A start that moves keeps a step that divides the row length from always hitting the same columns.
        self._sampled.append(values[offset // max(1, row.size) % min(self._step, values.size) :: self._step].copy())

    def finish(self) -> ChannelStatistics:
        band = self._band
        low = high = math.nan
        if self._sampled:
            low, high = (float(value) for value in np.percentile(np.concatenate(self._sampled), PERCENTILES))
        ranged = band.valid_min is not None or band.valid_max is not None
        moments = self._moments
        return ChannelStatistics(
            name=band.name,
            unit=band.unit,
            count=moments.count,
            missing=1 - moments.count / self._seen if self._seen else math.nan,
            infinite=self._infinite,
            minimum=moments.minimum,
            low=low,
            mean=moments.mean,
            std=moments.std,
            high=high,
            maximum=moments.maximum,
            outside=self._outside / moments.count if ranged and moments.count else None,
        )
