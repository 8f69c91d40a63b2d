"""The markers of a JPEG file (ITU-T T.81, annex B): tables, frame and scans, walked under limits before a decoder sees them.

Coded data is searched with numpy in pieces, so that neither a Python loop nor one long call walks an attacker's bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alterbute.images.files.header_type import TooComplexError
from alterbute.images.photo import Bytes

MAX_SEGMENTS: Final = 2000
"""Segments of a file. An ICC profile has at most 255 of them, an XMP packet of 16 MiB about as many."""
MAX_FILL: Final = 64
"""Bytes FF before a marker."""
MAX_SCANS: Final = 100
"""Scans of a file: ordinary progressive files have about ten, and each is a pass over all blocks."""
SEQUENTIAL: Final = (0xC0, 0xC1, 0xC9)
PROGRESSIVE: Final = (0xC2, 0xCA)
ARITHMETIC: Final = (0xC9, 0xCA)
_PIECES: Final = (1 << 14, 1 << 20)
_SOI, _EOI, _SOS, _DRI = 0xD8, 0xD9, 0xDA, 0xDD
# Quantization, Huffman and arithmetic tables, and the interval of restarts.
_TABLES: Final = (0xDB, 0xC4, 0xCC, _DRI)


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegComponent:
    """A component of the frame: its identifier, and its sampling factors 1..4."""

    identifier: int
    across: int
    down: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JpegScan:
    """A scan.

    Args:
        tables: Segments of tables that come before it, whole.
        header: Its own segment, whole.
        components: Places of its components in the frame.
        first: First coefficient 0..63 of the zigzag order.
        last: Last coefficient.
        high: Bits that were left out before, Ah; 0 at the first scan of a coefficient.
        low: Bits that are still left out, Al.
        data_at: Where in the file its coded data starts.
        data_end: Where it ends.
        restarts: Where in the file its restart markers are, int64.
    """

    tables: tuple[bytes, ...]
    header: bytes
    components: tuple[int, ...]
    first: int
    last: int
    high: int
    low: int
    data_at: int
    data_end: int
    restarts: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JpegFile:
    """The parts of a JPEG.

    Args:
        data: The file.
        frame_marker: C0 baseline, C1 extended, C2 progressive; C9 and CA the same in arithmetic coding.
        frame: The frame's segment, whole.
        width: Columns of pixels.
        height: Rows of pixels.
        components: The frame's components.
        has_jfif: Whether it has a JFIF segment: its colour is YCbCr then.
        adobe: Colour transform of an Adobe segment; None without one.
        scans: Its scans, in order.
        head_end: Where the first scan's segment ends.
    """

    data: bytes
    frame_marker: int
    frame: bytes
    width: int
    height: int
    components: tuple[JpegComponent, ...]
    has_jfif: bool
    adobe: int | None
    scans: tuple[JpegScan, ...]
    head_end: int


def find_marker(data: bytes, at: int) -> tuple[int, int]:
    """The marker at a place, and where it ends; fill bytes before it are skipped.

    Raises:
        OSError: there is none.
        TooComplexError: more fill bytes than `MAX_FILL`.
    """
    if data[at : at + 1] != b"\xff":
        raise OSError("image file is truncated" if at >= len(data) else "there is no marker where one belongs")
    for place in range(at + 1, at + 2 + MAX_FILL):
        if place >= len(data):
            raise OSError("image file is truncated")
        if data[place] != 0xFF:
            return data[place], place + 1
    raise TooComplexError(f"has more than {MAX_FILL} fill bytes before a marker")


def read_jpeg(data: bytes) -> JpegFile:
    """Read the parts of a JPEG up to its end marker; what follows, such as further pictures, is not read.

    Raises:
        OSError: it is cut, or not built as a JPEG is.
        TooComplexError: more segments, scans, fill bytes or restart markers than its size needs.
    """
    at, restart_interval, head_end = 2, 0, 0
    frame_marker, frame, components = 0, b"", ()
    width = height = 0
    has_jfif, adobe = False, None
    tables: list[bytes] = []
    scans: list[JpegScan] = []
    for _ in range(MAX_SEGMENTS):
        marker, at = find_marker(data, at)
        if marker == _EOI:
            if not scans:
                raise OSError("it has no scans")
            return JpegFile(
                data=data,
                frame_marker=frame_marker,
                frame=frame,
                width=width,
                height=height,
                components=components,
                has_jfif=has_jfif,
                adobe=adobe,
                scans=tuple(scans),
                head_end=head_end,
            )
        if marker < 0xC0 or 0xD0 <= marker <= _SOI or marker == 0xDC:
            raise OSError(f"marker {marker:02X} is out of place")
        length = int.from_bytes(data[at : at + 2])
        body, segment, at = data[at + 2 : at + length], data[at - 2 : at + length], at + length
        if length < 2 or at > len(data):
            raise OSError("image file is truncated" if at > len(data) else "a segment has no length")
        if 0xC0 <= marker <= 0xCF and marker not in (*_TABLES, 0xC8):
            if frame:
                raise OSError("it has two frames")
            if marker not in (*SEQUENTIAL, *PROGRESSIVE):
                raise OSError(f"its coding SOF{marker - 0xC0} is not read")
            frame_marker, frame = marker, segment
            width, height, components = _read_frame(body)
        elif marker in _TABLES:
            tables.append(segment)
            if marker == _DRI:
                restart_interval = int.from_bytes(body[:2])
        elif marker == 0xE0 and body[:5] == b"JFIF\0" and len(body) >= 14:
            has_jfif = True
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        elif marker == _SOS:
            if not frame:
                raise OSError("its first scan comes before its frame")
            if len(scans) == MAX_SCANS:
                raise TooComplexError(f"has more than {MAX_SCANS} scans")
            places, selection = _read_scan(body, components)
            units = _count_units(places, components, width, height)
            num_restarts = (units - 1) // restart_interval if restart_interval else 0
            data_at, (data_end, restarts) = at, _find_end(data, at, num_restarts)
            scans.append(
                JpegScan(
                    tables=tuple(tables),
                    header=segment,
                    components=places,
                    first=selection[0],
                    last=selection[1],
                    high=selection[2] >> 4,
                    low=selection[2] & 15,
                    data_at=data_at,
                    data_end=data_end,
                    restarts=restarts,
                )
            )
            tables, at, head_end = [], data_end, head_end or data_at
    raise TooComplexError(f"has more than {MAX_SEGMENTS} segments")


def _read_frame(body: bytes) -> tuple[int, int, tuple[JpegComponent, ...]]:
    """Width, height and components."""
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise OSError("its frame is damaged")
    if body[0] != 8 or body[5] not in (1, 3):
        raise OSError(f"its {body[5]} components of {body[0]} bits are not read")
    components = tuple(
        JpegComponent(identifier=body[at], across=body[at + 1] >> 4, down=body[at + 1] & 15)
        for at in range(6, len(body), 3)
    )
    if any(not (1 <= part.across <= 4 and 1 <= part.down <= 4) for part in components):
        raise OSError("its sampling factors are invalid")
    width, height = int.from_bytes(body[3:5]), int.from_bytes(body[1:3])
    if not width or not height:
        raise OSError("its frame has no size")
    return width, height, components


def _read_scan(body: bytes, components: tuple[JpegComponent, ...]) -> tuple[tuple[int, ...], bytes]:
    """Places of its components in the frame, and its first and last coefficient and bits."""
    count = body[0] if body else 0
    if not 1 <= count <= len(components) or len(body) != 4 + 2 * count:
        raise OSError("a scan is damaged")
    identifiers = [part.identifier for part in components]
    try:
        places = tuple(identifiers.index(body[1 + 2 * number]) for number in range(count))
    except ValueError:
        raise OSError("a scan is of a component that the frame has not") from None
    if len(set(places)) < count or len(set(identifiers)) < len(identifiers):
        raise OSError("a component comes twice")
    return places, body[-3:]


def _count_units(places: tuple[int, ...], components: tuple[JpegComponent, ...], width: int, height: int) -> int:
    """Number of a scan's units (MCU): all blocks under one largest sampling cell, or single blocks of an only component."""
    across, down = max(part.across for part in components), max(part.down for part in components)
    if len(places) > 1:
        return -(-width // (8 * across)) * -(-height // (8 * down))
    part = components[places[0]]
    columns, rows = -(-width * part.across // across), -(-height * part.down // down)
    return -(-columns // 8) * -(-rows // 8)


def _find_end(data: bytes, start: int, num_restarts: int) -> tuple[int, NDArray[np.int64]]:
    """Where coded data ends, before the fill bytes of the next marker, and its restart markers.

    Raises:
        OSError: the file ends before it, or restart markers are missing, too many, or out of order.
    """
    view, at, size = np.frombuffer(data, np.uint8), start, _PIECES[0]
    found: list[NDArray[np.int64]] = []
    seen, end = 0, None
    while end is None:
        piece: Bytes = view[at : at + size + 1]
        if len(piece) < 2:
            raise OSError("image file is truncated")
        places = np.flatnonzero(piece[:-1] == 0xFF)
        after = piece[places + 1]
        is_restart = (after & 0xF8) == 0xD0
        ends = np.flatnonzero((after != 0) & (after != 0xFF) & ~is_restart)
        if ends.size:
            end = at + int(places[ends[0]])
            places, is_restart = places[: ends[0]], is_restart[: ends[0]]
        restarts = places[is_restart].astype(np.int64) + at
        seen += len(restarts)
        if seen > num_restarts:
            raise OSError(f"it has more than the {num_restarts} restart markers that its size needs")
        found.append(restarts)
        at, size = at + len(piece) - 1, min(2 * size, _PIECES[1])
    if seen < num_restarts:
        raise OSError(f"{num_restarts - seen} of its {num_restarts} restart markers are missing")
    places = np.concatenate(found)
    if ((view[places + 1] & 7) != np.arange(seen) % 8).any():
        raise OSError("its restart markers are out of order")
    fill = 0
    while end > start and data[end - 1] == 0xFF:
        end, fill = end - 1, fill + 1
        if fill > MAX_FILL:
            raise TooComplexError(f"has more than {MAX_FILL} fill bytes before a marker")
    return end, places
