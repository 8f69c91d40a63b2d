"""ICC profiles of RGB colour spaces that are given by primaries, white point and tone curve (ICC.1:2022, version 4.4)."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Point: TypeAlias = tuple[float, float]
"""Chromaticity x, y (CIE 1931)."""

D65: Final[Point] = (0.3127, 0.3290)
SRGB_PRIMARIES: Final[tuple[Point, Point, Point]] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3_PRIMARIES: Final[tuple[Point, Point, Point]] = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BT2020_PRIMARIES: Final[tuple[Point, Point, Point]] = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
ADOBE_RGB_PRIMARIES: Final[tuple[Point, Point, Point]] = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))

_D50: Final = np.array([0.9642, 1.0, 0.8249])
_BRADFORD: Final = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_VERSION: Final = 0x04400000
_HEADER_BYTES: Final = 128


def gamma_curve(exponent: float) -> bytes:
    """A tone curve: linear light = value ** exponent, both in [0,1]."""
    return struct.pack(">4s4xHHi", b"para", 0, 0, _fixed(exponent))


def srgb_curve() -> bytes:
    """The tone curve of sRGB and of Display P3 (IEC 61966-2-1)."""
    numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return struct.pack(">4s4xHH5i", b"para", 3, 0, *map(_fixed, numbers))


def make_profile(name: str, primaries: tuple[Point, Point, Point], white: Point, curve: bytes) -> bytes:
    """An RGB display profile.

    Args:
        name: Its description, ASCII.
        primaries: Chromaticities of red, green and blue.
        white: Chromaticity of the white point.
        curve: The tone curve of all three channels, a whole ICC tag of type `para` or `curv`.

    Returns:
        The profile.

    Raises:
        ValueError: the primaries lie on a line.
    """
    white_xyz = _to_xyz(white)
    points = np.stack([_to_xyz(point) for point in primaries], axis=1)
    try:
        colorants = points * np.linalg.solve(points, white_xyz)
    except np.linalg.LinAlgError:
        raise ValueError("the primaries lie on a line") from None
    adaptation = _adapt_to_d50(white_xyz)
    colorants = adaptation @ colorants
    tags = {
        b"desc": _text(name),
        b"cprt": _text("No copyright"),
        b"wtpt": _xyz(_D50),
        b"chad": struct.pack(">4s4x9i", b"sf32", *map(_fixed, adaptation.ravel())),
        b"rXYZ": _xyz(colorants[:, 0]),
        b"gXYZ": _xyz(colorants[:, 1]),
        b"bXYZ": _xyz(colorants[:, 2]),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    return _join(tags)


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """The profile of sRGB."""
    return make_profile("sRGB", SRGB_PRIMARIES, D65, srgb_curve())


def find_tag(profile: bytes, name: bytes) -> bytes | None:
    """The data of a tag of a profile; None where it is missing or lies outside the profile.

    Args:
        profile: A whole ICC profile.
        name: The tag's signature, 4 bytes.
    """
    if len(profile) < _HEADER_BYTES + 4:
        return None
    (count,) = struct.unpack_from(">I", profile, _HEADER_BYTES)
    for index in range(min(count, 100)):
        at = _HEADER_BYTES + 4 + 12 * index
        if at + 12 > len(profile):
            return None
        tag, start, size = struct.unpack_from(">4sII", profile, at)
        if tag == name:
            return profile[start : start + size] if start + size <= len(profile) else None
    return None


def color_model(profile: bytes) -> str | None:
    """The colour model of a profile, such as `RGB`, `GRAY` or `CMYK`; None if it is not a whole profile."""
    is_whole = (
        len(profile) > _HEADER_BYTES and int.from_bytes(profile[:4]) == len(profile) and profile[36:40] == b"acsp"
    )
    return profile[16:20].decode("latin-1").strip() if is_whole else None


def _join(tags: dict[bytes, bytes]) -> bytes:
    """A profile of tags; tags with the same data share it."""
    table, body = struct.pack(">I", len(tags)), b""
    places: dict[bytes, int] = {}
    first = _HEADER_BYTES + 4 + 12 * len(tags)
    for name, data in tags.items():
        if data not in places:
            places[data] = first + len(body)
            body += data + b"\0" * (-len(data) % 4)
        table += struct.pack(">4sII", name, places[data], len(data))
    size = first + len(body)
    date = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)  # a fixed date, so that the same tags give the same bytes
    header = struct.pack(">I4xI4s4s4s", size, _VERSION, b"mntr", b"RGB ", b"XYZ ") + date + b"acsp"
    header += b"\0" * 28 + struct.pack(">3i", *map(_fixed, _D50))
    return header.ljust(_HEADER_BYTES, b"\0") + table + body


def _adapt_to_d50(white_xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Bradford matrix from a white point to D50 (ICC.1:2022, annex E)."""
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ white_xyz)
    matrix: NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ (scale[:, None] * _BRADFORD)
    return matrix


def _to_xyz(point: Point) -> NDArray[np.float64]:
    x, y = point
    if y <= 0:
        raise ValueError("a chromaticity has y = 0")
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _xyz(value: NDArray[np.float64]) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *map(_fixed, value))


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(encoded), 28) + encoded


def _fixed(value: float) -> int:
    """The s15Fixed16Number of a value."""
    return round(float(value) * 65536)
