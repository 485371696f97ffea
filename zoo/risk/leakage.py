"""Features that give the answer away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata


def single_feature_auc(values: pd.Series, labels: NDArray[Any]) -> float:
    """Give the area under the ROC curve of one feature alone, in whichever direction it points.

    Classes are ranked by their own share of landslides, which flatters classes with few rows; a table with as many
    classes as rows therefore shows up too, as it should.

    Args:
        values: numbers or classes, (N,); missing ones are one class of their own, as their absence may tell as much.
        labels: 0 and 1, (N,), with some of both.

    Returns:
        0.5 .. 1.
    """
    truth = np.asarray(labels) == 1
    if isinstance(values.dtype, pd.CategoricalDtype):
        # Code -1 is a missing class.
        codes = values.cat.codes.to_numpy().astype(np.int64) + 1
        scores = np.bincount(codes, weights=truth)[codes] / np.bincount(codes)[codes]
    else:
        numbers = values.to_numpy(dtype=np.float64)
        low = np.nanmin(numbers) if np.isfinite(numbers).any() else 0.0
        scores = np.where(np.isnan(numbers), low - 1.0, numbers)
    ranks = rankdata(scores)
    positives = int(truth.sum())
    negatives = len(truth) - positives
    area = (ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    return float(max(area, 1 - area))
