"""Test valid and invalid sources instead of a bundle folder."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import zoo
from tests.datasets.test_download import Server, server
from tests.weights.conftest import pack, sha256_of, write_bundle
from zoo.cli import run
from zoo.datasets.download import NetworkError
from zoo.errors import ConfigError, DataError, PluginError, ResultError, UnknownNameError, ZooError
from zoo.files import waiting_lock
from zoo.weights import sources
from zoo.weights.sources import resolve

__all__ = ["server"]


def test_a_folder_is_used_in_place(small_bundle: Path) -> None:
    assert resolve(small_bundle) == small_bundle
    assert resolve(str(small_bundle)) == small_bundle


def test_a_name_is_the_folder_in_the_package(register: Callable[..., Path], small_bundle: Path) -> None:
    package = register(small_bundle, sha256=sha256_of(small_bundle / "model.safetensors"))
    assert zoo.list_weights() == ["unet/valley-rgb"] == zoo.list_weights("unet/*")
    assert resolve("unet/valley-rgb") == package / "valley"
    assert resolve(Path("unet/valley-rgb")) == package / "valley"


def test_a_name_that_is_also_a_folder_is_reported(
    register: Callable[..., Path], small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = register(small_bundle)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_bundle, "unet/valley-rgb")
    told: list[str] = []
    assert resolve("unet/valley-rgb", notify=told.append) == package / "valley"
    assert told == [
        "the registered weights unet/valley-rgb are used, not the folder unet/valley-rgb/; "
        "for the folder, write ./unet/valley-rgb"
    ]
    assert resolve("./unet/valley-rgb", notify=told.append) == Path("unet/valley-rgb")
    assert resolve(Path("unet/valley-rgb"), notify=told.append) == Path("unet/valley-rgb")
    assert len(told) == 1


def test_a_zip_in_a_package_is_unpacked_once(
    register: Callable[..., Path], small_bundle: Path, own_cache: Path, tmp_path: Path
) -> None:
    archive = pack(small_bundle, tmp_path / "valley.zip")
    package = register(location="zoo_valley_data:valley.zip", sha256=sha256_of(archive))
    shutil.move(archive, package / "valley.zip")
    folder = resolve("unet/valley-rgb")
    assert folder.parent == own_cache / "bundles"
    assert resolve("unet/valley-rgb") == folder
    (package / "valley.zip").write_bytes(b"PK other")
    with pytest.raises(DataError, match=r"not the published one: sha256"):
        resolve("unet/valley-rgb")


@pytest.mark.parametrize("top", ["", "valley/"])
def test_a_zip_is_unpacked_once(small_bundle: Path, tmp_path: Path, top: str, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(small_bundle, tmp_path / "valley.zip", top)
    folder = resolve(archive)
    assert {path.name for path in folder.iterdir()} == {"README.md", "bundle.json", "model.safetensors"}
    monkeypatch.setattr(sources, "unpack", None)
    assert resolve(str(archive), sha256=sha256_of(archive).upper()) == folder
    with pytest.raises(DataError, match=r"not the published one"):
        resolve(archive, sha256="0" * 64)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"bands": (("red", "1"), ("nir", "1"), ("blue", "1"))}, r"bands 'red 1, green 1, blue 1' instead of 'red"),
        ({"model": "segnet"}, "model 'unet' instead of 'segnet'"),
        ({"options": {"widths": (8, 8)}}, r"option widths '\[8, 16\]' instead of '\[8, 8\]'"),
        ({"threshold": 0.5}, "threshold '0.4' instead of '0.5'"),
        ({"class_names": ("no", "yes")}, "classes 'background, landslide' instead of"),
        ({"sha256": "ab" * 32}, "sha256 '[0-9a-f]{64}' instead of 'abab"),
        ({"location": "zoo_valley_data:valey"}, "the package 'zoo_valley_data' has no valey"),
        ({"location": "zoo_valley_data:../x"}, "leads out of the package"),
        ({"location": "zoo_nowhere:valley"}, "package 'zoo_nowhere', which cannot be imported"),
    ],
)
def test_weights_that_are_not_what_was_registered_are_refused(
    register: Callable[..., Path], small_bundle: Path, changes: dict[str, object], problem: str
) -> None:
    register(small_bundle, **changes)
    with pytest.raises((ResultError, PluginError), match=problem):
        resolve("unet/valley-rgb")


def test_a_misspelt_name_is_answered_with_the_nearest(register: Callable[..., Path], small_bundle: Path) -> None:
    register(small_bundle)
    with pytest.raises(UnknownNameError, match=r"unknown weights or bundle folder 'unet/valey'.*'unet/valley-rgb'"):
        resolve("unet/valey")
    with pytest.raises(ConfigError, match=r"Use trained weights: unet/valley-rgb. Or train it first"):
        resolve("unet")
    with pytest.raises(ResultError, match=r"there is no such folder.*or weights that zoo weights lists"):
        resolve("runs/mine")
    with pytest.raises(ConfigError, match=r"Registered weights have their own"):
        resolve("unet/valley-rgb", sha256="0" * 64)


def test_an_address_needs_a_checksum_and_is_downloaded_once(
    server: Server, small_bundle: Path, tmp_path: Path, own_cache: Path
) -> None:
    archive = pack(small_bundle, tmp_path / "valley.zip", "valley/")
    server.content, digest = archive.read_bytes(), sha256_of(archive)
    with pytest.raises(ConfigError, match=r"the checksum of the file is missing.*End the URL with #sha256="):
        resolve(server.url)
    with pytest.raises(ConfigError, match=r"is not a sha256"):
        resolve(f"{server.url}#sha256=abc")
    with pytest.raises(ConfigError, match=r"state different checksums"):
        resolve(f"{server.url}#sha256={digest}", sha256="0" * 64)
    with pytest.raises(ConfigError, match=r"must be given as text, not as a Path"):
        resolve(Path(server.url))
    assert server.asked == []
    folder = resolve(f"{server.url}#sha256={digest}")
    assert folder == resolve(server.url, sha256=digest.upper()) == resolve(archive)
    assert [wanted for _, wanted in server.asked] == [None]
    assert list((own_cache / "downloads").iterdir()) == []


def test_a_damaged_copy_in_the_cache_is_made_again(server: Server, small_bundle: Path, tmp_path: Path) -> None:
    """Each of these ended every later run with advice to train again."""
    archive = pack(small_bundle, tmp_path / "valley.zip")
    server.content, address = archive.read_bytes(), f"{server.url}#sha256={sha256_of(archive)}"
    wanted = {path.name: path.read_bytes() for path in small_bundle.iterdir()}
    for source in (address, archive):
        folder = resolve(source)
        for name, content in (("bundle.json", b"{"), ("bundle.json", b""), ("model.safetensors", b"x")):
            (folder / name).write_bytes(content)
            assert {path.name: path.read_bytes() for path in resolve(source).iterdir()} == wanted
        (folder / "model.safetensors").unlink()
        assert {path.name: path.read_bytes() for path in resolve(source).iterdir()} == wanted


def test_a_zip_with_other_weights_or_deeper_folders_is_refused(small_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"deep\.zip: is not a bundle.*It is in its folder b: pack only that folder"):
        resolve(pack(small_bundle, tmp_path / "deep.zip", "a/b/"))
    (small_bundle / "model.safetensors").write_bytes(b"\x80\x04}.")
    with pytest.raises(ResultError, match=r"pickle\.zip: is not a bundle: the weights are not those that were saved"):
        resolve(pack(small_bundle, tmp_path / "pickle.zip"))


def test_a_download_that_is_cut_short_is_resumed_by_the_next_run(
    server: Server, small_bundle: Path, tmp_path: Path
) -> None:
    archive = pack(small_bundle, tmp_path / "valley.zip")
    server.content, address = archive.read_bytes(), f"{server.url}#sha256={sha256_of(archive)}"
    server.cuts = [100, 0, 0, 0]
    with pytest.raises(NetworkError, match=r"stopped at 100 bytes.*run the same command again"):
        resolve(address)
    assert (resolve(address) / "model.safetensors").read_bytes() == (small_bundle / "model.safetensors").read_bytes()
    assert server.asked[-1][1] == "bytes=100-"


@pytest.mark.parametrize("name", ["n" * 300, "%E5%9C%B0" * 100])
def test_an_address_with_a_long_name(server: Server, small_bundle: Path, tmp_path: Path, name: str) -> None:
    archive = pack(small_bundle, tmp_path / "valley.zip")
    server.content = archive.read_bytes()
    address = f"{server.url.rpartition('/')[0]}/{name}.zip?key=a/b#sha256={sha256_of(archive)}"
    assert (resolve(address) / "bundle.json").is_file()


def test_a_wrong_checksum_and_a_missing_file(server: Server, small_bundle: Path, tmp_path: Path) -> None:
    server.content = pack(small_bundle, tmp_path / "valley.zip").read_bytes()
    with pytest.raises(DataError, match=r"are not the published file: sha256 [0-9a-f]{64} instead of 0000"):
        resolve(f"{server.url}#sha256={'0' * 64}")
    server.statuses = [404]
    with pytest.raises(NetworkError, match=r"has no such file \(404.*By hand: download http"):
        resolve(f"{server.url}#sha256={'1' * 64}")


def test_without_a_network_the_error_names_the_file_and_its_place(
    small_bundle: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    archive = pack(small_bundle, tmp_path / "valley.zip")
    digest = sha256_of(archive)
    address = f"http://127.0.0.1:9/models/valley.zip#sha256={digest}"
    place = own_cache / "downloads" / digest / "valley.zip"
    with pytest.raises(NetworkError, match=r"cannot be reached") as raised:
        resolve(address)
    assert f"download http://127.0.0.1:9/models/valley.zip and save it as {place}" in str(raised.value)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(archive, place)
    assert (resolve(address) / "bundle.json").is_file()


def test_a_failed_plugin_is_named_for_a_missing_name(install: Callable[[str, str], None]) -> None:
    install("zoo-bad", "raise RuntimeError('boom')")
    zoo.registry.reload()
    try:
        with pytest.raises(ResultError, match=r"Plugin 'zoo-bad', which may provide it, failed"):
            resolve("unet/valley-rgb")
    finally:
        zoo.registry.reload()


def link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("card")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def bomb(archive: zipfile.ZipFile) -> None:
    archive.writestr("model.safetensors", bytes(100 << 20), zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda archive: archive.writestr("../evil", "x"), "would be written outside the folder"),
        (link, "is a link or a device"),
        (bomb, "an archive bomb"),
        (lambda archive: archive.writestr("data.csv", "x"), "is not a bundle: there is no bundle.json"),
        (lambda archive: archive.writestr("model.pth", "x"), "holds model.pth, a pickle, but no bundle.json"),
        (
            lambda archive: archive.writestr("bundle.json", '{"format": 2}'),
            r"is not a bundle: has bundle format 2, but this version of landslide-zoo reads format 1.*Upgrade",
        ),
        (lambda archive: archive.writestr("bundle.json", "{"), "is not a bundle: not valid JSON"),
    ],
)
def test_a_hostile_or_wrong_zip_leaves_nothing(
    tmp_path: Path, own_cache: Path, spoil: Callable[[zipfile.ZipFile], None], problem: str
) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        spoil(archive)
    with pytest.raises(ZooError, match=problem) as raised:
        resolve(tmp_path / "bad.zip")
    assert "bad.zip" in str(raised.value)
    assert list((own_cache / "bundles").iterdir()) == []


def test_a_bundle_without_weights_is_refused(small_bundle: Path, tmp_path: Path) -> None:
    (small_bundle / "model.safetensors").unlink()
    with pytest.raises(ResultError, match=r"is not a bundle: there is no model\.safetensors next to bundle\.json"):
        resolve(pack(small_bundle, tmp_path / "half.zip"))


def test_a_truncated_zip_is_refused(small_bundle: Path, tmp_path: Path) -> None:
    archive = pack(small_bundle, tmp_path / "cut.zip")
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"damaged, incomplete or not a zip"):
        resolve(archive)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("model.pt", "is a pickle"),
        ("model.safetensors", "is one file of a bundle. Name the folder"),
        ("scene.tif", "is a file, but not a .zip of a bundle"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ResultError, match=problem):
        resolve(tmp_path / name)


def test_a_cache_that_cannot_be_written_is_reported(
    small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(small_bundle, tmp_path / "valley.zip")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(ZooError, match=r"cannot write here"):
        resolve(archive)


def test_a_bundle_that_replaces_another_leaves_no_card_of_it(small_bundle: Path, tmp_path: Path) -> None:
    """The old card named other weights, so the new bundle could not be used."""
    (small_bundle / "card").mkdir()
    (small_bundle / "card" / "worst.png").write_bytes(b"x")
    digest = sha256_of(small_bundle / "model.safetensors")
    (small_bundle / "README.md").write_text(f"---\nlandslide_zoo:\n  weights_sha256: {digest}\n---\n")
    other = write_bundle(tmp_path / "other", rows=3)
    for notes in (None, "# My notes\n"):
        target = zoo.pull(small_bundle, tmp_path / "out", overwrite=True).folder
        (other / "README.md").unlink(missing_ok=True)
        if notes is not None:
            (target / "README.md").write_text(notes)
        zoo.pull(other, target, overwrite=True)
        assert resolve(target) == target
        assert {path.name for path in target.rglob("*") if path.is_file()} == {
            "bundle.json",
            "model.safetensors",
            *(["README.md"] if notes else []),
        }


def test_a_checksum_in_capitals_is_the_same(small_bundle: Path, tmp_path: Path) -> None:
    description = small_bundle / "bundle.json"
    digest = sha256_of(small_bundle / "model.safetensors")
    description.write_text(description.read_text().replace(digest, digest.upper()))
    assert (resolve(pack(small_bundle, tmp_path / "capitals.zip")) / "bundle.json").is_file()


def test_no_space_is_reported(small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(small_bundle, tmp_path / "valley.zip")
    monkeypatch.setattr("zoo.datasets.archives.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(DataError, match=r"the disk is too full to unpack this"):
        resolve(archive)


def test_two_processes_unpack_one_zip(small_bundle: Path, tmp_path: Path, own_cache: Path) -> None:
    """The second waits for the first and takes its folder; what a killed process left is removed."""
    archive = pack(small_bundle, tmp_path / "valley.zip")
    digest = sha256_of(archive)
    (own_cache / "bundles" / f".{digest}-killed").mkdir(parents=True)
    program = f"from zoo.weights.sources import resolve; print(resolve({str(archive)!r}))"
    told: list[str] = []
    found: list[Path] = []
    with waiting_lock(own_cache / "bundles" / f".{digest}.lock", lambda: None):
        other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        thread = threading.Thread(target=lambda: found.append(resolve(archive, notify=told.append)))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join()
    assert found == [own_cache / "bundles" / digest]
    assert other.communicate()[0].strip() == str(found[0])
    assert told == ["waiting for another process that is unpacking valley.zip"]
    assert [path.name for path in (own_cache / "bundles").iterdir()] == [digest]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "valley"}, "not a valid name for weights"),
        ({"location": "valley"}, "location 'valley' is not valid"),
        ({"location": "hf://owner/repo"}, "is not valid"),
        ({"location": "https://host/x.zip"}, "sha256 must be 64"),
        ({"bands": ("red",)}, "bands must be pairs"),
        ({"threshold": 2}, "threshold must be a number from 0 to 1"),
        ({"pixel_size": 0}, "pixel_size must be a positive number"),
        ({"model": 3}, "model of weights .* must be text"),
    ],
)
def test_a_spec_that_is_not_valid_fails_its_plugin(
    register: Callable[..., Path], changes: dict[str, object], problem: str
) -> None:
    register(**changes)
    (report,) = [one for one in zoo.list_plugins() if one.name == "zoo-valley"]
    assert report.status == "failed"
    assert re.search(problem, report.error), report.error


def test_the_listing_and_the_page_of_one(
    register: Callable[..., Path], small_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def output(*words: str) -> str:
        assert run(["weights", *words]) == 0
        return capsys.readouterr().out

    register(small_bundle)
    assert "unet/valley-rgb" in output()
    assert "0.710" in output("unet/*")
    (spec,) = json.loads(output("--json"))
    assert spec["bands"] == [["red", "1"], ["green", "1"], ["blue", "1"]]
    assert spec["figures"][0]["dice_interval"] == [0.66, 0.75]
    assert spec["provider"] == json.loads(output("show", "unet/valley-rgb", "--json"))["provider"] == "zoo-valley"
    page = output("show", "unet/valley-rgb")
    for text in ("widths=(8, 16)", "0.660 to 0.750", "Not tested on snow.", "CC-BY-4.0"):
        assert text in page
    assert run(["weights", "show", "unet/valey-rgb"]) == 2
    assert "Did you mean 'unet/valley-rgb'?" in capsys.readouterr().err


def test_every_taker_takes_a_zip_and_refuses_a_newer_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pack(write_bundle(tmp_path / "newer", format=7), tmp_path / "newer.zip")
    (tmp_path / "patches").mkdir()
    for line in (
        ["map", "newer.zip", "scene.tif", "--out", "map.tif"],
        ["evaluate", "newer.zip"],
        ["adapt", "newer.zip", "--data", "./patches", "--out", "adapted"],
        ["explain", "newer.zip", "scene.tif", "--window", "0,0,64,64", "--out", "why.png"],
        ["export", "newer.zip", "--to", "onnx", "--out", "model.onnx"],
        ["train", "unet", "--from", "newer.zip", "--data", "./patches", "--out", "tuned"],
    ):
        assert run(line) == 2
        complaint = capsys.readouterr().err
        assert "has bundle format 7" in complaint, line
        assert "Upgrade landslide-zoo" in complaint
