"""Charts as SVG, drawn by matplotlib for a page with a light and a dark scheme.

Text stays text. Matplotlib draws with placeholder colours, which are then replaced by variables of the page's style
sheet, so one drawing serves both schemes. Every series differs in colour, marker and dashes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 440, 330
"""Size of a chart in its own units; it scales with the page."""
COLOURS = 8
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1.2, 1.6)), (0, (5, 1.4, 1.2, 1.4)), (0, (7, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "p")
"""Seven markers and eight colours, so that the first 56 series all differ."""
INK, QUIET, RULE, FRAME, PAPER = "#00b000", "#00b001", "#00b002", "#00b003", "#00b004"
VARIABLES = {
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    RULE: "var(--rule)",
    FRAME: "var(--frame)",
    PAPER: "var(--paper)",
    **{f"#00a00{number}": f"var(--c{number})" for number in range(COLOURS)},
}
"""Placeholder colours and the style sheet variables that replace them."""
TICKS = 5
"""Ticks of a logarithmic axis."""


@dataclass(frozen=True)
class Axis:
    """Axis of a chart.

    Attributes:
        label: name with the unit.
        low: lower limit.
        high: upper limit.
        log: whether the axis is logarithmic.
        names: names for the positions 0, 1, ... instead of numbers; each has one or two lines.
    """

    label: str
    low: float
    high: float
    log: bool = False
    names: Sequence[str] = ()

    @classmethod
    def around(cls, label: str, values: Sequence[float], *, log: bool = False, margin: float = 0.08) -> Axis:
        """Return an axis that includes all values with some margin."""
        low, high = min(values), max(values)
        if log:
            factor = max((high / low) ** margin, 1.25)
            return cls(label, low / factor, high * factor, log=True)
        room = margin * (high - low) or 0.05 * abs(high) or 1.0
        return cls(label, low - room, high + room)

    def ticks(self) -> list[tuple[float, str]]:
        """Return ticks with their labels, evenly spaced so that labels do not overlap."""
        from matplotlib.ticker import MaxNLocator

        if self.names:
            return [(float(place), name) for place, name in enumerate(self.names)]
        if self.log:
            values = [float(f"{value:.2g}") for value in np.geomspace(self.low, self.high, TICKS + 2)[1:-1]]
        else:
            values = [*MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)]
        return [(value, f"{value:,.6g}") for value in dict.fromkeys(values) if self.low <= value <= self.high]


@dataclass(frozen=True)
class Series:
    """Points of one model.

    Attributes:
        name: label of the model.
        style: number that selects colour, marker and dashes.
        points: x and y of each point.
        line: whether the points are joined.
        markers: whether each point has a marker.
        marked: further points with a marker.
        whiskers: lower and upper end in y of each point; NaN for none.
        hollow: whether the markers are hollow.
    """

    name: str
    style: int
    points: Sequence[tuple[float, float]]
    line: bool = True
    markers: bool = False
    marked: Sequence[tuple[float, float]] = ()
    whiskers: Sequence[tuple[float, float]] = ()
    hollow: bool = False


def draw(
    identity: str,
    title: str,
    description: str,
    x: Axis,
    y: Axis,
    series: Sequence[Series],
    guide: Sequence[tuple[float, float]] = (),
) -> Markup:
    """Return a chart as an SVG element.

    Args:
        identity: name that is unique on the page.
        title: title of the chart, for readers who cannot see it.
        description: what it shows, in words.
        x: horizontal axis.
        y: vertical axis.
        series: series in drawing order.
        guide: points of a dashed line that belongs to no series.
    """
    with _axes(identity, WIDTH, HEIGHT) as (axes, finish):
        axes.set_position((52 / WIDTH, 54 / HEIGHT, (WIDTH - 66) / WIDTH, (HEIGHT - 66) / HEIGHT))
        _frame(axes, x, y)
        if guide:
            axes.plot(*zip(*guide, strict=True), color=FRAME, linewidth=1.3, linestyle=(0, (3, 3)), clip_on=False)
        for line in series:
            _draw_series(axes, line)
        body = finish()
    return Markup(
        '<svg class="chart" role="img" viewBox="0 0 {} {}" aria-labelledby="{id}-title" aria-describedby="{id}-text">'
        '<title id="{id}-title">{}</title><desc id="{id}-text">{}</desc><g aria-hidden="true">{}</g></svg>'
    ).format(WIDTH, HEIGHT, title, description, body, id=escape(identity))


@cache
def swatch(style: int, *, line: bool = True, hollow: bool = False) -> Markup:
    """Return the line and marker of a series as a small SVG element, for a legend."""
    with _axes(f"swatch-{style}-{line}-{hollow}", 32, 16) as (axes, finish):
        axes.set_position((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, 32), ylim=(0, 16))
        if line:
            dashes = DASHES[style % len(DASHES)]
            axes.plot([1, 31], [8, 8], color=_colour(style), linewidth=2, linestyle=dashes, clip_on=False)
        axes.plot([16], [8], **_marker(style, hollow=hollow))
        body = finish(shared=False)
    return Markup('<svg class="swatch" viewBox="0 0 32 16" aria-hidden="true">{}</svg>').format(body)


@contextmanager
def _axes(identity: str, width: int, height: int) -> Iterator[tuple[Axes, Any]]:
    """Yield axes in an empty figure, and a function that returns the drawn SVG without its outer element."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": identity, "font.size": 12.5, "path.simplify": False}):
        figure = Figure(figsize=(width / 72, height / 72), frameon=False)
        axes = figure.add_axes((0, 0, 1, 1), frameon=False)

        def finish(*, shared: bool = True) -> Markup:
            stream = io.StringIO()
            figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
            return _inline(stream.getvalue(), identity if shared else "")

        yield axes, finish


