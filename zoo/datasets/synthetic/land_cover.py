"""Generate the land cover of a scene (forest, fields, rock, rivers, towns, roads) and its reflectance."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from scipy.spatial import cKDTree
from scipy.special import expit

from zoo.datasets.synthetic.random_fields import Field, Mask, smooth, stream
from zoo.datasets.synthetic.terrain import Terrain
from zoo.physics import horn_gradient

_RIVER_AREA = 1.0e6  # minimum upslope area in m2 of a stream that is visible at 10 m
_FLOOR_AREA = 2.0e6  # minimum upslope area in m2 of a valley with a floor


class Cover(IntEnum):
    """Land cover classes; the numbers are the values in ``Scene.cover``."""

    FOREST = 0
    GRASS = 1
    CROP = 2
    SOIL = 3
    ROCK = 4
    WATER = 5
    BUILT = 6


@dataclass(frozen=True)
class LandCover:
    """Land cover shares of every pixel, and masks of rivers, towns and fields.

    Attributes:
        shares: share of each class of :class:`Cover`, (7, n, n), summing to 1.
        river: mask of the pixels that are mostly water.
        town: mask of the pixels within a town.
        fields: mask of the farmland.
        roads: road network.
        vigour: relative greenness by season and crop, around 1, (n, n).
    """

    shares: Field
    river: Mask
    town: Mask
    fields: Mask
    roads: Roads
    vigour: Field

    def dominant(self) -> npt.NDArray[np.uint8]:
        """Return the land cover class with the largest share in each pixel."""
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
    """Return the land cover before the event.

    Args:
        seed: seed of the scene.
        terrain: elevation and drainage.
        slope: slope in degrees, (n, n).
        cell: cell size in metres.
        forest: mean logit of the forest share.
        tree_line: elevation in metres above which forest thins out.
        farming: slope of the steepest field in degrees.
        rock: share of steep ground that is bare rock, 0..1.
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
    _add_cover(shares, Cover.SOIL, _bare_soil_share(slope, wooded, rng))
    crag = expit(2.5 * (smooth(n, 5, rng) + 0.13 * (slope - 38.0) + 8.0 * (rock - 0.3)))
    _add_cover(shares, Cover.ROCK, 0.85 * crag * (slope > 28) * (smooth(n, 2, rng) > -0.8))
    fields = _fields(shares, vigour, z, slope, above, town, roads, cell, farming, rng)
    _add_cover(shares, Cover.SOIL, 0.85 * bars)
    _add_cover(shares, Cover.WATER, water)
    _add_cover(shares, Cover.BUILT, roads.share * (1 - 0.5 * water))
    building_density = np.clip(0.55 + 0.35 * smooth(n, 1.2, rng), 0.1, 0.95) * town * (1 - water)
    _add_cover(shares, Cover.BUILT, building_density)
    return LandCover(shares, water > 0.5, town, fields, roads, vigour)


def _add_cover(shares: Field, kind: Cover, share: Field) -> None:
    """Cover ``share`` of every pixel with the class ``kind``, in place."""
    shares *= 1.0 - share
    shares[kind] += share


def _height_above_drainage(terrain: Terrain) -> Field:
    """Return the height in metres of each cell above the river into which it drains (Renno et al. 2008 [S])."""
    z = terrain.elevation
    below = terrain.flow.nearest_downstream(terrain.area > _FLOOR_AREA)
    return z - z.ravel()[below].reshape(z.shape)


def _rivers(terrain: Terrain, cell: float, rng: np.random.Generator) -> tuple[Field, Field, Field]:
    """Return the shares of water and of gravel bars in every pixel, and the distance to the nearest river in metres."""
    n = terrain.area.shape[0]
    bed = terrain.area > _RIVER_AREA
    if not bed.any():
        return np.zeros((n, n)), np.zeros((n, n)), np.full((n, n), 1e4)
    distance, nearest = ndimage.distance_transform_edt(~bed, return_indices=True)
    distance = distance * cell
    area = terrain.area[tuple(nearest)] / 1e6
    # Downstream hydraulic geometry, width = a A^0.45 (Leopold & Maddock 1953, runoff proportional to area).
    width = 3.2 * area**0.45
    centre = ndimage.gaussian_filter(distance, 0.7)
    water = np.clip((width / 2 - centre) / cell + 0.5, 0.0, 1.0) * (width > 2.5)
    water = np.where(centre < 0.8 * cell, np.maximum(water, np.clip(width / cell, 0.0, 1.0) * 0.8), water)
    braid = smooth(n, 4, rng)
    bar = (area > 8.0) & (centre < width * 1.1 + 8.0) & (braid > 0.1)
    return water, bar * (1.0 - water) * 1.0, distance


