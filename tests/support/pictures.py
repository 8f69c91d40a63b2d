"""Small pictures for tests: noise photos, and PNG files with a chosen header."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import PIL
import pytest
from alterbute.images.photo import Bytes
from PIL import Image

needs_pillow_13 = pytest.mark.skipif(
    int(PIL.__version__.partition(".")[0]) < 13,
    reason="TIFFs in tiles, YCbCr and compressions that end early are refused with Pillow before 13",
)


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> Bytes:
    """A picture of uniform noise, HWC uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def make_mask(height: int, width: int, top: int = 20, left: int = 30, side: int = 24) -> Bytes:
    """A mask [H,W] uint8: 255 in a square, 0 elsewhere."""
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + side, left : left + side] = 255
    return mask


def to_bytes(image: Image.Image | Bytes, format: str = "PNG", **options: object) -> bytes:
    """Encode a picture in a file format; returns the file's bytes."""
    buffer = io.BytesIO()
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int, bits: int = 8, extra: bytes = b"") -> bytes:
    """A grey PNG of a few bytes whose header declares this size."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + extra + png_chunk(b"IDAT", zlib.compress(b"\0" * 100)) + png_chunk(b"IEND", b"")
    )
