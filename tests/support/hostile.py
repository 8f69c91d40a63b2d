"""Hundreds of invalid picture files: every mutation of every format and size, and hand-made headers."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from tests.support.pictures import noise, png_chunk, png_claiming, to_bytes

FORMATS = ("PNG", "JPEG", "WEBP")  # truncated TIFF, AVIF, GIF and BMP: tests/images/test_files_kinds.py
SIZES = ((48, 64), (200, 150), (640, 480))


def hostile_files() -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of files that every edit must refuse."""
    generator = random.Random(0)
    for format in FORMATS:
        for height, width in SIZES:
            good = to_bytes(noise(height, width, seed=height), format)
            yield from _mutations(f"{format} {width}x{height}", good, generator)
    yield from _claims()
    yield from _kinds()
    yield from _bombs()
    yield from _garbage(generator)


def _mutations(name: str, good: bytes, generator: random.Random) -> Iterator[tuple[str, bytes]]:
    """Truncations, and damage that no decoder repairs: a repaired file would be a valid picture."""
    for share in (0.02, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9):
        yield f"{name} cut at {share:.0%}", good[: int(len(good) * share)]
    for length in (0, 1, 4, 8, 12, 16, 20, 24, 28):
        yield f"{name} cut to {length} bytes", good[:length]
    yield f"{name} first byte gone", good[1:]
    yield f"{name} magic in capitals", good[:4].swapcase() + b"!" + good[5:]
    yield f"{name} zeros", bytes(len(good))
    yield f"{name} shuffled", good[:4] + bytes(generator.sample(good[4:2000], len(good[4:2000])))
    yield f"{name} header twice", good[:33] + good[:33]
    yield f"{name} reversed", good[::-1]
    if name.startswith("PNG"):
        yield from _png_mutations(name, good, generator)


def _png_mutations(name: str, good: bytes, generator: random.Random) -> Iterator[tuple[str, bytes]]:
    at = good.index(b"IDAT")
    for number in range(20):
        spot = generator.randrange(at + 4, len(good) - 16)
        yield (
            f"{name} bit flip {number}",
            good[:spot] + bytes([good[spot] ^ (1 << generator.randrange(8))]) + good[spot + 1 :],
        )
    for field, value in (("IDAT length", 0xFFFFFFFF), ("IDAT length", 0x7FFFFFFF), ("IDAT length", 0)):
        yield f"{name} {field} {value:x}", good[: at - 4] + struct.pack(">I", value) + good[at:]
    yield f"{name} without IDAT", good[: at - 4] + png_chunk(b"IEND", b"")
    yield f"{name} IDAT is text", good[: at - 4] + png_chunk(b"IDAT", b"not zlib") + png_chunk(b"IEND", b"")
    yield f"{name} short IDAT", good[: at - 4] + png_chunk(b"IDAT", zlib.compress(b"\0" * 10)) + png_chunk(b"IEND", b"")


def _claims() -> Iterator[tuple[str, bytes]]:
    """Headers with sizes that are out of range, and too large to allocate."""
    for width, height in (
        *((20_000, 20_000), (12_000, 8_000), (9_400, 9_400), (1, 1_000_000), (1_000_000, 1), (2**31 - 1, 2**31 - 1)),
        *((2**31, 1), (0, 0), (0, 64), (64, 0), (8_193, 64), (31, 31), (4_097, 4_097), (16_385, 64), (65_535, 65_535)),
    ):
        yield f"PNG claims {width}x{height}", png_claiming(width, height)
        jpeg = bytearray(to_bytes(noise(48, 64), "JPEG"))
        header = next(index for index in range(len(jpeg)) if jpeg[index] == 0xFF and jpeg[index + 1] in (0xC0, 0xC2))
        if width < 2**16 and height < 2**16 and (width, height) != (31, 31):
            jpeg[header + 5 : header + 9] = struct.pack(">HH", height, width)
            yield f"JPEG claims {width}x{height}", bytes(jpeg)
        if 0 < width < 2**24 and 0 < height < 2**24:
            body = (
                b"VP8X"
                + struct.pack("<I", 10)
                + bytes(4)
                + (width - 1).to_bytes(3, "little")
                + (height - 1).to_bytes(3, "little")
            )
            yield f"WebP claims {width}x{height}", b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _kinds() -> Iterator[tuple[str, bytes]]:
    """Valid pictures of formats and modes that are not taken."""
    yield "16-bit PNG without its pixels", png_claiming(64, 64, bits=16)
    for format in ("JPEG", "TIFF"):
        yield f"CMYK {format}", to_bytes(Image.new("CMYK", (64, 48)), format)
    frames = [Image.fromarray(noise(48, 64, seed=seed)) for seed in range(3)]
    for format in ("PNG", "WEBP", "GIF", "TIFF", "AVIF"):
        buffer = io.BytesIO()
        frames[0].save(buffer, format, save_all=True, append_images=frames[1:])
        yield f"animated {format}", buffer.getvalue()
    for format in ("PPM", "ICO", "TGA", "PCX", "JPEG2000", "EPS"):
        buffer = io.BytesIO()
        frames[0].save(buffer, format)
        yield f"{format} file", buffer.getvalue()


def _bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that decompress to very large ones."""
    inflated = zlib.compress(bytes(100 << 20), 9)
    header, rest = png_claiming(64, 64)[:33], png_claiming(64, 64)[33:]
    for kind, prefix in ((b"zTXt", b"key\0\0"), (b"iCCP", b"profile\0\0"), (b"iTXt", b"key\0\1\0\0\0")):
        yield f"{kind.decode()} bomb", header + png_chunk(kind, prefix + inflated) + rest
    yield "flat 9400x9400", png_claiming(9400, 9400, extra=png_chunk(b"IDAT", zlib.compress(bytes(9401 * 9400), 1)))


def _garbage(generator: random.Random) -> Iterator[tuple[str, bytes]]:
    texts = (
        b"<svg/>",
        b"<html>",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF",
        b"GIF89a",
        b"BM",
        b"\x7fELF",
        b"PK\x03\x04",
        b"MZ",
        b"#!/bin/sh",
        b"{}",
    )
    for text in texts:
        yield f"starts with {text!r}", text + bytes(200)
    for magic in (
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"RIFF\x10\0\0\0WEBP",
        b"RIFF\xff\xff\xff\xffWEBPVP8L",
        b"",
    ):
        for number in range(20):
            yield (
                f"noise {number} after {magic[:4]!r}",
                magic + generator.randbytes(generator.choice((0, 16, 100, 5000))),
            )
