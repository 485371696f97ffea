"""The rainfall network and the slope mask as a scikit-learn classifier for tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from torch import Tensor, nn

from zoo.errors import ConfigError, DataError, ModelError
from zoo_mondini.history import Missing, rain_columns, split_table
from zoo_mondini.network import RainHistory, SlopeMask, log_product

ROWS_AT_ONCE = 16_384
VALIDATION_ROWS = 20_000
EVERY = 50
PATIENCE = 6
MIN_HELD_OUT_ROWS = 20
"""Minimum number of rows of the rarer class for which some rows are held out for early stopping."""


class _Product(nn.Module):
    """Map rain (N, T) and normalised slope (N,) to ln(1 - p) and ln p, each (N,)."""

    def __init__(self, hours: int, width: int, *, masked: bool) -> None:
        super().__init__()
        self.rain = RainHistory(hours, width)
        self.mask = SlopeMask() if masked else None

    def forward(self, rain: Tensor, slope: Tensor | None) -> tuple[Tensor, Tensor]:
        rain_term = self.rain(rain)
        if self.mask is None or slope is None:
            # sigmoid(88) is 1 in float32, which means no mask.
            return log_product(rain_term, torch.full_like(rain_term, 88.0))
        return log_product(rain_term, self.mask(slope))


@dataclass(frozen=True)
class _Rows:
    rain: Tensor
    slope: Tensor | None
    target: Tensor

    def loss(self, network: _Product, chosen: Tensor) -> Tensor:
        no, yes = network(self.rain[chosen], None if self.slope is None else self.slope[chosen])
        target = self.target[chosen]
        mean: Tensor = -(target * yes + (1 - target) * no).mean()
        return mean


class MondiniClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """P(landslide | rain, slope) = P(landslide | rain) c(slope), Mondini, Guzzetti and Melillo (2023) [S].

    A row is a place at a point in time: the rain of the preceding hours and its slope. Other columns of the table are
    ignored, so that comparisons show what rain and slope explain. The loss is cross-entropy on the product, without
    class weights, so that the output is a probability [O]; the optimiser is AdamW [O]; training stops when the loss on
    held-out rows no longer decreases [O].

    Args:
        rain: rain columns of a DataFrame, latest first; None to find ``P_t-1``, ``P_t-2`` ... by name.
        slope: column of the slope in degrees: its name in a DataFrame, its index in an array; None for no mask.
        mask: ``"learned"``, a smooth, trained threshold on the slope; or a slope in degrees below which the probability
            is 0 and rows are left out of the training.
        missing: ``"refuse"`` raises an error for NaN in the rain; ``"dry"`` uses 0 mm.
        width: maps of the first convolution.
        steps: maximum number of optimiser steps; the time does not depend on the size of the table.
        batch_size: rows per step.
        learning_rate: learning rate of AdamW.
        weight_decay: weight decay of AdamW.
        validation: share of held-out rows, (0, 1); unused if the rarer class has fewer than 20 rows.
        random_state: seed, NumPy generator, or None for a different fit each time.

    Attributes:
        classes_: the two labels, sorted.
        hours_: steps of the rainfall history.
        steps_: optimiser steps whose weights were kept.
        slope_threshold_: slope in degrees at which c is 1/2, or below which it is 0; None without a mask.
    """

    def __init__(
        self,
        *,
        rain: Sequence[str] | None = None,
        slope: str | int | None = "slope",
        mask: Literal["learned"] | float = "learned",
        missing: Missing = "refuse",
        width: int = 8,
        steps: int = 1500,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.1,
        validation: float = 0.2,
        random_state: Any = 0,
    ) -> None:
        self.rain = rain
        self.slope = slope
        self.mask = mask
        self.missing = missing
        self.width = width
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.validation = validation
        self.random_state = random_state

    def fit(self, X: Any, y: npt.ArrayLike) -> MondiniClassifier:
        """Fit to a table.

        Args:
            X: DataFrame with rain columns and a slope, or an array (N, T) or (N, T + 1); see ``slope``.
            y: labels of two classes, (N,); the greater label is landslide.

        Raises:
            DataError: if the table has no rain or impossible values, or there are not exactly two labels.
            UnknownNameError: for a column that does not exist.
            ConfigError: if an argument is out of range.
        """
        self._check_arguments()
        rain, slope = split_table(X, self.rain, self.slope, self.missing)
        classes, truth = _two_classes(y, len(rain))
        usable = self._can_slide(slope, len(rain))
        if len(np.unique(truth[usable])) < 2:
            raise DataError(
                f"all rows with slopes of at least {self.mask} degrees are of one class",
                hint="Lower mask, or use mask='learned'",
            )
        seed = int(check_random_state(self.random_state).randint(2**31))
        center, scale = (0.0, 1.0) if slope is None else (float(slope.mean()), float(slope.std()) or 1.0)
        angles = None if slope is None or self.mask != "learned" else _normalised(slope[usable], center, scale)
        rows = _Rows(torch.from_numpy(rain[usable]), angles, torch.from_numpy(truth[usable]).float())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _Product(rain.shape[1], self.width, masked=angles is not None)
            steps = self._train(network, rows, seed)
        # Set all attributes at the end, so that an interrupted fit leaves the estimator unchanged.
        self._network, self._center, self._scale = network, center, scale
        self._names = _names(X, self.rain)
        self.classes_, self.hours_, self.steps_ = classes, rain.shape[1], steps
        self.n_features_in_ = X.shape[1]
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (N, 2) of ``classes_``; the second is that of a landslide.

        Raises:
            ModelError: before ``fit``.
            DataError: if the table does not match that of ``fit``, or has impossible values.
        """
        if not hasattr(self, "_network"):
            raise ModelError("the estimator is not fitted", where="MondiniClassifier", hint="Call fit(X, y) first")
        rain, slope = split_table(X, self._names, self.slope, self.missing)
        if rain.shape[1] != self.hours_:
            raise DataError(f"the estimator was fitted to histories of {self.hours_} steps, got {rain.shape[1]}")
        histories, angles = torch.from_numpy(rain), None
        if slope is not None and self._network.mask is not None:
            angles = _normalised(slope, self._center, self._scale)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(rain), ROWS_AT_ONCE):
                rows = slice(start, start + ROWS_AT_ONCE)
                _, yes = self._network(histories[rows], None if angles is None else angles[rows])
                parts.append(yes.double().exp().numpy())
        landslide = np.where(self._can_slide(slope, len(rain)), np.concatenate(parts), 0.0)
        return np.column_stack([1.0 - landslide, landslide])

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the more probable label of each row, (N,)."""
        labels: NDArray[Any] = self.classes_[(self.predict_proba(X)[:, 1] >= 0.5).astype(int)]
        return labels

    @property
    def slope_threshold_(self) -> float | None:
        """Slope in degrees at which c is 1/2, or below which it is 0; None without a mask."""
        if self.slope is None:
            return None
        if self.mask != "learned":
            return float(self.mask)
        learned: _Product = self._network
        assert learned.mask is not None
        return self._center + self._scale * learned.mask.threshold.item()

    def _check_arguments(self) -> None:
        where = "MondiniClassifier"
        for name in ("width", "steps", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ConfigError(f"{name} must be a positive integer, not {value!r}", where=where)
        if not self.learning_rate > 0 or not self.weight_decay >= 0 or not 0 < self.validation < 1:
            raise ConfigError("learning_rate > 0, weight_decay >= 0 and 0 < validation < 1 are needed", where=where)
        mask: Any = self.mask
        if isinstance(mask, str) and mask == "learned":
            return
        if isinstance(mask, (str, bool)) or not isinstance(mask, (int, float, np.number)):
            raise ConfigError(f"mask must be 'learned' or degrees, not {mask!r}", where=where)
        if not 0 <= mask < 90:
            raise ConfigError(f"mask must be 0 to 90 degrees, not {mask}", where=where)
        if self.slope is None:
            raise ConfigError("a mask in degrees needs the slope", where=where, hint="Name its column with slope=")

    def _can_slide(self, slope: NDArray[np.float32] | None, rows: int) -> NDArray[np.bool_]:
        if slope is None or isinstance(self.mask, str):
            return np.ones(rows, dtype=bool)
        return slope >= self.mask

    def _train(self, network: _Product, rows: _Rows, seed: int) -> int:
        learning, judging = _split(rows.target, self.validation, seed)
        generator = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.AdamW(network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        best, best_step, kept = float("inf"), self.steps, None
        for step in range(1, self.steps + 1):
            drawn = torch.randint(len(learning), (min(self.batch_size, len(learning)),), generator=generator)
            optimiser.zero_grad()
            rows.loss(network, learning[drawn]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if judging is None or (step % EVERY and step < self.steps):
                continue
            with torch.no_grad():
                loss = rows.loss(network, judging).item()
            if loss < best:
                best, best_step = loss, step
                kept = {key: value.clone() for key, value in network.state_dict().items()}
            elif step - best_step >= PATIENCE * EVERY:
                break
        if kept is not None:
            network.load_state_dict(kept)
        if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
            raise ModelError("the weights became NaN or infinite", hint="Try a lower learning_rate")
        network.eval()
        return best_step


def _normalised(slope: NDArray[np.float32], center: float, scale: float) -> Tensor:
    return torch.from_numpy((slope - np.float32(center)) / np.float32(scale))


def _names(table: Any, rain: Sequence[str] | None) -> list[str] | None:
    """Return the rain columns that a table for prediction must have; None for an array."""
    if rain is not None:
        return list(rain)
    return rain_columns(list(table.columns)) if hasattr(table, "columns") else None


def _two_classes(y: npt.ArrayLike, rows: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    labels = np.asarray(y)
    if labels.shape != (rows,):
        raise DataError(f"labels of shape {labels.shape} for {rows} rows")
    if bool(pd.isna(labels).any()):
        raise DataError("a label is NaN or missing", hint="Remove such rows")
    classes, truth = np.unique(labels, return_inverse=True)
    if len(classes) != 2:
        raise DataError(f"there are {len(classes)} classes of labels, expected 2", hint="Use 1 and 0")
    return classes, truth.astype(np.int64)


def _split(target: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor | None]:
    """Return rows for training and, unless a class is too rare, held-out rows of both classes for early stopping."""
    kinds = [torch.nonzero(target == kind)[:, 0] for kind in (0, 1)]
    if min(len(kind) for kind in kinds) < MIN_HELD_OUT_ROWS:
        return torch.arange(len(target)), None
    generator = torch.Generator().manual_seed(seed)
    share = min(share, VALIDATION_ROWS / len(target))
    learning, judging = [], []
    for kind in kinds:
        shuffled = kind[torch.randperm(len(kind), generator=generator)]
        apart = max(1, round(share * len(kind)))
        judging.append(shuffled[:apart])
        learning.append(shuffled[apart:])
    return torch.cat(learning), torch.cat(judging)
