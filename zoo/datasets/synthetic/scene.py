"""Generate a synthetic scene from its seed and settings."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zoo.datasets.synthetic.land_cover import (
    GREEN,
    NIR,
    RED,
    SWIR,
    Cover,
    LandCover,
    Spectra,
    cover_before,
    ground_reflectance,
    make_landcover,
    observe,
)
from zoo.datasets.synthetic.landslides import Ground, Landslides, Rain, draw_rain, make_ground, make_landslides, shifted
from zoo.datasets.synthetic.random_fields import Field, smooth, stream
from zoo.datasets.synthetic.terrain import TerrainConfig, make_terrain
from zoo.errors import ConfigError, UnknownNameError
from zoo.physics import FeatureRange, landslide_index, ndbi, ndvi, ndwi, rainfall_factor, slope_degrees
from zoo.physics.lsi import NegativeIndexWarning
from zoo.physics.rain import CAINE_1980, threshold_intensity

GENERATOR_VERSION = 5
"""Increase this when the same seed gives different bytes; cached scenes of other versions are then ignored."""

PHASES = ("post", "pre", "both")


@dataclass(frozen=True)
class Difficulty:
    """Settings that determine how well landslides stand out.

    Attributes:
        visibility: parameters of the Beta distribution of the share of bare soil in a fresh scar.
        old_share: share of landslides that are old, partly overgrown and not labelled, 0..1.
    """

    visibility: tuple[float, float]
    old_share: float


DIFFICULTIES: Mapping[str, Difficulty] = MappingProxyType(
    {
        "easy": Difficulty((4.0, 2.0), 0.0),
        "default": Difficulty((4.0, 2.0), 0.15),
        "hard": Difficulty((3.0, 3.0), 0.25),
    }
)


@dataclass(frozen=True)
class Region:
    """Ground and climate of a region.

    Attributes:
        terrain: roughness of the terrain.
        spectra: reflectance of each land cover.
        forest: mean logit of the forest share; 0 gives half forest and half grass on level ground.
        tree_line: elevation in metres above which forest thins out.
        rain: median rain intensity of an event in mm/h.
        rain_spread: standard deviation of the natural logarithm of the intensity between scenes.
        farming: slope of the steepest field in degrees.
        rock: share of steep ground that is bare rock, 0..1.
        haze: share of scenes with haze, 0..1.
    """

    terrain: TerrainConfig = field(default_factory=TerrainConfig)
    spectra: Spectra = field(default_factory=Spectra)
    forest: float = 0.6
    tree_line: float = 3600.0
    rain: float = 4.0
    rain_spread: float = 0.7
    farming: float = 16.0
    rock: float = 0.15
    haze: float = 0.4


REGIONS: Mapping[str, Region] = MappingProxyType(
    {
        "subtropical": Region(),
        "tropical": Region(
            terrain=TerrainConfig(median_slope=(19.0, 24.0), base_elevation=(50.0, 600.0), hillslope=1.5),
            spectra=Spectra(forest=(0.040, 0.024, 0.340, 0.120), soil=(0.090, 0.160, 0.250, 0.310)),
            forest=1.4,
            rain=7.0,
            rock=0.05,
            haze=0.6,
        ),
        "dryland": Region(
            terrain=TerrainConfig(median_slope=(21.0, 27.0), base_elevation=(900.0, 1800.0), hillslope=0.8),
            spectra=Spectra(
                forest=(0.060, 0.050, 0.240, 0.170),
                grass=(0.110, 0.125, 0.240, 0.290),
                soil=(0.150, 0.195, 0.270, 0.370),
                scar=(0.145, 0.185, 0.260, 0.345),
            ),
            forest=-0.9,
            rain=2.8,
            farming=12.0,
            rock=0.3,
            haze=0.2,
        ),
        "alpine": Region(
            terrain=TerrainConfig(median_slope=(23.0, 27.0), base_elevation=(1300.0, 2000.0), rock_contrast=0.45),
            spectra=Spectra(grass=(0.085, 0.070, 0.330, 0.200), rock=(0.170, 0.185, 0.220, 0.235)),
            forest=0.5,
            tree_line=2300.0,
            rain=3.2,
            farming=11.0,
            rock=0.4,
        ),
    }
)
"""Regions by name. They differ in spectra, roughness and climate, to test a model where it was not trained [O]."""


@dataclass(frozen=True)
class SceneConfig:
    """Settings of a scene without its seed.

    Attributes:
        size: side of the scene in pixels.
        margin: number of pixels that are generated beyond each edge and then cropped to avoid border effects.
        pixel_size: side of a pixel in metres.
        phase: "post" shows the ground after the landslides, "pre" before them; "both" shows it after them and adds the
            differences from an image of another day before them. The mask is the same.
        region: one of :data:`REGIONS`.
        difficulty: one of :data:`DIFFICULTIES`.
        label_noise: share of landslide outlines that are shifted by one pixel, 0..1.

    Raises:
        UnknownNameError: if phase, region or difficulty does not exist.
        ConfigError: if a number is out of range.
    """

    size: int = 512
    margin: int = 64
    pixel_size: float = 10.0
    phase: str = "post"
    region: str = "subtropical"
    difficulty: str = "default"
    label_noise: float = 0.17

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("phase", self.phase, PHASES),
            ("region", self.region, REGIONS),
            ("difficulty", self.difficulty, DIFFICULTIES),
        ):
            if name not in known:
                raise UnknownNameError(kind, name, known)
        if self.size < 128 or self.margin < 16 or (self.size + 2 * self.margin) % 4:
            raise ConfigError(
                f"a scene of {self.size} pixels with a margin of {self.margin} is not possible",
                hint="Use a size of at least 128 and a margin of at least 16, with size + 2 * margin a multiple of 4",
            )
        if not 5.0 <= self.pixel_size <= 30.0:
            raise ConfigError(f"the pixel size must be from 5 to 30 m, not {self.pixel_size}")
        if not 0.0 <= self.label_noise <= 1.0:
            raise ConfigError(f"the label noise must be from 0 to 1, not {self.label_noise}")

    def key(self) -> str:
        """Return one line of JSON with everything, except the seed, that determines the bytes of a scene."""
        values = asdict(self)
        values["region_settings"] = asdict(REGIONS[self.region])
        values["difficulty_settings"] = asdict(DIFFICULTIES[self.difficulty])
        values["generator"] = GENERATOR_VERSION
        return json.dumps(values, sort_keys=True, separators=(",", ":"))


FEATURE_RANGES = {
    "SMI": FeatureRange(0.1, 0.9),
    "NDBI": FeatureRange(-0.5, 0.3),
    "NDVI": FeatureRange(0.1, 0.9),
    "NDWI": FeatureRange(-0.8, -0.1),
    "slope": FeatureRange(0.0, 50.0),
    "DEM": FeatureRange(0.0, 4000.0),
}
"""Ranges by which the index scales its features: about the 0.5-99.5 percentiles over all regions."""

RAIN_FACTOR_LIMITS = (0.8, 1.25)
"""Minimum and maximum rainfall factor in the LSI channel [O].

