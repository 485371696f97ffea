"""One synthetic scene, from seed to channels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zoo.datasets.synthetic.config import DIFFICULTIES, REGIONS, SceneConfig
from zoo.datasets.synthetic.failures import Landslides, make_landslides, shifted
from zoo.datasets.synthetic.ground import Ground, Rain, draw_rain, make_ground
from zoo.datasets.synthetic.landcover import Cover, make_landcover
from zoo.datasets.synthetic.noise import Field, smooth, stream
from zoo.datasets.synthetic.optics import GREEN, NIR, RED, SWIR, ground_reflectance, observe
from zoo.datasets.synthetic.terrain import make_terrain
from zoo.physics import FeatureRange, landslide_index, ndbi, ndvi, ndwi, rainfall_factor, slope_degrees
from zoo.physics.lsi import NegativeIndexWarning
from zoo.physics.rain import CAINE_1980, threshold_intensity

FEATURE_RANGES = {
    "SMI": FeatureRange(0.1, 0.9),
    "NDBI": FeatureRange(-0.5, 0.3),
    "NDVI": FeatureRange(0.1, 0.9),
    "NDWI": FeatureRange(-0.8, -0.1),
    "slope": FeatureRange(0.0, 50.0),
    "DEM": FeatureRange(0.0, 4000.0),
}
"""Stored statistics with which the index scales its features: about the 0.5-99.5 percentiles over all regions."""

RAIN_FACTOR_LIMITS = (0.8, 1.25)
"""Smallest and largest rainfall factor used in the LSI channel [O].

