"""AVIF files written box by box: a picture in a grid of tiles, of sizes that a test chooses (ISO/IEC 23008-12, 6.6.2.3)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from alterbute.images.files.heif.item_boxes import find_box, read_contents, read_items


def box(kind: bytes, body: bytes) -> bytes:
    """A box."""
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, body: bytes, version: int = 0) -> bytes:
    """A box with a version."""
    return box(kind, bytes([version, 0, 0, 0]) + body)


def grid_of(
    tiles: Sequence[bytes],
    columns: int,
    size: tuple[int, int],
    *,
    stated: tuple[int, int] | None = None,
    tile_stated: tuple[int, int] | None = None,
) -> bytes:
    """An AVIF of a grid.

    Args:
        tiles: AVIF files of one size without transparency, row by row.
        columns: Tiles in a row.
        size: Width and height of the picture that the grid holds.
        stated: Those of the picture's box `ispe`, if they are others.
        tile_stated: Those of the tiles' box, if they are others than the files'.
    """
    properties, coded = [], []
    for tile in tiles:
        meta = find_box(tile, b"meta")
        assert meta is not None
        items = read_items(meta)
        properties = [
            box(name, struct.pack(">III", 0, *tile_stated) if name == b"ispe" and tile_stated else bytes(body))
            for name, body in items.own[items.primary]
        ]
        coded.append(bytes(read_contents(tile, meta)[items.primary]))
    layout = struct.pack(">BBBBHH", 0, 0, len(tiles) // columns - 1, columns - 1, *size)
    numbers = range(1, len(tiles) + 2)
    entries = b"".join(
        full_box(b"infe", struct.pack(">HH4sB", number, 0, b"grid" if number == 1 else b"av01", 0), 2)
        for number in numbers
    )
    whole = full_box(b"ispe", struct.pack(">II", *(stated or size)))
    # The grid has a size of its own, and everything else from its tiles.
    own = [1, *(3 + place for place in range(len(properties)) if properties[place][4:8] not in (b"ispe", b"av1C"))]
    lists = [own] + [list(range(3, 3 + len(properties)))] * len(tiles)
    listed = b"".join(
        struct.pack(">HB", number, len(indices)) + bytes(indices)
        for number, indices in zip(numbers, lists, strict=True)
    )

    def meta_box(start: int) -> bytes:
        at, spots = start, b""
        for number, piece in zip(numbers, [layout, *coded], strict=True):
            spots += struct.pack(">HHHII", number, 0, 1, at, len(piece))
            at += len(piece)
        parts = (
            full_box(b"hdlr", bytes(4) + b"pict" + bytes(13)),
            full_box(b"pitm", struct.pack(">H", 1)),
            full_box(b"iloc", struct.pack(">BBH", 0x44, 0, len(numbers)) + spots),
            full_box(b"iinf", struct.pack(">H", len(numbers)) + entries),
            full_box(b"iref", box(b"dimg", struct.pack(f">HH{len(tiles)}H", 1, len(tiles), *numbers[1:]))),
            box(b"iprp", box(b"ipco", b"".join([whole, box(b"free", b""), *properties])) + ipma),
        )
        return full_box(b"meta", b"".join(parts))

    ipma = full_box(b"ipma", struct.pack(">I", len(numbers)) + listed)
    start = box(b"ftyp", b"avif" + bytes(4) + b"avifmif1miaf")
    length = len(start) + len(meta_box(0)) + 8
    return start + meta_box(length) + box(b"mdat", layout + b"".join(coded))
