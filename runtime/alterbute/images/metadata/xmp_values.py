"""Values of XMP properties: texts, lists and texts by language, read and made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from alterbute.images.metadata.xmp import RDF, XML_LANG

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

Shape = Literal["text", "languages", "ordered", "unordered"]
"""How a property is written: a plain text, one text by language, or a list."""

MAX_ITEMS: Final = 100
MAX_CHARACTERS: Final = 1 << 16
_CONTAINERS: Final = {"languages": "Alt", "ordered": "Seq", "unordered": "Bag"}
_LANGUAGE: Final = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8}){0,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One text of a property.

    Args:
        text: The text.
        language: Its language, such as `ko` or `x-default`.
    """

    text: str
    language: str = "x-default"


def read_values(element: Element | None) -> list[Value]:
    """The texts of a property of any shape, without the empty ones; at most 100."""
    if element is None:
        return []
    items: list[Element] = [element]
    for container in element:
        if container.tag in (f"{RDF}Alt", f"{RDF}Seq", f"{RDF}Bag"):
            items = list(container)[:MAX_ITEMS]
    values = [Value(text=_read_text(item), language=_read_language(item)) for item in items]
    return [value for value in values if value.text]


def make_property(name: str, shape: Shape, values: Sequence[Value]) -> Element:
    """A property element.

    Args:
        name: Its name, `{namespace}name`.
        shape: Whether it is a plain text, of which the first value is taken, or a list.
        values: Its texts; at least one.
    """
    from xml.etree.ElementTree import Element, SubElement

    element = Element(name)
    if shape == "text":
        element.text = values[0].text
        return element
    container = SubElement(element, RDF + _CONTAINERS[shape])
    languages: set[str] = set()
    for value in values:
        if shape == "languages" and value.language in languages:
            continue
        languages.add(value.language)
        item = SubElement(container, f"{RDF}li", {XML_LANG: value.language} if shape == "languages" else {})
        item.text = value.text
    return element


def _read_text(item: Element) -> str:
    """The text of a simple value, also one with qualifiers or one that is a link; empty for a structure."""
    value = item.find(f"{RDF}value")
    if value is None:
        value = item.find(f"{RDF}Description/{RDF}value")
    if value is not None:
        item = value
    if len(item):
        return ""
    text = item.text or item.get(f"{RDF}resource") or item.get(f"{RDF}value") or ""
    return text.strip()[:MAX_CHARACTERS]


def _read_language(item: Element) -> str:
    language = item.get(XML_LANG, "x-default")
    return language if _LANGUAGE.fullmatch(language) else "x-default"
