import hashlib
import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import ConfigError, DataError
from zoo.physics import PAPER_WEIGHTS, Band, FeatureRange, IndexParameters, RainParameters, landslide_index
from zoo.risk.classes import ClassBreaks
from zoo.risk.index import RiskIndex

RANGES = {
    "slope": FeatureRange(3.0, 54.0),
    "DEM": FeatureRange(950.0, 3800.0),
    **dict.fromkeys(("NDVI", "NDWI", "NDBI"), FeatureRange(-0.6, 0.8)),
    "SMI": FeatureRange(0.1, 0.9),
}
BANDS = tuple(
    Band(name, {"slope": "degree", "DEM": "m"}.get(name, "1"))
    for name in ("SMI", "NDBI", "NDVI", "NDWI", "slope", "DEM")
)


def full(**changes):
    parameters = IndexParameters(dict(PAPER_WEIGHTS), RANGES, RainParameters(5.0, 1.0, 1.4, 0.7), (0.0, 4.0), "here")
    given_ = {
        "form": "log-additive",
        "intercept": -2.5,
        "slope": 4.0,
        "gain": 1.5,
        "classes": ClassBreaks(0.2, 0.4, "jenks"),
        "method": "logistic",
        "intervals": {"slope": (0.2, 0.3), "alpha": (1.0, 1.8)},
        "region": {"crs": "EPSG:32643", "bounds": [0, 1, 2, 3]},
        "evaluation": {"auc_blocks": 0.7},
        "provenance": {"seed": 3, "stack": "gelände.tif"},
    }
    return RiskIndex(parameters, **{**given_, **changes})


def pixels(count=50, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(span.low - 0.1, span.high + 0.1, count) for name, span in RANGES.items()}


def test_a_file_comes_back_as_it_went(tmp_path):
    path = tmp_path / "gewichte ä.json"
    full().save(path)
    assert RiskIndex.load(path) == full()
    assert full().digest() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_zoo_stack_reads_the_same_file(tmp_path):
    path = tmp_path / "w.json"
    full(form="multiplicative").save(path)
    assert IndexParameters.load(path) == full().index
    full(form="log-additive").save(path)
    with pytest.raises(DataError, match="log-additive index, and the LSI channel is equation 4"):
        IndexParameters.load(path)


def test_a_file_of_zoo_stack_will_do(tmp_path):
    full().index.save(tmp_path / "w.json")
    assert RiskIndex.load(tmp_path / "w.json") == RiskIndex(full().index)


def test_the_multiplicative_form_is_equation_4():
    index = full(form="multiplicative")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge = landslide_index(pixels(), RANGES, 2.0)
    assert index.evaluate(pixels(), 2.0) == pytest.approx(judge)
    # The stored clip holds.
    assert index.evaluate(pixels(), 99.0) == pytest.approx(index.evaluate(pixels(), 4.0))


def test_the_log_additive_form_by_hand():
    index = RiskIndex(
        IndexParameters({"slope": 1.0}, {"slope": FeatureRange(0, 60)}, rain_clip=None),
        form="log-additive",
        intercept=-1.0,
        slope=4.0,
        gain=0.5,
    )
    # -1 + 4 * 0.5 + 0.5 ln 4 = 1.693
    assert index.evaluate({"slope": [30.0]}, 4.0) == pytest.approx([1 / (1 + np.exp(-1.6931471806))])


@given(st.floats(0, 3), st.floats(0, 3))
def test_more_rain_never_lowers_a_log_additive_index(one, other):
    low, high = sorted((one, other))
    assert (full().evaluate(pixels(), high) >= full().evaluate(pixels(), low)).all()


def test_more_rain_lowers_a_multiplicative_index_where_the_sum_is_negative():
    index = RiskIndex(IndexParameters({"NDVI": -1.0}, {"NDVI": FeatureRange(0, 1)}))
    assert index.evaluate({"NDVI": [0.5]}, 2.0) < index.evaluate({"NDVI": [0.5]}, 1.0)


def test_negative_rain_is_refused():
    with pytest.raises(DataError, match="negative"):
        full().evaluate(pixels(), -1.0)


def test_bands_that_fit_are_taken():
    assert full().check_bands((*BANDS, Band("LSI", "1"))) == []
    unknown = [Band(band.name, "unknown") for band in BANDS]
    assert any("degree" in note for note in full().check_bands(unknown))


def test_a_weight_without_a_band_has_a_suggestion():
    bands = [Band("Slope" if band.name == "slope" else band.name, band.unit) for band in BANDS]
    with pytest.raises(DataError, match=r"no band 'slope', which the weights name\. Did you mean 'Slope'"):
        full().check_bands(bands, "stack.tif")
    # A feature that weighs nothing need not be there.
    weights = {**PAPER_WEIGHTS, "slope": 0.0}
    RiskIndex(IndexParameters(weights, RANGES)).check_bands(bands, "stack.tif")


@pytest.mark.parametrize(("name", "unit"), [("DEM", "ft"), ("slope", "radian"), ("slope", "%"), ("NDVI", "percent")])
def test_a_band_in_another_unit_than_the_scaler_is_refused(name, unit):
    bands = [Band(band.name, unit if band.name == name else band.unit) for band in BANDS]
    with pytest.raises(DataError, match=name):
        full().check_bands(bands, "stack.tif")


def test_two_bands_of_one_name_are_refused():
    with pytest.raises(DataError, match="two bands"):
        full().check_bands((*BANDS, BANDS[0]))


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("weights", "slope"), "steep", "slope"),
        (("weights",), {"slop": 1.0}, "slope"),
        (("features", "DEM", "unit"), "ft", "DEM"),
        (("features", "DEM", "low"), None, "range of DEM: field 'low'"),
        (("features", "DEM"), {"low": 3, "high": 3, "unit": "m"}, "empty"),
        (("rain", "units", "intensity"), "mm/day", "mm/day"),
        (("rain", "clip"), [3, 1], "clip"),
        (("version",), 9, "version"),
        (("risk",), [], "risk"),
        (("risk", "version"), 2, "version"),
        (("risk", "form"), "logadditive", "form"),
        (("risk", "coefficients"), None, "coefficients"),
        (("risk", "coefficients", "slope"), "4", "slope"),
        (("risk", "coefficients", "gain"), -1.0, "gain"),
        (("risk", "intervals", "slope"), [1], "intervals.slope"),
        (("risk", "classes"), {"low": 0.4, "high": 0.2, "method": "jenks"}, "class breaks"),
        (("risk", "classes"), {"low": 0.4, "method": "jenks"}, "high"),
        (("risk", "region"), "Kashmir", "region"),
    ],
)
def test_a_damaged_file_names_the_key(tmp_path, place, value, told):
    values = full().to_dict()
    part = values
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    path = tmp_path / "w.json"
    path.write_text(json.dumps(values))
    with pytest.raises(DataError) as caught:
        RiskIndex.load(path)
    assert told in str(caught.value)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"weights": {}}', "\x00\xff"])
def test_what_is_no_index_is_refused(tmp_path, text):
    path = tmp_path / "w.json"
    path.write_text(text)
    with pytest.raises(DataError):
        RiskIndex.load(path)
    with pytest.raises(DataError, match="no such file"):
        RiskIndex.load(tmp_path / "none.json")


def test_a_coefficient_that_is_not_finite_is_refused():
    with pytest.raises(ConfigError):
        full(intercept=float("nan"))
