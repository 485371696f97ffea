import math

import pytest

from zoo.errors import DataError
from zoo.physics import PAPER_CHANNELS, Band
from zoo.physics.bands import records_light
from zoo.schema import decode_json, encode_json, to_plain


def test_the_channels_are_the_papers_in_its_order():
    assert [band.name for band in PAPER_CHANNELS] == ["SMI", "NDBI", "NDVI", "NDWI", "slope", "DEM", "LSI"]
    assert [band.unit for band in PAPER_CHANNELS] == ["1", "1", "1", "1", "degree", "m", "1"]


@pytest.mark.parametrize("band", [*PAPER_CHANNELS, Band("B04", "1", nodata=0.0, description="red")])
def test_a_band_survives_a_dictionary(band):
    assert Band.from_dict(to_plain(band)) == band


def test_nan_nodata_survives_a_dictionary_that_json_can_hold():
    written = to_plain(Band("DEM", "m", nodata=math.nan))
    assert written["nodata"] == "nan"
    read = Band.from_dict(written)
    assert read.nodata is not None
    assert math.isnan(read.nodata)


def test_a_band_is_read_from_json():
    read = decode_json('{"name": "DEM", "unit": "m", "nodata": "nan", "valid_max": 9000}', Band)
    assert math.isnan(read.nodata)
    assert read.valid_max == 9000.0
    assert decode_json(encode_json(PAPER_CHANNELS), tuple[Band, ...]) == PAPER_CHANNELS


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "", "unit": "1"}, "has no name"),
        ({"name": "DEM", "unit": ""}, "has no unit"),
        ({"name": "DEM", "unit": "m", "valid_min": 2.0, "valid_max": 2.0}, "valid range .* is empty"),
        ({"name": "DEM", "unit": "m", "valid_max": math.inf}, "ends at inf"),
        ({"name": "DEM", "unit": "m", "colour": "red"}, "unknown field 'colour'"),
        ({"name": "DEM", "unit": "m", "valid_min": "0"}, "'valid_min': expected `?float"),
        ({"name": "DEM", "unit": "m", "nodata": True}, "'nodata': expected"),
        ({"name": "DEM"}, "missing required field"),
    ],
)
def test_a_band_that_makes_no_sense_is_refused(fields, problem):
    with pytest.raises(DataError, match=problem):
        Band.from_dict(fields)


def test_light_changes_grey_values_and_reflectance_alone():
    lit = [Band("red", "unknown"), Band("B4", "1"), Band("band_1", "DN")]
    others = [Band("slope", "degree"), Band("elevation", "29.6 m"), Band("vv", "dB"), Band("SCL", "class")]
    assert all(map(records_light, lit))
    assert not any(map(records_light, [*others, *PAPER_CHANNELS]))
