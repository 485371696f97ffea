"""NPY files of unknown origin: every plain layout, senseless headers, damaged bytes, many threads."""

from __future__ import annotations

import io
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zoo.datasets.npy import map_npy, read_npy, read_npy_header
from zoo.errors import DataError

PLAIN = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
)


def with_header(text: str, body: bytes = bytes(64), version: int = 2) -> bytes:
    header = text.encode("latin-1")
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(4 if version > 1 else 2, "little") + header + body


@settings(max_examples=100, deadline=None)
@given(
    values=hnp.arrays(PLAIN, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)),
    fortran=st.booleans(),
    version=st.sampled_from([(1, 0), (2, 0), (3, 0)]),
)
def test_what_numpy_writes_is_read_bit_for_bit(tmp_path_factory, values, fortran, version):
    path = tmp_path_factory.getbasetemp() / "plain.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.array(values, order="F" if fortran else "C"), version)
    got = read_npy(path)
    assert got.dtype == values.dtype
    assert got.shape == values.shape
    assert got.tobytes() == values.tobytes()


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4)}",
        '{"shape":(4,4),"fortran_order":False,"descr":"<f4"}',
        "{'descr': 'float32', 'fortran_order': False, 'shape': (4, 4), }",
    ],
)
def test_headers_of_other_writers(tmp_path, text):
    path = tmp_path / "a.npy"
    path.write_bytes(with_header(text))
    if "float32" in text:
        with pytest.raises(DataError, match="contains other values"):
            read_npy(path)
    else:
        assert read_npy(path).shape == (4, 4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is truncated or not an NPY file"),
        (b"\x93NUMPY", "its header is damaged"),
        (b"<html>sign in</html>", "is truncated or not an NPY file"),
        (b"PK\x03\x04", "is an NPZ archive"),
        (pickle.dumps([1]), "contains Python objects"),
        (with_header("{'descr': '|O', 'fortran_order': False, 'shape': (4,), }"), "contains Python objects"),
        (with_header("{'descr': '<U4', 'fortran_order': False, 'shape': (4,), }"), "contains <U4 values, not real"),
        (with_header("{'descr': '<c8', 'fortran_order': False, 'shape': (4,), }"), "contains complex64 values"),
        (with_header("{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (4,), }"), "values, not real numbers"),
        (with_header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,), }"), "contains other values"),
        (with_header("{'descr': '<f3', 'fortran_order': False, 'shape': (4,), }"), "contains other values"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (17,), }"), "is truncated: .* for 17"),
        (with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, 4), }}"), "is truncated: it has"),
        (with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**30}, 4), }}"), "its header is damaged"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-5,), }"), "its header is damaged"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (5.0,), }"), "its header is damaged"),
        (with_header("{'descr': '<f4', 'fortran_order': 1, 'shape': (5,), }"), "its header is damaged"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': ((((", b""), "its header is damaged"),
        (with_header("(" * 9_000), "its header is damaged"),
        (with_header("{'shape': (" + "1" * 9_000), "its header is damaged"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4 4), }"), "its header is damaged"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,,4), }"), "its header is damaged"),
        (with_header("{" + "1 " * 20_000 + "}"), "its header is damaged"),
        (with_header("{'shape': (" + "1," * 4_000), "its header is damaged"),
    ],
)
def test_files_that_make_no_sense(tmp_path, content, words):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_npy(path, hint="Ask for another one")
    assert caught.value.where == str(path)


def test_missing_files_folders_and_pipes(tmp_path):
    (tmp_path / "folder.npy").mkdir()
    os.mkfifo(tmp_path / "pipe.npy")
    for name in ("none.npy", "folder.npy", "pipe.npy"):
        with pytest.raises(DataError, match="the file is missing"):
            read_npy(tmp_path / name)


def test_a_file_that_shrinks(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    header = read_npy_header(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros(2))
    with pytest.raises(DataError, match="The file changed while it was in use"):
        map_npy(tmp_path / "a.npy", header)


def test_many_threads_read_at_once(tmp_path):
    """``numpy.load`` fails here at random in CPython 3.11: its parser counts the recursion of all threads together."""
    for index in range(8):
        np.save(tmp_path / f"{index}.npy", np.full((2, 2), index))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda number: read_npy(tmp_path / f"{number % 8}.npy")[0, 0], range(4000)))
    assert read == [number % 8 for number in range(4000)]


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_damaged_bytes_are_read_or_refused_with_a_clear_message(tmp_path_factory, disk, seed):
    sound = io.BytesIO()
    np.save(sound, np.arange(60.0).reshape(3, 4, 5))
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    path.write_bytes(disk.mutate(sound.getvalue(), seed))
    with suppress(DataError):
        assert read_npy(path).size <= path.stat().st_size
