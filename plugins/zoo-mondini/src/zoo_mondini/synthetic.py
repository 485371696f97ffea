"""A synthetic table of places under intermittent rain, with known true probabilities of a landslide.

Use it to check the software. Figures on it say nothing about real landslides.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoo.errors import ConfigError
from zoo.physics.rain import CAINE_1980

DURATIONS = (1, 2, 3, 6, 12, 24, 48)
RECENT = 12
"""Hours after the end of a storm during which it can still trigger a landslide."""


def make_histories(rows: int = 4000, hours: int = 72, seed: int = 0) -> pd.DataFrame:
    """Return a table of places with the rain of the preceding hours, their slope, and whether they slid.

    Rain is intermittent: wet and dry spells follow a Markov chain, the rain of a wet hour is gamma distributed, and its
    mean differs between rows. A place slides with probability sigmoid(8 ln r) sigmoid((slope - 25) / 2.5), where r is
    the largest ratio of the mean intensity of a window that ended within the last 12 hours to Caine's (1980) threshold
    14.82 D^-0.39 mm/h [S]. Everything else is our choice [O].

    Args:
        rows: number of rows.
        hours: length of the histories in hours.
        seed: random seed.

    Returns:
        columns ``P_t-1`` ... (mm/h, latest first), ``slope`` (degrees), ``x`` and ``y`` (m), ``probability`` (the
        true one, not a feature) and ``landslide`` (0 or 1).

    Raises:
        ConfigError: if rows or hours are not positive.
    """
    if rows < 1 or hours < 1:
        raise ConfigError(f"rows is {rows} and hours is {hours}", hint="Both must be 1 or more")
    rng = np.random.default_rng(seed)
    rain = _rain(rng, rows, hours)
    slope = np.clip(rng.gamma(6.0, 4.0, rows), 0.0, 60.0)
    exceeded = threshold_exceedance(rain)
    probability = _sigmoid(8.0 * np.log(np.maximum(exceeded, 1e-6))) * _sigmoid((slope - 25.0) / 2.5)
    table = pd.DataFrame(rain, columns=[f"P_t-{lag + 1}" for lag in range(hours)])
    table["slope"] = slope
    table["x"], table["y"] = rng.uniform(0.0, 20_000.0, (2, rows))
    table["probability"] = probability
    table["landslide"] = (rng.random(rows) < probability).astype(np.int64)
    return table


def threshold_exceedance(rain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest ratio of a window's mean intensity to Caine's threshold of its duration.

    Args:
        rain: (N, T) mm/h, latest hour first.

    Returns:
        (N,) dimensionless; above 1 where a window that ended within the last 12 hours exceeds the threshold.
    """
    scale, exponent = CAINE_1980
    depth = np.pad(np.cumsum(rain, axis=1), ((0, 0), (1, 0)))
    largest = np.zeros(len(rain))
    for duration in DURATIONS:
        last = min(RECENT, depth.shape[1] - duration)
        if last < 1:
            continue
        windows = depth[:, duration : duration + last] - depth[:, :last]
        largest = np.maximum(largest, windows.max(axis=1) / duration / (scale * duration**-exponent))
    return largest


def _rain(rng: np.random.Generator, rows: int, hours: int) -> NDArray[np.float64]:
    heaviness = rng.lognormal(0.0, 0.6, rows)
    wet = rng.random(rows) < 0.3
    rain = np.empty((rows, hours))
    for hour in reversed(range(hours)):
        wet = rng.random(rows) < np.where(wet, 0.9, 0.05)
        rain[:, hour] = np.where(wet, heaviness * rng.gamma(0.8, 6.0, rows), 0.0)
    return np.round(rain, 1)


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-values))
