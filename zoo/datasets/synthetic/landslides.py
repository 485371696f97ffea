"""Generate the rain, the soil, the slope stability and the landslides of a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import expit

from zoo.datasets.synthetic.random_fields import Field, Mask, smooth, stream
from zoo.datasets.synthetic.terrain import Terrain
from zoo.physics import factor_of_safety, steady_wetness
from zoo.physics.flow import Flow, dispersed_area
from zoo.physics.stability import storm_recharge


@dataclass(frozen=True)
class Rain:
    """Rain of an event.

    Attributes:
        intensity: intensity P in mm/h.
        duration: duration D in days.
    """

    intensity: float
    duration: float


@dataclass(frozen=True)
class Ground:
    """Mechanical state of the soil at the end of the rain; every array is (n, n).

    Attributes:
        depth: depth of the soil in metres.
        cohesion: cohesion of soil and roots in kPa.
        friction: friction angle in degrees.
        wetness: saturated share of the soil, 0..1.
        safety: factor of safety, including random scatter for unresolved variation.
        hazard: probability of failure from the factor of safety, 0..1.
    """

    depth: Field
    cohesion: Field
    friction: Field
    wetness: Field
    safety: Field
    hazard: Field


def draw_rain(seed: int, median: float, spread: float) -> Rain:
    """Draw the rain of a scene: log-normal intensity, log-uniform duration from 6 hours to 3 days."""
    rng = stream(seed, "rain")
    intensity = float(np.clip(rng.lognormal(np.log(median), spread), 0.3, 60.0))
    duration = float(np.exp(rng.uniform(np.log(0.25), np.log(3.0))))
    return Rain(intensity, duration)


def make_ground(
    seed: int, terrain: Terrain, slope: Field, greenness: Field, kept: Mask, rain: Rain, cell: float
) -> Ground:
    """Return the mechanical state of the soil at the end of the rain.

    Args:
        seed: seed of the scene.
        terrain: elevation and drainage.
        slope: slope in degrees, (n, n).
        greenness: NDVI before the event; root cohesion is proportional to it.
        kept: mask of the pixels that cannot fail: rivers, towns, bare rock.
        rain: rain of the event.
        cell: cell size in metres.
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


MALAMUD = (1.40, 1.28e-3, -1.32e-4)
"""rho, a (km2) and s (km2) of the inverse gamma distribution of landslide areas, Malamud et al. (2004) [S]."""

AREA_LIMITS = (400.0, 150_000.0)
"""Minimum and maximum landslide area in m2 [O]: four pixels, and the largest that fits on a hillslope of a scene."""

_STOP_SLOPE = 8.0  # slope in degrees below which debris stops
_LENGTH_TO_WIDTH = (1.2, 9.0)
_MAX_ATTEMPTS = 20  # maximum number of start pixels tried for a landslide before it is dropped


@dataclass(frozen=True)
class Landslides:
    """Landslides of a scene.

    Attributes:
        number: number of the landslide in each pixel, 0 for none, (n, n).
        visibility: share of bare soil in each landslide, (landslides + 1,); entry 0 is 0.
        old: whether each landslide is a scar from earlier years, which is visible but not labelled, (landslides + 1,).
    """

    number: npt.NDArray[np.int32]
    visibility: Field
    old: npt.NDArray[np.bool_]

    def fresh(self) -> npt.NDArray[np.int32]:
        """Return the number of the landslide of this event in each pixel, 0 for none or an old landslide, (n, n)."""
        return np.where(self.old[self.number], 0, self.number).astype(np.int32)


def landslide_areas(total: float, rng: np.random.Generator) -> Field:
    """Draw areas in m2 that sum to about ``total``, largest first, from the truncated distribution of Malamud."""
    rho, scale, shift = MALAMUD
    areas: list[float] = []
    used = 0.0
    while used < total:
        for area in (scale / rng.gamma(rho, size=256) + shift) * 1e6:
            if AREA_LIMITS[0] <= area <= AREA_LIMITS[1]:
                areas.append(float(area))
                used += area
                if used >= total:
                    break
    return np.sort(np.array(areas))[::-1]


