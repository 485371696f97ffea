"""A result file is whole and adds up, or is refused with its name and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench.conftest import finished
from zoo.bench.config import TrialConfig
from zoo.bench.leaderboard import make_rows
from zoo.bench.results import TrialResult, check_folder, load_results, locked_results, result_path
from zoo.bench.tables import markdown_tables
from zoo.datasets.audit import AuditSummary, TouchedPatches
from zoo.errors import ResultError, ZooError
from zoo.schema import to_plain

Make = Callable[..., TrialConfig]
Measured = Callable[..., dict[str, Any]]


def test_results_survive_the_disk(tmp_path: Path, trial: Make, measured: Measured) -> None:
    finished(trial("unet"), measured()).save(tmp_path)
    TrialResult(trial("segnet"), "failed", "why").save(tmp_path)
    results, problems = load_results(tmp_path)
    assert not problems
    assert {(result.config.model, result.status, result.error) for result in results} == {
        ("unet", "ok", ""),
        ("segnet", "failed", "why"),
    }


COMMITTED = sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("*/trials/*.json"))


def test_committed_results_are_read_and_would_be_written_the_same() -> None:
    assert len(COMMITTED) > 100
    for path in COMMITTED:
        result = TrialResult.load(path)
        content = json.loads(path.read_text())
        assert result_path(path.parents[1], result.config) == path
        assert (result.config.key, result.config.to_dict()) == (content["key"], content["config"])
        head = ("schema", "key", "status", "error", "config")
        assert result.to_dict() == {name: value for name, value in content.items() if name not in head}


def test_the_adaptation_of_a_trial_is_typed_and_checked(tmp_path: Path) -> None:
    path = next(path for path in COMMITTED if "-adapted-" in path.name)
    result = TrialResult.load(path)
    assert result.measurements is not None
    first = result.measurements.adaptations[0]
    assert (first.target.group, first.statistics, first.shifts[0].scale) == ("S2", "layers", 1.0)
    whole = result.with_measurements(adaptations=(replace(first, target=replace(first.target, group=None)),))
    saved = whole.save(tmp_path)
    assert TrialResult.load(saved).to_dict() == whole.to_dict()
    assert json.loads(saved.read_text())["adaptation"]["statistics"] == "layers"
    content = path.read_text()
    for before, after, problem in (
        ('"statistics":"layers"', '"statistics":"luck"', "adaptation.groups"),
        ('"group":"S2"', '"group":"S9"', "the adaptation of group 'S2' names another group, 'S9'"),
    ):
        assert before in content
        damaged = tmp_path / "damaged.json"
        damaged.write_text(content.replace(before, after))
        with pytest.raises(ResultError, match=problem):
            TrialResult.load(damaged)


def damage_cut(text: str) -> str:
    return text[: len(text) // 2]


def damage_counts(text: str) -> str:
    return text.replace('"tn": [\n        50,\n        100\n      ]', '"tn": [\n        50\n      ]')


def damage_schema(text: str) -> str:
    return text.replace('"schema": 2', '"schema": 99')


def damage_sums(text: str) -> str:
    return text.replace('"fp": [\n        10,', '"fp": [\n        4,')


def damage_objects(text: str) -> str:
    return text.replace('"false_alarms": [\n        1,', '"false_alarms": [\n        7,')


def damage_config(text: str) -> str:
    return text.replace('"seed": 0', '"seed": 7')


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_cut, "not valid JSON; was the file truncated"),
        (damage_counts, "differ in shape"),
        (damage_schema, "has schema 99, but this version reads schemas 1 to 2: a newer landslide-zoo wrote it"),
        (damage_sums, "do not add up: 154 background pixels, and 160 in the histogram of probabilities"),
        (damage_objects, "more false alarms than predicted landslides"),
        (damage_config, "its key differs"),
        (lambda text: "[]", "expected object, got array"),
        (lambda text: "{}", "has schema None"),
        (lambda text: text.replace('"counts"', '"count"'), "is damaged"),
        (lambda text: "\xff\x00", "not valid JSON"),
    ],
)
def test_damaged_files_are_named_and_the_others_are_read(
    tmp_path: Path, trial: Make, measured: Measured, damage: Callable[[str], str], reason: str
) -> None:
    good = finished(trial("unet"), measured()).save(tmp_path)
    path = finished(trial("segnet"), measured()).save(tmp_path)
    before = path.read_text()
    path.write_text(damage(before), encoding="latin-1")
    assert path.read_bytes() != before.encode()
    results, (problem,) = load_results(tmp_path)
    assert [result.config.model for result in results] == ["unet"]
    assert reason in problem.problem
    assert problem.where == str(path) != str(good)
    assert "zoo bench" in (problem.hint or "") or "pip install" in (problem.hint or "")


@pytest.mark.parametrize(
    ("section", "value", "complaint"),
    [
        ("speed", [5], "field 'speed[0]': expected object, got int"),
        ("speed", [{"batch": 1, "median_s": 0, "iqr_s": 0, "passes": 1}], "a time from 1e-9"),
        ("data", {}, "field 'data': object missing required field name"),
        ("threshold", 2, "threshold must be from 0 to 1"),
        ("gmac", 1e308, "gmac must be from 0 to 1e+15"),
        ("gmac", "nan", "field 'gmac': expected float, got str"),
        ("test", [[[]]], "field 'test': expected object, got array"),
        ("training", {"steps": 10**30, "seconds": 1}, "steps must be from 0 to 1e+15"),
        ("samples", {"indices": [0], "masks": []}, "do not fit"),
        ("environment", None, "field 'environment'"),
    ],
)
def test_an_edited_file_is_refused_alone(
    tmp_path: Path, trial: Make, measured: Measured, section: str, value: object, complaint: str
) -> None:
    finished(trial("unet"), measured()).save(tmp_path)
    path = finished(trial("segnet"), measured()).save(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), section: value}))
    results, (problem,) = load_results(tmp_path)
    assert [result.config.model for result in results] == ["unet"]
    assert complaint in str(problem)
    assert problem.where == str(path)


def test_what_a_killed_run_left_half_written_is_no_result_and_is_removed(
    tmp_path: Path, trial: Make, measured: Measured
) -> None:
    path = finished(trial("unet"), measured()).save(tmp_path)
    ghost, empty = path.with_name(f".{path.stem}.part.json"), path.with_name(".segnet-x.part-ef34gh.json")
    ghost.write_text(path.read_text())
    empty.touch()
    results, problems = load_results(tmp_path)
    assert (len(results), problems) == (1, [])
    with locked_results(tmp_path, {"name": ""}):
        assert sorted(path.parent.iterdir()) == [path]
    for leftover in (ghost, empty):
        leftover.touch()
    path.unlink()
    check_folder(tmp_path, "another")
    with pytest.raises(ResultError, match="holds no results"):
        load_results(tmp_path)


def test_a_lock_that_is_a_link_is_refused_and_its_target_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(ZooError, match="is a symbolic link"), locked_results(tmp_path / "out", {"name": ""}):
        pytest.fail("claimed")
    assert (tmp_path / "mine.txt").read_text() == "precious"


TOUCHED = (TouchedPatches("train", "test", "exact", 1),)
FOUND = AuditSummary(True, "LEAK 1 of 2 test patches touch training patches", TOUCHED)


def test_the_audit_stands_in_the_file_and_below_the_table(tmp_path: Path, trial: Make, measured: Measured) -> None:
    path = finished(trial("unet"), {**measured(), "audit": to_plain(FOUND)}).save(tmp_path)
    (result,), problems = load_results(tmp_path)
    assert not problems
    assert result.audit == FOUND
    assert f"audit of the splits: {FOUND.verdict}" in markdown_tables([result])
    without = finished(trial("segnet"), measured())
    assert without.audit is None
    assert "audit" not in markdown_tables([without])
    for before, after in (('"patches": 1', '"patches": "none"'), ('"leaks": true', '"leaks": false')):
        whole = path.read_text()
        path.write_text(whole.replace(before, after))
        _, (problem,) = load_results(tmp_path)
        assert "is damaged" in problem.problem
        path.write_text(whole)


def test_a_file_of_schema_1_is_read_and_what_it_lacks_is_undefined(
    tmp_path: Path, trial: Make, measured: Measured
) -> None:
    values = measured()
    for name in ("objects", "boundaries", "odds"):
        del values["test"][name]
    del values["val"]["odds"]
    path = finished(trial("unet"), values).save(tmp_path)
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 1'))
    (result,), problems = load_results(tmp_path)
    assert not problems
    (row,) = make_rows([result])
    assert row.figures["dice"] == pytest.approx(0.75)
    assert row.figures["detection"] is None


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="holds no results"):
        load_results(tmp_path)
    with pytest.raises(ResultError, match="no such folder"):
        load_results(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(ResultError, match="is a file"):
        load_results(tmp_path / "file")
