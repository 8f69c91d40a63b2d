"""Pictures with transparency, of 16 bits, and at the limits of size give the same bytes from C++ as from Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from alterbute import Editor
from alterbute.errors import InputError
from alterbute.images import Photo
from alterbute.images.photo import Bytes, Pixels

from tests.cpp.driver import Driver, Refused
from tests.cpp.test_edits import assert_same_edit, draw_mask, draw_photo, python_edit, soften, two_objects
from tests.support.pictures import noise

LIMITS = "sides of 32 to 16384 and at most 100 megapixels"
HIDDEN = {"black": (0, 0, 0), "white": (255, 255, 255), "magenta": (255, 0, 255)}
EDIT: dict[str, Any] = {"prompt": "color: red", "seed": 5, "steps": 3}


def widen(levels: Bytes, seed: int = 0) -> Pixels:
    """Levels of 16 bits whose high bytes are these, and whose low bytes are noise."""
    low = noise(levels.shape[0], levels.shape[1], levels.size // (levels.shape[0] * levels.shape[1]), seed)
    wide: Pixels = (levels.astype(np.uint16) << 8 | low.reshape(levels.shape)).astype(np.uint16)
    return wide


def spread(levels: Bytes) -> Pixels:
    """Levels of 16 bits that are exactly these of 8."""
    wide: Pixels = levels.astype(np.uint16) * 257
    return wide


def as_photo(pixels: Pixels, icc: bytes | None = None) -> Photo:
    """A picture of 1, 3 or 4 channels as the Python runtime holds it."""
    if pixels.ndim == 2:
        return Photo(pixels=np.repeat(pixels[:, :, None], 3, axis=2), icc=icc)
    alpha = pixels[:, :, 3].copy() if pixels.shape[2] == 4 else None
    return Photo(pixels=pixels[:, :, :3].copy(), alpha=alpha, icc=icc)


def assert_same_picture(
    editor: Editor,
    driver: Driver,
    photo: Pixels,
    mask: Pixels | None,
    options: dict[str, Any],
    icc: bytes | None = None,
) -> Pixels:
    """The edit, which is Python's, and the photo where nothing was edited."""
    ours, our_alphas, _ = python_edit(editor, as_photo(photo, icc), mask, options)
    own = {} if icc is None else {"photo_profile": icc}
    theirs, their_alphas, told = driver.edit(photo, mask, **own, **options)
    assert told["bits"] == 8 * photo.itemsize
    for our, their in zip([*ours, *our_alphas], [*theirs, *their_alphas], strict=True):
        assert our.dtype == their.dtype
        assert np.array_equal(our, their), f"{(our != their).sum()} of {our.size} levels differ"
    kept = photo if photo.ndim == 3 else np.repeat(photo[:, :, None], 3, axis=2)
    untouched = their_alphas[0] == 0
    assert np.array_equal(theirs[0][untouched], kept[untouched])
    assert not np.array_equal(theirs[0], kept)
    return theirs[0]


def cut_out(hidden: tuple[int, int, int], *, is_soft: bool = True) -> Bytes:
    """A photo of a disc on a transparent layer, and this colour where nothing is visible."""
    alpha = draw_mask(120, 100, 0)
    alpha = soften(soften(alpha)) if is_soft else alpha
    colors = draw_photo(120, 100, seed=3)
    colors[alpha == 0] = hidden
    return np.dstack((colors, alpha))


@pytest.mark.parametrize(
    "mask", [None, draw_mask(120, 100, 1), soften(draw_mask(120, 100, 4))], ids=["own", "bar", "ring"]
)
@pytest.mark.parametrize("options", [{}, {"rim": 12}, {"mask_kind": "box"}, {"detail": "model"}], ids=repr)
def test_hidden_colours_reach_no_visible_pixel(
    python_editor: Editor, cpp_editor: Driver, mask: Bytes | None, options: dict[str, Any]
) -> None:
    edits = {}
    for name, color in HIDDEN.items():
        photo = cut_out(color)
        edits[name] = assert_same_picture(python_editor, cpp_editor, photo, mask, {**EDIT, **options})
    seen = cut_out((0, 0, 0))[:, :, 3] > 0
    for edit in edits.values():
        assert np.array_equal(edit[seen], edits["black"][seen])


