"""A HEIC of tiles, as phones write it and no free encoder does: boxes by hand around the tiles of one (ISO/IEC 23008-12)."""

from __future__ import annotations

import struct

TILE = 64
_GRID, _FIRST_TILE = 1, 2


def join_tiles(tiles: list[bytes], columns: int, size: tuple[int, int], irot: int = 0) -> bytes:
    """A HEIC whose picture is a grid of tiles.

    Args:
        tiles: HEIC files of TILE x TILE pixels and one item each, row by row.
        columns: Tiles of a row.
        size: Width and height of the picture, of which the last tiles may show a part only.
        irot: Turns by 90 degrees, anticlockwise, by which the picture is shown.
    """
    codes = [_find(tile, b"mdat") for tile in tiles]
    settings = _find(tiles[0], b"hvcC")
    rows = len(tiles) // columns
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *size)
    properties = [
        _box(b"hvcC", settings),
        _full_box(b"ispe", struct.pack(">II", TILE, TILE)),
        _full_box(b"ispe", struct.pack(">II", *size)),
        _full_box(b"pixi", bytes((3, 8, 8, 8))),
        _box(b"colr", b"nclx" + struct.pack(">HHHB", 1, 13, 6, 128)),
        _box(b"irot", bytes([irot])),
    ]
    # Essential properties have the high bit: the decoder's settings, and the turn.
    uses = {_GRID: [3, 4, 5, 0x80 | 6], **{_FIRST_TILE + index: [0x80 | 1, 2, 4, 5] for index in range(len(tiles))}}
    ipma = struct.pack(">I", len(uses)) + b"".join(
        struct.pack(">HB", item, len(listed)) + bytes(listed) for item, listed in uses.items()
    )
    ids = [_FIRST_TILE + index for index in range(len(tiles))]
    iref = _box(b"dimg", struct.pack(f">HH{len(ids)}H", _GRID, len(ids), *ids))
    infos = [_item(_GRID, b"grid", is_hidden=False), *(_item(item, b"hvc1", is_hidden=True) for item in ids)]
    ftyp = _box(b"ftyp", b"heic\0\0\0\0mif1heic")

    def meta(start: int) -> bytes:
        places = [struct.pack(">HHHHII", _GRID, 1, 0, 1, 0, len(grid))]
        for item, code in zip(ids, codes, strict=True):
            places.append(struct.pack(">HHHHII", item, 0, 0, 1, start, len(code)))
            start += len(code)
        iloc = struct.pack(">HH", 0x4400, len(places)) + b"".join(places)
        parts = (
            _full_box(b"hdlr", struct.pack(">I4s12xx", 0, b"pict")),
            _full_box(b"pitm", struct.pack(">H", _GRID)),
            _full_box(b"iloc", iloc, version=1),
            _full_box(b"iinf", struct.pack(">H", len(infos)) + b"".join(infos)),
            _full_box(b"iref", iref),
            _box(b"iprp", _box(b"ipco", b"".join(properties)) + _full_box(b"ipma", ipma)),
            _box(b"idat", grid),
        )
        return _full_box(b"meta", b"".join(parts))

    first = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(first) + _box(b"mdat", b"".join(codes))


def _find(data: bytes, name: bytes) -> bytes:
    """The body of the first box of a name."""
    at = data.index(name)
    size = int.from_bytes(data[at - 4 : at])
    if name == b"mdat" and size in (0, 1):
        raise ValueError("a box of open or large size")
    return data[at + 4 : at - 4 + size]


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + name + body


def _full_box(name: bytes, body: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(name, struct.pack(">I", version << 24 | flags) + body)


def _item(item: int, kind: bytes, *, is_hidden: bool) -> bytes:
    return _full_box(b"infe", struct.pack(">HH4sx", item, 0, kind), version=2, flags=int(is_hidden))
