"""Whether the strips or tiles of a TIFF hold all pixels, where its decoders do not look.

Pillow reads uncompressed pixels wherever the first strip starts, whatever lies there; libtiff drops the warnings of libjpeg, and does
not read the end of LZW, deflate and LZMA, where a file whose last part was never written (a broken download) has zeros.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final

from alterbute.images.files.jpeg.jpeg_markers import read_jpeg
from alterbute.images.files.jpeg.jpeg_pixels import check_jpeg

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _ROWS, _PLANAR, _TABLES = (
    258,
    259,
    262,
    266,
    277,
    278,
    284,
    347,
)
_PARTS: Final = ((273, 279), (324, 325))
_PLAIN, _LZW, _JPEG, _YCBCR, _LZMA, _DEFLATE = 1, 5, 7, 6, 34925, (8, 32946)
# What no sound part ends in. LZW ends with a code that is not zero, and zeros alone would be four single black levels, which have a
# common code; LZMA ends with letters; the checksum at the end of deflate is zero for one part in four billion, so that it is computed.
_ZEROS: Final = {_LZW: bytes(8), _LZMA: bytes(4)} | dict.fromkeys(_DEFLATE, bytes(4))
_PIECE_BYTES: Final = 1 << 20


def check_tiff_parts(data: bytes, image: ImageFile, width: int, height: int) -> None:
    """Check the parts of uncompressed TIFF, and of those in JPEG, LZW, deflate and LZMA compression.

    Args:
        data: The file.
        image: The file, opened by Pillow.
        width: Columns of pixels, as stored.
        height: Rows of pixels.

    Raises:
        OSError: pixels are missing.
    """
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    compression = tags.get(_COMPRESSION, _PLAIN)
    for place, size in _PARTS:
        if place in tags and size in tags:
            starts, sizes = _as_tuple(tags[place]), _as_tuple(tags[size])
            if compression == _PLAIN and tags.get(_PHOTOMETRIC) != _YCBCR:
                _check_plain(tags, sizes, width, height, is_tiled=place != _PARTS[0][0])
            elif compression == _JPEG:
                tables = bytes(tags.get(_TABLES, b""))
                for at, length in zip(starts, sizes, strict=True):
                    part = data[at : at + length]
                    check_jpeg(read_jpeg(tables[:-2] + part[2:] if len(tables) > 4 else part))
            elif compression in _ZEROS and tags.get(_FILL_ORDER, 1) == 1:
                _check_ends(data, starts, sizes, compression, 16 * width * height)


def _check_plain(tags: Any, sizes: tuple[int, ...], width: int, height: int, *, is_tiled: bool) -> None:
    samples, is_planar = tags.get(_SAMPLES, 1), tags.get(_PLANAR, 1) == 2
    bits = max(_as_tuple(tags.get(_BITS, 1)))
    planes = samples if is_planar else 1
    needed = -(-width * bits * (1 if is_planar else samples) // 8) * height * planes
    rows = min(tags.get(_ROWS, height) or height, height)
    # Some old programs write sizes of 0.
    is_short = 0 < sum(sizes) < needed
    if is_short or (not is_tiled and len(sizes) < -(-height // rows) * planes):
        raise OSError("image file is truncated: its strips hold fewer bytes than it has pixels")


def _check_ends(
    data: bytes, starts: tuple[int, ...], sizes: tuple[int, ...], compression: int, most_bytes: int
) -> None:
    """Check that no part ends in zeros that are none of its code."""
    # Parts of a crafted file may share their bytes.
    input_left, output_left = len(data), most_bytes + _PIECE_BYTES
    for at, length in zip(starts, sizes, strict=True):
        if not data.endswith(_ZEROS[compression], at, at + length):
            continue
        input_left -= length
        stream, piece = zlib.decompressobj(), data[at : at + length]
        while compression in _DEFLATE and not stream.eof and piece and min(input_left, output_left) >= 0:
            output_left -= len(stream.decompress(piece, _PIECE_BYTES))
            piece = stream.unconsumed_tail
        if not stream.eof:
            raise OSError("image file is truncated: its strips end in zeros")


def _as_tuple(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)
