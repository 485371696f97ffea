"""Test that a file is complete or absent after any failure while it is written."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.api.doctor import doctor
from zoo.errors import ConfigError, ZooError
from zoo.files import (
    atomic_path,
    cache_folder,
    check_could_write,
    check_output,
    check_outputs,
    check_writable_folder,
    config_folder,
    file_name,
    move_into_place,
    printable,
    remove_abandoned,
    working_folder,
    write_json_atomic,
    write_text_atomic,
)
from zoo.registry.plugins import disabled_plugins


def test_an_output_is_no_input_and_no_source_of_one(tmp_path: Path) -> None:
    for name in ("a.tif", "b & c.tif", "d.tif"):
        (tmp_path / name).write_bytes(b"")
    band = "<SourceFilename relativeToVRT='1'>{}</SourceFilename>"
    (tmp_path / "inner.vrt").write_text(f"<VRTDataset>{band.format('b &amp; c.tif')}</VRTDataset>")
    (tmp_path / "outer.vrt").write_text(
        f"<VRTDataset>{band.format('inner.vrt')}<SourceFilename>{tmp_path / 'a.tif'}</SourceFilename></VRTDataset>"
    )
    (tmp_path / "link.tif").symlink_to(tmp_path / "a.tif")
    for name in ("outer.vrt", "inner.vrt", "a.tif", "b & c.tif", "link.tif"):
        with pytest.raises(ConfigError, match="is one of the inputs"):
            check_outputs([None, tmp_path / name], [str(tmp_path / "outer.vrt")], overwrite=True)
    check_outputs([tmp_path / "d.tif", tmp_path / "new.tif"], [tmp_path / "outer.vrt"], overwrite=True)
    with pytest.raises(ConfigError, match="two outputs have the same name"):
        check_outputs([tmp_path / "x.tif", tmp_path / "y" / ".." / "x.tif"], [], overwrite=True)


def test_text_round_trip_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "Übung" / "a.txt"
    write_text_atomic(path, "π")
    assert path.read_text(encoding="utf-8") == "π"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_new_files_get_the_permissions_of_open(tmp_path: Path) -> None:
    write_text_atomic(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text_atomic(path, "old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_gives_a_clear_message(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="no space left"), atomic_path(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_a_really_full_device_gives_a_clear_message() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(ZooError, match="cannot write here"):
        write_text_atomic("/dev/full/a.txt", "x")


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    """Root replaced /dev/null with a file, for every process on the machine."""
    pipe, finished = tmp_path / "pipe", tmp_path / "finished"
    os.mkfifo(pipe)
    finished.write_text("x")
    for write in (
        lambda: write_text_atomic(pipe, "x"),
        lambda: move_into_place(finished, pipe),
        lambda: check_output(pipe, [], overwrite=True),
    ):
        with pytest.raises(ZooError, match="is a device or a pipe"):
            write()
        assert pipe.is_fifo()


def test_a_file_in_place_of_a_folder_gives_a_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="cannot write here"):
        check_writable_folder(tmp_path / "file" / "out")


def test_proving_a_folder_leaves_none_behind(tmp_path: Path) -> None:
    check_could_write(tmp_path / "new" / "deeper")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    check_could_write(tmp_path / "mine")
    assert (tmp_path / "mine").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="cannot write"):
        check_could_write(tmp_path / "file" / "new")


def test_json_refuses_what_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomic(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_kill_in_the_middle_of_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json_atomic(path, {"state": "old"})
    script = f"""
import time
from zoo.files import atomic_path
with atomic_path({str(path)!r}) as temporary:
    temporary.write_text("half of a")
    print("written", flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads(path.read_text()) == {"state": "old"}
    [left] = [one for one in tmp_path.iterdir() if one != path]
    write_json_atomic(path, {"state": "new"})
    assert list(tmp_path.iterdir()) == [path]
    assert not left.exists()


def test_two_writers_of_one_path_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert first != second
        remove_abandoned(tmp_path)
        assert first.exists()
        assert second.exists()
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_temporary_file_that_was_replaced_is_not_published(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with atomic_path(path) as temporary:
            (tmp_path / "other").write_text("new")
            (tmp_path / "other").replace(temporary)  # as safetensors.save_file does; nobody holds the lock any more

    with pytest.raises(ZooError, match="replaced its temporary file"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_a_temporary_name_that_is_a_link_is_not_written_through(tmp_path: Path, link: str) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    place = tmp_path / ".a.part.txt"
    place.hardlink_to(tmp_path / "mine.txt") if link == "hard" else place.symlink_to(tmp_path / "mine.txt")
    write_text_atomic(tmp_path / "a.txt", "x")
    assert (tmp_path / "mine.txt").read_text() == "precious"
    assert (tmp_path / "a.txt").read_text() == "x"


def test_a_working_folder_is_empty_and_is_taken_over_after_a_kill(tmp_path: Path) -> None:
    left = tmp_path / ".map.tif.part"
    (left / "deeper").mkdir(parents=True)
    (left / "work.tif").write_text("half")
    (left / "kept").write_text("old")
    with working_folder(tmp_path / "map.tif", keep="kept") as folder, working_folder(tmp_path / "map.tif") as other:
        assert folder == left
        assert [one.name for one in folder.iterdir()] == ["kept"]
        assert list(other.iterdir()) == []
        assert other != folder
        remove_abandoned(tmp_path)
        assert folder.is_dir()
        assert other.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".a.part.json").write_text("half")
    (tmp_path / ".b.part-x1y2").mkdir()
    (tmp_path / "c.json").write_text("whole")
    remove_abandoned(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["c.json"]


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    assert cache_folder("x") == tmp_path / "x"
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_folder("x") == tmp_path / "c" / "landslide-zoo" / "x"


def test_a_user_without_a_home_folder_has_the_root_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command stopped with a traceback for a user that the machine does not know, as in a container."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("ZOO_CACHE", "ZOO_CONFIG", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder("weights") == Path("/.cache/landslide-zoo/weights")
    assert config_folder() == Path("/.config/landslide-zoo")


def test_the_home_folder_of_another_user_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the home folder of root, every command stopped with a traceback."""
    stat = Path.stat

    def denied(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.is_relative_to(tmp_path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", denied)
    monkeypatch.setenv("ZOO_CONFIG", str(tmp_path))
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    assert disabled_plugins() == frozenset()
    with pytest.raises(ConfigError, match=r"cannot be read \(permission denied\).*in ZOO_CACHE"):
        cache_folder("weights")
    (finding,) = (one for one in doctor() if one.topic == "caches")
    assert (finding.status, finding.advice) == ("problem", "Name a folder of yours in ZOO_CACHE")


def test_any_text_makes_a_file_name() -> None:
    assert file_name("Wenchuan: 汶川 / 2008.05+12") == "Wenchuan-汶川-2008.05-12"
    assert file_name("a+b c]^d", also="+") == "a+b-c-d"


def test_control_characters_never_reach_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from zoo.cli import run
    from zoo.cli.console import note, warn

    assert printable("a\x1b[31mb\nc\td\u202ee\ud800") == "a\ufffd[31mb c d\ufffde\ufffd"
    note("first\x1b]0;title\x07\nsecond")
    warn("a\x9bb")
    assert run(["report", "no\x1b[2Jsuch"]) == 2
    printed = capsys.readouterr().err
    assert not {"\x1b", "\x07", "\x9b"} & set(printed)
    assert "\nsecond\n" in printed
