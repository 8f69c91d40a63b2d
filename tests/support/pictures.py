"""Small pictures for tests: noise photos, painted masks, and files that are wrong in one known way."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from alterbute.images.photo import Bytes
from PIL import Image


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> Bytes:
    """A picture of which no two pixels are likely to agree."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def to_bytes(image: Image.Image | Bytes, format: str = "PNG", **options: object) -> bytes:
    """A picture as a file's bytes."""
    buffer = io.BytesIO()
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int, bits: int = 8, extra: bytes = b"") -> bytes:
    """A grey PNG of a few bytes that says it is this large."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + extra + png_chunk(b"IDAT", zlib.compress(b"\0" * 100)) + png_chunk(b"IEND", b"")
    )
