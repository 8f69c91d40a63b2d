"""The region that an edit may change: the object, its box, or blend weights, without what stands in front of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from alterbute.errors import InputError
from alterbute.images.arrays import strips
from alterbute.images.boxes import object_box
from alterbute.images.files.decode import LevelSource
from alterbute.images.masks.marking import MaskValue, Polarity
from alterbute.images.masks.pieces import Pieces, find_dust, find_pieces
from alterbute.images.masks.read_mask import OBJECT_LEVEL, as_mask, read_binary, read_mask
from alterbute.images.photo import Bytes, Photo

MaskKind: TypeAlias = Literal["precise", "box", "soft"]
"""`precise`: the mask is the object. `box`: the box around it may change, for edits of shape (arXiv 2601.10714, section 3.5).
`soft`: its grey levels are how much of the edit each pixel gets, and the model's mask is not dilated."""

MASK_KINDS: Final[tuple[MaskKind, ...]] = ("precise", "box", "soft")
MAX_DILATE: Final = 63
MAX_RIM: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskReport:
    """What was understood of a mask.

    Args:
        share: Share of the photo's pixels that may change, 0..1, without the rim.
        pieces: Connected pieces; None if there are too many to be told apart.
        specks: Pieces that were dropped as dust.
        speck_pixels: Pixels of those.
        origin: What the marked pixels were: `white`, `opaque`, `value 7`...
        warnings: Messages for the user.
    """

    share: float
    pieces: int | None
    specks: int
    speck_pixels: int
    origin: str
    warnings: tuple[str, ...] = ()

    def describe(self) -> str:
        """One line, such as `19 % of the photo, 1 piece, from white`."""
        share = f"{self.share:.0%}".replace("%", " %") if self.share >= 0.01 else f"{100 * self.share:.2g} %"
        pieces = "many pieces" if self.pieces is None else f"{self.pieces} piece{'s' if self.pieces != 1 else ''}"
        specks = f", {self.specks} speck{'s' if self.specks != 1 else ''} ({self.speck_pixels} px) dropped"
        return f"{share} of the photo, {pieces}, from {self.origin}{specks if self.specks else ''}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """All masks of a picture, HW uint8 each.

    Args:
        object: 255 = object; the identity is read from these pixels.
        edit: What is generated anew: coverage, or blend weights for kind `soft`; 0 = keep.
        protect: Above 0 = never changed, even where `edit` is not 0.
        kind: How the mask is used.
        dilate: Side of the square by which the model's mask grows in the window, in window pixels, odd; None is the bundle's.
        rim: Photo pixels around `edit` that may change, too, with a soft edge.
        pieces: The connected pieces of the mask, before anything is protected; None if there are too many.
        report: What was understood of the mask; None for a region that was not read from one.
    """

    object: Bytes
    edit: Bytes
    protect: Bytes
    kind: MaskKind = "precise"
    dilate: int | None = None
    rim: int = 0
    pieces: Pieces | None = None
    report: MaskReport | None = None

    @property
    def is_soft(self) -> bool:
        """Whether `edit` holds blend weights."""
        return self.kind == "soft"


def whole_region(mask: Bytes) -> Region:
    """The region of a picture that is not edited, such as a reference; it does not grow."""
    return Region(object=mask, edit=mask, protect=np.zeros(mask.shape, np.uint8), dilate=1, kind="soft")


def load_region(
    mask: LevelSource | None,
    photo: Photo,
    *,
    polarity: Polarity = "auto",
    kind: MaskKind = "precise",
    value: MaskValue | None = None,
    protect: LevelSource | None = None,
    dilate: int | None = None,
    rim: int = 0,
) -> Region:
    """Load and check the masks of an edit.

    Args:
        mask: The object, of the photo's size; None takes the opaque part of a photo with transparency.
        photo: The photo.
        polarity: Which of the masks' pixels mean "object" and "protect".
        kind: How the mask is used; see `MaskKind`.
        value: The label of the object, for a label image.
        protect: What stands in front of the object: never painted, and cut out of the object.
        dilate: Side of the square by which the model's mask grows, in pixels of the model's window: 1, 3, 5, ... 63.
        rim: Photo pixels around the mask that may change, too, 0..256.

    Raises:
        InputError: a mask cannot be used, nothing of the object is left, or `dilate`, `rim` or `kind` is unknown.
    """
    check_mask_options(kind, dilate, rim)
    read = read_mask(mask, photo, polarity=polarity, value=value, is_soft=kind == "soft")
    levels, pieces, specks, speck_pixels = drop_dust(read.levels)
    # A hard mask is one array, which is cut, hashed and kept once.
    object_mask = levels if read.is_hard else as_mask(levels >= OBJECT_LEVEL)
    edit = fill_box(object_mask) if kind == "box" else levels
    report = MaskReport(
        share=_count_marked(edit) / edit.size,
        pieces=None if pieces is None else len(pieces.areas),
        specks=specks,
        speck_pixels=speck_pixels,
        origin=read.origin,
        warnings=read.warnings,
    )
    protect_mask = np.zeros_like(object_mask)
    if protect is not None:
        protect_mask = read_binary(protect, "protect", photo, polarity)
        is_free = protect_mask == 0
        object_mask, edit = np.where(is_free, object_mask, np.uint8(0)), np.where(is_free, edit, np.uint8(0))
    if object_mask.max() == 0:
        raise InputError(
            "the protected area covers the whole object",
            "some of the object to edit",
            "protect only what stands in front of it",
            "protect",
            "protect_covers_mask",
        )
    return Region(
        object=object_mask,
        edit=edit,
        protect=protect_mask,
        kind=kind,
        dilate=dilate,
        rim=rim,
        pieces=pieces,
        report=report,
    )


def check_mask_options(kind: str, dilate: int | None, rim: int) -> None:
    """Refuse options of a mask that are out of range.

    Args:
        kind: How the mask is used; see `MaskKind`.
        dilate: Side of the square by which the model's mask grows; None is the bundle's.
        rim: Photo pixels around the mask that may change, too.

    Raises:
        InputError: an unknown kind, or a number out of range.
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
    if isinstance(rim, bool) or not isinstance(rim, int) or not 0 <= rim <= MAX_RIM:
        raise InputError(
            f"rim is {rim!r}",
            f"a whole number of photo pixels from 0 to {MAX_RIM}",
            "choose 0 to keep every pixel outside the mask",
            "rim",
            "rim_out_of_range",
        )


def drop_dust(levels: Bytes) -> tuple[Bytes, Pieces | None, int, int]:
    """Remove pieces of a mask that are so small that they were not meant.

    Args:
        levels: HW uint8 coverage.

    Returns:
        The coverage without dust; its pieces, None if there are too many; the number of specks that were dropped, and their pixels.
    """
    pieces = find_pieces(levels)
    if pieces is None:
        return levels, None, 0, 0
    is_dust = find_dust(pieces.areas)
    if not is_dust.any():
        return levels, pieces, 0, 0
    kept = np.where(pieces.paint(~is_dust), levels, np.uint8(0))
    return kept, pieces.keep(~is_dust), int(is_dust.sum()), int(pieces.areas[is_dust].sum())


def _count_marked(levels: Bytes) -> int:
    return sum(int(np.count_nonzero(levels[rows] != 0)) for rows in strips(levels.shape))


def fill_box(mask: Bytes) -> Bytes:
    """HW uint8, 255 in the tightest box around a mask's pixels above 0; the mask is not empty."""
    box = object_box(mask)
    filled = np.zeros(mask.shape, np.uint8)
    filled[box.top : box.bottom, box.left : box.right] = 255
    return filled
