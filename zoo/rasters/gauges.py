"""Interpolation of rain between gauges: inverse squared distance, or kriging with one covariance for all steps."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError

FEWEST_GAUGES, FEWEST_STEPS = 5, 10
"""Minimum number of gauges, and of complete steps with varying rain, to fit a covariance [O]."""

MOST_STEPS = 500
"""Maximum number of steps, spread evenly over time, to fit a covariance [O]."""

MEAN_VARIANCE = 1e4
"""Variance of the unknown mean, in variances of a step."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Kriged:
    """Interpolated rain, and the basis of the interpolation.

    Attributes:
        values: (T, cells), in the unit of the gauges, between 0 and the largest gauge of the step; NaN for a step
            without a gauge.
        error: smallest and largest standard error of a cell, as a share of the standard deviation of the gauges.
        metres: range of the covariance exp(-distance / range) in metres.
        nugget: share of the variance without spatial correlation.
        left_out: leave-one-out root mean square error of the gauges, by kriging and by inverse squared distance, in
            the unit of the gauges.
    """

    values: Numbers
    error: tuple[float, float]
    metres: float
    nugget: float
    left_out: tuple[float, float]

    def sentence(self) -> str:
        """Return a sentence about the basis of the interpolation."""
        low, high = self.error
        return (
            f"interpolated by kriging: covariance exp(-distance / {self.metres / 1000:.3g} km) and a nugget of "
            f"{self.nugget:.0%}; standard error of a cell {low:.2f} to {high:.2f} standard deviations of the gauges; "
            f"leave-one-out error of a gauge {self.left_out[0]:.3g} (inverse squared distance: "
            f"{self.left_out[1]:.3g}), root mean square in the unit of the table"
        )


def inverse_distance(measured: Numbers, squared: Numbers) -> Numbers:
    """Interpolate by inverse squared distance (Shepard 1968 [S]).

    Args:
        measured: (T, gauges), NaN where missing.
        squared: squared distances in m2, (cells, gauges).

    Returns:
        (T, cells), NaN for a step without a gauge.
    """
    # The lower limit of 1 m avoids a division by zero; such a gauge determines the cell.
    weights = 1 / np.maximum(squared, 1.0)
    known = np.isfinite(measured)
    with np.errstate(invalid="ignore"):
        return np.asarray((np.where(known, measured, 0.0) @ weights.T) / (known @ weights.T))


def krige(measured: Numbers, places: Numbers, cells: Numbers) -> Kriged:
    """Interpolate by ordinary kriging.

    This is Gaussian process regression with an unknown mean [S: Rasmussen and Williams 2006, 2.2 and 2.7]. The
    covariance is exponential with a nugget. Its parameters maximise the likelihood of the complete steps, each divided
    by its standard deviation so that no single storm dominates [O]. Predictions are clipped to the range from 0 to the
    largest gauge of the step [O].

    Args:
        measured: (T, gauges), NaN where missing.
        places: x and y of the gauges in metres, (gauges, 2).
        cells: x and y of the cells in metres, (cells, 2).

    Raises:
        ConfigError: if scikit-learn is not installed.
        DataError: if there are too few gauges or steps.
    """
    kernel = _fit(measured, places)
    values, errors = np.full((len(measured), len(cells)), np.nan), []
    for steps, gauges in _patterns(measured):
        rain = measured[np.ix_(steps, gauges)]
        # Without rain, or with a single gauge, there is no variation.
        values[steps] = rain.mean(axis=1, keepdims=True)
        varied = steps[np.ptp(rain, axis=1) > 0]
        if not len(varied):
            continue
        values[varied], error = _predict(kernel, measured[np.ix_(varied, gauges)], places[gauges], cells)
        errors.append(error)
    every = np.concatenate(errors)
    shared, noise = kernel.k1.k1, float(kernel.k1.k2.noise_level)
    length, share = float(shared.k2.length_scale), noise / (noise + float(shared.k1.constant_value))
    return Kriged(
        values, (float(every.min()), float(every.max())), length, share, _leave_one_out(kernel, measured, places)
    )


