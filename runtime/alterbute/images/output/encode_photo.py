"""Encoding of pictures in lossless formats: PNG, WebP and TIFF; the same picture gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from alterbute.errors import InputError
from alterbute.images.metadata.exif_edit import make_upright, read_orientation
from alterbute.images.metadata.metadata import NO_METADATA, Metadata
from alterbute.images.output.png_writer import Chunk, list_chunks, write_png
from alterbute.images.output.raster import Raster
from alterbute.images.output.tiff_writer import write_tiff
from alterbute.images.photo import Photo

if TYPE_CHECKING:
    from PIL.Image import Image

Format: TypeAlias = Literal["PNG", "WEBP", "TIFF"]

_MAX_WEBP_SIDE: Final = 16383


def encode_photo(photo: Photo, format: Format = "PNG", metadata: Metadata = NO_METADATA) -> bytes:
    """Encode a photo as a lossless picture file, with its colour and the given metadata.

    Args:
        photo: The photo; colours under transparent pixels are kept.
        format: The file's format.
        metadata: What the file is to hold besides pixels and colour. WebP holds no resolution, and only PNG holds texts.

    Raises:
        InputError: WebP cannot hold the photo, because it has 16 bits or a side over 16383 pixels; or a TIFF would be over 4 GiB.
    """
    buffer = io.BytesIO()
    write_photo(buffer, photo, format, metadata)
    return buffer.getvalue()


def encode(image: Image, format: Format = "PNG") -> bytes:
    """Encode a Pillow picture as a lossless picture file, with its colour profile and no other metadata."""
    buffer = io.BytesIO()
    write_image(buffer, image, format)
    return buffer.getvalue()


def write_photo(file: IO[bytes], photo: Photo, format: Format, metadata: Metadata) -> None:
    """Write a photo to an open file.

    Args:
        file: Open for bytes, at its start.
        photo: The photo.
        format: The file's format.
        metadata: What the file is to hold besides pixels and colour.

    Raises:
        InputError: the format cannot hold the photo; see `encode_photo`.
    """
    raster = Raster(pixels=photo.pixels, alpha=photo.alpha)
    _write(file, raster, format, photo.icc, photo.color_chunks, metadata)


def write_image(file: IO[bytes], image: Image, format: Format) -> None:
    """Write a Pillow picture to an open file.

    Args:
        file: Open for bytes, at its start.
        image: The picture; what is neither grey, RGB nor RGBA is converted to one of them.
        format: The file's format.

    Raises:
        InputError: the format cannot hold the picture; see `encode_photo`.
    """
    if image.mode not in ("L", "RGB", "RGBA"):
        mode = "RGBA" if image.has_transparency_data else "L" if image.mode == "1" else "RGB"
        icc = image.info.get("icc_profile")
        image = image.convert(mode)
        image.info["icc_profile"] = icc
    array: NDArray[Any] = np.asarray(image)
    is_rgba = image.mode == "RGBA"
    raster = Raster(pixels=array[:, :, :3] if is_rgba else array, alpha=array[:, :, 3] if is_rgba else None)
    _write(file, raster, format, image.info.get("icc_profile"), (), NO_METADATA)


def _write(
    file: IO[bytes],
    raster: Raster,
    format: Format,
    icc: bytes | None,
    color_chunks: Sequence[Chunk],
    metadata: Metadata,
) -> None:
    check_format(raster.bits, raster.width, raster.height, format)
    if metadata.exif is not None and read_orientation(metadata.exif) != 1:
        # The pixels are upright: a viewer would turn them a second time.
        metadata = replace(metadata, exif=make_upright(metadata.exif))
    if format == "PNG":
        write_png(file, raster, list_chunks(icc, color_chunks, metadata))
    elif format == "TIFF":
        write_tiff(file, raster, icc, metadata)
    else:
        _write_webp(file, raster, icc, metadata)


def check_format(bits: int, width: int, height: int, format: Format) -> None:
    """Refuse a picture that a format cannot hold.

    Args:
        bits: Bits per channel.
        width: Columns of pixels.
        height: Rows of pixels.
        format: The file's format.

    Raises:
        InputError: the format is WebP, and the picture has 16 bits or a side over 16383 pixels.
    """
    if format != "WEBP":
        return
    if bits > 8:
        raise InputError(
            f"the result has {bits} bits",
            ".png or .tif, since WebP has 8",
            "change the ending",
            "output",
            "output_depth",
        )
    if max(width, height) > _MAX_WEBP_SIDE:
        raise InputError(
            f"the result is {width}x{height} pixels, and WebP's sides are {_MAX_WEBP_SIDE} at most",
            ".png or .tif",
            "change the ending",
            "output",
            "output_size",
        )


def _write_webp(file: IO[bytes], raster: Raster, icc: bytes | None, metadata: Metadata) -> None:
    from PIL import Image

    picture = raster.rows(0, raster.height)
    image = Image.fromarray(picture[:, :, 0] if raster.channels == 1 else picture)
    # exact: lossless WebP would otherwise drop the colours under transparent pixels.
    image.save(
        file,
        "WEBP",
        lossless=True,
        exact=True,
        icc_profile=icc,
        exif=metadata.exif or b"",
        xmp=metadata.xmp or b"",
    )
