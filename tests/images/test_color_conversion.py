"""Conversion to sRGB and back: our 16-bit arithmetic against littlecms, and the change that is added to a photo."""

from __future__ import annotations

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images.color import add_change, check_profile, convert, from_srgb, is_srgb, to_srgb
from alterbute.images.color.icc_profile import (
    ADOBE_RGB_PRIMARIES,
    BT2020_PRIMARIES,
    D65,
    SRGB_PRIMARIES,
    Point,
    gamma_curve,
    make_profile,
    srgb_curve,
)
from alterbute.images.color.matrix_profile import read_matrix_profile
from alterbute.images.photo import Pixels, to_8_bits
from PIL import ImageCms

from tests.support.pictures import noise
from tests.support.profiles import P3

PROPHOTO: tuple[Point, Point, Point] = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
# A curve of 17 points, as version 2 profiles have them.
TABLE = b"curv\0\0\0\0\0\0\0\x11" + b"".join(round(65535 * (i / 16) ** 2.0).to_bytes(2) for i in range(17))
SIMPLE_GAMMA = b"curv\0\0\0\0\0\0\0\x01\x02\x33"
PROFILES = {
    "Display P3": P3,
    "Adobe RGB": make_profile("A", ADOBE_RGB_PRIMARIES, D65, SIMPLE_GAMMA),
    "BT.2020": make_profile("2020", BT2020_PRIMARIES, D65, srgb_curve()),
    "ProPhoto": make_profile("ProPhoto", PROPHOTO, (0.3457, 0.3585), gamma_curve(1.8)),
    "a table": make_profile("T", SRGB_PRIMARIES, D65, TABLE),
    "linear": make_profile("L", SRGB_PRIMARIES, D65, b"curv\0\0\0\0\0\0\0\0"),
}


@pytest.mark.parametrize("name", PROFILES)
def test_16_bits_are_converted_as_littlecms_converts_8(name: str) -> None:
    icc, levels = PROFILES[name], noise(100, 130)
    check_profile(icc, 16, "photo")
    for conversion in (to_srgb, from_srgb):
        coarse, fine = conversion(levels, icc), conversion(levels.astype(np.uint16) * 257, icc)
        assert fine.dtype == np.uint16
        difference = np.abs(coarse.astype(int) - to_8_bits(fine))
        # littlecms rounds its tables and matrices to 15 bits, which a steep curve enlarges.
        assert difference.max() <= 2
        assert difference.mean() < 0.05


@pytest.mark.parametrize("name", PROFILES)
def test_16_bits_come_back_from_a_wider_space(name: str) -> None:
    levels = noise(60, 70).astype(np.uint16) * 257
    back = to_srgb(from_srgb(levels, PROFILES[name]), PROFILES[name])
    assert np.abs(back.astype(int) - levels).max() <= 160  # six tenths of an 8-bit level, at the foot of the curve


def test_neutral_greys_stay_neutral() -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    for icc in PROFILES.values():
        spread = np.ptp(to_srgb(greys, icc).astype(int), axis=2)
        assert spread.max() <= 1


def test_a_change_is_added_and_no_change_adds_nothing() -> None:
    for dtype in (np.uint8, np.uint16):
        photos: list[Pixels] = [noise(20, 30, seed=seed).astype(dtype) for seed in range(3)]
        photo, before, after = photos
        assert np.array_equal(add_change(photo, before, before), photo)
        expected = (photo.astype(int) + after - before).clip(0, np.iinfo(dtype).max)
        assert np.array_equal(add_change(photo, before, after), expected)


def test_a_profile_that_is_no_matrix_is_refused_for_16_bits_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_matrix_profile(PROFILES["Display P3"].replace(b"wtpt", b"A2B0")) is None
    monkeypatch.setattr(convert, "read_matrix_profile", lambda icc: None)
    check_profile(PROFILES["Display P3"], 8, "photo")
    with pytest.raises(InputError, match="16 bits and a profile"):
        check_profile(PROFILES["Display P3"], 16, "photo")


@pytest.mark.parametrize("tag", [b"rXYZ", b"gTRC"])
def test_a_damaged_matrix_profile_is_not_read(tag: bytes) -> None:
    assert read_matrix_profile(PROFILES["Display P3"].replace(tag, b"zzzz")) is None


def test_srgb_in_any_form_is_not_converted() -> None:
    """Most files with a profile have this one; a conversion would round their levels for nothing."""
    table = b"curv\0\0\0\0" + (1024).to_bytes(4)
    for level in np.linspace(0, 1, 1024):
        light = level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4
        table += round(65535 * light).to_bytes(2)
    of_tables = make_profile("sRGB of version 2", SRGB_PRIMARIES, D65, table)
    littlecms = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for icc in (None, of_tables, littlecms):
        assert is_srgb(icc)
        levels = noise(20, 30)
        assert to_srgb(levels, icc) is levels
        assert from_srgb(levels, icc) is levels
    for name in ("Display P3", "Adobe RGB", "linear"):
        assert not is_srgb(PROFILES[name])
