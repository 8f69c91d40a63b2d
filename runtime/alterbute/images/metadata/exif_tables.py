"""EXIF bytes: the tables (IFDs) of a TIFF structure, read without following a wrong offset, and written anew (TIFF 6.0, section 2)."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

IMAGE_DESCRIPTION: Final = 0x010E
ORIENTATION: Final = 0x0112
X_RESOLUTION: Final = 0x011A
Y_RESOLUTION: Final = 0x011B
RESOLUTION_UNIT: Final = 0x0128
SOFTWARE: Final = 0x0131
ARTIST: Final = 0x013B
COPYRIGHT: Final = 0x8298
EXIF_POINTER: Final = 0x8769
GPS_POINTER: Final = 0x8825
INTEROP_POINTER: Final = 0xA005

ASCII: Final = 2
SHORT: Final = 3
LONG: Final = 4
RATIONAL: Final = 5
HEADER_BYTES: Final = 8
_PREFIX: Final = b"Exif\0\0"
MAX_DPI: Final = 100_000
_TYPE_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
# Bytes of one number of each type; a rational is two numbers.
_NUMBER_SIZES: Final = {kind: {5: 4, 10: 4}.get(kind, size) for kind, size in _TYPE_SIZES.items()}
_TEXT_TYPES: Final = (1, 2, 7, 129)
_RESOLUTION_STEP: Final = 10_000
_INCHES_OF_UNIT: Final = {2: 1.0, 3: 2.54}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tag of a table.

    Args:
        tag: Its number.
        kind: Its TIFF type.
        count: How many values it has.
        raw: The 12 bytes of the table that describe it.
        start: Where its values lie in the EXIF bytes.
        size: How many bytes they have.
        is_inline: Whether they lie within `raw`.
    """

    tag: int
    kind: int
    count: int
    raw: bytes
    start: int
    size: int
    is_inline: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """An IFD: the tags whose values lie within the bytes; others are left out.

    Args:
        start: Where it lies.
        slots: How many tags it has room for.
        entries: Its tags by number.
        next_table: Where the next table lies; 0 is none.
    """

    start: int
    slots: int
    entries: Mapping[int, Entry]
    next_table: int

    @property
    def stop(self) -> int:
        """Where the table ends."""
        return self.start + 6 + 12 * self.slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A tag's value, apart from any file.

    Args:
        kind: Its TIFF type.
        data: Its numbers, lowest byte first.
    """

    kind: int
    data: bytes

    @property
    def count(self) -> int:
        """The number of values."""
        return len(self.data) // _TYPE_SIZES[self.kind]


def short(*values: int) -> Tag:
    """A tag of 16-bit numbers."""
    return Tag(kind=SHORT, data=struct.pack(f"<{len(values)}H", *values))


def long(*values: int) -> Tag:
    """A tag of 32-bit numbers."""
    return Tag(kind=LONG, data=struct.pack(f"<{len(values)}I", *values))


def strip_prefix(exif: bytes) -> bytes:
    """EXIF bytes without the prefix `Exif\\0\\0`, which may come any number of times; the time does not grow with the square of it."""
    at = 0
    while exif.startswith(_PREFIX, at):
        at += len(_PREFIX)
    return exif[at:]


def bound_exif(info: MutableMapping[Any, Any]) -> None:
    """Make a picture's EXIF such that Pillow reads it in time and memory of the size of the file, or leave it out.

    Before release 13, Pillow copies the rest of the bytes for every repeated prefix (CVE-2026-96643), and reads the value of every
    tag, though thousands of tags may point to the same megabytes (GHSA-wqgw-9xfh-qf2g).

    Args:
        info: `PIL.Image.Image.info`, before the first call of `getexif`.
    """
    exif = info.get("exif")
    if not isinstance(exif, bytes):
        return
    bare = strip_prefix(exif)
    if not is_bounded(bare):
        del info["exif"]
    elif len(exif) > len(bare) + len(_PREFIX):
        info["exif"] = _PREFIX + bare


def is_bounded(exif: bytes) -> bool:
    """Whether the values of every table that Pillow reads have together no more bytes than all: those of a sound file do not overlap.

    Args:
        exif: EXIF bytes without a prefix. Pillow reads them with the two bytes of the TIFF's number in either order.
    """
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < HEADER_BYTES:
        return True
    starts = [struct.unpack_from(f"{order}I", exif, 4)[0]]
    for depth in range(3):  # the first table, those of EXIF and GPS, and interoperability
        following: list[int] = []
        for start in starts:
            table = exif[start : start + 2 + 12 * 0xFFFF] if start >= HEADER_BYTES else b""
            slots = min(struct.unpack_from(f"{order}H", table)[0], (len(table) - 2) // 12) if len(table) >= 2 else 0
            num_bytes = 0
            for tag, kind, count, value in struct.iter_unpack(f"{order}HHII", table[2 : 2 + 12 * slots]):
                num_bytes += _TYPE_SIZES.get(kind, 8) * count
                if tag in (EXIF_POINTER, GPS_POINTER, INTEROP_POINTER) and depth < 2:
                    following.append(value)
            if num_bytes > len(exif):
                return False
        starts = sorted(set(following))[:64]
    return True


def read_order(exif: bytes | bytearray) -> str | None:
    """The byte order of EXIF bytes as `struct` writes it, `<` or `>`; None if they are no TIFF structure."""
    return {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(exif[:4])) if len(exif) >= HEADER_BYTES + 2 else None


def read_table(exif: bytes | bytearray, start: int) -> Table | None:
    """Read the table at an offset.

    Args:
        exif: EXIF bytes that start with a TIFF header.
        start: Offset of the table.

    Returns:
        The table; None if it does not lie within the bytes. A table that is cut has the tags that are whole.
    """
    order = read_order(exif)
    if order is None or not HEADER_BYTES <= start <= len(exif) - 2:
        return None
    (claimed,) = struct.unpack_from(f"{order}H", exif, start)
    slots = min(claimed, (len(exif) - start - 2) // 12)
    entries: dict[int, Entry] = {}
    for at in range(start + 2, start + 2 + 12 * slots, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", exif, at)
        size = _TYPE_SIZES.get(kind, 0) * count
        place = at + 8 if size <= 4 else struct.unpack_from(f"{order}I", exif, at + 8)[0]
        if size > 0 and place + size <= len(exif) and tag not in entries:
            raw = bytes(exif[at : at + 12])
            entries[tag] = Entry(tag=tag, kind=kind, count=count, raw=raw, start=place, size=size, is_inline=size <= 4)
    end = start + 2 + 12 * slots
    is_whole = slots == claimed and end + 4 <= len(exif)
    next_table = struct.unpack_from(f"{order}I", exif, end)[0] if is_whole else 0
    return Table(start=start, slots=slots, entries=entries, next_table=next_table)


def read_first_table(exif: bytes | bytearray) -> Table | None:
    """The first table of EXIF bytes; None if they are no TIFF structure."""
    order = read_order(exif)
    return None if order is None else read_table(exif, struct.unpack_from(f"{order}I", exif, 4)[0])


def read_number(exif: bytes | bytearray, entry: Entry | None) -> int | None:
    """The single number of a tag of type SHORT or LONG; None for another."""
    if entry is None or entry.kind not in (3, 4, 13) or entry.count != 1:
        return None
    order = read_order(exif)
    return int(struct.unpack_from(f"{order}{'H' if entry.kind == SHORT else 'I'}", exif, entry.start)[0])


def read_bytes(exif: bytes, entry: Entry | None) -> bytes | None:
    """The bytes of a tag that holds a text, as they are; None for another."""
    is_text = entry is not None and entry.kind in _TEXT_TYPES
    return exif[entry.start : entry.start + entry.size] if entry is not None and is_text else None


def read_tags(exif: bytes, pointer: int | None = None) -> dict[int, Tag]:
    """The tags of the first table of EXIF bytes, or of the one that a tag of it points to; none where there is no such table.

    Args:
        exif: EXIF bytes; any bytes are safe.
        pointer: Number of the tag that holds the table's place; None is the first table.
    """
    order, table = read_order(exif), read_first_table(exif)
    if table is not None and pointer is not None:
        start = read_number(exif, table.entries.get(pointer))
        table = None if start is None else read_table(exif, start)
    tags: dict[int, Tag] = {}
    total = 0
    for number, entry in (table.entries if table is not None else {}).items():
        # Entries of a sound file do not overlap: more bytes than the file's are a crafted one, and would take much memory.
        total += entry.size
        if total > len(exif):
            break
        width = _NUMBER_SIZES[entry.kind]
        values = exif[entry.start : entry.start + entry.size]
        if order == ">" and width > 1:
            values = b"".join(values[at : at + width][::-1] for at in range(0, len(values), width))
        tags[number] = Tag(kind=entry.kind, data=values)
    return tags


def check_dpi(horizontal: float, vertical: float) -> tuple[float, float] | None:
    """Dots per inch, or None if they are not finite, not positive or beyond 100 000."""
    values = float(horizontal), float(vertical)
    return values if all(math.isfinite(value) and 0 < value <= MAX_DPI for value in values) else None


def read_dpi(exif: bytes) -> tuple[float, float] | None:
    """Dots per inch by the tags XResolution, YResolution and ResolutionUnit; None without them."""
    table = read_first_table(exif)
    if table is None:
        return None
    unit = read_number(exif, table.entries.get(RESOLUTION_UNIT))
    scale = _INCHES_OF_UNIT.get(2 if unit is None else unit)
    values: list[float] = []
    for tag in (X_RESOLUTION, Y_RESOLUTION):
        entry = table.entries.get(tag)
        if entry is not None and entry.kind == RATIONAL and entry.count == 1:
            upper, lower = struct.unpack_from(f"{read_order(exif)}II", exif, entry.start)
            values.append(upper / lower if lower else 0.0)
    if scale is None or not values:
        return None
    return check_dpi(values[0] * scale, values[-1] * scale)


def lay_out(tags: Mapping[int, Tag], start: int) -> bytes:
    """A table and the values that do not fit into it, as bytes that begin at an even place of a file, lowest byte first.

    Args:
        tags: Values by tag number.
        start: The place.
    """
    table, values = struct.pack("<H", len(tags)), b""
    first = start + 6 + 12 * len(tags)
    for number, tag in sorted(tags.items()):
        table += struct.pack("<HHI", number, tag.kind, tag.count)
        if len(tag.data) <= 4:
            table += tag.data.ljust(4, b"\0")
        else:
            table += struct.pack("<I", first + len(values))
            values += tag.data + b"\0" * (len(tag.data) % 2)
    return table + b"\0" * 4 + values


def write_exif(texts: Mapping[int, bytes], dpi: tuple[float, float] | None) -> bytes | None:
    """EXIF bytes with texts and resolution, and nothing else; None if there is neither.

    Args:
        texts: Values by tag number, UTF-8 and ended by a zero byte.
        dpi: Dots per inch.
    """
    tags = {number: Tag(kind=ASCII, data=data) for number, data in texts.items()}
    if dpi is not None:
        for number, value in zip((X_RESOLUTION, Y_RESOLUTION), dpi, strict=True):
            upper = max(round(value * _RESOLUTION_STEP), 1)
            common = math.gcd(upper, _RESOLUTION_STEP)
            tags[number] = Tag(kind=RATIONAL, data=struct.pack("<II", upper // common, _RESOLUTION_STEP // common))
        tags[RESOLUTION_UNIT] = short(2)
    return struct.pack("<4sI", b"II*\0", HEADER_BYTES) + lay_out(tags, HEADER_BYTES) if tags else None
