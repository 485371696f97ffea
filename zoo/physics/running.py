"""Moments of numbers that come in pieces and are never all in memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


class RunningMoments:
    """Count, range, mean and standard deviation, updated piece by piece in float64.

    The update is that of [S] Chan, Golub and LeVeque (1983), The American Statistician 37, 242-247: unlike a sum of
    squares it loses no digits on an elevation of 3,000 m that varies by 1.

    Attributes:
        count: numbers so far.
        minimum: smallest of them; NaN before the first, like the next two.
        maximum: largest of them.
        mean: arithmetic mean.
    """

    def __init__(self) -> None:
        self.count = 0
        self.minimum = self.maximum = self.mean = math.nan
        self._squares = 0.0

    def add(self, values: NDArray[np.floating[Any]]) -> None:
        """Count numbers of any shape, finite ones; the caller leaves out what is missing."""
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
        """Standard deviation of the population; NaN before the first number."""
        return math.sqrt(self._squares / self.count) if self.count else math.nan
