"""The errors of picture files."""

from __future__ import annotations

from pathlib import Path

from alterbute.errors import InputError
from alterbute.images.files.format_names import FORMATS, SAVE_AS, name_format
from alterbute.images.files.header_type import Header, Refusal

_MASK_FIX = "save it as an 8-bit PNG"


def path_error(path: str | Path, param: str, why: str) -> InputError:
    """The error of a path that cannot be read.

    Args:
        path: The path.
        param: Role of the picture.
        why: The reason.
    """
    return InputError(f"the {param} {str(path)!r} {why}", FORMATS, "check the path", param, f"{param}_unreadable")


def format_error(data: bytes, param: str, *, is_mask: bool) -> InputError:
    """The error of a file that is no picture of a supported format, with the name of what it is.

    Args:
        data: The file.
        param: Role of the picture.
        is_mask: Whether it is a mask.
    """
    named = name_format(data)
    if not data:
        seen, fix = "is empty", "copy or save the file again"
    elif named is None:
        seen, fix = f"starts with {data[:8]!r}, which is no supported picture format", SAVE_AS
    else:
        seen, fix = f"is {named[0]}", named[1]
    if is_mask and fix == SAVE_AS:
        fix = _MASK_FIX
    return InputError(f"the {param} {seen}", FORMATS, fix, param, f"{param}_not_an_image")


def header_error(refusal: Refusal, param: str, *, is_mask: bool) -> InputError:
    """The error of a picture that is refused by its header.

    Args:
        refusal: The reason.
        param: Role of the picture.
        is_mask: Whether it is a mask.
    """
    fix = _MASK_FIX if is_mask else refusal.fix
    return InputError(f"the {param} {refusal.seen}", refusal.expected, fix, param, f"{param}_{refusal.code}")


def frames_error(header: Header, num_frames: int, param: str) -> InputError:
    """The error of an animation, or of a document of several pages.

    Args:
        header: The file's header.
        num_frames: Number of its frames or pages.
        param: Role of the picture.
    """
    what, part = (
        (f"a TIFF of {num_frames} pages", "page")
        if header.format == "TIFF"
        else ("an image sequence", "picture")
        if header.format in ("AVIF", "HEIC") and num_frames == 2
        else (f"an animation of {num_frames} frames", "frame")
    )
    return InputError(
        f"the {param} is {what}", "one still picture", f"save one {part} of it", param, f"{param}_animated"
    )


def depth_error(bits: int, param: str) -> InputError:
    """The error of a picture with more bits than its decoder gives."""
    # Decoders would round them to 8 without a warning, and the background would no longer equal the photo.
    return header_error(Refusal.depth(f"{bits} bits per channel"), param, is_mask=False)


def damage_error(fault: Exception, param: str) -> InputError:
    """The error of a file that its decoder cannot read to the end."""
    is_cut = "truncated" in str(fault).lower()
    # Pillow's message names an in-memory file by its address, which does not help a user.
    detail = "" if "<" in str(fault) else f" ({fault})"
    seen = f"the {param} is truncated" if is_cut else f"the {param} is damaged{detail}"
    return InputError(seen, "a complete picture file", "copy or save the file again", param, f"{param}_undecodable")
