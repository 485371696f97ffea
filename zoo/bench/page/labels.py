"""Names beside the points of a chart, where they cover as little as possible."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CHARACTER, LINE = 6.9, 13.0
"""Mean width and height of a letter of the charts' text."""
LONGEST = 28
"""Letters of a name; a longer one is cut."""
NAME, MARKER, STRAY, WHISKER, GUIDE, OUTSIDE = 100.0, 30.0, 15.0, 6.0, 3.0, 1000.0
"""What it costs to lie on another name or a marker, to be nearer to another point than to its own, to lie on a whisker
or the guide, and to leave the frame [O]."""
AWAY = 0.3
"""What each unit costs between a name and its point."""


@dataclass(frozen=True)
class Box:
    """A rectangle in the chart's units, y downward."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether the two have a point in common."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def distance(self, x: float, y: float) -> float:
        """From a point to the nearest one within."""
        return math.hypot(max(self.left - x, 0, x - self.right), max(self.top - y, 0, y - self.bottom))

    def holds(self, other: Box) -> bool:
        """Whether the other one is within."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )

    @classmethod
    def along(cls, one: tuple[float, float], two: tuple[float, float], half: float = 1.0) -> Box:
        """Around a line that is horizontal or vertical."""
        (x1, y1), (x2, y2) = one, two
        return cls(min(x1, x2) - half, min(y1, y2) - half, max(x1, x2) + half, max(y1, y2) + half)


@dataclass(frozen=True)
class Label:
    """A name with its place.

    Attributes:
        text: what is written.
        x: of its anchor.
        y: of its base line.
        anchor: ``start``, ``middle`` or ``end``.
    """

    text: str
    x: float
    y: float
    anchor: str

    @property
    def box(self) -> Box:
        """What it covers, about."""
        width = CHARACTER * len(self.text)
        left = self.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor] * width
        return Box(left, self.y - 0.8 * LINE, left + width, self.y + 0.2 * LINE)


def place_labels(
    names: Sequence[tuple[str, float, float]],
    frame: Box,
    *,
    markers: Iterable[Box] = (),
    whiskers: Iterable[Box] = (),
    guide: Iterable[Box] = (),
) -> list[Label]:
    """Give every name a place near its point: the cheapest one, in the order of the names.

    Args:
        names: text, x and y of each point.
        frame: where names may stand.
        markers: of all points.
        whiskers: of all points.
        guide: pieces of a line.
    """
    costly = [
        *((box, MARKER) for box in markers),
        *((box, WHISKER) for box in whiskers),
        *((box, GUIDE) for box in guide),
    ]
    placed: list[Label] = []
    for text, x, y in names:
        text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

        def cost(label: Label, x: float = x, y: float = y) -> float:
            box = label.box
            paid = sum(price for other, price in costly if box.meets(other))
            paid += sum(NAME for other in placed if box.meets(other.box))
            own = box.distance(x, y)
            paid += STRAY if any(box.distance(*other) < own for _, *other in names) else 0
            return paid + (0 if frame.holds(box) else OUTSIDE) + AWAY * (abs(label.x - x) + abs(label.y - 4 - y))

        placed.append(min((Label(text, x + dx, y + dy, anchor) for dx, dy, anchor in _places()), key=cost))
    return placed


def _places() -> Iterable[tuple[float, float, str]]:
    """Shifts of anchor and base line that are tried."""
    for dy in (4, -6, 14, -18, 26, -30, 38, -42, 50):
        yield 9, dy, "start"
        yield -9, dy, "end"
    for dy in (-10, 19, -23, 32):
        yield 0, dy, "middle"
