"""Spectral indices, and the soil moisture index (SMI, 0 dry to 1 saturated) from three sources."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import ConfigError, DataError
from zoo.physics.arrays import FloatArray, as_float


def normalized_difference(a: npt.ArrayLike, b: npt.ArrayLike) -> FloatArray:
    """Return (a - b) / (a + b); NaN where the sum is not positive.

    Where the sum is zero or negative (nodata written as 0, or noise over a dark target after an offset was
    subtracted), the quotient is arbitrary, so the result is NaN [O]. One negative reflectance with a positive sum is
    kept; the result is then outside [-1, 1], which the valid range of the band detects.

    Args:
        a: reflectances or radiances, any shape; integers are converted before they are subtracted.
        b: the same quantity in another band; broadcastable with ``a``.

    Returns:
        dimensionless, floating point (float32 stays float32), the broadcast shape; NaN where either input is NaN.

    Raises:
        DataError: if the shapes do not broadcast.
    """
    left, right = as_float(a), as_float(b)
    try:
        total = left + right
    except ValueError:
        raise DataError(
            f"bands of shapes {left.shape} and {right.shape} are not on one grid",
            hint="Resample one of them to the other first",
        ) from None
    safe = np.where(total > 0, total, np.nan)
    return np.asarray((left - right) / safe, dtype=total.dtype)


def ndvi(nir: npt.ArrayLike, red: npt.ArrayLike) -> FloatArray:
    """Return the vegetation index (NIR - Red) / (NIR + Red), equation 3 [P]; Rouse et al. 1974.

    Sentinel-2: B08, B04. Arguments, result and errors are those of :func:`normalized_difference`.
    """
    return normalized_difference(nir, red)


def ndwi(green: npt.ArrayLike, nir: npt.ArrayLike) -> FloatArray:
    """Return the open-water index (Green - NIR) / (Green + NIR), equation 2 [P]; McFeeters 1996.

    Sentinel-2: B03, B08. Gao's index of the same name is different and uses SWIR. Over land, this index is close to
    the negative NDVI because both use NIR.
    """
    return normalized_difference(green, nir)


def ndbi(swir: npt.ArrayLike, nir: npt.ArrayLike) -> FloatArray:
    """Return the built-up index (SWIR - NIR) / (SWIR + NIR), equation 1 [P]; Zha et al. 2003.

    Sentinel-2: B11 (20 m, resampled), B08.
    """
    return normalized_difference(swir, nir)


def bsi(swir: npt.ArrayLike, red: npt.ArrayLike, nir: npt.ArrayLike, blue: npt.ArrayLike) -> FloatArray:
    """Return the bare soil index ((SWIR + Red) - (NIR + Blue)) / ((SWIR + Red) + (NIR + Blue)).

    Rikimaru, Roy and Miyatake (2002), Tropical Ecology 43, 39-47 [S]. Sentinel-2: B11, B04, B08, B02. Result and errors
    are those of :func:`normalized_difference`.
    """
    return normalized_difference(as_float(swir) + as_float(red), as_float(nir) + as_float(blue))


def scale_moisture(values: npt.ArrayLike, low: float, high: float) -> FloatArray:
    """Scale a soil-moisture product to an index: (values - low) / (high - low), clipped to [0, 1].

    Args:
        values: soil moisture in the unit of ``low`` and ``high``, such as m3/m3; NaN stays NaN.
        low: value of dry soil.
        high: value of saturated soil.

    Raises:
        ConfigError: unless low < high and both are finite.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"the moisture range is {low:g} to {high:g}", hint="Give the dry, then the saturated value")
    return np.asarray(np.clip((as_float(values) - low) / (high - low), 0.0, 1.0))


def ndmi(nir: npt.ArrayLike, swir: npt.ArrayLike) -> FloatArray:
    """Return the moisture index of vegetation (NIR - SWIR) / (NIR + SWIR); Gao (1996) [S].

    It equals -NDBI, so a stack with NDBI gains no information from it. Arguments, result and errors are those of
    :func:`normalized_difference`.
    """
    return normalized_difference(nir, swir)


def transformed_swir(swir: npt.ArrayLike) -> FloatArray:
    """Return STR = (1 - R)^2 / (2 R), linear in soil moisture; Sadeghi et al. (2017), RSE 198, 52-68 [S].

    Args:
        swir: reflectance R of the band at 2.2 micrometres (Sentinel-2: B12), any shape.

    Returns:
        dimensionless, >= 0; NaN where R is outside (0, 1) and the transform is undefined.
    """
    reflectance = as_float(swir)
    one = reflectance.dtype.type(1)
    inside = np.where((reflectance > 0) & (reflectance < 1), reflectance, np.nan).astype(reflectance.dtype)
    return np.asarray((one - inside) ** 2 / (2 * inside))