Equation 4 multiplies: unclipped, a wet scene's safest pixel outranks a dry scene's landslide, and over all scenes the
index with rain ranks worse than without (AUC 0.81 against 0.92). Within these limits it does not.
"""

_FAILED_SHARE = 0.018  # of the ground, in an event at the threshold of Caine (1980) on ground of common hazard
_COMMON_HAZARD = 0.05  # mean hazard of a scene under such rain
_MOST_FAILED = 0.06  # share of the ground beyond which an event is not credible


@dataclass(frozen=True)
class Scene:
    """One scene, its truth, and what it came from. Every field is (size, size) unless said otherwise.

    Args:
        seed: number of the scene.
        config: the rest of what decides its bytes.
        image: (7, size, size) float32, the channels of :data:`zoo.physics.PAPER_CHANNELS`.
        mask: uint8, 1 where a landslide of the event is labelled, label noise included.
        landslide_id: int32, the true landslides of the event, 0 elsewhere; numbers have gaps.
        visibility: float32, share of bare soil that a fresh or old scar shows, 0 elsewhere.
        safety: float32, true factor of safety at the end of the rain.
        wetness: float32, true saturated share of the soil, [0, 1].
        cover: uint8, :class:`zoo.datasets.synthetic.landcover.Cover` before the event.
        reflectance: (4, size, size) float32, green, red, near and short-wave infrared as recorded.
        elevation: float32, true elevation in metres, without closed basins.
        area: float32, upslope area in m2.
        rain: intensity (mm/h) and duration (days) of the event.
        rain_factor: R_m of equation 5, before the limits of the LSI channel.
    """

    seed: int
    config: SceneConfig
    image: npt.NDArray[np.float32]
    mask: npt.NDArray[np.uint8]
    landslide_id: npt.NDArray[np.int32]
    visibility: npt.NDArray[np.float32]
    safety: npt.NDArray[np.float32]
    wetness: npt.NDArray[np.float32]
    cover: npt.NDArray[np.uint8]
    reflectance: npt.NDArray[np.float32]
    elevation: npt.NDArray[np.float32]
    area: npt.NDArray[np.float32]
    rain: Rain
    rain_factor: float


def generate_scene(seed: int, config: SceneConfig | None = None) -> Scene:
    """Return the scene of a seed: the same bytes in any process, whatever else runs.

    Args:
        seed: number of the scene, >= 0.
        config: sizes, phase, region, difficulty; the defaults if None.
    """
    config = SceneConfig() if config is None else config
    region, difficulty, cell = REGIONS[config.region], DIFFICULTIES[config.difficulty], config.pixel_size
    n = config.size + 2 * config.margin
    terrain = make_terrain(seed, n, cell, region.terrain)
    slope = slope_degrees(terrain.elevation, cell)
    cover = make_landcover(
        seed,
        terrain,
        slope,
        cell,
        forest=region.forest,
        tree_line=region.tree_line,
        farming=region.farming,
        rock=region.rock,
    )
    bright = ground_reflectance(cover.shares, cover.vigour, region.spectra)
    rain = draw_rain(seed, region.rain, region.rain_spread)
    greenness = ndvi(bright[NIR], bright[RED])
    # Where rock is bare there is no soil left to slide.
    kept = cover.river | cover.town | (cover.shares[Cover.ROCK] > 0.4)
    ground = make_ground(seed, terrain, slope, greenness, kept, rain, cell)
    slides = make_landslides(
        seed,
        terrain.flow,
        slope,
        ground.hazard,
        cell,
        share=_failed_share(seed, ground, rain),
        visibility=difficulty.visibility,
        old_share=difficulty.old_share,
    )
    bare = _bare_ground(slides, config.phase)
    seen = observe(
        seed,
        bright,
        cover.shares[Cover.SOIL],
        bare,
        ground.wetness,
        terrain.elevation,
        cell,
        region.spectra,
        region.haze,
    )
    factor = float(rainfall_factor(rain.intensity, rain.duration))
    fresh = slides.fresh()
    crop = np.s_[..., config.margin : config.margin + config.size, config.margin : config.margin + config.size]
    return Scene(
        seed=seed,
        config=config,
        image=_channels(seed, seen, ground, terrain.elevation, cell, factor)[crop],
        mask=shifted(fresh, config.label_noise, stream(seed, "labels")).astype(np.uint8)[crop],
        landslide_id=fresh[crop],
        visibility=bare.astype(np.float32)[crop],
        safety=ground.safety.astype(np.float32)[crop],
        wetness=ground.wetness.astype(np.float32)[crop],
        cover=cover.dominant()[crop],
        reflectance=seen.astype(np.float32)[crop],
        elevation=terrain.elevation.astype(np.float32)[crop],
        area=terrain.area.astype(np.float32)[crop],
        rain=rain,
        rain_factor=factor,
    )


def _failed_share(seed: int, ground: Ground, rain: Rain) -> float:
    """Return the share of the ground that fails: more with rain beyond the threshold, and where more is unstable.

    The factor of safety says where; how much of the unstable ground goes depends on how far the rain exceeds what
    triggers landslides at all, as event inventories show (exponent 1.5 and limits [O]).
    """
    exceedance = rain.intensity / threshold_intensity(*CAINE_1980, days=rain.duration)
    response = min(1.25 * exceedance**1.5, 3.0)
    scatter = float(np.exp(0.3 * stream(seed, "event").standard_normal()))
    unstable = np.sqrt(float(ground.hazard.mean()) / _COMMON_HAZARD)
    return float(min(_FAILED_SHARE * response * unstable * scatter, _MOST_FAILED))


def _bare_ground(slides: Landslides, phase: str) -> Field:
    """Return the share of bare soil that slides show: before the event only the old ones do."""
    shown = slides.visibility if phase == "post" else np.where(slides.old, slides.visibility, 0.0)
    return np.asarray(shown[slides.number])


def _channels(
    seed: int, seen: Field, ground: Ground, elevation: Field, cell: float, factor: float
) -> npt.NDArray[np.float32]:
    rng = stream(seed, "channels")
    n = elevation.shape[0]
    # Elevation models are made at about 30 m, with errors of about a metre that reach as far.
    error = ndimage.gaussian_filter(rng.standard_normal((n, n)), 2.0) * 4.0
    dem = ndimage.gaussian_filter(elevation, 1.2) + error
    built = ndbi(seen[SWIR], seen[NIR])
    # A coarse product, sharpened a little with what NIR and SWIR show.
    smi = (
        0.35 * ndimage.gaussian_filter(ground.wetness, 25.0)
        + 0.15 * ndimage.gaussian_filter(ground.wetness, 2.0)
        + 0.25 * (0.3 - built)
        + 0.3 * (0.5 + 0.2 * smooth(n, 60, rng))
        + 0.03 * rng.standard_normal((n, n))
    )
    features = {
        "SMI": np.clip(smi, 0.0, 1.0),
        "NDBI": built,
        "NDVI": ndvi(seen[NIR], seen[RED]),
        "NDWI": ndwi(seen[GREEN], seen[NIR]),
        "slope": slope_degrees(dem, cell),
        "DEM": dem,
    }
    with warnings.catch_warnings():
        # Level, green ground has a slightly negative sum with the weights of Table 1; the channel is the paper's.
        warnings.simplefilter("ignore", NegativeIndexWarning)
        features["LSI"] = landslide_index(features, FEATURE_RANGES, np.clip(factor, *RAIN_FACTOR_LIMITS))
    return np.stack([values.astype(np.float32) for values in features.values()])
