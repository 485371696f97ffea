"""``zoo risk compare`` as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import zoo.cli
from tests.conftest import PATIENCE_S

ZOO = Path(sys.executable).with_name("zoo")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = zoo.cli.run(["risk", "compare", *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def places(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = 240
    slope, rain = rng.uniform(0, 50, rows), rng.gamma(2, 3, rows)
    labels = rng.uniform(size=rows) < 1 / (1 + np.exp(-0.15 * (slope - 25) - 0.4 * (rain - 6)))
    frame = pd.DataFrame(
        {
            "slide": np.where(labels, "yes", "no"),
            "slope": slope,
            "litho": rng.choice([1, 2, 3, -9999], rows),
            "P": rain,
            "D": rng.uniform(0.2, 3, rows),
            "X": rng.uniform(0, 9000, rows),
            "Y": rng.uniform(0, 9000, rows),
            "event": rng.choice(["june", "july", "august", "may"], rows),
        }
    )
    path = tmp_path / "Orte ä.csv"
    frame.to_csv(path, index=False)
    return path


def test_a_whole_comparison(run: Run, places: Path) -> None:
    code, out, err = run(
        places, "--label", "slide", "--coords", "X,Y", "--group", "event", "--rain-columns", "P,D",
        "--models", "gamm,lsi_without_rain,lsi", "--cv", "random,block,group", "--folds", 3, "--jobs", 1,
        "--out", "out", "--json", "rows.json",
    )  # fmt: skip
    assert code == 0, err
    for text in (
        "random cross-validation",
        "block cross-validation",
        "group cross-validation",
        "0.968",
        "random folds",
    ):
        assert text in out
    assert "litho: 3 classes" in err
    assert "240 rows" in err
    rows = json.loads(Path("rows.json").read_text())
    assert [(row["model"], row["cv"]) for row in rows[:4]] == [
        ("gamm", "random"),
        ("lsi_without_rain", "random"),
        ("lsi", "random"),
        ("gamm", "block"),
    ]
    assert all(row["status"] == "ok" and row["auc_low"] <= row["auc"] <= row["auc_high"] for row in rows)
    assert f"{rows[0]['auc']:.3f} [{rows[0]['auc_low']:.3f}, {rows[0]['auc_high']:.3f}]" in out
    assert Path("out/rates.png").exists()
    assert json.loads(Path("out/results.json").read_text())["table"].endswith("Orte ä.csv")


def test_without_places_and_rain_it_does_what_it_can_with_a_note(run: Run, places: Path) -> None:
    code, out, err = run(places, "--label", "slide", "--drop", "X,Y,event", "--models", "lsi_without_rain,lsi")
    assert code == 0
    assert "no coordinates" in err
    assert "block cross-validation" not in out
    assert "LSI: skipped: needs rain" in out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--label", "slid"), "Did you mean 'slide'"),
        (("--label", "slope"), "neither yes nor no"),
        (("--label", "slide", "--drop", "sloope"), "Did you mean 'slope'"),
        (("--label", "slide", "--coords", "X"), "not two columns"),
        (("--label", "slide", "--models", "svn"), "Did you mean 'svm'"),
        (("--label", "slide", "--cv", "block"), "no coordinates"),
        (("--label", "slide", "--cv", "group"), "no groups"),
        (("--label", "slide", "--cv", "bloc"), "Did you mean 'block'"),
        (("--label", "slide", "--rain-columns", "P,days"), "unknown column 'days'"),
        (("--label", "slide", "--rain-columns", "P,litho"), "contains classes"),
        (("--label", "slide", "--rain-clip", "2,1"), "of the rainfall factor"),
        (("--label", "slide", "--missing", "none"), "is not a list of numbers"),
        (("--label", "slide", "--folds", 200), "fewer than 200 folds"),
        (("--label", "slide", "--coords", "X,Y", "--block-side", 20000), "fewer than 5 folds"),
        (("--label", "slide", "--coords", "X,Y", "--buffer", -1), "with a buffer of"),
        (("--label", "slide", "--coords", "X,Y", "--block-side", "inf"), "with a buffer of"),
        (("--label", "slide", "--cv", "block", "--out", "new/results", "--json", "rows/r.json"), "no coordinates"),
        ((), "--label"),
    ],
)
def test_bad_input_exits_with_2_and_no_traceback(
    run: Run, places: Path, options: tuple[object, ...], problem: str
) -> None:
    code, out, err = run(places, *options, *([] if "--models" in options else ["--models", "lsi_without_rain"]))
    assert code == 2, out + err
    assert problem in err
    assert "Traceback" not in err
    assert out == ""
    assert [path.name for path in places.parent.iterdir()] == [places.name]


def test_files_that_are_no_tables(run: Run, tmp_path: Path, places: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "head.csv").write_text("slide,slope\n")
    for name, problem in (("none.csv", "no such file"), ("empty.csv", "cannot be read"), ("head.csv", "no rows")):
        code, _, err = run(tmp_path / name, "--label", "slide")
        assert code == 2
        assert problem in err
    (tmp_path / "file").write_text("")
    code, _, err = run(places, "--label", "slide", "--out", tmp_path / "file" / "out")
    assert code == 2
    assert "cannot write" in err


def test_rows_are_not_written_over_what_matters(run: Run, tmp_path: Path, places: Path) -> None:
    table = places.read_bytes()
    for target, problem in ((tmp_path, "is a folder"), (places, "is one of the inputs")):
        code, out, err = run(places, "--label", "slide", "--models", "lsi_without_rain", "--json", target)
        assert (code, out) == (2, "")
        assert problem in err
    assert places.read_bytes() == table


def test_a_feature_that_leaks_is_warned_of(run: Run, places: Path) -> None:
    frame = pd.read_csv(places)
    frame.assign(area=(frame["slide"] == "yes") * 100.0).to_csv(places, index=False)
    code, _, err = run(places, "--label", "slide", "--models", "lsi_without_rain", "--cv", "random", "--folds", 2)
    assert code == 0
    assert "warning: area alone separates landslides" in err
    assert "--drop area" in err


def test_help_has_examples(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert "zoo risk compare slope_units.csv --label presence" in out


@pytest.mark.slow
def test_ctrl_c_leaves_no_half_file_and_no_process(
    places: Path, tmp_path: Path, start_session: Callable[..., subprocess.Popen[str]]
) -> None:
    options = ["--label", "slide", "--coords", "X,Y", "--models", "random_forest", "--jobs", "2", "--folds", "20"]
    process = start_session(
        ZOO, "risk", "compare", places, *options, "--json", "rows.json",
        cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ},
    )  # fmt: skip
    assert process.stderr is not None
    while "features:" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    assert not (tmp_path / "rows.json").exists()
