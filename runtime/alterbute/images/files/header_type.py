"""What a picture file's header holds, and the reasons for which a file is refused by its header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alterbute.images.color import Cicp


class TooComplexError(OSError):
    """A file of more parts than a picture of its size needs: each of them costs its reader time. Its text goes on after "the photo"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a picture is not taken, in the words of an `InputError`.

    Args:
        seen: What the file is, after "the photo" (`is a camera RAW file (DNG)`).
        expected: What was expected.
        fix: What the user can do.
        code: End of the error's code.
    """

    seen: str
    expected: str
    fix: str
    code: Literal["not_an_image", "bit_depth", "colour_model", "layout", "too_complex"]

    @classmethod
    def colour(cls, model: str) -> Refusal:
        """The refusal of a colour model."""
        fix = "export it as RGB"
        if model == "CMYK":
            fix = "convert it with its profile to RGB (PIL.ImageCms.profileToProfile), or export it as RGB"
        return cls(seen=f"is in {model} colour", expected="RGB or grey", fix=fix, code="colour_model")

    @classmethod
    def depth(cls, what: str) -> Refusal:
        """The refusal of a depth or type of the levels."""
        fix = "save it as a PNG or TIFF of 8 or 16 bits per channel"
        return cls(seen=f"has {what}", expected="8 or 16 bits per channel", fix=fix, code="bit_depth")

    @classmethod
    def layout(cls, seen: str, expected: str, fix: str) -> Refusal:
        """The refusal of a rare variant of a format.

        Args:
            seen: What the file is.
            expected: What was expected.
            fix: What the user can do.
        """
        return cls(seen=seen, expected=expected, fix=fix, code="layout")

    @classmethod
    def complex(cls, seen: str) -> Refusal:
        """The refusal of a file of too many parts."""
        expected = "a file as cameras and programs write them"
        return cls(seen=seen, expected=expected, fix="save it again with another program", code="too_complex")

    @classmethod
    def premultiplied(cls) -> Refusal:
        """The refusal of colours that cannot be restored where the picture is transparent."""
        seen = "has colours that are multiplied by its transparency (associated alpha)"
        return cls.layout(seen, "colours as they are, beside the transparency", "save it as a PNG")

    @classmethod
    def raw(cls, camera: str) -> Refusal:
        """The refusal of a camera's RAW file, whose only ready picture is its thumbnail."""
        return cls(
            seen=f"is a camera RAW file ({camera})",
            expected="a developed picture",
            fix="open it in a RAW converter and export a 16-bit TIFF, a PNG or a JPEG",
            code="not_an_image",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the header of a picture file states: as stored, before any rotation.

    Args:
        format: Pillow's name of the format; HEIC for HEIF files of HEVC pictures.
        width: Columns of pixels.
        height: Rows of pixels.
        bits: Highest number of bits of a channel's levels.
        channels: Stored channels; 1 for a palette.
        num_frames: Pictures in the file, as far as its header states it.
        is_lossy: Whether the levels hold the errors of a lossy format.
        quarter_turns: Anticlockwise quarter turns by which HEIC and AVIF pictures are shown.
        is_inverted: Whether 0 is white in a 16-bit TIFF.
        has_premultiplied_alpha: Whether the colours are multiplied by the alpha.
        cicp: Code points of the colour of a HEIC or AVIF picture.
        refusal: Why the file is not taken; None for a file that is.
    """

    format: Literal["PNG", "JPEG", "WEBP", "AVIF", "HEIC", "TIFF", "BMP", "GIF"]
    width: int
    height: int
    bits: int
    channels: int
    num_frames: int = 1
    is_lossy: bool = False
    quarter_turns: int = 0
    is_inverted: bool = False
    has_premultiplied_alpha: bool = False
    cicp: Cicp | None = None
    refusal: Refusal | None = None
