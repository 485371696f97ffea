"""A risk model of Table 2, fitted to pixels of a stack, as something that gives a risk to every pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError
from zoo.rasters.inventory import Inventory
from zoo.rasters.pixel_sample import PixelSample, sample_pixels
from zoo.rasters.stacks import Stack
from zoo.risk.folds import block_folds
from zoo.risk.models import create_risk_model, risk_models

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.risk.apply import Factor, Values

MOST = 10_000
"""Pixels of each kind that a risk model is fitted to [O]: what the slowest of them, the SVM, takes."""

_ROWS = 1 << 18


class ModelSurface:
    """A fitted risk model on the bands of one stack.

    Args:
        model: with ``predict_proba`` of a table.
        names: of its columns.
        positions: of them among the stack's bands.
    """

    def __init__(self, model: Any, names: list[str], positions: list[int]) -> None:
        self._model, self._names, self._positions = model, names, positions

    def evaluate(self, image: Values, factor: Factor) -> tuple[Values, int]:
        """See :class:`zoo.risk.apply.Surface`; rain changes nothing."""
        flat = image[self._positions].reshape(len(self._positions), -1)
        risk = np.full(flat.shape[1], np.nan, dtype=np.float32)
        known = np.flatnonzero(np.isfinite(flat).all(axis=0))
        for start in range(0, len(known), _ROWS):
            rows = known[start : start + _ROWS]
            risk[rows] = self.probability(flat[:, rows].T)
        return risk.reshape(image.shape[1:]), 0

    def probability(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """0..1, (N,), of pixels (N, k)."""
        table = pd.DataFrame(rows.astype(np.float64), columns=self._names)
        return np.asarray(self._model.predict_proba(table)[:, 1], dtype=np.float32)


def fit_model(
    name: str,
    stack: Stack,
    inventory: Inventory,
    *,
    seed: int = 0,
    most: int = MOST,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[ModelSurface, PixelSample]:
    """Fit a risk model to pixels of a stack with and without landslides, equally many at most.

    Args:
        name: one of :func:`zoo.risk.models.risk_models`.
        stack: an open one; every band but the LSI is a feature.
        inventory: landslides on the stack's coordinates.
        seed: of the draw and the model.
        most: pixels of each kind.
        progress: called with (windows done, all windows) while pixels are drawn.

    Returns:
        what gives a risk to pixels, and the pixels that it was fitted to. The risk ranks places: landslides were drawn
        more often than they are, so it is no probability.

    Raises:
        UnknownNameError: for a risk model that there is not.
        ConfigError: for one that needs rain.
        DataError: if the stack has no feature, or pixels of one kind alone.
    """
    model = create_risk_model(name, seed=seed)
    if risk_models()[name].needs_rain:
        raise ConfigError(
            f"{name} needs rain of several events, which a stack does not have",
            hint="Map the index with --rain, or compare on a table: zoo risk compare",
        )
    names = [band.name for band in stack.bands if band.name != "LSI"]
    if not names or len(set(names)) < len(names):
        raise DataError(f"bands {', '.join(names) or 'none'} are no features", where=stack.path)
    sample = sample_pixels(stack, names, inventory, most=most, seed=seed, progress=progress)
    table = pd.DataFrame(sample.features.astype(np.float64), columns=names)
    try:
        inner = block_folds(sample.labels, sample.coordinates, folds=3, seed=seed)
    except (ConfigError, DataError):
        # A small region has too few blocks; the risk model then takes random folds of its own.
        inner = None
    model.fit(table, sample.labels, inner=inner)
    positions = [[band.name for band in stack.bands].index(one) for one in names]
    return ModelSurface(model, names, positions), sample
