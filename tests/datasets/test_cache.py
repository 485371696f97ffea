"""The cache of decoded patches: never stale, never half-written, never in the way."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.conftest import PATIENCE_S
from zoo.datasets.base import DataWarning, Patch
from zoo.datasets.cache import _RACY_NS, digest_files, open_cache
from zoo.datasets.stored import PatchSource, StoredPatchDataset
from zoo.errors import DataError
from zoo.physics.bands import Band


class Arrays(StoredPatchDataset):
    """One npy file a patch, the mask made from it."""

    name = "arrays"
    decoded = 0

    def __init__(self, root: Path, *, cache: bool = True, scale: float = 1.0) -> None:
        self._begin(root, "train", None)
        self.files = sorted(root.glob("*.npy"))
        self.bands = (Band("a", "1"), Band("b", "1"))
        self.patches = tuple(Patch(path.stem, "g") for path in self.files)
        self.scale = scale
        self._store([PatchSource((path,)) for path in self.files], {"scale": scale}, cache=cache)

    def decode(self, index):
        type(self).decoded += 1
        image = np.load(self.files[index])
        return (image * self.scale).astype(image.dtype), (image[0] > 0).astype(np.uint8)

    def _verify(self) -> None:
        pass


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    Arrays.decoded = 0


def write(root: Path, count: int = 5, seed: int = 0) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        np.save(root / f"p{index}.npy", rng.normal(size=(2, 8, 9)).astype(np.float32))
    return root


def age(root: Path) -> None:
    """Make the files old enough to be trusted; only waiting changes the time of status."""
    del root
    time.sleep(_RACY_NS / 1e9 + 0.1)


def same(one, other) -> bool:
    pairs = [(one.read(index), other.read(index)) for index in range(len(one))]
    return all(np.array_equal(ours[part], theirs[part], equal_nan=True) for ours, theirs in pairs for part in (0, 1))


def test_patches_are_decoded_once_and_are_what_the_files_hold(tmp_path):
    root = write(tmp_path / "data")
    first = Arrays(root)
    assert Arrays.decoded == 5
    second = Arrays(root)
    assert Arrays.decoded == 5
    assert same(second, Arrays(root, cache=False))
    assert first.fingerprint() == second.fingerprint()
    image, mask = second.read(0)
    image[:] = 0
    mask[:] = 0
    assert second.read(0)[0].any(), "the caller wrote into the cache"


def test_a_changed_file_is_never_served_stale(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.datasets.cache._RACY_NS", 0)
    root = write(tmp_path / "data")
    path = root / "p2.npy"
    before = Arrays(root)
    status = path.stat()
    np.save(path, np.load(path) + 1)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    after = Arrays(root)
    assert np.array_equal(after.read(2)[0], np.load(path))
    assert after.fingerprint() != before.fingerprint()
    caches = list((tmp_path / "cache" / "patches").iterdir())
    assert len(caches) == 1, "the older cache of the same patches is left behind"


def test_the_same_bytes_elsewhere_are_not_decoded_again(tmp_path):
    root = write(tmp_path / "data")
    Arrays(root)
    shutil.copytree(root, tmp_path / "ünïcode copy")
    copied = Arrays(tmp_path / "ünïcode copy")
    assert Arrays.decoded == 5
    assert same(copied, Arrays(root, cache=False))


def test_settings_and_integers_have_caches_of_their_own(tmp_path):
    root = write(tmp_path / "data")
    plain, doubled = Arrays(root), Arrays(root, scale=2.0)
    assert np.allclose(doubled.read(1)[0], 2 * plain.read(1)[0])
    small = tmp_path / "bytes"
    small.mkdir()
    np.save(small / "a.npy", np.arange(2 * 8 * 9, dtype=np.uint8).reshape(2, 8, 9))
    dataset = Arrays(small)
    assert dataset._cache is not None
    assert dataset._cache.images.dtype == np.uint8
    assert dataset.read(0)[0].dtype == np.float32


def test_a_damaged_cache_is_made_again(tmp_path):
    root = write(tmp_path / "data")
    Arrays(root)
    (images,) = (tmp_path / "cache" / "patches").glob("*/images.npy")
    os.truncate(images, images.stat().st_size // 2)
    assert same(Arrays(root), Arrays(root, cache=False))
    assert len(list((tmp_path / "cache" / "patches").glob("*/images.npy"))) == 1


def test_patches_of_other_sizes_are_refused_and_leave_nothing(tmp_path):
    root = write(tmp_path / "data")
    np.save(root / "p3.npy", np.zeros((2, 8, 10), np.float32))
    with pytest.raises(DataError, match="patch 3 is 2 x 8 x 10 float32, that of patch 0 is 2 x 8 x 9 float32"):
        Arrays(root)
    assert list((tmp_path / "cache" / "patches").iterdir()) == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.npy: cannot be read \(no such file"):
        digest_files([tmp_path / "gone.npy"])


def test_a_worker_process_maps_the_files_again(tmp_path):
    root = write(tmp_path / "data", count=50)
    dataset = Arrays(root)
    packed = pickle.dumps(dataset)
    assert len(packed) < dataset._cache.images.nbytes / 2
    assert same(pickle.loads(packed), dataset)


def test_digests_of_old_files_are_cached_and_those_of_recent_files_are_not(tmp_path, monkeypatch):
    root = write(tmp_path / "data", count=2)
    read = []
    monkeypatch.setattr("zoo.datasets.cache._sha256", lambda path: read.append(path) or "0" * 64)
    paths = sorted(root.iterdir())
    with monkeypatch.context() as patient:
        patient.setattr("zoo.datasets.cache._RACY_NS", 3600 * 10**9)
        digest_files(paths)
        digest_files(paths)
    assert len(read) == 4
    age(root)
    digest_files(paths)
    digest_files(paths)
    assert len(read) == 6


SLOW = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from zoo.datasets.cache import open_cache

    def decode(index):
        if index == 30:
            Path(sys.argv[1]).touch()
            time.sleep(600)
        return np.full((2, 64, 64), index, np.float32), np.zeros((64, 64), np.uint8)

    open_cache("k", 40, decode, slot="s")
"""


