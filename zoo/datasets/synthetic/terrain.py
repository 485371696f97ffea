"""Generate the terrain of a scene: mountains with river valleys.

The terrain forms by uplift, implicit stream-power incision (Braun & Willett 2013, Geomorphology 180, 170 [S]) and
hillslope diffusion with a critical slope, first on a coarse grid much wider than the scene, then on two finer grids.
The scene is a window of the coarse landscape, rotated by a random angle and distorted by a smooth field. Valleys
therefore cross its borders as on a map sheet, and no landform follows the rows and columns of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from zoo.datasets.synthetic.random_fields import Field, Mask, fractal, smooth, stream
from zoo.physics import slope_degrees
from zoo.physics.flow import NEIGHBOURS, Flow, route

_COARSE = 128  # cells along an edge of the first grid; 80 m each at the default scale, 10.24 km in total
_AREA_EXPONENT = 0.55  # m of the stream-power law with n = 1; debris flows and valley fill reduce it to 0.4-0.5
_EXCURSION = 20  # cells of the coarse grid that a river may flow outside the window before it counts as new inflow
_ERODIBILITY = 0.3  # mean erodibility in units where uplift is 1 and a time step is a few units long


@dataclass(frozen=True)
class TerrainConfig:
    """Roughness of the terrain.

    Attributes:
        median_slope: minimum and maximum of the median slope of a scene in degrees.
        base_elevation: minimum and maximum of the elevation of the lowest point in metres.
        critical_slope: maximum slope of a flow path in degrees; steeper ground fails and is eroded.
        rock_contrast: standard deviation of the natural logarithm of the erodibility of rock.
        hillslope: diffusion on the finest grid, as a Gaussian radius in cells per step.
        debris_area: upslope area in m2 below which debris flows erode more than rivers.
    """

    median_slope: tuple[float, float] = (20.0, 26.0)
    base_elevation: tuple[float, float] = (300.0, 1200.0)
    critical_slope: float = 41.0
    rock_contrast: float = 0.35
    hillslope: float = 1.1
    debris_area: float = 1.5e5


@dataclass(frozen=True)
class Terrain:
    """Elevation and drainage of a scene with its margin.

    Attributes:
        elevation: elevation in metres without closed basins, (n, n).
        flow: steepest-descent flow graph of ``elevation``; the outlets are the outer ring.
        area: upslope area in m2 along that graph, (n, n), including the inflow from outside the window.
        inflow: area in m2 outside the window that drains into each cell, (n, n).
    """

    elevation: Field
    flow: Flow
    area: Field
    inflow: Field


def make_terrain(seed: int, size: int, cell: float, config: TerrainConfig) -> Terrain:
    """Generate the terrain of one scene.

    Args:
        seed: seed of the scene.
        size: number of cells along an edge, a multiple of 4.
        cell: cell size in metres.
        config: roughness of the terrain.
    """
    rng = stream(seed, "terrain")
    steepness = float(np.tan(np.radians(rng.uniform(*config.median_slope))))
    # The coarse grid contains the rotated window (factor sqrt 2) and a margin of an eighth.
    coarse_cell = 2.0 * cell * size * 0.8 / _COARSE
    erodibility = _ERODIBILITY * np.exp(config.rock_contrast * fractal(_COARSE, 0.6, rng, longest=64))
    debris_area = config.debris_area
    z, rain = _first_landscape(coarse_cell, erodibility, debris_area, rng)
    z, erodibility, inflow = _refined(z), _refined(erodibility), _spread_inflow(rain)
    coarse_cell /= 2
    z += 0.02 * z.std() * fractal(2 * _COARSE, 0.7, rng, longest=16)
    outlets = _open_edge(2 * _COARSE)
    z = _erode(z, coarse_cell, outlets, inflow, erodibility, 1.0, 3.0, 12, rng, debris_area)
    # From here on, heights are in metres, and the uplift is scaled to balance incision at the current relief.
    rescale = steepness / _median_gradient(z, coarse_cell)
    z, uplift = z * rescale, rescale
    flow = route(z, coarse_cell, outlets)
    coarse_area = flow.accumulate(coarse_cell**2 + inflow)

    rows, columns = _window(size, cell, coarse_cell, 2 * _COARSE, rng)
    for step in (2, 1):
        n = size // step
        at = (_block_means(rows, step), _block_means(columns, step))
        z = ndimage.map_coordinates(z, at, order=3, mode="nearest") if step == 2 else _refined(z)
        rock = ndimage.map_coordinates(erodibility, at, order=1, mode="nearest")
        inflow = _window_inflow(at, flow, coarse_area, z)
        border = _ring(n)
        z = z + (5.0 if step == 2 else 1.2) * fractal(n, 0.7, rng, longest=24)
        critical = np.tan(np.radians(config.critical_slope + 2.0 * smooth(n, 60 / step, rng)))
        if step == 2:
            z = _erode(z, 2 * cell, border, inflow, rock, uplift, 1.0, 8, rng, debris_area, 0.6, critical)
            ratio = steepness / _median_gradient(z, 2 * cell)
            z, uplift = z * ratio, uplift * ratio
        else:
            z = _erode(z, cell, border, inflow, rock, uplift, 0.5, 5, rng, debris_area, config.hillslope, critical)
    z = _with_valley_floors(z, cell, _ring(size), inflow, rng)
    middle = slice(size // 8, size - size // 8)
    z = z * (steepness / _median_gradient(z[middle, middle], cell))
    z = z - z.min() + rng.uniform(*config.base_elevation)
    border = _ring(size)
    z = route(z, cell, border).filled(z)
    flow = route(z, cell, border)
    area = flow.accumulate(cell * cell + inflow)
    return Terrain(z, flow, area, inflow)


def _first_landscape(
    cell: float, erodibility: Field, debris_area: float, rng: np.random.Generator
) -> tuple[Field, Field]:
    """Return the elevation and the inflow (m2) of the coarse landscape."""
    n = _COARSE
    z = 20.0 * fractal(n, 0.8, rng) + np.linspace(20.0, 0.0, n)[:, None]
    outlets = _open_edge(n)
    inflow = np.zeros((n, n))
    # In most scenes a river enters from outside. It forms the wide valleys where the towns are.
    if rng.uniform() < 0.7:
        inflow[0, rng.integers(n // 4, 3 * n // 4)] = 10 ** rng.uniform(7.5, 8.6)
    uplift = np.exp(0.25 * smooth(n, 30, rng))
    return _erode(z, cell, outlets, inflow, erodibility, uplift, 6.0, 45, rng, debris_area), inflow


def _erode(
    z: Field,
    cell: float,
    outlets: Mask,
    inflow: Field,
    erodibility: Field,
    uplift: Field | float,
    years: float,
    steps: int,
    rng: np.random.Generator,
    debris_area: float,
    radius: float = 0.35,
    critical: Field | None = None,
) -> Field:
    """Return ``z`` after ``steps`` of uplift, implicit incision and diffusion; the height of ``outlets`` is fixed."""
    shape = z.shape
    bias = 1.0 + 0.3 * rng.uniform(-1, 1, (len(NEIGHBOURS), *shape))
    raised = np.broadcast_to(np.asarray(uplift, dtype=np.float64), shape) * years * ~outlets
    for _ in range(steps):
        flow = route(z, cell, outlets, bias)
        area = flow.accumulate(cell * cell + inflow)
        rate = years * erodibility * (area**_AREA_EXPONENT + debris_area**_AREA_EXPONENT)
        factor = rate.ravel() / flow.distance
        limit = np.full(z.size, np.inf) if critical is None else critical.ravel() * flow.distance
        height = (z + raised).ravel()
        for cells in flow.upstream():
            below = height[flow.receiver[cells]]
            # A cell in a closed basin is lower than its receiver and does not change.
            cut = (height[cells] + factor[cells] * below) / (1.0 + factor[cells])
            height[cells] = np.where(height[cells] > below, np.minimum(cut, below + limit[cells]), height[cells])
        z = height.reshape(shape)
        z = np.where(outlets, z, ndimage.gaussian_filter(z, radius, mode="nearest"))
    return z


def _with_valley_floors(z: Field, cell: float, outlets: Mask, inflow: Field, rng: np.random.Generator) -> Field:
    """Return ``z`` with valleys filled by gravel and silt; the fill is deeper along larger rivers."""
    n = z.shape[0]
    flow = route(z, cell, outlets)
    area = flow.accumulate(cell * cell + inflow)
    river = area > 1.5e6
    depth = 3.2 * (area / 1e6) ** 0.45 * np.exp(0.4 * smooth(n, 40, rng))
    bed = flow.filled(np.where(river, z + depth, z), gradient=2e-3)
    along = flow.nearest_downstream(river)
    has_river = river.ravel()[along].reshape(n, n)
    distance = np.asarray(ndimage.distance_transform_edt(~river)) * cell
    floor = bed.ravel()[along].reshape(n, n) + 0.6 * np.minimum(distance / 20.0, 1.0) + 0.012 * distance
    floor = np.where(river, bed, floor)
    raised = np.where(has_river & ~outlets, np.maximum(z, floor), z)
    changed = (raised > z + 0.01) & ~river
    softened = ndimage.gaussian_filter(raised, 1.5, mode="nearest")
    return np.asarray(np.where(changed & ~outlets, np.maximum(softened, bed), raised))


def _window(
    size: int, cell: float, coarse_cell: float, coarse_size: int, rng: np.random.Generator
) -> tuple[Field, Field]:
    """Return the (row, column) of each scene cell on the coarse grid, randomly rotated and distorted."""
    angle = rng.uniform(0, 2 * np.pi)
    along = (np.arange(size) - (size - 1) / 2) * cell
    y, x = np.meshgrid(along, along, indexing="ij")
    y = y + 30.0 * smooth(size, 14, rng)
    x = x + 30.0 * smooth(size, 14, rng)
    middle = (coarse_size - 1) / 2
    rows = middle + (y * np.cos(angle) - x * np.sin(angle)) / coarse_cell
    columns = middle + (y * np.sin(angle) + x * np.cos(angle)) / coarse_cell
    return rows, columns


def _window_inflow(at: tuple[Field, Field], flow: Flow, area: Field, z: Field) -> Field:
    """Return the area in m2 of the coarse landscape that drains into the window, at the cells where it enters."""
    coarse, n = area.shape[0], z.shape[0]
    node = (np.rint(at[0]).astype(np.int64) * coarse + np.rint(at[1]).astype(np.int64)).ravel()
    area_by_node = np.bincount(node, minlength=coarse * coarse)
    inside = area_by_node > 0
    entering = np.flatnonzero(~inside & inside[flow.receiver])
    amounts = area.ravel().copy()
    # A river along the edge can leave and return. Do not count its area inside the window twice.
    leaving = np.flatnonzero(inside & ~inside[flow.receiver])
    inflow_area, current = area.ravel()[leaving], flow.receiver[leaving]
    for _ in range(_EXCURSION):
        following = flow.receiver[current]
        returns = inside[following]
        np.subtract.at(amounts, current[returns], inflow_area[returns])
        inflow_area, current = inflow_area[~returns], following[~returns]
    target = flow.receiver[entering]
    line, column = np.divmod(np.arange(n * n), n)
    row = np.bincount(node, line, coarse * coarse)[target] / area_by_node[target]
    col = np.bincount(node, column, coarse * coarse)[target] / area_by_node[target]
    inflow = np.zeros((n, n))
    reach = max(3, n // 80)
    for y, x, amount in zip(row, col, np.maximum(amounts[entering], 0.0), strict=True):
        # The river enters at the lowest cell near its position on the coarse grid, away from the fixed ring.
        top = int(np.clip(y - reach, 2, n - 3 - reach))
        left = int(np.clip(x - reach, 2, n - 3 - reach))
        part = z[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
        dy, dx = np.unravel_index(int(np.argmin(part)), part.shape)
        inflow[top + dy, left + dx] += amount
    return inflow


def _refined(field: Field) -> Field:
    """Return ``field`` on a grid of half the cell size over the same ground, interpolated by cubic splines."""
    n = field.shape[0]
    at = (np.arange(2 * n) - 0.5) / 2
    return np.asarray(ndimage.map_coordinates(field, np.meshgrid(at, at, indexing="ij"), order=3, mode="nearest"))


def _block_means(field: Field, step: int) -> Field:
    """Return the means of ``field`` over squares of ``step`` cells."""
    n = field.shape[0] // step
    return np.asarray(field.reshape(n, step, n, step).mean(axis=(1, 3)))


def _spread_inflow(inflow: Field) -> Field:
    """Return ``inflow`` on a grid of half the cell size, with its total unchanged."""
    finer = np.zeros((2 * inflow.shape[0], 2 * inflow.shape[1]))
    finer[::2, ::2] = inflow
    return finer


def _open_edge(n: int) -> Mask:
    """Return outlets along the last row."""
    outlets = np.zeros((n, n), dtype=bool)
    outlets[-1] = True
    return outlets


def _ring(n: int) -> Mask:
    """Return outlets along all four edges."""
    ring = np.zeros((n, n), dtype=bool)
    ring[[0, -1]] = True
    ring[:, [0, -1]] = True
    return ring


def _median_gradient(z: Field, cell: float) -> float:
    """Return the median gradient (tangent of the slope)."""
    return float(np.median(np.tan(np.radians(slope_degrees(z, cell)))))
