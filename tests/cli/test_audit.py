"""``zoo audit`` as a user runs it, and its line in the header of ``zoo bench``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from zoo.cli import run
from zoo.cli.bench_view import TerminalView

SCENES = ["--group-column", "scene", "--train-groups", "s0", "--val-groups", "s1", "--test-groups", "s2"]


def test_scenes_do_not_leak(patches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", str(patches), *SCENES]) == 0
    printed = capsys.readouterr()
    assert "audit: no leak found between 8/8/8 patches" in printed.out
    assert "leakage" not in printed.out


def test_a_random_split_leaks_and_the_json_names_every_pair(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "Prüfung" / "audit.json"
    assert run(["audit", str(patches), "--split", "random", "--json", str(file)]) == 1
    printed = capsys.readouterr().out
    assert "audit: LEAK" in printed
    assert "side by side on the ground" in printed
    assert "more (--json FILE writes all)" in printed
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["leaks"]
    assert found["data"]["options"]["split_by"] == "random"
    assert found["verdict"] in printed
    assert len(found["pairs"]) > 10
    assert {pair["kind"] for pair in found["pairs"]} == {"neighbour"}
    assert run(["audit", str(patches), "--split-by", "random"]) == 1


def test_a_copy_in_another_scene_is_shown(patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "copied"
    shutil.copytree(patches, folder)
    shutil.copy(folder / "images" / "p000.npy", folder / "images" / "p002.npy")
    np.save(folder / "images" / "p001.npy", 2 * np.load(folder / "images" / "p003.npy")[:, ::-1] + 1)
    assert run(["audit", str(folder), *SCENES]) == 1
    printed = capsys.readouterr().out
    assert "LEAK 1 of 8 test patches touch training patches; 1 of 8 validation patches touch" in printed
    lines = printed.splitlines()
    exact = next(index for index, line in enumerate(lines) if line.strip() == "exact")
    assert lines[exact + 2].split()[:6] == ["train", "-", "test", "p000", "p002", "1.000"]
    assert any("p003" in line and "p001" in line and "reflected" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "unknown data set or folder 'nowhere'"),
        (["no/folder"], "no such folder"),
        (["DATA", "--split", "sideways"], "sideways"),
        (["DATA", "--split", "column", "--split-by", "random"], "Give one of the two"),
        (["DATA", "--group-column", "sceen"], "scene"),
        (["synthetic", "--split", "random"], "unknown option 'split_by'"),
        ([], "Missing argument"),
    ],
)
def test_bad_input_is_reported_and_exits_with_2(
    patches: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert run(["audit", *(str(patches) if word == "DATA" else word for word in arguments)]) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_the_landslide_class_and_the_pairs_are_named(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "named"
    shutil.copytree(patches, folder)
    for kind in ("images", "masks"):
        for path in sorted((folder / kind).iterdir()):
            path.rename(path.with_name(f"{kind.title()}X{path.name}"))
    (folder / "tiles.csv").unlink(missing_ok=True)
    for path in (folder / "masks").iterdir():
        mask = np.load(path)
        mask[-2:] = 2
        np.save(path, mask)
    command = ["audit", str(folder), "--split", "random", "--pair", r"X(p\d+)"]
    assert run(command) == 2
    assert "which one is the landslide" in capsys.readouterr().err
    assert run([*command, "--landslide-class", "1"]) in (0, 1)
    assert "landslide: class_1 (class 1), as given" in capsys.readouterr().err
    assert run(command[:4]) == 2
    assert "have no mask" in capsys.readouterr().err


def test_an_unwritable_json_file_is_reported_before_any_work(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run(["audit", str(patches), "--json", str(tmp_path / "file" / "audit.json")]) == 2
    assert "cannot write here" in capsys.readouterr().err


def test_the_benchmark_prints_the_verdict_and_a_failed_audit_does_not_stop_it(
    patches: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.datasets import Folder

    options = {"group_column": "scene", "train_groups": "s0", "val_groups": "s1", "test_groups": "s2"}
    splits = {split: Folder(patches, split, **options) for split in ("train", "val", "test")}
    prints = {split: dataset.fingerprint() for split, dataset in splits.items()}
    TerminalView().audit(splits, prints)
    assert capsys.readouterr().err.startswith("audit: no leak found between 8/8/8 patches")
    TerminalView().audit({"train": splits["train"], "test": splits["train"]}, {"train": "same", "test": "twice"})
    assert "warning: audit: LEAK 8 of 8 test patches touch training patches; see zoo audit" in capsys.readouterr().err

    def fail(*_: object) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr("zoo.bench.plan.cached_summary", fail)
    TerminalView().audit(splits, prints)
    assert "audit: not done (no such thing)" in capsys.readouterr().err


@pytest.mark.slow
def test_bench_prints_the_verdict_in_its_header(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--steps", "1", "--crop", "32", "--batch-size", "4", "--precision", "fp32", "--out", str(tmp_path)]
    assert run(["bench", "--models", "mobilenetv2", "--no-speed", "--data", str(patches), *SCENES, *quick]) == 0
    error = capsys.readouterr().err
    assert error.index("audit: no leak found") < error.index("recipe ")
    assert run(["report", str(tmp_path)]) == 0
    assert "audit of the splits: no leak found between 8/8/8 patches" in capsys.readouterr().out
