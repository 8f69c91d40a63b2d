"""The header of a GIF: the number of its frames, and its blocks without the texts that Pillow would join one by one."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from alterbute.images.files.header_type import Header, Refusal, TooComplexError

_MAX_FRAMES: Final = 1000
# Encoders fill their blocks of pixels with 255 bytes.
_MAX_PARTS: Final = 4000
_BYTES_PER_BLOCK: Final = 128
_MAX_TEXT_BYTES: Final = 1 << 16
_FRAME_EXTENSION_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """An extension or a frame: its place, its end, and the frame's box (left, top, width, height); None for an extension."""

    start: int
    end: int
    box: tuple[int, int, int, int] | None


def read_gif(data: bytes) -> Header | None:
    """Read the header of a GIF; None where it is damaged.

    Raises:
        struct.error: the file is cut inside its header.
        IndexError: the same.
        TooComplexError: more blocks than its size needs.
    """
    width, height = struct.unpack_from("<HH", data, 6)
    frames = [part.box for part in _list_parts(data) if part.box is not None]
    if not frames:
        return None
    # Where the only frame leaves a part of the canvas empty, programs differ on the colour of that part.
    is_part = len(frames) == 1 and frames[0] != (0, 0, width, height)
    refusal = None
    if is_part:
        seen = f"is a GIF whose picture of {frames[0][2]}x{frames[0][3]} pixels covers a part of its canvas of {width}x{height}"
        refusal = Refusal.layout(seen, "a picture that fills the canvas", "save it as a PNG")
    return Header(format="GIF", width=width, height=height, bits=8, channels=1, num_frames=len(frames), refusal=refusal)


def drop_texts(data: bytes) -> bytes:
    """The file without the extensions that come after 64 KiB of them; those that describe a frame have 8 bytes each, and stay."""
    parts = _list_parts(data)
    pieces, num_bytes = [], 0
    for part in parts:
        size = part.end - part.start
        if part.box is None and size > _FRAME_EXTENSION_BYTES:
            num_bytes += size
            if num_bytes > _MAX_TEXT_BYTES:
                continue
        pieces.append(data[part.start : part.end])
    return b"".join((data[: parts[0].start], *pieces, data[parts[-1].end :])) if len(pieces) < len(parts) else data


def _list_parts(data: bytes) -> list[_Part]:
    flags = data[10]
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    parts: list[_Part] = []
    num_blocks, num_frames, most = 0, 0, _MAX_PARTS + len(data) // _BYTES_PER_BLOCK
    while at < len(data) and data[at] in b"!," and num_frames < _MAX_FRAMES:
        start, box = at, None
        if data[at] == 0x21:
            at += 2
        else:
            left, top, width, height, flags = struct.unpack_from("<HHHHB", data, at + 1)
            box, num_frames = (left, top, width, height), num_frames + 1
            at += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        while at < len(data) and data[at] != 0:
            at += 1 + data[at]
            num_blocks += 1
            if num_blocks > most:
                raise TooComplexError("has too many blocks")
        at += 1
        parts.append(_Part(start=start, end=at, box=box))
        if len(parts) > _MAX_PARTS:
            raise TooComplexError(f"has more than {_MAX_PARTS} extensions and frames")
    return parts
