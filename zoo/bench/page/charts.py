"""Charts as SVG elements: colours come from the page's style sheet, and every series has a marker and dashes too."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from zoo.bench.page.labels import Box, place_labels
from zoo.bench.page.markup import Element, tag

WIDTH, HEIGHT = 440, 330
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 54
NEAREST_TICKS = 0.09
"""Of the length of an axis."""
FEWEST_TICKS = 4
LOG_TICKS = ((1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0))
"""Of a decade; the finer ones where the coarser are fewer than :data:`FEWEST_TICKS`, then those of a linear axis."""
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

        linear = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10])
        locators = [LogLocator(subs=subs, numticks=12) for subs in LOG_TICKS] if self.log else []
        shown: list[float] = []
        for locator in (*locators, linear):
            found = self._apart(map(float, locator.tick_values(self.low, self.high)))
            shown = max(shown, found, key=len)
            if len(shown) >= FEWEST_TICKS:
                break
        return [(value, f"{value:,.6g}") for value in shown]

    def _apart(self, values: Iterable[float]) -> list[float]:
        """Those within the axis that are not too close to the one before."""
        shown: list[float] = []
        for value in values:
            if self.low <= value <= self.high and (
                not shown or self.place(value) - self.place(shown[-1]) > NEAREST_TICKS
            ):
                shown.append(value)
        return shown


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
    parts += [_series(series, across, upward) for series in chart.series]
    names = _names(chart, across, upward)
    parts += [names] if names is not None else []
    return tag(
        "svg",
        tag("title", chart.title, id=title),
        tag("desc", chart.description, id=description),
        # What the description says is enough to hear; ticks and names by themselves are not.
        tag("g", *parts, aria_hidden="true"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=title,
        aria_describedby=description,
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
            parts.append(tag("text", line, x=x, y=bottom + 17 + 14 * row, class_="middle"))
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


def _series(series: Series, across: Scale, upward: Scale) -> Element:
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
    return group


def _names(chart: Chart, across: Scale, upward: Scale) -> Element | None:
    """Names beside points, over all that is drawn."""
    labelled = [series for series in chart.series if series.label and series.points]
    if not labelled:
        return None
    drawn = [(across(x), upward(y)) for series in chart.series for x, y in series.points]
    ends = [
        ((across(x), upward(low)), (across(x), upward(high)))
        for series in chart.series
        for (x, _), (low, high) in zip(series.points, series.whiskers, strict=False)
        if not math.isnan(low)
    ]
    corners = [(across(x), upward(y)) for x, y in chart.guide]
    placed = place_labels(
        [(series.label, across(series.points[0][0]), upward(series.points[0][1])) for series in labelled],
        Box(LEFT, TOP, WIDTH, HEIGHT - BOTTOM),
        markers=[Box.along(point, point, half=6.0) for point in drawn],
        whiskers=[Box.along(*both) for both in ends],
        guide=[Box.along(one, two) for one, two in pairwise(corners)],
    )
    texts = (tag("text", one.text, x=f"{one.x:.1f}", y=f"{one.y:.1f}", class_=f"name {one.anchor}") for one in placed)
    return tag("g", *texts)


def _marker(style: int, x: float, y: float, *, hollow: bool) -> Element:
    kind = "hollow" if hollow else "marker"
    place = f"translate({x:.1f} {y:.1f})"
    return tag("path", d=MARKERS[style % len(MARKERS)], transform=place, class_=f"{kind} s{style % COLOURS}")


def _path(points: Sequence[tuple[float, float]], across: Scale, upward: Scale) -> str:
    return "M" + "L".join(f"{across(x):.1f},{upward(y):.1f}" for x, y in points)
