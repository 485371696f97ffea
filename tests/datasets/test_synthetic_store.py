import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import PATIENCE_S
from zoo.datasets.synthetic import SceneConfig, generate_scene
from zoo.datasets.synthetic.scene_store import (
    CacheWarning,
    load_scene,
    obtain_scenes,
    save_scene,
    scene_path,
)
from zoo.errors import DataError, ZooError

SMALL = SceneConfig(size=128, margin=16)
JOBS = [(seed, SMALL) for seed in range(3)]

OBTAIN = """
import sys
from pathlib import Path
from zoo.datasets.synthetic import SceneConfig
from zoo.datasets.synthetic.scene_store import obtain_scenes
small = SceneConfig(size=128, margin=16)
scenes = obtain_scenes(Path(sys.argv[1]), [(seed, small) for seed in range(int(sys.argv[2]))], workers=2)
print(" ".join(scene.digest for scene in scenes))
"""


@pytest.fixture(scope="module")
def scene():
    return generate_scene(0, SMALL)


@pytest.fixture
def stored(tmp_path, scene):
    path = scene_path(tmp_path, 0, SMALL)
    save_scene(path, scene)
    return path


def test_a_scene_survives_the_disk(stored, scene):
    read = load_scene(stored, 0, SMALL)
    assert np.array_equal(read.arrays["image"], scene.image)
    assert np.array_equal(read.arrays["mask"], scene.mask)
    assert np.array_equal(read.arrays["landslide_id"], scene.landslide_id)
    assert np.allclose(read.arrays["safety"], scene.safety, rtol=2e-3)
    assert read.rain == scene.rain
    assert read.rain_factor == scene.rain_factor


@pytest.mark.parametrize("keep", [0, 5, 100, 5_000, -1])
def test_a_file_cut_short_is_refused(stored, keep):
    whole = stored.read_bytes()
    stored.write_bytes(whole[:keep])
    with pytest.raises(DataError, match=stored.name):
        load_scene(stored, 0, SMALL)


@pytest.mark.parametrize("where", [0.3, 0.6, 0.999])
def test_a_changed_byte_is_refused(stored, where):
    whole = bytearray(stored.read_bytes())
    whole[int(where * len(whole))] ^= 1
    stored.write_bytes(bytes(whole))
    with pytest.raises(DataError):
        load_scene(stored, 0, SMALL)


def test_a_file_under_another_name_is_refused(stored):
    with pytest.raises(DataError, match="a different scene"):
        load_scene(stored, 1, SMALL)
    with pytest.raises(DataError, match="a different scene"):
        load_scene(stored, 0, SceneConfig(size=128, margin=16, phase="pre"))


def test_seeds_and_settings_have_files_of_their_own(tmp_path):
    paths = {scene_path(tmp_path, seed, SceneConfig(phase=phase)) for seed in (0, 1) for phase in ("pre", "post")}
    assert len(paths) == 4


def test_missing_scenes_are_generated_once_with_progress(tmp_path, stored):
    alone = load_scene(stored, 0, SMALL)
    stored.unlink()
    told = []
    first = obtain_scenes(tmp_path, JOBS, workers=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 3) for done in range(4)]
    assert first[0].digest == alone.digest
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = obtain_scenes(tmp_path, JOBS, progress=lambda done, total: pytest.fail("nothing was to be made"))
    assert [scene.digest for scene in again] == [scene.digest for scene in first]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times
    assert len({scene.digest for scene in first}) == 3


def test_a_damaged_scene_is_generated_again_with_a_warning(tmp_path, stored):
    digest = load_scene(stored, 0, SMALL).digest
    stored.write_bytes(stored.read_bytes()[:1000])
    with pytest.warns(CacheWarning, match=f"{stored.name}.*generated again"):
        made = obtain_scenes(tmp_path, JOBS[:1])
    assert made[0].digest == digest
    assert load_scene(stored, 0, SMALL).digest == digest


def test_a_folder_that_cannot_be_written_to_names_the_variable(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ZooError, match="ZOO_CACHE"):
        obtain_scenes(tmp_path / "file" / "cache", JOBS[:1])


def test_whole_scenes_are_read_from_a_folder_that_cannot_be_written_to(tmp_path, stored, monkeypatch):
    def refuse(folder):
        raise ZooError("cannot write here", where=folder)

    monkeypatch.setattr("zoo.datasets.synthetic.scene_store.check_writable_folder", refuse)
    assert len(obtain_scenes(tmp_path, JOBS[:1])) == 1


def test_a_worker_that_dies_is_an_error_not_a_wait(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.datasets.synthetic.scene_store._MAKE_BATCH", "os:abort")
    with pytest.raises(ZooError, match=r"a process that generates scenes failed: TypeError.*workers=1"):
        obtain_scenes(tmp_path, JOBS[:2], workers=2)


def test_workers_import_no_torch():
    code = (
        "import sys, zoo.datasets.synthetic.scene_store\n"
        "sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_scripts_without_a_main_guard_agree_at_once(tmp_path):
    script, cache = tmp_path / "script.py", tmp_path / "cache"
    script.write_text(OBTAIN)
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the working directory')")
    command = [sys.executable, "-P", str(script), str(cache), "2"]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=PATIENCE_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].split()) == len(list(cache.iterdir())) == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see which processes are left")
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_leaves_whole_scenes_and_no_workers(tmp_path, kind, start_session):
    process = start_session(sys.executable, "-c", OBTAIN, tmp_path, 40, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_S
    while len(list(tmp_path.glob("[!.]*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    if kind == signal.SIGINT:
        os.killpg(process.pid, kind)
    else:
        process.send_signal(kind)
    assert process.wait(timeout=PATIENCE_S) != 0
    while _members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _members(process.pid)
    whole = sorted(tmp_path.glob("[!.]*"))
    assert 2 <= len(whole) < 40
    for path in whole:
        load_scene(path, int(path.name.split("-")[3]), SMALL)


def _members(group):
    """Processes of a process group that have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            if int(state[2]) == group and state[0] != "Z":
                found.append(entry.name)
    return found


def test_about_is_readable_json(stored):
    from safetensors import safe_open

    with safe_open(stored, framework="numpy") as file:
        about = json.loads(file.metadata()["scene"])
    assert about["seed"] == 0
    assert json.loads(about["key"])["region"] == "subtropical"
