"""Charts as SVG elements: colours come from the page's style sheet, and every series has a marker and dashes too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from zoo.bench.page.markup import Element, tag

WIDTH, HEIGHT = 440, 330
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 54
LONGEST_LABEL = 28
"""Characters beside a point."""
NEAREST_TICKS = 0.09
"""Of the length of an axis."""
COLOURS = 8
DASHES = ("none", "7 3", "2 3", "9 3 2 3", "12 4")
MARKERS = (
    "M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0z",
    "M-4,-4h8v8h-8z",
    "M0,-5.2L5,4H-5z",
    "M0,-5.6L5.6,0L0,5.6L-5.6,0z",
    "M0,5.2L5,-4H-5z",
    "M-1.7,-5h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3v-3.4h3.3z",
    "M0,-5.5L5.2,-1.7L3.2,4.5H-3.2L-5.2,-1.7z",
)
"""Circle, square, triangle, diamond, triangle upside down, cross, pentagon; seven beside eight colours, so that the
first 56 series all differ."""


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Attributes:
        label: with its unit.
        low: where it begins.
        high: where it ends.
        log: whether it is logarithmic.
        names: of the places 0, 1, ... instead of numbers; in one line or two.
    """

    label: str
    low: float
    high: float
    log: bool = False
    names: Sequence[str] = ()

    @classmethod
    def around(cls, label: str, values: Sequence[float], *, log: bool = False, room: float = 0.08) -> Axis:
        """An axis that holds all values, with some room."""
        low, high = min(values), max(values)
        if log:
            factor = max((high / low) ** room, 1.25)
            return cls(label, low / factor, high * factor, log=True)
        margin = room * (high - low) or 0.05 * abs(high) or 1.0
        return cls(label, low - margin, high + margin)

    def place(self, value: float) -> float:
        """From 0 at the beginning to 1 at the end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Places of ticks and what stands beside them."""
        if self.names:
            return [(float(place), name) for place, name in enumerate(self.names)]
        from matplotlib.ticker import LogLocator, MaxNLocator

        if self.log:
            found = LogLocator(subs=(1.0, 2.0, 5.0), numticks=12).tick_values(self.low, self.high)
        else:
            found = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        shown: list[float] = []
        for value in map(float, found):
            if self.low <= value <= self.high and (
                not shown or self.place(value) - self.place(shown[-1]) > NEAREST_TICKS
            ):
                shown.append(value)
        return [(value, f"{value:,.6g}") for value in shown]


@dataclass(frozen=True)
class Series:
    """Points of one model.

    Attributes:
        name: of the model.
        style: number of colour, marker and dashes.
        points: x and y.
        line: whether they are joined.
        markers: whether each has a marker; else the first of ``marked``.
        marked: points with a marker of their own.
        whiskers: lower and upper end in y of each point.
        label: written beside the first point.
        hollow: markers without filling.
    """

    name: str
    style: int
    points: Sequence[tuple[float, float]]
    line: bool = True
    markers: bool = False
    marked: Sequence[tuple[float, float]] = ()
    whiskers: Sequence[tuple[float, float]] = ()
    label: str = ""
    hollow: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart with a name and a sentence for those who do not see it.

    Attributes:
        identity: unique on the page.
        title: of the chart.
        description: what it shows, in words.
        x: axis.
        y: axis.
        series: drawn in this order.
        guide: points of a line that belongs to no series.
        guide_label: what the guide is.
    """

    identity: str
    title: str
    description: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    guide: Sequence[tuple[float, float]] = field(default=())
    guide_label: str = ""


def draw(chart: Chart) -> Element:
    """The chart as an SVG element that scales with the page."""
    across = _scaled(chart.x, LEFT, WIDTH - RIGHT)
    upward = _scaled(chart.y, HEIGHT - BOTTOM, TOP)
    title, description = f"{chart.identity}-title", f"{chart.identity}-text"
    parts = [*_grid(chart, across, upward)]
    if chart.guide:
        parts.append(tag("path", d=_path(chart.guide, across, upward), class_="guide"))
    labels = _Labels()
    for series in chart.series:
        parts.append(_series(series, across, upward, labels))
    return tag(
        "svg",
        tag("title", chart.title, id=title),
        tag("desc", chart.description, id=description),
        *parts,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"{title} {description}",
        class_="chart",
    )


def swatch(style: int, *, line: bool = True, hollow: bool = False) -> Element:
    """The line and marker of a series, for a legend."""
    stroke = tag("path", d="M1,8H31", class_=f"line s{style % COLOURS}", stroke_dasharray=DASHES[style % len(DASHES)])
    return tag(
        "svg",
        stroke if line else None,
        _marker(style, 16, 8, hollow=hollow),
        viewBox="0 0 32 16",
        class_="swatch",
        aria_hidden="true",
    )


class _Labels:
    """Keeps names beside points from lying on each other."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, float, float]] = []

    def place(self, x: float, y: float, text: str) -> Element:
        text = text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"
        width = 6.2 * len(text)
        left = x + 9 + width > WIDTH - RIGHT
        start = x - 9 - width if left else x + 9
        offsets = (4.0, -8.0, 16.0, -20.0, 28.0, -32.0, 40.0)
        row = next((y + offset for offset in offsets if self._free(start, y + offset, width)), y + 4)
        self.taken.append((start, row, width))
        return tag("text", text, x=f"{x - 9 if left else x + 9:.1f}", y=f"{row:.1f}", class_="end" if left else "name")

    def _free(self, start: float, row: float, width: float) -> bool:
        return TOP < row < HEIGHT - BOTTOM and not any(
            abs(row - other) < 12 and start < begin + wide and begin < start + width
            for begin, other, wide in self.taken
        )


