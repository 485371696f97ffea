"""Soil, rain and stability of a scene, before anything has failed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import expit

from zoo.datasets.synthetic.noise import Field, Mask, smooth, stream
from zoo.datasets.synthetic.terrain import Terrain
from zoo.physics import factor_of_safety, steady_wetness
from zoo.physics.flow import dispersed_area
from zoo.physics.wetness import storm_recharge


@dataclass(frozen=True)
class Rain:
    """The event's rain.

    Args:
        intensity: P, mm/h.
        duration: D, days.
    """

    intensity: float
    duration: float


@dataclass(frozen=True)
class Ground:
    """Mechanical state at the end of the rain, every field (n, n).

    Args:
        depth: of the soil, m.
        cohesion: of soil and roots, kPa.
        friction: angle, degrees.
        wetness: saturated share of the soil, [0, 1].
        safety: factor of safety, with its unresolved scatter.
        hazard: chance of failure by that factor alone, [0, 1].
    """

    depth: Field
    cohesion: Field
    friction: Field
    wetness: Field
    safety: Field
    hazard: Field


def draw_rain(seed: int, median: float, spread: float) -> Rain:
    """Return the rain of one scene: intensity log-normal, duration log-uniform from 6 hours to 3 days."""
    rng = stream(seed, "rain")
    intensity = float(np.clip(rng.lognormal(np.log(median), spread), 0.3, 60.0))
    duration = float(np.exp(rng.uniform(np.log(0.25), np.log(3.0))))
    return Rain(intensity, duration)


def make_ground(
    seed: int, terrain: Terrain, slope: Field, greenness: Field, kept: Mask, rain: Rain, cell: float
) -> Ground:
    """Return the ground under the rain.

    Args:
        seed: number of the scene.
        terrain: elevation and drainage.
        slope: degrees.
        greenness: NDVI before the event, roots in proportion.
        kept: where nothing fails: rivers, towns, bare rock.
        rain: the event.
        cell: metres between cell centres.
    """
    rng = stream(seed, "ground")
    n = slope.shape[0]
    tangent = np.tan(np.radians(slope))
    depth = np.clip(rng.uniform(1.2, 2.2) * np.exp(-0.6 * tangent) + 0.25 * smooth(n, 6, rng), 0.3, 3.0)
    soil_cohesion = rng.uniform(2.0, 4.0)
    cohesion = (soil_cohesion + 7.0 * np.clip(greenness, 0, 1)) * np.exp(0.3 * smooth(n, 8, rng))
    friction = np.clip(33.0 + 2.5 * smooth(n, 12, rng), 20.0, 45.0)
    transmissivity = rng.uniform(5.0, 20.0) * depth
    recharge = storm_recharge(rain.intensity, rain.duration) * np.exp(0.25 * smooth(n, 80, rng))
    specific_area = dispersed_area(terrain.elevation, cell, terrain.inflow) / cell
    wetness = steady_wetness(recharge, specific_area, transmissivity, slope)
    wetness = np.clip(ndimage.gaussian_filter(wetness, 1.0), 0.0, 1.0)
    scatter = np.exp(0.18 * smooth(n, 4, rng))
    safety = np.minimum(factor_of_safety(slope, wetness, cohesion, friction, depth) * scatter, 50.0)
    hazard = expit((1.05 - safety) / 0.08) * (slope > 15.0) * ~kept
    return Ground(depth, cohesion, friction, wetness, safety, hazard)
