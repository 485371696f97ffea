"""A result file is whole and adds up, or is refused with its name and what to do."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.bench.config import TrialConfig
from zoo.bench.leaderboard import STANDARD, make_rows
from zoo.bench.render import as_json, comma_separated, describe_setting, markdown, markdown_tables, terminal_table
from zoo.bench.results import TrialResult, group_by_setting, load_results
from zoo.datasets.audit import AuditSummary, TouchedPatches
from zoo.errors import ResultError

Make = Callable[..., TrialConfig]
Measured = Callable[..., dict[str, Any]]


def test_results_survive_the_disk(tmp_path: Path, trial: Make, measured: Measured) -> None:
    TrialResult(trial("unet"), "ok", "", measured()).save(tmp_path)
    TrialResult(trial("segnet"), "failed", "why", {}).save(tmp_path)
    results, problems = load_results(tmp_path)
    assert not problems
    assert {(result.config.model, result.status, result.error) for result in results} == {
        ("unet", "ok", ""),
        ("segnet", "failed", "why"),
    }


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
        (damage_cut, "no whole JSON; was it cut short"),
        (damage_counts, "differ in shape"),
        (damage_schema, "has schema 99, and this version reads schemas 1 to 2: a newer landslide-zoo wrote it"),
        (damage_sums, "do not add up: 154 background pixels, and 160 in the histogram of probabilities"),
        (damage_objects, "more false alarms than predicted landslides"),
        (damage_config, "its key differs"),
        (lambda text: "[]", "has schema None"),
        (lambda text: text.replace('"counts"', '"count"'), "is damaged"),
        (lambda text: "\xff\x00", "no whole JSON"),
    ],
)
def test_damaged_files_are_named_and_the_others_are_read(
    tmp_path: Path, trial: Make, measured: Measured, damage: Callable[[str], str], reason: str
) -> None:
    good = TrialResult(trial("unet"), "ok", "", measured()).save(tmp_path)
    path = TrialResult(trial("segnet"), "ok", "", measured()).save(tmp_path)
    before = path.read_text()
    path.write_text(damage(before), encoding="latin-1")
    assert path.read_bytes() != before.encode()
    results, (problem,) = load_results(tmp_path)
    assert [result.config.model for result in results] == ["unet"]
    assert reason in problem.problem
    assert problem.where == str(path) != str(good)
    assert "zoo bench" in (problem.hint or "") or "pip install" in (problem.hint or "")


TOUCHED = (TouchedPatches("train", "test", "exact", 1),)
FOUND = AuditSummary(True, "LEAK 1 of 2 test patches touch training patches", TOUCHED)


def test_the_audit_stands_in_the_file_and_below_the_table(tmp_path: Path, trial: Make, measured: Measured) -> None:
    path = TrialResult(trial("unet"), "ok", "", {**measured(), "audit": FOUND.to_dict()}).save(tmp_path)
    (result,), problems = load_results(tmp_path)
    assert not problems
    assert result.audit == FOUND
    assert f"audit of the splits: {FOUND.verdict}" in markdown_tables([result])
    without = TrialResult(trial("segnet"), "ok", "", measured())
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
    path = TrialResult(trial("unet"), "ok", "", values).save(tmp_path)
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 1'))
    (result,), problems = load_results(tmp_path)
    assert not problems
    (row,) = make_rows([result])
    assert row.figures["dice"] == pytest.approx(0.75)
    assert "detection" not in row.figures


def test_figures_beyond_pixels_are_in_the_row(trial: Make, measured: Measured) -> None:
    (row,) = make_rows([TrialResult(trial("unet"), "ok", "", measured())])
    assert row.figures["detection"] == 0.5
    assert row.figures["pr_auc"] == 1.0
    assert row.figures["dice_per_event"] == row.figures["dice"]
    # Precision 6/10 and recall 6/10 at two pixels.
    assert row.figures["boundary_f1_2px"] == pytest.approx(0.6)
    assert row.figures["ece"] == pytest.approx(0, abs=1e-4)


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="holds no results"):
        load_results(tmp_path)
    with pytest.raises(ResultError, match="no such folder"):
        load_results(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(ResultError, match="is a file"):
        load_results(tmp_path / "file")


def test_rows_are_means_over_seeds_sorted_by_dice(trial: Make, measured: Measured) -> None:
    results = [
        TrialResult(trial("segnet"), "failed", "no luck", {}),
        TrialResult(trial("unet", seed=0), "ok", "", measured(20)),
        TrialResult(trial("unet", seed=1), "ok", "", measured(30)),
        TrialResult(trial("drs_unet"), "ok", "", measured(39)),
    ]
    rows = make_rows(results)
    assert [row.model for row in rows] == ["drs_unet", "unet", "segnet"]
    unet = rows[1].to_dict()
    assert unet["dice"] == pytest.approx((40 / 70 + 60 / 80) / 2)
    assert unet["dice_per_image"] == pytest.approx(unet["dice"])
    assert (unet["fps"], unet["fps_batch"], unet["best_batch"]) == (50.0, 100.0, 8)
    assert (unet["parameters"], unet["seeds"]) == (1_500_000, 2)
    assert rows[2].to_dict()["status"] == "failed"
    assert rows[2].to_dict()["dice"] is None


def test_a_seed_without_figures_shows_in_the_row(trial: Make, measured: Measured) -> None:
    results = [
        TrialResult(trial("unet", seed=0), "ok", "", measured()),
        TrialResult(trial("unet", seed=1), "out-of-memory", "no memory", {}),
    ]
    (row,) = make_rows(results)
    assert (row.status, row.error, row.seeds) == ("out-of-memory", "no memory", 1)


def test_json_rows_have_the_promised_keys(trial: Make, measured: Measured) -> None:
    rows = json.loads(as_json(make_rows([TrialResult(trial("unet"), "ok", "", measured())])))
    promised = ("model", "status", "error", *STANDARD)
    assert tuple(rows[0])[: len(promised)] == promised


def test_renders_show_the_same_numbers(trial: Make, measured: Measured) -> None:
    from rich.console import Console

    results = [
        TrialResult(trial("unet"), "ok", "", measured()),
        TrialResult(trial("segnet"), "failed", "a | b [red]", {}),
    ]
    rows = make_rows(results)
    for width, beside in ((170, True), (110, False)):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(terminal_table(rows, width))
        text = console.export_text()
        assert "0.750" in text
        assert "segnet: failed: a | b [red]" in text
        assert ("│ U-net" in text) is beside
        assert "0.623" in text
        assert max(map(len, text.splitlines())) <= width
    assert "| `unet` | 0.750 |" in markdown(rows)
    assert "a \\| b" in markdown(rows)
    assert "unet,ok,,0.75," in comma_separated(rows)
    assert "5/1/2 patches of 3x10x10" in describe_setting(results)


def test_the_papers_figures_stand_beside_its_own_configuration_alone(trial: Make, measured: Measured) -> None:
    rows = make_rows([TrialResult(trial("unet", options={"widths": [1]}), "ok", "", measured())])
    assert "0.623" not in markdown(rows)


def test_other_data_or_recipes_get_a_table_of_their_own(trial: Make, measured: Measured) -> None:
    base = TrialResult(trial("unet"), "ok", "", measured())
    other = TrialResult(trial("unet", fingerprints={"train": "x"}), "ok", "", measured())
    slow = TrialResult(trial("unet", device="cuda"), "ok", "", measured())
    assert [len(group) for group in group_by_setting([base, other, slow, base])] == [2, 1, 1]
