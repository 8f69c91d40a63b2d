"""The colour tags of picture files, read to one RGB profile: ICC, PNG chunks, CICP, and EXIF's mark of Adobe RGB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Cicp:
    """Coding-independent code points (ITU-T H.273), as in PNG's cICP chunk, and AVIF's and HEIC's `nclx` box.

    Args:
        primaries: Colour primaries: 1 BT.709, 9 BT.2020, 12 Display P3; 2 is unspecified.
        transfer: Transfer characteristics: 1 BT.709, 13 sRGB, 16 PQ, 18 HLG; 2 is unspecified.
        matrix: Matrix coefficients.
        is_full_range: Whether levels use the whole range.
    """

    primaries: int
    transfer: int
    matrix: int = 0
    is_full_range: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorTags:
    """How the levels of a picture are to be understood.

    Args:
        icc: An RGB profile; None is sRGB.
        chunks: Name and data of the PNG chunks that state it, of a picture from a PNG without an ICC profile.
    """

    icc: bytes | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()


def read_color_tags(
    image: Image, param: str, *, chunks: Sequence[tuple[bytes, bytes]] = (), cicp: Cicp | None = None
) -> ColorTags:
    """Read the colour tags of an opened picture.

    Args:
        image: A picture that Pillow opened; its `info` holds the ICC profile, and its EXIF may mark Adobe RGB.
        param: Role of the picture, for messages.
        chunks: Name and data of the chunks of a PNG before its pixels.
        cicp: Code points of a HEIC or AVIF file without an ICC profile.

    Raises:
        InputError: the picture is HDR (PQ or HLG), or of a colour model other than RGB and grey.
    """
    raise NotImplementedError