@pytest.mark.parametrize("side", [96, 2100])
def test_hidden_colours_of_a_reference_change_no_byte(python_editor: Editor, cpp_editor: Driver, side: int) -> None:
    photo, mask = draw_photo(96, 80), draw_mask(96, 80, 0)
    edits = []
    for color in HIDDEN.values():
        reference = np.dstack((draw_photo(side, 96, seed=7), draw_mask(side, 96, 0)))
        reference[reference[:, :, 3] == 0, :3] = color
        options = {**EDIT, "reference": reference}
        assert_same_edit(python_editor, cpp_editor, photo, mask, options)
        edits.append(cpp_editor.edit(photo, mask, **options)[0][0])
    assert all(np.array_equal(edit, edits[0]) for edit in edits)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"detail": "photo", "prompt": "color: blue"},
        {"rim": 9},
        {"dilate": 5, "protect": draw_mask(96, 80, 1)},
        {"mask": soften(draw_mask(96, 80, 0)), "mask_kind": "soft"},
        {"mask_kind": "box", "detail": "photo"},
        {"photo": widen(draw_photo(96, 80, seed=4)[:, :, 0], 4)},
        {"photo": widen(np.dstack((draw_photo(96, 80, seed=4), soften(draw_mask(96, 80, 0)))), 4)},
        {"photo": widen(np.dstack((draw_photo(96, 80, seed=4), soften(draw_mask(96, 80, 0)))), 4), "mask": None},
        {"mask": widen(np.dstack((draw_photo(96, 80, seed=2), draw_mask(96, 80, 0))), 2)},
        {"photo": widen(draw_photo(512, 384, seed=9), 9), "mask": two_objects(512, 384)},
        {"photo": spread(draw_photo(96, 80, seed=6))},
        {"count": 3, "guidance": 1.0},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_a_photo_of_16_bits_is_edited_as_in_python(
    python_editor: Editor, cpp_editor: Driver, options: dict[str, Any]
) -> None:
    options = {**EDIT, **options}
    photo, mask = options.pop("photo", widen(draw_photo(96, 80, seed=2), 2)), options.pop("mask", draw_mask(96, 80, 0))
    edit = assert_same_picture(python_editor, cpp_editor, photo, mask, options)
    # Levels between those of 8 bits: the edit is no edit of 8 bits that was widened.
    assert (edit[:, :, :3] % 257 != 0).any()


