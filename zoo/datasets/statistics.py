"""Band statistics of the training split, and the normalisation made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.datasets.base import PatchDataset
from zoo.errors import ConfigError, DataError
from zoo.physics.running import RunningMoments

PERCENTILES = (0.5, 99.5)
_SAMPLED = 2_000_000


@dataclass(frozen=True)
class BandStatistics:
    """Statistics of one band over the pixels that are not missing.

    Attributes:
        name: of the band.
        mean: in the band's unit.
        std: population standard deviation, in the band's unit.
        minimum: smallest value.
        maximum: largest value.
        low: 0.5th percentile.
        high: 99.5th percentile.
        count: pixels that are not missing.
        nodata: value that counts as missing beside NaN; None without one.
    """

    name: str
    mean: float
    std: float
    minimum: float
    maximum: float
    low: float
    high: float
    count: int
    nodata: float | None = None


@dataclass(frozen=True)
class Statistics:
    """Statistics of all bands of a training split.

    Attributes:
        bands: one entry a band, in order.
        patches: number of patches they were computed over.
        source: fingerprint of the split.
    """

    bands: tuple[BandStatistics, ...]
    patches: int
    source: str = ""

    @property
    def mean(self) -> NDArray[np.float64]:
        """Means, float64 (C,)."""
        return np.array([band.mean for band in self.bands])

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviations, float64 (C,)."""
        return np.array([band.std for band in self.bands])

    @property
    def scale(self) -> NDArray[np.float64]:
        """What normalisation divides by, float64 (C,): the standard deviation, 1 for a constant band."""
        # Rounding makes a constant band's deviation a few units in the last place, not always 0.
        return np.where(self.std > 1e-7 * np.abs(self.mean), self.std, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Give plain JSON values; a NaN nodata value, which JSON has not, is the string "nan"."""
        values = asdict(self)
        values["bands"] = [dict(band) for band in values["bands"]]
        for band in values["bands"]:
            if band["nodata"] is not None and math.isnan(band["nodata"]):
                band["nodata"] = "nan"
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Statistics:
        """Read what :meth:`to_dict` gave.

        Raises:
            DataError: if a field is missing, unknown or no finite number.
        """
        try:
            bands = tuple(_band_from_dict(band) for band in values["bands"])
            return cls(bands, int(values["patches"]), str(values.get("source", "")))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"no statistics ({error!r})", hint="Compute them again") from error


def compute_statistics(dataset: PatchDataset, progress: Callable[[int, int], None] | None = None) -> Statistics:
    """Compute the statistics of a training split in one pass.

    Moments are accumulated in float64, patch by patch (:class:`zoo.physics.running.RunningMoments`).
    Percentiles come from at most two million pixels a band, every k-th at a start that moves from patch to patch [O];
    up to that size they are exact, above it their rank is off by less than 0.02 %.

    Args:
        dataset: a training split; its transforms are not applied.
        progress: called with the number of patches done and of all.

    Returns:
        Statistics without the pixels that are NaN or hold a band's nodata value.

    Raises:
        ConfigError: if the split is not "train": statistics of other splits leak into the model.
        DataError: if the split is empty, a band has no valid pixel or holds an infinity.
    """
    if dataset.split != "train":
        raise ConfigError(
            f"statistics come from the training split, and this is {dataset.split!r}",
            hint="Open the data set with split='train'",
        )
    if not len(dataset):
        raise DataError("the training split is empty, so it has no statistics")
    nodata = [band.nodata for band in dataset.bands]
    moments = [_Moments() for _ in nodata]
    step = 1
    for index in range(len(dataset)):
        image, _ = dataset.read(index)
        if index == 0:
            step = max(1, math.ceil(len(dataset) * image[0].size / _SAMPLED))
        for band, moment, values, hidden in zip(dataset.bands, moments, image, nodata, strict=True):
            present = _present(values, hidden)
            if np.isinf(present).any():
                raise DataError(
                    "holds an infinity",
                    where=f"band {band.name!r} of {dataset.patches[index].name}",
                    hint="Mark such pixels with a nodata value",
                )
            moment.sample(present, step, start=index)
        if progress is not None:
            progress(index + 1, len(dataset))
    bands = []
    for band, moment in zip(dataset.bands, moments, strict=True):
        if moment.count == 0:
            raise DataError(f"band {band.name!r} has no valid pixel in the training split", hint="Leave it out")
        low, high = np.percentile(np.concatenate(moment.sampled), PERCENTILES)
        bands.append(
            BandStatistics(
                name=band.name,
                mean=moment.mean,
                std=moment.std,
                minimum=moment.minimum,
                maximum=moment.maximum,
                low=float(low),
                high=float(high),
                count=moment.count,
                nodata=band.nodata,
            )
        )
    return Statistics(tuple(bands), len(dataset), dataset.fingerprint())


def normalise(image: Tensor, statistics: Statistics) -> Tensor:
    """Bring every band to mean 0 and standard deviation 1; what is missing becomes 0, the mean.

    A band that is constant in training is only centred.

    Args:
        image: (..., C, H, W), in the units of the bands, NaN or the nodata value where missing.
        statistics: of the training split.

    Returns:
        float32, or the floating type of ``image``, of the same shape, finite wherever the input is finite or missing.

    Raises:
        DataError: if the image has another number of bands.
    """
    bands = statistics.bands
    if image.ndim < 3 or image.shape[-3] != len(bands):
        found = image.shape[-3] if image.ndim >= 3 else 0
        raise DataError(f"the image has {found} bands, and the statistics have {len(bands)}")
    values = image if image.is_floating_point() else image.float()
    mean = values.new_tensor([band.mean for band in bands])[:, None, None]
    std = values.new_tensor(statistics.scale.tolist())[:, None, None]
    out = (values - mean) / std
    missing = torch.isnan(values)
    if any(band.nodata is not None for band in bands):
        # NaN equals nothing, so a band without a nodata value compares false everywhere.
        nodata = values.new_tensor([math.nan if band.nodata is None else band.nodata for band in bands])
        missing |= values == nodata[:, None, None]
    return out.masked_fill(missing, 0.0)


class _Moments(RunningMoments):
    """Running moments of one band, and every k-th value of it."""

    def __init__(self) -> None:
        super().__init__()
        self.sampled: list[NDArray[np.float32]] = []

    def sample(self, values: NDArray[np.float32], step: int, start: int) -> None:
        if values.size:
            self.add(values)
            self.sampled.append(values[start % min(step, values.size) :: step].copy())


def _present(values: NDArray[np.float32], nodata: float | None) -> NDArray[np.float32]:
    flat = values.ravel()
    present = ~np.isnan(flat)
    if nodata is not None:
        present &= flat != np.float32(nodata)
    return flat if present.all() else flat[present]


def _band_from_dict(values: Mapping[str, Any]) -> BandStatistics:
    unknown: Sequence[str] = sorted(set(values) - {entry.name for entry in fields(BandStatistics)})
    if unknown:
        raise KeyError(unknown[0])
    numbers = {name: float(values[name]) for name in ("mean", "std", "minimum", "maximum", "low", "high")}
    if not all(math.isfinite(number) for number in numbers.values()):
        raise ValueError(f"a value of band {values['name']!r} is not finite")
    nodata = values.get("nodata")
    return BandStatistics(
        name=str(values["name"]),
        count=int(values["count"]),
        nodata=None if nodata is None else float(nodata),
        **numbers,
    )
