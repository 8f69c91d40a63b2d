"""The boxes of an AVIF or HEIC file, and the items that they list (ISO/IEC 14496-12, 23008-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from alterbute.images.files.header_type import TooComplexError

Body: TypeAlias = bytes | memoryview
Property: TypeAlias = tuple[bytes, Body]
"""Type and body of a box that describes an item."""

_MAX_BOXES: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """The items of a file: coded pictures, parts of pictures, EXIF...

    Args:
        primary: Number of the picture that is shown.
        kinds: Type of each item by its number.
        own: Properties of each item by its number, in the order in which they apply.
        properties: All properties of the file.
    """

    primary: int
    kinds: dict[int, bytes]
    own: dict[int, list[Property]]
    properties: list[Property]


def read_items(meta: Body) -> Items:
    """The items of a `meta` box's body.

    Raises:
        struct.error: the file is cut inside the box.
        IndexError: the same.
        TooComplexError: more boxes than pictures need.
    """
    boxes = dict(iter_boxes(meta[4:]))
    container = dict(iter_boxes(boxes.get(b"iprp", b"")))
    properties = list(iter_boxes(container.get(b"ipco", b"")))
    return Items(
        primary=_read_primary(boxes[b"pitm"]) if b"pitm" in boxes else 0,
        kinds=_read_kinds(boxes.get(b"iinf", b"")),
        own=_read_own(container.get(b"ipma", b""), properties),
        properties=properties,
    )


def read_contents(data: bytes, meta: Body) -> dict[int, memoryview]:
    """The bytes of each item by its number.

    Args:
        data: The file.
        meta: The body of its `meta` box.

    Raises:
        OSError: an item lies outside the file.
        IndexError: the file is cut inside the box.
        TooComplexError: more pieces than pictures need, or pieces that overlap.
    """
    contents: dict[int, memoryview] = {}
    num_joined = 0
    for number, pieces in _read_places(data, meta).items():
        # Items of one piece may share it: encoders store equal tiles once.
        num_joined += sum(map(len, pieces)) if len(pieces) > 1 else 0
        if num_joined > len(data):
            raise TooComplexError("has items in pieces that overlap")
        contents[number] = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
    return contents


def _read_places(data: bytes, meta: Body) -> dict[int, list[memoryview]]:
    """The pieces of each item by its number."""
    boxes = dict(iter_boxes(meta[4:]))
    iloc = bytes(boxes.get(b"iloc", b""))
    if not iloc:
        return {}
    version = iloc[0]
    start_bytes, length_bytes, base_bytes, index_bytes = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15
    at, number_bytes = 6, 4 if version == 2 else 2

    def take(size: int) -> int:
        nonlocal at
        if at + size > len(iloc):
            raise IndexError("the box of places ends early")
        at += size
        return int.from_bytes(iloc[at - size : at])

    places: dict[int, list[memoryview]] = {}
    num_pieces = 0
    for _ in range(take(number_bytes)):
        number = take(number_bytes)
        method = take(2) & 15 if version else 0
        take(2)
        base = take(base_bytes)
        source = memoryview(boxes.get(b"idat", b"")) if method == 1 else memoryview(data)
        pieces = places.setdefault(number, [])
        for _ in range(take(2)):
            take(index_bytes if version else 0)
            start = base + take(start_bytes)
            length = take(length_bytes) or max(len(source) - start, 0)
            num_pieces += 1
            if num_pieces > _MAX_BOXES:
                raise TooComplexError(f"has more than {_MAX_BOXES:,} pieces")
            if start + length > len(source) or method > 1:
                raise OSError("image file is truncated: a part of the picture lies outside it")
            pieces.append(source[start : start + length])
    return places


def iter_boxes(data: Body) -> Iterator[Property]:
    """Type and body of the boxes in a body; a last box that is cut has the bytes that are there."""
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        size = len(data) - at if size == 0 else size
        if size < head:
            return
        yield kind, data[at + head : at + size]
        at += size
    raise TooComplexError(f"has more than {_MAX_BOXES:,} boxes")


def find_box(data: bytes, name: bytes) -> memoryview | None:
    """The body of the first box of a type at the top of a file; other boxes are not copied."""
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(data):
            return None
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        size = len(data) - at if size == 0 else size
        if size < head:
            return None
        if kind == name:
            return memoryview(data)[at + head : at + size]
        at += size
    raise TooComplexError(f"has more than {_MAX_BOXES:,} boxes")


def _read_primary(pitm: Body) -> int:
    (number,) = struct.unpack_from(">H" if pitm[0] == 0 else ">I", pitm, 4)
    return int(number)


def _read_kinds(iinf: Body) -> dict[int, bytes]:
    """The type of every item."""
    kinds: dict[int, bytes] = {}
    for name, body in iter_boxes(iinf[6 if iinf[:1] == b"\0" else 8 :]):
        if name == b"infe" and body[0] >= 2:
            number, _, kind = struct.unpack_from(">HH4s" if body[0] == 2 else ">IH4s", body, 4)
            kinds[number] = kind
    return kinds


def _read_own(ipma: Body, properties: list[Property]) -> dict[int, list[Property]]:
    """The properties of every item."""
    own: dict[int, list[Property]] = {}
    if not ipma:
        return own
    is_wide_number, is_wide_index = ipma[0] > 0, ipma[3] & 1
    (count,), at = struct.unpack_from(">I", ipma, 4), 8
    num_indices = 0
    for _ in range(min(count, _MAX_BOXES)):
        (number,) = struct.unpack_from(">I" if is_wide_number else ">H", ipma, at)
        at += 4 if is_wide_number else 2
        length = ipma[at]
        at += 1
        num_indices += length
        if num_indices > _MAX_BOXES:
            raise TooComplexError(f"has more than {_MAX_BOXES:,} properties")
        listed = own.setdefault(number, [])
        for _ in range(length):
            (index,) = struct.unpack_from(">H" if is_wide_index else ">B", ipma, at)
            at += 2 if is_wide_index else 1
            index &= 0x7FFF if is_wide_index else 0x7F
            if 1 <= index <= len(properties):
                listed.append(properties[index - 1])
    return own
