"""Elements of HTML and SVG, escaped wherever they are made."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree

Element = ElementTree.Element
Child = Element | str | None

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def tag(name: str, /, *children: Child, **attributes: object) -> Element:
    """Make an element.

    Args:
        name: of the element.
        children: elements and texts in order; texts are escaped when the page is written, ``None`` is left out.
        attributes: underscores become hyphens and a last one goes (``class_``, ``aria_sort``); ``None`` is left out,
            ``True`` gives an empty attribute.
    """
    element = Element(name)
    for label, value in attributes.items():
        if value is not None and value is not False:
            text = "" if value is True else _clean(str(value))
            element.set(label.rstrip("_").replace("_", "-"), text)
    add(element, children)
    return element


def add(element: Element, children: Iterable[Child]) -> None:
    """Append elements and texts to an element."""
    for child in children:
        if child is None:
            continue
        if isinstance(child, str):
            if len(element):
                element[-1].tail = (element[-1].tail or "") + _clean(child)
            else:
                element.text = (element.text or "") + _clean(child)
        else:
            element.append(child)


def html(element: Element) -> str:
    """The element as HTML, which SVG may stand within."""
    return ElementTree.tostring(element, encoding="unicode", method="html")


def table(
    caption: str, headings: Iterable[str], rows: Iterable[Iterable[Child]], *, class_: str | None = None
) -> Element:
    """A plain table in a box that it scrolls in; the first cell of each row is its heading.

    Args:
        caption: what the table says.
        headings: of the columns.
        rows: cells of each row.
        class_: of the table.
    """
    body = tag("tbody")
    for cells in rows:
        first, *others = cells
        body.append(tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in others)))
    head = tag("thead", tag("tr", *(tag("th", heading, scope="col") for heading in headings)))
    return scrolling(tag("table", captioned(caption), head, body, class_=class_), caption)


def breakable(name: str) -> list[Child]:
    """A name that may be broken after its underscores and hyphens, where the page is narrow."""
    first, *others = re.split(r"(?<=[_-])(?=.)", name)
    return [first, *(part for other in others for part in (tag("wbr"), other))]


def captioned(text: str) -> Element:
    """A caption that stays in sight while its table scrolls."""
    return tag("caption", tag("span", text))


def scrolling(content: Element, label: str) -> Element:
    """A box that scrolls sideways, by keyboard too."""
    return tag("div", content, class_="scroll", tabindex="0", role="group", aria_label=label)


def _clean(text: str) -> str:
    """Characters that no page may hold become the mark that stands for them."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
