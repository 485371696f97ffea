import copy
import hashlib
import json
import random
import warnings
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import ConfigError, DataError, ZooError
from zoo.physics import PAPER_WEIGHTS, Band, FeatureRange, IndexParameters, RainParameters, landslide_index
from zoo.risk.index import (
    ClassBreaks,
    IndexEvaluation,
    Provenance,
    RiskIndex,
    TrainingRegion,
    class_shares,
    fit_breaks,
    success_rate,
)

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
        "region": TrainingRegion("EPSG:32643", (0, 1, 2, 3)),
        "evaluation": IndexEvaluation(auc_blocks=0.7),
        "provenance": Provenance(seed=3, stack="gelände.tif"),
    }
    return RiskIndex(parameters, **{**given_, **changes})


def pixels(count=50, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(span.low - 0.1, span.high + 0.1, count) for name, span in RANGES.items()}


def test_a_file_survives_a_round_trip(tmp_path):
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
    with pytest.raises(DataError, match=r"no band 'slope', which the weights need\. Did you mean 'Slope'"):
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
        (("risk", "intervals", "slope"), [1], "risk.intervals"),
        (("risk", "classes"), {"low": 0.4, "high": 0.2, "method": "jenks"}, "class breaks"),
        (("risk", "classes"), {"low": 0.4, "method": "jenks"}, "high"),
        (("risk", "region"), "Kashmir", "region"),
    ],
)
def test_a_damaged_file_names_the_key(tmp_path, place, value, told):
    values = json.loads(full().to_json())
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
def test_a_file_that_is_not_an_index_is_refused(tmp_path, text):
    path = tmp_path / "w.json"
    path.write_text(text)
    with pytest.raises(DataError):
        RiskIndex.load(path)
    with pytest.raises(DataError, match="no such file"):
        RiskIndex.load(tmp_path / "none.json")


def test_a_coefficient_that_is_not_finite_is_refused():
    with pytest.raises(ConfigError):
        full(intercept=float("nan"))


def best_cuts(values):
    """Least variance within three classes, by trying every pair of cuts."""
    ordered = np.sort(values)

    def spread(cuts):
        return sum(((part - part.mean()) ** 2).sum() for part in np.split(ordered, cuts))

    first, second = min(combinations(range(1, len(ordered)), 2), key=spread)
    return ordered[first - 1], ordered[second - 1]


@pytest.mark.parametrize("seed", range(4))
def test_jenks_is_the_best_of_all_cuts(seed):
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(centre, 0.05, 12) for centre in (0.2, 0.5, 0.9)])
    breaks = fit_breaks(values)
    assert (breaks.low, breaks.high) == pytest.approx(best_cuts(values))


def test_jenks_of_many_pixels_finds_the_gaps():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(centre, 0.02, 20_000) for centre in (0.2, 0.5, 0.9)])
    breaks = fit_breaks(values.astype(np.float32))
    assert 0.25 < breaks.low < 0.45
    assert 0.55 < breaks.high < 0.85


def test_quantiles_are_thirds():
    breaks = fit_breaks(np.linspace(0, 1, 3001), "quantile")
    assert (breaks.low, breaks.high) == pytest.approx((1 / 3, 2 / 3))


def test_classes_by_hand():
    index = np.array([[0.1, 0.5, 0.50001], [0.6, 0.7, np.nan]], dtype=np.float32)
    classes = ClassBreaks(0.5, 0.6).classify(index)
    assert classes.tolist() == [[1, 1, 2], [2, 3, 0]]
    assert classes.dtype == np.uint8


def test_a_single_precision_index_equal_to_a_break_is_not_above_it():
    # 0.1 in single precision is above 0.1 in double.
    assert ClassBreaks(0.1, 0.2).classify(np.array([0.1], dtype=np.float32)).tolist() == [1]


def test_shares_by_hand():
    region = np.array([0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 0.9, np.nan])
    low, medium, high = class_shares(ClassBreaks(0.4, 0.8), region, np.array([0.1, 0.5, 0.9, 0.9]))
    assert (low.area, medium.area, high.area) == pytest.approx((4 / 7, 2 / 7, 1 / 7))
    assert (low.landslides, medium.landslides, high.landslides) == (0.25, 0.25, 0.5)
    assert high.ratio == pytest.approx(3.5)


def test_success_rate_of_chance_is_the_diagonal_and_of_knowledge_far_above():
    rng = np.random.default_rng(0)
    region = rng.random(50_000)
    area, caught = success_rate(region, rng.random(50_000))
    assert caught == pytest.approx(area, abs=0.02)
    area, caught = success_rate(region, 0.95 + 0.05 * rng.random(1000))
    assert caught[area >= 0.06].min() == 1
    assert (np.diff(caught) >= 0).all()


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.6, 0.5), (np.nan, 0.5), (0.1, np.inf)])
def test_breaks_that_do_not_rise_are_refused(low, high):
    with pytest.raises(ConfigError):
        ClassBreaks(low, high)


def test_an_index_without_three_values_is_refused():
    with pytest.raises(DataError, match="three"):
        fit_breaks(np.array([0.1, 0.2, 0.2, np.nan]))
    with pytest.raises(DataError, match="quantile puts both"):
        fit_breaks(np.concatenate([np.full(50_000, 0.5), [0.1, 0.9]]), "quantile")


def test_without_mapclassify_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mapclassify", None)
    with pytest.raises(ConfigError, match="quantile"):
        fit_breaks(np.arange(10.0))


VALUES = [None, True, -1, 1e308, float("inf"), "nan", "", [], {}, [2, 1], [[1]], 2**70, {"a": 1}]


def key_paths(value, path=()):
    found = [path] if path else []
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += key_paths(value[key], (*path, key))
    return found


def test_damaged_weights_are_refused_with_a_clear_message(tmp_path):
    parameters = IndexParameters({"slope": 0.6, "DEM": -0.4}, {"slope": FeatureRange(0, 60), "DEM": FeatureRange(0, 9)})
    index = RiskIndex(parameters, form="log-additive", classes=ClassBreaks(0.2, 0.4), intervals={"slope": (0.5, 0.7)})
    base = json.loads(index.to_json())
    rng = random.Random(0)
    path = tmp_path / "w.json"
    refused = []
    for _ in range(400):
        values = copy.deepcopy(base)
        *parents, last = rng.choice(key_paths(base))
        part = values
        for key in parents:
            part = part[key]
        if rng.random() < 0.3 and isinstance(part, dict):
            del part[last]
        else:
            part[last] = rng.choice(VALUES)
        text = json.dumps(values)
        cut = rng.randrange(len(text)) if rng.random() < 0.2 else len(text)
        path.write_text(text[:cut])
        try:
            RiskIndex.load(path).to_json()
        except ZooError as error:
            refused.append(error.where)
    assert set(refused) == {str(path)}
    assert len(refused) > 200
