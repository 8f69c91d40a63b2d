"""The picture that all files show, and the arithmetic of colour spaces, which shares no code with the package's own."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.picture_files.expectations import Expected, Levels

# Odd sides: chroma of half the resolution, bits of packed rows and tiles all have a remainder.
WIDTH: Final = 51
HEIGHT: Final = 37

_D65: Final = (0.3127, 0.3290)
_PRIMARIES: Final = {
    "bt709": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "adobe": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
}
ADOBE_GAMMA: Final = 563 / 256


def draw() -> NDArray[np.float64]:
    """The picture, HW3 in [0,1], sRGB: smooth colours, an object with a shaded rim, stripes; unlike its mirror images."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / np.array([HEIGHT - 1, WIDTH - 1])[:, None, None]
    picture = np.stack([0.15 + 0.6 * x, 0.2 + 0.5 * y, 0.7 - 0.45 * x * y], axis=2)
    distance = np.hypot((x - 0.42) * WIDTH, (y - 0.55) * HEIGHT) / (0.28 * HEIGHT)
    disc = np.clip((1.05 - distance) * 6, 0, 1)[:, :, None]
    picture = picture * (1 - disc) + disc * (
        np.array([0.86, 0.22, 0.14]) * (1.05 - 0.35 * distance[:, :, None]).clip(0.2, 1)
    )
    picture += 0.02 * np.sin(9 * x + 17 * y)[:, :, None] + (y < 0.12)[:, :, None] * 0.05 * np.sin(40 * x)[:, :, None]
    clipped: NDArray[np.float64] = np.clip(picture, 0.02, 0.98)
    return clipped


def quantize(levels: NDArray[np.float64], bits: int = 8) -> Levels:
    """Levels in [0,1] as uint8 or uint16."""
    rounded: Levels = np.rint(levels * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    return rounded


def to_unit(levels: Levels) -> NDArray[np.float64]:
    """uint8 or uint16 levels in [0,1]."""
    unit: NDArray[np.float64] = levels / float(np.iinfo(levels.dtype).max)
    return unit


RGB8: Final = quantize(draw())
# Low bytes that the high ones do not imply, yet few pairs of them, so that the files are small.
RGB16: Final[Levels] = RGB8.astype(np.uint16) * 256 + (RGB8 ^ 90)
GREY8: Final = quantize(draw() @ np.array([0.299, 0.587, 0.114]))
GREY16: Final[Levels] = GREY8.astype(np.uint16) * 256 + (GREY8 ^ 90)
MASK: Final[Levels] = np.hypot(*np.mgrid[-20:17, -21:30]) < 10
_RAMP: Final = np.linspace(0, 1.3, WIDTH)[None, :].clip(0, 1) * np.linspace(1, 0.6, HEIGHT)[:, None]
# A quarter is transparent over colours that are not black, most is partly transparent, a part is opaque.
ALPHA8: Final = quantize(np.where(np.mgrid[:HEIGHT, :WIDTH][0] < 6, 0.0, np.where(_RAMP > 0.85, 1.0, _RAMP)))
ALPHA16: Final = ALPHA8.astype(np.uint16) * 257
RGBA8: Final = np.dstack((RGB8, ALPHA8))
RGBA16: Final = np.dstack((RGB16, ALPHA16))


def grey_rgb(levels: Levels) -> Levels:
    """HW as HW3."""
    return np.repeat(levels[:, :, None], 3, axis=2)


def encode_srgb(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light as sRGB levels."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


def decode_srgb(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light of sRGB levels."""
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def _matrix(primaries: str) -> NDArray[np.float64]:
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in _PRIMARIES[primaries]]).T
    white = np.array([_D65[0] / _D65[1], 1, (1 - sum(_D65)) / _D65[1]])
    matrix: NDArray[np.float64] = columns * np.linalg.solve(columns, white)
    return matrix


def from_srgb(primaries: str, gamma: float | None = None, *, bits: int = 8) -> Levels:
    """The picture in another RGB space.

    Args:
        primaries: A name of `_PRIMARIES`; the white point is D65.
        gamma: Exponent of the tone curve; None is the curve of sRGB.
        bits: 8 or 16.
    """
    linear = decode_srgb(draw()) @ (np.linalg.solve(_matrix(primaries), _matrix("bt709"))).T
    levels = encode_srgb(linear) if gamma is None else np.maximum(linear, 0) ** (1 / gamma)
    return quantize(np.clip(levels, 0, 1), bits)


def to_srgb(levels: Levels, primaries: str, gamma: float | None = None) -> Levels:
    """Levels of another RGB space in sRGB, uint8; the inverse of `from_srgb`.

    Args:
        levels: HW3, uint8 or uint16.
        primaries: A name of `_PRIMARIES`.
        gamma: Exponent of the tone curve; None is the curve of sRGB.
    """
    unit = to_unit(levels)
    linear = decode_srgb(unit) if gamma is None else unit**gamma
    return quantize(np.clip(encode_srgb(linear @ np.linalg.solve(_matrix("bt709"), _matrix(primaries)).T), 0, 1))


def turn(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An array as stored, turned as EXIF's orientation says (EXIF 2.32, table of tag 0x0112)."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(array[::rows, ::columns])


EXACT8: Final = Expected(pixels=RGB8)
EXACT16: Final = Expected(pixels=RGB16)
EXACT_ALPHA8: Final = Expected(pixels=RGB8, alpha=ALPHA8)
EXACT_ALPHA16: Final = Expected(pixels=RGB16, alpha=ALPHA16)
EXACT_GREY8: Final = Expected(pixels=grey_rgb(GREY8))
EXACT_GREY16: Final = Expected(pixels=grey_rgb(GREY16))
ANIMATED: Final = Expected(word=r"animat|frames|sequence")
CUT: Final = Expected(word=r"truncated|damaged|incomplete|cut")
