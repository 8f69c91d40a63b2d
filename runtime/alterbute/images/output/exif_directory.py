"""Tags of a TIFF structure, such as EXIF: reading a directory of untrusted bytes, and laying one out (TIFF 6.0, section 2)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

ORIENTATION: Final = 274
EXIF_POINTER: Final = 34665
GPS_POINTER: Final = 34853

# Bytes of one number of each type, and of one value: a rational is two numbers.
_NUMBER_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8}
_RATIONALS: Final = (5, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A tag's value.

    Args:
        type: TIFF's number of the type, 1..12.
        data: The numbers, lowest byte first.
    """

    type: int
    data: bytes

    @property
    def count(self) -> int:
        """The number of values."""
        return len(self.data) // _value_bytes(self.type)


def _value_bytes(type: int) -> int:
    return _NUMBER_BYTES[type] * (2 if type in _RATIONALS else 1)


def short(*values: int) -> Tag:
    """A tag of 16-bit numbers."""
    return Tag(type=3, data=struct.pack(f"<{len(values)}H", *values))


def long(*values: int) -> Tag:
    """A tag of 32-bit numbers."""
    return Tag(type=4, data=struct.pack(f"<{len(values)}I", *values))


def read_directory(exif: bytes, pointer: int | None = None) -> dict[int, Tag]:
    """Read the first directory of a TIFF structure, or the one that a tag of it points to; a broken entry is left out.

    Args:
        exif: The structure; any bytes are safe.
        pointer: The number of the tag that holds the directory's place; None is the first directory.
    """
    order = _byte_order(exif)
    if order is None:
        return {}
    (at,) = struct.unpack_from(f"{order}I", exif, 4)
    tags = _read_at(exif, at, order)
    if pointer is None:
        return tags
    place = tags.get(pointer)
    return _read_at(exif, int.from_bytes(place.data, "little"), order) if place and place.type == 4 else {}


def reset_orientation(exif: bytes) -> bytes:
    """The same EXIF for a picture that has been turned upright: its orientation is 1. Any bytes are safe."""
    order = _byte_order(exif)
    if order is None:
        return exif
    (at,) = struct.unpack_from(f"{order}I", exif, 4)
    changed = bytearray(exif)
    for entry in _entries(exif, at, order):
        number, type_, _ = struct.unpack_from(f"{order}HHI", exif, entry)
        if number == ORIENTATION:
            struct.pack_into(f"{order}{'I' if type_ == 4 else 'H'}", changed, entry + 8, 1)
    return bytes(changed)


def lay_out(tags: Mapping[int, Tag], start: int) -> bytes:
    """A directory and the values that do not fit into it, as bytes that begin at an even place of a file.

    Args:
        tags: Values by tag.
        start: The place.
    """
    table, values = struct.pack("<H", len(tags)), b""
    at = start + 2 + 12 * len(tags) + 4
    for number, tag in sorted(tags.items()):
        table += struct.pack("<HHI", number, tag.type, tag.count)
        if len(tag.data) <= 4:
            table += tag.data.ljust(4, b"\0")
        else:
            table += struct.pack("<I", at + len(values))
            values += tag.data + b"\0" * (len(tag.data) % 2)
    return table + b"\0" * 4 + values


def _byte_order(exif: bytes) -> str | None:
    return {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4]) if len(exif) >= 8 else None


def _entries(exif: bytes, at: int, order: str) -> range:
    """Places of a directory's entries."""
    if at + 2 > len(exif):
        return range(0)
    (count,) = struct.unpack_from(f"{order}H", exif, at)
    return range(at + 2, min(at + 2 + 12 * count, len(exif) - 11), 12)


def _read_at(exif: bytes, at: int, order: str) -> dict[int, Tag]:
    tags: dict[int, Tag] = {}
    total = 0
    for entry in _entries(exif, at, order):
        number, type_, count = struct.unpack_from(f"{order}HHI", exif, entry)
        if type_ not in _NUMBER_BYTES:
            continue
        size = count * _value_bytes(type_)
        start = entry + 8 if size <= 4 else struct.unpack_from(f"{order}I", exif, entry + 8)[0]
        total += size
        # Entries of a sound file do not overlap: more bytes than the file's are a crafted one, and would take much memory.
        if size == 0 or start + size > len(exif) or total > len(exif):
            continue
        numbers = np.frombuffer(exif, f"{order}u{_NUMBER_BYTES[type_]}", size // _NUMBER_BYTES[type_], start)
        tags[number] = Tag(type=type_, data=numbers.astype(numbers.dtype.newbyteorder("<")).tobytes())
    return tags
