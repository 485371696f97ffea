"""The form of a model that the QGIS plugin Deepness takes, and the metadata that it reads.

Deepness [S: github.com/PUTvision/qgis-plugin-deepness, src/deepness/processing] reads tiles of one square size, divides
them by 255, subtracts ``standardization_mean`` and divides by ``standardization_std``, whatever the type of the raster.
With 0 and 1/255 the graph receives the raster's own values, so that its own normalisation holds, missing values
included. Of a single output channel it calls those pixels landslide whose value is not below ``seg_thresh``, which is
our threshold; of two it takes the larger, which is not. So the output is one channel, the landslide probability.
"""

from __future__ import annotations

import json

from torch import Tensor, nn

from zoo.training.predictor import Predictor, landslide_probability

OVERLAP_PERCENT = 25
"""Of neighbouring tiles [O]: a tile's border sees less of its surroundings than its middle."""


class LandslideProbability(nn.Module):
    """Images in units to the landslide probability, ``(B, C, H, W)`` -> ``(B, 1, H, W)`` in [0, 1]."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, image: Tensor) -> Tensor:
        return landslide_probability(self.predictor(image))[:, None]


def deepness_texts(*, channels: int, tile_size: int, threshold: float, pixel_size: float | None) -> dict[str, str]:
    """The keys that Deepness reads, as JSON text.

    Args:
        channels: bands of the input.
        tile_size: height and width of a tile in pixels.
        threshold: landslide probability from which a pixel is called landslide.
        pixel_size: of the training data in metres; None leaves the resolution to the user.
    """
    facts: dict[str, object] = {
        "model_type": "Segmentor",
        "class_names": {"0": "landslide"},
        "tile_size": tile_size,
        "tiles_overlap": OVERLAP_PERCENT,
        "seg_thresh": threshold,
        "seg_small_segment": 0,
        "standardization_mean": [0.0] * channels,
        "standardization_std": [1 / 255] * channels,
    }
    if pixel_size is not None:
        facts["resolution"] = 100 * pixel_size  # centimetres
    return {key: json.dumps(value) for key, value in facts.items()}
