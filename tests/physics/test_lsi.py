import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import ConfigError, DataError
from zoo.physics import PAPER_WEIGHTS, FeatureRange, landslide_index, weighted_sum
from zoo.physics.lsi import NegativeIndexWarning

UNIT = {name: FeatureRange(0.0, 1.0) for name in PAPER_WEIGHTS}
FEATURES = {"slope": 0.8, "DEM": 0.4, "NDVI": 0.5, "NDWI": 0.1, "SMI": 0.6, "NDBI": 0.3}


def test_the_weights_are_those_of_table_1():
    assert dict(PAPER_WEIGHTS) == {"slope": 0.25, "DEM": 0.15, "NDVI": -0.2, "NDWI": 0.2, "SMI": 0.1, "NDBI": 0.1}


def test_hand_computed_values():
    # 0.25*0.8 + 0.15*0.4 - 0.2*0.5 + 0.2*0.1 + 0.1*0.6 + 0.1*0.3 = 0.27
    assert weighted_sum(FEATURES, UNIT) == pytest.approx(0.27)
    assert landslide_index(FEATURES, UNIT, 2.0) == pytest.approx(1 / (1 + math.exp(-0.54)))
    assert landslide_index(FEATURES, UNIT, 0.0) == 0.5


def test_features_are_scaled_with_the_stored_range_not_their_own():
    one = weighted_sum({"slope": np.array([15.0, 30.0])}, {"slope": FeatureRange(0.0, 60.0)}, {"slope": 1.0})
    assert one == pytest.approx([0.25, 0.5])


def test_a_new_region_beyond_the_range_is_clipped():
    beyond = weighted_sum({"DEM": [-100.0, 9000.0]}, {"DEM": FeatureRange(0.0, 3000.0)}, {"DEM": 0.15})
    assert beyond == pytest.approx([0.0, 0.15])


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 10), st.floats(0, 10))
def test_more_rain_raises_the_index_where_the_sum_is_positive(slope, moisture, rain, more):
    features = {"slope": slope, "SMI": moisture}
    weights = {"slope": 0.7, "SMI": 0.3}
    drier = landslide_index(features, UNIT, rain, weights)
    assert landslide_index(features, UNIT, rain + more, weights) >= drier
    assert 0.5 <= drier < 1


def test_it_warns_where_rain_lowers_the_index():
    green = FEATURES | {"slope": 0.0, "DEM": 0.0, "NDVI": 1.0, "SMI": 0.0}
    with pytest.warns(NegativeIndexWarning, match=r"negative in 100\.0%"):
        wet = landslide_index(green, UNIT, 2.0)
    with pytest.warns(NegativeIndexWarning):
        assert wet < landslide_index(green, UNIT, 1.0)


def test_it_does_not_warn_otherwise_and_keeps_nan():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = landslide_index(FEATURES | {"SMI": math.nan}, UNIT)
    assert math.isnan(index)


def test_what_cannot_be_computed_is_refused():
    with pytest.raises(DataError, match="NDBI: the index needs this feature"):
        weighted_sum({name: 0.5 for name in FEATURES if name != "NDBI"}, UNIT)
    with pytest.raises(DataError, match="slope: no stored range"):
        weighted_sum(FEATURES, {})
    with pytest.raises(DataError, match="different shapes"):
        weighted_sum(FEATURES | {"slope": np.zeros(3)}, UNIT)
    with pytest.raises(DataError, match="negative rainfall factor"):
        landslide_index(FEATURES, UNIT, -1.0)
    with pytest.raises(ConfigError, match="no weights"):
        weighted_sum(FEATURES, UNIT, {})
    with pytest.raises(ConfigError, match="empty"):
        FeatureRange(1.0, 1.0)
