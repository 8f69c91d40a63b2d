"""PNG and TIFF files written by hand, independently of Pillow: every depth, filter, byte order and layout."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tests.support.pictures import png_chunk

PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def ramps(height: int, width: int, channels: int, kind: Any = np.uint16) -> NDArray[Any]:
    """A picture [H,W] or [H,W,channels] whose neighbours differ little and whose high and low bytes both vary."""
    rng = np.random.default_rng(height * width + channels)
    steps = rng.integers(0, 700, (height, width, channels)).cumsum(axis=1) % 65536
    levels = (steps >> 8 if kind == np.uint8 else steps).astype(kind)
    return levels[:, :, 0] if channels == 1 else levels


def write_png(
    samples: NDArray[Any],
    bits: int = 16,
    *,
    color_type: int | None = None,
    is_interlaced: bool = False,
    extra: bytes = b"",
) -> bytes:
    """A PNG whose lines use all five filters in turn.

    Args:
        samples: [H,W] or [H,W,C] of unsigned integers.
        bits: Bits of a sample.
        color_type: PNG's colour type; None follows from the channels.
        is_interlaced: Whether it is stored in Adam7's passes.
        extra: Chunks before the pixels.
    """
    planes = samples if samples.ndim == 3 else samples[:, :, None]
    color_type = COLOR_TYPES[planes.shape[2]] if color_type is None else color_type
    passes = PASSES if is_interlaced else ((0, 0, 1, 1),)
    raw = b"".join(_filter(planes[top::down, left::right], bits) for left, top, right, down in passes)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, color_type, 0, 0, is_interlaced)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", header),
            extra,
            png_chunk(b"IDAT", zlib.compress(raw)),
            png_chunk(b"IEND", b""),
        )
    )


def _filter(planes: NDArray[Any], bits: int) -> bytes:
    if not planes.size:
        return b""
    if bits == 16:
        lines = planes.astype(">u2").view(np.uint8).reshape(len(planes), -1)
    else:
        flat = planes.reshape(len(planes), -1).astype(np.uint8)
        ones = np.unpackbits(flat[:, :, None], axis=2)[:, :, 8 - bits :].reshape(len(planes), -1)
        lines = np.packbits(ones, axis=1)
    group = max(planes.shape[2] * bits // 8, 1)
    out, above = [], [0] * lines.shape[1]
    for number, line in enumerate(lines.tolist()):
        kind = number % 5
        filtered = []
        for at, value in enumerate(line):
            left, corner = (line[at - group], above[at - group]) if at >= group else (0, 0)
            up = above[at]
            guess = left + up - corner
            nearest = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
            filtered.append((value - (0, left, up, (left + up) // 2, nearest)[kind]) & 255)
        out.append(bytes([kind, *filtered]))
        above = line
    return b"".join(out)


def write_tiff(
    levels: NDArray[Any],
    *,
    order: Literal["<", ">"] = "<",
    photometric: int | None = None,
    compression: int = 1,
    predictor: int = 1,
    extra: int | None = None,
    tags: tuple[tuple[int, int, int], ...] = (),
    pages: int = 1,
) -> bytes:
    """A TIFF in one strip per 7 lines.

    Args:
        levels: [H,W] or [H,W,C], uint8, uint16 or float32.
        order: `<` or `>`.
        photometric: 0 white is 0, 1 black is 0, 2 RGB...; None follows from the channels.
        compression: 1 none, 8 deflate.
        predictor: 2 stores differences of neighbours.
        extra: Meaning of the last channel (ExtraSamples).
        tags: Further tags: number, type and value.
        pages: How often the directory is repeated.
    """
    planes = levels if levels.ndim == 3 else levels[:, :, None]
    height, width, channels = planes.shape
    if predictor == 2:
        planes = np.concatenate((planes[:, :1], planes[:, 1:] - planes[:, :-1]), axis=1)
    data = planes.astype(planes.dtype.newbyteorder(order))
    strips = [data[at : at + 7].tobytes() for at in range(0, height, 7)]
    strips = [zlib.compress(strip) for strip in strips] if compression == 8 else strips
    body, offsets = b"", []
    for strip in strips:
        offsets.append(8 + len(body))
        body += strip + b"\0" * (len(strip) % 2)
    photometric = (1 if channels < 3 else 2) if photometric is None else photometric
    entries: dict[int, tuple[int, list[int]]] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [levels.dtype.itemsize * 8] * channels),
        259: (3, [compression]),
        262: (3, [photometric]),
        273: (4, offsets),
        277: (3, [channels]),
        278: (4, [7]),
        279: (4, [len(strip) for strip in strips]),
        317: (3, [predictor]),
        339: (3, [3 if levels.dtype.kind == "f" else 1] * channels),
    }
    if extra is not None:
        entries[338] = (3, [extra])
    for number, kind, value in tags:
        entries[number] = (kind, [value])
    at = 8 + len(body)
    outside = b""
    for _ in range(pages):
        size = 2 + 12 * len(entries) + 4
        rows, far = b"", b""
        for number in sorted(entries):
            kind, values = entries[number]
            packed = struct.pack(f"{order}{len(values)}{ {1: 'B', 3: 'H', 4: 'I'}[kind] }".replace(" ", ""), *values)
            place = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(f"{order}I", at + size + len(far))
            far += packed + b"\0" * (len(packed) % 2) if len(packed) > 4 else b""
            rows += struct.pack(f"{order}HHI", number, kind, len(values)) + place
        following = at + size + len(far)
        is_last = _ == pages - 1
        outside += struct.pack(f"{order}H", len(entries)) + rows
        outside += struct.pack(f"{order}I", 0 if is_last else following) + far
        at = following
    first = 8 + len(body)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", first) + body + outside