def make_landslides(
    seed: int,
    flow: Flow,
    slope: Field,
    hazard: Field,
    cell: float,
    *,
    share: float,
    visibility: tuple[float, float],
    old_share: float,
) -> Landslides:
    """Return the landslides of one scene.

    Landslides are placed from largest to smallest. Start pixels are drawn in proportion to ``hazard``. A landslide
    takes the first start pixel where its whole body fits without overlapping another landslide, so that its size is
    not changed.

    Args:
        seed: seed of the scene.
        flow: flow graph of steepest descent; a landslide follows it.
        slope: slope in degrees, (n, n).
        hazard: relative probability that a landslide starts in a pixel, (n, n).
        cell: cell size in metres.
        share: share of the ground that fails in this event, 0..1.
        visibility: parameters of the Beta distribution of visibility.
        old_share: share of old landslides among all landslides, 0..1; they do not count towards ``share``.
    """
    rng = stream(seed, "landslides")
    n = slope.shape[0]
    number = np.zeros((n, n), dtype=np.int32)
    total = share / (1.0 - old_share) * (n * cell) ** 2
    areas = landslide_areas(total, rng) if total > 0 and hazard.any() else np.zeros(0)
    # Gumbel keys sample without replacement in proportion to the hazard.
    with np.errstate(divide="ignore"):
        keys = np.log(hazard.ravel()) + rng.gumbel(size=n * n)
    wanted = min(int((hazard > 1e-9).sum()), 40 * areas.size + 200)
    starts = np.argsort(-keys, kind="stable")[:wanted]
    is_old = rng.uniform(size=areas.size) < old_share
    room = _steps_to_rest(flow, slope)
    # Length that did not fit at each start pixel; only a much shorter landslide is tried there again.
    refused = np.full(wanted, np.inf)
    old, shown = [False], [0.0]
    taken = number.ravel()
    for turn, (area, aged) in enumerate(zip(areas, is_old, strict=True)):
        if turn % 32 == 0:
            free = taken[starts] == 0
            starts, refused = starts[free], refused[free]
            length = room[starts]
        pixels = max(1, round(area / cell**2))
        need = np.sqrt(0.9 * pixels)
        fits = np.flatnonzero((length >= need) & (need < 0.7 * refused))
        fits = fits[taken[starts[fits]] == 0][:_MAX_ATTEMPTS]
        for place in fits:
            body = _body(int(starts[place]), pixels, flow, room, number, rng)
            if body is not None:
                taken[body] = len(old)
                old.append(bool(aged))
                shown.append(float(rng.beta(2.0, 4.0) if aged else rng.beta(*visibility)))
                break
            refused[place] = need
    return Landslides(number, np.array(shown), np.array(old))


def shifted(number: npt.NDArray[np.int32], share: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return the mask of all landslides, with a ``share`` of them shifted by one pixel, like outlines drawn by hand."""
    count = int(number.max())
    moved = rng.uniform(size=count + 1) < share
    moved[0] = False
    mask = (number > 0) & ~moved[number]
    directions = rng.integers(0, 8, size=count + 1)
    for k, step in enumerate(((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))):
        mask |= np.roll(moved[number] & (directions[number] == k), step, axis=(0, 1))
    return mask


def _steps_to_rest(flow: Flow, slope: Field) -> npt.NDArray[np.int64]:
    """Return the number of cells that debris from each cell crosses before it stops, including the first."""
    steep = (slope >= _STOP_SLOPE).ravel()
    steps = np.ones(steep.size, dtype=np.int64)
    for cells in flow.upstream():
        below = flow.receiver[cells]
        steps[cells] = np.where(steep[below], steps[below] + 1, 1)
    return steps


def _body(
    start: int,
    pixels: int,
    flow: Flow,
    room: npt.NDArray[np.int64],
    number: npt.NDArray[np.int32],
    rng: np.random.Generator,
) -> npt.NDArray[np.int64] | None:
    """Return the flat pixel indices of a landslide that starts at ``start``, or None if it does not fit."""
    n = number.shape[0]
    elongation = min(_LENGTH_TO_WIDTH[0] + 1.0 / rng.gamma(2.2, 1.0 / 2.2), _LENGTH_TO_WIDTH[1])
    length = min(int(np.ceil(np.sqrt(4.0 * pixels * elongation / np.pi))), int(room[start]))
    path = [start]
    for _ in range(length - 1):
        path.append(int(flow.receiver[path[-1]]))
    if number.ravel()[path].any():
        return None
    y, x = np.divmod(np.array(path, dtype=np.float64), n)
    y, x = _softened(y), _softened(x)
    half = pixels / len(path) / 2.0
    along = np.linspace(0.0, 1.0, len(path))
    # A landslide has a broad source, a narrow track and a blunt end.
    width = (1.15 - 0.45 * along) * (1.0 + 0.1 * _softened(rng.standard_normal(len(path))))
    reach = int(np.ceil(2.0 * half + 3.0))
    top, left = int(y.min()) - reach, int(x.min()) - reach
    bottom, right = int(y.max()) + reach + 1, int(x.max()) + reach + 1
    if top < 1 or left < 1 or bottom >= n or right >= n:
        return None
    line, column = np.mgrid[top:bottom, left:right]
    distance = np.hypot(line[..., None] - y, column[..., None] - x) / width
    nearness = distance.min(axis=2).ravel()
    chosen = np.argpartition(nearness, pixels - 1)[:pixels] if pixels < nearness.size else np.arange(nearness.size)
    body = (line.ravel() * n + column.ravel())[chosen]
    return None if number.ravel()[body].any() else body


def _softened(values: Field) -> Field:
    """Return the moving average over five points; the end values are repeated."""
    padded = np.concatenate([values[:1], values[:1], values, values[-1:], values[-1:]])
    return np.asarray(np.convolve(padded, np.full(5, 0.2), mode="valid"))
