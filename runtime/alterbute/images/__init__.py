"""Pictures: decoding and checks, masks, windows around the object, pasting the edit back, and encoding."""

from __future__ import annotations

from alterbute.images.boxes import Box, choose_resolution, identity_box, object_box, photo_box, reference_box
from alterbute.images.image_file import PictureSource
from alterbute.images.load import Polarity, load_mask, load_photo, load_reference
from alterbute.images.paste import Patch, cut, make_patch, paste_back
from alterbute.images.photo import Photo
from alterbute.images.region import MASK_KINDS, MaskKind, Region, load_region, whole_region
from alterbute.images.save import check_output, encode, save

__all__ = [
    "MASK_KINDS",
    "Box",
    "MaskKind",
    "Patch",
    "Photo",
    "PictureSource",
    "Polarity",
    "Region",
    "check_output",
    "choose_resolution",
    "cut",
    "encode",
    "identity_box",
    "load_mask",
    "load_photo",
    "load_reference",
    "load_region",
    "make_patch",
    "object_box",
    "paste_back",
    "photo_box",
    "reference_box",
    "save",
    "whole_region",
]
