"""The header of a WebP, and whether its chunks hold all their bytes (RFC 9649, section 2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from alterbute.images.files.header_type import Header, TooComplexError

# A picture has a handful, an animation two to a frame.
_MAX_CHUNKS: Final = 2000
_PIXELS: Final = (b"VP8 ", b"VP8L", b"ALPH", b"ANMF")  # codespell:ignore alph


def read_webp(data: bytes) -> Header | None:
    """Read the header of a WebP; None where it starts with another chunk than a picture's.

    Raises:
        struct.error: the file is cut inside its header.
        TooComplexError: more chunks than pictures need.
    """
    kind = data[12:16]
    if kind == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        if len(data) < 30:
            return None
    elif kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        return None
    for _ in _chunks(data):
        pass
    return Header(format="WEBP", width=width, height=height, bits=8, channels=4)


def check_webp(data: bytes) -> None:
    """Check that the file has as many bytes as its first header states, and that each chunk of pixels lies within them.

    A decoder may fill the last pixels of a lossy picture without an error.

    Args:
        data: The file.

    Raises:
        OSError: bytes are missing.
    """
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise OSError("image file is truncated")
    if any(kind in _PIXELS and stop > end for kind, stop in _chunks(data)):
        raise OSError("image file is truncated: a chunk of pixels reaches beyond its end")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The type of each chunk, and where its body ends."""
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], at + 8 + size
        at += 8 + size + (size & 1)
    raise TooComplexError(f"has more than {_MAX_CHUNKS} chunks")
