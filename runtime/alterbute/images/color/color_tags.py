"""The colour tags of picture files, read to one RGB profile: ICC, PNG chunks, CICP, and EXIF's mark of Adobe RGB."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from alterbute.errors import InputError
from alterbute.images.color.cicp import Cicp, profile_of_cicp
from alterbute.images.color.icc_profile import (
    ADOBE_RGB_PRIMARIES,
    D65,
    SRGB_PRIMARIES,
    Point,
    color_model,
    gamma_curve,
    make_profile,
)
from alterbute.images.color.matrix_profile import read_grey_curve
from alterbute.images.metadata.exif_tables import bound_exif

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_ICC_BYTES: Final = 1 << 20
_EXIF_IFD: Final = 0x8769
_INTEROP_IFD: Final = 0xA005
_COLOR_SPACE: Final = 0xA001
_INTEROP_INDEX: Final = 1
_UNCALIBRATED: Final = 65535
_ADOBE_RGB_SPACE: Final = 2  # not in the standard, but written by some cameras
_ADOBE_GAMMA: Final = 563 / 256
# PNG files state sRGB's gamma and chromaticities with a few digits.
_CLOSE: Final = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorTags:
    """How the levels of a picture are to be understood.

    Args:
        icc: An RGB profile; None is sRGB.
        chunks: Name and data of the PNG chunks that state it, of a PNG without an ICC profile.
        warnings: Messages for the user about tags that are not used.
    """

    icc: bytes | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    warnings: tuple[str, ...] = ()


def read_color_tags(
    image: Image, param: str, *, chunks: Sequence[tuple[bytes, bytes]] = (), cicp: Cicp | None = None
) -> ColorTags:
    """Read the colour tags of an opened picture.

    A grey profile gives an RGB profile with its tone curve, because an edited grey picture is RGB. A profile that is damaged, or of
    another colour model than the picture, is left out, as viewers do, with a warning.

    Args:
        image: A picture that Pillow opened; its `info` holds the ICC profile, and its EXIF may mark Adobe RGB.
        param: Role of the picture, for messages.
        chunks: Name and data of the chunks of a PNG before its pixels.
        cicp: Code points of a HEIC or AVIF file without an ICC profile.

    Raises:
        InputError: the picture is HDR (PQ or HLG), or has code points that are not known here.
    """
    stated = dict(reversed(chunks))  # the first of two chunks counts
    if b"cICP" in stated:
        cicp = _parse_cicp(stated[b"cICP"], param)
    if cicp is not None:
        # In a PNG, cICP overrides an ICC profile (PNG 3, section 4.3).
        icc = profile_of_cicp(cicp, param)
        return ColorTags(icc=icc, chunks=_named(chunks, b"cICP"))
    icc, warnings = _usable_profile(image)
    if icc is not None:
        return ColorTags(icc=icc)
    if b"sRGB" in stated:
        return ColorTags(chunks=_named(chunks, b"sRGB", b"gAMA", b"cHRM"), warnings=warnings)
    if b"gAMA" in stated or b"cHRM" in stated:
        made = _profile_of_gamma(stated.get(b"gAMA"), stated.get(b"cHRM"))
        return ColorTags(icc=made, chunks=_named(chunks, b"gAMA", b"cHRM"), warnings=warnings)
    space, index = _read_exif_space(image)
    if space == _ADOBE_RGB_SPACE or index == "R03":
        return ColorTags(icc=_adobe_rgb(), warnings=warnings)
    if space == _UNCALIBRATED and not warnings:
        warnings = ("its EXIF states a colour space other than sRGB and not which one; it is read as sRGB",)
    return ColorTags(warnings=warnings)


def _named(chunks: Sequence[tuple[bytes, bytes]], *names: bytes) -> tuple[tuple[bytes, bytes], ...]:
    first: dict[bytes, bytes] = {}
    for name, data in chunks:
        if name in names:
            first.setdefault(name, data)
    return tuple(first.items())


def _parse_cicp(data: bytes, param: str) -> Cicp:
    primaries, transfer, matrix, full_range = data
    if matrix or not full_range:
        raise InputError(
            f"the {param} is a PNG whose cICP states {'YCbCr colour' if matrix else 'levels of narrow range'}",
            "RGB of full range",
            "save it again as sRGB",
            param,
            f"{param}_color_space",
        )
    return Cicp(primaries=primaries, transfer=transfer, matrix=matrix, is_full_range=bool(full_range))


def _usable_profile(image: Image) -> tuple[bytes | None, tuple[str, ...]]:
    """The RGB profile of a picture, or one that is made of its grey profile; and why a profile is left out."""
    icc = image.info.get("icc_profile")
    if not icc:
        return None, ()
    if not isinstance(icc, bytes) or len(icc) > _MAX_ICC_BYTES:
        return None, (f"its colour profile is over {_MAX_ICC_BYTES >> 20} MiB and left out; it is read as sRGB",)
    model, is_grey = color_model(icc), image.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")
    if model == "RGB":
        return icc, ()
    curve = read_grey_curve(icc)
    if model == "GRAY" and is_grey and curve is not None:
        # The primaries do not matter while the picture is grey; those of sRGB give the edit the model's colours.
        return make_profile("Grey with sRGB primaries", SRGB_PRIMARIES, D65, curve), ()
    seen = "damaged" if model is None else f"for {model} colour"
    return None, (f"its colour profile is {seen} and left out; it is read as sRGB",)


def _profile_of_gamma(gamma: bytes | None, chromaticities: bytes | None) -> bytes | None:
    """The profile of PNG's gAMA and cHRM chunks; None where they state sRGB, or what no profile can express."""
    exponent = 0.45455 if gamma is None else int.from_bytes(gamma) / 100_000
    points: tuple[Point, ...] = (D65, *SRGB_PRIMARIES)
    if chromaticities is not None:
        numbers = [value / 100_000 for value in struct.unpack(">8I", chromaticities)]
        points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    srgb = (D65, *SRGB_PRIMARIES)
    has_srgb_primaries = all(
        abs(a - b) <= _CLOSE for one, other in zip(points, srgb, strict=True) for a, b in zip(one, other, strict=True)
    )
    # 1/2.2 is how PNG writes sRGB's curve (PNG 3, section 11.3.2.5).
    is_srgb_curve = abs(exponent - 0.45455) <= _CLOSE
    if has_srgb_primaries and is_srgb_curve:
        return None
    if not 0.1 <= exponent <= 2:
        return None
    try:
        white, red, green, blue = points
        return make_profile("PNG gAMA and cHRM", (red, green, blue), white, gamma_curve(1 / exponent))
    except ValueError:
        return None


def _read_exif_space(image: Image) -> tuple[object, str]:
    """EXIF's colour space, and its interoperability index, which cameras set to R03 for Adobe RGB (DCF 2.0)."""
    bound_exif(image.info)
    try:
        exif = image.getexif()
        space = exif.get_ifd(_EXIF_IFD).get(_COLOR_SPACE)
    except Exception:  # broken EXIF is ignored, as viewers do
        return None, ""
    try:
        return space, str(exif.get_ifd(_INTEROP_IFD).get(_INTEROP_INDEX, "")).strip("\0 ")
    except Exception:  # before Pillow 13 also where that table is absent
        return space, ""


def _adobe_rgb() -> bytes:
    return make_profile("Compatible with Adobe RGB (1998)", ADOBE_RGB_PRIMARIES, D65, gamma_curve(_ADOBE_GAMMA))
