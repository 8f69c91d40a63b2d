"""Independent readers of the files that this package writes: PNG and TIFF by hand, from their specifications."""

from __future__ import annotations

import struct
import zlib
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Planes: TypeAlias = NDArray[Any]
"""HWC uint8 or uint16."""

_TYPES = {1: "B", 2: "c", 3: "H", 4: "I", 5: "II", 7: "B", 9: "i", 10: "ii"}


def read_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Name and data of every chunk of a PNG, whose checksums are checked."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, []
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(name + body),)
        chunks.append((name, body))
        at += 12 + length
    return chunks


def read_png(data: bytes) -> Planes:
    """The pixels of a PNG that is not interlaced, HWC."""
    chunks = read_chunks(data)
    assert (chunks[0][0], chunks[-1][0]) == (b"IHDR", b"IEND")
    width, height, bits, colour, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert rest == [0, 0, 0]
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    step = channels * bits // 8
    raw = np.frombuffer(zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT")), np.uint8)
    lines = raw.reshape(height, 1 + width * step)
    above = np.zeros(width * step, np.int64)
    rows = []
    for line in lines:
        row = line[1:].astype(np.int64)
        if line[0] == 2:
            row = (row + above) % 256
        else:
            assert line[0] in (0, 1, 3)
            for at in range(len(row) if line[0] else 0):
                left = row[at - step] if at >= step else 0
                row[at] = (row[at] + (left if line[0] == 1 else (left + above[at]) // 2)) % 256
        rows.append(row)
        above = row
    samples = np.array(rows, np.uint8).reshape(height, width, step)
    return samples if bits == 8 else samples.view(">u2").astype(np.uint16)


def read_tags(data: bytes, at: int | None = None) -> dict[int, Any]:
    """Values of a directory of a little-endian TIFF: bytes, text, or a tuple of numbers."""
    assert data[:4] == b"II*\0"
    start = struct.unpack_from("<I", data, 4)[0] if at is None else at
    assert start % 2 == 0
    (count,) = struct.unpack_from("<H", data, start)
    tags: dict[int, Any] = {}
    for index in range(count):
        number, kind, values = struct.unpack_from("<HHI", data, start + 2 + 12 * index)
        assert not tags or number > max(tags), "tags must ascend"
        layout = f"<{_TYPES[kind] * values}"
        place = start + 10 + 12 * index
        if struct.calcsize(layout) > 4:
            (place,) = struct.unpack_from("<I", data, place)
        value = struct.unpack_from(layout, data, place)
        tags[number] = b"".join(value) if kind == 2 else bytes(value) if kind in (1, 7) else value
    return tags


def read_tiff(data: bytes) -> Planes:
    """The pixels of a deflated TIFF in strips, HWC."""
    tags = read_tags(data)
    (width,), (height,), bits, (channels,) = tags[256], tags[257], tags[258], tags[277]
    assert (tags[259], tags[284], tags[317], len(bits)) == ((8,), (1,), (2,), channels)
    dtype = np.dtype("u1" if bits[0] == 8 else "<u2")
    strips = [zlib.decompress(data[a : a + n]) for a, n in zip(tags[273], tags[279], strict=True)]
    rows = np.frombuffer(b"".join(strips), dtype).reshape(height, width, channels)
    return np.cumsum(rows, axis=1, dtype=np.uint64).astype(dtype.newbyteorder("="))
