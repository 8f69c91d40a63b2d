"""Pixels on their way into a file: strips of rows, and how to compress them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alterbute.images.photo import Pixels

_LARGE_PIXELS: Final = 1 << 20
_STRIP_BYTES: Final = 1 << 20
_SAMPLE_BYTES: Final = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Raster:
    """The pixels that a file is to hold.

    Args:
        pixels: HW or HW3, uint8 or uint16.
        alpha: HW of the dtype of `pixels`; None = opaque.
    """

    pixels: Pixels
    alpha: Pixels | None = None

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
        """Bits per sample."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def channels(self) -> int:
        """Samples per pixel: 1 is grey, 3 RGB; 2 and 4 have alpha too."""
        return (1 if self.pixels.ndim == 2 else 3) + (self.alpha is not None)

    @property
    def level(self) -> int:
        """The level for zlib: the usual level takes seconds for a large picture, for a file that is a tenth smaller."""
        return 1 if self.height * self.width > _LARGE_PIXELS else 6

    @property
    def strip_rows(self) -> int:
        """Rows of a strip, about a megabyte, so that the memory of a copy does not grow with the picture."""
        return max(1, min(self.height, _STRIP_BYTES // (self.width * self.channels * self.bits // 8)))

    def rows(self, top: int, bottom: int) -> Pixels:
        """Rows `top` to `bottom` as HWC; a view where there is no alpha."""
        pixels: NDArray[Any] = self.pixels[top:bottom]
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if self.alpha is not None:
            pixels = np.concatenate((pixels, self.alpha[top:bottom, :, None]), axis=2)
        return pixels

    def strips(self) -> Iterator[tuple[int, int]]:
        """First row and end of each strip."""
        for top in range(0, self.height, self.strip_rows):
            yield top, min(top + self.strip_rows, self.height)


def compress_strip(data: bytes, level: int, *, is_part: bool) -> bytes:
    """Compress a strip with the one of zlib's strategies that suits it.

    Differences of a photo's pixels hold no repeated strings, only noise: without a search for strings the file is a fifth
    smaller and written sooner. Graphics hold many. A sample of the strip tells them apart.

    Args:
        data: Filtered pixels.
        level: zlib's level.
        is_part: Whether other strips follow in the same stream; then the result is raw deflate data that ends at a whole byte,
            else a zlib stream of its own.
    """
    middle = max(0, (len(data) - _SAMPLE_BYTES) // 2)
    sample = data[middle : middle + _SAMPLE_BYTES]
    sizes = {
        strategy: len(_deflate(sample, level, strategy, is_part=is_part))
        for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_RLE)
    }
    return _deflate(data, level, min(sizes, key=sizes.__getitem__), is_part=is_part)


def _deflate(data: bytes, level: int, strategy: int, *, is_part: bool) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15 if is_part else 15, 9, strategy)
    return compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH if is_part else zlib.Z_FINISH)
