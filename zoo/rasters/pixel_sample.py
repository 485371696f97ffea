"""Draw random pixels with and without a landslide from a stack."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.windows import Window
from scipy import ndimage

from zoo.errors import DataError
from zoo.rasters.ground import Bounds, true_scale, window_bounds
from zoo.rasters.inventory import Inventory
from zoo.rasters.stacks import Stack

MOST = 200_000
"""Pixels of each kind that are kept [O]: what they say of six weights is sharper than places differ."""

Reader = Callable[[Window], NDArray[np.float32]]


@dataclass(frozen=True)
class PixelSample:
    """Pixels with all features known.

    Attributes:
        names: of the features, in the order of the columns.
        features: float32 (N, k), in the units of the stack.
        labels: int64 (N,), 1 on a landslide, 0 elsewhere.
        coordinates: float64 (N, 2), x and y of pixel centres in metres (roughly, where the stack is in degrees).
        region: float32 (M, k), pixels drawn from the whole stack whatever lies on them.
        landslide_pixels: number of landslide pixels in the stack with all features known.
        known_pixels: number of pixels with all features known.
        border_pixels: pixels beside a landslide, which are in neither kind: outlines are drawn a pixel off.
        doubtful_pixels: pixels of landslides of which nobody knows whether the image shows them; in neither kind.
    """

    names: tuple[str, ...]
    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    coordinates: NDArray[np.float64]
    region: NDArray[np.float32]
    landslide_pixels: int
    known_pixels: int
    border_pixels: int
    doubtful_pixels: int

    @property
    def landslide_share(self) -> float:
        """Share of the known pixels that lie on a landslide."""
        return self.landslide_pixels / self.known_pixels if self.known_pixels else 0.0

    def column(self, name: str) -> NDArray[np.float32]:
        """One feature of ``features``, (N,)."""
        return self.features[:, self.names.index(name)]


class _Lottery:
    """The rows with the smallest random keys: a uniform sample without replacement of all that were offered."""

    def __init__(self, most: int, width: int) -> None:
        self._most = most
        self._keys = np.empty(0)
        self._rows = np.empty((0, width))
        self._limit = math.inf

    def offer(self, keys: NDArray[np.float64], rows: Callable[[NDArray[np.bool_]], NDArray[np.float64]]) -> None:
        """Offer as many rows as there are keys; ``rows`` gives those that are let in."""
        drawn = keys < self._limit
        self._keys = np.concatenate([self._keys, keys[drawn]])
        self._rows = np.concatenate([self._rows, rows(drawn)])
        if len(self._keys) > self._most:
            kept = np.argpartition(self._keys, self._most - 1)[: self._most]
            self._keys, self._rows = self._keys[kept], self._rows[kept]
            self._limit = float(self._keys.max())

    def rows(self) -> NDArray[np.float64]:
        """Those that are in, in the order of their keys."""
        return self._rows[np.argsort(self._keys)]


def extent_of(stack: Stack) -> Bounds:
    """(left, bottom, right, top) of a stack in its own coordinates."""
    return window_bounds(stack.transform, stack.shape)


def sample_pixels(
    stack: Stack,
    names: Sequence[str],
    inventory: Inventory | None,
    *,
    layers: Mapping[str, Reader] | None = None,
    most: int = MOST,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> PixelSample:
    """Draw pixels of a stack.

    Args:
        stack: an open one.
        names: bands to take.
        inventory: landslides on the stack's coordinates; None to draw from the whole region alone.
        layers: more features by name, read by windows of the stack's grid, NaN where unknown.
        most: pixels of each kind to keep.
        seed: of the draw; the same seed gives the same pixels.
        progress: called with (windows done, all windows).

    Raises:
        DataError: if no pixel has all features, or an inventory is given and no such pixel, or every one, lies on a
            landslide.
    """
    layers = layers or {}
    positions = [[band.name for band in stack.bands].index(name) for name in names]
    columns = (*names, *layers)
    width = len(columns) + 2
    lots = {kind: _Lottery(most, width) for kind in ("landslide", "other", "region")}
    counts = dict.fromkeys(("known", "landslide", "border", "doubtful"), 0)
    windows = list(stack.windows())
    for number, window in enumerate(windows):
        rng = np.random.default_rng([seed, number])
        image = stack.read(window)[positions]
        if layers:
            image = np.concatenate([image, [read(window) for read in layers.values()]])
        known = np.isfinite(image).all(axis=0)
        landslide, border, doubtful = _kinds(stack, inventory, window)
        for kind, mask in (("known", known), ("landslide", landslide & known), ("border", border & known)):
            counts[kind] += int(mask.sum())
        counts["doubtful"] += int((doubtful & known).sum())
        masks = {
            "landslide": known & landslide,
            "other": known & ~(landslide | border | doubtful),
            "region": known,
        }
        for kind, mask in masks.items():
            if kind == "other" and inventory is None:
                continue
            row, column = np.nonzero(mask)
            keys = rng.random(len(row))

            def rows(
                drawn: NDArray[np.bool_],
                row: NDArray[np.int64] = row,
                column: NDArray[np.int64] = column,
                image: NDArray[np.float32] = image,
                window: Window = window,
            ) -> NDArray[np.float64]:
                row, column = row[drawn], column[drawn]
                x, y = stack.transform * (column + window.col_off + 0.5, row + window.row_off + 0.5)
                return np.column_stack([image[:, row, column].T, x, y])

            lots[kind].offer(keys, rows)
        if progress is not None:
            progress(number + 1, len(windows))
    _check(stack, columns, inventory, counts, len(lots["other"].rows()))
    found = np.concatenate([lots["landslide"].rows(), lots["other"].rows()])
    labels = np.zeros(len(found), dtype=np.int64)
    labels[: len(lots["landslide"].rows())] = 1
    return PixelSample(
        names=columns,
        features=found[:, :-2].astype(np.float32),
        labels=labels,
        coordinates=_metres(stack, found[:, -2:]),
        region=lots["region"].rows()[:, :-2].astype(np.float32),
        landslide_pixels=counts["landslide"],
        known_pixels=counts["known"],
        border_pixels=counts["border"],
        doubtful_pixels=counts["doubtful"],
    )


def _kinds(
    stack: Stack, inventory: Inventory | None, window: Window
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels of a window on landslides, beside them, and on doubtful ones."""
    shape = (int(window.height), int(window.width))
    if inventory is None:
        nothing = np.zeros(shape, dtype=np.bool_)
        return nothing, nothing, nothing
    # One pixel more on every side: a landslide beyond the edge of the window has its border inside.
    transform = stack.transform * Affine.translation(window.col_off - 1, window.row_off - 1)
    numbers = inventory.burn(transform, (shape[0] + 2, shape[1] + 2))
    drawn = numbers != 0
    border = ndimage.binary_dilation(drawn, np.ones((3, 3), dtype=bool)) & ~drawn
    inner = np.s_[1:-1, 1:-1]
    return (numbers > 0)[inner], border[inner], (numbers < 0)[inner]


def _check(
    stack: Stack, columns: Sequence[str], inventory: Inventory | None, counts: Mapping[str, int], others: int
) -> None:
    if counts["known"] == 0:
        raise DataError(f"no pixel has a value in each of {', '.join(columns)}", where=stack.path)
    if inventory is None:
        return
    if counts["landslide"] == 0:
        raise DataError(
            "none of its landslides covers the centre of a pixel with data",
            where=inventory.path,
            hint=f"Do they lie where {stack.path} is nodata, or are they smaller than its pixels?",
        )
    if others == 0:
        raise DataError("every pixel lies on a landslide or beside one: there is nothing to tell it from")


def _metres(stack: Stack, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return coordinates in metres on the ground, by the scale in the middle of the stack."""
    left, bottom, right, top = extent_of(stack)
    return places * true_scale(stack.crs, (left + right) / 2, (bottom + top) / 2)
