"""Streaming statistics of values that do not fit into memory.

- :class:`RunningMoments`: count, range, mean and standard deviation.
- :class:`SampledMoments`: adds percentiles, from every k-th value.
- :class:`BinnedMoments`: adds percentiles, from a fine histogram over a known range.
- :class:`ChannelMoments`: the statistics of several channels and their covariance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.physics.bands import Band

PERCENTILES = (0.5, 99.5)
"""Percentiles that describe the range of a band without its outliers."""

MAX_SAMPLED_VALUES = 2_000_000
"""Values of a band to keep for its percentiles: of more, every k-th is kept, and ranks are accurate to 0.02 %."""

BINS = 65_536
"""Bins of a histogram: a bin is 0.14 m of elevation, 0.0014 degrees of slope or 3e-5 of an index."""


class RunningMoments:
    """Count, range, mean and standard deviation, updated batch by batch in float64.

    The update is that of [S] Chan, Golub and LeVeque (1983), The American Statistician 37, 242-247. Unlike a sum of
    squares, it keeps its precision for an elevation of 3,000 m that varies by 1 m.

    Attributes:
        pixels: values so far, valid or not.
        count: valid values so far.
        minimum: smallest valid value; NaN before the first, like the next two.
        maximum: largest valid value.
        mean: arithmetic mean.
    """

    def __init__(self) -> None:
        self.pixels = self.count = 0
        self.minimum = self.maximum = self.mean = math.nan
        self._squares = 0.0

    def add(self, values: NDArray[np.floating[Any]]) -> None:
        """Add finite values of any shape; NaN marks an invalid pixel."""
        self.pixels += values.size
        exact = values[~np.isnan(values)].astype(np.float64)
        if not exact.size:
            return
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
        """Population standard deviation; NaN before the first valid value."""
        return math.sqrt(self._squares / self.count) if self.count else math.nan

    @property
    def valid_percent(self) -> float:
        """Share of valid pixels, in per cent."""
        return 100 * self.count / self.pixels if self.pixels else 0.0

    def gdal_tags(self) -> dict[str, str]:
        """Return the statistics under GDAL's names; only the valid share if there is no valid value."""
        share = {"STATISTICS_VALID_PERCENT": f"{self.valid_percent:.4g}"}
        if not self.count:
            return share
        return {
            "STATISTICS_MINIMUM": f"{self.minimum:.9g}",
            "STATISTICS_MAXIMUM": f"{self.maximum:.9g}",
            "STATISTICS_MEAN": f"{self.mean:.9g}",
            "STATISTICS_STDDEV": f"{self.std:.9g}",
            **share,
        }


class SampledMoments(RunningMoments):
    """Running moments and percentiles of every k-th value.

    Args:
        expected: expected number of values, to choose k; 0 when unknown, which keeps all of them.
    """

    def __init__(self, expected: int = 0) -> None:
        super().__init__()
        self._step = max(1, math.ceil(expected / MAX_SAMPLED_VALUES))
        self._kept: list[NDArray[Any]] = []

    def add(self, values: NDArray[np.floating[Any]], start: int = 0) -> None:
        """Add finite values.

        Args:
            values: values of any shape.
            start: index of the first value to keep, modulo k. A start that differs between batches avoids sampling
                the same columns each time when k divides the row length.
        """
        if values.size:
            super().add(values)
            self._kept.append(values.ravel()[start % min(self._step, values.size) :: self._step].copy())

    def percentiles(self, shares: tuple[float, float] = PERCENTILES) -> tuple[float, float]:
        """Return two percentiles of the sample; NaN before the first valid value."""
        if not self._kept:
            return math.nan, math.nan
        low, high = np.percentile(np.concatenate(self._kept), shares)
        return float(low), float(high)


class BinnedMoments(RunningMoments):
    """Running moments and percentiles of a band with a valid range, updated window by window.

    Args:
        band: the band; its valid range is divided into bins.
        bins: number of bins of the histogram.
    """

    def __init__(self, band: Band, bins: int = BINS) -> None:
        super().__init__()
        assert band.valid_min is not None
        assert band.valid_max is not None
        self._low, self._high = band.valid_min, band.valid_max
        self._counts: NDArray[np.int64] = np.zeros(bins, dtype=np.int64)

    def add(self, values: NDArray[np.floating[Any]]) -> None:
        """Add a window with values in the valid range; NaN marks an invalid pixel."""
        super().add(values)
        known = values[~np.isnan(values)].astype(np.float64)
        place = (known - self._low) * (self._counts.size / (self._high - self._low))
        places = np.clip(place.astype(np.int64), 0, self._counts.size - 1)
        self._counts += np.bincount(places, minlength=self._counts.size)

    def percentile(self, percent: float) -> float:
        """Return a percentile, accurate to one bin; NaN if there is no valid value."""
        if not self.count:
            return math.nan
        total = np.cumsum(self._counts)
        wanted = percent / 100 * self.count
        step = int(np.searchsorted(total, wanted))
        before = int(total[step - 1]) if step else 0
        part = (wanted - before) / max(int(self._counts[step]), 1)
        value = self._low + (step + part) * (self._high - self._low) / self._counts.size
        return min(max(value, self.minimum), self.maximum)


