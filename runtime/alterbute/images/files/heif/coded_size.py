"""Whether the pictures in an AVIF have the sizes that its boxes state: libavif scales a coded picture of another size without an error."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from alterbute.images.files.header_type import TooComplexError
from alterbute.images.files.heif.av1_header import Sequence, changes_size, read_sequence
from alterbute.images.files.heif.item_boxes import find_box, read_contents, read_items

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6
_MAX_UNITS: Final = 10_000


def check_coded_sizes(data: bytes) -> None:
    """Check every AV1 picture of an AVIF (colours, transparency, tiles of a grid, thumbnails) against the size of its box `ispe`.

    The size of a grid itself is the one of its box, and its tiles must cover it, which libavif checks.

    Args:
        data: The file.

    Raises:
        OSError: the sizes differ, or a picture lies outside the file.
        struct.error: the file is cut inside its header.
        IndexError: the same.
        TooComplexError: more parts than pictures need.
    """
    meta = find_box(data, b"meta")
    if meta is None:
        return
    items, contents = read_items(meta), read_contents(data, meta)
    num_units = 0
    for number, kind in items.kinds.items():
        if kind not in (b"av01", b"grid") or number not in contents:
            continue
        item = contents[number]
        ispe = next((body for name, body in items.own.get(number, []) if name == b"ispe"), None)
        if ispe is None:
            raise OSError("one of its pictures has no size")
        stated = struct.unpack_from(">II", ispe, 4)
        if kind == b"grid":
            if struct.unpack_from(">II" if item[1] & 1 else ">HH", item, 4) != stated:
                raise OSError("its headers give two sizes")
            continue
        sequence: Sequence | None = None
        for unit, body in _units(item):
            num_units += 1
            if num_units > _MAX_UNITS:
                raise TooComplexError(f"has more than {_MAX_UNITS:,} units of AV1")
            if unit == _SEQUENCE:
                sequence = read_sequence(bytes(body[:512]))
            is_frame = unit in (_FRAME_HEADER, _FRAME)
            if is_frame and sequence is None:
                raise OSError("a picture has no sequence header")
            if sequence is not None and (sequence.width, sequence.height) != stated:
                raise OSError("its headers give two sizes")
            if sequence is not None and is_frame and changes_size(bytes(body[:64]), sequence):
                raise OSError("it has a frame of another size")
        if sequence is None:
            raise OSError("a picture has no sequence header")


def _units(item: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and body of the units (OBU) of an AV1 picture (AV1 bitstream specification, 5.3)."""
    at = 0
    while at < len(item):
        kind, has_extension, has_size = item[at] >> 3 & 15, item[at] & 4, item[at] & 2
        at += 2 if has_extension else 1
        size = len(item) - at
        if has_size:
            size = 0
            for place in range(8):
                byte = item[at]
                size |= (byte & 127) << 7 * place
                at += 1
                if byte < 128:
                    break
        yield kind, item[at : at + size]
        at += size
