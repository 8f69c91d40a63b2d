"""Loading of photo, mask and reference, each checked for its purpose."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from alterbute.errors import InputError
from alterbute.images.image_file import LevelSource, PictureSource, decode, decode_levels
from alterbute.images.photo import Bytes, Photo

Polarity: TypeAlias = Literal["auto", "alpha", "white", "black"]
"""Which pixels of a mask mean "edit": `alpha` the transparent ones, `white` the light ones, `black` the dark ones; `auto` is
`alpha` for a picture with any transparency, else `white`."""

_REFERENCE_SIDE: Final = 1024


def load_photo(source: PictureSource, *, is_borrowed: bool = False) -> Photo:
    """Load the photo to edit: upright, 8-bit RGB, with its transparency and colour profile.

    Args:
        source: The picture.
        is_borrowed: An array is not changed while the picture is used, so that it need not be copied.

    Raises:
        InputError: the picture is missing, unreadable, of an unsupported kind, or out of limits; see `decode`.
    """
    return decode(source, "photo", is_borrowed=is_borrowed)


def load_mask(source: LevelSource | None, photo: Photo, polarity: Polarity = "auto") -> Bytes:
    """Load the mask of the photo's object.

    Args:
        source: A picture of the photo's displayed size. An array may also be bool, or uint8 0 and 1.
        photo: The photo that the mask belongs to.
        polarity: Which of the mask's pixels mean "edit"; see `Polarity`.

    Returns:
        HW uint8, 255 = edit, 0 = keep.

    Raises:
        InputError: no mask, not a picture, of another size, empty, or full.
    """
    mask = _read_mask(_require_mask(source), "mask", polarity)
    _check_mask(mask, photo)
    return mask


def load_weights(source: LevelSource | None, photo: Photo, polarity: Polarity = "auto") -> Bytes:
    """Load a mask whose grey levels are blend weights.

    Args:
        source: A picture of the photo's displayed size.
        photo: The photo that the mask belongs to.
        polarity: Which of the mask's pixels mean "edit"; see `Polarity`.

    Returns:
        HW uint8, how much of the edit each pixel gets, 0 = keep; at least one pixel is 128 or more.

    Raises:
        InputError: see `load_mask`.
    """
    weights = _read_levels(_require_mask(source), "mask", polarity)[0]
    _check_mask(as_mask(weights >= 128), photo)
    return weights.copy()


def load_protect(source: LevelSource | None, photo: Photo, polarity: Polarity = "auto") -> Bytes:
    """Load the mask of what stands in front of the object.

    Args:
        source: A picture of the photo's displayed size; None protects nothing.
        photo: The photo.
        polarity: Which of the mask's pixels mean "protect"; see `Polarity`.

    Returns:
        HW uint8, 255 = never changed, 0 elsewhere.

    Raises:
        InputError: not a picture, or of another size.
    """
    if source is None:
        return np.zeros((photo.height, photo.width), np.uint8)
    mask = _read_mask(source, "protect", polarity)
    _check_shape("protect", mask, photo)
    return mask


def load_reference(
    source: PictureSource, mask: PictureSource | None = None, polarity: Polarity = "auto"
) -> tuple[Bytes, Bytes]:
    """Load the picture whose object gives the identity, and the mask of that object.

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
    if mask is not None:
        object_mask = _read_mask(mask, "reference_mask", polarity)
        if object_mask.shape != (reference.height, reference.width):
            raise _size_error("reference_mask", object_mask, f"the reference's {reference.width}x{reference.height}")
    elif reference.alpha is not None:
        object_mask = as_mask(reference.alpha >= 128)
    else:
        object_mask = np.full((reference.height, reference.width), 255, np.uint8)
    if not object_mask.any():
        raise _empty_error("reference" if mask is None else "reference_mask")
    factor = max(reference.height, reference.width) // _REFERENCE_SIDE
    if factor < 2:
        return reference.pixels, object_mask
    # A cell with any covered pixel stays covered, so that a thin object does not vanish.
    return _shrink(reference.pixels, factor), as_mask(_shrink(object_mask[:, :, None], factor)[:, :, 0] > 0)


def _require_mask(source: LevelSource | None) -> LevelSource:
    if source is None:
        raise InputError(
            "there is no mask",
            "a picture of the photo's size with the object in white",
            "give one with --mask, or as the `mask` argument",
            "mask",
            "mask_missing",
        )
    return source


def _check_mask(mask: Bytes, photo: Photo) -> None:
    _check_shape("mask", mask, photo)
    # Minimum and maximum rather than `any` and `all`, which take numpy several times as long on bytes.
    if mask.max() == 0:
        raise _empty_error("mask")
    if mask.min() > 0:
        raise InputError(
            "the mask is full: it marks every pixel to edit",
            "some pixels to keep",
            "mark only the object; if it marks the background, invert it with --mask-polarity",
            "mask",
            "mask_full",
        )


def _check_shape(param: str, mask: Bytes, photo: Photo) -> None:
    if mask.shape != (photo.height, photo.width):
        raise _size_error(param, mask, f"the photo's {photo.width}x{photo.height}")


def _read_mask(source: LevelSource, param: str, polarity: Polarity) -> Bytes:
    """HW uint8, 255 where the source marks a pixel, 0 elsewhere."""
    levels, threshold = _read_levels(source, param, polarity)
    return as_mask(levels >= threshold)


def _read_levels(source: LevelSource, param: str, polarity: Polarity) -> tuple[Bytes, int]:
    """HW uint8 levels, 255 = fully marked, and the threshold from which a level counts as marked in a binary mask."""
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim == 2 and source.max(initial=0) == 1:
        source = source.astype(np.bool_)
    picture = decode_levels(source, param)
    is_opaque = picture.alpha is None or bool((picture.alpha == 255).all())
    if polarity == "alpha" or (polarity == "auto" and not is_opaque):
        if picture.alpha is None:
            raise InputError(
                f"the {param} has no transparency, and polarity `alpha` edits what is transparent",
                "a PNG whose object is transparent",
                "erase the object in the mask, or use --mask-polarity white",
                param,
                f"{param}_without_alpha",
            )
        return 255 - picture.alpha, 255
    levels: Bytes = 255 - picture.luminance if polarity == "black" else picture.luminance
    # A transparent pixel was not painted: it never counts as marked.
    return levels if picture.alpha is None else np.where(picture.alpha >= 128, levels, np.uint8(0)), 128


def as_mask(condition: NDArray[np.bool_]) -> Bytes:
    """255 where a condition holds, 0 elsewhere; reuses the memory of `condition`, which is invalid afterwards."""
    mask = condition.view(np.uint8)
    mask *= 255
    return mask


def _shrink(pixels: Bytes, factor: int) -> Bytes:
    """The mean of every factor x factor block, rounded half up; a last, partial block is dropped.

    Args:
        pixels: HWC uint8.
    """
    rows, columns = pixels.shape[0] // factor, pixels.shape[1] // factor
    blocks = pixels[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, -1)
    means: Bytes = (2 * blocks.sum(axis=(1, 3), dtype=np.uint32) + factor**2) // (2 * factor**2)
    return means.astype(np.uint8)


def _size_error(param: str, mask: Bytes, expected: str) -> InputError:
    height, width = mask.shape
    return InputError(
        f"the {param} is {width}x{height} pixels", expected, "draw it on that picture", param, f"{param}_size"
    )


def _empty_error(param: str) -> InputError:
    return InputError(
        f"the {param} is empty: it marks no object",
        "an object in white, or transparent in a PNG",
        "mark the object, or choose --mask-polarity white, black or alpha",
        param,
        f"{param}_empty",
    )