@dataclass(frozen=True)
class ChannelStatistics:
    """Statistics of one channel over its own valid values.

    Attributes:
        name: name of the channel.
        unit: unit of the values.
        count: number of valid values.
        missing: share of missing values, 0..1.
        infinite: number of infinite values; no statistic includes them.
        minimum: smallest value; NaN when there is none, like all below.
        low: 0.5th percentile.
        mean: arithmetic mean.
        std: population standard deviation.
        high: 99.5th percentile.
        maximum: largest value.
        outside: share of valid values outside the channel's valid range; ``None`` when it has none.
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


class ChannelMoments:
    """Statistics of several channels and the covariance between them, updated image by image in float64.

    Statistics of a channel cover its own valid values. The covariance covers the pixels where all channels are valid
    (listwise deletion), so that the correlation matrix is positive semi-definite [O]. Its update is that of
    :class:`RunningMoments`, for matrices.

    Args:
        bands: names, units, valid ranges and nodata values of the channels.
        expected: expected number of pixels, to choose the sampling step; 0 when unknown.

    Attributes:
        bands: the bands passed in.
        pixels: number of pixels so far.
        complete: number of pixels where all channels are valid.
    """

    def __init__(self, bands: tuple[Band, ...], expected: int = 0) -> None:
        self.bands = bands
        self.pixels = 0
        self.complete = 0
        self._channels = [_Channel(band, expected) for band in bands]
        self._means = np.zeros(len(bands))
        self._products = np.zeros((len(bands), len(bands)))

    def add(self, image: NDArray[np.floating]) -> None:
        """Add the pixels of an image.

        Args:
            image: float (C, ...), NaN or the channel's nodata value where missing.

        Raises:
            DataError: if the number of channels differs from ``bands``.
        """
        if len(image) != len(self.bands):
            raise DataError(f"an image has {len(image)} channels, the others have {len(self.bands)}")
        values = image.reshape(len(image), -1)
        valid = np.isfinite(values)
        for band, (row, good) in enumerate(zip(values, valid, strict=True)):
            nodata = self.bands[band].nodata
            if nodata is not None and not math.isnan(nodata):
                # A nodata value such as -1.8e308 exceeds float32; its pixels are infinite and therefore invalid.
                with np.errstate(over="ignore"):
                    good &= row != row.dtype.type(nodata)
            self._channels[band].add(row, good, self.pixels)
        self.pixels += values.shape[1]
        complete = valid.all(axis=0)
        self._update(values[:, complete].astype(np.float64))

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
        # After rounding, the two triangles differ by a few units in the last place.
        return (self._products + self._products.T) / (2 * self.complete)

    def statistics(self) -> tuple[ChannelStatistics, ...]:
        """Return the statistics of every channel."""
        return tuple(channel.finish() for channel in self._channels)


class _Channel:
    """The running statistics of one channel."""

    def __init__(self, band: Band, expected: int) -> None:
        self._band = band
        self._seen = self._infinite = self._outside = 0
        self._moments = SampledMoments(expected)

    def add(self, row: NDArray[np.floating], valid: NDArray[np.bool_], offset: int) -> None:
        self._seen += row.size
        self._infinite += int(np.isinf(row).sum())
        values = row[valid]
        if not values.size:
            return
        self._moments.add(values, offset // max(1, row.size))
        low, high = self._band.valid_min, self._band.valid_max
        # Bounds have the dtype of the values: 0.1 as float32 must not be above 0.1.
        if low is not None:
            self._outside += int((values < values.dtype.type(low)).sum())
        if high is not None:
            self._outside += int((values > values.dtype.type(high)).sum())

    def finish(self) -> ChannelStatistics:
        band, moments = self._band, self._moments
        low, high = moments.percentiles()
        ranged = band.valid_min is not None or band.valid_max is not None
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