@pytest.mark.parametrize("seed", range(12))
def test_random_photos_of_16_bits_are_edited_as_in_python(python_editor: Editor, cpp_editor: Driver, seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width, channels = (int(random.integers(*span)) for span in ((33, 200), (33, 200), (3, 5)))
    photo = widen(draw_photo(height, width, channels, seed=seed), seed)
    options = {"prompt": "color: green", "seed": seed, "steps": 2, "rim": int(random.integers(0, 30))}
    assert_same_picture(python_editor, cpp_editor, photo, draw_mask(height, width, seed % 5), options)


def test_pictures_of_16_bits_beside_the_photo_are_cut_to_8(python_editor: Editor, cpp_editor: Driver) -> None:
    photo, mask, other = draw_photo(96, 80), draw_mask(96, 80, 0), draw_mask(96, 80, 1)
    plain, _, _ = cpp_editor.edit(photo, mask, protect=other, **EDIT)
    wide, _, _ = cpp_editor.edit(photo, widen(mask), protect=widen(other), **EDIT)
    assert np.array_equal(plain[0], wide[0])
    for opaque in ((), (soften(mask),)):
        reference = np.dstack((draw_photo(96, 80, seed=8), *opaque))
        plain, _, _ = cpp_editor.edit(photo, mask, reference=reference, reference_mask=mask, **EDIT)
        wide, _, _ = cpp_editor.edit(photo, mask, reference=spread(reference), reference_mask=widen(mask), **EDIT)
        assert np.array_equal(plain[0], wide[0])


def test_a_reference_of_16_bits_is_rounded_as_in_python(python_editor: Editor, cpp_editor: Driver) -> None:
    photo, mask = draw_photo(96, 80), draw_mask(96, 80, 0)
    opaque, wide = draw_photo(90, 70, seed=8), draw_photo(90, 70, seed=9)
    # Opacities that are rounded to 0 and to 1 beside those of the disc.
    faint = np.where(draw_mask(90, 70, 4) > 0, np.uint8(0), soften(draw_mask(90, 70, 0)))
    for reference in (opaque, np.dstack((wide, faint))):
        assert_same_edit(python_editor, cpp_editor, photo, mask, {**EDIT, "reference": widen(reference, 8)})


@pytest.mark.parametrize("level", [65535, 65534, 0])
def test_the_opaque_part_of_a_photo_of_16_bits_is_no_mask_where_it_is_all_or_nothing(
    python_editor: Editor, cpp_editor: Driver, level: int
) -> None:
    photo = widen(draw_photo(64, 64, 4))
    photo[:, :, 3] = level
    with pytest.raises(InputError) as ours:
        python_edit(python_editor, photo, None, EDIT)
    with pytest.raises(Refused) as theirs:
        cpp_editor.edit(photo, None, **EDIT)
    assert (str(theirs.value), theirs.value.code) == (str(ours.value), ours.value.code)


@pytest.mark.parametrize(
    "options",
    [
        {"detail": "model"},
        {"mask_kind": "box"},
        {"reference": draw_photo(64, 64)},
    ],
    ids=lambda options: "-".join(options),
)
def test_an_edit_with_the_models_detail_and_16_bits_is_refused_in_pythons_words(
    python_editor: Editor, cpp_editor: Driver, options: dict[str, Any]
) -> None:
    photo, mask = widen(draw_photo(64, 64)), draw_mask(64, 64, 0)
    with pytest.raises(InputError) as ours:
        python_edit(python_editor, as_photo(photo), mask, {**EDIT, **options})
    with pytest.raises(Refused) as theirs:
        cpp_editor.edit(photo, mask, **{**EDIT, **options})
    assert theirs.value.code == ours.value.code == "detail_depth"
    assert (str(theirs.value), theirs.value.param) == (str(ours.value), ours.value.param)
    assert "the photo has 16 bits, and this edit takes its detail from the model" in str(theirs.value)


@pytest.mark.parametrize(("width", "height"), [(16384, 32), (32, 16384)])
def test_the_longest_photos_are_edited(cpp_editor: Driver, width: int, height: int) -> None:
    photo, mask = np.full((height, width, 3), 90, np.uint8), np.zeros((height, width), np.uint8)
    mask[height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8] = 255
    images, alphas, _ = cpp_editor.edit(photo, mask, **EDIT)
    assert np.array_equal(images[0][alphas[0] == 0], photo[alphas[0] == 0])
    assert (alphas[0] > 0).any()


@pytest.mark.parametrize(("width", "height"), [(16385, 32), (32, 16385), (31, 64), (10001, 10000), (2**30, 2**30)])
@pytest.mark.parametrize("bits", [8, 16])
def test_sizes_beyond_the_limits_are_refused_before_a_pixel_is_read(
    cpp_editor: Driver, width: int, height: int, bits: int
) -> None:
    with pytest.raises(Refused) as refused:
        cpp_editor.ask("edit", [b"\0"], photo=[0, width, height, 3, bits], mask=[0, width, height, 1], **EDIT)
    assert refused.value.code == "photo_size_out_of_limits"
    assert f"the photo is {width}x{height} pixels; expected {LIMITS}" in str(refused.value)


@pytest.mark.parametrize("bits", [0, 1, 12, 32, -8])
def test_other_depths_are_refused(cpp_editor: Driver, bits: int) -> None:
    with pytest.raises(Refused, match=f"3 channels of {bits} bits") as refused:
        cpp_editor.ask("edit", [b"\0"], photo=[0, 64, 64, 3, bits], mask=[0, 64, 64, 1], **EDIT)
    assert (refused.value.param, refused.value.code) == ("photo", "photo_bad_array")


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 16])
def test_a_photo_of_a_hundred_megapixels_gives_pythons_bytes(
    python_editor: Editor, cpp_editor: Driver, bits: int
) -> None:
    tile = draw_photo(500, 500, seed=2)
    photo = np.tile(tile if bits == 8 else widen(tile), (20, 20, 1))
    mask = np.zeros((10_000, 10_000), np.uint8)
    mask[4000:5000, 6000:7200] = draw_mask(1000, 1200, 0)
    assert_same_picture(python_editor, cpp_editor, photo, mask, EDIT)