def test_kill_9_leaves_no_file_that_looks_complete(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SLOW), str(tmp_path / "reached")])
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "reached").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    home = tmp_path / "cache" / "patches"
    assert not (home / "k").exists()
    assert len(list(home.iterdir())) == 1
    cache = open_cache("k", 40, lambda i: (np.full((1, 2, 2), i, np.float32), np.zeros((2, 2), np.uint8)), slot="s")
    assert cache is not None
    assert [float(cache.read(i)[0][0, 0, 0]) for i in range(40)] == list(range(40))
    assert [entry.name for entry in home.iterdir()] == ["k"]


FULL = """
    import resource, sys, warnings
    from pathlib import Path
    import numpy as np
    from zoo.datasets.base import DataWarning
    from zoo.datasets.cache import open_cache

    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        zeros = np.zeros((2, 64, 64), np.float32), np.zeros((64, 64), np.uint8)
        cache = open_cache("k", 40, lambda index: zeros, slot="s")
    assert cache is None
    assert [entry.category for entry in caught] == [DataWarning]
    assert "set ZOO_CACHE to another folder" in str(caught[0].message)
"""


def test_without_room_patches_are_decoded_when_read(tmp_path):
    subprocess.run([sys.executable, "-c", textwrap.dedent(FULL)], check=True)
    assert list((tmp_path / "cache" / "patches").iterdir()) == []


def test_a_cache_folder_that_is_a_file_only_costs_time(tmp_path, monkeypatch):
    (tmp_path / "taken").touch()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "taken"))
    with pytest.warns(DataWarning, match="decoded whenever it is read"):
        dataset = Arrays(write(tmp_path / "data"))
    assert np.array_equal(dataset.read(3)[0], np.load(dataset.files[3]))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    images=hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
)
def test_any_numbers_come_back_bit_for_bit(tmp_path_factory, monkeypatch, images):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
    masks = np.isnan(images[:, 0]).astype(np.uint8)
    cache = open_cache("k", len(images), lambda i: (images[i], masks[i]), slot="s")
    assert cache is not None
    for index in range(len(images)):
        image, mask = cache.read(index)
        assert image.tobytes() == images[index].tobytes()
        assert np.array_equal(mask, masks[index])


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": [[1, 2, 3], "x"]}', "[" * 100_000, "9" * 5000])
def test_damaged_digests_and_descriptions_are_ignored(tmp_path, monkeypatch, content):
    monkeypatch.setattr("zoo.datasets.cache._RACY_NS", 0)
    root = write(tmp_path / "data")
    before = Arrays(root).fingerprint()
    for kept in [*(tmp_path / "cache" / "digests").iterdir(), *(tmp_path / "cache" / "patches").glob("*/about.json")]:
        kept.write_text(content)
    assert Arrays(root).fingerprint() == before
    assert len(Arrays(root, scale=2.0)) == 5


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_damaged_bytes_in_the_cache_never_end_in_a_traceback(tmp_path_factory, monkeypatch, disk, seed):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
    decode = lambda index: (np.full((1, 2, 2), index, np.float32), np.zeros((2, 2), np.uint8))  # noqa: E731
    open_cache("k", 3, decode, slot="s")
    images = Path(os.environ["ZOO_CACHE"]) / "patches" / "k" / "images.npy"
    images.write_bytes(disk.mutate(images.read_bytes(), seed))
    cache = open_cache("k", 3, decode, slot="s")
    assert cache is None or len(cache) == 3
