"""Draw random landslide and non-landslide pixels from a stack."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.windows import Window
from scipy import ndimage

from zoo.errors import DataError
from zoo.rasters.ground import Bounds, true_scale, window_bounds
from zoo.rasters.inventory import Inventory
from zoo.rasters.stacks import Stack

MAX_SAMPLE_PIXELS = 200_000
"""Number of pixels of each kind that are kept [O].

With so many, the sampling error of six weights is smaller than the difference between regions.
"""

Reader = Callable[[Window], NDArray[np.float32]]


@dataclass(frozen=True)
class PixelSample:
    """A random sample of the pixels in which all features are valid.

    Attributes:
        names: names of the features, in the order of the columns.
        features: feature values, float32 (N, k), in the units of the stack.
        labels: int64 (N,), 1 on a landslide, 0 elsewhere.
        coordinates: x and y of the pixel centres in metres, float64 (N, 2); approximate for a stack in degrees.
        region: features of pixels drawn from the whole stack regardless of landslides, float32 (M, k).
        landslide_pixels: number of valid landslide pixels in the stack.
        known_pixels: number of valid pixels in the stack.
        border_pixels: number of valid pixels next to a landslide. They belong to neither kind, because outlines can be
            one pixel off.
        doubtful_pixels: number of valid pixels on landslides that the image may or may not show. They belong to
            neither kind.
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
        """Share of the valid pixels that lie on a landslide, 0..1."""
        return self.landslide_pixels / self.known_pixels if self.known_pixels else 0.0

    def column(self, name: str) -> NDArray[np.float32]:
        """Return the values of one feature, float32 (N,)."""
        return self.features[:, self.names.index(name)]


class ReservoirSample:
    """Keeps the rows with the smallest random keys: a uniform sample without replacement of all rows offered."""

    def __init__(self, size: int, width: int) -> None:
        self._most = size
        self._keys = np.empty(0)
        self._rows = np.empty((0, width))
        self._limit = math.inf

    def offer(self, keys: NDArray[np.float64], rows: Callable[[NDArray[np.bool_]], NDArray[np.float64]]) -> None:
        """Offer one row per key; ``rows`` returns the rows that a boolean array selects."""
        drawn = keys < self._limit
        self._keys = np.concatenate([self._keys, keys[drawn]])
        self._rows = np.concatenate([self._rows, rows(drawn)])
        if len(self._keys) > self._most:
            kept = np.argpartition(self._keys, self._most - 1)[: self._most]
            self._keys, self._rows = self._keys[kept], self._rows[kept]
            self._limit = float(self._keys.max())

    def rows(self) -> NDArray[np.float64]:
        """Return the sample in the order of the keys."""
        return self._rows[np.argsort(self._keys)]


def extent_of(stack: Stack) -> Bounds:
    """Return (left, bottom, right, top) of a stack in its own coordinates."""
    return window_bounds(stack.transform, stack.shape)


def sample_pixels(
    stack: Stack,
    names: Sequence[str],
    inventory: Inventory | None,
    *,
    layers: Mapping[str, Reader] | None = None,
    max_pixels: int = MAX_SAMPLE_PIXELS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> PixelSample:
    """Draw a random sample of the pixels of a stack.

    Args:
        stack: open stack.
        names: names of the bands to use as features.
        inventory: landslides in the coordinates of the stack; None to draw only from the whole region.
        layers: further features by name, as functions that read a window of the stack's grid, NaN where missing.
        max_pixels: maximum number of pixels of each kind.
        seed: random seed; the same seed gives the same pixels.
        progress: called with the number of windows done and the total.

    Raises:
        DataError: if no pixel has all features, or if an inventory is given and none or all of these pixels lie on a
            landslide.
    """
    layers = layers or {}
    positions = [[band.name for band in stack.bands].index(name) for name in names]
    columns = (*names, *layers)
    width = len(columns) + 2
    samples = {kind: ReservoirSample(max_pixels, width) for kind in ("landslide", "other", "region")}
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
        masks = {"landslide": known & landslide, "other": known & ~(landslide | border | doubtful), "region": known}
        for kind, mask in masks.items():
            if kind == "other" and inventory is None:
                continue
            row, column = np.nonzero(mask)
            samples[kind].offer(rng.random(len(row)), partial(_pixel_rows, stack, window, image, row, column))
        if progress is not None:
            progress(number + 1, len(windows))
    _check(stack, columns, inventory, counts, len(samples["other"].rows()))
    found = np.concatenate([samples["landslide"].rows(), samples["other"].rows()])
    labels = np.zeros(len(found), dtype=np.int64)
    labels[: len(samples["landslide"].rows())] = 1
    return PixelSample(
        names=columns,
        features=found[:, :-2].astype(np.float32),
        labels=labels,
        coordinates=_metres(stack, found[:, -2:]),
        region=samples["region"].rows()[:, :-2].astype(np.float32),
        landslide_pixels=counts["landslide"],
        known_pixels=counts["known"],
        border_pixels=counts["border"],
        doubtful_pixels=counts["doubtful"],
    )


def _pixel_rows(
    stack: Stack,
    window: Window,
    image: NDArray[np.float32],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    drawn: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return features, x and y of those pixels of a window that were drawn, (N, features + 2)."""
    row, column = row[drawn], column[drawn]
    x, y = stack.transform * (column + window.col_off + 0.5, row + window.row_off + 0.5)
    return np.column_stack([image[:, row, column].T, x, y])


def _kinds(
    stack: Stack, inventory: Inventory | None, window: Window
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return masks of the pixels on landslides, next to landslides, and on doubtful landslides."""
    shape = (int(window.height), int(window.width))
    if inventory is None:
        nothing = np.zeros(shape, dtype=np.bool_)
        return nothing, nothing, nothing
    # Read one more pixel on every side: the border of a landslide outside the window can lie inside it.
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
        raise DataError(
            f"no pixel has a value in each of {', '.join(columns)}",
            where=stack.path,
            hint="Check where these bands are nodata",
        )
    if inventory is None:
        return
    if counts["landslide"] == 0:
        raise DataError(
            "no landslide covers the centre of a pixel with data",
            where=inventory.path,
            hint=f"Check whether they lie where {stack.path} is nodata, or are smaller than its pixels",
        )
    if others == 0:
        raise DataError(
            "every pixel with data lies on or next to a landslide, so there is no pixel without one to compare with",
            where=stack.path,
            hint="Use a stack that extends beyond the landslides",
        )


def _metres(stack: Stack, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert coordinates to metres on the ground with the scale at the centre of the stack."""
    left, bottom, right, top = extent_of(stack)
    return places * true_scale(stack.crs, (left + right) / 2, (bottom + top) / 2)
