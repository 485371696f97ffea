"""How large landslides are: connected components of masks, counted mask by mask."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SMALL = 1600.0
"""Square metres below which a landslide is small [P]."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

_EIGHT = np.ones((3, 3), dtype=bool)


@dataclass
class Sizes:
    """Landslides of masks that were added one by one.

    A landslide is a set of landslide pixels that touch by sides or corners. One that touches the border of its mask
    may go on outside, so its size is a lower bound; those are counted.

    Attributes:
        pixel_size: side of a pixel in metres; None when unknown, and sizes are in pixels.
        pixels: size of each landslide in pixels.
        border: whether each touches the border of its mask.
        masks: masks added.
        masks_with: masks that hold a landslide.
    """

    pixel_size: float | None = None
    pixels: list[int] = field(default_factory=list)
    border: list[bool] = field(default_factory=list)
    masks: int = 0
    masks_with: int = 0

    def add(self, landslide: NDArray[np.bool_]) -> None:
        """Count the landslides of a mask.

        Args:
            landslide: bool (H, W).
        """
        self.masks += 1
        labels, count = ndimage.label(landslide, structure=_EIGHT)
        if not count:
            return
        self.masks_with += 1
        self.pixels += np.bincount(labels.ravel())[1:].tolist()
        edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        touching = np.zeros(count + 1, dtype=bool)
        touching[edge] = True
        self.border += touching[1:].tolist()

    @property
    def unit(self) -> str:
        """Unit of :attr:`areas`: "m2", or "px" when the size of a pixel is unknown."""
        return "px" if self.pixel_size is None else "m2"

    @property
    def areas(self) -> NDArray[np.float64]:
        """Areas of all landslides, float64 (N,), in :attr:`unit`."""
        return np.array(self.pixels, dtype=np.float64) * (1 if self.pixel_size is None else self.pixel_size**2)

    def quantiles(self) -> dict[float, float]:
        """Give the 5th, 25th, 50th, 75th and 95th percentile of :attr:`areas`; empty without landslides."""
        if not self.pixels:
            return {}
        return dict(zip(QUANTILES, np.quantile(self.areas, QUANTILES).tolist(), strict=True))

    @property
    def small(self) -> float | None:
        """Share of landslides below 1,600 m2, 0..1; None without landslides or when the size of a pixel is unknown."""
        if self.pixel_size is None or not self.pixels:
            return None
        return float((self.areas < SMALL).mean())

    @property
    def at_border(self) -> int:
        """Landslides that touch the border of their mask."""
        return sum(self.border)