def _fit(measured: Numbers, places: Numbers) -> Any:
    """Return the kernel of the covariance with the highest likelihood."""
    try:
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
    except ImportError as error:
        raise ConfigError(
            "kriging needs scikit-learn", where="--gauges", hint="pip install 'landslide-zoo[risk]'"
        ) from error
    rain = _complete(measured)
    if len(places) < FEWEST_GAUGES or len(rain) < FEWEST_STEPS:
        raise DataError(
            f"{len(places)} gauges and {len(rain)} steps in which all of them measured rain are too few for kriging",
            hint=f"It needs {FEWEST_GAUGES} gauges and {FEWEST_STEPS} such steps; use --gauges inverse-distance",
        )
    distances = np.sqrt(((places[:, None] - places[None]) ** 2).sum(axis=2))
    near, far = float(distances[distances > 0].min()), float(distances.max())
    kernel = ConstantKernel(0.9, (1e-3, 10.0)) * Matern(far / 3, (near / 10, 10 * far), nu=0.5)
    # A constant with a large variance models the unknown mean.
    kernel = kernel + WhiteKernel(0.1, (1e-4, 2.0)) + ConstantKernel(MEAN_VARIANCE, "fixed")
    with warnings.catch_warnings():
        # The warning about a parameter at its bound is redundant: the note states range and nugget.
        warnings.simplefilter("ignore")
        return _process(kernel, places, _standard(rain)[0], optimizer="fmin_l_bfgs_b").kernel_


def _standard(rain: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return steps with mean 0 and standard deviation 1, and their original means and deviations."""
    mean, deviation = rain.mean(axis=1, keepdims=True), rain.std(axis=1, keepdims=True)
    return (rain - mean) / deviation, mean, deviation


def _process(kernel: Any, places: Numbers, rain: Numbers, optimizer: str | None = None) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor

    return GaussianProcessRegressor(kernel, alpha=1e-10, optimizer=optimizer).fit(places, rain.T)


def _predict(kernel: Any, rain: Numbers, places: Numbers, cells: Numbers) -> tuple[Numbers, Numbers]:
    """Return the rain of varying steps, (T, cells), and the standard error, (cells,), in deviations of a step."""
    standard, mean, deviation = _standard(rain)
    found, error = _process(kernel, places, standard).predict(cells, return_std=True)
    values = found.reshape(len(cells), -1).T * deviation + mean
    return np.clip(values, 0, rain.max(axis=1, keepdims=True)), error.reshape(len(cells), -1)[:, 0]


def _complete(measured: Numbers) -> Numbers:
    """Return complete steps with varying rain, spread evenly over time."""
    rain = measured[np.isfinite(measured).all(axis=1)]
    rain = rain[np.ptp(rain, axis=1) > 0]
    chosen = np.unique(np.linspace(0, max(0, len(rain) - 1), MOST_STEPS).round().astype(int))
    return np.asarray(rain[chosen[: len(rain)]])


def _patterns(measured: Numbers) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield groups of steps with the same gauges, and these gauges."""
    known = np.isfinite(measured)
    patterns, which = np.unique(known, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        if pattern.any():
            yield np.flatnonzero(which.ravel() == number), np.flatnonzero(pattern)


def _leave_one_out(kernel: Any, measured: Numbers, places: Numbers) -> tuple[float, float]:
    """Return the leave-one-out root mean square errors of kriging and of inverse squared distance."""
    rain = _complete(measured)
    squared = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    errors = np.empty((2, *rain.shape))
    for gauge in range(len(places)):
        others = np.arange(len(places)) != gauge
        varied = np.ptp(rain[:, others], axis=1) > 0
        found = rain[:, others].mean(axis=1)
        if varied.any():
            found[varied] = _predict(kernel, rain[varied][:, others], places[others], places[[gauge]])[0][:, 0]
        errors[0, :, gauge] = found - rain[:, gauge]
        nearest = inverse_distance(rain[:, others], squared[[gauge]][:, others])
        errors[1, :, gauge] = nearest[:, 0] - rain[:, gauge]
    kriging, shepard = (math.sqrt(float((one**2).mean())) for one in errors)
    return kriging, shepard
