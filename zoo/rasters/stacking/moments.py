"""Statistics of a band that is never whole in memory: moments exactly, percentiles from a fine histogram."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zoo.physics.bands import Band
from zoo.physics.running import RunningMoments


class RunningStatistics:
    """Count, minimum, maximum, mean, standard deviation and percentiles of a band, fed a window at a time.

    Args:
        band: with a valid range, over which the histogram is laid.
        bins: of the histogram; 65,536 are 0.14 m of elevation, 0.0014 degrees of slope, 3e-5 of an index.

    Attributes:
        pixels: all pixels, with and without a value.
    """

    def __init__(self, band: Band, bins: int = 65_536) -> None:
        assert band.valid_min is not None
        assert band.valid_max is not None
        self._low, self._high = band.valid_min, band.valid_max
        self._counts: NDArray[np.int64] = np.zeros(bins, dtype=np.int64)
        self._moments = RunningMoments()
        self.pixels = 0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count a window; NaN is no value. Values are within the band's valid range."""
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
        """Pixels that have a value."""
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
        """Standard deviation of the population, as GDAL's."""
        return self._moments.std

    @property
    def valid_percent(self) -> float:
        """Share of pixels that have a value, in per cent."""
        return 100 * self.valid / self.pixels if self.pixels else 0.0

    def percentile(self, percent: float) -> float:
        """Value that ``percent`` of the valid pixels stay below, within one bin of the histogram; NaN without any."""
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
        """As GDAL names them; none without a valid pixel but the share."""
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
