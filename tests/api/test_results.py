"""The results of a benchmark from Python, and ``zoo report``, which prints the same."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.cli import run
from zoo.errors import ConfigError, ResultError, UnknownNameError

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "benchmarks" / "results" / "quick"


@pytest.fixture(scope="module")
def results() -> zoo.Results:
    return zoo.read_results(FOLDER)


def test_results_are_a_sequence_of_trials(results: zoo.Results) -> None:
    assert len(results) == 7
    assert {trial.config.model for trial in results} >= {"unet", "enhanced_unet"}
    assert results[0] is next(iter(results))
    assert len(results[1:3]) == 2
    assert repr(results) == f"<Results: 7 trials of 7 models, from {FOLDER}>"
    assert not results.problems


def test_every_form_holds_the_same_figures(results: zoo.Results, tmp_path: Path) -> None:
    frame = results.to_pandas()
    assert list(frame["model"][:2]) == ["drs_unet", "unet"]
    assert frame["dice"][0] == pytest.approx(0.449, abs=5e-4)
    assert list(results.to_pandas(["dice"]).columns) == ["setting", "model", "status", "error", "dice"]
    assert frame["dice"].tolist() == [row["dice"] for row in json.loads(results.json())]
    for text in (results.table(), str(results), results.markdown(), results._repr_html_()):
        assert "0.449" in text
        assert "drs_unet" in text
    page = results.html(tmp_path / "made" / "report.html")
    assert "0.449" in page.read_text(encoding="utf-8")
    with pytest.raises(UnknownNameError, match="unknown column"):
        results.table(["dce"])


def test_rows_name_their_setting(results: zoo.Results) -> None:
    """The rows of two data sets could not be told apart in CSV and JSON."""
    config = replace(results[0].config, fingerprints={"train": "a", "val": "b", "test": "c"})
    both = zoo.Results([results[0], replace(results[0], config=config)])
    for rows in (json.loads(both.json(["dice"])), list(csv.DictReader(io.StringIO(both.csv(["dice"]))))):
        first, second = (row["setting"] for row in rows)
        assert first.partition(" content ")[0] == second.partition(" content ")[0]
        assert first != second
    assert {row["setting"] for row in json.loads(results.json())} == {results.leaderboards[0].heading}


def test_the_page_does_not_replace_what_it_is_made_from(results: zoo.Results, tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "quick")
    found = zoo.read_results(folder)
    files = list(folder.rglob("*.json"))
    assert {path.parent.name for path in files} == {"trials", "pictures"}
    for path in files:
        with pytest.raises(ConfigError, match="is one of the inputs"):
            found.html(path)
    for page in (folder / "report.html", folder / "trials" / "report.html"):
        assert found.html(page) == found.html(page)
    assert not zoo.read_results(folder).problems


def test_a_baseline_is_chosen_by_name(results: zoo.Results) -> None:
    named = zoo.read_results(FOLDER, baseline="segnet")
    assert set(named.to_pandas()["baseline"].dropna()) == {"segnet"}
    with pytest.raises(UnknownNameError, match="'segnett'"):
        zoo.read_results(FOLDER, baseline="segnett").table()


def test_results_are_compared_with_others(results: zoo.Results) -> None:
    changes = results.compare(results)
    assert {change.verdict for change in changes} == {"the same"}


def test_a_folder_of_results_folders_names_them() -> None:
    with pytest.raises(ResultError, match=r"\d+ folders inside do: landslide4sense_quick, .*weights") as caught:
        zoo.read_results(FOLDER.parent)
    assert "zoo report" in (caught.value.hint or "")
    with pytest.raises(ResultError, match="no such folder"):
        zoo.read_results(FOLDER / "absent")


def test_the_command_prints_chosen_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(FOLDER), "--columns", "mcc, group", "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "setting,model,status,error,mcc,group"
    assert run(["report", str(FOLDER), "--columns", "mmc"]) == 2
    assert "Did you mean 'mcc'" in capsys.readouterr().err
    assert run(["report", str(FOLDER)]) == 0
    printed = capsys.readouterr()
    assert "base rate" in printed.out.lower()
    assert "0.449" in printed.out
    assert run(["report", str(FOLDER), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["model"] == "drs_unet"
    assert run(["report", str(FOLDER), "--compare", str(FOLDER)]) == 0
    assert "the same" in capsys.readouterr().out
    assert run(["report", str(FOLDER), "--compare", str(FOLDER), "--columns", "mcc"]) == 2


WRONG: tuple[object, ...] = (None, 5, -1, "x", [], {}, [5], 1e308, "nan", True, 10**30, "\x1b[31m", [[]], 0.0, "")


def places(value: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON value; of a long list the first and the last."""
    yield place
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*place, name))
    elif isinstance(value, list):
        for number in range(len(value)) if len(value) < 4 else (0, len(value) - 1):
            yield from places(value[number], (*place, number))


