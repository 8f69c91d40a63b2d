"""XMP packets (ISO 16684-1): read into properties, and written with one `rdf:Description`.

The standard library's parser is used with its own builder, which ends at a document type, at deep nesting and at many elements.
Its writer is not used: it names namespaces by a registry that is global to the process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

RDF: Final = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
XML_LANG: Final = "{http://www.w3.org/XML/1998/namespace}lang"
DC: Final = "{http://purl.org/dc/elements/1.1/}"
XMP: Final = "{http://ns.adobe.com/xap/1.0/}"
RIGHTS: Final = "{http://ns.adobe.com/xap/1.0/rights/}"
PHOTOSHOP: Final = "{http://ns.adobe.com/photoshop/1.0/}"
IPTC_CORE: Final = "{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}"
IPTC_EXT: Final = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
TIFF: Final = "{http://ns.adobe.com/tiff/1.0/}"
EXIF: Final = "{http://ns.adobe.com/exif/1.0/}"
ALTERBUTE: Final = "{urn:alterbute:edit:1.0}"

_PREFIXES: Final = {
    RDF[1:-1]: "rdf",
    DC[1:-1]: "dc",
    XMP[1:-1]: "xmp",
    RIGHTS[1:-1]: "xmpRights",
    PHOTOSHOP[1:-1]: "photoshop",
    IPTC_CORE[1:-1]: "Iptc4xmpCore",
    IPTC_EXT[1:-1]: "Iptc4xmpExt",
    TIFF[1:-1]: "tiff",
    EXIF[1:-1]: "exif",
    ALTERBUTE[1:-1]: "alterbute",
}
_MAX_DEPTH: Final = 40
_MAX_ELEMENTS: Final = 20_000
# XML 1.0, production [2]; the surrogates are those that stand alone in a Python text.
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PREFIX: Final = re.compile(r"[A-Za-z_][\w.-]{0,39}", re.ASCII)
# A parser turns a carriage return into a line feed, and every blank of an attribute into a space.
_IN_TEXT: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_IN_ATTRIBUTE: Final = {**_IN_TEXT, **str.maketrans({'"': "&quot;", "\n": "&#10;", "\t": "&#9;"})}
_XML: Final = "{http://www.w3.org/XML/1998/namespace}"
_HEAD: Final = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
_TAIL: Final = '</x:xmpmeta>\n<?xpacket end="w"?>'


@dataclass(frozen=True, slots=True, kw_only=True)
class XmpPacket:
    """The properties of an XMP packet.

    Args:
        properties: Property elements by their name, written as `{namespace}name`.
        prefixes: The packet's own prefixes by namespace.
    """

    properties: Mapping[str, Element] = field(default_factory=dict)
    prefixes: Mapping[str, str] = field(default_factory=dict)


class _Builder:
    """Builds the tree of a document, within limits."""

    def __init__(self) -> None:
        from xml.etree.ElementTree import TreeBuilder

        self.prefixes: dict[str, str] = {}
        self._tree = TreeBuilder()
        self._depth = 0
        self._number = 0

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise ValueError("XMP has no document type")

    def start_ns(self, prefix: str, uri: str) -> None:
        self.prefixes.setdefault(uri, prefix)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._number += 1 + len(attributes)
        if self._depth > _MAX_DEPTH or self._number > _MAX_ELEMENTS:
            raise ValueError("an XMP packet of this depth or size is no description of a picture")
        self._tree.start(tag, attributes)

    def end(self, tag: str) -> None:
        self._depth -= 1
        self._tree.end(tag)

    def data(self, text: str) -> None:
        self._tree.data(text)

    def close(self) -> Element:
        return self._tree.close()


def read_xmp(data: bytes) -> XmpPacket | None:
    """Read an XMP packet; None if it is not well-formed, has a document type or entities, or is too deep."""
    from xml.etree.ElementTree import Element, ParseError, XMLParser

    try:
        text = _decode(data)
        # The parser would expand entities before the builder sees them.
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            return None
        builder = _Builder()
        parser = XMLParser(target=builder)
        parser.feed(text)
        root: Element = parser.close()
    except (ParseError, ValueError, LookupError, AssertionError):
        return None
    rdf = root if root.tag == f"{RDF}RDF" else next(root.iter(f"{RDF}RDF"), None)
    if rdf is None:
        return None
    properties: dict[str, Element] = {}
    for description in rdf.findall(f"{RDF}Description"):
        for name, value in description.attrib.items():
            if name.startswith("{") and not name.startswith(RDF) and name != XML_LANG and name not in properties:
                properties[name] = Element(name)
                properties[name].text = value
        for element in description:
            if element.tag.startswith("{") and element.tag not in properties:
                element.tail = None
                properties[element.tag] = element
    return XmpPacket(properties=properties, prefixes=builder.prefixes)


def write_xmp(packet: XmpPacket) -> bytes | None:
    """An XMP packet of properties, the same bytes for the same properties; None if it has none."""
    if not packet.properties:
        return None
    names = [f"{RDF}RDF"]
    for element in packet.properties.values():
        for part in element.iter():
            names += [part.tag, *part.attrib]
    prefixes = _choose_prefixes(names, packet.prefixes)
    spaces = "".join(f' xmlns:{prefix}="{_quote(uri)}"' for uri, prefix in sorted(prefixes.items(), key=lambda x: x[1]))
    body: list[str] = []
    for element in packet.properties.values():
        _write_element(element, prefixes, body)
        body.append("\n")
    start, end = f'<rdf:RDF{spaces}>\n<rdf:Description rdf:about="">\n', "</rdf:Description>\n</rdf:RDF>\n"
    return (_HEAD + start + "".join(body) + end + _TAIL).encode()


def replace_forbidden(text: str) -> str:
    """A text with U+FFFD for every character that XML 1.0 forbids."""
    return _FORBIDDEN.sub("\ufffd", text)


def _decode(data: bytes) -> str:
    """The text of a packet, which is UTF-8, or UTF-16 with a byte order mark."""
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    return data.decode(encoding).strip("\0 \t\r\n\ufeff")


def _choose_prefixes(names: list[str], own: Mapping[str, str]) -> dict[str, str]:
    """A prefix for every namespace: the usual one, or the packet's own, or a number."""
    uris = sorted({name[1:].partition("}")[0] for name in names if name.startswith("{") and not name.startswith(_XML)})
    prefixes = {uri: _PREFIXES[uri] for uri in uris if uri in _PREFIXES}
    taken = {*_PREFIXES.values(), "x", "xml", "xmlns"}
    for number, uri in enumerate(uri for uri in uris if uri not in prefixes):
        prefix = own.get(uri, "")
        if prefix in taken or not _PREFIX.fullmatch(prefix) or re.fullmatch(r"ns\d+", prefix):
            prefix = f"ns{number}"
        taken.add(prefix)
        prefixes[uri] = prefix
    return prefixes


def _write_element(element: Element, prefixes: Mapping[str, str], parts: list[str]) -> None:
    name = _qualify(element.tag, prefixes)
    attributes = "".join(f' {_qualify(key, prefixes)}="{_quote(value)}"' for key, value in element.attrib.items())
    parts.append(f"<{name}{attributes}>{_escape(element.text)}")
    for child in element:
        _write_element(child, prefixes, parts)
        parts.append(_escape(child.tail))
    parts.append(f"</{name}>")


def _qualify(name: str, prefixes: Mapping[str, str]) -> str:
    if name.startswith(_XML):
        return f"xml:{name[len(_XML) :]}"
    uri, _, local = name[1:].partition("}")
    return f"{prefixes[uri]}:{local}" if name.startswith("{") else name


def _escape(text: str | None) -> str:
    return replace_forbidden(text or "").translate(_IN_TEXT)


def _quote(text: str) -> str:
    return replace_forbidden(text).translate(_IN_ATTRIBUTE)
