"""The page as a whole."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from zoo import __version__
from zoo.bench.page import figures
from zoo.bench.page.data import Setting, make_settings
from zoo.bench.page.leaderboard import beside_the_paper, leaderboard, meanings
from zoo.bench.page.markup import Element, html, tag
from zoo.bench.page.panels import panels
from zoo.bench.page.provenance import provenance
from zoo.bench.results import TrialResult
from zoo.errors import ZooError

PAPER = "https://doi.org/10.4236/jcc.2025.138004"


def render_page(
    results: Sequence[TrialResult],
    folder: Path,
    problems: Sequence[ZooError] = (),
    baseline: str | None = None,
) -> str:
    """One HTML document that shows a results folder and loads nothing.

    Args:
        results: of :func:`zoo.bench.results.load_results`.
        folder: that they were read from; pictures are read from there too.
        problems: with result files that could not be used; the page names them.
        baseline: label of the model that others are compared with; by default the configuration's, else ``unet``.

    Returns:
        HTML with inline style, script, charts and images.

    Raises:
        UnknownNameError: if no row is called ``baseline``.
    """
    settings, damaged = make_settings(results, folder, baseline)
    script, style = _file("page.js"), _file("page.css")
    heading = "Landslide segmentation benchmark"
    found = {setting.heading for setting in settings}
    title = f"{next(iter(found))}: {heading}" if len(found) == 1 else heading
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content=f"landslide-zoo {__version__}"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", style),
    )
    body = tag(
        "body",
        tag("a", "Skip to the results", href="#results", class_="skip"),
        tag("header", tag("h1", heading), _summary(settings, folder), _contents(settings)),
        tag(
            "main",
            _problems([*problems, *damaged]),
            *(_section(setting, folder) for setting in settings),
            tag(
                "section",
                tag("h2", "What the figures mean", id="meanings-heading"),
                meanings(),
                id="meanings",
                aria_labelledby="meanings-heading",
            ),
            id="results",
        ),
        tag(
            "footer",
            tag("p", f"Made by landslide-zoo {__version__} from the result files of ", tag("code", folder.name), "."),
            tag("p", "The paper: ", tag("a", "Zheng et al. 2025", href=PAPER), "."),
        ),
        tag("script", script),
    )
    return "<!DOCTYPE html>\n" + html(tag("html", head, body, lang="en")) + "\n"


def _summary(settings: Sequence[Setting], folder: Path) -> Element:
    trials = [result for setting in settings for result in setting.results]
    failed = sum(result.status in ("failed", "out-of-memory") for result in trials)
    without = f"; {failed} of them failed" if failed else ""
    many = "one setting" if len(settings) == 1 else f"{len(settings)} settings"
    return tag("p", f"{len(trials)} trials in {many}, from ", tag("code", folder.name or "."), without + ".")


def _contents(settings: Sequence[Setting]) -> Element:
    links = [tag("li", tag("a", one.heading, href=f"#setting-{one.number}")) for one in settings]
    links.append(tag("li", tag("a", "What the figures mean", href="#meanings")))
    return tag("nav", tag("ul", *links), aria_label="Contents")


def _problems(problems: Sequence[ZooError]) -> Element | None:
    if not problems:
        return None
    return tag(
        "section",
        tag("h2", "Files that could not be used", id="problems"),
        tag("ul", *(tag("li", str(problem)) for problem in problems)),
        class_="doubt",
        aria_labelledby="problems",
    )


def _section(setting: Setting, folder: Path) -> Element:
    identity = f"setting-{setting.number}"
    section = tag(
        "section",
        tag("h2", setting.heading, id=f"{identity}-heading"),
        tag("h3", "Leaderboard"),
        *leaderboard(setting),
        id=identity,
        class_="setting",
        aria_labelledby=f"{identity}-heading",
    )
    paper = beside_the_paper(setting)
    if paper is not None:
        section.append(paper)
    if setting.trials:
        charts = (
            ("Quality against speed and size", [
                figures.trade_off(setting, "fps", "frames a second at batch 1", "fps", smaller=False),
                figures.trade_off(setting, "parameters", "parameters in millions", "size", smaller=True, scale=1e6),
            ]),
            ("Thresholds and sizes", [figures.precision_recall(setting), figures.recall_of_sizes(setting)]),
            ("Calibration", [figures.reliability(setting, scaled=False), figures.reliability(setting, scaled=True)]),
            ("Training curves", [figures.training(setting)]),
        )  # fmt: skip
        for heading, drawn in charts:
            section.append(tag("h3", heading))
            section.append(tag("div", *drawn, class_="charts"))
        section.append(tag("h3", "Image, truth and predictions"))
        section.append(panels(setting))
    section.extend(provenance(setting, folder))
    return section


def _policy(script: str) -> str:
    """Nothing is loaded, and no script runs but the page's own: a label that holds one stays text."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; base-uri 'none'"
    )


def _file(name: str) -> str:
    return files("zoo.bench.page").joinpath(name).read_text(encoding="utf-8")
