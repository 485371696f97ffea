"""A table as numbers: missing values filled, classes spread over columns, all on one scale."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoo.errors import DataError

FEWEST = 10
"""Rows that a class needs for a column of its own [O]; rarer ones, and ones not seen in training, have none."""


@dataclass
class Encoder:
    """Fitted on training rows alone, so that nothing of the test rows leaks into scales and fillings.

    Attributes:
        scale: subtract the mean and divide by the deviation.
        fill: put the training median where a number is missing, and tell so in a column of its own; False leaves NaN
            for trees, which have a way with it.
        names: of the columns given back.
    """

    scale: bool = True
    fill: bool = True
    names: list[str] = field(default_factory=list)

    def fit(self, X: pd.DataFrame) -> Encoder:
        """Learn from training rows: numbers with NaN where missing, and columns of category dtype."""
        self.names = []
        self._numbers: list[tuple[str, float, float, float, bool]] = []
        self._classes: list[tuple[str, list[str]]] = []
        for name in X.columns:
            values = X[name]
            if isinstance(values.dtype, pd.CategoricalDtype):
                counts = values.astype(object).dropna().astype(str).value_counts()
                kept = sorted(counts.index[counts >= FEWEST])
                self._classes.append((name, kept))
                continue
            numbers = values.to_numpy(np.float64)
            missing = np.isnan(numbers)
            known = numbers[~missing]
            if not known.size:
                # Empty in this fold alone: it says nothing here, and is 0 for every row.
                self._numbers.append((name, 0.0, 0.0, np.inf, False))
                continue
            median = float(np.median(known))
            filled = np.where(missing, median, numbers)
            deviation = float(filled.std())
            mean = float(filled.mean())
            self._numbers.append(
                (name, median, mean, deviation if deviation > 1e-12 * max(1.0, abs(mean)) else np.inf, missing.any())
            )
        self.names = [name for name, *_ in self._numbers]
        if self.fill:
            self.names += [f"{name} is missing" for name, *_, gaps in self._numbers if gaps]
        self.names += [f"{name} = {one}" for name, kept in self._classes for one in kept]
        if not self.names:
            raise DataError("no feature is left: every class has too few rows")
        return self

    def transform(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Give float64 (N, len(names))."""
        out = np.zeros((len(X), len(self.names)))
        column = 0
        gaps: list[NDArray[np.bool_]] = []
        for name, median, mean, deviation, has_gaps in self._numbers:
            numbers = X[name].to_numpy(np.float64)
            missing = np.isnan(numbers)
            if has_gaps:
                gaps.append(missing)
            if self.fill:
                numbers = np.where(missing, median, numbers)
            if self.scale:
                numbers = (numbers - mean) / deviation
            out[:, column] = numbers
            column += 1
        if self.fill:
            for missing in gaps:
                out[:, column] = missing
                column += 1
        for name, kept in self._classes:
            values = X[name].astype(object)
            codes = pd.Categorical(values.where(values.isna(), values.astype(str)), categories=kept).codes
            rows = np.flatnonzero(codes >= 0)
            out[rows, column + codes[rows]] = 1.0
            column += len(kept)
        return out

    def fit_transform(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Learn, and give the same rows as numbers."""
        return self.fit(X).transform(X)
