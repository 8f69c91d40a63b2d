"""Loading of photo, mask and reference, each checked for its purpose."""

from __future__ import annotations

from typing import Final

import numpy as np

from alterbute.errors import InputError
from alterbute.images.color import check_profile, to_srgb
from alterbute.images.files.decode import LevelSource, PictureSource, decode
from alterbute.images.masks.marking import Polarity
from alterbute.images.masks.read_mask import OBJECT_LEVEL, as_mask, empty_error, read_binary, read_mask
from alterbute.images.photo import Bytes, Photo, to_8_bits

_REFERENCE_SIDE: Final = 1024
_HIDDEN: Final = np.uint8(128)


def load_photo(source: PictureSource, *, is_borrowed: bool = False) -> Photo:
    """Load the photo to edit: upright RGB of 8 or 16 bits, with its transparency, colour tags and metadata.

    Args:
        source: The picture.
        is_borrowed: An array is not changed while the picture is used, so that it need not be copied.

    Raises:
        InputError: the picture is missing, unreadable, of an unsupported kind, or out of limits; see `decode`. Or it cannot be
            converted to sRGB and back.
    """
    photo = decode(source, "photo", is_borrowed=is_borrowed)
    check_profile(photo.icc, photo.bits, "photo")
    return photo


def load_mask(source: LevelSource | None, photo: Photo, polarity: Polarity = "auto") -> Bytes:
    """Load the mask of the photo's object, without soft edges and as it is: dust is not dropped.

    Args:
        source: A picture of the photo's displayed size; see `PictureSource`.
        photo: The photo that the mask belongs to.
        polarity: Which of the mask's pixels mean "edit"; see `Polarity`.

    Returns:
        HW uint8, 255 = edit, 0 = keep.

    Raises:
        InputError: no mask, not a picture, of another size, ambiguous, empty, or full.
    """
    return as_mask(read_mask(source, photo, polarity=polarity).levels >= OBJECT_LEVEL)


def load_optional_reference(
    source: PictureSource | None, mask: PictureSource | None, polarity: Polarity = "auto"
) -> tuple[Bytes, Bytes] | None:
    """Load a reference as `load_reference` does, if there is one.

    Args:
        source: The reference; None is none.
        mask: The mask of its object, or None.
        polarity: Which of the mask's pixels mean "object"; see `Polarity`.

    Raises:
        InputError: there is a mask and no reference, or one of them cannot be used.
    """
    if source is not None:
        return load_reference(source, mask, polarity)
    if mask is not None:
        raise InputError(
            "there is a reference mask and no reference", "both", "give the reference", "reference", "reference_missing"
        )
    return None


def load_reference(
    source: PictureSource, mask: LevelSource | None = None, polarity: Polarity = "auto"
) -> tuple[Bytes, Bytes]:
    """Load the picture whose object gives the identity, in sRGB, and the mask of that object.

    What lies under transparent pixels is replaced by grey.
    A picture with a side over 2047 pixels is shrunk by a whole factor to a longer side of at least 1024 pixels, more than
    the encoders read.

    Args:
        source: Any size within the limits of a photo.
        mask: Its object, of its size; None: the picture's opaque part, or the whole picture.
        polarity: Which of the mask's pixels mean "object"; see `Polarity`.

    Returns:
        HWC uint8 RGB in [0,255], and HW uint8, 255 = object.

    Raises:
        InputError: see `load_photo` and `load_mask`; or no object is visible.
    """
    reference = decode(source, "reference")
    check_profile(reference.icc, 8, "reference")
    if mask is not None:
        object_mask = read_binary(mask, "reference_mask", reference, polarity)
    elif reference.alpha is not None:
        object_mask = as_mask(reference.alpha >= 128)
    else:
        object_mask = np.full((reference.height, reference.width), 255, np.uint8)
    if not object_mask.any():
        raise empty_error("reference" if mask is None else "reference_mask")
    pixels = to_srgb(to_8_bits(reference.pixels), reference.icc)
    if reference.alpha is not None:
        pixels = np.where(reference.alpha[:, :, None] == 0, _HIDDEN, pixels)
    factor = max(reference.height, reference.width) // _REFERENCE_SIDE
    if factor < 2:
        return pixels, object_mask
    # A cell with any covered pixel stays covered, so that a thin object does not vanish.
    return _shrink(pixels, factor), as_mask(_shrink(object_mask[:, :, None], factor)[:, :, 0] > 0)


def _shrink(pixels: Bytes, factor: int) -> Bytes:
    """The mean of every factor x factor block, rounded half up; a last, partial block is dropped.

    Args:
        pixels: HWC uint8.
    """
    rows, columns = pixels.shape[0] // factor, pixels.shape[1] // factor
    blocks = pixels[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, -1)
    means: Bytes = (2 * blocks.sum(axis=(1, 3), dtype=np.uint32) + factor**2) // (2 * factor**2)
    return means.astype(np.uint8)