Equation 4 multiplies the index by this factor. Without limits, the safest pixel of a wet scene ranks above a landslide
of a dry scene, and over all scenes the index with rain ranks worse than the index without rain (AUC 0.81 and 0.92).
With these limits it does not.
"""

_FAILED_SHARE = 0.018  # share of the ground that fails at the threshold of Caine (1980) with common hazard
_COMMON_HAZARD = 0.05  # mean hazard of a scene under such rain
_MAX_FAILED_SHARE = 0.06  # maximum plausible share of the ground that fails in an event


@dataclass(frozen=True)
class Scene:
    """A scene with its ground truth. Every array is (size, size) unless a shape is given.

    Attributes:
        seed: seed of the scene.
        config: settings of the scene.
        image: (7, size, size) float32, the channels of :data:`zoo.physics.PAPER_CHANNELS`; with two dates (10, size,
            size), including the first three of :data:`zoo.physics.CHANGE_CHANNELS`.
        mask: uint8, 1 where a landslide of the event is labelled, with label noise.
        landslide_id: int32, number of the true landslide of the event, 0 elsewhere; numbers have gaps.
        visibility: float32, share of bare soil in fresh and old scars, 0 elsewhere.
        safety: float32, true factor of safety at the end of the rain.
        wetness: float32, true saturated share of the soil, 0..1.
        cover: uint8, :class:`zoo.datasets.synthetic.land_cover.Cover` before the event.
        reflectance: (4, size, size) float32, green, red, near and short-wave infrared as recorded by the sensor.
        reflectance_before: the same for the date before the landslides; None for one date.
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
    reflectance_before: npt.NDArray[np.float32] | None
    elevation: npt.NDArray[np.float32]
    area: npt.NDArray[np.float32]
    rain: Rain
    rain_factor: float


