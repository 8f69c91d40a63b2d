"""IPTC-IIM records (version 4.2): read, and mapped to the XMP properties that have replaced them (IPTC Photo Metadata Standard)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from alterbute.images.metadata.xmp import DC, IPTC_CORE, PHOTOSHOP, replace_forbidden
from alterbute.images.metadata.xmp_values import MAX_CHARACTERS, MAX_ITEMS, Shape, Value, make_property

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MARKER: Final = 0x1C
_MAX_RECORDS: Final = 2000
_CHARSET: Final = (1, 90)
_UTF_8: Final = b"\x1b%G"
# Escape sequences of ISO 2022 for the right half of the code table.
_CHARSETS: Final = {
    _UTF_8: "utf-8",
    **{b"\x1b" + middle + b"A": "iso8859-1" for middle in (b"-", b".")},
    **{b"\x1b" + middle + b"B": "iso8859-2" for middle in (b"-", b".")},
    b"\x1b-L": "iso8859-5",
    b"\x1b-F": "iso8859-7",
    b"\x1b-M": "iso8859-9",
    b"\x1b$)C": "euc_kr",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """A dataset of record 2 and its XMP property."""

    dataset: int
    name: str
    shape: Shape
    is_allowed: bool = False


_FIELDS: Final = (
    _Field(dataset=5, name=f"{DC}title", shape="languages", is_allowed=True),
    _Field(dataset=10, name=f"{PHOTOSHOP}Urgency", shape="text"),
    _Field(dataset=15, name=f"{PHOTOSHOP}Category", shape="text"),
    _Field(dataset=20, name=f"{PHOTOSHOP}SupplementalCategories", shape="unordered"),
    _Field(dataset=25, name=f"{DC}subject", shape="unordered"),
    _Field(dataset=40, name=f"{PHOTOSHOP}Instructions", shape="text"),
    _Field(dataset=80, name=f"{DC}creator", shape="ordered", is_allowed=True),
    _Field(dataset=85, name=f"{PHOTOSHOP}AuthorsPosition", shape="text"),
    _Field(dataset=90, name=f"{PHOTOSHOP}City", shape="text"),
    _Field(dataset=92, name=f"{IPTC_CORE}Location", shape="text"),
    _Field(dataset=95, name=f"{PHOTOSHOP}State", shape="text"),
    _Field(dataset=100, name=f"{IPTC_CORE}CountryCode", shape="text"),
    _Field(dataset=101, name=f"{PHOTOSHOP}Country", shape="text"),
    _Field(dataset=103, name=f"{PHOTOSHOP}TransmissionReference", shape="text"),
    _Field(dataset=105, name=f"{PHOTOSHOP}Headline", shape="text", is_allowed=True),
    _Field(dataset=110, name=f"{PHOTOSHOP}Credit", shape="text", is_allowed=True),
    _Field(dataset=115, name=f"{PHOTOSHOP}Source", shape="text", is_allowed=True),
    _Field(dataset=116, name=f"{DC}rights", shape="languages", is_allowed=True),
    _Field(dataset=120, name=f"{DC}description", shape="languages", is_allowed=True),
    _Field(dataset=122, name=f"{PHOTOSHOP}CaptionWriter", shape="text"),
)
_DATE: Final = (2, 55)
_TIME: Final = (2, 60)


def read_records(data: bytes) -> dict[tuple[int, int], list[bytes]]:
    """Values by record and dataset; those before the first damaged byte."""
    records: dict[tuple[int, int], list[bytes]] = {}
    at = 0
    for _ in range(_MAX_RECORDS):
        if at + 5 > len(data) or data[at] != _MARKER:
            break
        key, size = (data[at + 1], data[at + 2]), int.from_bytes(data[at + 3 : at + 5])
        at += 5
        if size & 0x8000:  # an extended dataset: the number of bytes that hold the size
            width = size & 0x7FFF
            if width > 4:
                break
            size = int.from_bytes(data[at : at + width])
            at += width
        if at + size > len(data):
            break
        values = records.setdefault(key, [])
        if len(values) < MAX_ITEMS:
            values.append(data[at : at + size])
        at += size
    return records


def map_iptc(data: bytes, existing: Collection[str], *, allowed_only: bool) -> dict[str, Element]:
    """XMP properties of IPTC records.

    Args:
        data: IPTC-IIM records.
        existing: Names of properties that XMP has already; they are left out.
        allowed_only: Whether to leave out all but captions, copyright and credits.
    """
    records = read_records(data)
    charset = next(iter(records.get(_CHARSET, [])), b"")
    properties: dict[str, Element] = {}
    for field in _FIELDS:
        if field.name in existing or (allowed_only and not field.is_allowed):
            continue
        texts = [_decode(value, charset) for value in records.get((2, field.dataset), [])]
        values = [Value(text=text) for text in texts if text]
        if values:
            properties[field.name] = make_property(field.name, field.shape, values)
    created = f"{PHOTOSHOP}DateCreated"
    date = None if allowed_only or created in existing else _read_date(records)
    if date is not None:
        properties[created] = make_property(created, "text", [Value(text=date)])
    return properties


def _decode(value: bytes, charset: bytes) -> str:
    """The text of a value: in the file's charset, or in UTF-8, or in Latin-1, in which every byte is a character."""
    for encoding in (_CHARSETS.get(charset, "utf-8"), "utf-8"):
        try:
            text = value.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        text = value.decode("latin-1")
    return replace_forbidden(text.strip("\0 \t\r\n"))[:MAX_CHARACTERS]


def _read_date(records: Mapping[tuple[int, int], list[bytes]]) -> str | None:
    """Date and time of creation, written as in ISO 8601; None if they are missing or no numbers."""
    date, time = (records.get(key, [b""])[0].decode("latin-1") for key in (_DATE, _TIME))
    if len(date) != 8 or not (date.isascii() and date.isdigit()):
        return None
    text = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    digits, zone = time[:6], time[6:]
    if len(digits) == 6 and digits.isascii() and digits.isdigit():
        text += f"T{digits[:2]}:{digits[2:4]}:{digits[4:]}"
        if len(zone) == 5 and zone[0] in "+-" and zone[1:].isascii() and zone[1:].isdigit():
            text += f"{zone[:3]}:{zone[3:]}"
    return text
