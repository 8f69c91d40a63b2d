"""Conversion of 16-bit levels between sRGB and RGB spaces of a matrix and tone curves, which littlecms does only for 8 bits in Pillow."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alterbute.images.color.icc_profile import find_tag, srgb_profile

_LEVELS: Final = 65536
_STRIP_PIXELS: Final = 1 << 20
_GREY_SAMPLES: Final = 4096
# Number of parameters of each parametric curve type (ICC.1:2022, table 68).
_PARAMETERS: Final = (1, 3, 4, 5, 7)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatrixProfile:
    """An RGB space.

    Args:
        to_xyz: [3,3], linear RGB to XYZ under D50.
        curves: Three arrays [65536], rising: linear light in [0,1] of each level.
    """

    to_xyz: NDArray[np.float64]
    curves: tuple[NDArray[np.float32], ...]


@lru_cache(maxsize=8)
def read_matrix_profile(icc: bytes) -> MatrixProfile | None:
    """Read a profile of a matrix and tone curves; None for a profile of tables, or with curves that are not understood."""
    if find_tag(icc, b"A2B0") is not None:
        return None
    colorants = [_read_xyz(find_tag(icc, name)) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    curves = [_read_curve(find_tag(icc, name)) for name in (b"rTRC", b"gTRC", b"bTRC")]
    columns = [column for column in colorants if column is not None]
    rising = [curve for curve in curves if curve is not None]
    if len(columns) < 3 or len(rising) < 3 or abs(np.linalg.det(np.stack(columns))) < 1e-6:
        return None
    return MatrixProfile(to_xyz=np.stack(columns, axis=1), curves=tuple(rising))


def convert_16_bits(levels: NDArray[np.uint16], source: MatrixProfile, target: MatrixProfile) -> NDArray[np.uint16]:
    """Convert levels from one RGB space to another, relative colorimetric; colours outside the target's gamut are clipped.

    Args:
        levels: [h,w,3] uint16 in [0,65535].
        source: The space of `levels`.
        target: The space of the result.

    Returns:
        [h,w,3] uint16.
    """
    matrix = (np.linalg.inv(target.to_xyz) @ source.to_xyz).astype(np.float32)
    converted = np.empty_like(levels)
    rows = max(_STRIP_PIXELS // max(levels.shape[1], 1), 1)
    steps = np.arange(_LEVELS, dtype=np.float32)
    for first in range(0, len(levels), rows):
        strip = levels[first : first + rows]
        light = [source.curves[channel][strip[:, :, channel]] for channel in range(3)]
        for channel in range(3):
            mixed = sum(matrix[channel, other] * light[other] for other in range(3))
            found = np.interp(mixed, target.curves[channel], steps)
            converted[first : first + rows, :, channel] = np.round(found).astype(np.uint16)
    return converted


def read_grey_curve(icc: bytes) -> bytes | None:
    """The tone curve of a grey profile, as a whole ICC tag for RGB profiles; None where it is missing or not understood.

    A grey profile may state lightness L* in place of linear light (ICC.1:2022, section 9.6.2 and annex F.2): its curve is then
    computed anew.
    """
    curve = find_tag(icc, b"kTRC")
    if curve is None or icc[20:24] != b"Lab ":
        return curve
    lightness = _read_curve(curve)
    if lightness is None:
        return None
    samples = 100 * lightness[np.linspace(0, _LEVELS - 1, _GREY_SAMPLES).astype(np.int64)].astype(np.float64)
    light = np.where(samples > 8, ((samples + 16) / 116) ** 3, samples * 27 / 24389)
    table = np.round(65535 * light).astype(">u2").tobytes()
    return struct.pack(">4s4xI", b"curv", _GREY_SAMPLES) + table


@lru_cache(maxsize=1)
def srgb_matrix() -> MatrixProfile:
    """The space sRGB."""
    profile = read_matrix_profile(srgb_profile())
    if profile is None:
        raise AssertionError("sRGB is a matrix and tone curves")
    return profile


def _read_xyz(data: bytes | None) -> NDArray[np.float64] | None:
    if data is None or data[:4] != b"XYZ " or len(data) < 20:
        return None
    return np.array(struct.unpack_from(">3i", data, 8)) / 65536


def _read_curve(data: bytes | None) -> NDArray[np.float32] | None:
    """Linear light of each 16-bit level; None for a curve that is damaged, or falls."""
    if data is None or len(data) < 12:
        return None
    x = np.linspace(0, 1, _LEVELS)
    y = None
    if data[:4] == b"curv":
        (count,) = struct.unpack_from(">I", data, 8)
        if count == 0:
            y = x
        elif len(data) >= 12 + 2 * count:
            table = np.frombuffer(data, ">u2", count, 12)
            y = x ** (table[0] / 256) if count == 1 else np.interp(x, np.linspace(0, 1, count), table / 65535)
    elif data[:4] == b"para":
        y = _parametric(data, x)
    if y is None or not np.isfinite(y).all():
        return None
    curve: NDArray[np.float32] = y.clip(0, 1).astype(np.float32)
    is_rising = bool((np.diff(curve) >= 0).all()) and curve[-1] > curve[0]
    return curve if is_rising else None


def _parametric(data: bytes, x: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """A parametric curve (ICC.1:2022, section 10.18)."""
    (kind,) = struct.unpack_from(">H", data, 8)
    if kind >= len(_PARAMETERS) or len(data) < 12 + 4 * _PARAMETERS[kind]:
        return None
    numbers = [value / 65536 for value in struct.unpack_from(f">{_PARAMETERS[kind]}i", data, 12)]
    g, a, b, c, d, e, f = numbers + [0.0] * (7 - len(numbers))
    if kind in (1, 2) and a == 0:
        return None
    curve: NDArray[np.float64]
    with np.errstate(all="ignore"):
        if kind == 0:
            curve = x**g
        elif kind in (1, 2):  # the parameter after b is the constant of type 2
            curve = np.where(x >= -b / a, np.maximum(a * x + b, 0) ** g + c, c)
        else:
            curve = np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f)
    return curve
