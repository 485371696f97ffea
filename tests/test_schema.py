"""Typed JSON files: what is written is read back, and what does not fit is refused with the field's name."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zoo.errors import DataError, ResultError
from zoo.schema import Number, decode_json, encode_json, from_plain, read_json, restore_numbers, to_plain, write_json


@dataclass(frozen=True)
class Inner:
    seed: int
    nodata: Number | None = None

    def __post_init__(self) -> None:
        restore_numbers(self, "nodata")


@dataclass(frozen=True)
class Outer:
    counts: NDArray[np.int64]
    inner: Inner
    names: tuple[str, ...] = ()
    figures: dict[str, float | None] = field(default_factory=dict)
    folder: Path | None = None


def test_a_value_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    value = Outer(np.array([1, 2**40]), Inner(3, math.nan), ("a", "ü"), {"dice": None, "iou": 0.5}, Path("x/y"))
    write_json(tmp_path / "value.json", value)
    found = read_json(tmp_path / "value.json", Outer)
    assert found.counts.dtype == np.int64
    assert found.counts.tolist() == [1, 2**40]
    assert found.inner.nodata is not None
    assert math.isnan(found.inner.nodata)
    assert (found.names, found.figures, found.folder) == (value.names, value.figures, value.folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"counts": [1], "inner": {"seed": "7"}}', "field 'inner.seed': expected int, got str"),
        ('{"counts": [1]}', "missing required field inner"),
        ('{"counts": [1.5], "inner": {"seed": 7}}', "field 'counts': expected array of int64, got array of float64"),
        ('{"counts": 5, "inner": {"seed": 7}}', "field 'counts': expected array, got int"),
        ('{"counts": [[1], [1, 2]], "inner": {"seed": 7}}', "rows of an array differ in length"),
        ('{"counts": [1], "inner": {"seed": 7, "nodata": "none"}}', "nodata is 'none', expected a number"),
        ('{"counts": [1], "inner": {"seed": 7}, "names": [3]}', r"field 'names\[0\]': expected str, got int"),
        ('{"counts": [1, 2', "not valid JSON; was the file truncated"),
        ("[" * 100_000, "not a valid file"),
        ('{"counts": [1' + "0" * 5000 + '], "inner": {"seed": 7}}', "not a valid file"),
        ('{"counts": [1], "inner": {"seed": NaN}}', "not valid JSON"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(ResultError, match=message):
        decode_json(text, Outer, where="file.json")


def test_the_caller_chooses_the_error_and_a_missing_file_is_not_damaged(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes(b'{"seed": "\xff"}')
    with pytest.raises(DataError, match="not valid JSON"):
        read_json(tmp_path / "latin.json", dict[str, str], error=DataError)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent.json", Outer)


def test_plain_values_of_other_formats_are_checked_the_same_way() -> None:
    assert from_plain({"seed": 1}, Inner) == Inner(1)
    with pytest.raises(ResultError, match="expected int, got float"):
        from_plain({"seed": 1.5}, Inner)


@given(st.floats() | st.none())
def test_every_float_survives_the_round_trip(value: float | None) -> None:
    found = decode_json(encode_json(Inner(1, value)), Inner).nodata
    assert found == value or (value is not None and found is not None and math.isnan(value) and math.isnan(found))
    assert to_plain(Inner(1, value))["seed"] == 1


def test_the_key_of_a_damaged_entry_is_named() -> None:
    text = '{"ranges": {"slope": [1, 2], "DEM.1": [1, "x"]}}'
    with pytest.raises(ResultError, match=re.escape("field \"ranges['DEM.1'][1]\": expected int, got str")):
        decode_json(text, _Ranges)
    with pytest.raises(ResultError, match=re.escape("ranges['DEM.1'][1]")):
        from_plain({"ranges": {"slope": [1, 2], "DEM.1": [1, "x"]}}, _Ranges)
    with pytest.raises(ResultError, match=re.escape("field \"batches['16']\": expected float, got str")):
        decode_json('{"ranges": {}, "batches": {"1": 2.5, "16": "x"}}', _Ranges)
    with pytest.raises(ResultError, match=re.escape("field 'batches': a key: expected int, got str")):
        decode_json('{"ranges": {}, "batches": {"one": 2.5}}', _Ranges)


@dataclass(frozen=True)
class _Ranges:
    ranges: dict[str, list[int]]
    batches: dict[int, float] = field(default_factory=dict)
