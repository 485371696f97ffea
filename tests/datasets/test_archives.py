"""Archives, honest and hostile."""

from __future__ import annotations

import io
import stat
import struct
import sys
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.datasets.archives import unpack
from zoo.datasets.download import missing_dataset_error
from zoo.errors import DataError, ZooError

module = sys.modules[unpack.__module__]

FILES = {"top/a.txt": b"one", "top/sub/b.bin": bytes(range(256)) * 300, "top/empty": b""}


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def nothing_written(folder: Path, *kept: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_honest_archives(tmp_path, kind):
    seen = []
    archive = tmp_path / "archive ü.download"
    archive = write_zip(archive, FILES) if kind == "zip" else write_tar(archive, FILES, kind)
    into = tmp_path / "new" / "folder"
    assert unpack(archive, into, progress=lambda *counts: seen.append(counts)) == into
    assert read(into) == FILES
    total = sum(map(len, FILES.values()))
    assert seen[-1] == (total, total)
    assert stat.S_IMODE(into.stat().st_mode) & 0o055 == stat.S_IMODE((tmp_path / "new").stat().st_mode) & 0o055


@pytest.mark.parametrize(
    ("strip", "expected"),
    [(False, "top/a.txt"), (True, "a.txt"), ("top", "a.txt"), ("other", "top/a.txt")],
)
def test_the_top_folder(tmp_path, strip, expected):
    archive = write_zip(tmp_path / "a.zip", {**FILES, "__MACOSX/top/._a.txt": b"junk"})
    assert expected in read(unpack(archive, tmp_path / "out", strip_top=strip))
    assert not list((tmp_path / "out").rglob("*MACOSX*"))


def test_several_tops_are_not_stripped(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"img/a": b"1", "mask/a": b"2"})
    assert set(read(unpack(archive, tmp_path / "out", strip_top=True))) == {"img/a", "mask/a"}


def test_existing_files_are_never_overwritten(tmp_path):
    archive = write_zip(tmp_path / "a.zip", FILES)
    (tmp_path / "out").mkdir()
    unpack(archive, tmp_path / "out")
    with pytest.raises(DataError, match="already exists and is not empty"):
        unpack(archive, tmp_path / "out")


BAD_NAMES = ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:evil", "C:\\evil", "a\\..\\evil", ".."]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_names_that_lead_outside(tmp_path, name, write):
    (tmp_path / "work").mkdir()
    archive = write(tmp_path / "work" / "a", {"good": b"1", name: b"2"})
    with pytest.raises(DataError, match="would be written outside the folder"):
        unpack(archive, tmp_path / "work" / "out")
    nothing_written(tmp_path / "work", "a")
    nothing_written(tmp_path, "work")


@settings(max_examples=60)
@given(name=st.text(alphabet="ab./\\:~ -", min_size=1, max_size=12))
def test_no_name_ever_writes_outside(tmp_path_factory, name):
    base = tmp_path_factory.mktemp("names")
    archive = write_tar(base / "a.tar", {name: b"x"}, "w")
    try:
        unpack(archive, base / "in" / "out")
    except DataError:
        assert not (base / "in" / "out").exists()
    outside = [path for path in base.rglob("*") if path.is_file() and base / "in" / "out" not in path.parents]
    assert outside == [archive]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("thing")
        info.type, info.linkname = kind, "../../outside"
        archive.addfile(info)
    with pytest.raises(DataError, match="'thing' is a link or a device"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    nothing_written(tmp_path, "a.tar")


def test_a_link_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("thing")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("thing/file", "x")
    with pytest.raises(DataError, match="'thing' is a link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_bomb_is_refused_by_what_it_declares(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"zeros": bytes(80 << 20)})
    with pytest.raises(DataError, match="more than 200 times as many: an archive bomb"):
        unpack(archive, tmp_path / "out")
    nothing_written(tmp_path, "a.zip")
    assert unpack(archive, tmp_path / "out", max_ratio=1e6).is_dir()


def test_a_bomb_in_a_tar(tmp_path):
    archive = write_tar(tmp_path / "a.tar.gz", {"zeros": bytes(80 << 20)})
    with pytest.raises(DataError, match="archive bomb"):
        unpack(archive, tmp_path / "out")
    nothing_written(tmp_path, "a.tar.gz")


def test_many_small_bombs(tmp_path):
    archive = write_tar(tmp_path / "a.tar.gz", {f"zeros{index}": bytes(1 << 20) for index in range(70)})
    with pytest.raises(DataError, match="archive bomb"):
        unpack(archive, tmp_path / "out")


def test_a_bomb_with_a_false_size_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"zeros": bytes(1 << 20)})
    raw = archive.read_bytes()
    archive.write_bytes(raw.replace(struct.pack("<I", 1 << 20), struct.pack("<I", 10)))
    with pytest.raises(DataError, match="damaged, incomplete"):
        unpack(archive, tmp_path / "out")
    nothing_written(tmp_path, "a.zip")


