import math

import pytest

from zoo.errors import DataError
from zoo.physics import PAPER_CHANNELS, Band


def test_the_channels_are_the_papers_in_its_order():
    assert [band.name for band in PAPER_CHANNELS] == ["SMI", "NDBI", "NDVI", "NDWI", "slope", "DEM", "LSI"]
    assert [band.unit for band in PAPER_CHANNELS] == ["1", "1", "1", "1", "degree", "m", "1"]


@pytest.mark.parametrize("band", [*PAPER_CHANNELS, Band("B04", "1", nodata=0.0, description="red")])
def test_a_band_survives_a_dictionary(band):
    assert Band.from_dict(band.to_dict()) == band


def test_nan_nodata_survives_a_dictionary_that_json_can_hold():
    written = Band("DEM", "m", nodata=math.nan).to_dict()
    assert written["nodata"] == "nan"
    read = Band.from_dict(written)
    assert read.nodata is not None
    assert math.isnan(read.nodata)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "", "unit": "1"}, "without a name"),
        ({"name": "DEM", "unit": ""}, "without a unit"),
        ({"name": "DEM", "unit": "m", "valid_min": 2.0, "valid_max": 2.0}, "empty valid range"),
        ({"name": "DEM", "unit": "m", "valid_max": math.inf}, "ends at inf"),
        ({"name": "DEM", "unit": "m", "colour": "red"}, "unknown field 'colour'"),
        ({"name": "DEM", "unit": "m", "valid_min": "0"}, "not a number"),
        ({"name": "DEM", "unit": "m", "nodata": True}, "not a number"),
        ({"name": "DEM"}, "not a text"),
    ],
)
def test_a_band_that_makes_no_sense_is_refused(fields, problem):
    with pytest.raises(DataError, match=problem):
        Band.from_dict(fields)
