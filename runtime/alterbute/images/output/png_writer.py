"""PNG files of 8 and 16 bits, written strip by strip (PNG specification, third edition).

Pillow writes no 16-bit RGB, and takes a copy of the picture and more than twice the time for a file that is no smaller.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import IO, Final, TypeAlias

import numpy as np

from alterbute.images.metadata.metadata import Metadata
from alterbute.images.output.raster import Raster, compress_strip
from alterbute.images.photo import Bytes

Chunk: TypeAlias = tuple[bytes, bytes]
"""Name and data of a chunk."""

_COLOUR_TYPES: Final = {1: 0, 2: 4, 3: 2, 4: 6}
# Costs are sums over every fifth byte: five has no factor in common with the bytes of a pixel, so all channels are seen.
_COST_STEP: Final = 5
_XMP_KEYWORD: Final = "XML:com.adobe.xmp"
_INCHES_PER_METRE: Final = 1 / 0.0254
_MAX_UINT31: Final = (1 << 31) - 1


def write_png(file: IO[bytes], raster: Raster, chunks: Sequence[Chunk] = ()) -> None:
    """Write a PNG.

    Args:
        file: Open for bytes; need not be able to seek.
        raster: The pixels.
        chunks: Chunks between the header and the pixels, in this order.
    """
    file.write(b"\x89PNG\r\n\x1a\n")
    colour_type = _COLOUR_TYPES[raster.channels]
    _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", raster.width, raster.height, raster.bits, colour_type, 0, 0, 0))
    for name, data in chunks:
        _write_chunk(file, name, data)
    checksum, above = 1, None
    # One zlib stream over all chunks: its header, the strips, an empty last block, and the checksum (RFC 1950).
    start = b"\x78\x01"
    for top, bottom in raster.strips():
        rows = _to_bytes(raster, top, bottom)
        filtered = _filter(rows, above, raster.channels * raster.bits // 8).tobytes()
        checksum, above = zlib.adler32(filtered, checksum), rows[-1].copy()
        _write_chunk(file, b"IDAT", start + compress_strip(filtered, raster.level, is_part=True))
        start = b""
    _write_chunk(file, b"IDAT", b"\x03\x00" + struct.pack(">I", checksum))
    _write_chunk(file, b"IEND", b"")


def list_chunks(icc: bytes | None, color_chunks: Sequence[Chunk], metadata: Metadata) -> list[Chunk]:
    """The chunks of a picture's colour and metadata.

    Args:
        icc: An RGB or grey profile; None is sRGB.
        color_chunks: Chunks that state the colour, which are written in place of the profile.
        metadata: EXIF, XMP, resolution and texts. A text whose keyword cannot stand in a PNG is left out.
    """
    chunks = list(color_chunks)
    if icc is not None and not chunks:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(icc, 9)))
    if metadata.dpi is not None:
        per_metre = [dots * _INCHES_PER_METRE for dots in metadata.dpi]
        if all(0.5 <= value <= _MAX_UINT31 for value in per_metre):
            chunks.append((b"pHYs", struct.pack(">IIB", *map(round, per_metre), 1)))
    if metadata.exif is not None:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp is not None:
        chunks.append((b"iTXt", _XMP_KEYWORD.encode() + b"\0\0\0\0\0" + metadata.xmp))
    return chunks + _list_texts(metadata.texts, has_xmp=metadata.xmp is not None)


def _list_texts(texts: Mapping[str, str], *, has_xmp: bool) -> list[Chunk]:
    chunks = []
    for keyword, text in texts.items():
        if not _is_keyword(keyword) or (has_xmp and keyword == _XMP_KEYWORD):
            continue
        clean = text.replace("\0", "")
        try:
            chunks.append((b"tEXt", keyword.encode("latin-1") + b"\0" + clean.encode("latin-1")))
        except UnicodeEncodeError:
            text_bytes = clean.encode("utf-8", "replace")
            chunks.append((b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + text_bytes))
    return chunks


def _is_keyword(keyword: str) -> bool:
    """Whether it is 1 to 79 printable characters of Latin-1, with single spaces between words (PNG, section 11.3.3.2)."""
    is_latin = all(" " <= letter <= "~" or "\xa1" <= letter <= "\xff" for letter in keyword)
    return is_latin and 1 <= len(keyword) <= 79 and keyword == keyword.strip() and "  " not in keyword


def _write_chunk(file: IO[bytes], name: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + name)
    file.write(data)
    file.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(name))))


def _to_bytes(raster: Raster, top: int, bottom: int) -> Bytes:
    """Rows of bytes, 16-bit samples with the high byte first."""
    rows = raster.rows(top, bottom)
    big_endian = rows if raster.bits == 8 else rows.astype(">u2")
    return np.ascontiguousarray(big_endian).reshape(bottom - top, -1).view(np.uint8)


def _filter(rows: Bytes, above: Bytes | None, pixel_bytes: int) -> Bytes:
    """Rows with their filter's number before them: none, left, above, or the mean of both, the one of the smallest differences.

    Args:
        rows: [rows, bytes].
        above: The row above the first; None is none.
        pixel_bytes: Bytes of a pixel.
    """
    left, up = np.zeros_like(rows), np.empty_like(rows)
    left[:, pixel_bytes:] = rows[:, :-pixel_bytes]
    up[1:], up[0] = rows[:-1], 0 if above is None else above
    # The mean, rounded down, without a wider type.
    choices = (rows, rows - left, rows - up, rows - ((left & up) + ((left ^ up) >> 1)))
    samples = [choice[:, ::_COST_STEP] for choice in choices]
    costs = [np.minimum(sample, -sample).sum(axis=1, dtype=np.uint64) for sample in samples]
    best = np.argmin(costs, axis=0)
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = best
    for number, choice in enumerate(choices):
        filtered[best == number, 1:] = choice[best == number]
    return filtered
