"""The chunks of a PNG (PNG specification, third edition), read and checked before its pixels are.

What readers understand in different ways is refused: an unknown critical chunk, two palettes, a palette or a transparent colour that
comes too late or has a wrong length, pixels in two places. What all of them pass over is passed over: a palette of a grey picture,
transparency beside an alpha plane, damaged chunks behind the pixels that do not change them, and what follows the end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from alterbute.images.files.header_type import Header, TooComplexError

PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_INPUT_BYTES: Final = 1 << 16
# Of what is not pixels.
_MAX_CHUNKS: Final = 10_000
_MAX_CHUNK_BYTES: Final = 16 << 20
# Encoders write 8 KiB to a chunk of pixels; some write one to a line.
_MAX_PIXEL_CHUNKS: Final = 20_000
_BYTES_PER_PIXEL_CHUNK: Final = 512
_COLOR_CHUNKS: Final = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"sBIT")
_BEFORE_PIXELS: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"iCCP", *_COLOR_CHUNKS)
_CRITICAL: Final = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PngFile:
    """The chunks of a PNG.

    Args:
        header: Its header.
        color_type: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha.
        is_interlaced: Whether its pixels are in seven passes.
        palette: Bytes R, G, B of its colours.
        transparency: Alphas of a palette, or the one colour that is transparent; None where there is none.
        num_frames: Pictures of an animated PNG, else 1.
        color_chunks: Name and data of the chunks before the pixels that describe the colour.
        data: The whole file.
        pixels_at: Where in it the first chunk of pixels starts.
        stand_in: A PNG of one pixel with all other chunks, from which Pillow reads profile, EXIF and texts.
    """

    header: Header
    color_type: int
    is_interlaced: bool
    palette: bytes
    transparency: bytes | None
    num_frames: int
    color_chunks: tuple[tuple[bytes, bytes], ...]
    data: bytes
    pixels_at: int
    stand_in: bytes

    @property
    def has_alpha(self) -> bool:
        """Whether it has transparency."""
        return self.color_type >= 4 or self.transparency is not None

    @property
    def is_grey(self) -> bool:
        """Whether its colours are levels of grey, without a palette."""
        return self.color_type in (0, 4)


def read_png(data: bytes, header: Header) -> PngFile:
    """Read the chunks of a PNG, and check those before the pixels and the pixels themselves against their checksums.

    Raises:
        OSError: a checksum is wrong, the file is cut, or a chunk is invalid or out of place.
        TooComplexError: more chunks than its size needs.
    """
    color_type, interlacing = _check_header(data, header)
    pixels_at = 0
    before: list[tuple[bytes, bytes]] = []
    after: list[tuple[bytes, bytes]] = []
    frames, is_first_frame = 0, False
    for at, name, body in _chunks(data):
        if name == b"IHDR":
            raise OSError("it has two headers")
        if not name[0] & 0x20 and name not in _CRITICAL:
            raise OSError(f"its chunk {name.decode('ascii', 'replace')!r} is unknown and must not be passed over")
        if name == b"acTL" and not pixels_at and len(body) >= 4:
            frames = int.from_bytes(body[:4])
        elif name == b"fcTL" and not pixels_at:
            is_first_frame = True
        elif name == b"IDAT":
            pixels_at = pixels_at or at
        elif name not in (b"acTL", b"fcTL", b"fdAT") and len(body) <= _MAX_CHUNK_BYTES:
            (after if pixels_at else before).append((name, bytes(body)))
    if not pixels_at:
        raise OSError("its pixels are truncated")
    palette, transparency = _check_colors([name for name, _ in before], dict(before), color_type, header.bits)
    tiny = struct.pack(">IIBBBBB", 1, 1, header.bits, color_type, 0, 0, 0)
    pixel = zlib.compress(bytes(1 + (header.channels * header.bits + 7) // 8))
    parts = [(b"IHDR", tiny), *before, (b"IDAT", pixel), *after, (b"IEND", b"")]
    return PngFile(
        header=header,
        color_type=color_type,
        is_interlaced=interlacing == 1,
        palette=palette,
        transparency=transparency,
        # The picture before the first frame is one more that can be shown.
        num_frames=frames + (not is_first_frame) if frames > 0 else 1,
        color_chunks=tuple((name, body) for name, body in before if name in _COLOR_CHUNKS),
        data=data,
        pixels_at=pixels_at,
        stand_in=PNG_START + b"".join(make_chunk(name, body) for name, body in parts),
    )


def list_compressed(png: PngFile) -> Iterator[memoryview]:
    """The compressed pixels in small pieces, because zlib copies what is left of its input at every call."""
    at, view = png.pixels_at, memoryview(png.data)
    while png.data[at + 4 : at + 8] == b"IDAT":
        end = at + 8 + int.from_bytes(view[at : at + 4])
        for start in range(at + 8, end, _INPUT_BYTES):
            yield view[start : min(start + _INPUT_BYTES, end)]
        at = end + 4


def make_chunk(name: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def _check_header(data: bytes, header: Header) -> tuple[int, int]:
    """Colour type and interlacing of a header chunk whose fields are all valid."""
    if data[8:12] != b"\0\0\0\x0d":
        raise OSError("its header has a wrong length")
    if zlib.crc32(memoryview(data)[12:29]) != int.from_bytes(data[29:33]):
        raise OSError("a checksum is wrong")
    color_type, packing, filtering, interlacing = struct.unpack_from(">BBBB", data, 25)
    if header.bits not in _DEPTHS.get(color_type, ()) or packing or filtering or interlacing > 1:
        raise OSError("its header is invalid")
    return color_type, interlacing


def _chunks(data: bytes) -> Iterator[tuple[int, bytes, memoryview]]:
    """Place, name and data of the chunks behind the header; behind the pixels only those with a right checksum that do not change them."""
    at, view, has_pixels, is_past = 33, memoryview(data), False, False
    num_pixels, num_others = 0, 0
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        is_past = is_past or (has_pixels and name != b"IDAT")
        has_pixels = has_pixels or name == b"IDAT"
        num_pixels, num_others = num_pixels + (name == b"IDAT"), num_others + (name != b"IDAT")
        if num_others > _MAX_CHUNKS or num_pixels > _MAX_PIXEL_CHUNKS + len(data) // _BYTES_PER_PIXEL_CHUNK:
            raise TooComplexError("has too many chunks")
        is_whole = end + 4 <= len(data)
        is_right = is_whole and zlib.crc32(view[at + 4 : end]) == int.from_bytes(view[end : end + 4])
        if not is_past and not is_right:
            raise OSError("a checksum is wrong" if is_whole else "its pixels are truncated")
        if name == b"IEND":
            return
        if is_past and (not is_whole or name in (b"IDAT", b"PLTE", b"tRNS")):
            raise OSError("a chunk is out of place" if is_whole else "image file is truncated")
        if is_right and not (is_past and name in _BEFORE_PIXELS):
            yield at, name, view[at + 8 : end]
        at = end + 4
    raise OSError("image file is truncated: its end is missing" if has_pixels else "its pixels are truncated")


def _check_colors(
    names: list[bytes], known: dict[bytes, bytes], color_type: int, bits: int
) -> tuple[bytes, bytes | None]:
    """The palette and the transparency.

    Args:
        names: Names of the chunks before the pixels.
        known: Their data.
        color_type: See `PngFile`.
        bits: Bits of a sample.
    """
    palette = known.get(b"PLTE", b"") if color_type in (2, 3, 6) else b""
    most = 3 << (bits if color_type == 3 else 8)
    if b"PLTE" in known and color_type in (2, 3, 6) and (not palette or len(palette) % 3 or len(palette) > most):
        raise OSError("its palette has a wrong length")
    if color_type == 3 and not palette:
        raise OSError("it has no palette before its pixels")
    transparency = known.get(b"tRNS") if color_type in (0, 2, 3) else None
    if names.count(b"PLTE") > 1 or names.count(b"tRNS") > 1:
        raise OSError("its palette or its transparency comes twice")
    if transparency is None:
        return palette, None
    if color_type == 3:
        if names.index(b"tRNS") < names.index(b"PLTE") or not 0 < len(transparency) <= len(palette) // 3:
            raise OSError("its transparency does not fit its palette")
    elif len(transparency) != (2 if color_type == 0 else 6) or max(struct.unpack(f">{len(transparency) // 2}H", transparency)) >> bits:
        raise OSError("its transparent colour is invalid")
    return palette, transparency
