"""Pictures: decoding and checks, masks, windows around the object, pasting the edit back, and encoding."""

from __future__ import annotations

from alterbute.images.boxes import Box, choose_resolution, identity_box, object_box, photo_box, reference_box
from alterbute.images.comparison import Cause, ColourDrift, Comparison, compare_photos
from alterbute.images.files.decode import PictureSource
from alterbute.images.load import load_mask, load_optional_reference, load_photo, load_reference
from alterbute.images.masks.marking import POLARITIES, MaskValue, Polarity
from alterbute.images.masks.region import MASK_KINDS, MaskKind, MaskReport, Region, load_region, whole_region
from alterbute.images.masks.split import count_windows, split_region
from alterbute.images.output.encode_photo import encode, encode_photo
from alterbute.images.output.save import check_output, check_output_holds, save, save_photo
from alterbute.images.paste import Patch, cut, join_patches, make_patch
from alterbute.images.photo import Photo

__all__ = [
    "MASK_KINDS",
    "POLARITIES",
    "Box",
    "Cause",
    "ColourDrift",
    "Comparison",
    "MaskKind",
    "MaskReport",
    "MaskValue",
    "Patch",
    "Photo",
    "PictureSource",
    "Polarity",
    "Region",
    "check_output",
    "check_output_holds",
    "choose_resolution",
    "compare_photos",
    "count_windows",
    "cut",
    "encode",
    "encode_photo",
    "identity_box",
    "join_patches",
    "load_mask",
    "load_optional_reference",
    "load_photo",
    "load_reference",
    "load_region",
    "make_patch",
    "object_box",
    "photo_box",
    "reference_box",
    "save",
    "save_photo",
    "split_region",
    "whole_region",
]
