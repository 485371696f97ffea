"""Regions found block by block are those of the whole mask: against unions of unit squares, and against GDAL."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import shapes
from rasterio.windows import Window
from scipy import ndimage

from zoo.rasters.regions import Region, RegionSweep


def sweep(mask: np.ndarray, layers: list[np.ndarray], block: int, least: int = 1) -> list[Region]:
    rows, columns = mask.shape
    found, going = [], RegionSweep(columns, least)
    for row in range(0, rows, block):
        for column in range(0, columns, block):
            part = np.s_[row : row + block, column : column + block]
            window = Window(column, row, min(block, columns - column), min(block, rows - row))
            found += going.add(window, mask[part], [layer[part] for layer in layers])
    return found + going.finish()


def squares(mask: np.ndarray) -> dict[bytes, int]:
    """Independent of GDAL and of blocks: each region as the union of its pixels' squares, and its pixels."""
    labels, count = ndimage.label(mask)
    expected = {}
    for label in range(1, count + 1):
        rows, columns = np.nonzero(labels == label)
        union = shapely.union_all(shapely.box(columns, rows, columns + 1, rows + 1))
        expected[union.normalize().simplify(0).normalize().wkb] = len(rows)
    return expected


def of_gdal(mask: np.ndarray) -> set[bytes]:
    polygons = [
        shapely.geometry.shape(geometry)
        for geometry, _ in shapes(ndimage.label(mask)[0].astype(np.int32), mask=mask, connectivity=4)
    ]
    return {shapely.make_valid(one, method="structure").normalize().wkb for one in polygons}


def masks() -> st.SearchStrategy[np.ndarray]:
    def make(values: tuple[int, int, int, float, int]) -> np.ndarray:
        rows, columns, seed, share, smooth = values
        field = np.random.default_rng(seed).random((rows, columns))
        if smooth:
            field = ndimage.uniform_filter(field, 2 * smooth + 1, mode="wrap")
        return field >= np.quantile(field, share)

    return st.tuples(
        st.integers(1, 26), st.integers(1, 26), st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(0, 2)
    ).map(make)


@settings(max_examples=25)
@given(masks(), st.integers(1, 11))
def test_blocks_give_the_polygons_of_the_whole(mask: np.ndarray, block: int) -> None:
    found = sweep(mask, [np.ones(mask.shape, np.float32)], block)
    assert all(region.outline.is_valid for region in found)
    assert {region.outline.wkb: region.pixels for region in found} == squares(mask)
    assert {region.outline.wkb for region in found} == of_gdal(mask)
    assert all(region.outline.area == region.pixels for region in found)


def spiral(side: int) -> np.ndarray:
    """One region that winds through every block, one pixel wide."""
    mask = np.zeros((side, side), bool)
    top, left, bottom, right = 0, 0, side - 1, side - 1
    while top <= bottom and left <= right:
        mask[top, max(left - 2, 0) : right + 1] = True
        mask[top : bottom + 1, right] = True
        mask[bottom, left : right + 1] = True
        mask[top + 2 : bottom + 1, left] = True
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    return mask


@pytest.mark.parametrize(
    "mask",
    [
        spiral(25),
        np.ones((33, 20), bool),
        np.indices((30, 30)).sum(0) % 2 == 0,
        np.indices((24, 24))[1] % 2 == 0,  # combs join only in the last row of blocks
        (np.indices((24, 24))[1] % 2 == 0) | (np.indices((24, 24))[0] == 23),
        np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool),  # a hole that touches the outside in one point
        np.pad(np.zeros((20, 20), bool), 2, constant_values=True),
        np.zeros((10, 10), bool),
    ],
    ids=["spiral", "all", "chessboard", "stripes", "comb", "touching hole", "ring around blocks", "nothing"],
)
@pytest.mark.parametrize("block", [1, 7, 64])
def test_regions_that_span_many_blocks(mask: np.ndarray, block: int) -> None:
    found = sweep(mask, [np.ones(mask.shape, np.float32)], block)
    assert {region.outline.wkb: region.pixels for region in found} == squares(mask)


def test_figures_of_a_region_are_those_of_its_pixels() -> None:
    rng = np.random.default_rng(0)
    mask = ndimage.uniform_filter(rng.random((50, 60)), 5) > 0.5
    probability = rng.random(mask.shape, np.float32)
    slope = np.where(rng.random(mask.shape) < 0.3, np.nan, rng.uniform(0, 60, mask.shape)).astype(np.float32)
    labels, count = ndimage.label(mask)
    found = sweep(mask, [probability, slope], 16)
    assert len(found) == count > 5
    for region in found:
        inside = region.outline.representative_point()
        own = labels == labels[int(inside.y), int(inside.x)]
        assert region.pixels == own.sum()
        assert region.highest == probability[own].max()
        known = slope[own][np.isfinite(slope[own])].astype(np.float64)
        expected = [probability[own].astype(np.float64).mean(), known.mean() if len(known) else np.nan]
        np.testing.assert_allclose(region.means(), expected, rtol=1e-12)


def test_small_regions_are_left_out_wherever_they_lie() -> None:
    mask = ndimage.uniform_filter(np.random.default_rng(3).random((60, 60)), 3) > 0.52
    pixels = sorted(squares(mask).values())
    assert pixels[0] < 6 < pixels[-1]
    found = sweep(mask, [np.ones(mask.shape, np.float32)], 16, least=6)
    assert sorted(region.pixels for region in found) == [one for one in pixels if one >= 6]


def test_what_is_held_is_bounded_by_the_border_reached() -> None:
    """Thousands of regions that cross block borders, and never more of them open than one row of blocks can hold."""
    mask = np.zeros((400, 32), bool)
    mask[3::5, :] = True  # bars of the whole width, each across four blocks
    mask[7::8, 2:4] = True  # and blots across the lower border of blocks
    mask[8::8, 2:4] = True
    going, most, done = RegionSweep(32), 0, 0
    for row in range(0, 400, 8):
        for column in range(0, 32, 8):
            part = mask[row : row + 8, column : column + 8]
            done += len(going.add(Window(column, row, 8, 8), part, [part.astype(np.float32)]))
            most = max(most, len(going._open), len(going._parents))
    done += len(going.finish())
    assert done == ndimage.label(mask)[1] > 70
    assert most < 40
