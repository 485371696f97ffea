"""XML from strangers, read without giving them anything: no document type, so no entities and no bombs."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.parsers import expat

from zoo.errors import DataError


def parse_xml(data: bytes, where: str) -> ElementTree.Element:
    """Parse a document that declares no document type.

    Entities, the stuff of "billion laughs" and of files smuggled in, can be declared in a document type alone, and
    no Sentinel-2 product has one.

    Args:
        data: the whole document.
        where: for the error.

    Raises:
        DataError: if it is no XML, truncated, or declares a document type.
    """
    guard = expat.ParserCreate()

    def refuse(*declared: object) -> None:
        raise DataError(
            "declares a document type, which no Sentinel-2 product does and which can be an attack", where=where
        )

    guard.StartDoctypeDeclHandler = refuse
    try:
        guard.Parse(data, True)
        return ElementTree.fromstring(data)
    except (expat.ExpatError, ElementTree.ParseError, ValueError) as error:
        raise DataError(
            "is truncated or no XML", where=where, hint=f"Download or unpack the product again ({error})"
        ) from error


def text_of(root: ElementTree.Element, tag: str, where: str) -> str:
    """The text of the first element of a name.

    Raises:
        DataError: if there is none, or it is empty.
    """
    text = (root.findtext(f".//{tag}") or "").strip()
    if not text:
        raise DataError(f"says no {tag}", where=where, hint="Is it the metadata of a whole Sentinel-2 product?")
    return text
