"""Water flow on an elevation grid: receivers, basins and upslope area.

In the flow graph every cell drains to an outlet. A closed basin spills over its lowest pass, which a minimum spanning
tree of basins finds (Cordonnier, Bovy & Braun 2019, Earth Surface Dynamics 7, 549 [S]). Sums along the flow proceed
level by level, where a level holds the cells with the same number of steps to their outlet. This vectorises the
recursive stack of Braun & Willett (2013) in numpy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from zoo.physics.arrays import FloatArray

Index = npt.NDArray[np.int64]
Field = FloatArray
Mask = npt.NDArray[np.bool_]

NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True)
class Flow:
    """Steepest-descent flow graph of a grid.

    Args:
        receiver: the cell that each cell drains to, (cells,); an outlet drains to itself.
        distance: metres to the receiver, (cells,); 1 at outlets.
        order: all cells, (cells,), outlets first, each receiver before its donors.
        starts: start of each level in ``order``, (levels + 1,).
        pits: number of closed basins in the elevation.
    """

    receiver: Index
    distance: Field
    order: Index
    starts: Index
    pits: int

    def upstream(self) -> Iterator[Index]:
        """Yield the cells of each level, from the first above the outlets up to the ridges."""
        for level in range(1, len(self.starts) - 1):
            yield self.order[self.starts[level] : self.starts[level + 1]]

    def downstream(self) -> Iterator[Index]:
        """Yield the cells of each level, from the ridges down to the first above the outlets."""
        for level in range(len(self.starts) - 2, 0, -1):
            yield self.order[self.starts[level] : self.starts[level + 1]]

    def accumulate(self, amount: Field) -> Field:
        """Return the sum of ``amount`` over each cell and all cells upslope of it, in the shape of ``amount``."""
        total = amount.ravel().copy()
        for cells in self.downstream():
            np.add.at(total, self.receiver[cells], total[cells])
        return total.reshape(amount.shape)

    def filled(self, elevation: Field, gradient: float = 1e-4) -> Field:
        """Return ``elevation`` with closed basins filled to their pass, with a downstream ``gradient`` in m/m."""
        level = elevation.ravel().copy()
        rise = gradient * self.distance
        for cells in self.upstream():
            level[cells] = np.maximum(level[cells], level[self.receiver[cells]] + rise[cells])
        return level.reshape(elevation.shape)

    def nearest_downstream(self, target: Mask) -> Index:
        """Return the first ``target`` cell downstream of every cell, or its outlet if there is none."""
        nodes = np.arange(self.receiver.size)
        return _roots(np.where(target.ravel(), nodes, self.receiver))


def route(elevation: Field, cell: float, outlets: Mask, bias: Field | None = None) -> Flow:
    """Return the flow graph of ``elevation``.

    Args:
        elevation: metres, (h, w).
        cell: metres between cell centres.
        outlets: cells where water leaves the grid, (h, w); at least one.
        bias: factor on the gradient to each of :data:`NEIGHBOURS`, (8, h, w). Some noise keeps channels on smooth
            slopes from following the eight grid directions (Fairfield & Leymarie 1991 [S]).
    """
    receiver, distance = _steepest(elevation, cell, outlets, bias)
    pits = _connect_basins(elevation, cell, outlets, receiver, distance)
    depth = _steps_to_outlet(receiver)
    order = np.argsort(depth.astype(np.uint16 if depth.max() < 65536 else np.int64), kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(depth))])
    return Flow(receiver, distance, order, starts, pits)


def dispersed_area(elevation: Field, cell: float, inflow: Field, exponent: float = 1.1) -> Field:
    """Return upslope area in m2, where each cell shares its water among all lower neighbours (Freeman 1991 [S]).

    Single-direction flow makes stripes on smooth slopes; wetness needs flow that spreads where slopes diverge.

    Args:
        elevation: metres, (h, w), without closed basins.
        cell: metres between cell centres.
        inflow: area in m2 outside the grid that drains into each cell, (h, w).
        exponent: preference for steeper neighbours.
    """
    h, w = elevation.shape
    # int32 halves the memory of the linear system.
    nodes = np.arange(h * w, dtype=np.int32)
    padded = np.pad(elevation, 1, constant_values=np.inf)
    # With cells numbered from the highest down, flow always goes to a higher number, so the system is triangular.
    ranked = np.argsort(-elevation.ravel(), kind="stable")
    rank = np.empty_like(nodes)
    rank[ranked] = nodes
    shares = np.empty((8, h * w))
    for k, (dy, dx) in enumerate(NEIGHBOURS):
        drop = (elevation - padded[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]) / (cell * np.hypot(dy, dx))
        # The contour length is shorter in a diagonal direction, as in Quinn et al. (1991).
        shares[k] = (np.maximum(drop, 0.0) ** exponent * (0.354 if dy and dx else 0.5)).ravel()
    total = shares.sum(axis=0)
    shares /= np.where(total > 0, total, 1.0)
    used = shares > 0
    source = np.concatenate([rank[one] for one in used])
    target = np.concatenate(
        [rank[nodes[one] + np.int32(dy * w + dx)] for one, (dy, dx) in zip(used, NEIGHBOURS, strict=True)]
    )
    system = sparse.csr_array((-shares[used], (target, source)), shape=(h * w, h * w))
    del shares, source, target, used
    system = system + sparse.eye_array(h * w, format="csr")
    amount = (cell * cell + inflow).ravel()[ranked]
    solved = sparse.linalg.spsolve_triangular(system, amount, lower=True, unit_diagonal=True)
    area = np.empty(h * w)
    area[ranked] = solved
    return area.reshape(h, w)


def _steepest(elevation: Field, cell: float, outlets: Mask, bias: Field | None) -> tuple[Index, Field]:
    h, w = elevation.shape
    padded = np.pad(elevation, 1, constant_values=np.inf)
    best = np.zeros((h, w))
    direction = np.full((h, w), len(NEIGHBOURS), dtype=np.int8)
    gradient = np.empty((h, w))
    for k, (dy, dx) in enumerate(NEIGHBOURS):
        np.subtract(elevation, padded[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w], out=gradient)
        gradient /= cell * float(np.hypot(dy, dx))
        if bias is not None:
            gradient *= bias[k]
        steeper = gradient > best
        np.copyto(best, gradient, where=steeper)
        np.copyto(direction, np.int8(k), where=steeper)
    # The ninth direction means no flow, at outlets and in closed basins.
    direction[outlets] = len(NEIGHBOURS)
    offset = np.array([*(dy * w + dx for dy, dx in NEIGHBOURS), 0])
    length = np.array([*(cell * float(np.hypot(dy, dx)) for dy, dx in NEIGHBOURS), 1.0])
    chosen = direction.ravel()
    return np.arange(h * w) + offset[chosen], length[chosen]


def _connect_basins(elevation: Field, cell: float, outlets: Mask, receiver: Index, distance: Field) -> int:
    """Redirect every closed basin over its lowest pass, in place, and return the number of basins."""
    z = elevation.ravel()
    nodes = np.arange(z.size)
    pits = np.flatnonzero((receiver == nodes) & ~outlets.ravel())
    if pits.size == 0:
        return 0
    # Basins are numbered from 1; cells numbered 0 drain to an outlet.
    number = np.zeros(z.size, dtype=np.int64)
    number[pits] = np.arange(1, pits.size + 1)
    basin = number[_roots(receiver)].reshape(elevation.shape)
    grid = nodes.reshape(elevation.shape)
    sides = []
    for a, b in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:-1, :-1], np.s_[1:, 1:]),
        (np.s_[:-1, 1:], np.s_[1:, :-1]),
    ):
        border = basin[a] != basin[b]
        sides.append(np.stack([grid[a][border], grid[b][border]]))
    left, right = np.concatenate(sides, axis=1)
    flat = basin.ravel()
    swap = flat[left] > flat[right]
    left, right = np.where(swap, right, left), np.where(swap, left, right)
    height = np.maximum(z[left], z[right])
    by_pair = np.lexsort((right, left, height, flat[right], flat[left]))
    left, right, height = left[by_pair], right[by_pair], height[by_pair]
    low, high = flat[left], flat[right]
    first = np.r_[True, (low[1:] != low[:-1]) | (high[1:] != high[:-1])]
    left, right, height, low, high = left[first], right[first], height[first], low[first], high[first]
    # Ranks instead of heights have no ties and no zero, which would mean "no edge" in a sparse graph.
    rank = np.empty(height.size)
    rank[np.lexsort((high, low, height))] = np.arange(1, height.size + 1)
    # minimum_spanning_tree of scipy 1.12 does not accept 64-bit indices.
    ends = low.astype(np.int32), high.astype(np.int32)
    graph = sparse.csr_array((rank, ends), shape=(pits.size + 1, pits.size + 1))
    tree = csgraph.minimum_spanning_tree(graph)
    _, parent = csgraph.breadth_first_order(tree, 0, directed=False, return_predecessors=True)
    edges = tree.tocoo()
    edge = np.argsort(rank)[edges.data.astype(np.int64) - 1]
    up_is_high = parent[high[edge]] == low[edge]
    inside = np.where(up_is_high, right[edge], left[edge])
    outside = np.where(up_is_high, left[edge], right[edge])
    # The flow from each pass to its pit is reversed, for all basins at once.
    current, previous = inside, outside
    while current.size:
        following = receiver[current]
        receiver[current] = previous
        distance[current] = _length(current, previous, elevation.shape[1], cell)
        unfinished = following != current
        current, previous = following[unfinished], current[unfinished]
    return int(pits.size)


def _length(a: Index, b: Index, width: int, cell: float) -> Field:
    diagonal = (np.abs(a // width - b // width) + np.abs(a % width - b % width)) == 2
    return np.asarray(np.where(diagonal, cell * np.sqrt(2.0), cell))


def _roots(pointer: Index) -> Index:
    while True:
        further = pointer[pointer]
        if np.array_equal(further, pointer):
            return further
        pointer = further


def _steps_to_outlet(receiver: Index) -> Index:
    steps: Index = (receiver != np.arange(receiver.size)).astype(np.int64)
    pointer = receiver
    while True:
        further = pointer[pointer]
        if np.array_equal(further, pointer):
            return steps
        steps = steps + steps[pointer]
        pointer = further
