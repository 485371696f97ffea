"""An untrained baseline for change detection: a decrease of NDVI between two dates on steep ground."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from zoo.errors import ConfigError, ModelError
from zoo.models.base import SegmentationModel
from zoo.registry import Choice

CHANGE_CHANNEL, SLOPE_CHANNEL = "dNDVI", "slope"

BINS = 1024
_RANGE = (-2.0, 2.0)
_SOFTNESS = 0.05
_MIN_LOGIT = -20.0

PROVENANCE = (
    Choice("S", "Fresh landslides lose their vegetation: NDVI falls between the dates.", "Mondini et al. 2011"),
    Choice("S", "Otsu's threshold maximises the variance between the two classes.", "Otsu 1979"),
    Choice("O", "Slopes below 10 degrees are never landslides: fields and rivers change there."),
    Choice("O", "Otsu's histogram covers the slopes of all training images, with 1,024 bins of dNDVI in [-2, 2]."),
    Choice(
        "O", "The logit is the distance from the threshold in units of 0.05 NDVI; it is not a calibrated probability."
    ),
)


class DndviThreshold(SegmentationModel):
    """Baseline without parameters: a pixel on steep ground is landslide if its NDVI fell by more than a threshold.

    :meth:`calibrate` computes the threshold from the images of the training split by Otsu's method (Otsu 1979, IEEE
    Transactions on Systems, Man, and Cybernetics 9, 62-66), without labels. Images are in the units of their bands.

    Args:
        in_channels: bands of the input.
        classes: channels of the logits; channel 1 is landslide, or the only channel.
        bands: names of the bands, with ``dNDVI`` (after minus before) and ``slope`` (degree). Without names, dNDVI is
            the first band and slope the second; a single band is dNDVI, without a slope limit.
        threshold: minimum fall of NDVI of a landslide pixel, such as 0.2; None for Otsu's threshold.
        min_slope: minimum slope of a landslide pixel in degrees.

    Raises:
        ConfigError: if an option is out of range, or the number of names differs from ``in_channels``.
        ModelError: if the bands lack dNDVI or slope.
    """

    takes_units = True
    threshold: Tensor

    def __init__(
        self,
        in_channels: int = 7,
        classes: int = 2,
        *,
        bands: Sequence[str] | None = None,
        threshold: float | None = None,
        min_slope: float = 10.0,
    ) -> None:
        super().__init__(in_channels, classes, stride=1, minimum_size=1)
        needed = (CHANGE_CHANNEL, SLOPE_CHANNEL)[:in_channels] if bands is None else (CHANGE_CHANNEL, SLOPE_CHANNEL)
        names = (*needed, *map(str, range(in_channels)))[:in_channels] if bands is None else tuple(bands)
        if len(names) != in_channels:
            raise ConfigError(f"{len(names)} names of bands for {in_channels} bands", where="option bands")
        if threshold is not None and not 0 < threshold < 2:
            raise ConfigError(f"NDVI cannot fall by {threshold:g}", where="option threshold")
        if not 0 <= min_slope < 90:
            raise ConfigError(f"{min_slope:g} degrees is not a possible slope", where="option min_slope")
        lacking = [name for name in needed if name not in names]
        if lacking:
            hint = "Make the data with zoo stack --pre FOLDER --post FOLDER --dem FILE"
            raise ModelError(f"the data have no band {', '.join(lacking)}", where=type(self).__name__, hint=hint)
        self._change = names.index(CHANGE_CHANNEL)
        self._slope = names.index(SLOPE_CHANNEL) if SLOPE_CHANNEL in names else None
        self.min_slope = min_slope
        self.fixed = threshold is not None
        self.register_buffer("threshold", torch.tensor(0.2 if threshold is None else threshold))

    def calibrate(self, images: Iterable[Tensor]) -> None:
        """Set the threshold by Otsu's method, unless it is fixed.

        Args:
            images: float32 ``(C, H, W)`` in the units of the bands, NaN where missing.

        Raises:
            ModelError: if dNDVI has fewer than two values on steep ground.
        """
        if self.fixed:
            return
        counts = torch.zeros(BINS, dtype=torch.float64)
        for image in images:
            counts += torch.histc(self._ndvi_decrease(image[None]).float(), BINS, *_RANGE).double()
        if int((counts > 0).sum()) < 2:
            raise ModelError(
                f"the training images have no two different values of dNDVI on slopes of at least {self.min_slope:g} "
                f"degrees",
                where=type(self).__name__,
                hint="Lower min_slope, or name a threshold",
            )
        self.threshold.fill_(otsu(counts, _RANGE))

    def _ndvi_decrease(self, images: Tensor) -> Tensor:
        """Return the decrease of NDVI at valid pixels on steep ground, flattened."""
        fall = -images[:, self._change]
        known = ~fall.isnan()
        return fall[known if self._slope is None else known & (images[:, self._slope] >= self.min_slope)]

    def segment(self, x: Tensor) -> Tensor:
        logit = (-x[:, self._change] - self.threshold) / _SOFTNESS
        if self._slope is not None:
            logit = torch.where(x[:, self._slope] >= self.min_slope, logit, _MIN_LOGIT)
        if self.classes == 1:
            return logit[:, None]
        others = [torch.full_like(logit, _MIN_LOGIT)] * (self.classes - 2)
        return torch.stack([torch.zeros_like(logit), logit, *others], 1)


def otsu(counts: Tensor, bounds: tuple[float, float]) -> float:
    """Return Otsu's threshold of a histogram: the upper edge of the last bin of the lower class.

    The threshold maximises the variance between the classes, ``w0 w1 (m0 - m1)^2``, with the shares w and the means m
    of the values below and above. If several edges share the maximum, their midpoint is returned.

    Args:
        counts: float64 ``(bins,)``, with at least two counts above 0.
        bounds: lower edge of the first and upper edge of the last bin.
    """
    step = (bounds[1] - bounds[0]) / len(counts)
    centres = bounds[0] + step * (torch.arange(len(counts), dtype=torch.float64) + 0.5)
    below, moment = counts.cumsum(0), (counts * centres).cumsum(0)
    above = below[-1] - below
    between = (moment[-1] * below - moment * below[-1]) ** 2 / (below * above).clamp(min=1e-300)
    best = torch.where((below > 0) & (above > 0), between, -1.0)
    edges = (best >= best.max() * (1 - 1e-12)).nonzero()
    return float(bounds[0] + step * (edges.double().mean() + 1))
