"""A JPEG is taken with all of its pixels, or not at all; and every sound one is taken, with Pillow's pixels."""

from __future__ import annotations

import collections
import io
import random

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import load_photo
from alterbute.images.files.decode import decode_levels
from alterbute.images.files.jpeg.jpeg_markers import read_jpeg
from PIL import Image, ImageFile

from tests.support.jpeg_files import END, damaged_jpegs, picture, sound_jpegs
from tests.support.pictures import to_bytes


def taken_wrong(count: int, seed: int) -> tuple[collections.Counter[str], list[str]]:
    """Counts of damaged files that were refused or taken, and the names of those that were taken with other pixels."""
    counts: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    generator = random.Random(seed)
    # Of arithmetic code at low qualities whole rows are in the bytes that may be left out.
    for sound in sound_jpegs(count, seed, low=60):
        pixels = sound.pixels
        for what, data in damaged_jpegs(sound, generator):
            try:
                taken = load_photo(data).pixels
            except InputError:
                counts["refused"] += 1
                continue
            is_same = taken.shape == pixels.shape and np.array_equal(taken, pixels)
            counts["taken whole" if is_same else "taken wrong"] += 1
            if not is_same:
                wrong.append(f"{sound.name}: {what}")
    return counts, wrong


def refused(count: int, seed: int) -> list[str]:
    """Sound files that were refused, or taken with other pixels than Pillow's."""
    bad = []
    for sound in sound_jpegs(count, seed):
        try:
            if not np.array_equal(load_photo(sound.data).pixels, sound.pixels):
                bad.append(f"{sound.name}: other pixels")
        except InputError as fault:
            bad.append(f"{sound.name}: {fault}")
    return bad


def test_no_damaged_jpeg_is_taken_with_other_pixels() -> None:
    counts, wrong = taken_wrong(50, 1)
    assert not wrong
    assert counts["refused"] > 400


def test_every_sound_jpeg_is_taken_with_pillows_pixels() -> None:
    assert not refused(108, 2)


@pytest.mark.slow
def test_a_campaign_of_damaged_and_sound_jpegs() -> None:
    counts, wrong = taken_wrong(540, 100)
    bad = refused(1200, 200)
    print(f"damaged: {dict(counts)}; sound: 1200, refused or wrong: {len(bad)}")
    assert not wrong
    assert not bad
    assert counts["refused"] > 4000


@pytest.mark.parametrize("share", [5, 25, 50, 75, 95])
def test_a_cut_jpeg_with_a_false_end_is_refused_as_truncated(share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    whole = to_bytes(picture(96, 128, 0, 8), "JPEG")
    at = read_jpeg(whole).scans[0].data_at
    cut = whole[: at + (len(whole) - at) * share // 100]
    for data in (cut, cut + END):
        for source in (data, Image.open(io.BytesIO(data))):
            with pytest.raises(InputError, match="photo is truncated") as caught:
                load_photo(source)
            assert caught.value.code == "photo_undecodable"


def test_a_jpeg_is_shown_upright_and_a_grey_mask_stays_one_plane() -> None:
    pixels = picture(40, 56, 0, 8)
    for orientation, turn in ((1, None), (6, Image.Transpose.ROTATE_270), (2, Image.Transpose.FLIP_LEFT_RIGHT)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = to_bytes(pixels, "JPEG", exif=exif)
        stored = Image.open(io.BytesIO(data)).convert("RGB")
        upright = stored if turn is None else stored.transpose(turn)
        assert np.array_equal(load_photo(data).pixels, np.asarray(upright))
    grey = to_bytes(Image.fromarray(pixels).convert("L"), "JPEG")
    levels = decode_levels(grey, "mask")
    assert levels.colors is None and levels.is_lossy
    assert np.array_equal(levels.luminance, np.asarray(Image.open(io.BytesIO(grey))))


@pytest.mark.parametrize(
    ("marker", "bits", "text"),
    [(0xC3, 8, "lossless"), (0xC5, 8, "hierarchical"), (0xCB, 8, "lossless"), (0xC1, 12, "12 bits per channel")],
)
def test_codings_that_are_not_read_are_refused_by_name(marker: int, bits: int, text: str) -> None:
    data = bytearray(to_bytes(picture(40, 56, 0, 8), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    with pytest.raises(InputError, match=text):
        load_photo(bytes(data))
