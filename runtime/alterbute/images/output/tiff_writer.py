"""TIFF files of 8 and 16 bits: strips of deflate data, lowest byte first, the directory at the end (TIFF 6.0).

Pillow writes no 16-bit RGB.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import IO, Final

import numpy as np

from alterbute.errors import InputError
from alterbute.images.metadata.exif_tables import EXIF_POINTER, GPS_POINTER, Tag, lay_out, long, read_tags, short
from alterbute.images.metadata.metadata import Metadata
from alterbute.images.output.raster import Raster, compress_strip
from alterbute.images.photo import Pixels

_ADOBE_DEFLATE: Final = 8
_HORIZONTAL_DIFFERENCES: Final = 2
_UNASSOCIATED_ALPHA: Final = 2
_XMP: Final = 700
_ICC: Final = 34675
# Caption, camera, software, date, artist, rating, copyright, and what Windows' dialogs write. Others describe the old pixels.
_KEPT: Final = (269, 270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, 40091, 40092, 40093, 40094, 40095)
# A maker's note and the interoperability directory hold places within the old file.
_MOVED: Final = (37500, 40965)
_MAX_BYTES: Final = (1 << 32) - 1


def write_tiff(file: IO[bytes], raster: Raster, icc: bytes | None, metadata: Metadata) -> None:
    """Write a TIFF.

    Args:
        file: Open for bytes, at its start; it must be able to seek.
        raster: The pixels.
        icc: The colour profile; None is sRGB.
        metadata: EXIF's text tags and its Exif and GPS directories, XMP and resolution are written.

    Raises:
        InputError: the file would be over 4 GiB.
    """
    file.write(b"II*\0\0\0\0\0")
    places, sizes = [], []
    for top, bottom in raster.strips():
        data = compress_strip(_differences(raster.rows(top, bottom)).tobytes(), raster.level, is_part=False)
        places.append(file.tell())
        sizes.append(len(data))
        file.write(data)
        if file.tell() > _MAX_BYTES:
            raise _size_error()
    tags = _pixel_tags(raster) | {273: long(*places), 279: long(*sizes)}
    if icc is not None:
        tags[_ICC] = Tag(kind=7, data=icc)
    tags |= _describe(metadata)
    for pointer in (EXIF_POINTER, GPS_POINTER):
        directory = read_tags(metadata.exif or b"", pointer)
        kept = {number: tag for number, tag in directory.items() if number not in _MOVED}
        if kept:
            tags[pointer] = long(_append(file, kept))
    start = _append(file, tags)
    if file.tell() > _MAX_BYTES:
        raise _size_error()
    file.seek(4)
    file.write(struct.pack("<I", start))
    file.seek(0, 2)


def _append(file: IO[bytes], tags: dict[int, Tag]) -> int:
    """Write a directory at the next even place; returns the place."""
    start = file.tell()
    file.write(b"\0" * (start % 2))
    start += start % 2
    file.write(lay_out(tags, start))
    return start


def _differences(rows: Pixels) -> Pixels:
    """Each sample less the one to its left, as TIFF's predictor 2."""
    differences = rows.copy()
    differences[:, 1:] -= rows[:, :-1]
    return differences if differences.dtype == np.uint8 else differences.astype("<u2")


def _pixel_tags(raster: Raster) -> dict[int, Tag]:
    tags = {
        256: long(raster.width),
        257: long(raster.height),
        258: short(*(raster.bits,) * raster.channels),
        259: short(_ADOBE_DEFLATE),
        262: short(1 if raster.pixels.ndim == 2 else 2),
        277: short(raster.channels),
        278: long(raster.strip_rows),
        284: short(1),
        317: short(_HORIZONTAL_DIFFERENCES),
    }
    return tags if raster.alpha is None else tags | {338: short(_UNASSOCIATED_ALPHA)}


def _describe(metadata: Metadata) -> dict[int, Tag]:
    first = read_tags(metadata.exif or b"")
    tags = {number: tag for number, tag in first.items() if number in _KEPT}
    if metadata.xmp is not None:
        tags[_XMP] = Tag(kind=1, data=metadata.xmp)
    if metadata.dpi is not None and all(1e-3 <= dots <= 1e6 for dots in metadata.dpi):
        for number, dots in zip((282, 283), metadata.dpi, strict=True):
            tags[number] = Tag(
                kind=5, data=struct.pack("<II", *Fraction(dots).limit_denominator(1000).as_integer_ratio())
            )
        tags[296] = short(2)
    return tags


def _size_error() -> InputError:
    return InputError(
        "the result is over 4 GiB, which a TIFF cannot hold", ".png", "choose another ending", "output", "output_size"
    )
