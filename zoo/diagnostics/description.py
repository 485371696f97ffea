"""Everything that is known of a data set or a stack of channels, gathered image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.diagnostics.collinearity import Collinearity, collinearity
from zoo.diagnostics.moments import ChannelStatistics, Moments
from zoo.diagnostics.sizes import SMALL, Sizes
from zoo.errors import DataError
from zoo.physics.bands import Band


@dataclass(frozen=True)
class Classes:
    """Pixels of each class.

    Attributes:
        names: of the classes, the background first.
        pixels: int64 (K,), of each class.
        ignored: pixels that count nowhere.
    """

    names: tuple[str, ...]
    pixels: NDArray[np.int64]
    ignored: int

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of each class among the pixels that count, float64 (K,), 0..1; NaN when none counts."""
        total = int(self.pixels.sum())
        return self.pixels / total if total else np.full(len(self.pixels), np.nan)


@dataclass(frozen=True)
class Description:
    """What a data set or a stack is made of.

    Attributes:
        label: what was described.
        pixels: pixels seen.
        complete: pixels at which every channel is valid; correlation, VIF and components are over these.
        channels: statistics of each channel over its own valid pixels.
        dependence: correlation, VIF and principal components; None when no pixel is complete.
        classes: balance of the classes; None where there are no masks.
        sizes: of the landslides; None where there are no masks.
    """

    label: str
    pixels: int
    complete: int
    channels: tuple[ChannelStatistics, ...]
    dependence: Collinearity | None
    classes: Classes | None
    sizes: Sizes | None

    def to_dict(self) -> dict[str, Any]:
        """Give plain JSON values: NaN is null, an infinite VIF the string "infinite"."""
        return {
            "label": self.label,
            "pixels": self.pixels,
            "complete_pixels": self.complete,
            "channels": [_plain({**asdict(channel), "constant": channel.constant}) for channel in self.channels],
            "dependence": None if self.dependence is None else _dependence(self.dependence),
            "classes": None if self.classes is None else _classes(self.classes),
            "landslides": None if self.sizes is None else _sizes(self.sizes),
        }


class Describer:
    """Gathers a :class:`Description`, image by image; no image is kept.

    Args:
        bands: channels of the images.
        class_names: names of the classes; None when images come without masks.
        pixel_size: side of a pixel in metres; None when unknown.
        expected: pixels that will come, 0 when unknown.
        ignore: mask value that counts nowhere.
    """

    def __init__(
        self,
        bands: Sequence[Band],
        *,
        class_names: Sequence[str] | None = None,
        pixel_size: float | None = None,
        expected: int = 0,
        ignore: int = 255,
    ) -> None:
        self._moments = Moments(tuple(bands), expected)
        self._names = None if class_names is None else tuple(class_names)
        self._ignore = ignore
        self._counts = np.zeros(256, dtype=np.int64)
        self._sizes = Sizes(pixel_size)

    def add(self, image: NDArray[np.floating], mask: NDArray[np.integer] | None = None) -> None:
        """Count an image and its mask.

        Args:
            image: float (C, H, W), NaN or the channel's nodata value where missing.
            mask: integer (H, W), classes from 0, and the value to ignore.

        Raises:
            DataError: if the image has another number of channels, or the mask holds no class.
        """
        self._moments.add(image)
        if mask is None or self._names is None:
            return
        if mask.size and not 0 <= int(mask.min()) <= int(mask.max()) <= 255:
            raise DataError(f"a mask holds {mask.min()} to {mask.max()}, and classes are 0 to 255")
        self._counts += np.bincount(mask.ravel(), minlength=256)
        self._sizes.add((mask > 0) & (mask != self._ignore))

    def finish(self, label: str) -> Description:
        """Give the description of what was added.

        Args:
            label: what it is of.

        Raises:
            DataError: if nothing was added, or no channel has a valid value.
        """
        channels = self._moments.statistics()
        if not any(channel.count for channel in channels):
            raise DataError("no channel has a valid value, so there is nothing to describe", where=label)
        dependence = None
        if self._moments.complete:
            names = tuple(channel.name for channel in channels)
            dependence = collinearity(names, self._moments.covariance, self._moments.means)
        classes = None
        if self._names is not None:
            counts = self._counts.copy()
            ignored, counts[self._ignore] = int(counts[self._ignore]), 0
            used = max(len(self._names), int(np.max(np.flatnonzero(counts), initial=-1)) + 1)
            names = self._names + tuple(f"class_{index}" for index in range(len(self._names), used))
            classes = Classes(names, counts[:used], ignored)
        return Description(
            label=label,
            pixels=self._moments.pixels,
            complete=self._moments.complete,
            channels=channels,
            dependence=dependence,
            classes=classes,
            sizes=None if classes is None else self._sizes,
        )


def _dependence(found: Collinearity) -> dict[str, Any]:
    return {
        "channels": list(found.names),
        "constant": [name for name, constant in zip(found.names, found.constant, strict=True) if constant],
        "correlation": _plain(found.correlation.tolist()),
        "vif": _plain(found.vif.tolist()),
        "explained": _plain(found.explained.tolist()),
        "loadings": _plain(found.loadings.tolist()),
    }


def _classes(classes: Classes) -> dict[str, Any]:
    shares = _plain(classes.shares.tolist())
    rows = zip(classes.names, classes.pixels.tolist(), shares, strict=True)
    return {
        "classes": [{"name": name, "pixels": pixels, "share": share} for name, pixels, share in rows],
        "ignored_pixels": classes.ignored,
    }


def _sizes(sizes: Sizes) -> dict[str, Any]:
    return {
        "patches": sizes.masks,
        "patches_with_landslides": sizes.masks_with,
        "count": len(sizes.pixels),
        "at_border": sizes.at_border,
        "unit": sizes.unit,
        "quantiles": {f"{share:g}": area for share, area in sizes.quantiles().items()},
        f"share_below_{SMALL:g}_m2": sizes.small,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "infinite"
    return value
