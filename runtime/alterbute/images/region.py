"""The region that an edit may change: the object, its box, or blend weights, without what stands in front of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from alterbute.errors import InputError
from alterbute.images.boxes import object_box
from alterbute.images.image_file import LevelSource
from alterbute.images.load import Polarity, as_mask, load_mask, load_protect, load_weights
from alterbute.images.photo import Bytes, Photo

MaskKind: TypeAlias = Literal["precise", "box", "soft"]
"""`precise`: the mask is the object. `box`: the box around it may change, for edits of shape (arXiv 2601.10714, section 3.5).
`soft`: its grey levels are how much of the edit each pixel gets, and nothing is dilated or feathered."""

MASK_KINDS: Final[tuple[MaskKind, ...]] = ("precise", "box", "soft")
MAX_DILATE: Final = 63


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """All masks of a picture, HW uint8 each.

    Args:
        object: 255 = object; the identity is read from these pixels.
        edit: What is generated anew: 255, or blend weights if `is_soft`; 0 = keep.
        protect: Above 0 = never changed, even where `edit` is not 0.
        dilate: Side of the square by which the object grows in the window, in window pixels, odd; None is the bundle's.
        is_soft: `edit` holds blend weights, which do not grow.
    """

    object: Bytes
    edit: Bytes
    protect: Bytes
    dilate: int | None = None
    is_soft: bool = False


def whole_region(mask: Bytes) -> Region:
    """The region of a picture that is not edited, such as a reference; it does not grow."""
    return Region(object=mask, edit=mask, protect=np.zeros(mask.shape, np.uint8), dilate=1, is_soft=True)


def load_region(
    mask: LevelSource | None,
    photo: Photo,
    *,
    polarity: Polarity = "auto",
    kind: MaskKind = "precise",
    protect: LevelSource | None = None,
    dilate: int | None = None,
) -> Region:
    """Load and check the masks of an edit.

    Args:
        mask: The object, of the photo's size.
        photo: The photo.
        polarity: Which of the masks' pixels mean "object" and "protect".
        kind: How the mask is used; see `MaskKind`.
        protect: What stands in front of the object: never painted, and cut out of the object.
        dilate: Side of the square by which the object grows, in pixels of the model's window: 1, 3, 5, ... 63.

    Raises:
        InputError: a mask cannot be used, nothing of the object is left, or `dilate` or `kind` is unknown.
    """
    if kind not in MASK_KINDS:
        raise InputError(
            f"the mask kind is {kind!r}",
            f"one of {', '.join(MASK_KINDS)}",
            "choose one of those",
            "mask_kind",
            "mask_kind_unknown",
        )
    if dilate is not None and not (1 <= dilate <= MAX_DILATE and dilate % 2 == 1):
        raise InputError(
            f"dilate is {dilate}",
            f"an odd number of pixels from 1 to {MAX_DILATE}",
            "choose 1 for none",
            "dilate",
            "dilate_out_of_range",
        )
    weights = load_weights(mask, photo, polarity) if kind == "soft" else None
    object_mask = load_mask(mask, photo, polarity) if weights is None else as_mask(weights >= 128)
    protect_mask = load_protect(protect, photo, polarity)
    edit = object_mask if weights is None else weights
    if kind == "box":
        box = object_box(object_mask)
        edit = np.zeros_like(object_mask)
        edit[box.top : box.bottom, box.left : box.right] = 255
    visible = object_mask
    if protect is not None:
        is_free = protect_mask == 0
        visible, edit = np.where(is_free, object_mask, np.uint8(0)), np.where(is_free, edit, np.uint8(0))
    if visible.max() == 0:
        raise InputError(
            "the protected area covers the whole object",
            "some of the object to edit",
            "protect only what stands in front of it",
            "protect",
            "protect_covers_mask",
        )
    return Region(object=visible, edit=edit, protect=protect_mask, dilate=dilate, is_soft=weights is not None)
