"""Colour profiles for tests, made from their definitions."""

from __future__ import annotations

from typing import Final

from alterbute.images.color.icc_profile import (
    ADOBE_RGB_PRIMARIES,
    D65,
    P3_PRIMARIES,
    SRGB_PRIMARIES,
    gamma_curve,
    make_profile,
    srgb_curve,
)

SRGB: Final = make_profile("sRGB", SRGB_PRIMARIES, D65, srgb_curve())
P3: Final = make_profile("Display P3", P3_PRIMARIES, D65, srgb_curve())
ADOBE: Final = make_profile("Adobe RGB", ADOBE_RGB_PRIMARIES, D65, gamma_curve(563 / 256))
