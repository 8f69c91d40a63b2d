"""HEIC pictures, as iPhones take them, decoded by the optional package pi-heif."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alterbute.errors import InputError
from alterbute.images.files.canvas import Planes
from alterbute.images.files.header_type import Header, Refusal
from alterbute.images.files.refusals import header_error

if TYPE_CHECKING:
    from PIL.Image import Image


def decode_heif(data: bytes, header: Header, param: str) -> tuple[Planes, Image, bytes | None]:
    """Decode the primary picture of a HEIC file, upright.

    Its EXIF orientation is not applied: the file's own boxes turn the picture, and cameras repeat them in EXIF.

    Args:
        data: The file.
        header: Its header.
        param: Role of the picture.

    Returns:
        Its levels; a picture of one pixel whose `info` holds `icc_profile` and `exif`; and its XMP.

    Raises:
        InputError: the package is not installed, or colours are multiplied by the transparency.
        Exception: of any type: the file is damaged.
    """
    from PIL import Image

    try:
        import pi_heif
    except ImportError:
        raise InputError(
            f"the {param} is a HEIC file (iPhone), and the package that reads it is not installed",
            "the package pi-heif, or a PNG, JPEG, WebP, AVIF or TIFF file",
            "run pip install 'alterbute[heif]', or save the picture as a JPEG or PNG",
            param,
            f"{param}_not_an_image",
        ) from None
    file = pi_heif.open_heif(data)
    picture = file[file.primary_index]
    # A copy: pi-heif's buffer is freed with its picture, whatever still refers to it.
    levels = np.frombuffer(picture.data, np.uint8).copy()
    width, height = picture.size
    # libheif turns and cuts the picture itself.
    size = (header.height, header.width) if header.quarter_turns & 1 else (header.width, header.height)
    channels = {"L": 1, "LA": 2, "La": 2, "RGB": 3, "RGBA": 4, "RGBa": 4}.get(picture.mode, 0)
    if (width, height) != size or not channels or len(levels) != width * height * channels:
        raise OSError("its headers give two sizes")
    levels = levels.reshape((height, width, channels) if channels > 1 else (height, width))
    alpha = levels[:, :, -1].copy() if channels in (2, 4) else None
    if picture.mode.endswith("a") and alpha is not None and int(alpha.min()) < 255:
        raise header_error(Refusal.premultiplied(), param, is_mask=False)
    if channels in (2, 4):
        levels = levels[:, :, 0].copy() if channels == 2 else levels[:, :, :3].copy()
    tags = Image.new("RGB", (1, 1))
    for name in ("icc_profile", "exif"):
        if picture.info.get(name):
            tags.info[name] = picture.info[name]
    xmp = picture.info.get("xmp")
    return Planes(colors=levels, alpha=alpha), tags, xmp if isinstance(xmp, bytes) else None
