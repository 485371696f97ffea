"""What lies on the ground: forest, grass, fields, rock, rivers, towns and roads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.special import expit

from zoo.datasets.synthetic.noise import Field, Mask, smooth, stream
from zoo.datasets.synthetic.roads import Roads, make_roads
from zoo.datasets.synthetic.terrain import Terrain

_RIVER_AREA = 1.0e6  # m2 of upslope area at which a stream is wide enough to be seen at 10 m
_FLOOR_AREA = 2.0e6  # m2 at which a valley has a floor


class Cover(IntEnum):
    """Kind of ground; the number is what ``Scene.cover`` holds."""

    FOREST = 0
    GRASS = 1
    CROP = 2
    SOIL = 3
    ROCK = 4
    WATER = 5
    BUILT = 6


@dataclass(frozen=True)
class LandCover:
    """Share of each kind of ground in every pixel, and where things are.

    Args:
        shares: (7, n, n) in the order of :class:`Cover`, summing to 1.
        river: pixels that are mostly water.
        town: pixels within a town.
        fields: pixels of farmland.
        roads: the road network.
        vigour: (n, n) greenness of the season and the crop, around 1.
    """

    shares: Field
    river: Mask
    town: Mask
    fields: Mask
    roads: Roads
    vigour: Field

    def dominant(self) -> npt.NDArray[np.uint8]:
        """Return the kind of ground that covers most of each pixel."""
        return np.asarray(np.argmax(self.shares, axis=0), dtype=np.uint8)


def make_landcover(
    seed: int,
    terrain: Terrain,
    slope: Field,
    cell: float,
    *,
    forest: float,
    tree_line: float,
    farming: float,
    rock: float,
) -> LandCover:
    """Return the ground cover before any landslide of the event.

    Args:
        seed: number of the scene.
        terrain: elevation and drainage.
        slope: degrees, (n, n).
        cell: metres between cell centres.
        forest: mean logit of the forest share.
        tree_line: metres above which forest thins out.
        farming: steepest field, degrees.
        rock: share of steep ground that is bare rock.
    """
    rng = stream(seed, "landcover")
    z, n = terrain.elevation, terrain.elevation.shape[0]
    above = _height_above_drainage(terrain)
    water, bars, to_river = _rivers(terrain, cell, rng)
    centres = _town_sites(slope, above, to_river, terrain.area, cell, rng)
    town = _towns(centres, slope, above, water, cell, rng)
    roads = make_roads(seed, z, slope, water > 0.3, centres, cell)

    shares = np.zeros((len(Cover), n, n))
    north = -np.gradient(ndimage.gaussian_filter(z, 2.0), cell, axis=0)
    wooded = expit(
        2.2 * (smooth(n, 18, rng) * 0.8 + 0.35 * smooth(n, 5, rng) + 0.05 * (slope - 18) + forest)
        - 1.2 * north
        - (z - tree_line) / 120.0 * (z > tree_line)
        - 1.5 * np.exp(-np.minimum(above, 200.0) / 25.0)
    )
    shares[Cover.FOREST] = wooded
    shares[Cover.GRASS] = 1.0 - wooded
    vigour = 1.0 + 0.08 * smooth(n, 30, rng)

    _cut_forest(shares, z, slope, cell, rng)
    _lay(shares, Cover.SOIL, _degraded(slope, wooded, rng))
    crag = expit(2.5 * (smooth(n, 5, rng) + 0.13 * (slope - 38.0) + 8.0 * (rock - 0.3)))
    _lay(shares, Cover.ROCK, 0.85 * crag * (slope > 28) * (smooth(n, 2, rng) > -0.8))
    fields = _fields(shares, vigour, z, slope, above, town, roads, cell, farming, rng)
    _lay(shares, Cover.SOIL, 0.85 * bars)
    _lay(shares, Cover.WATER, water)
    _lay(shares, Cover.BUILT, roads.share * (1 - 0.5 * water))
    houses = np.clip(0.55 + 0.35 * smooth(n, 1.2, rng), 0.1, 0.95) * town * (1 - water)
    _lay(shares, Cover.BUILT, houses)
    return LandCover(shares, water > 0.5, town, fields, roads, vigour)


def _lay(shares: Field, kind: Cover, share: Field) -> None:
    """Cover ``share`` of every pixel with ``kind``, in place."""
    shares *= 1.0 - share
    shares[kind] += share


def _height_above_drainage(terrain: Terrain) -> Field:
    """Return metres above the river that each cell drains to (Renno et al. 2008 [S])."""
    z = terrain.elevation
    below = terrain.flow.nearest_downstream(terrain.area > _FLOOR_AREA)
    return z - z.ravel()[below].reshape(z.shape)


def _rivers(terrain: Terrain, cell: float, rng: np.random.Generator) -> tuple[Field, Field, Field]:
    """Return the share of water and of gravel bar in every pixel, and metres to the nearest river."""
    n = terrain.area.shape[0]
    bed = terrain.area > _RIVER_AREA
    if not bed.any():
        return np.zeros((n, n)), np.zeros((n, n)), np.full((n, n), 1e4)
    away, nearest = ndimage.distance_transform_edt(~bed, return_indices=True)
    away = away * cell
    area = terrain.area[tuple(nearest)] / 1e6
    # Downstream hydraulic geometry, width = a A^0.45 (Leopold & Maddock 1953 with runoff in proportion to area).
    width = 3.2 * area**0.45
    centre = ndimage.gaussian_filter(away, 0.7)
    water = np.clip((width / 2 - centre) / cell + 0.5, 0.0, 1.0) * (width > 2.5)
    water = np.where(centre < 0.8 * cell, np.maximum(water, np.clip(width / cell, 0.0, 1.0) * 0.8), water)
    braid = smooth(n, 4, rng)
    bar = (area > 8.0) & (centre < width * 1.1 + 8.0) & (braid > 0.1)
    return water, bar * (1.0 - water) * 1.0, away


def _town_sites(
    slope: Field, above: Field, to_river: Field, area: Field, cell: float, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Return one to four places on valley floors, above the water, far from each other."""
    n = slope.shape[0]
    gentle = ndimage.gaussian_filter(slope, 120.0 / cell)
    water = ndimage.maximum_filter(area, size=int(600.0 / cell) | 1)
    merit = -gentle / 4.0 - np.abs(np.log((to_river + 20.0) / 150.0)) + 0.25 * np.log(water) - above / 60.0
    merit = merit + 0.5 * smooth(n, 30, rng)
    rim = n // 8
    open_ground = np.full((n, n), -np.inf)
    open_ground[rim:-rim, rim:-rim] = merit[rim:-rim, rim:-rim]
    sites: list[tuple[int, int]] = []
    apart = 1300.0 / cell
    line, column = np.mgrid[:n, :n]
    for _ in range(int(rng.integers(1, 5))):
        y, x = (int(i) for i in np.unravel_index(int(np.argmax(open_ground)), (n, n)))
        sites.append((y, x))
        open_ground[np.hypot(line - y, column - x) < apart] = -np.inf
        if not np.isfinite(open_ground).any():
            break
    return sites


