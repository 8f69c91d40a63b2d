"""Colour: profiles and tags of picture files, and conversion to and from sRGB, which the model sees."""

from __future__ import annotations

from alterbute.images.color.cicp import Cicp, profile_of_cicp
from alterbute.images.color.color_tags import ColorTags, read_color_tags
from alterbute.images.color.convert import add_change, check_profile, from_srgb, is_srgb, show_same_colors, to_srgb

__all__ = [
    "Cicp",
    "ColorTags",
    "add_change",
    "check_profile",
    "from_srgb",
    "is_srgb",
    "profile_of_cicp",
    "read_color_tags",
    "show_same_colors",
    "to_srgb",
]