def test_bytes_are_counted_while_they_are_written(tmp_path):
    # No format that Python reads gives more than it declares; if one ever does, the count stops it.
    bounds = module._Limits(tmp_path / "a", 100, 5 << 20, 200.0, 10, 1 << 40)
    member = module._Member(PurePosixPath("a"), 0, lambda: io.BytesIO(bytes(50 << 20)))
    with pytest.raises(DataError, match="more than the expected 5242880 bytes"):
        module._write(iter([member]), None, tmp_path, bounds, None)
    assert (tmp_path / "a").stat().st_size <= 5 << 20


def test_more_than_expected(tmp_path):
    archive = write_tar(tmp_path / "a.tar", FILES, "w")
    with pytest.raises(DataError, match="more than the expected 100 bytes"):
        unpack(archive, tmp_path / "out", max_bytes=100)
    with pytest.raises(DataError, match="more than 2 files"):
        unpack(archive, tmp_path / "out", max_members=2)
    with pytest.raises(DataError, match="more than 2 files"):
        unpack(write_zip(tmp_path / "a.zip", FILES), tmp_path / "out", max_members=2)
    nothing_written(tmp_path, "a.tar", "a.zip")


def test_names_that_collide(tmp_path):
    archive = write_tar(tmp_path / "a.tar", {"a": b"1", "A": b"2"}, "w")
    with pytest.raises(DataError, match="holds 'A' twice"):
        unpack(archive, tmp_path / "out")
    archive = write_tar(tmp_path / "b.tar", {"a": b"1", "a/b": b"2"}, "w")
    with pytest.raises(DataError, match="'a/b' as a file and as a folder"):
        unpack(archive, tmp_path / "out")


def noise(size: int) -> bytes:
    return np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8).tobytes()


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("keep", [0, 5, 40_000])
def test_truncated_archives(tmp_path, kind, keep):
    archive = tmp_path / "a"
    files = {"a": noise(60_000), "b": noise(60_000)}
    _ = write_zip(archive, files) if kind == "zip" else write_tar(archive, files, kind)
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(DataError, match="damaged, incomplete") as caught:
        unpack(archive, tmp_path / "out")
    assert "\n" not in str(caught.value)
    nothing_written(tmp_path, "a")


@pytest.mark.parametrize("kind", ["zip", "w:gz", "w:bz2", "w:xz"])
def test_a_flipped_bit(tmp_path, kind):
    archive = tmp_path / "a"
    _ = write_zip(archive, {"a": noise(60_000)}) if kind == "zip" else write_tar(archive, {"a": noise(60_000)}, kind)
    raw = bytearray(archive.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    archive.write_bytes(raw)
    with pytest.raises(DataError, match="damaged, incomplete"):
        unpack(archive, tmp_path / "out")
    nothing_written(tmp_path, "a")


def test_an_encrypted_member(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"a": b"secret"})
    raw = bytearray(archive.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + place] |= 1
    archive.write_bytes(raw)
    with pytest.raises(DataError, match="'a' is encrypted"):
        unpack(archive, tmp_path / "out")


def test_missing_and_unwritable(tmp_path):
    with pytest.raises(DataError, match="no such archive"):
        unpack(tmp_path / "none.zip", tmp_path / "out")
    archive = write_zip(tmp_path / "a.zip", FILES)
    with pytest.raises(ZooError, match="cannot write here"):
        unpack(archive, archive / "out")
    with pytest.raises(DataError, match="no such archive"):
        unpack(tmp_path, tmp_path / "out")


def test_a_full_disk_is_reported_before_anything_is_written(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "a.zip", FILES)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match="the disk is too full to unpack this"):
        unpack(archive, tmp_path / "out")
    nothing_written(tmp_path, "a.zip")


def test_control_c_leaves_nothing(tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    archive = write_zip(tmp_path / "a.zip", FILES)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "out", progress=stop)
    nothing_written(tmp_path, "a.zip")


def test_missing_files_are_named_with_their_source_and_folder(tmp_path):
    how = "unpack it here"
    error = missing_dataset_error("bijie", tmp_path, expected="landslide", source="https://x.org", advice=how)
    assert (
        str(error)
        == f"{tmp_path}: bijie was not found: this folder has no landslide. Get it from https://x.org, then {how}"
    )
    error = missing_dataset_error("bijie", tmp_path / "none", expected="landslide", source="https://x.org", advice=how)
    assert "this folder does not exist, so there is no landslide" in str(error)


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(["zip", "w", "w:gz", "w:bz2", "w:xz"]), seed=st.integers(0, 2**32))
def test_damaged_archives_are_unpacked_or_refused_with_a_clear_message(tmp_path_factory, disk, kind, seed):
    folder = tmp_path_factory.mktemp("damaged")
    archive = folder / "a"
    files = {"top/a.txt": b"one", "top/b.bin": bytes(range(256)), "top/ü" * 30: b"long name"}
    _ = write_zip(archive, files) if kind == "zip" else write_tar(archive, files, kind)
    archive.write_bytes(disk.mutate(archive.read_bytes(), seed))
    with suppress(ZooError):
        unpack(archive, folder / "out")
    assert {path.name for path in folder.iterdir()} <= {"a", "out"}
