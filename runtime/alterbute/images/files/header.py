"""Format, size and depth of a picture file, read from its first bytes before any decoder opens the file."""

from __future__ import annotations

import struct
from typing import Final, Literal

from alterbute.images.files.gif_header import read_gif
from alterbute.images.files.header_type import Header, Refusal, TooComplexError
from alterbute.images.files.heif.isobmff import read_isobmff
from alterbute.images.files.jpeg.jpeg_markers import MAX_SEGMENTS, PROGRESSIVE, SEQUENTIAL, find_marker
from alterbute.images.files.tiff.tiff_header import is_tiff, read_tiff
from alterbute.images.files.webp_chunks import read_webp

_NAMES: Final[dict[bytes, Literal["JPEG", "GIF", "WEBP", "TIFF", "AVIF"]]] = {
    b"\xff": "JPEG",
    b"G": "GIF",
    b"R": "WEBP",
    b"I": "TIFF",
    b"M": "TIFF",
}


def read_header(data: bytes) -> Header | None:
    """Read the header of a picture file; None for another format, or a file that is cut inside its header."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return read_webp(data)
        if data[4:8] == b"ftyp":
            return read_isobmff(data)
        if is_tiff(data):
            return read_tiff(data)
        if data.startswith((b"GIF87a", b"GIF89a")):
            return read_gif(data)
        if data.startswith(b"BM"):
            return _bmp(data)
    except TooComplexError as fault:
        return Header(
            format=_NAMES.get(data[:1], "AVIF"),
            width=0,
            height=0,
            bits=8,
            channels=3,
            refusal=Refusal.complex(str(fault)),
        )
    except (struct.error, IndexError, OverflowError, OSError):  # a place outside the file, or no marker there
        pass
    return None


def _png(data: bytes) -> Header | None:
    if data[12:16] != b"IHDR":
        return None
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 0)
    return Header(format="PNG", width=width, height=height, bits=bits, channels=channels)


def _jpeg(data: bytes) -> Header | None:
    at = 2
    for _ in range(MAX_SEGMENTS):
        marker, at = find_marker(data, at)
        # Every start-of-frame marker holds the size; 0xC4, 0xC8 and 0xCC lie between them and are not one.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 2)
            return Header(
                format="JPEG",
                width=width,
                height=height,
                bits=bits,
                channels=channels,
                is_lossy=True,
                refusal=_find_unread_coding(marker, bits, channels),
            )
        if marker == 0x01 or 0xD0 <= marker <= 0xD9:  # markers without a body
            continue
        (length,) = struct.unpack_from(">H", data, at)
        at += max(length, 2)
    raise TooComplexError(f"has more than {MAX_SEGMENTS} segments")


def _find_unread_coding(marker: int, bits: int, channels: int) -> Refusal | None:
    if channels == 4:
        return Refusal.colour("CMYK")
    if marker not in (*SEQUENTIAL, *PROGRESSIVE):
        name = {0xC3: "a lossless", 0xCB: "a lossless"}.get(marker, "a hierarchical")
        return Refusal.layout(
            f"is {name} JPEG (SOF{marker - 0xC0})", "a baseline or progressive one", "save it as a PNG"
        )
    if bits != 8:
        return Refusal.depth(f"{bits} bits per channel in a JPEG")
    return None if channels in (1, 3) else Refusal.colour(f"{channels}-channel")


def _bmp(data: bytes) -> Header | None:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        packing = 0
    elif size in (40, 52, 56, 64, 108, 124):
        width, height, _, bits, packing = struct.unpack_from("<iiHHI", data, 18)
    else:
        return None
    refusal = None
    if bits not in (1, 4, 8, 16, 24, 32) or packing > 3:
        seen = f"is a BMP of {bits} bits per pixel, packed in way {packing}"
        refusal = Refusal.layout(seen, "an ordinary BMP of 1, 4, 8, 16, 24 or 32 bits", "save it as a PNG")
    channels = 1 if bits <= 8 else 4 if bits == 32 else 3
    return Header(format="BMP", width=width, height=abs(height), bits=8, channels=channels, refusal=refusal)