def edited(content: dict[str, Any], place: tuple[str | int, ...], value: object) -> str:
    changed = json.loads(json.dumps(content))
    inner = changed
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return json.dumps(changed)


def copied(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with two of the results, and the path of the second."""
    first, second, *_ = sorted((FOLDER / "trials").glob("*.json"))
    (tmp_path / "trials").mkdir()
    for path in (first, second):
        shutil.copy(path, tmp_path / "trials" / path.name)
    return tmp_path, tmp_path / "trials" / second.name


@pytest.mark.parametrize(
    ("place", "value", "field"),
    [
        (("speed",), [5], "speed[0]"),
        (("data",), {}, "data"),
        (("test", "counts"), 5, "test.counts"),
        (("test", "names"), [1], "test.names[0]"),
        (("training", "curve"), "x", "training.curve"),
    ],
)
def test_one_edited_file_is_refused_and_the_others_are_printed(
    place: tuple[str, ...], value: object, field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, path = copied(tmp_path)
    path.write_text(edited(json.loads(path.read_text()), place, value))
    assert run(["report", str(folder), "--format", "csv"]) == 2
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert path.name in printed.err
    assert f"'{field}'" in printed.err


def test_a_file_that_names_other_test_images_is_refused(tmp_path: Path) -> None:
    folder, path = copied(tmp_path)
    third = sorted((FOLDER / "trials").glob("*.json"))[2]
    shutil.copy(third, folder / "trials" / third.name)
    path.write_text(edited(json.loads(path.read_text()), ("test", "names", 0), "another"))
    results = zoo.read_results(folder)
    assert len(results) == 2
    assert "names other test images" in str(results.problems[0])
    assert path.name in str(results.problems[0])


@pytest.mark.parametrize(("place", "value"), [(("parameters",), -1), (("speed", 0, "median_s"), 1e308)])
def test_a_figure_beyond_reason_does_not_stop_the_page(place: tuple[str, ...], value: float, tmp_path: Path) -> None:
    folder, path = copied(tmp_path)
    path.write_text(edited(json.loads(path.read_text()), place, value))
    assert "<svg" in zoo.read_results(folder).html(tmp_path / "report.html").read_text(encoding="utf-8")


def test_no_edit_of_a_result_file_takes_the_report_down(tmp_path: Path) -> None:
    folder, path = copied(tmp_path)
    content = json.loads(path.read_text())
    cases = [(place, value) for place in places(content) if place for value in WRONG]
    refused = 0
    for place, value in random.Random(0).sample(cases, 60):
        path.write_text(edited(content, place, value))
        results = zoo.read_results(folder)
        refused += len(results.problems)
        assert len(results) + len(results.problems) == 2
        assert "0.4" in results.table() + results.markdown() + results.csv() + results.json()
    assert refused > 30


def test_leftovers_and_foreign_files_do_not_stop_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, path = copied(tmp_path)
    (folder / "trials" / f".{path.name}-x1y2.json").write_text("")
    (folder / "trials" / "notes.txt").write_text("not a result")
    assert run(["report", str(folder), "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    (folder / "trials" / "empty.json").touch()
    (folder / "trials" / "package.json").write_text('{"name": "other"}')
    assert run(["report", str(folder), "--format", "csv"]) == 2
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 3
    assert "empty.json" in printed.err
    assert "package.json" in printed.err


METRICS = """
    from zoo.registry import MetricSpec, hookimpl

    @hookimpl
    def zoo_register_metrics(register):
        register(MetricSpec(name="share", target="zoo_two_metrics_code:share", summary="share of landslide"))
        register(MetricSpec(name="broken", target="zoo_two_metrics_code:broken", summary="fails"))
"""
CODE = """
def share(tp, fp, fn, tn):
    return (tp + fn) / (tp + fp + fn + tn)

def broken(tp, fp, fn, tn):
    return 0.5
"""


def test_a_metric_of_a_plugin_is_in_every_table_and_one_that_fails_costs_its_column_alone(
    install: Callable[[str, str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("zoo-two-metrics", METRICS)
    (tmp_path / "site" / "zoo_two_metrics_code.py").write_text(CODE)
    zoo.registry.reload()
    try:
        page = tmp_path / "report.html"
        assert run(["report", str(FOLDER), "--html", str(page)]) == 0
        told = capsys.readouterr().err
        assert told.count("metric 'broken' of plugin zoo-two-metrics failed (TypeError: returned a scalar") == 1
        shown = {"html": page.read_text(encoding="utf-8")}
        for form in ("terminal", "markdown", "csv", "json"):
            assert run(["report", str(FOLDER), "--format", form]) == 0
            shown[form] = capsys.readouterr().out
        assert all("share" in text for text in shown.values())
        assert all("0.027" in text for text in shown.values())
        assert json.loads(shown["json"])[0]["broken"] is None
        assert "broken" not in shown["terminal"] + shown["markdown"]
    finally:
        zoo.registry.reload()
