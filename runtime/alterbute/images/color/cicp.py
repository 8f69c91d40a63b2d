"""Coding-independent code points of colour (ITU-T H.273), as in PNG's cICP chunk and in the `nclx` box of AVIF and HEIC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from alterbute.errors import InputError
from alterbute.images.color.icc_profile import (
    BT2020_PRIMARIES,
    D65,
    P3_PRIMARIES,
    SRGB_PRIMARIES,
    Point,
    gamma_curve,
    make_profile,
    srgb_curve,
)

_UNSPECIFIED: Final = 2
_SRGB: Final = 13
_HDR: Final = {16: "PQ", 18: "HLG"}
# The curve of BT.709 and its relatives is that of a camera; viewers of stills show such pictures with sRGB's.
_CAMERA_CURVES: Final = (1, 6, 14, 15)
_CURVES: Final = {4: gamma_curve(2.2), 5: gamma_curve(2.8), 8: gamma_curve(1.0)}
_PRIMARIES: Final[dict[int, tuple[str, tuple[Point, Point, Point], Point]]] = {
    1: ("BT.709", SRGB_PRIMARIES, D65),
    5: ("BT.601 625 lines", ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), D65),
    6: ("BT.601 525 lines", ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    7: ("SMPTE 240M", ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    9: ("BT.2020", BT2020_PRIMARIES, D65),
    11: ("DCI-P3", P3_PRIMARIES, (0.314, 0.351)),
    12: ("Display P3", P3_PRIMARIES, D65),
    22: ("EBU 3213", ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077)), D65),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cicp:
    """Code points of a picture's colour.

    Args:
        primaries: Colour primaries: 1 BT.709, 9 BT.2020, 12 Display P3; 2 is unspecified.
        transfer: Transfer characteristics: 1 BT.709, 13 sRGB, 16 PQ, 18 HLG; 2 is unspecified.
        matrix: Matrix coefficients, which the decoder has applied.
        is_full_range: Whether levels use the whole range, which the decoder has applied except in a PNG.
    """

    primaries: int
    transfer: int
    matrix: int = 0
    is_full_range: bool = True


def profile_of_cicp(cicp: Cicp, param: str) -> bytes | None:
    """The ICC profile of code points; None for sRGB, and where primaries and transfer are unspecified.

    Args:
        cicp: The code points.
        param: Role of the picture, for messages.

    Raises:
        InputError: the picture is HDR, or the code points are not known here.
    """
    if cicp.transfer in _HDR:
        raise InputError(
            f"the {param} is HDR ({_HDR[cicp.transfer]})",
            "standard dynamic range: sRGB, Display P3, Adobe RGB or another RGB space",
            "export it as SDR",
            param,
            f"{param}_hdr",
        )
    primaries = 1 if cicp.primaries == _UNSPECIFIED else cicp.primaries
    is_srgb_curve = cicp.transfer in (_SRGB, _UNSPECIFIED, *_CAMERA_CURVES)
    if primaries not in _PRIMARIES or not (is_srgb_curve or cicp.transfer in _CURVES):
        raise InputError(
            f"the {param} has the colour code points {cicp.primaries}/{cicp.transfer} (ITU-T H.273)",
            "sRGB, Display P3 or another RGB space",
            "export it as sRGB",
            param,
            f"{param}_color_space",
        )
    if primaries == 1 and is_srgb_curve:
        return None
    name, points, white = _PRIMARIES[primaries]
    return make_profile(name, points, white, srgb_curve() if is_srgb_curve else _CURVES[cicp.transfer])
