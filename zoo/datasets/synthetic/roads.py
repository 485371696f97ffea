"""Roads: the cheapest way from place to place over steep ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from zoo.datasets.synthetic.noise import Field, Mask, stream

_STEP = 4  # road graph nodes lie four pixels apart


@dataclass(frozen=True)
class Roads:
    """Roads of a scene.

    Args:
        share: (n, n) share of each pixel that is road or the bare cut beside it.
        lines: polylines of (row, column) in pixels.
    """

    share: Field
    lines: tuple[Field, ...]


def make_roads(seed: int, z: Field, slope: Field, river: Mask, towns: list[tuple[int, int]], cell: float) -> Roads:
    """Return roads between towns, out of the valley, and tracks up the hillsides.

    A metre of road costs more the steeper it climbs (so it follows contours and turns back on itself), the steeper
    the ground it is cut into, and much more over water.

    Args:
        seed: number of the scene.
        z: elevation, metres, (n, n), n a multiple of 4.
        slope: degrees, (n, n).
        river: where water is.
        towns: (row, column) of each; the first is the largest.
        cell: metres between cell centres.
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
    # Two or three of the four ways out are roads; the most expensive lead over passes and are left.
    ways_out = sorted(goals[len(nodes) - 1 :], key=lambda goal: cost[goal[0]])[: int(rng.integers(2, 4))]
    tracks = [(int(node), 4.5) for node in rng.choice(m * m, size=int(rng.integers(3, 7)), replace=False)]
    share = np.zeros((n, n))
    lines = []
    for goal, width in goals[: len(nodes) - 1] + ways_out + tracks:
        line = _line(goal, nodes[0], before, m)
        if len(line) > 2:
            lines.append(line)
            share = np.maximum(share, _painted(line, width, n, cell))
    return Roads(share, tuple(lines))


def _graph(height: Field, steep: Field, wet: Mask, step: float) -> sparse.csr_array:
    m = height.shape[0]
    node = np.arange(m * m).reshape(m, m)
    rows, columns, costs = [], [], []
    # Knight's moves as well: with eight directions alone roads would zigzag at 45 degrees.
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
    path = [goal]
    while path[-1] != start and before[path[-1]] >= 0:
        path.append(int(before[path[-1]]))
    nodes = np.array(path)
    points = np.column_stack(np.divmod(nodes, m)) * float(_STEP) + (_STEP - 1) / 2
    if len(points) < 4:
        return points
    return np.asarray(ndimage.gaussian_filter1d(points, 0.8, axis=0, mode="nearest"))


def _painted(line: Field, width: float, n: int, cell: float) -> Field:
    """Return the share of each pixel under a line of ``width`` metres: points a tenth of a pixel apart, splatted."""
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
