"""HDF5 files of unknown origin: other files, absurd sizes, damaged bytes."""

from __future__ import annotations

import os
import time
import zlib
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.datasets.hdf5 import MAX_BYTES, find_array, open_hdf5, read_array
from zoo.errors import DataError, ZooError


def write(path: Path, **options) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("img", data=np.arange(12.0).reshape(3, 4), **options)
    return path


def test_an_array_is_read(tmp_path):
    path = write(tmp_path / "a.h5", compression="gzip")
    assert np.array_equal(read_array(path, "img", (3, 4)), np.arange(12.0).reshape(3, 4))
    with h5py.File(path, "r+") as file:
        file["deep/er/one"] = np.ones((2, 2))
        file["soft"] = h5py.SoftLink("/deep/er/one")
        file["dangling"] = h5py.SoftLink("/nowhere")
    assert read_array(path, "deep/er/one", (2, 2)).sum() == 4
    assert read_array(path, "soft", (2, 2)).sum() == 4
    for key, words in (
        ("none", "has no array 'none'. It holds dangling, deep, img, soft"),
        ("dangling", "has no array 'dangling'"),
        ("img/below", "has no array 'img/below'"),
        ("deep", "'deep' is a group"),
    ):
        with pytest.raises(DataError, match=words):
            read_array(path, key, (2, 2))
    with pytest.raises(DataError, match="array 'img' is 3 x 4 instead of 4 x 3"):
        read_array(path, "img", (4, 3))


def test_a_missing_file_a_folder_and_a_pipe(tmp_path):
    (tmp_path / "folder.h5").mkdir()
    os.mkfifo(tmp_path / "pipe.h5")
    for name in ("none.h5", "folder.h5", "pipe.h5"):
        with pytest.raises(DataError, match="the file is missing"):
            read_array(tmp_path / name, "img", (1,))


@pytest.mark.parametrize("kind", ["link", "group link", "virtual", "external bytes"])
def test_content_from_another_file_is_refused(tmp_path, kind):
    secret = write(tmp_path / "secret.h5")
    raw = tmp_path / "secret.bin"
    raw.write_bytes(bytes(96))
    key = "img"
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if kind == "link":
            file["img"] = h5py.ExternalLink(str(secret), "/img")
        elif kind == "group link":
            file["group"] = h5py.ExternalLink(str(secret), "/")
            key = "group/img"
        elif kind == "virtual":
            layout = h5py.VirtualLayout((3, 4), "f8")
            layout[...] = h5py.VirtualSource(str(secret), "img", (3, 4))
            file.create_virtual_dataset("img", layout)
        else:
            file.create_dataset("img", (3, 4), "f8", external=[(str(raw), 0, 96)])
    with pytest.raises(DataError, match="points to another file, which is not followed") as caught:
        read_array(tmp_path / "a.h5", key, (3, 4))
    assert caught.value.where == str(tmp_path / "a.h5")


def test_absurd_sizes_are_refused_before_anything_is_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("wide", (2**40,), "f8", chunks=(1024,))
        file.create_dataset("deep", (4, 2**20, 2**20), "u1", chunks=(1, 64, 64))
        file.create_dataset("chunk", (3, 4), "f8", maxshape=(None, None), chunks=(2**14, 2**14 + 1))
        file.create_dataset("words", data=np.full((3, 4), b"x" * 1000))
        file.create_dataset("any length", (3, 4), h5py.string_dtype())
        file.create_dataset("parts", (3, 4), np.dtype([("a", "f8"), ("b", "f8")]))
        file.create_dataset("empty", dtype="f8", shape=None)
    assert (tmp_path / "a.h5").stat().st_size < 100_000
    start = time.monotonic()
    with open_hdf5(tmp_path / "a.h5") as file:
        for key in ("wide", "deep", "chunk"):
            with pytest.raises(DataError, match=r"claims [\d.e+]+ GiB, too much for a patch"):
                find_array(file, key)
        for key in ("words", "any length", "parts"):
            with pytest.raises(DataError, match=r"values, not real numbers"):
                find_array(file, key)
    with pytest.raises(DataError, match="is a single value instead of 3 x 4"):
        read_array(tmp_path / "a.h5", "empty", (3, 4))
    assert time.monotonic() - start < 5
    assert MAX_BYTES < 4 * 2**30


def test_chunks_that_decompress_to_more_than_they_claim_are_refused(tmp_path):
    shape = (30, 40)  # HDF5 1.14 cannot state a size of 3 MiB for a chunk of less than 256 bytes
    bomb = zlib.compress(bytes(4 << 20), 9) + os.urandom(3 << 20)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        array = file.create_dataset("img", shape, "f8", chunks=shape, compression="gzip")
        array.id.write_direct_chunk((0, 0), bomb)
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_chunk(shape)
        for _ in range(2):
            layout.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (9,))
        h5py.h5d.create(file.id, b"twice", h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple(shape), layout)
    for key in ("img", "twice"):
        with pytest.raises(DataError, match="is packed like a decompression bomb"):
            read_array(tmp_path / "a.h5", key, shape)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_damaged_bytes_are_read_or_refused_with_a_clear_message(tmp_path_factory, disk, seed):
    folder = tmp_path_factory.getbasetemp() / "hdf5"
    folder.mkdir(exist_ok=True)
    source = folder / "sound.h5"
    if not source.exists():
        write(source, compression="gzip", chunks=(2, 2))
    damaged = folder / "damaged.h5"
    damaged.write_bytes(disk.mutate(source.read_bytes(), seed))
    with suppress(ZooError):
        assert read_array(damaged, "img", (3, 4)).shape == (3, 4)