def generate_scene(seed: int, config: SceneConfig | None = None) -> Scene:
    """Generate a scene. The same seed and settings give the same bytes in any process.

    Args:
        seed: seed of the scene, at least 0.
        config: settings of the scene; None for the defaults.
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
    # Bare rock has no soil that could slide.
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
    bare = _bare_soil_share(slides, config.phase)
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
    image = _channels(seed, seen, ground, terrain.elevation, cell, factor)
    before = None
    if config.phase == "both":
        before = _observe_before(seed, config, cover, slides, terrain.elevation)
        image = np.concatenate([image, _changes(seen, before)])
    fresh = slides.fresh()
    crop = np.s_[..., config.margin : config.margin + config.size, config.margin : config.margin + config.size]
    return Scene(
        seed=seed,
        config=config,
        image=image[crop],
        mask=shifted(fresh, config.label_noise, stream(seed, "labels")).astype(np.uint8)[crop],
        landslide_id=fresh[crop],
        visibility=bare.astype(np.float32)[crop],
        safety=ground.safety.astype(np.float32)[crop],
        wetness=ground.wetness.astype(np.float32)[crop],
        cover=cover.dominant()[crop],
        reflectance=seen.astype(np.float32)[crop],
        reflectance_before=None if before is None else before.astype(np.float32)[crop],
        elevation=terrain.elevation.astype(np.float32)[crop],
        area=terrain.area.astype(np.float32)[crop],
        rain=rain,
        rain_factor=factor,
    )


def _failed_share(seed: int, ground: Ground, rain: Rain) -> float:
    """Return the share of the ground that fails; it increases with the rain and with the share of unstable ground.

    The factor of safety decides where landslides start. The share of the unstable ground that fails depends on how far
    the rain exceeds the threshold for landslides, as event inventories show (exponent 1.5 and limits [O]).
    """
    exceedance = rain.intensity / threshold_intensity(*CAINE_1980, days=rain.duration)
    response = min(1.25 * exceedance**1.5, 3.0)
    scatter = float(np.exp(0.3 * stream(seed, "event").standard_normal()))
    unstable = np.sqrt(float(ground.hazard.mean()) / _COMMON_HAZARD)
    return float(min(_FAILED_SHARE * response * unstable * scatter, _MAX_FAILED_SHARE))


def _bare_soil_share(slides: Landslides, phase: str) -> Field:
    """Return the share of bare soil in each pixel; before the event only old landslides are bare."""
    shown = slides.visibility if phase != "pre" else np.where(slides.old, slides.visibility, 0.0)
    return np.asarray(shown[slides.number])


def _observe_before(seed: int, config: SceneConfig, cover: LandCover, slides: Landslides, elevation: Field) -> Field:
    """Return the reflectance (4, n, n) on another day, before the landslides and before rain wetted the soil."""
    region = REGIONS[config.region]
    shares, vigour = cover_before(seed, cover)
    return observe(
        seed,
        ground_reflectance(shares, vigour, region.spectra),
        shares[Cover.SOIL],
        _bare_soil_share(slides, "pre"),
        np.zeros_like(elevation),
        elevation,
        config.pixel_size,
        region.spectra,
        region.haze,
        "optics before",
    )


def _changes(after: Field, before: Field) -> npt.NDArray[np.float32]:
    """Return the differences dNDBI, dNDVI and dNDWI of two reflectances (4, n, n), float32 (3, n, n)."""
    indices = [
        np.stack([ndbi(seen[SWIR], seen[NIR]), ndvi(seen[NIR], seen[RED]), ndwi(seen[GREEN], seen[NIR])])
        for seen in (after, before)
    ]
    return (indices[0] - indices[1]).astype(np.float32)


def _channels(
    seed: int, seen: Field, ground: Ground, elevation: Field, cell: float, factor: float
) -> npt.NDArray[np.float32]:
    """Return the seven channels of the image, float32 (7, n, n)."""
    rng = stream(seed, "channels")
    n = elevation.shape[0]
    # Elevation models have a resolution of about 30 m and errors of about 1 m with the same correlation length.
    error = ndimage.gaussian_filter(rng.standard_normal((n, n)), 2.0) * 4.0
    dem = ndimage.gaussian_filter(elevation, 1.2) + error
    built = ndbi(seen[SWIR], seen[NIR])
    # The SMI imitates a coarse product that is slightly sharpened with NIR and SWIR.
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
        # Level, green ground has a slightly negative sum with the weights of Table 1, as in the paper.
        warnings.simplefilter("ignore", NegativeIndexWarning)
        features["LSI"] = landslide_index(features, FEATURE_RANGES, np.clip(factor, *RAIN_FACTOR_LIMITS))
    return np.stack([values.astype(np.float32) for values in features.values()])
