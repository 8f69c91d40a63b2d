"""Pictures and masks that are arrays, of any library, in the shapes and dtypes in which models and segmenters give them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alterbute.errors import InputError
from alterbute.images.photo import Bytes, Pixels

MAX_PIXELS: Final = 100_000_000
MIN_SIDE: Final = 32
MAX_SIDE: Final = 16384


def strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Spans of rows of about a megapixel: what is computed on one is small beside the photos."""
    height = max((1 << 20) // shape[1], 1)
    yield from (slice(top, min(top + height, shape[0])) for top in range(0, shape[0], height))


def count_levels(plane: Bytes) -> NDArray[np.int64]:
    """How many pixels of a plane HW uint8 have each level: [256] int64."""
    counts = np.zeros(256, np.int64)
    for rows in strips(plane.shape):
        strip = plane[rows]
        # Most masks are black and white; counting these two is ten times as fast as a histogram, which converts to int64.
        black, white = int(np.count_nonzero(strip == 0)), int(np.count_nonzero(strip == 255))
        if black + white == strip.size:
            counts[0] += black
            counts[255] += white
        else:
            counts += np.bincount(strip.ravel(), minlength=256)
    return counts


def check_size(width: int, height: int, param: str) -> None:
    """Refuse a picture that is too small or too large.

    Args:
        width: Columns of pixels.
        height: Rows of pixels.
        param: Role of the picture, for the message.

    Raises:
        InputError: out of limits.
    """
    if width * height <= MAX_PIXELS and min(width, height) >= MIN_SIDE and max(width, height) <= MAX_SIDE:
        return
    raise InputError(
        f"the {param} is {width}x{height} pixels",
        f"sides of {MIN_SIDE} to {MAX_SIDE} and at most {MAX_PIXELS // 1_000_000} megapixels",
        "crop or resize it",
        param,
        f"{param}_size_out_of_limits",
    )


def check_array(array: NDArray[Any], param: str, *, is_mask: bool) -> Pixels:
    """An array as HW, HW3 or HW4, uint8 or, of a picture, uint16; the caller's own array where it has such a shape and dtype already.

    Args:
        array: uint8 in [0,255], uint16 in [0,65535], or bool HW. A mask may also have axes of size 1, be of any integer dtype, and be
            float in [0,1]; it is cut to 8 bits.
        param: Role of the picture, for messages.
        is_mask: Whether it is a mask.

    Raises:
        InputError: another shape, dtype or range, or out of the limits of size.
    """
    if hasattr(array, "mask"):  # numpy.ma: which pixels are no values, a mask of another meaning
        raise InputError(
            f"the {param} is a masked array of numpy.ma",
            "an array whose every element is a value",
            "fill what is masked, such as with .filled(0)",
            param,
            f"{param}_bad_array",
        )
    if is_mask:
        array = _squeeze(array, param)
    has_picture_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not has_picture_shape:
        raise _shape_error(array, param, is_mask)
    check_size(array.shape[1], array.shape[0], param)
    if array.dtype == np.bool_ and array.ndim == 2:
        return np.where(array, np.uint8(255), np.uint8(0))
    if array.dtype == np.uint8:
        return array.view(np.ndarray)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2 and not is_mask:
        return array.astype(np.uint16, copy=False).view(np.ndarray)  # in the machine's byte order
    if is_mask and array.dtype.kind in "iuf":
        return _to_levels(array, param)
    raise InputError(
        f"the {param} is an array of {array.dtype}",
        "uint8 in [0,255] or uint16 in [0,65535]",
        "scale it to 0..255 and convert it with .astype('uint8'), or to 0..65535 with .astype('uint16')",
        param,
        f"{param}_bad_array",
    )


def _squeeze(array: NDArray[Any], param: str) -> NDArray[Any]:
    """Drop axes of size 1, such as in [1,H,W] and [H,W,1]."""
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 3 and array.shape[2] not in (3, 4) and array.shape[0] <= 64 < min(array.shape[1:]):
        raise InputError(
            f"the {param} is {array.shape[0]} masks, an array {list(array.shape)}",
            "one mask, [H,W]",
            f"choose one, such as {param}[0], or unite them with {param}.any(axis=0)",
            param,
            f"{param}_bad_array",
        )
    return array


def _to_levels(array: NDArray[Any], param: str) -> Bytes:
    """Levels 0..255 of an array of numbers: floats in [0,1], integers in [0,255], or 16 bits."""
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if array.dtype.kind == "f":
        if low >= 0 and high <= 1:
            levels: Bytes = np.round(array * array.dtype.type(255)).astype(np.uint8)
            return levels
        expected = "numbers in [0,1]"
    elif low >= 0 and high <= 255:
        return array.astype(np.uint8)
    elif low >= 0 and high <= 65535:
        return (array.astype(np.uint32) >> 8).astype(np.uint8)
    else:
        expected = "integers in [0,255]"
    raise InputError(
        f"the {param} holds numbers from {low:g} to {high:g} ({array.dtype})",
        expected,
        "scale them, or pass a condition such as `scores > 0`",
        param,
        f"{param}_bad_array",
    )


def _shape_error(array: NDArray[Any], param: str, is_mask: bool) -> InputError:
    expected = "[H,W], [1,H,W], [H,W,1], [H,W,3] or [H,W,4]" if is_mask else "[H,W], [H,W,3] or [H,W,4]"
    return InputError(
        f"the {param} is an array of shape {list(array.shape)}",
        f"{expected}, rows first",
        "reorder its axes, or take one picture of it",
        param,
        f"{param}_bad_array",
    )