def _inline(document: str, identity: str) -> Markup:
    """Return the content of an SVG document for embedding in a page.

    Elements keep an id only if it is referred to; the ids of series become classes that the page's script uses.
    """
    body = document[document.index(">", document.index("<svg")) + 1 : document.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="series-(\d+)"', r'<g class="series" data-series="\1"', body)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r"\s*\n\s*", " ", body)
    body = body.replace("xlink:href", "href")
    if not identity:
        # A swatch appears on the page many times, and ids must be unique.
        body = _without_references(body)
    return Markup(re.sub("|".join(VARIABLES), lambda found: VARIABLES[found.group()], body))


def _without_references(body: str) -> str:
    """Return an SVG body in which each ``<use>`` is replaced by the shape that it refers to."""
    shapes = dict(re.findall(r'<path id="(\w+)"( d="[^"]*")', body))
    body = re.sub(r"<defs>.*?</defs>", "", body)
    return re.sub(
        r'<use href="#(\w+)" x="([\d.]+)" y="([\d.]+)"([^>]*)/>',
        lambda one: f'<path{shapes[one[1]]} transform="translate({one[2]} {one[3]})"{one[4]}/>',
        body,
    )


def _frame(axes: Axes, x: Axis, y: Axis) -> None:
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log" if x.log else "linear")
    for axis, kind in ((x, axes.xaxis), (y, axes.yaxis)):
        ticks = axis.ticks()
        kind.set_ticks([place for place, _ in ticks], labels=[text for _, text in ticks])
        kind.set_minor_locator(NullLocator())
        kind.set_label_text(axis.label, color=QUIET)
    axes.set(xlim=(x.low, x.high), ylim=(y.low, y.high))
    axes.tick_params(length=0, pad=5, labelcolor=INK)
    axes.xaxis.labelpad = 6
    axes.yaxis.set_label_coords(-36 / (WIDTH - 66), 0.5)
    axes.grid(axis="y" if x.names else "both", color=RULE, linewidth=1, clip_on=False)
    axes.plot(
        [0, 0, 1], [1, 0, 0], transform=axes.transAxes, color=FRAME, linewidth=1.2, clip_on=False, scalex=False,
        scaley=False,
    )  # fmt: skip


def _draw_series(axes: Axes, series: Series) -> None:
    colour, group = _colour(series.style), f"series-{series.style}"
    if series.line and len(series.points) > 1:
        dashes = DASHES[series.style % len(DASHES)]
        axes.plot(
            *zip(*series.points, strict=True), color=colour, linewidth=2, linestyle=dashes, clip_on=False, gid=group
        )
    for (place, _), (low, high) in zip(series.points, series.whiskers, strict=False):
        if not math.isnan(low):
            axes.plot([place, place], [low, high], color=colour, linewidth=1.4, clip_on=False, gid=group)
    points = [*(series.points if series.markers else ()), *series.marked]
    if points:
        axes.plot(*zip(*points, strict=True), **_marker(series.style, hollow=series.hollow), gid=group)


def _marker(style: int, *, hollow: bool) -> dict[str, Any]:
    colour = _colour(style)
    return {
        "linestyle": "none", "marker": MARKERS[style % len(MARKERS)], "markersize": 8.5, "clip_on": False,
        "markerfacecolor": PAPER if hollow else colour, "markeredgecolor": colour if hollow else PAPER,
        "markeredgewidth": 1.8 if hollow else 0.8,
    }  # fmt: skip


def _colour(style: int) -> str:
    return f"#00a00{style % COLOURS}"