Scale = Callable[[float], float]


def _scaled(axis: Axis, begin: float, end: float) -> Scale:
    return lambda value: begin + axis.place(value) * (end - begin)


def _grid(chart: Chart, across: Scale, upward: Scale) -> list[Element]:
    bottom, parts = HEIGHT - BOTTOM, []
    for value, text in chart.x.ticks():
        x = f"{across(value):.1f}"
        if not chart.x.names:
            parts.append(tag("path", d=f"M{x},{TOP}V{bottom}", class_="grid"))
        for row, line in enumerate(text.splitlines()):
            parts.append(tag("text", line, x=x, y=bottom + 16 + 13 * row, class_="middle"))
    for value, text in chart.y.ticks():
        y = upward(value)
        parts.append(tag("path", d=f"M{LEFT},{y:.1f}H{WIDTH - RIGHT}", class_="grid"))
        parts.append(tag("text", text, x=LEFT - 6, y=f"{y + 4:.1f}", class_="end"))
    parts.append(tag("path", d=f"M{LEFT},{TOP}V{bottom}H{WIDTH - RIGHT}", class_="axis"))
    middle = (TOP + bottom) / 2
    parts.append(
        tag(
            "text",
            chart.x.label,
            x=(LEFT + WIDTH - RIGHT) / 2,
            y=HEIGHT - (8 if chart.x.names else 20),
            class_="middle label",
        )
    )
    turned = f"rotate(-90 13 {middle})"
    parts.append(tag("text", chart.y.label, x=13, y=middle, transform=turned, class_="middle label"))
    return parts


def _series(series: Series, across: Scale, upward: Scale, labels: _Labels) -> Element:
    group = tag("g", class_="series", data_series=series.style)
    if series.line and len(series.points) > 1:
        dashes = DASHES[series.style % len(DASHES)]
        path = _path(series.points, across, upward)
        group.append(tag("path", d=path, class_=f"line s{series.style % COLOURS}", stroke_dasharray=dashes))
    for (x, _), (low, high) in zip(series.points, series.whiskers, strict=False):
        if not math.isnan(low):
            place = f"M{across(x):.1f},{upward(low):.1f}V{upward(high):.1f}"
            group.append(tag("path", d=place, class_=f"whisker s{series.style % COLOURS}"))
    for x, y in [*(series.points if series.markers else ()), *series.marked]:
        group.append(_marker(series.style, across(x), upward(y), hollow=series.hollow))
    if series.label and series.points:
        x, y = series.points[0]
        group.append(labels.place(across(x), upward(y), series.label))
    return group


def _marker(style: int, x: float, y: float, *, hollow: bool) -> Element:
    kind = "hollow" if hollow else "marker"
    place = f"translate({x:.1f} {y:.1f})"
    return tag("path", d=MARKERS[style % len(MARKERS)], transform=place, class_=f"{kind} s{style % COLOURS}")


def _path(points: Sequence[tuple[float, float]], across: Scale, upward: Scale) -> str:
    return "M" + "L".join(f"{across(x):.1f},{upward(y):.1f}" for x, y in points)
