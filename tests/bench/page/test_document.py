"""The page's structure and escaping, read with a parser instead of a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench.conftest import finished
from tests.bench.page.conftest import render_page
from zoo.bench.config import TrialConfig
from zoo.bench.leaderboard import Leaderboard
from zoo.bench.page.figures import pareto_front, training_curve
from zoo.bench.page.provenance import bench_command
from zoo.bench.page.svg import Axis, Series, draw
from zoo.bench.results import TrialResult, load_results
from zoo.cli import run
from zoo.datasets.audit import AuditSummary, TouchedPatches
from zoo.errors import UnknownNameError
from zoo.schema import to_plain
from zoo.training.recipes import FineTuning

Make = Callable[..., TrialConfig]
Measured = Callable[..., dict[str, Any]]
VOID = {"meta", "link", "img", "input", "br", "hr", "wbr"}


@dataclass
class Parsed(HTMLParser):
    """Elements with their attributes and what they stand in."""

    elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    open_: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self.open_)))
        if tag not in VOID:
            self.open_.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open_:
            self.texts.append((self.open_[-1], data))

    def named(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name in names]

    def text(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def parse(page: str) -> Parsed:
    parsed = Parsed()
    parsed.feed(page)
    assert parsed.open_ == []
    return parsed


def test_nothing_from_a_file_becomes_markup(page: str) -> None:
    parsed = parse(page)
    assert len(parsed.named("script")) == 1
    assert all((one["src"] or "").startswith("data:image/") for one in parsed.named("img"))
    handlers = [name for _, attributes, _ in parsed.elements for name in attributes if name.startswith("on")]
    assert handlers == []
    assert "<script>window.hacked" not in page
    assert page.count("&lt;script&gt;window.hacked = 1&lt;/script&gt;") > 5
    policies = [one["content"] for one in parsed.named("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert [(policy or "")[:18] for policy in policies] == ["default-src 'none'"]


def test_control_characters_are_replaced(tmp_path: Path, trial: Make) -> None:
    page = render_page([TrialResult(trial("unet"), "failed", "a\ud800b\x1bc\x00\u202ed")], tmp_path)
    assert "a\ufffdb\ufffdc\ufffd\ufffdd" in page
    assert not {"\ud800", "\x1b", "\x00", "\u202e"} & set(page)


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    for name, attributes, _ in parse(page).elements:
        for label in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(label) or ""
            assert (
                value.startswith(("data:", "#"))
                or not value
                or (name, value) == ("a", "https://doi.org/10.4236/jcc.2025.138004")
            )
    assert "url(" not in page
    assert "@import" not in page


def test_the_structure_is_one_that_readers_can_walk(page: str) -> None:
    parsed = parse(page)
    levels = [int(name[1]) for name, _, _ in parsed.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for landmark in ("header", "nav", "main", "footer"):
        assert len(parsed.named(landmark)) == 1
    identities = [attributes["id"] for _, attributes, _ in parsed.elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    for _, attributes, _ in parsed.elements:
        for label in ("aria-labelledby", "aria-describedby", "aria-controls", "for"):
            assert set((attributes.get(label) or "").split()) <= set(identities)
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in identities
    assert all(one.get("alt") for one in parsed.named("img"))
    assert all(one.get("scope") in ("row", "col") for one in parsed.named("th"))
    assert len(parsed.named("caption")) == len(parsed.named("table"))
    charts = [one for one in parsed.named("svg") if one.get("role") == "img"]
    assert len(charts) >= 7
    assert len(charts) == len([1 for name, _, inside in parsed.elements if name == "desc" and inside[-1] == "svg"])
    assert all(one.get("aria-hidden") == "true" for one in parsed.named("svg") if one not in charts)
    assert all("tabindex" in one for one in parsed.named("div") if one.get("class") == "scroll")


def test_the_figures_are_those_of_the_leaderboard(page: str) -> None:
    text = re.sub(r"<[^>]+>", " ", page)
    for shown in (
        "0.750",
        "0.837",
        "Table 6 of the paper beside ours",
        "0.623",
        "zoo evaluate",
        "failed: RuntimeError",
    ):
        assert shown in text
    assert "no pictures of these test patches" in text, "the setting whose trial kept none says so"
    assert "Without predictions in their result files: segnet" in text
    assert "30 of 40 landslide pixels found, 10 false" in page
    assert "These results hold no counts of landslides" in text


def test_results_of_the_first_schema_and_failures_alone_still_give_a_page(
    tmp_path: Path, trial: Make, measured: Measured
) -> None:
    failed = TrialResult(trial("unet"), "failed", "no luck")
    page = render_page([failed], tmp_path)
    assert "no luck" in page
    assert "<svg" not in page
    values = measured()
    for name in ("objects", "boundaries", "odds"):
        del values["test"][name]
    del values["val"]["odds"], values["training"], values["speed"]
    parse(render_page([finished(trial("unet"), values), failed], tmp_path))


def test_a_model_that_predicts_nothing_and_an_empty_truth_have_a_place(
    tmp_path: Path, trial: Make, measured: Measured
) -> None:
    nothing = measured(0)
    nothing["test"]["counts"] = {"tp": [0, 0], "fp": [0, 0], "fn": [40, 0], "tn": [60, 100]}
    nothing["test"]["histogram"] = {"positive": [40] + [0] * 199, "negative": [160] + [0] * 199}
    empty = measured(0)
    empty["test"]["counts"] = {"tp": [0, 0], "fp": [0, 0], "fn": [0, 0], "tn": [100, 100]}
    empty["test"]["histogram"] = {"positive": [0] * 200, "negative": [200] + [0] * 199}
    empty["test"]["odds"] = {"positive": [0] * 240, "negative": [200] + [0] * 239}
    empty["test"]["objects"] = {
        "total": [[0] * 4] * 2, "touched": [[0] * 4] * 2, "found": [[0] * 4] * 2,
        "predicted": [0, 0], "false_alarms": [0, 0],
    }  # fmt: skip
    parse(render_page([finished(trial("unet"), nothing)], tmp_path))
    page = render_page([finished(trial(model), empty) for model in ("unet", "segnet")], tmp_path)
    assert 'data-value="nan"' not in page
    assert "+nan" not in parse(page).text("td")


def test_the_page_shows_the_findings_of_the_audit(trial: Make, measured: Measured, tmp_path: Path) -> None:
    touched = (TouchedPatches("train", "test", "exact", 1),)
    leak = AuditSummary(True, "LEAK 1 of 2 test patches touch training patches", touched)
    page = render_page([finished(trial("unet"), {**measured(), "audit": to_plain(leak)})], tmp_path)
    parsed = parse(page)
    assert [text for text in parsed.text("p") if text.startswith("Caution")] == [
        f"Caution: audit of the splits: {leak.verdict}."
    ]
    assert leak.verdict in parsed.text("dd")
    assert "1 test patches touch train: equal pixels (exact)" in parsed.text("dd")
    without = parse(render_page([finished(trial("unet"), measured())], tmp_path))
    assert any("missing from these result files" in text for text in without.text("dd"))


def test_a_damaged_picture_file_is_named_and_the_page_is_made(results_folder: Path) -> None:
    (path,) = (results_folder / "pictures").glob("*.json")
    path.write_text(path.read_text()[:200])
    results, _ = load_results(results_folder)
    page = render_page(results, results_folder)
    assert "Files that could not be used" in page
    assert path.name in page


def test_the_pareto_front_holds_the_undominated_models() -> None:
    points = {"slow": (1.0, 0.9), "fast": (9.0, 0.5), "beaten": (1.0, 0.8), "middle": (4.0, 0.7), "worse": (3.0, 0.6)}
    assert pareto_front(points, smaller=False) == ["slow", "middle", "fast"]
    assert pareto_front(points, smaller=True) == ["slow"]
    assert pareto_front({"a": (1.0, 0.5), "twin": (1.0, 0.5)}, smaller=True) == ["a", "twin"]


def test_training_curves_are_means_over_seeds_with_the_same_steps(trial: Make, measured: Measured) -> None:
    def trained(curve: list[list[float]]) -> TrialResult:
        values = measured()
        values["training"]["curve"] = curve
        return finished(trial("unet"), values)

    assert training_curve([trained([[1, 2.0], [2, 1.0]]), trained([[1, 4.0], [2, 3.0]]), trained([[1, 9.0]])]) == [
        (1.0, 3.0),
        (2.0, 2.0),
    ]
    long = training_curve([trained([[step, 1.0] for step in range(1000)])])
    assert len(long) == 120
    assert training_curve([trained([])]) == []


def test_a_chart_takes_its_colours_from_the_page(page: str) -> None:
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(charts) > 20
    for chart in charts:
        assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", chart)) <= {
            "none", *(f"var(--{name})" for name in ("ink", "quiet", "rule", "frame", "paper")),
            *(f"var(--c{number})" for number in range(8)),
        }  # fmt: skip
        assert not re.search(r"<style|<metadata|url\(|<!--", chart)
        assert "font-family" not in chart


def test_a_drawing_is_the_same_every_time_and_its_text_is_text() -> None:
    axis = Axis("recall", 0, 1)
    series = [Series("<b>", 9, [(0.1, 0.2), (0.5, 0.6)], markers=True, whiskers=[(0.1, 0.3), (0.5, 0.7)])]
    one, two = (draw("a", "<title>", "described & escaped", axis, axis, series) for _ in range(2))
    assert one == two
    assert "recall</text>" in one
    assert "&lt;title&gt;" in one
    assert one.count('class="series" data-series="9"') == 4, "a line, two whiskers and markers"


@pytest.mark.parametrize("axis", [Axis("x", 0, 1), Axis("x", 3, 900, log=True), Axis.around("x", [5.0, 5.0]),
                                  Axis.around("x", [7.0], log=True), Axis.around("x", [13.4, 58.8], log=True),
                                  Axis.around("x", [14.8, 15.1], log=True)])  # fmt: skip
def test_axes_have_ticks_inside_that_do_not_print_over_each_other(axis: Axis) -> None:
    values = [value for value, _ in axis.ticks()]
    assert len(values) >= 4
    assert all(axis.low <= value <= axis.high for value in values)
    places = np.log(values) if axis.log else np.array(values)
    length = np.log(axis.high / axis.low) if axis.log else axis.high - axis.low
    assert np.diff(places).min() / length > 0.1


def test_the_command_that_reproduces_a_table_is_one_that_parses(trial: Make, measured: Measured) -> None:
    results = [finished(trial(model, seed=1), measured()) for model in ("unet", "segnet")]
    words = bench_command(results, "my results")
    assert "--models unet,segnet" in words
    assert "--group-column scene" in words
    assert "--steps 2 --batch-size 4 --crop 32 --precision fp32 --seeds 2 --device cpu" in words
    assert words.endswith("--out 'my results'")
    named = [finished(trial("unet", benchmark="table3"), measured())]
    listed = [finished(trial("unet", benchmark="table3", seed=42), measured())]
    assert "--seeds" not in bench_command(listed, "r")
    assert bench_command(named, "r").startswith("zoo bench --config benchmarks/table3.toml --seeds 1")
    tuned = [finished(trial("unet", seed=3, fine_tuning=FineTuning("runs/a b", ("encoder",), 0.5)), measured())]
    words = bench_command(tuned, "r")
    assert words.startswith("zoo train unet --from 'runs/a b' --freeze encoder --old-lr-factor 0.5 --data ")
    assert " --seed 3 " in words


def test_colours_have_the_contrast_that_readers_need() -> None:
    style = files("zoo.bench.page").joinpath("templates", "page.css").read_text(encoding="utf-8")
    schemes = [dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in style.split("@media", 2)[:2]]
    assert len(schemes) == 2
    for colours in schemes:
        for ground in ("paper", "raised"):
            for text in ("ink", "quiet", "link", "caution"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for drawn in ("frame", "focus", *(f"c{number}" for number in range(8))):
            assert contrast(colours[drawn], colours["paper"]) >= 3, drawn


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio of two sRGB colours."""

    def light(colour: str) -> float:
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_an_unknown_baseline_is_refused(results_folder: Path) -> None:
    results, _ = load_results(results_folder)
    with pytest.raises(UnknownNameError):
        render_page(results, results_folder, baseline="unnet")


def test_the_command_writes_the_page_and_names_what_it_left_out(
    results_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "made" / "report.html"
    assert run(["report", str(results_folder), "--html", str(page)]) == 0
    parse(page.read_text(encoding="utf-8"))
    assert "it needs no other file" in capsys.readouterr().err
    (results_folder / "trials" / "cut.json").write_text("{")
    assert run(["report", str(results_folder), "--html", str(page)]) == 2
    assert "cut.json: not valid JSON" in page.read_text(encoding="utf-8")
    capsys.readouterr()
    assert run(["report", str(results_folder), "--html", str(page), "--compare", str(results_folder)]) == 2
    assert "--compare cannot be combined with --html or --columns" in capsys.readouterr().err


def test_a_setting_is_described(trial: Make, measured: Measured) -> None:
    config = trial("unet", benchmark="leave_one_region_out", setting="S2")
    assert Leaderboard([finished(config, measured())], []).heading == "leave_one_region_out, S2"
