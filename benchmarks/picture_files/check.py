"""Whether a file is read rightly or refused by its name."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from alterbute.errors import InputError
from alterbute.images import Photo, load_mask, load_photo
from PIL import Image, ImageCms

from benchmarks.picture_files.expectations import Expected, Levels, Outcome
from benchmarks.picture_files.source import HEIGHT, WIDTH

_MAX_MESSAGE = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a file.

    Args:
        outcome: See `Outcome`.
        difference: Largest difference of pixels or alpha from the expected ones, in levels of 8 bits; None = not read.
        colour_difference: The same in sRGB.
        message: The refusal, or what is wrong.
    """

    outcome: Outcome
    difference: float | None = None
    colour_difference: float | None = None
    message: str = ""

    @property
    def is_good(self) -> bool:
        """Whether a user got the picture, or was told why not."""
        return self.outcome in ("right", "refused by name")


def judge(path: Path, expected: Expected) -> Verdict:
    """Read a file as a user would, and compare."""
    try:
        if expected.mask is not None:
            return _judge_mask(path, expected)
        photo = load_photo(path)
    except InputError as error:
        return _judge_refusal(str(error), expected)
    except Exception as fault:
        return Verdict(outcome="crash", message=f"{type(fault).__name__}: {fault}")
    if not expected.may_be_read:
        return Verdict(
            outcome="silently other", message=f"read as {photo.width}x{photo.height} of {photo.pixels.dtype}"
        )
    return _compare(photo, expected)


def _judge_refusal(message: str, expected: Expected) -> Verdict:
    if not expected.word:
        return Verdict(outcome="not read", message=message)
    is_named = (
        re.search(expected.word, message, re.IGNORECASE) is not None
        and "\n" not in message
        and len(message) <= _MAX_MESSAGE
    )
    return Verdict(outcome="refused by name" if is_named else "badly refused", message=message)


def _judge_mask(path: Path, expected: Expected) -> Verdict:
    photo = Photo(pixels=np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    mask = load_mask(path, photo) > 0
    assert expected.mask is not None
    wrong = int((mask != (expected.mask > 0)).sum())
    return Verdict(
        outcome="silently other" if wrong else "right",
        difference=float(wrong),
        message=f"{wrong} pixels" if wrong else "",
    )


def _compare(photo: Photo, expected: Expected) -> Verdict:
    target = expected.pixels if expected.pixels is not None else expected.srgb
    assert target is not None
    if photo.pixels.shape != target.shape:
        return Verdict(outcome="silently other", message=f"of {photo.width}x{photo.height} pixels")
    difference = 0.0
    if expected.pixels is not None:
        seen = np.ones(target.shape[:2], bool)
        if expected.tolerance and expected.alpha is not None:
            seen = expected.alpha > 0
        difference = largest_difference(photo.pixels[seen], expected.pixels[seen])
        alpha = (
            photo.alpha
            if photo.alpha is not None
            else np.full(target.shape[:2], np.iinfo(photo.pixels.dtype).max, photo.pixels.dtype)
        )
        wanted = (
            expected.alpha
            if expected.alpha is not None
            else np.full(target.shape[:2], np.iinfo(target.dtype).max, target.dtype)
        )
        difference = max(difference, largest_difference(alpha, wanted))
    try:
        colours = _to_srgb(photo)
    except (OSError, ImageCms.PyCMSError) as fault:
        return Verdict(outcome="silently other", message=f"a profile that cannot be applied: {fault}")
    sought = expected.srgb if expected.srgb is not None else _to_8(target)
    seen = expected.alpha > 0 if expected.alpha is not None and expected.tolerance else np.ones(sought.shape[:2], bool)
    colour_difference = largest_difference(colours[seen], sought[seen])
    outcome: Outcome = "right"
    message = ""
    if difference > expected.tolerance + 1e-9:
        outcome, message = "silently other", "other pixels or alpha"
    if expected.pixels is not None and photo.pixels.dtype.itemsize < expected.pixels.dtype.itemsize:
        is_close = difference <= expected.tolerance + 1
        outcome, message = ("shallower" if is_close else "silently other"), "8 bits of a file of more"
    elif colour_difference > expected.tolerance + expected.colour_tolerance:
        outcome, message = "silently other", f"{message}; other colours".strip("; ")
    return Verdict(
        outcome=outcome, difference=round(difference, 2), colour_difference=round(colour_difference, 2), message=message
    )


def largest_difference(one: Levels, other: Levels) -> float:
    """Largest difference in levels of 8 bits."""
    if one.size == 0:
        return 0.0
    scaled = [array.astype(np.float64) * (255 / np.iinfo(array.dtype).max) for array in (one, other)]
    return float(np.abs(scaled[0] - scaled[1]).max())


def _to_8(levels: Levels) -> Levels:
    return levels if levels.dtype == np.uint8 else np.rint(levels / 257).astype(np.uint8)


def _to_srgb(photo: Photo) -> Levels:
    """The photo's colours in sRGB as its own profile gives them, by Pillow's colour management."""
    image = Image.fromarray(np.ascontiguousarray(_to_8(photo.pixels)))
    if photo.icc is None:
        return np.asarray(image)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(photo.icc))
    flags = ImageCms.Flags.NOCACHE | ImageCms.Flags.HIGHRESPRECALC
    converted = ImageCms.profileToProfile(
        image, profile, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, flags=flags
    )
    return np.asarray(converted)
