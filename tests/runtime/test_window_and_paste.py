"""Promises of window geometry and paste-back, over random photos, masks and boxes."""

from __future__ import annotations

import numpy as np
from alterbute.images import (
    Box,
    Photo,
    cut,
    identity_box,
    make_patch,
    object_box,
    photo_box,
    reference_box,
)
from alterbute.images.boxes import MAX_REFERENCE_ZOOM_OUT
from alterbute.images.photo import Bytes
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def masks(draw: st.DrawFn) -> Bytes:
    height, width = draw(st.integers(32, 150)), draw(st.integers(32, 150))
    mask = np.zeros((height, width), np.uint8)
    for _ in range(draw(st.integers(1, 3))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        mask[top : top + draw(st.integers(1, height)), left : left + draw(st.integers(1, width))] = 255
    return mask


@given(masks(), st.floats(1.0, 3.0))
def test_the_window_is_a_square_that_holds_the_whole_object(mask: Bytes, margin: float) -> None:
    box, around = photo_box(mask, margin), object_box(mask)
    assert box.height == box.width <= max(mask.shape)
    assert box.top <= around.top
    assert box.left <= around.left
    assert box.bottom >= around.bottom
    assert box.right >= around.right


@given(masks(), st.floats(1.0, 3.0))
def test_the_window_stays_in_the_photo_when_it_fits_and_covers_it_when_not(mask: Bytes, margin: float) -> None:
    box = photo_box(mask, margin)
    for start, end, length in ((box.top, box.bottom, mask.shape[0]), (box.left, box.right, mask.shape[1])):
        assert (start >= 0 and end <= length) if end - start <= length else (start <= 0 and end >= length)


@given(masks(), masks(), st.floats(1.0, 3.0))
def test_the_reference_object_lands_on_the_photo_object_and_fits_it(there: Bytes, here: Bytes, margin: float) -> None:
    window = photo_box(here, margin)
    box = reference_box(there, here, window)
    mine, target, scale = object_box(there), object_box(here), window.height / box.height
    assert box.height == box.width <= MAX_REFERENCE_ZOOM_OUT * max(mine.height, mine.width)
    centre = ((mine.top + mine.bottom) / 2 - box.top) * scale + window.top
    assert abs(centre - (target.top + target.bottom) / 2) <= scale
    if box.height < MAX_REFERENCE_ZOOM_OUT * max(mine.height, mine.width):
        assert mine.height * scale <= target.height + 1e-6
        assert mine.width * scale <= target.width + 1e-6


@given(masks())
def test_the_identity_box_is_centred_on_the_object(mask: Bytes) -> None:
    box, around = identity_box(mask), object_box(mask)
    assert box.height == box.width >= max(around.height, around.width)
    assert abs((box.top + box.bottom) - (around.top + around.bottom)) <= 1


@st.composite
def boxes(draw: st.DrawFn) -> tuple[Photo, Box]:
    height, width = draw(st.integers(32, 60)), draw(st.integers(32, 60))
    pixels = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, (height, width, 3), np.uint8)
    top, left, side = draw(st.integers(-40, height - 1)), draw(st.integers(-40, width - 1)), draw(st.integers(41, 120))
    return Photo(pixels=pixels, alpha=pixels[:, :, 0].copy()), Box(
        top=top, left=left, bottom=top + side, right=left + side
    )


@given(boxes())
def test_cut_and_paste_with_full_alpha_is_the_same_photo(case: tuple[Photo, Box]) -> None:
    photo, box = case
    window = cut(photo.pixels, box)
    assert window.shape == (box.height, box.width, 3)
    patch = make_patch(photo, box, window, np.full((box.height, box.width), 255, np.uint8))
    pasted, touched = patch.put_into(photo), patch.spread_alpha(photo)
    assert np.array_equal(pasted.pixels, photo.pixels)
    inside = box.inside(photo.height, photo.width)
    assert (touched > 0).sum() == inside.height * inside.width


@given(boxes(), st.integers(0, 99))
def test_pixels_with_alpha_0_are_never_written(case: tuple[Photo, Box], seed: int) -> None:
    photo, box = case
    random = np.random.default_rng(seed)
    alpha = random.choice(np.array([0, 0, 1, 255], np.uint8), (box.height, box.width))
    window = random.integers(0, 256, (box.height, box.width, 3), np.uint8)
    patch = make_patch(photo, box, window, alpha)
    pasted, touched = patch.put_into(photo), patch.spread_alpha(photo)
    assert np.array_equal(pasted.pixels[touched == 0], photo.pixels[touched == 0])
    back = cut(pasted.pixels, box)
    inside = np.pad(np.ones((photo.height, photo.width), bool), 200)
    inside = inside[200 + box.top : 200 + box.bottom, 200 + box.left : 200 + box.right]
    assert np.array_equal(back[inside & (alpha > 0)], window[inside & (alpha > 0)])
    assert pasted.alpha is photo.alpha


@given(boxes(), st.integers(0, 9), st.booleans())
def test_a_patch_is_no_larger_than_what_was_touched(case: tuple[Photo, Box], share: int, is_opaque: bool) -> None:
    photo, box = case
    photo = Photo(pixels=photo.pixels, alpha=None if is_opaque else photo.alpha)
    random = np.random.default_rng(share)
    # Nothing at all at first, then a few pixels, which may all lie beyond the photo.
    alpha = np.zeros((box.height, box.width), np.uint8)
    alpha[tuple(random.integers(0, box.height, (2, share)))] = 200
    patch = make_patch(photo, box, random.integers(0, 256, (box.height, box.width, 3), np.uint8), alpha)
    whole, touched = patch.put_into(photo), patch.spread_alpha(photo)
    assert patch.box == (object_box(touched) if touched.any() else patch.box)
    assert touched.any() or patch.pixels.size == 0
    assert np.array_equal(whole.pixels[touched == 0], photo.pixels[touched == 0])
    assert whole.alpha is photo.alpha
