"""The paper's seven channels from the 14 bands of Landslide4Sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from zoo.datasets.landslide4sense.bands import NAMES, to_physical
from zoo.datasets.landslide4sense.files import read_image
from zoo.errors import DataError
from zoo.physics.arrays import FloatArray
from zoo.physics.bands import PAPER_CHANNELS
from zoo.physics.indices import ndbi, ndvi, ndwi
from zoo.physics.lsi import PAPER_WEIGHTS, FeatureRange, weighted_sum
from zoo.physics.moisture import OptramEdges, OptramFit, transformed_swir

SAMPLED = 200
"""Training patches, evenly spaced, that the calibration reads [O]."""
_STEP = 4
"""Every so many rows and columns of them count towards the ranges [O]."""
_DARK = 0.1
"""Near infrared reflectance below which a pixel is water or shadow and says nothing of soil [O]: in genuine patches the
wet edge lies ten times too high with them, and crosses the dry one."""
_PERCENTILES = (0.5, 99.5)
_USED: tuple[str, ...] = ("B3", "B4", "B8", "B11", "B12", "slope", "DEM")

Features = dict[str, FloatArray]


@dataclass(frozen=True)
class Calibration:
    """What SMI and LSI need to know of a whole region, taken from training patches alone.

    Attributes:
        edges: dry and wet edge of OPTRAM.
        ranges: of the features of LSI, from the 0.5th to the 99.5th percentile.
    """

    edges: OptramEdges
    ranges: Mapping[str, FeatureRange]

    def to_dict(self) -> dict[str, object]:
        """Give the numbers as JSON can hold them."""
        ranges = {name: [feature.low, feature.high] for name, feature in self.ranges.items()}
        return {"edges": self.edges.to_dict(), "ranges": ranges}


def calibrate(images: Sequence[Path]) -> Calibration:
    """Fit the edges of OPTRAM and the ranges of the LSI's features.

    Args:
        images: files of the training patches.

    Raises:
        DataError: if the patches are too uniform for it, or a file is damaged.
    """
    chosen = [images[index] for index in np.unique(np.linspace(0, len(images) - 1, SAMPLED).astype(int))]
    fit = OptramFit()
    kept: list[tuple[Features, FloatArray]] = []
    for path in chosen:
        features, moist, nir = _features(read_image(path), path)
        fit.add(np.where(nir < _DARK, np.nan, features["NDVI"]), moist)
        kept.append(({name: values[::_STEP, ::_STEP] for name, values in features.items()}, moist[::_STEP, ::_STEP]))
    edges = fit.edges()
    for features, moist in kept:
        features["SMI"] = edges.moisture(features["NDVI"], moist)
    ranges = {}
    for name in PAPER_WEIGHTS:
        low, high = np.nanpercentile(np.concatenate([features[name].ravel() for features, _ in kept]), _PERCENTILES)
        if not low < high:
            raise DataError(f"{name} is the same everywhere in the training patches, so LSI cannot be scaled")
        ranges[name] = FeatureRange(float(low), float(high))
    return Calibration(edges, ranges)


def paper_channels(image: NDArray[np.float64], calibration: Calibration, where: object) -> NDArray[np.float32]:
    """Compute SMI, NDBI, NDVI, NDWI, slope, DEM and LSI.

    SMI is OPTRAM (B12 over NDVI), as NDMI would be NDBI with the other sign. LSI has no rainfall, which the data set
    lacks: equation 4 with R_m = 1.

    Args:
        image: (14, H, W), as published.
        calibration: of the training patches.
        where: the file, for errors.

    Returns:
        float32 (7, H, W) in the units of :data:`zoo.physics.bands.PAPER_CHANNELS`; NaN where a quotient means nothing.

    Raises:
        DataError: if the values are not scaled as in the published files.
    """
    features, moist, _ = _features(image, where)
    features["SMI"] = calibration.edges.moisture(features["NDVI"], moist)
    features["LSI"] = np.asarray(expit(weighted_sum(features, calibration.ranges)))
    return np.stack([features[band.name] for band in PAPER_CHANNELS]).astype(np.float32)


def _features(image: NDArray[np.float64], where: object) -> tuple[Features, FloatArray, FloatArray]:
    """Give all features but SMI, the transformed B12 that it is made from, and the near infrared."""
    physical = to_physical(image[[NAMES.index(name) for name in _USED]], _USED, where)
    green, red, nir, swir, far_swir, slope, dem = physical
    features: Features = {
        "NDBI": ndbi(swir, nir),
        "NDVI": ndvi(nir, red),
        "NDWI": ndwi(green, nir),
        "slope": slope,
        "DEM": dem,
    }
    return features, transformed_swir(far_swir), nir
