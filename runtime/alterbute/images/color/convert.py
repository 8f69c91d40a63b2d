"""Conversion of pixels between the photo's colour space and sRGB, which the model sees; by littlecms for 8 bits."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from alterbute.errors import InputError
from alterbute.images.color.icc_profile import srgb_profile
from alterbute.images.color.matrix_profile import convert_16_bits, read_matrix_profile, srgb_matrix
from alterbute.images.photo import Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STRIP_PIXELS: Final = 1 << 20
_STEPS: Final = np.linspace(0, 255, 9).round().astype(np.uint8)
# [9,81,3]: colours all over the cube.
_PROBE: Final = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS), axis=-1).reshape(9, -1, 3)


def check_profile(icc: bytes | None, bits: int, param: str) -> None:
    """Refuse a profile that pixels cannot be converted from and back to.

    Args:
        icc: An RGB profile; None is sRGB.
        bits: Bits per channel of the picture.
        param: Role of the picture, for messages.

    Raises:
        InputError: the profile works in one direction only, is damaged, or is made of tables and the picture has 16 bits.
    """
    if icc is None:
        return
    seen = None
    try:
        for direction in (True, False):
            _make_transform(icc, direction)
    except Exception as fault:  # Pillow's PyCMSError, and others for damaged profiles
        seen = f"a colour profile that cannot be converted from and to ({fault})"
    if seen is None and bits > 8 and read_matrix_profile(icc) is None and not is_srgb(icc):
        seen = "16 bits and a profile that is not a matrix and tone curves"
    if seen is not None:
        raise InputError(
            f"the {param} has {seen}",
            "sRGB, Display P3, Adobe RGB or another RGB working space",
            "convert it to one of them",
            param,
            f"{param}_profile",
        )


def to_srgb(pixels: Pixels, icc: bytes | None) -> Pixels:
    """Convert pixels to sRGB; colours outside its gamut are clipped.

    Args:
        pixels: [h,w,3] uint8 or uint16.
        icc: Their RGB profile, which passed `check_profile`; None is sRGB. For sRGB, the result is `pixels` themselves.

    Returns:
        [h,w,3] of the same dtype.
    """
    return pixels if is_srgb(icc) else _convert(pixels, cast("bytes", icc), is_to_srgb=True)


def from_srgb(pixels: Pixels, icc: bytes | None) -> Pixels:
    """Convert sRGB pixels to a profile; see `to_srgb`."""
    return pixels if is_srgb(icc) else _convert(pixels, cast("bytes", icc), is_to_srgb=False)


def show_same_colors(one: bytes | None, other: bytes | None) -> bool:
    """Whether the same levels are shown in the same colours, within a level of sRGB, by two RGB profiles; None is sRGB."""
    if one == other:
        return True
    shown = [_PROBE if icc is None else _convert(_PROBE, icc, is_to_srgb=True) for icc in (one, other)]
    return int(np.abs(shown[0].astype(np.int16) - shown[1]).max()) <= 1


@lru_cache(maxsize=16)
def is_srgb(icc: bytes | None) -> bool:
    """Whether a profile is that of sRGB, in whatever form, so that pixels need no conversion; None is sRGB."""
    return show_same_colors(icc, None)


def add_change(photo: Pixels, before: Pixels, after: Pixels) -> Pixels:
    """The photo plus the change from `before` to `after`, clipped; equal pixels change nothing.

    A conversion to sRGB and back rounds and clips; only the difference of two such pictures is added, so that an unchanged pixel
    keeps its value, and a colour outside sRGB keeps what is beyond it.

    Args:
        photo: [h,w,3] uint8 or uint16.
        before: The photo after a conversion to sRGB and back, of the same shape and dtype.
        after: The edit in the photo's space, of the same shape and dtype.
    """
    wide = np.int16 if photo.dtype == np.uint8 else np.int32
    total: NDArray[Any] = photo.astype(wide)
    total = total + after - before
    result: NDArray[Any] = total.clip(0, np.iinfo(photo.dtype).max).astype(photo.dtype)
    return result


def _convert(pixels: Pixels, icc: bytes, *, is_to_srgb: bool) -> Pixels:
    if pixels.dtype == np.uint16:
        profile = read_matrix_profile(icc)
        if profile is None:
            raise AssertionError("check_profile refuses such a profile")
        ends = (profile, srgb_matrix()) if is_to_srgb else (srgb_matrix(), profile)
        return convert_16_bits(cast("NDArray[np.uint16]", pixels), *ends)
    from PIL import Image, ImageCms

    transform, converted = _make_transform(icc, is_to_srgb), np.empty_like(pixels)
    rows = max(_STRIP_PIXELS // max(pixels.shape[1], 1), 1)
    for first in range(0, len(pixels), rows):
        strip = Image.fromarray(np.ascontiguousarray(pixels[first : first + rows]))
        converted[first : first + rows] = np.asarray(ImageCms.applyTransform(strip, transform, inPlace=True) or strip)
    return converted


@lru_cache(maxsize=16)
def _make_transform(icc: bytes, is_to_srgb: bool) -> Any:
    """A transform of littlecms, relative colorimetric; it may be used by several threads."""
    from PIL import ImageCms

    own = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    srgb = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
    ends = (own, srgb) if is_to_srgb else (srgb, own)
    return ImageCms.buildTransform(*ends, "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
