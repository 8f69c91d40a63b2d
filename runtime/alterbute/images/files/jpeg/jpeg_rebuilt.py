"""JPEG files put together again from their parts: with what a decoder needs and no more, or with other code for a check."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from alterbute.images.files.jpeg.jpeg_markers import PROGRESSIVE, JpegFile

_PADDING_BYTES: Final = 64
_PADDING_BYTES_OF_MANY: Final = 8
_MANY: Final = 1000
# The whole code of a scan of zeros is left out by arithmetic coders.
_ZEROS_OF_NONE: Final = 64
_QUANTIZATION: Final = 0xDB


def join_jpeg(
    file: JpegFile,
    *,
    num_scans: int | None = None,
    last_end: int | None = None,
    quantizer: int | None = None,
    shows_all: bool = False,
) -> bytes:
    """A file of tables, frame, scans, and the colour transform in ordinary words.

    Args:
        file: The parts.
        num_scans: How many of its scans; None is all.
        last_end: Where the last scan's data ends instead.
        quantizer: Step 1..255 of all coefficients instead of the file's tables.
        shows_all: Whether the frame is enlarged by the part of the last blocks that it does not show.
    """
    view, scans = memoryview(file.data), file.scans[:num_scans]
    parts: list[bytes | memoryview] = [b"\xff\xd8"]
    if file.has_jfif:
        parts.append(b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0")
    if file.adobe is not None:
        # libjpeg warns of other numbers, and takes them for YCbCr.
        parts.append(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([file.adobe if file.adobe in (0, 1) else 1]))
    if quantizer is not None:
        tables = b"".join(bytes([number]) + bytes([quantizer]) * 64 for number in range(4))
        parts.append(bytes([0xFF, _QUANTIZATION]) + (len(tables) + 2).to_bytes(2) + tables)
    for number, scan in enumerate(scans):
        parts += [table for table in scan.tables if quantizer is None or table[1] != _QUANTIZATION]
        if number == 0:
            parts.append(_make_frame(file, shows_all=shows_all))
        # Cameras write anything into these three bytes of a sequential scan, and decoders do not read them.
        parts.append(scan.header if file.frame_marker in PROGRESSIVE else scan.header[:-3] + b"\0\x3f\0")
        is_last = last_end is not None and number == len(scans) - 1
        parts.append(view[scan.data_at : last_end if is_last else scan.data_end])
    parts.append(b"\xff\xd9")
    return b"".join(parts)


def lengthen(file: JpegFile, num_zeros: int, value: int) -> JpegFile:
    """The file with further bytes behind each piece of code, each of which ends at a marker.

    Args:
        file: The parts.
        num_zeros: Zeros that come first; behind a piece without any bytes, `_ZEROS_OF_NONE`, if zeros are wanted at all.
        value: The byte that is then repeated; not FF.
    """
    num_pieces = sum(1 + len(scan.restarts) for scan in file.scans)
    repeated = bytes([value]) * (_PADDING_BYTES if num_pieces < _MANY else _PADDING_BYTES_OF_MANY)
    usual = np.frombuffer(bytes(num_zeros) + repeated, np.uint8)
    long = np.frombuffer(bytes(_ZEROS_OF_NONE if num_zeros else 0) + repeated, np.uint8)
    scans, pieces, at = [], [], 0
    for scan in file.scans:
        coded = np.frombuffer(file.data, np.uint8)[scan.data_at : scan.data_end]
        ends = np.append(scan.restarts - scan.data_at, len(coded))
        # Before the fill bytes of a marker.
        while len(coded) and (is_fill := (ends > 0) & (coded[np.maximum(ends - 1, 0)] == 0xFF)).any():
            ends = ends - is_fill
        if num_zeros and scan.first == 0 and scan.high:
            # Bits of a refined first coefficient are coded as they are, so that any number of zeros may be left out.
            ends = ends[:0]
        is_empty = ends == np.append(0, scan.restarts + 2 - scan.data_at)[: len(ends)]
        counts, values = np.where(is_empty, len(long), len(usual)), [long if none else usual for none in is_empty]
        longer = np.insert(coded, np.repeat(ends, counts), np.concatenate([*values, usual[:0]]))
        scans.append(replace(scan, data_at=at, data_end=at + len(longer)))
        pieces.append(longer.tobytes())
        at += len(longer)
    return replace(file, data=b"".join(pieces), scans=tuple(scans))


def strip_padding(file: JpegFile, number: int) -> int:
    """Where the data of a scan ends without the zeros and ones behind its last pixel.

    A last byte FF is kept without the zero that belongs to it. In files of several scans zeros are code.
    """
    scan = file.scans[number]
    start = int(scan.restarts[-1]) + 2 if len(scan.restarts) else scan.data_at
    coded, size = file.data[start : scan.data_end], -1
    while size != len(coded):
        size = len(coded)
        if len(file.scans) == 1:
            coded = coded.rstrip(b"\0")
        elif coded.endswith(b"\xff\0"):
            coded = coded[:-1]
        if coded.endswith((b"\xff\0\xff", b"\xff\xff")):
            coded = coded[:-1]
    return start + len(coded)


def _make_frame(file: JpegFile, *, shows_all: bool) -> bytes:
    frame = bytearray(file.frame)
    if len(file.components) == 1:
        frame[11] = 0x11  # the sampling of an only component means nothing
    if shows_all:
        frame[7:9] = _enlarge(file, file.width, [part.across for part in file.components]).to_bytes(2)
        frame[5:7] = _enlarge(file, file.height, [part.down for part in file.components]).to_bytes(2)
    return bytes(frame)


def _enlarge(file: JpegFile, side: int, factors: list[int]) -> int:
    """The longest side of the same numbers of blocks and units."""
    most = max(factors) if len(factors) > 1 else 1
    single = {scan.components[0] for scan in file.scans if len(scan.components) == 1}

    def count(size: int) -> tuple[int, ...]:
        blocks = (-(-(-(-size * factors[place] // max(factors))) // 8) for place in sorted(single))
        return (-(-size // (8 * most)), *blocks)

    return max(size for size in range(side, min(side + 8 * most, 65536)) if count(size) == count(side))
