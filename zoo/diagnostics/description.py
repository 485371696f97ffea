"""Description of a data set or a stack: statistics, classes, landslide sizes, collinearity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from zoo.errors import DataError
from zoo.physics.bands import Band
from zoo.physics.running import ChannelMoments, ChannelStatistics

CONSTANT_RATIO = 1e-12
"""Ratio of variance to squared mean below which a channel counts as constant [O]."""

COLLINEAR = 1e-9
"""Unexplained share of the variance of a channel below which it counts as determined by the others [O]."""


@dataclass(frozen=True)
class Collinearity:
    """Correlation, collinearity and principal components of channels.

    Attributes:
        names: names of the channels.
        constant: whether each channel is constant, bool (C,); the fields below exclude these channels.
        correlation: Pearson correlation, float64 (C, C); NaN for constant channels.
        vif: variance inflation factors, float64 (C,): 1 for a channel that no other channel explains, infinite for one
            that the others determine; NaN for constant channels.
        explained: share of the standardised variance that each principal component explains, float64 (K,), descending.
        loadings: principal components as rows of length 1, float64 (K, C). The largest entry of a row is positive, and
            the entries of constant channels are 0.
    """

    names: tuple[str, ...]
    constant: NDArray[np.bool_]
    correlation: NDArray[np.float64]
    vif: NDArray[np.float64]
    explained: NDArray[np.float64]
    loadings: NDArray[np.float64]

    def strongest(self) -> tuple[int, int, float] | None:
        """Return the pair of channels with the largest absolute correlation, and its value; ``None`` without a pair."""
        upper = np.triu(np.ones_like(self.correlation, dtype=bool), 1) & np.isfinite(self.correlation)
        if not upper.any():
            return None
        best = int(np.argmax(np.where(upper, np.abs(self.correlation), -1)))
        one, other = divmod(best, len(self.names))
        return one, other, float(self.correlation[one, other])


def collinearity(
    names: tuple[str, ...], covariance: NDArray[np.float64], means: NDArray[np.float64] | None = None
) -> Collinearity:
    """Return correlation, VIF and principal components.

    The components are computed from the correlation matrix, because channels in metres, degrees and shares have no
    common scale. VIF is 1 / (1 - R2) of the regression of a channel on all others; values above 5 or 10 are usually
    considered high. [S] Belsley, Kuh and Welsch (1980), Regression Diagnostics.

    Args:
        names: names of the channels.
        covariance: float64 (C, C), symmetric; all NaN if nothing was measured.
        means: means of the channels, float64 (C,), to recognise a constant of 3,000 despite rounding; ``None`` for 0.

    Returns:
        The figures; if the covariance is NaN, all are NaN and there are no components.
    """
    variance = np.diag(covariance)
    scale = np.square(means) if means is not None else np.zeros(len(names))
    varies = variance > np.maximum(CONSTANT_RATIO * scale, np.finfo(np.float64).tiny)
    correlation = np.full(covariance.shape, np.nan)
    vif = np.full(len(names), np.nan)
    kept = np.flatnonzero(varies)
    deviations = np.sqrt(variance[kept])
    inner = covariance[np.ix_(kept, kept)] / np.outer(deviations, deviations)
    inner = np.clip(inner, -1, 1)
    np.fill_diagonal(inner, 1)
    correlation[np.ix_(kept, kept)] = inner
    vif[kept] = variance_inflation(inner)
    values, vectors = np.linalg.eigh(inner)
    order = np.argsort(-values)
    loadings = np.zeros((len(kept), len(names)))
    for row, column in enumerate(order):
        vector = vectors[:, column]
        loadings[row, kept] = vector * np.sign(vector[np.argmax(np.abs(vector))])
    explained = np.maximum(values[order], 0)
    return Collinearity(
        names=tuple(names),
        constant=~varies,
        correlation=correlation,
        vif=vif,
        explained=explained / explained.sum() if len(kept) else explained,
        loadings=loadings,
    )


def variance_inflation(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the variance inflation factors of a correlation matrix.

    Args:
        correlation: float64 (C, C), without constant channels.

    Returns:
        float64 (C,), at least 1, infinite for a channel that the others determine.
    """
    count = len(correlation)
    out = np.ones(count)
    for channel in range(count if count > 1 else 0):
        others = np.delete(np.arange(count), channel)
        towards = correlation[others, channel]
        # The other channels can themselves be collinear, so use a pseudo-inverse.
        inverse = np.linalg.pinv(correlation[np.ix_(others, others)], rcond=COLLINEAR, hermitian=True)
        unexplained = 1 - float(towards @ inverse @ towards)
        out[channel] = np.inf if unexplained < COLLINEAR else max(1.0, 1 / unexplained)
    return out


