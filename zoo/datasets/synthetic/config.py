"""What a synthetic scene is made of: sizes, phase, region, difficulty."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType

from zoo.datasets.synthetic.optics import Spectra
from zoo.datasets.synthetic.terrain import TerrainConfig
from zoo.errors import ConfigError, UnknownNameError

GENERATOR_VERSION = 5
"""Raised whenever the same seed gives other bytes: cached scenes of another version are not used."""

PHASES = ("post", "pre")


@dataclass(frozen=True)
class Difficulty:
    """How well scars show.

    Args:
        visibility: parameters of the Beta distribution of the share of bare soil in a fresh scar.
        old_share: share of slides that are old, half grown over and not labelled.
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
    """Ground and climate.

    Args:
        terrain: how rough it is.
        spectra: reflectance of each kind of ground.
        forest: mean of the forest share's logit: 0 is half forest, half grass on level ground.
        tree_line: metres above which forest thins out.
        rain: median rain intensity of an event, mm/h.
        rain_spread: spread (natural logarithm) of the intensity between scenes.
        farming: steepest field, degrees.
        rock: share of steep ground that is bare rock, 0 to 1.
        haze: share of scenes with haze.
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
"""Regions differ in spectra, roughness and climate, so that a model can be tested where it was not trained [O]."""


@dataclass(frozen=True)
class SceneConfig:
    """What a scene is, apart from its seed.

    Args:
        size: pixels along an edge of the scene.
        margin: pixels made beyond each edge and cropped off, so that no border effect is left.
        pixel_size: metres.
        phase: "post" shows the ground after failure, "pre" before it; the mask is the same.
        region: one of :data:`REGIONS`.
        difficulty: one of :data:`DIFFICULTIES`.
        label_noise: share of landslide outlines that are up to a pixel off.

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
                f"a scene of {self.size} pixels with a margin of {self.margin}",
                hint="Give at least 128 and 16, with size + 2 margins a multiple of 4",
            )
        if not 5.0 <= self.pixel_size <= 30.0:
            raise ConfigError(f"pixel size of {self.pixel_size} m", hint="The scenes are made for 5 to 30 m")
        if not 0.0 <= self.label_noise <= 1.0:
            raise ConfigError(f"label noise of {self.label_noise}", hint="Give a share from 0 to 1")

    def key(self) -> str:
        """Return all that decides a scene's bytes apart from its seed, as one line of JSON."""
        values = asdict(self)
        values["region_settings"] = asdict(REGIONS[self.region])
        values["difficulty_settings"] = asdict(DIFFICULTIES[self.difficulty])
        values["generator"] = GENERATOR_VERSION
        return json.dumps(values, sort_keys=True, separators=(",", ":"))