def _town_sites(
    slope: Field, above: Field, to_river: Field, area: Field, cell: float, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Return one to four town sites (row, column) on valley floors, above the water and far from each other."""
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
    """Return the mask of the built-up area, which spreads from each site over level ground."""
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
    """Divide the pixels of ``where`` into parcels; return the parcel number of each of these pixels.

    Parcels are Voronoi cells. In their distance, a metre of height counts as ``climb`` metres along the ground, so
    parcels on a slope are long along the contours and narrow across them, like terraces.
    """
    y, x = np.nonzero(where)
    height = ndimage.gaussian_filter(z, 1.5)[y, x] * climb
    points = np.column_stack([y * cell, x * cell, height])
    count = max(2, int(y.size * cell * cell / spacing**2))
    seeds = points[rng.choice(y.size, size=min(count, y.size), replace=False)]
    wobble = points + rng.normal(0, 0.12 * spacing, points.shape) * 0.3
    return np.asarray(cKDTree(seeds).query(wobble)[1], dtype=np.int64)


def _cut_forest(shares: Field, z: Field, slope: Field, cell: float, rng: np.random.Generator) -> None:
    """Clear some forest lots on slopes, in place; a lot is bare or has been regrowing for some years."""
    cuttable = (shares[Cover.FOREST] > 0.6) & (slope > 12) & (slope < 33)
    if cuttable.sum() < 50:
        return
    lot = _parcels(cuttable, z, cell, 170.0, 1.0, rng)
    cut = rng.uniform(size=lot.max() + 1) < 0.09
    age = rng.beta(1.2, 2.0, size=lot.max() + 1)
    bare = np.zeros(slope.shape)
    bare[cuttable] = (cut * (1.0 - age) * 0.75)[lot]
    grass = np.zeros(slope.shape)
    grass[cuttable] = (cut * age)[lot]
    _add_cover(shares, Cover.GRASS, np.clip(bare + grass, 0, 1))
    _add_cover(shares, Cover.SOIL, bare)


def _bare_soil_share(slope: Field, wooded: Field, rng: np.random.Generator) -> Field:
    """Return the share of bare soil on slopes without landslides: sheet erosion, trampling, burnt patches.

    The share of bare soil varies between patches as it does between scars, so that the two differ only in shape and
    position.
    """
    n = slope.shape[0]
    noise = smooth(n, 8, rng) + 0.5 * smooth(n, 40, rng) + 0.5 * (0.5 - wooded)
    patch, count = ndimage.label((noise > 1.55) & (slope > 13))
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
    """Add fields on gentle ground near towns and roads, in place; return their mask."""
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
    # A field is bare after ploughing or harvest, or has a crop at some stage of growth.
    ploughed = rng.uniform(size=parcel.max() + 1) < 0.3
    growth = rng.uniform(0.6, 1.15, size=parcel.max() + 1)
    soil = np.zeros((n, n))
    soil[fields] = np.where(ploughed, rng.uniform(0.6, 0.95, parcel.max() + 1), 0.12)[parcel]
    _add_cover(shares, Cover.CROP, fields * 1.0)
    _add_cover(shares, Cover.SOIL, soil)
    vigour[fields] *= growth[parcel]
    return np.asarray(fields)


_STEP = 4  # distance between the nodes of the road graph in pixels


@dataclass(frozen=True)
class Roads:
    """Road network of a scene.

    Attributes:
        share: share of each pixel that is road or bare cut slope next to it, (n, n).
        lines: polylines of (row, column) in pixels.
    """

    share: Field
    lines: tuple[Field, ...]


def make_roads(seed: int, z: Field, slope: Field, river: Mask, towns: list[tuple[int, int]], cell: float) -> Roads:
    """Return the roads between towns and out of the valley, and the tracks up the hillsides.

    The cost per metre of road increases with the gradient, so that roads follow contours and form hairpins. It is also
    higher on steep ground, and highest over water.

    Args:
        seed: seed of the scene.
        z: elevation in metres, (n, n), n a multiple of 4.
        slope: slope in degrees, (n, n).
        river: mask of the pixels with water.
        towns: (row, column) of each town; the first is the largest.
        cell: cell size in metres.
    """
    rng = stream(seed, "roads")
    n = z.shape[0]
    m = n // _STEP
    height = z.reshape(m, _STEP, m, _STEP).mean(axis=(1, 3))
    steep = slope.reshape(m, _STEP, m, _STEP).mean(axis=(1, 3))
    wet = river.reshape(m, _STEP, m, _STEP).mean(axis=(1, 3)) > 0.15
    graph = _graph(height, steep, wet, cell * _STEP)
    nodes = [(y // _STEP) * m + x // _STEP for y, x in towns]
    cost, before = csgraph.dijkstra(graph, indices=nodes[0], return_predecessors=True)
    goals = [(node, 7.0) for node in nodes[1:]]
    for edge in (np.arange(m), np.arange(m) * m, np.arange(m) * m + m - 1, np.arange(m) + (m - 1) * m):
        goals.append((int(edge[np.argmin(cost[edge])]), 8.0))
    # Two or three of the four exits become roads; the most expensive ones would cross passes and are dropped.
    exits = sorted(goals[len(nodes) - 1 :], key=lambda goal: cost[goal[0]])[: int(rng.integers(2, 4))]
    tracks = [(int(node), 4.5) for node in rng.choice(m * m, size=int(rng.integers(3, 7)), replace=False)]
    share = np.zeros((n, n))
    lines = []
    for goal, width in goals[: len(nodes) - 1] + exits + tracks:
        line = _line(goal, nodes[0], before, m)
        if len(line) > 2:
            lines.append(line)
            share = np.maximum(share, _painted(line, width, n, cell))
    return Roads(share, tuple(lines))


def _graph(height: Field, steep: Field, wet: Mask, step: float) -> sparse.csr_array:
    """Return the symmetric graph of the cost of a road between nearby nodes."""
    m = height.shape[0]
    node = np.arange(m * m, dtype=np.int32).reshape(m, m)  # csgraph of scipy 1.12 takes no 64-bit indices
    rows, columns, costs = [], [], []
    # Include knight's moves: with only eight directions, roads would zigzag at 45 degrees.
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1)):
        a = (slice(0, m - dy), slice(max(0, -dx), m - max(0, dx)))
        b = (slice(dy, m), slice(max(0, dx), m + min(0, dx)))
        length = step * float(np.hypot(dy, dx))
        grade = np.abs(height[a] - height[b]) / length
        ground = 1.0 + (np.maximum(steep[a], steep[b]) / 25.0) ** 2
        cost = length * (1.0 + (grade / 0.06) ** 2) * ground + 250.0 * (wet[a] | wet[b])
        rows.append(node[a].ravel())
        columns.append(node[b].ravel())
        costs.append(cost.ravel())
    upper = sparse.csr_array(
        (np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns))), shape=(m * m, m * m)
    )
    return sparse.csr_array(upper + upper.T)


def _line(goal: int, start: int, before: npt.NDArray[np.int32], m: int) -> Field:
    """Return the smoothed polyline of the cheapest path between two nodes, (row, column) in pixels."""
    path = [goal]
    while path[-1] != start and before[path[-1]] >= 0:
        path.append(int(before[path[-1]]))
    nodes = np.array(path)
    points = np.column_stack(np.divmod(nodes, m)) * float(_STEP) + (_STEP - 1) / 2
    if len(points) < 4:
        return points
    return np.asarray(ndimage.gaussian_filter1d(points, 0.8, axis=0, mode="nearest"))


def _painted(line: Field, width: float, n: int, cell: float) -> Field:
    """Return the share of each pixel under a line of ``width`` metres, from points a tenth of a pixel apart."""
    reach = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.arange(0.0, reach[-1], 0.1)
    y, x = np.interp(at, reach, line[:, 0]), np.interp(at, reach, line[:, 1])
    share = np.zeros((n + 2, n + 2))
    y0, x0 = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    fy, fx = y - y0, x - x0
    part = 0.1 * width / cell
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            np.add.at(share, (np.clip(y0 + dy, 0, n), np.clip(x0 + dx, 0, n)), part * wy * wx)
    return np.clip(share[:n, :n], 0.0, 0.9)


Spectrum = tuple[float, float, float, float]

GREEN, RED, NIR, SWIR = range(4)

SENSOR_NOISE = 0.012
"""Standard deviation of the reflectance noise in NIR, the noisiest band [O]."""


@dataclass(frozen=True)
class Spectra:
    """Reflectance of each land cover in green, red, near infrared and short-wave infrared.

    The fields follow the order of :class:`zoo.datasets.synthetic.land_cover.Cover`, with the fresh scar last. The
    defaults are typical Sentinel-2 surface reflectances [O].
    """

    forest: Spectrum = (0.045, 0.030, 0.300, 0.130)
    grass: Spectrum = (0.080, 0.070, 0.300, 0.220)
    crop: Spectrum = (0.075, 0.065, 0.340, 0.220)
    soil: Spectrum = (0.120, 0.150, 0.230, 0.310)
    rock: Spectrum = (0.140, 0.160, 0.210, 0.250)
    water: Spectrum = (0.060, 0.040, 0.020, 0.010)
    built: Spectrum = (0.130, 0.140, 0.210, 0.240)
    scar: Spectrum = (0.115, 0.145, 0.225, 0.285)

    def table(self) -> Field:
        """Return the reflectance of each land cover in each band, (8, 4)."""
        return np.asarray([getattr(self, field.name) for field in fields(self)], dtype=np.float64)


def ground_reflectance(shares: Field, vigour: Field, spectra: Spectra) -> Field:
    """Return the reflectance of mixed ground, (4, n, n); greenness raises NIR and lowers red."""
    table = spectra.table()[: shares.shape[0]]
    mixed: Field = np.einsum("kb,kyx->byx", table, shares, optimize=False)
    green = shares[:3].sum(axis=0)
    change = (vigour - 1.0) * green
    mixed[NIR] *= 1.0 + change
    mixed[RED] *= 1.0 - 0.8 * change
    return mixed


def cover_before(seed: int, cover: LandCover) -> tuple[Field, Field]:
    """Return shares and vigour at an earlier date: (7, n, n) and (n, n).

    Half of the bare patches were grass: fields before harvest, forest lots and pastures before clearing.
    They lose their green without a landslide. The season changes the greenness of everything else.
    """
    rng = stream(seed, "land cover before")
    shares = cover.shares.copy()
    patch, count = ndimage.label(shares[Cover.SOIL] > 0.3)
    grown = np.concatenate([[False], rng.uniform(size=count) < 0.5])[patch]
    shares[Cover.GRASS] += shares[Cover.SOIL] * grown
    shares[Cover.SOIL] *= ~grown
    return shares, cover.vigour * (1.0 + 0.06 * smooth(grown.shape[0], 25, rng))


def observe(
    seed: int,
    ground: Field,
    soil: Field,
    bare: Field,
    wetness: Field,
    elevation: Field,
    cell: float,
    spectra: Spectra,
    haze_share: float,
    step: str = "optics",
) -> Field:
    """Return the reflectance that the sensor records, (4, n, n), within [0.001, 1].

    Args:
        seed: seed of the scene.
        ground: reflectance of the ground without scars, (4, n, n).
        soil: share of each pixel that is bare soil without a landslide, (n, n).
        bare: share of each pixel that a landslide has exposed, (n, n).
        wetness: saturated share of the soil, (n, n), 0..1; wet soil is darker in SWIR.
        elevation: elevation in metres, (n, n), for the illumination.
        cell: cell size in metres.
        spectra: reflectances of the region.
        haze_share: share of scenes with haze, 0..1.
        step: name of the random stream of sun, noise and haze; a different name gives a different day.
    """
    rng = stream(seed, step)
    n = elevation.shape[0]
    seen = ground * (1.0 + 0.10 * smooth(n, 2, rng))
    scar = np.array(spectra.scar)[:, None, None] * (1.0 + 0.15 * smooth(n, 1.2, rng))
    seen = (1.0 - bare) * seen + bare * scar
    # Soil colour varies in space, and wet soil is darker in SWIR, both on scars and elsewhere. Colour alone therefore
    # does not distinguish a landslide from other bare ground.
    exposed = (1.0 - bare) * soil + bare
    seen *= 1.0 + 0.10 * smooth(n, 10, rng) * exposed
    seen[SWIR] *= (1.0 - 0.3 * wetness * exposed) * (1.0 + 0.12 * smooth(n, 7, rng) * exposed)
    seen[RED] *= 1.0 + 0.06 * smooth(n, 7, rng) * exposed
    seen *= _illumination(elevation, cell, rng)
    seen = np.stack([ndimage.gaussian_filter(band, 0.6) for band in seen])
    # SWIR has a resolution of 20 m.
    coarse = seen[SWIR].reshape(n // 2, 2, n // 2, 2).mean(axis=(1, 3))
    seen[SWIR] = np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)
    noise = np.array([0.5, 0.5, 1.0, 0.8])[:, None, None] * SENSOR_NOISE
    seen = seen + noise * rng.standard_normal(seen.shape)
    haze = np.clip(smooth(n, 25, rng) - 1.2, 0.0, None)
    if rng.uniform() < haze_share:
        seen = seen + 0.12 * haze * np.array([1.0, 0.95, 0.8, 0.5])[:, None, None]
    return np.asarray(np.clip(seen, 0.001, 1.0))


def _illumination(elevation: Field, cell: float, rng: np.random.Generator) -> Field:
    """Return the illumination effect that remains after a terrain correction, a factor around 1, (n, n)."""
    azimuth = np.radians(rng.uniform(120.0, 160.0))
    zenith = np.radians(rng.uniform(30.0, 50.0))
    south, east = horn_gradient(elevation, cell)
    upright = np.sqrt(1.0 + south**2 + east**2)
    cosine = (np.cos(zenith) + np.sin(zenith) * (south * np.cos(azimuth) - east * np.sin(azimuth))) / upright
    return np.asarray(np.clip(0.55 + 0.6 * cosine, 0.35, 1.5))