SMALL_LANDSLIDE_M2 = 1600.0
"""Area in square metres below which a landslide counts as small [P]."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

_NEIGHBOURS_8 = np.ones((3, 3), dtype=bool)


@dataclass
class LandslideSizes:
    """Sizes of the landslides in masks that are added one by one.

    A landslide is a set of landslide pixels that are connected by sides or corners. A landslide at the border of its
    mask may continue outside, so its size is a lower bound; :attr:`at_border` counts these.

    Attributes:
        pixel_size: side of a pixel in metres; ``None`` if unknown, in which case sizes are in pixels.
        pixels: size of each landslide in pixels.
        border: whether each landslide touches the border of its mask.
        masks: number of masks.
        masks_with: number of masks with a landslide.
    """

    pixel_size: float | None = None
    pixels: list[int] = field(default_factory=list)
    border: list[bool] = field(default_factory=list)
    masks: int = 0
    masks_with: int = 0

    def add(self, landslide: NDArray[np.bool_]) -> None:
        """Add the landslides of a mask.

        Args:
            landslide: mask of landslide pixels, bool (H, W).
        """
        self.masks += 1
        labels, count = ndimage.label(landslide, structure=_NEIGHBOURS_8)
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
        """Unit of :attr:`areas`: "m2", or "px" if the pixel size is unknown."""
        return "px" if self.pixel_size is None else "m2"

    @property
    def areas(self) -> NDArray[np.float64]:
        """Areas of all landslides, float64 (N,), in :attr:`unit`."""
        return np.array(self.pixels, dtype=np.float64) * (1 if self.pixel_size is None else self.pixel_size**2)

    def quantiles(self) -> dict[float, float]:
        """Return the 5th, 25th, 50th, 75th and 95th percentile of :attr:`areas`, by share; empty without landslides."""
        if not self.pixels:
            return {}
        return dict(zip(QUANTILES, np.quantile(self.areas, QUANTILES).tolist(), strict=True))

    @property
    def small(self) -> float | None:
        """Share of landslides below 1,600 m2, 0..1; ``None`` if there are no landslides or no pixel size."""
        if self.pixel_size is None or not self.pixels:
            return None
        return float((self.areas < SMALL_LANDSLIDE_M2).mean())

    @property
    def at_border(self) -> int:
        """Number of landslides that touch the border of their mask."""
        return sum(self.border)


@dataclass(frozen=True)
class Classes:
    """Class balance.

    Attributes:
        names: names of the classes, the background first.
        pixels: number of pixels of each class, int64 (K,).
        ignored: number of pixels with the ignore value.
    """

    names: tuple[str, ...]
    pixels: NDArray[np.int64]
    ignored: int

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of each class among the counted pixels, float64 (K,), 0..1; NaN if no pixel is counted."""
        total = int(self.pixels.sum())
        return self.pixels / total if total else np.full(len(self.pixels), np.nan)


@dataclass(frozen=True)
class Description:
    """Description of a data set or a stack.

    Attributes:
        label: name of the data.
        pixels: number of pixels.
        complete: number of pixels where every channel is valid; correlation, VIF and components use only these.
        channels: statistics of each channel over its own valid pixels.
        dependence: correlation, VIF and principal components; ``None`` if no pixel is complete.
        classes: class balance; ``None`` without masks.
        sizes: sizes of the landslides; ``None`` without masks.
        notes: warnings about the data.
        shape: (rows, columns) of a raster or of the first patch; ``None`` if it is unknown.
        pixel_size: side of a pixel in metres; ``None`` if unknown.
    """

    label: str
    pixels: int
    complete: int
    channels: tuple[ChannelStatistics, ...]
    dependence: Collinearity | None
    classes: Classes | None
    sizes: LandslideSizes | None
    notes: tuple[str, ...] = ()
    shape: tuple[int, int] | None = None
    pixel_size: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; NaN becomes null, and an infinite VIF becomes the string "infinite"."""
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
    """Computes a :class:`Description` incrementally, image by image, without keeping the images in memory.

    Args:
        bands: channels of the images.
        class_names: names of the classes; ``None`` for images without masks.
        pixel_size: side of a pixel in metres; ``None`` if unknown.
        expected: expected number of pixels; 0 if unknown.
        ignore: mask value that is not counted.
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
        self._moments = ChannelMoments(tuple(bands), expected)
        self._names = None if class_names is None else tuple(class_names)
        self._ignore = ignore
        self._counts = np.zeros(256, dtype=np.int64)
        self._sizes = LandslideSizes(pixel_size)
        self._shape: tuple[int, int] | None = None

    def add(self, image: NDArray[np.floating], mask: NDArray[np.integer] | None = None) -> None:
        """Add an image and its mask.

        Args:
            image: float (C, H, W); missing data are NaN or the nodata value of the channel.
            mask: class numbers from 0, or the ignore value, integer (H, W).

        Raises:
            DataError: if the image has a different number of channels, or the mask contains a value that is not a
                class.
        """
        self._moments.add(image)
        self._shape = self._shape or (image.shape[-2], image.shape[-1])
        if mask is None or self._names is None:
            return
        if mask.size and not 0 <= int(mask.min()) <= int(mask.max()) <= 255:
            raise DataError(
                f"a mask contains values from {mask.min()} to {mask.max()}, but classes are 0 to 255",
                hint="Number the classes from 0",
            )
        self._counts += np.bincount(mask.ravel(), minlength=256)
        self._sizes.add((mask > 0) & (mask != self._ignore))

    def finish(self, label: str, *, notes: Sequence[str] = (), shape: tuple[int, int] | None = None) -> Description:
        """Return the description of all images that were added.

        Args:
            label: name of the data.
            notes: warnings about the data.
            shape: (rows, columns) of the raster; ``None`` uses that of the first image.

        Raises:
            DataError: if no image was added, or no channel has a valid value.
        """
        channels = self._moments.statistics()
        if not any(channel.count for channel in channels):
            raise DataError(
                "no channel has a valid value, so there is nothing to describe",
                where=label,
                hint="Check the nodata value",
            )
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
            notes=tuple(notes),
            shape=shape or self._shape,
            pixel_size=self._sizes.pixel_size,
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


def _sizes(sizes: LandslideSizes) -> dict[str, Any]:
    return {
        "patches": sizes.masks,
        "patches_with_landslides": sizes.masks_with,
        "count": len(sizes.pixels),
        "at_border": sizes.at_border,
        "unit": sizes.unit,
        "quantiles": {f"{share:g}": area for share, area in sizes.quantiles().items()},
        f"share_below_{SMALL_LANDSLIDE_M2:g}_m2": sizes.small,
    }


def _plain(value: Any) -> Any:
    """Replace NaN with None and infinity with "infinite" in nested lists and dicts."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "infinite"
    return value
