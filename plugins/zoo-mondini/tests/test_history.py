"""What is taken for a rainfall history, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo_mondini.history import rain_columns, split_table, unsupported_reason

from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError


def table(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"P_t-1": [1.0, 2.0], "P_t-2": [3.0, 4.0], "slope": [10.0, 20.0]} | columns)


@given(st.integers(1, 40), st.integers(0, 1), st.randoms())
def test_columns_come_latest_first_whatever_their_order(count: int, first: int, random: object) -> None:
    names = [f"P_t-{lag}" for lag in range(first, first + count)]
    shuffled = [*names, "slope", "P_total", "t-1"]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert rain_columns(shuffled) == names


def test_a_table_and_an_array_give_the_same() -> None:
    rain, slope = split_table(table(ndvi=[0.1, 0.2])[["slope", "P_t-2", "ndvi", "P_t-1"]], None, "slope")
    assert rain.tolist() == [[1, 3], [2, 4]]
    assert slope is not None
    assert slope.tolist() == [10, 20]
    again = split_table(np.array([[1, 3, 10], [2, 4, 20]]), None, -1)
    assert np.array_equal(again[0], rain)
    assert np.array_equal(again[1], slope)  # type: ignore[arg-type]
    assert split_table(np.array([[1, 3], [2, 4]]), None, None)[1] is None


def test_dry_where_missing_only_if_asked() -> None:
    gaps = table(**{"P_t-2": [np.nan, 4.0]})
    with pytest.raises(DataError, match=r"column 'P_t-2': nan mm of rain in row 1 \(1 such values\).*missing='dry'"):
        split_table(gaps, None, "slope")
    assert split_table(gaps, None, "slope", "dry")[0].tolist() == [[1, 0], [2, 4]]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (table().drop(columns=["P_t-1", "P_t-2"]), "no rainfall history"),
        (table().drop(columns="P_t-1"), "step 1 is not among"),
        (table(**{"P_t-5": [0.0, 0.0]}), "ends at step 5, but step 3 is not among the columns .2 left out"),
        (table(**{"rain_t-2": [0.0, 0.0]}), "are the same hour"),
        (table(**{"P_t-1": [-0.1, 0.0]}), "-0.1 mm of rain in row 1"),
        (table(**{"P_t-1": [0.0, np.inf]}), "inf mm of rain in row 2"),
        (table(**{"P_t-1": [0.0, 2500.0]}), "2500 mm of rain in row 2"),
        (table(slope=[10.0, 91.0]), "91 degrees of slope in row 2"),
        (table(slope=[np.nan, 9.0]), "nan degrees of slope in row 1"),
        (table(slope=[10.0, "steep"]), "'steep' in row 2 is not a number"),
        (table(slope=["1e3084000042", "steep"]), "'steep' in row 2 is not a number"),
        (table().drop(columns="slope"), "unknown column 'slope'"),
        (table().iloc[:0], "no rows"),
    ],
)
def test_tables_that_cannot_be_used_say_why(bad: pd.DataFrame, words: str) -> None:
    with pytest.raises(ZooError, match=words):
        split_table(bad, None, "slope")
    assert unsupported_reason(bad) is not None
    assert "\n" not in str(unsupported_reason(bad))


def test_a_good_table_has_no_reason() -> None:
    assert unsupported_reason(table()) is None
    assert unsupported_reason(table().drop(columns="slope"), slope=None) is None


@pytest.mark.parametrize(
    ("array", "rain", "slope", "kind"),
    [
        (np.zeros((2, 3)), None, "slope", ConfigError),
        (np.zeros((2, 3)), ["a"], -1, ConfigError),
        (np.zeros((2, 3)), None, 3, ConfigError),
        (np.zeros((2, 1)), None, 0, DataError),
        (np.zeros(3), None, None, DataError),
        (np.array([["a", "b"]]), None, None, DataError),
        (table(), [], "slope", ConfigError),
        (table(), None, -1, ConfigError),
        (table(), ["P_t-7"], "slope", UnknownNameError),
    ],
)
def test_arguments_that_do_not_fit_the_table(array: object, rain: object, slope: object, kind: type[ZooError]) -> None:
    with pytest.raises(kind):
        split_table(array, rain, slope)  # type: ignore[arg-type]


def test_an_unknown_way_with_gaps() -> None:
    with pytest.raises(UnknownNameError, match="dry"):
        split_table(table(), None, "slope", "zero")  # type: ignore[arg-type]
