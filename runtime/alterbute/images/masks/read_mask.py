"""Reading a mask from a picture: the coverage of each pixel, checked against the picture that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alterbute.errors import InputError
from alterbute.images.arrays import count_levels
from alterbute.images.files.decode import LevelSource, decode_levels
from alterbute.images.masks.annotations import is_annotation, load_annotation, read_annotation
from alterbute.images.masks.marking import MaskValue, Polarity, mark
from alterbute.images.photo import Bytes, Photo, to_8_bits

MIN_LEVEL: Final = 8
"""Lower levels of a mask are 0: lossy formats and blurred brushes leave such levels far from the object."""
OBJECT_LEVEL: Final = 128
"""Coverage from which a pixel is the object's."""
_ALMOST_ALL: Final = 0.6
_PHOTO_GREYS: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadMask:
    """A mask of the picture's size that marks some of its pixels and not all.

    Args:
        levels: HW uint8 coverage, 255 = fully marked; a lossy picture's levels are 0 and 255 only. May be the caller's array.
        is_hard: Whether all levels are 0 or 255.
        origin: What the marked pixels were, for messages: `white`, `opaque`, `value 7`...
        warnings: Messages for the user.
    """

    levels: Bytes
    is_hard: bool
    origin: str
    warnings: tuple[str, ...]


def read_mask(
    source: LevelSource | None,
    photo: Photo,
    *,
    polarity: Polarity = "auto",
    value: MaskValue | None = None,
    is_soft: bool = False,
) -> ReadMask:
    """Read the mask of a photo's object.

    Args:
        source: A picture of the photo's displayed size, see `PictureSource`; an annotation, see `alterbute.images.masks.annotations`;
            None takes the opaque part of a photo with transparency.
        photo: The photo that the mask belongs to.
        polarity: Which of the mask's pixels mean "edit"; see `Polarity`.
        value: The label of the object, for a label image.
        is_soft: Whether levels are blend weights, which are kept even where a lossy format has changed them.

    Raises:
        InputError: no mask, not a picture, of another size, ambiguous, empty, or full.
    """
    if source is None:
        coverage, origin, is_lossy = _read_own_alpha(photo), "the photo's own opaque part", False
    elif is_annotation(source):
        coverage, origin, is_lossy = _read_annotation(source, photo), "the annotation", False
    else:
        mask = decode_levels(source, "mask")
        check_shape("mask", mask.luminance, photo)
        marked = mark(mask, "mask", polarity, value, photo)
        coverage, origin, is_lossy = marked.levels, marked.origin, mask.is_lossy
    counts = count_levels(coverage)
    present = np.flatnonzero(counts)
    if present[-1] < OBJECT_LEVEL:
        raise empty_error("mask", int(present[-1]))
    if present[0] >= OBJECT_LEVEL:
        raise InputError(
            "the mask is full: it marks every pixel to edit",
            "some pixels to keep",
            "mark only the object; if it marks the background, invert it with --mask-polarity",
            "mask",
            "mask_full",
        )
    is_hard = bool(np.isin(present, (0, 255)).all())
    if is_hard:
        clean = coverage
    elif is_lossy and not is_soft:
        clean, is_hard = as_mask(coverage >= OBJECT_LEVEL), True
    else:
        clean = _drop_low_levels(coverage, int(present[0]), int(present[-1]), is_soft=is_soft)
    warnings = _find_warnings(coverage, counts, is_soft=is_soft)
    return ReadMask(levels=clean, is_hard=is_hard, origin=origin, warnings=warnings)


def read_binary(
    source: LevelSource, param: str, photo: Photo, polarity: Polarity = "auto", value: MaskValue | None = None
) -> Bytes:
    """Read a mask that has no soft edges, such as of what is protected, or of a reference's object.

    Args:
        source: A picture of the photo's displayed size.
        param: Role of the mask, for messages.
        photo: The picture that the mask belongs to.
        polarity: Which of the mask's pixels are marked; see `Polarity`.
        value: The label that is marked, for a label image.

    Returns:
        HW uint8, 255 = marked, 0 elsewhere; may be empty.

    Raises:
        InputError: not a picture, of another size, or ambiguous.
    """
    mask = decode_levels(source, param)
    check_shape(param, mask.luminance, photo)
    return as_mask(mark(mask, param, polarity, value, photo).levels >= OBJECT_LEVEL)


