"""The landslide risk index, and the file of its weights and ranges."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError
from zoo.physics import PAPER_WEIGHTS, FeatureRange, IndexParameters, RainParameters, landslide_index, weighted_sum
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
    with pytest.raises(DataError, match="slope: this feature has no stored range"):
        weighted_sum(FEATURES, {})
    with pytest.raises(DataError, match="different shapes"):
        weighted_sum(FEATURES | {"slope": np.zeros(3)}, UNIT)
    with pytest.raises(DataError, match="rainfall factor is negative"):
        landslide_index(FEATURES, UNIT, -1.0)
    with pytest.raises(ConfigError, match="no weights"):
        weighted_sum(FEATURES, UNIT, {})
    with pytest.raises(ConfigError, match="empty"):
        FeatureRange(1.0, 1.0)


RANGES = {
    "slope": FeatureRange(0.0, 60.0),
    "DEM": FeatureRange(400.0, 3200.0),
    "NDVI": FeatureRange(-0.1, 0.9),
    "NDWI": FeatureRange(-0.8, 0.3),
    "SMI": FeatureRange(0.1, 0.8),
    "NDBI": FeatureRange(-0.5, 0.4),
}


@pytest.mark.parametrize(
    "one",
    [
        IndexParameters(),
        IndexParameters(ranges=RANGES, source="Wenchuan 2008"),
        IndexParameters({"slope": 1.0}, {"slope": FeatureRange(0, 90)}, RainParameters(10.0, 2.0, 0.5, 0.1), None),
        IndexParameters(rain="guzzetti-global", rain_clip=(0.5, 2.0)),
    ],
)
def test_what_is_saved_is_loaded(one: IndexParameters, tmp_path: Path) -> None:
    one.save(tmp_path / "ä weights.json")
    assert IndexParameters.load(tmp_path / "ä weights.json") == one


def test_a_person_may_write_weights_alone() -> None:
    one = IndexParameters.from_dict({"weights": {"slope": 2, "NDVI": -1}})
    assert one.weights == {"slope": 2.0, "NDVI": -1.0}
    assert one.ranges == {}
    assert one.rain_parameters.alpha == 1.2
    assert IndexParameters().weights == PAPER_WEIGHTS


def changed(**fields: Any) -> dict[str, Any]:
    return {**IndexParameters(ranges=RANGES).to_dict(), **fields}


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        (changed(weights={"slop": 1.0}), UnknownNameError, "slope"),
        (changed(weights={"LSI": 1.0}), UnknownNameError, "channel"),
        (changed(weights={"slope": "steep"}), DataError, "weight of slope: expected float, got str"),
        (changed(weights={"slope": True}), DataError, "expected float, got bool"),
        (changed(weights={"slope": 0.0}), ConfigError, "not 0"),
        (changed(weights={"slope": float("nan")}), ConfigError, "finite"),
        (changed(weights=[1, 2]), DataError, "field 'weights': expected object"),
        (changed(features={"slope": {"low": 0, "high": 60, "unit": "radian"}}), DataError, "expected 'degree'"),
        (changed(features={"DEM": {"low": 0, "high": 60, "unit": "ft"}}), DataError, "'ft'"),
        (changed(features={"slope": {"low": 0, "high": 60}}), DataError, "no range for DEM"),
        (changed(features={"slope": {"low": 60, "high": 0}}), ConfigError, "empty"),
        (changed(features={"slope": [0, 60]}), DataError, "range of slope"),
        (changed(features={"rain": {"low": 0, "high": 60}}), UnknownNameError, "rain"),
        (changed(rain={"preset": "monsoon"}), UnknownNameError, "caine"),
        (changed(rain={"preset": "caine", "intensity": 3.0}), DataError, "both"),
        (changed(rain={"alpha": 1.0}), DataError, "no reference intensity"),
        (changed(rain={"units": {"intensity": "mm/day"}}), DataError, "mm/day"),
        (changed(rain={"clip": [3, 1]}), ConfigError, "clip"),
        (changed(rain={"clip": 3}), DataError, "clip"),
        (changed(format="other"), DataError, "format"),
        (changed(version=9), DataError, "version"),
        ({}, DataError, "missing required field weights"),
    ],
)
def test_what_contradicts_is_refused(values: dict[str, Any], kind: type[ZooError], said: str) -> None:
    with pytest.raises(kind, match=said):
        IndexParameters.from_dict(values)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"weights": {"x": 1}}', "\xff"])
def test_a_damaged_weights_file_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ZooError, match=r"weights\.json"):
        IndexParameters.load(path)
    with pytest.raises(DataError, match="no such file"):
        IndexParameters.load(tmp_path / "absent.json")


def test_unknown_fields_are_left_to_those_who_know_them(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text(json.dumps(changed(crs="EPSG:32643", classes=[0.4, 0.6])))
    assert IndexParameters.load(path).ranges == RANGES


def test_an_index_of_another_form_is_refused(tmp_path):
    path = tmp_path / "weights.json"
    values = IndexParameters().to_dict()
    path.write_text(json.dumps({**values, "risk": {"form": "multiplicative"}}))
    assert IndexParameters.load(path) == IndexParameters()
    path.write_text(json.dumps({**values, "risk": {"form": "log-additive"}}))
    with pytest.raises(DataError, match=r"weights\.json: holds the weights of a log-additive index"):
        IndexParameters.load(path)
