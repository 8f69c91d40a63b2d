"""Photos and references with colour profiles give the same bytes from C++ as from Python, where the build has littlecms."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from alterbute import Editor
from alterbute.errors import InputError
from alterbute.images.color import check_profile, from_srgb, to_srgb
from alterbute.images.color.icc_profile import (
    BT2020_PRIMARIES,
    D65,
    gamma_curve,
    make_profile,
)
from alterbute.images.photo import Bytes

from tests.cpp.build import SOURCE
from tests.cpp.driver import Driver, Refused
from tests.cpp.test_edits import draw_mask, draw_photo, python_edit, soften, two_objects
from tests.cpp.test_pictures import EDIT, as_photo, assert_same_picture, widen
from tests.support.pictures import noise
from tests.support.profiles import ADOBE, P3, SRGB

PROFILES = {
    "P3": P3,
    "Adobe": ADOBE,
    "BT.2020": make_profile("BT.2020", BT2020_PRIMARIES, D65, gamma_curve(2.4)),
    "sRGB": SRGB,
}
DAMAGED = {"none": b"", "text": b"no profile " * 20, "cut": P3[:-50], "head": P3[:140], "large": P3 + bytes(1 << 20)}


@pytest.fixture(scope="module")
def converting(cpp_editor: Driver) -> Driver:
    """The driver, if its build has littlecms."""
    try:
        cpp_editor.ask("colors", [P3, b"\0\0\0"], to="srgb")
    except Refused as refused:
        pytest.skip(f"{refused} (`apt-get install liblcms2-dev`)")
    return cpp_editor


@pytest.fixture(scope="module")
def without_littlecms(built: Path, demo: Path) -> Iterator[Driver]:
    """A driver whose build has none."""
    with Driver(built / "tests" / "driver_without_lcms2") as driver:
        driver.ask("open", path=str(demo))
        yield driver


@cache
def generator() -> ModuleType:
    """`scripts/make_srgb_profile.py`."""
    spec = importlib.util.spec_from_file_location("make_srgb_profile", SOURCE / "scripts" / "make_srgb_profile.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def vivid(height: int, width: int, channels: int = 3) -> Bytes:
    """A photo that holds colours outside sRGB, whatever its profile."""
    photo = draw_photo(height, width, channels, seed=3)
    photo[height // 2 :, :, 1] = 255
    photo[height // 2 :, : width // 2, ::2] //= 16
    return photo


def test_the_embedded_srgb_profile_is_pythons() -> None:
    assert generator().OUT.read_text() == generator().srgb_source()


@pytest.mark.parametrize("name", PROFILES)
def test_a_quarter_million_colours_are_converted_as_in_python(converting: Driver, name: str) -> None:
    colors, icc = noise(512, 512, seed=1), PROFILES[name]
    for to, convert in (("srgb", to_srgb), ("profile", from_srgb)):
        _, parts = converting.ask("colors", [icc, colors.tobytes()], to=to)
        assert np.array_equal(np.frombuffer(parts[0], np.uint8).reshape(colors.shape), convert(colors, icc)), to


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"detail": "model"},
        {"rim": 9},
        {"mask": soften(draw_mask(96, 80, 0)), "mask_kind": "soft"},
        {"photo": vivid(96, 80)[:, :, 0]},
        {"photo": np.dstack((vivid(96, 80), soften(draw_mask(96, 80, 0))))},
        {"photo": np.dstack((vivid(96, 80), soften(draw_mask(96, 80, 0)))), "mask": None},
        {"photo": vivid(512, 384), "mask": two_objects(512, 384)},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_a_photo_with_a_profile_is_edited_as_in_python(
    python_editor: Editor, converting: Driver, name: str, options: dict[str, Any]
) -> None:
    options = {**EDIT, **options}
    photo, mask = options.pop("photo", vivid(96, 80)), options.pop("mask", draw_mask(96, 80, 0))
    assert_same_picture(python_editor, converting, photo, mask, options, PROFILES[name])


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("side", [90, 2100])
def test_a_reference_with_a_profile_is_converted_as_in_python(
    python_editor: Editor, converting: Driver, name: str, side: int
) -> None:
    photo, mask, icc = draw_photo(96, 80), draw_mask(96, 80, 0), PROFILES[name]
    reference = np.dstack((vivid(side, 70), draw_mask(side, 70, 0)))
    ours, _, _ = python_edit(python_editor, as_photo(photo), mask, {**EDIT, "reference": as_photo(reference, icc)})
    theirs, _, _ = converting.edit(photo, mask, reference=reference, reference_profile=icc, **EDIT)
    assert np.array_equal(ours[0], theirs[0])


def test_as_srgb_reads_the_numbers_of_photo_and_reference(cpp_editor: Driver, without_littlecms: Driver) -> None:
    photo, mask, reference = vivid(96, 80), draw_mask(96, 80, 0), vivid(90, 70)
    profiles = {"photo_profile": P3, "reference_profile": P3, "color": "as_srgb"}
    for one in (photo, widen(photo)):
        options = {**EDIT, "detail": "photo", "reference": reference}
        plain, _, _ = cpp_editor.edit(one, mask, **options)
        for driver in (cpp_editor, without_littlecms):
            read, _, _ = driver.edit(one, mask, **options, **profiles)
            assert np.array_equal(plain[0], read[0])


def test_a_profile_of_16_bits_is_refused_by_name(converting: Driver) -> None:
    with pytest.raises(Refused) as refused:
        converting.edit(widen(vivid(96, 80)), draw_mask(96, 80, 0), photo_profile=P3, **EDIT)
    assert (refused.value.kind, refused.value.param, refused.value.code) == ("InputError", "photo", "photo_profile")
    assert "the photo has 16 bits and a colour profile" in str(refused.value) and "Color::as_srgb" in str(refused.value)


def test_srgb_in_any_form_needs_no_conversion(python_editor: Editor, converting: Driver) -> None:
    photo, mask, icc = vivid(96, 80), draw_mask(96, 80, 0), PROFILES["sRGB"]
    for one in (photo, widen(photo)):
        plain, _, _ = converting.edit(one, mask, **EDIT)
        tagged, _, _ = converting.edit(one, mask, photo_profile=icc, **EDIT)
        assert np.array_equal(plain[0], tagged[0])
        assert_same_picture(python_editor, converting, one, mask, dict(EDIT), icc)


@pytest.mark.parametrize("param", ["photo", "reference"])
def test_without_littlecms_a_profile_is_refused_by_name(without_littlecms: Driver, param: str) -> None:
    pictures = {"photo": vivid(96, 80), "reference": vivid(90, 70)}
    options = {**pictures, f"{param}_profile": P3, **EDIT}
    with pytest.raises(Refused) as refused:
        without_littlecms.edit(mask=draw_mask(96, 80, 0), **options)
    assert (refused.value.param, refused.value.code) == (param, f"{param}_profile")
    for word in ("littlecms", "convert the pixels to sRGB", "Color::as_srgb"):
        assert word in str(refused.value)


def test_without_littlecms_a_picture_without_a_profile_is_edited_as_ever(
    cpp_editor: Driver, without_littlecms: Driver
) -> None:
    photo, mask = vivid(96, 80), draw_mask(96, 80, 0)
    assert np.array_equal(cpp_editor.edit(photo, mask, **EDIT)[0], without_littlecms.edit(photo, mask, **EDIT)[0])


@pytest.mark.parametrize("name", DAMAGED)
def test_a_profile_that_is_none_is_refused_in_pythons_words(converting: Driver, name: str) -> None:
    with pytest.raises(Refused) as theirs:
        converting.edit(vivid(96, 80), draw_mask(96, 80, 0), photo_profile=DAMAGED[name], **EDIT)
    assert theirs.value.code == "photo_profile"
    if name == "large":
        assert "more than 1048576 bytes" in str(theirs.value)  # Python reads such a file as sRGB
        return
    with pytest.raises(InputError) as ours:
        check_profile(DAMAGED[name], 8, "photo")
    assert str(theirs.value) == str(ours.value)
