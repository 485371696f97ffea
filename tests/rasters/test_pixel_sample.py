import geopandas
import numpy as np
import pytest
import shapely
from rasterio.transform import from_origin

from tests.rasters.geotiffs import write_geotiff
from zoo.errors import DataError
from zoo.rasters.inventory import read_inventory
from zoo.rasters.pixel_sample import extent_of, sample_pixels
from zoo.rasters.stacks import Stack

SIDE = 1100
X, Y, PIXEL = 500_000.0, 4_000_000.0, 10.0


@pytest.fixture(scope="module")
def stack_file(tmp_path_factory):
    """Bands that hold their own row and column, so that every sampled pixel identifies its place."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    rows[:50, :50] = np.nan
    path, grid = tmp_path_factory.mktemp("sample") / "stack.tif", from_origin(X, Y, PIXEL, PIXEL)
    names = (("row", ""), ("column", ""))
    return write_geotiff(path, np.stack([rows, columns]), names=names, transform=grid, nodata=np.nan)


def box(top, left, bottom, right):
    """A landslide over these pixels, bottom and right left out."""
    return shapely.box(X + left * PIXEL, Y - bottom * PIXEL, X + right * PIXEL, Y - top * PIXEL)


def inventory(folder, stack, *shapes):
    path = folder / "slides.gpkg"
    geopandas.GeoDataFrame(geometry=list(shapes), crs="EPSG:32643").to_file(path)
    return read_inventory(path, stack.crs, extent_of(stack))


# Across the border of the windows at 1024, and one that half lies on nodata.
SLIDES = (box(1000, 1000, 1040, 1030), box(40, 60, 60, 70), box(45, 45, 55, 55))


def truth():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[1000:1040, 1000:1030] = mask[40:60, 60:70] = mask[45:55, 45:55] = True
    wide = np.zeros_like(mask)
    wide[999:1041, 999:1031] = wide[39:61, 59:71] = wide[44:56, 44:56] = True
    known = np.ones_like(mask)
    known[:50, :50] = False
    return mask & known, wide & ~mask & known, known


def test_every_pixel_is_of_the_kind_that_it_says(stack_file, tmp_path):
    landslide, border, known = truth()
    with Stack(stack_file) as stack:
        found = sample_pixels(stack, ["row", "column"], inventory(tmp_path, stack, *SLIDES), max_pixels=3_000_000)
    row, column = found.features.astype(int).T
    image = np.full((SIDE, SIDE), -1)
    image[row, column] = found.labels
    np.testing.assert_array_equal(image == 1, landslide)
    np.testing.assert_array_equal(image == 0, known & ~landslide & ~border)
    assert (found.landslide_pixels, found.border_pixels) == (landslide.sum(), border.sum())
    assert found.known_pixels == known.sum() == len(found.region)
    assert found.landslide_share == pytest.approx(landslide.sum() / known.sum())
    np.testing.assert_allclose(found.coordinates, np.column_stack([X + (column + 0.5) * 10, Y - (row + 0.5) * 10]))


def test_a_small_sample_is_uniform_and_the_same_for_one_seed(stack_file, tmp_path):
    with Stack(stack_file) as stack:
        slides = inventory(tmp_path, stack, *SLIDES)
        one, again, other = (
            sample_pixels(stack, ["column", "row"], slides, max_pixels=4000, seed=seed) for seed in (1, 1, 2)
        )
    np.testing.assert_array_equal(one.features, again.features)
    assert not np.array_equal(one.features, other.features)
    others = one.features[one.labels == 0]
    assert len(others) == 4000 == len(np.unique(others, axis=0))
    # Windows are of 1024 and 76 pixels: a sample by window instead of by pixel would fill the narrow ones.
    assert np.mean(others[:, 0] >= 1024) == pytest.approx(76 / 1100, abs=0.015)
    assert one.region.mean() == pytest.approx(550, abs=15)


def test_layers_are_features_and_their_gaps_are_left_out(stack_file, tmp_path):
    def layer(window):
        values = np.full((int(window.height), int(window.width)), 3.0, dtype=np.float32)
        values[:, ::2] = np.nan
        return values

    with Stack(stack_file) as stack:
        found = sample_pixels(stack, ["column"], None, layers={"rain": layer}, max_pixels=1000)
    assert found.names == ("column", "rain")
    assert (found.region[:, 1] == 3).all()
    assert (found.region[:, 0] % 2 == 1).all()
    assert len(found.labels) == 0


def test_landslides_on_nodata_alone_are_refused(stack_file, tmp_path):
    with Stack(stack_file) as stack:
        slides = inventory(tmp_path, stack, box(3, 3, 20, 20))
        with pytest.raises(DataError, match="pixel with data"):
            sample_pixels(stack, ["row", "column"], slides)


def test_a_sample_of_only_landslides_is_refused(stack_file, tmp_path):
    with Stack(stack_file) as stack:
        slides = inventory(tmp_path, stack, box(0, 0, SIDE, SIDE))
        with pytest.raises(DataError, match="every pixel"):
            sample_pixels(stack, ["row", "column"], slides)