def _towns(
    sites: list[tuple[int, int]], slope: Field, above: Field, water: Field, cell: float, rng: np.random.Generator
) -> Mask:
    """Return the built-up area: it spreads from each site over level ground and stays off steep slopes."""
    n = slope.shape[0]
    line, column = np.mgrid[:n, :n]
    rough = smooth(n, 5, rng)
    town = np.zeros((n, n), dtype=bool)
    hard = ndimage.gaussian_filter(slope, 2.0) / 9.0
    for k, (y, x) in enumerate(sites):
        radius = rng.uniform(14, 24) * (1.0 if k == 0 else rng.uniform(0.35, 0.8)) * 10.0 / cell
        reach = np.hypot(line - y, column - x) / radius
        town |= reach * (1 + hard**2) + 0.3 * rough < 1.0
    return town & (slope < 16) & (water < 0.3) & (above > -1.0)


def _parcels(
    where: Mask, z: Field, cell: float, spacing: float, climb: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return a parcel number for every pixel of ``where``, flattened: Voronoi cells that follow the terrain.

    Distance counts a metre of height as ``climb`` metres along the ground, so that parcels on a slope are long along
    its contours and narrow across, as terraces are.
    """
    y, x = np.nonzero(where)
    height = ndimage.gaussian_filter(z, 1.5)[y, x] * climb
    points = np.column_stack([y * cell, x * cell, height])
    count = max(2, int(y.size * cell * cell / spacing**2))
    seeds = points[rng.choice(y.size, size=min(count, y.size), replace=False)]
    wobble = points + rng.normal(0, 0.12 * spacing, points.shape) * 0.3
    return np.asarray(cKDTree(seeds).query(wobble)[1], dtype=np.int64)


def _cut_forest(shares: Field, z: Field, slope: Field, cell: float, rng: np.random.Generator) -> None:
    """Clear some forest lots on slopes, in place: bare, or a few years grown."""
    lots = (shares[Cover.FOREST] > 0.6) & (slope > 12) & (slope < 33)
    if lots.sum() < 50:
        return
    lot = _parcels(lots, z, cell, 170.0, 1.0, rng)
    cut = rng.uniform(size=lot.max() + 1) < 0.09
    age = rng.beta(1.2, 2.0, size=lot.max() + 1)
    bare = np.zeros(slope.shape)
    bare[lots] = (cut * (1.0 - age) * 0.75)[lot]
    grass = np.zeros(slope.shape)
    grass[lots] = (cut * age)[lot]
    _lay(shares, Cover.GRASS, np.clip(bare + grass, 0, 1))
    _lay(shares, Cover.SOIL, bare)


def _degraded(slope: Field, wooded: Field, rng: np.random.Generator) -> Field:
    """Return the share of bare soil on slopes where nothing slid: sheet erosion, trampling, burnt patches.

    Patches are as bare as scars are, each in its own degree, so that only their shape and place tell them apart.
    """
    n = slope.shape[0]
    worn = smooth(n, 8, rng) + 0.5 * smooth(n, 40, rng) + 0.5 * (0.5 - wooded)
    patch, count = ndimage.label((worn > 1.55) & (slope > 13))
    return np.asarray(np.concatenate([[0.0], rng.beta(4.0, 2.0, size=count)])[patch])


def _fields(
    shares: Field,
    vigour: Field,
    z: Field,
    slope: Field,
    above: Field,
    town: Mask,
    roads: Roads,
    cell: float,
    farming: float,
    rng: np.random.Generator,
) -> Mask:
    """Lay fields on gentle ground near people, in place; return where they are."""
    n = slope.shape[0]
    gentle = ndimage.gaussian_filter(slope, 3.0)
    people = (
        np.minimum(
            np.asarray(ndimage.distance_transform_edt(~town)) if town.any() else np.full((n, n), 1e3),
            np.asarray(ndimage.distance_transform_edt(~(roads.share > 0.4))) + 15.0 if roads.share.any() else 1e3,
        )
        * cell
    )
    merit = (farming - gentle) / 4.0 - people / 500.0 - above / 150.0 + 0.7 * smooth(n, 10, rng)
    fields = ndimage.binary_opening((merit > 0) & (slope < farming + 4) & ~town, iterations=2)
    if fields.sum() < 20:
        return np.asarray(fields)
    parcel = _parcels(fields, z, cell, 75.0, 4.0, rng)
    # Bare after ploughing or harvest, else a crop at some stage of growth.
    ploughed = rng.uniform(size=parcel.max() + 1) < 0.3
    growth = rng.uniform(0.6, 1.15, size=parcel.max() + 1)
    soil = np.zeros((n, n))
    soil[fields] = np.where(ploughed, rng.uniform(0.6, 0.95, parcel.max() + 1), 0.12)[parcel]
    _lay(shares, Cover.CROP, fields * 1.0)
    _lay(shares, Cover.SOIL, soil)
    vigour[fields] *= growth[parcel]
    return np.asarray(fields)
