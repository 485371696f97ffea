"""``mondini_rain``: the rainfall network and the slope mask behind the interface of the zoo's models."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import ConfigError, ModelError
from zoo.models.base import SegmentationModel
from zoo.registry import Choice
from zoo_mondini.network import RainHistory, SlopeMask, log_product

PAPER_SLOPE = 4
"""Index of the slope among the paper's SMI, NDBI, NDVI, NDWI, slope, DEM, LSI."""

SUMMARY_OF_PAPER = "summary of 10.1038/s41467-023-38135-y at researchbunny.com"

PROVENANCE = (
    Choice(
        "P",
        "Supervised binary classification by a deep network of what does and does not trigger shallow landslides.",
        "section 3.5.3",
    ),
    Choice("S", "The network sees hourly rainfall histories and nothing else.", SUMMARY_OF_PAPER),
    Choice("S", "P(F | R, S) = P(F | R) c, where c leaves out places where no landslide can occur.", SUMMARY_OF_PAPER),
    Choice(
        "O",
        "c is a sigmoid of the slope with a learned threshold and width, increasing with the slope. The estimator also "
        "takes a threshold in degrees, below which c is 0.",
        "the mask of [54] was not available",
    ),
    Choice(
        "O",
        "72 hours of history, latest first.",
        "the length in [54] was not available",
    ),
    Choice(
        "O",
        "The input is two series: rain of each hour, and depth from that hour until now, both as ln(1 + mm). The "
        "second is the axis of a depth-duration threshold.",
        "own design",
    ),
    Choice(
        "O",
        "Three convolutions along time (kernel 5, stride 2; 8, 16, 16 maps), then 32 units, ReLU between them.",
        "the layers of [54] were not available",
    ),
    Choice("O", "Two-class logits are ln(1 - p) and ln p, so that a softmax returns p exactly.", "own design"),
)


class MondiniRain(SegmentationModel):
    """Rainfall network times slope mask (Mondini, Guzzetti and Melillo 2023). The model NEEDS RAIN.

    It uses only the slope of the image, and treats every pixel separately. Train it with ``model(images, rain)``. Data
    sets of patches have no rainfall histories, so ``zoo train`` and ``zoo bench`` skip it.

    Args:
        in_channels: bands of the image.
        classes: 1 for a single logit, 2 for logits of no landslide and landslide.
        hours: length of the rainfall history in hours.
        width: channels of the first convolution along time; the others scale with it.
        slope_band: index of the slope among the bands; None for band 4 of the paper's seven, or the only band.

    Shape:
        image float32 ``(B, in_channels, H, W)`` and rain float32 ``(B, hours)``, or ``(B, hours, h, w)`` on a
        coarser grid over the same ground, in mm per hour, latest hour first -> logits ``(B, classes, H, W)``.
        The slope may be in degrees or normalised, because the mask learns its threshold.

    Raises:
        ConfigError: if there are more than two classes, or the band of the slope is unknown.
    """

    def __init__(
        self,
        in_channels: int = 7,
        classes: int = 2,
        *,
        hours: int = 72,
        width: int = 8,
        slope_band: int | None = None,
    ) -> None:
        super().__init__(in_channels, classes, stride=1, minimum_size=1)
        if classes > 2:
            raise ConfigError(f"supports at most 2 classes, not {classes}", where="MondiniRain")
        self.slope_band = _slope_band(in_channels, slope_band)
        self.rain = RainHistory(hours, width)
        self.mask = SlopeMask()

    def forward(self, x: Tensor, rain: Tensor | None = None) -> Tensor:
        """Return the logits of images, each with its rainfall history.

        Raises:
            ModelError: without rain, or if the image or the rain has the wrong shape or impossible values.
        """
        self.check_input(x)
        history = self._checked(x, rain)
        if history.ndim == 2:
            when = self.rain(history)[:, None, None]
        else:
            batch, _, height, width = history.shape
            cells = self.rain(history.movedim(1, -1).flatten(0, 2)).view(batch, 1, height, width)
            when = F.interpolate(cells, x.shape[-2:], mode="nearest")[:, 0]
        no, yes = log_product(when, self.mask(x[:, self.slope_band]))
        return (yes - no)[:, None] if self.classes == 1 else torch.stack([no, yes], 1)

    def _checked(self, x: Tensor, rain: Tensor | None) -> Tensor:
        hours = self.rain.hours
        hint = f"Call model(images, rain) with float32 ({x.shape[0]}, {hours}), mm per hour, latest hour first"
        if rain is None:
            raise ModelError(
                "the model needs rain and cannot predict from only an image",
                where="mondini_rain",
                hint=hint,
            )
        if rain.ndim not in (2, 4) or rain.shape[:2] != (x.shape[0], hours):
            raise ModelError(f"rain has the shape {tuple(rain.shape)}", where="mondini_rain", hint=hint)
        # The values of a traced tensor cannot be checked.
        if not torch.compiler.is_compiling() and not bool((rain.isfinite() & (rain >= 0)).all()):
            raise ModelError("rain is negative, infinite or NaN", where="mondini_rain", hint=hint)
        return rain.to(self.mask.threshold.dtype)


def _slope_band(in_channels: int, slope_band: int | None) -> int:
    if slope_band is None:
        if in_channels not in (1, 7):
            raise ConfigError(
                f"which of the {in_channels} bands is the slope?",
                where="MondiniRain",
                hint="Name it with slope_band=INDEX, from 0",
            )
        return 0 if in_channels == 1 else PAPER_SLOPE
    if isinstance(slope_band, bool) or not isinstance(slope_band, int) or not 0 <= slope_band < in_channels:
        raise ConfigError(f"slope_band must be 0 to {in_channels - 1}, not {slope_band!r}", where="MondiniRain")
    return slope_band
