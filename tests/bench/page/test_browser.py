"""The page in a real browser: it sorts, filters, runs nothing that is not its own, and loads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

SORTED = """(() => [...document.querySelectorAll('#setting-1-leaderboard tbody tr:not([hidden])')]
    .map((row) => row.cells[0].textContent))()"""


@pytest.fixture
def loaded(tab, page: str, tmp_path: Path):
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    tab.open(path.as_uri())
    return tab


def click(tab, heading: str) -> None:
    tab.run(
        "[...document.querySelectorAll('#setting-1-leaderboard button')]"
        f".find((one) => one.textContent.startsWith({heading!r})).click()"
    )


@pytest.mark.slow
def test_it_sorts_filters_and_stays_silent(loaded) -> None:
    assert loaded.run(SORTED) == ["mobilenetv2", "unet", "segnet", "deeplabv3plus"]
    click(loaded, "Dice")
    assert loaded.run(SORTED) == ["segnet", "unet", "mobilenetv2", "deeplabv3plus"], "undefined stays last"
    click(loaded, "Model")
    assert loaded.run(SORTED) == ["deeplabv3plus", "mobilenetv2", "segnet", "unet"]
    click(loaded, "FPS b1")
    assert loaded.run(SORTED)[0] == "mobilenetv2", "the fastest comes first"
    shown = "[...document.querySelectorAll('#setting-1-leaderboard th[aria-sort]')].map((one) => one.ariaSort).join()"
    assert loaded.run(shown) == "descending"

    type_in = """(() => { const field = document.querySelector('#setting-1-leaderboard-filter');
        field.value = %r; field.dispatchEvent(new Event('input')); })()"""
    loaded.run(type_in % "NET fail")
    assert loaded.run(SORTED) == []
    loaded.run(type_in % "failed")
    assert loaded.run(SORTED) == ["deeplabv3plus"]
    assert loaded.run("document.querySelector('[role=status]').textContent") == "1 of 4 models"

    loaded.run("document.querySelector('.legend button.key').click()")
    assert loaded.run("document.querySelector('.legend button.key').ariaPressed") == "false"
    hidden = "[...new Set([...document.querySelectorAll('.series.away')].map((one) => one.dataset.series))].length"
    assert loaded.run(hidden) == 1

    assert loaded.run("window.hacked") is None
    assert loaded.told("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled") == []
    asked = [event["request"]["url"] for event in loaded.told("Network.requestWillBeSent")]
    assert [url[:5] for url in asked if not url.startswith("data:")] == ["file:"]


@dataclass(frozen=True)
class Heard:
    """A node of the accessibility tree: its text for a screen reader, and its place."""

    role: str
    name: str
    description: str
    within: tuple[str, ...]
    properties: dict[str, Any]


def hear(tab) -> list[Heard]:
    """The accessibility tree in reading order, without what is ignored."""
    nodes = {node["nodeId"]: node for node in tab.command("Accessibility.getFullAXTree")["nodes"]}
    found: list[Heard] = []

    def walk(node: dict[str, Any], within: tuple[str, ...]) -> None:
        if not node.get("ignored"):
            role, name, text = (node.get(part, {}).get("value", "") for part in ("role", "name", "description"))
            properties = {one["name"]: one["value"].get("value") for one in node.get("properties", [])}
            found.append(Heard(role, name, text, within, properties))
            within = (*within, role)
        for child in node.get("childIds", []):
            if child in nodes:
                walk(nodes[child], within)

    walk(next(node for node in nodes.values() if "parentId" not in node), ())
    return found


@pytest.mark.slow
def test_a_screen_reader_hears_names_headings_and_states(loaded) -> None:
    heard = hear(loaded)

    def named(role: str) -> list[str]:
        return [one.name for one in heard if one.role == role]

    levels = [one.properties["level"] for one in heard if one.role == "heading"]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert {"banner", "navigation", "main", "contentinfo"} <= {one.role for one in heard}
    for role in ("heading", "button", "link", "searchbox", "table", "figure", "image", "columnheader", "rowheader"):
        assert named(role), role
        assert all(name.strip() for name in named(role)), role
    assert named("searchbox") == ["Only models whose name or status contains"] * 2
    charts = [one for one in heard if one.role == "image" and one.within[-1] == "figure"]
    assert [one.name for one in charts] == [name for name in named("figure") if name in {one.name for one in charts}]
    assert all(one.description and one.name not in one.description for one in charts)
    assert "Pareto front" in charts[0].description
    assert not [one for one in heard if "image" in one.within], "ticks by themselves say nothing"
    headings = [name for name in named("columnheader") if name.startswith(("Model", "Dice"))]
    assert headings[:2] == ["Model", "Dice"], "arrows are for the eyes"
    assert {"Hide and show series of: Training loss"} <= set(named("list"))
    assert all(
        one.properties["pressed"] == "true" for one in heard if "listitem" in one.within and one.role == "button"
    )

    sorted_by = "document.querySelector('#setting-1-leaderboard th[aria-sort]').ariaSort"
    click(loaded, "Model")
    assert loaded.run(sorted_by) == "ascending"
    click(loaded, "Model")
    assert loaded.run(sorted_by) == "descending"


@pytest.mark.slow
def test_the_tab_key_reaches_everything_in_order_and_leaves(loaded) -> None:
    stops = loaded.run(
        "[...document.querySelectorAll('a, button, input, summary, [tabindex]')]"
        ".filter((one) => one.checkVisibility()).map((one, place) => { one.dataset.stop = place; }).length"
    )
    loaded.run("document.activeElement.blur()")
    seen = []
    for _ in range(stops):
        loaded.command("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        loaded.command("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        seen.append(loaded.run("document.activeElement.dataset.stop"))
    assert seen == [str(place) for place in range(stops)]


@pytest.mark.slow
def test_it_fits_a_phone_and_has_keys_for_everything(loaded) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    loaded.command("Emulation.setDeviceMetricsOverride", **size)
    try:
        assert loaded.run("document.documentElement.scrollWidth") <= 390
        assert loaded.run("document.querySelector('.scroll').scrollWidth") > 390
        assert loaded.run("document.querySelector('.scrolls').hidden") is False, "the page says that the table scrolls"
    finally:
        loaded.command("Emulation.clearDeviceMetricsOverride")
    loaded.command("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert loaded.run("document.activeElement.className") == "skip"
    assert loaded.run("[...document.querySelectorAll('button, a, input, summary')].every((one) => one.tabIndex >= 0)")
