"""The page in a real browser: it sorts, filters, runs nothing that is not its own, and loads nothing."""

from __future__ import annotations

from pathlib import Path

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
    click(loaded, "FPS, batch 1")
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
    assert loaded.run("document.querySelectorAll('.series.away').length") == 1

    assert loaded.run("window.hacked") is None
    assert loaded.told("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled") == []
    asked = [event["request"]["url"] for event in loaded.told("Network.requestWillBeSent")]
    assert [url[:5] for url in asked if not url.startswith("data:")] == ["file:"]


@pytest.mark.slow
def test_it_fits_a_phone_and_has_keys_for_everything(loaded) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    loaded.command("Emulation.setDeviceMetricsOverride", **size)
    try:
        assert loaded.run("document.documentElement.scrollWidth") <= 390
        assert loaded.run("document.querySelector('.scroll').scrollWidth") > 390
    finally:
        loaded.command("Emulation.clearDeviceMetricsOverride")
    loaded.command("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert loaded.run("document.activeElement.className") == "skip"
    assert loaded.run("[...document.querySelectorAll('button, a, input, summary')].every((one) => one.tabIndex >= 0)")