@dataclass(frozen=True)
class OptramEdges:
    """Trapezoid in the space of STR and NDVI: a lower dry edge and an upper wet edge, both straight lines.

    Attributes:
        dry_intercept: STR of dry soil at NDVI 0.
        dry_slope: change of that STR per unit of NDVI.
        wet_intercept: STR of saturated soil at NDVI 0.
        wet_slope: change of that STR per unit of NDVI.

    Raises:
        ConfigError: if a number is not finite.
    """

    dry_intercept: float
    dry_slope: float
    wet_intercept: float
    wet_slope: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in asdict(self).values()):
            raise ConfigError(f"the OPTRAM edges are not finite: {asdict(self)}")

    def moisture(self, ndvi: npt.ArrayLike, swir_transformed: npt.ArrayLike) -> FloatArray:
        """Return (STR - dry) / (wet - dry), clipped to [0, 1]; NaN where the edges cross or an input is NaN."""
        vegetation, value = as_float(ndvi), as_float(swir_transformed)
        dry = self.dry_intercept + self.dry_slope * vegetation
        wet = self.wet_intercept + self.wet_slope * vegetation
        return np.asarray(np.clip((value - dry) / np.where(wet > dry, wet - dry, np.nan), 0.0, 1.0))

    def to_dict(self) -> dict[str, float]:
        """Return the four numbers by name."""
        return asdict(self)


class OptramFit:
    """Incremental fit of the OPTRAM edges, in constant memory.

    In each NDVI bin the dry edge is the 5th and the wet edge the 95th percentile of STR; each edge is the
    least-squares line through the bins. Pixels with NDVI below 0 (water, snow) are excluded, because open water would
    determine the wet edge [O]. Percentiles come from a histogram of log STR and are accurate to 0.5 %.

    Args:
        bins: number of NDVI bins between 0 and 1.
        share: share of a bin's pixels beyond each edge.
        least: minimum number of pixels of a bin; bins with fewer are skipped.
    """

    _LOG_LOW, _LOG_HIGH, _STEPS = -4.0, 4.0, 4096

    def __init__(self, bins: int = 50, share: float = 0.05, min_count: int = 100) -> None:
        if bins < 2 or not 0 < share < 0.5 or min_count < 1:
            raise ConfigError(
                f"OPTRAM cannot be fitted with {bins} bins, share {share} and at least {min_count} pixels"
            )
        self._bins, self._share, self._min_count = bins, share, min_count
        self._counts: npt.NDArray[np.int64] = np.zeros((bins, self._STEPS), dtype=np.int64)

    def add(self, ndvi: npt.ArrayLike, swir_transformed: npt.ArrayLike) -> None:
        """Add pixels: NDVI and STR of the same shape; pixels with NaN in either are skipped."""
        vegetation, value = as_float(ndvi), as_float(swir_transformed)
        with np.errstate(invalid="ignore"):
            kept = (vegetation >= 0) & (vegetation <= 1) & (value > 0)
        row = np.minimum((vegetation[kept] * self._bins).astype(np.int64), self._bins - 1)
        place = (np.log10(value[kept]) - self._LOG_LOW) / (self._LOG_HIGH - self._LOG_LOW) * self._STEPS
        column = np.clip(place.astype(np.int64), 0, self._STEPS - 1)
        flat = np.bincount(row * self._STEPS + column, minlength=self._counts.size)
        self._counts += flat.reshape(self._counts.shape)

    def edges(self) -> OptramEdges:
        """Return the fitted edges.

        Raises:
            DataError: if fewer than three NDVI bins have enough pixels, or the edges touch or cross.
        """
        enough = np.flatnonzero(self._counts.sum(axis=1) >= self._min_count)
        if enough.size < 3:
            raise DataError(
                f"OPTRAM needs at least 3 of {self._bins} NDVI bins with {self._min_count} pixels, this scene has "
                f"{enough.size}",
                hint="Use a larger or more varied scene, or another source of soil moisture",
            )
        centres = (enough + 0.5) / self._bins
        low = np.array([self._quantile(row, self._share) for row in enough])
        high = np.array([self._quantile(row, 1 - self._share) for row in enough])
        dry_slope, dry_intercept = np.polyfit(centres, low, 1)
        wet_slope, wet_intercept = np.polyfit(centres, high, 1)
        edges = OptramEdges(float(dry_intercept), float(dry_slope), float(wet_intercept), float(wet_slope))
        wet = wet_intercept + wet_slope * centres
        # The edges must be more than a few steps of the histogram apart.
        if not np.all(wet - (dry_intercept + dry_slope * centres) > 0.02 * np.abs(wet)):
            raise DataError(
                "the wet and the dry edge of OPTRAM touch or cross within this scene",
                hint="Use a larger or more varied scene, or another source of soil moisture",
            )
        return edges

    def _quantile(self, row: Any, share: float) -> float:
        total = np.cumsum(self._counts[row])
        wanted = share * total[-1]
        step = int(np.searchsorted(total, wanted))
        before = total[step - 1] if step else 0
        part = (wanted - before) / max(int(self._counts[row, step]), 1)
        return float(10 ** (self._LOG_LOW + (step + part) * (self._LOG_HIGH - self._LOG_LOW) / self._STEPS))
