"""Whether the strips or tiles of a TIFF hold all pixels, where its decoders do not look.

Pillow reads uncompressed pixels wherever the first strip starts, whatever lies there; and libtiff drops the warnings of libjpeg.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from alterbute.images.files.jpeg.jpeg_markers import read_jpeg
from alterbute.images.files.jpeg.jpeg_pixels import check_jpeg

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _ROWS, _PLANAR, _TABLES = 258, 259, 262, 277, 278, 284, 347
_PARTS: Final = ((273, 279), (324, 325))
_PLAIN, _JPEG, _YCBCR = 1, 7, 6


def check_tiff_parts(data: bytes, image: ImageFile, width: int, height: int) -> None:
    """Check the parts of uncompressed and of JPEG-compressed TIFF.

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


def _as_tuple(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)
