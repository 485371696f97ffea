"""Statistics of numbers that arrive in pieces and are never in memory together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.physics.bands import Band


class RunningMoments:
    """Count, range, mean and standard deviation, updated piece by piece in float64.

    The update is that of Chan, Golub and LeVeque (1983), The American Statistician 37, 242-247 [S]. Unlike a sum of
    squares, it loses no digits on an elevation of 3,000 m that varies by 1 m.

    Attributes:
        count: number of values.
        minimum: smallest value; NaN without a value, like the next two.
        maximum: largest value.
        mean: arithmetic mean.
    """

    def __init__(self) -> None:
        self.count = 0
        self.minimum = self.maximum = self.mean = math.nan
        self._squares = 0.0

    def add(self, values: NDArray[np.floating[Any]]) -> None:
        """Add finite numbers of any shape; the caller leaves out missing ones."""
        if not values.size:
            return
        exact = values.astype(np.float64).ravel()
        count, mean = exact.size, float(exact.mean())
        low, high = float(exact.min()), float(exact.max())
        exact -= mean
        squares = float(np.dot(exact, exact))
        if self.count == 0:
            self.minimum, self.maximum, self.mean = low, high, mean
        else:
            shift = mean - self.mean
            self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
            self.mean += shift * count / (self.count + count)
            squares += shift * shift * self.count * count / (self.count + count)
        self._squares += squares
        self.count += count

    @property
    def std(self) -> float:
        """Standard deviation of the population; NaN without a value."""
        return math.sqrt(self._squares / self.count) if self.count else math.nan


class RunningStatistics:
    """Count, minimum, maximum, mean, standard deviation and percentiles of a band, window by window.

    Args:
        band: a band with a valid range, which the histogram covers.
        bins: bins of the histogram; with 65,536 a bin is 0.14 m of elevation, 0.0014 degrees of slope or 3e-5 of an
            index.

    Attributes:
        pixels: number of pixels, with and without a value.
    """

    def __init__(self, band: Band, bins: int = 65_536) -> None:
        assert band.valid_min is not None
        assert band.valid_max is not None
        self._low, self._high = band.valid_min, band.valid_max
        self._counts: NDArray[np.int64] = np.zeros(bins, dtype=np.int64)
        self._moments = RunningMoments()
        self.pixels = 0

    def add(self, values: NDArray[np.float32]) -> None:
        """Add a window of values within the band's valid range; NaN is a missing value."""
        known = values[~np.isnan(values)].astype(np.float64)
        self.pixels += values.size
        if not known.size:
            return
        self._moments.add(known)
        place = (known - self._low) * (self._counts.size / (self._high - self._low))
        places = np.clip(place.astype(np.int64), 0, self._counts.size - 1)
        self._counts += np.bincount(places, minlength=self._counts.size)

    @property
    def valid(self) -> int:
        """Number of pixels that have a value."""
        return self._moments.count

    @property
    def minimum(self) -> float:
        """Smallest value; NaN without a valid pixel, like all that follow."""
        return self._moments.minimum

    @property
    def maximum(self) -> float:
        """Largest value."""
        return self._moments.maximum

    @property
    def mean(self) -> float:
        """Arithmetic mean."""
        return self._moments.mean

    @property
    def deviation(self) -> float:
        """Standard deviation of the population, as in GDAL."""
        return self._moments.std

    @property
    def valid_percent(self) -> float:
        """Share of pixels that have a value, in per cent."""
        return 100 * self.valid / self.pixels if self.pixels else 0.0

    def percentile(self, percent: float) -> float:
        """Return the value below which ``percent`` of the valid pixels are, within one bin; NaN if there are none."""
        if not self.valid:
            return math.nan
        total = np.cumsum(self._counts)
        wanted = percent / 100 * self.valid
        step = int(np.searchsorted(total, wanted))
        before = int(total[step - 1]) if step else 0
        part = (wanted - before) / max(int(self._counts[step]), 1)
        value = self._low + (step + part) * (self._high - self._low) / self._counts.size
        return min(max(value, self.minimum), self.maximum)

    def tags(self) -> dict[str, str]:
        """Return the statistics under GDAL's names; without a valid pixel only their share."""
        share = {"STATISTICS_VALID_PERCENT": f"{self.valid_percent:.4g}"}
        if not self.valid:
            return share
        return {
            "STATISTICS_MINIMUM": f"{self.minimum:.9g}",
            "STATISTICS_MAXIMUM": f"{self.maximum:.9g}",
            "STATISTICS_MEAN": f"{self.mean:.9g}",
            "STATISTICS_STDDEV": f"{self.deviation:.9g}",
            **share,
        }


PERCENTILES = (0.5, 99.5)
SAMPLED = 2_000_000
"""Values that a channel keeps for its percentiles. With more, it keeps every k-th one, and a rank is off by at most
0.02 %."""


@dataclass(frozen=True)
class ChannelStatistics:
    """Statistics of one channel over its own valid values.

    Attributes:
        name: name of the channel.
        unit: unit of the values.
        count: number of valid values.
        missing: share of missing values, 0..1.
        infinite: number of infinite values, which no statistic includes.
        minimum: smallest value; NaN without a valid value, like all that follow.
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
    """Count, mean and co-moments of channels, updated piece by piece in float64, as :class:`RunningMoments`.

    The statistics of a channel use its own valid values. Co-moments use the pixels where every channel is valid
    (listwise), so that the correlation matrix is positive semidefinite [O].

    Args:
        bands: names, units, valid ranges and nodata values of the channels.
        expected: expected number of pixels, which sets the step of the sample; 0 if unknown.
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
        """Add the pixels of an image.

        Args:
            image: float (C, ...), NaN or the channel's nodata value where missing.

        Raises:
            DataError: if the number of channels differs.
        """
        if len(image) != len(self.bands):
            raise DataError(f"an image has {len(image)} channels, expected {len(self.bands)}")
        values = image.reshape(len(image), -1)
        valid = np.isfinite(values)
        for band, (row, good) in enumerate(zip(values, valid, strict=True)):
            nodata = self.bands[band].nodata
            if nodata is not None and not math.isnan(nodata):
                # A nodata value such as -1.8e308 does not fit float32; its pixels are infinite and already invalid.
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
        # By rounding, the two triangles differ in the last digits.
        return (self._products + self._products.T) / (2 * self.complete)

    def statistics(self) -> tuple[ChannelStatistics, ...]:
        """Return the statistics of every channel."""
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
        # The bounds get the type of the values, because 0.1 as float32 must not exceed 0.1.
        if low is not None:
            self._outside += int((values < values.dtype.type(low)).sum())
        if high is not None:
            self._outside += int((values > values.dtype.type(high)).sum())
        # The start moves, so that a step that divides the row length does not always select the same columns.
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
