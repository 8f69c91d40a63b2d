"""Pictures that Pillow decodes: opened by their format's own reader, and taken from Pillow in strips; 16-bit TIFF by decoding twice."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from alterbute.images.files.canvas import STRIP_BYTES, Planes, as_stored, paint
from alterbute.images.files.gif_header import drop_texts
from alterbute.images.files.header_type import Header
from alterbute.images.files.pillow.bounded_exif import check_avif_exif
from alterbute.images.files.pillow.strict_load import WholeFile, load_strictly

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
"""Modes of Pillow's pictures that are taken: 8 bits per channel."""
GREY_16_MODES: Final = ("I;16", "I;16L", "I;16B", "I;16N")
_ORIENTATION_TAG: Final = 0x0112


def open_picture(data: bytes, header: Header) -> ImageFile:
    """Open a picture with Pillow's reader of its header's format, and no other.

    `PIL.Image.open` warns of pictures that are within this package's limits; a reader by itself does not.

    Raises:
        Exception: of any type: the file is damaged.
    """
    if header.format == "AVIF":
        check_avif_exif(data)
    file = WholeFile(data)
    if header.format == "WEBP":
        from PIL.WebPImagePlugin import WebPImageFile

        return WebPImageFile(file)
    if header.format == "AVIF":
        from PIL.AvifImagePlugin import AvifImageFile

        return AvifImageFile(file)
    if header.format == "TIFF":
        return _open_tiff(file, header)
    if header.format == "BMP":
        from PIL.BmpImagePlugin import BmpImageFile

        return BmpImageFile(file)
    if header.format == "GIF":
        from PIL.GifImagePlugin import GifImageFile

        return GifImageFile(WholeFile(drop_texts(data)))
    raise ValueError(f"there is no reader of {header.format}")


def read_orientation(image: Image) -> int:
    """EXIF orientation 1..8; 1, upright, where there is none."""
    from alterbute.images.metadata.exif_tables import bound_exif

    bound_exif(image.info)
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # broken EXIF is ignored, as viewers do
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def fill_from_pillow(image: Image, planes: Planes, orientation: int) -> None:
    """Copy an 8-bit picture, or a grey one of 16 bits, from Pillow.

    Args:
        image: The picture; of the modes above.
        planes: Where to; see `make_planes`.
        orientation: EXIF orientation by which it is shown.
    """
    colors = as_stored(planes.colors, orientation)
    alpha = None if planes.alpha is None else as_stored(planes.alpha, orientation)
    labels = None if planes.labels is None else as_stored(planes.labels, orientation)
    is_grey = image.mode in ("1", "L")
    mode = "L" if is_grey and alpha is None else "RGBA" if alpha is not None else "RGB"
    for rows, strip in _strips(image):
        if image.mode in GREY_16_MODES:
            paint(colors[rows], np.asarray(strip).astype(np.uint16))
            continue
        levels = np.asarray(strip if strip.mode == mode else strip.convert(mode))
        paint(colors[rows], levels if levels.ndim == 2 else levels[:, :, 0] if colors.ndim == 2 else levels[:, :, :3])
        if alpha is not None:
            paint(alpha[rows], levels[:, :, 3])
        if labels is not None:
            indices = np.frombuffer(strip.tobytes(), np.uint8).reshape(strip.height, strip.width)
            paint(labels[rows], indices)


def fill_from_16_bit_tiff(data: bytes, header: Header, planes: Planes) -> None:
    """Decode a TIFF of 16 bits to its exact levels.

    Pillow gives the high bytes of colours. With the bytes of each level in the other order, it gives the low ones.

    Args:
        data: The file.
        header: Its header.
        planes: Where to; see `make_planes`. Pillow turns a TIFF upright itself.
    """
    if header.channels == 1:
        with open_picture(data, header) as image:
            load_strictly(image)
            fill_from_pillow(image, planes, 1)
        if header.is_inverted:
            np.invert(planes.colors, out=planes.colors)
        return
    is_wide = planes.colors.dtype == np.uint16
    for is_low in (False, True) if is_wide else (False,):
        with open_picture(data, header) as image:
            image.tile = [_choose_bytes(tile, is_low=is_low) for tile in image.tile]
            load_strictly(image)
            byte = int(is_low == (sys.byteorder == "big"))
            for rows, strip in _strips(image):
                levels = np.asarray(strip)
                for plane, part in ((planes.colors, levels[:, :, :3]), (planes.alpha, levels[:, :, 3:])):
                    if plane is None:
                        continue
                    target = plane[rows].view(np.uint8)
                    paint(target[..., byte::2] if is_wide else target, part[:, :, 0] if plane.ndim == 2 else part)


def _choose_bytes(tile: Any, *, is_low: bool) -> Any:
    """A part of a 16-bit picture of which Pillow takes the high or the low bytes; colours are not divided by the alpha."""
    name, _, order = tile.args[0].partition(";16")
    native = "L" if sys.byteorder == "little" else "B"
    if is_low:
        order = {"L": "B", "B": "L"}[native if order == "N" else order]
    return tile._replace(args=(f"{name.replace('a', 'A')};16{order}", *tile.args[1:]))


def _open_tiff(file: WholeFile, header: Header) -> ImageFile:
    from PIL import Image
    from PIL.TiffImagePlugin import TiffImageFile

    image = TiffImageFile(file)
    # Memory that is there already: the reader warns of pictures within this package's limits before it takes some.
    image.im = Image.new(image.mode, (header.width, header.height), None).im
    return image


def _strips(image: Image) -> Iterator[tuple[slice, Image]]:
    step = max(1, STRIP_BYTES // (4 * image.width))
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))
