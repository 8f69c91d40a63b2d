"""How much CPU time and memory the decoding of a picture may take: from the size that its header states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_TIMEOUT_PIXELS: Final = 12e6
"""Pixels of the picture that `decode_timeout_s` is stated for."""
_LEAST_SHARE: Final = 0.2
_BYTES_PER_PIXEL: Final = {"WEBP": 28}
_OTHER_BYTES_PER_PIXEL: Final = 18
_ROOM_BYTES: Final = 48 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSize:
    """The size of a picture by its header.

    Args:
        width: Columns of pixels, as stored.
        height: Rows of pixels, as stored.
        bits: Bits of a channel's levels.
        format: Name of the file's format; empty for an array.
    """

    width: int
    height: int
    bits: int
    format: str = ""

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height


def cpu_limit_s(size: PictureSize, decode_timeout_s: float) -> float:
    """Seconds of CPU time that decoding a picture may take.

    In proportion to its pixels: `decode_timeout_s` for 12 megapixels, a fifth of it for small pictures. Measured on one core
    of a server: 0.02 (JPEG), 0.05 (PNG) to 0.1 s (AVIF with transparency) per megapixel.
    """
    return decode_timeout_s * max(size.pixels / _TIMEOUT_PIXELS, _LEAST_SHARE)


def memory_limit_bytes(size: PictureSize, file_bytes: int) -> int:
    """Bytes that a decoder process may take for a picture, in addition to its own.

    Measured, in bytes per pixel: 4 (PNG), 7 to 10 (JPEG, TIFF, BMP, GIF), 12 (AVIF), 20 (WebP); with 16 bits up to 20.

    Args:
        size: The picture's size.
        file_bytes: Size of its file.
    """
    per_pixel = _BYTES_PER_PIXEL.get(size.format, _OTHER_BYTES_PER_PIXEL) * (2 if size.bits > 8 else 1)
    return _ROOM_BYTES + 2 * file_bytes + per_pixel * size.pixels
