"""The photo type: checked, upright pixels in read-only arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from alterbute.errors import InputError
from alterbute.images.metadata.metadata import NO_METADATA, Metadata

if TYPE_CHECKING:
    from PIL.Image import Image

Bytes: TypeAlias = NDArray[np.uint8]
Pixels: TypeAlias = NDArray[np.unsignedinteger[Any]]
"""Levels of a picture of 8 or 16 bits: [0,255] or [0,65535]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Photo:
    """A decoded picture.

    Args:
        pixels: HWC uint8 RGB in [0,255], or uint16 in [0,65535]; orientation applied, read-only.
        alpha: HW of the dtype of `pixels`, highest = opaque, read-only; None when the picture has no transparency.
        icc: The RGB colour profile of `pixels`: the file's, or one that was made of its other colour tags; None is sRGB.
        orientation: The EXIF orientation of its file, 1..8, which has been applied to `pixels`.
        color_chunks: Name and data of the PNG chunks that describe the colour of its file, in place of `icc` in a PNG.
        metadata: What its file holds besides pixels and colour.
        warnings: Messages for the user about what its file states and is not used.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    orientation: int = 1
    color_chunks: tuple[tuple[bytes, bytes], ...] = ()
    metadata: Metadata = NO_METADATA
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Make the arrays read-only: results are compared with the photo, so it must not change."""
        self.pixels.setflags(write=False)
        if self.alpha is not None:
            self.alpha.setflags(write=False)

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.pixels.shape[1])

    @property
    def bits(self) -> int:
        """Bits per channel: 8 or 16."""
        return 8 * self.pixels.itemsize

    def to_array(self) -> Pixels:
        """HW3, or HW4 with transparency, of the dtype of `pixels`; read-only without transparency."""
        return self.pixels if self.alpha is None else np.dstack([self.pixels, self.alpha])

    def to_8_bits(self) -> Photo:
        """The picture with levels rounded to 8 bits; itself where it has 8."""
        if self.bits == 8:
            return self
        alpha = None if self.alpha is None else to_8_bits(self.alpha)
        return replace(self, pixels=to_8_bits(self.pixels), alpha=alpha)

    def to_pil(self) -> Image:
        """A Pillow copy, RGB or RGBA, with the colour profile attached.

        Raises:
            InputError: the picture has 16 bits, which Pillow's RGB pictures cannot hold.
        """
        from PIL import Image

        if self.bits != 8:
            raise InputError(
                f"the picture has {self.bits} bits per channel",
                "8, the depth of Pillow's RGB pictures",
                "take `pixels`, or write a file with `save`",
                "photo",
                "photo_bit_depth",
            )
        # No fill colour: every pixel is overwritten next.
        image = Image.new("RGB", (self.width, self.height), None)
        image.frombytes(np.ascontiguousarray(self.pixels), "raw", "RGB", 0, 1)
        if self.alpha is not None:
            image.putalpha(Image.fromarray(self.alpha))
        if self.icc is not None:
            image.info["icc_profile"] = self.icc
        return image


def to_8_bits(levels: Pixels) -> Bytes:
    """Levels in [0,255], rounded; the array itself where it has 8 bits."""
    if levels.dtype == np.uint8:
        return cast("Bytes", levels)
    return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)
