"""Changes to whole EXIF bytes: upright, without thumbnails, with another Software tag; every other value stays where it is.

The bytes are changed in place. Makers' notes hold offsets into the EXIF bytes, so a rewrite with other offsets would break them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from alterbute.images.metadata.exif_tables import (
    ASCII,
    EXIF_POINTER,
    GPS_POINTER,
    HEADER_BYTES,
    INTEROP_POINTER,
    ORIENTATION,
    SHORT,
    SOFTWARE,
    Table,
    read_first_table,
    read_number,
    read_order,
    read_table,
)

# How the pixels of a TIFF are stored: a writer sets these itself, and an old value would make its file unreadable. In the order of
# the lists in TIFF 6.0 and its supplements; then XMP, IPTC, Photoshop's blocks, ICC and previews, which are held elsewhere.
_TIFF_TAGS: Final = (
    *range(254, 260),
    *range(262, 267),
    273,
    *range(277, 282),
    284,
    *range(288, 294),
    301,
    *range(317, 329),
)
_SUPPLEMENT_TAGS: Final = (330, *range(332, 337), *range(338, 348), 351, *range(512, 522), *range(529, 533), 559)
_ELSEWHERE_TAGS: Final = (700, 33723, 34377, 34675, 37439, 37724, 50215, *range(50706, 50800))
PIXEL_TAGS: Final = frozenset((*_TIFF_TAGS, *_SUPPLEMENT_TAGS, *_ELSEWHERE_TAGS))
_PIXEL_SIDES: Final = (0xA002, 0xA003)
_STORED_SIDEWAYS: Final = (5, 6, 7, 8)
_MAX_TABLES: Final = 8
_START_OF_IMAGE: Final = b"\xff\xd8\xff"
_Ranges = list[tuple[int, int]]


def read_orientation(exif: bytes | None) -> int:
    """The orientation tag of EXIF bytes, 1..8; 1 where it is missing or wrong."""
    table = None if exif is None else read_first_table(exif)
    value = None if exif is None or table is None else read_number(exif, table.entries.get(ORIENTATION))
    return value if value is not None and 1 <= value <= 8 else 1


def make_upright(exif: bytes) -> bytes | None:
    """EXIF bytes for the upright picture, without the pictures that they embed; None if they cannot be read.

    The orientation becomes 1. Thumbnails (all tables after the first) and every embedded JPEG, such as a preview in a maker's note,
    are overwritten by zeros, because they show the picture before the edit. Tags of how pixels are stored are removed.
    """
    order, table = read_order(exif), read_first_table(exif)
    if order is None or table is None:
        return None
    data = bytearray(exif)
    tables = [table, *_find_subtables(exif, table)]
    pointers = {EXIF_POINTER, GPS_POINTER}
    kept = {tag: entry for tag, entry in table.entries.items() if tag not in PIXEL_TAGS}
    for tag in pointers & kept.keys():
        if read_number(exif, kept[tag]) not in {found.start for found in tables[1:]}:
            del kept[tag]
    is_sideways = read_orientation(exif) in _STORED_SIDEWAYS
    removed = [entry for tag, entry in table.entries.items() if tag not in kept and not entry.is_inline]
    blanks = [(entry.start, entry.start + entry.size) for entry in removed]
    blanks += _find_thumbnails(exif, table.next_table, {found.start for found in tables})
    blanks += _find_jpegs(exif)
    _blank(data, blanks, [(found.start, found.stop) for found in tables])
    if is_sideways and len(tables) > 1 and EXIF_POINTER in kept:
        _swap_sides(data, tables[1])
    rows = {tag: entry.raw for tag, entry in kept.items()}
    if ORIENTATION in rows:
        rows[ORIENTATION] = struct.pack(f"{order}HHIHH", ORIENTATION, SHORT, 1, 1, 0)
    _write_rows(data, table, rows)
    used = [table.stop, *(entry.start + entry.size for entry in kept.values())]
    for found in tables[1:]:
        used += [found.stop, *(entry.start + entry.size for entry in found.entries.values())]
    # A thumbnail is nearly always the last thing in the bytes.
    return bytes(data[: max(*used, len(data.rstrip(b"\0")))])


def set_software(exif: bytes, software: str) -> bytes | None:
    """EXIF bytes with a Software tag; None if they cannot be read.

    Args:
        exif: EXIF bytes without thumbnails.
        software: The tag's value.
    """
    order, table = read_order(exif), read_first_table(exif)
    if order is None or table is None:
        return None
    data, value = bytearray(exif), software.encode() + b"\0"
    old = table.entries.get(SOFTWARE)
    rows = {tag: entry.raw for tag, entry in table.entries.items()}
    row = struct.pack(f"{order}HHI", SOFTWARE, ASCII, len(value))
    if old is not None:
        # Only its own bytes: a hostile file might let it overlap the tables.
        _blank(data, [(old.start, old.start + old.size)], [(table.start, table.stop)])
    if len(value) <= 4:
        row += value.ljust(4, b"\0")
    elif old is not None and not old.is_inline and old.size >= len(value) and old.start >= table.stop:
        data[old.start : old.start + len(value)] = value
        row += struct.pack(f"{order}I", old.start)
    else:
        data += b"\0" * (len(data) % 2)
        row += struct.pack(f"{order}I", len(data))
        data += value
    rows[SOFTWARE] = row
    _write_rows(data, table, rows)
    return bytes(data)


def _find_subtables(exif: bytes, table: Table) -> list[Table]:
    """The tables of EXIF, GPS and interoperability, in this order; each offset is followed once."""
    tables: list[Table] = []
    visited = {table.start}
    queue = [(table, EXIF_POINTER), (table, GPS_POINTER)]
    while queue:
        parent, pointer = queue.pop(0)
        start = read_number(exif, parent.entries.get(pointer))
        child = None if start is None or start in visited else read_table(exif, start)
        if child is None:
            continue
        visited.add(child.start)
        tables.append(child)
        if pointer == EXIF_POINTER:
            queue.append((child, INTEROP_POINTER))
    return tables


def _find_thumbnails(exif: bytes, start: int, visited: set[int]) -> _Ranges:
    """Ranges of the tables after the first, their values, and their pictures."""
    ranges: _Ranges = []
    for _ in range(_MAX_TABLES):
        table = None if start == 0 or start in visited else read_table(exif, start)
        if table is None:
            break
        visited = visited | {start}
        ranges.append((table.start, table.stop))
        ranges += [(entry.start, entry.start + entry.size) for entry in table.entries.values()]
        for at, length in ((513, 514), (273, 279)):
            place, size = (read_number(exif, table.entries.get(tag)) for tag in (at, length))
            if place is not None and size is not None:
                ranges.append((place, place + size))
        start = table.next_table
    return ranges


def _find_jpegs(exif: bytes) -> _Ranges:
    """Ranges of JPEG files within the bytes, wherever they are."""
    ranges: _Ranges = []
    at = exif.find(_START_OF_IMAGE)
    while at >= 0:
        stop = at + 2
        while exif[stop : stop + 1] == b"\xff" and exif[stop + 1 : stop + 2] not in (b"\xda", b"\xd9", b""):
            stop += 2 + max(int.from_bytes(exif[stop + 2 : stop + 4]), 2)
        end = exif.find(b"\xff\xd9", stop)
        stop = len(exif) if end < 0 else end + 2
        ranges.append((at, stop))
        at = exif.find(_START_OF_IMAGE, stop)
    return ranges


def _blank(data: bytearray, ranges: Iterable[tuple[int, int]], protected: _Ranges) -> None:
    """Overwrite ranges by zeros, except the header and protected ranges."""
    saved = [(start, bytes(data[start:stop])) for start, stop in [(0, HEADER_BYTES), *protected]]
    done = 0  # each byte is overwritten once: thousands of hostile tags may all claim the same megabyte
    for start, stop in sorted(ranges):
        start, stop = max(start, done), min(stop, len(data))
        if start < stop:
            data[start:stop] = bytes(stop - start)
            done = stop
    for start, part in saved:
        data[start : start + len(part)] = part


def _swap_sides(data: bytearray, table: Table) -> None:
    """Exchange width and height in the table of EXIF, of a picture that was stored sideways."""
    order = read_order(data)
    width, height = (table.entries.get(tag) for tag in _PIXEL_SIDES)
    if width is None or height is None:
        return
    for at in range(table.start + 2, table.stop - 4, 12):
        (tag,) = struct.unpack_from(f"{order}H", data, at)
        if tag in _PIXEL_SIDES:
            data[at + 2 : at + 12] = (height if tag == width.tag else width).raw[2:]


def _write_rows(data: bytearray, table: Table, rows: dict[int, bytes]) -> None:
    """Write the first table, which has no next one: in its place, or at the end of the bytes if it has grown."""
    order = read_order(data)
    body = struct.pack(f"{order}H", len(rows)) + b"".join(rows[tag] for tag in sorted(rows)) + bytes(4)
    start, room = table.start, min(table.stop, len(data)) - table.start
    data[start : start + room] = bytes(room)
    if len(body) <= room:
        data[start : start + len(body)] = body
        return
    data += b"\0" * (len(data) % 2)
    struct.pack_into(f"{order}I", data, 4, len(data))
    data += body