def check_shape(param: str, mask: Bytes, photo: Photo) -> None:
    """Refuse a mask of another size than its picture's.

    Args:
        param: Role of the mask, for the message.
        mask: HW uint8.
        photo: The picture.

    Raises:
        InputError: the sizes differ.
    """
    if mask.shape == (photo.height, photo.width):
        return
    whose = "the reference's" if param == "reference_mask" else "the photo's"
    is_sideways = photo.orientation >= 5 and mask.shape == (photo.width, photo.height)
    hint = (
        f"; the photo is stored sideways (EXIF orientation {photo.orientation}) and shown upright, and the mask was made of the stored pixels"
        if is_sideways
        else ""
    )
    raise InputError(
        f"the {param} is {mask.shape[1]}x{mask.shape[0]} pixels",
        f"{whose} {photo.width}x{photo.height}{hint}",
        "turn the mask as PIL.ImageOps.exif_transpose turns the photo" if is_sideways else "draw it on that picture",
        param,
        f"{param}_size",
    )


def empty_error(param: str, highest: int = 0) -> InputError:
    """The error of a mask that marks nothing; `highest` is its highest coverage, 0..255."""
    detail = f" (its highest level is {highest} of 255)" if highest else ""
    return InputError(
        f"the {param} is empty: it marks no object{detail}",
        "an object in white, or on a transparent layer",
        "mark the object, or choose --mask-polarity white, black, opaque or alpha, or a label with --mask-value",
        param,
        f"{param}_empty",
    )


def as_mask(condition: NDArray[np.bool_]) -> Bytes:
    """255 where a condition HW bool holds, 0 elsewhere; reuses the memory of `condition`, which is invalid afterwards."""
    mask: Bytes = condition.view(np.uint8)
    mask *= 255
    return mask


def _read_annotation(source: object, photo: Photo) -> Bytes:
    size = (photo.width, photo.height)
    return load_annotation(source, size) if isinstance(source, str | Path) else read_annotation(source, size)


def _read_own_alpha(photo: Photo) -> Bytes:
    if photo.alpha is None or photo.alpha.min() == np.iinfo(photo.alpha.dtype).max:
        raise InputError(
            "there is no mask",
            "a picture of the photo's size with the object in white",
            "give one with --mask, --box or --polygon, or as the `mask` argument",
            "mask",
            "mask_missing",
        )
    return to_8_bits(photo.alpha)


def _drop_low_levels(coverage: Bytes, low: int, high: int, *, is_soft: bool) -> Bytes:
    """Coverage stretched to 0..255, but for blend weights, and with levels under `MIN_LEVEL` set to 0.

    Levels on each side of `OBJECT_LEVEL` are stretched by themselves, so that the same pixels are the object's.

    Args:
        coverage: HW uint8.
        low: Its lowest level.
        high: Its highest level.
        is_soft: Whether it is blend weights.
    """
    low, high = (0, 255) if is_soft else (low, high)
    levels, darkest = np.arange(256), OBJECT_LEVEL - 1
    below = ((levels - low) * 2 * darkest + (darkest - low)) // (2 * max(darkest - low, 1))
    above = OBJECT_LEVEL + ((levels - OBJECT_LEVEL) * 254 + (high - OBJECT_LEVEL)) // (2 * max(high - OBJECT_LEVEL, 1))
    above[levels >= high] = 255
    table = np.where(levels < OBJECT_LEVEL, below, above).clip(0, 255).astype(np.uint8)
    table[table < MIN_LEVEL] = 0
    clean: Bytes = table[coverage]
    return clean


def _find_warnings(coverage: Bytes, counts: NDArray[np.int64], *, is_soft: bool) -> tuple[str, ...]:
    """Messages about a mask that looks inverted, or like a photo.

    Args:
        coverage: HW uint8.
        counts: How many of its pixels have each level.
        is_soft: Whether it is blend weights.
    """
    object_share = float(counts[OBJECT_LEVEL:].sum()) / coverage.size
    corners = sum(int(coverage[y, x]) >= OBJECT_LEVEL for y in (0, -1) for x in (0, -1))
    warnings = []
    if corners == 4 or object_share > _ALMOST_ALL:
        where = "all four corners" if corners == 4 else "most of the photo"
        warnings.append(
            f"the mask covers {object_share:.0%} of the photo and {where}: it looks inverted; if it is, choose another --mask-polarity"
        )
    greys = float(counts[32:224].sum()) / coverage.size
    if greys > _PHOTO_GREYS and not is_soft:
        warnings.append(
            f"{greys:.0%} of the mask is grey, neither marked nor unmarked: it looks like a photo; look at it with `alterbute mask`"
        )
    return tuple(warnings)
