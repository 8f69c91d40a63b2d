"""What a mask marks: as people, cut-out tools, segmenters and labelling tools write masks; what is ambiguous is refused in one line."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import Photo, load_region
from alterbute.images.photo import Bytes
from PIL import Image, ImageDraw

from tests.support.pictures import noise, to_bytes

HEIGHT, WIDTH = 90, 120
PHOTO = Photo(pixels=noise(HEIGHT, WIDTH, seed=4))


def disc() -> np.ndarray[Any, np.dtype[np.bool_]]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inside: np.ndarray[Any, np.dtype[np.bool_]] = np.hypot(rows - 40, columns - 70) < 21
    return inside


DISC = disc()
WHITE = np.where(DISC, np.uint8(255), np.uint8(0))


def antialiased() -> Bytes:
    """The disc with soft edges, as drawing programs write it."""
    large = Image.new("L", (WIDTH * 4, HEIGHT * 4))
    ImageDraw.Draw(large).ellipse((49 * 4 + 2, 19 * 4 + 2, 91 * 4, 61 * 4), fill=255)
    return np.asarray(large.resize((WIDTH, HEIGHT), Image.Resampling.BOX))


def on_layer(colors: Any, alpha: Bytes) -> Bytes:
    """A picture [H,W,4] of a colour or a photo with an alpha plane."""
    return np.dstack([np.broadcast_to(np.asarray(colors, np.uint8), (HEIGHT, WIDTH, 3)), alpha])


def in_color(ground: tuple[int, int, int], color: tuple[int, int, int], coverage: Bytes = WHITE) -> Bytes:
    share = coverage[:, :, None] / 255
    painted: Bytes = np.rint(share * color + (1 - share) * ground).astype(np.uint8)
    return painted


def palette(labels: Bytes, colors: list[int], format: str = "PNG") -> bytes:
    image = Image.fromarray(labels, "L").convert("P")
    image = Image.frombytes("P", (WIDTH, HEIGHT), labels.tobytes())
    image.putpalette(colors + [0] * (768 - len(colors)))
    return to_bytes(image, format)


ERASED = np.where(DISC, np.uint8(0), np.uint8(255))
SIXTEEN = np.where(DISC, np.uint16(65535), np.uint16(0))
ACCEPTED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "white on black": (WHITE, {}, "white"),
    "a JPEG of low quality": (to_bytes(WHITE, "JPEG", quality=40), {}, "white"),
    "16 bits": (to_bytes(Image.fromarray(SIXTEEN)), {}, "white"),
    "a 16-bit array": (SIXTEEN, {}, "white"),
    "BMP": (to_bytes(WHITE, "BMP"), {}, "white"),
    "TIFF": (to_bytes(WHITE, "TIFF"), {}, "white"),
    "GIF": (to_bytes(WHITE, "GIF"), {}, "white"),
    "one bit": (to_bytes(Image.fromarray(WHITE).convert("1")), {}, "white"),
    "0 and 1 in a PNG": (to_bytes((WHITE // 255).astype(np.uint8)), {}, "level 1"),
    "label 7": (to_bytes((WHITE // 255 * 7).astype(np.uint8)), {}, "level 7"),
    "bool [1,H,W]": (DISC[None], {}, "white"),
    "bool [H,W,1]": (DISC[:, :, None], {}, "white"),
    "float 0..1": (DISC.astype(np.float32), {}, "white"),
    "float64 [1,1,H,W]": (DISC.astype(np.float64)[None, None], {}, "white"),
    "int64 0 and 1": (DISC.astype(np.int64), {}, "level 1"),
    "Fortran order": (np.asfortranarray(WHITE), {}, "white"),
    "an open file": (io.BytesIO(to_bytes(WHITE)), {}, "white"),
    "a bytearray": (bytearray(to_bytes(WHITE)), {}, "white"),
    "a memoryview": (memoryview(to_bytes(WHITE)), {}, "white"),
    "red on black": (in_color((0, 0, 0), (255, 0, 0)), {}, "#ff0000"),
    "blue on black": (in_color((0, 0, 0), (0, 0, 255)), {}, "#0000ff"),
    "red on white": (in_color((255, 255, 255), (255, 0, 0)), {}, "#ff0000"),
    "a VOC palette of one class": (palette(DISC.astype(np.uint8), [0, 0, 0, 128, 0, 0]), {}, "value 1 (#800000)"),
    "paint on an empty layer": (on_layer((255, 255, 255), WHITE), {}, "opaque"),
    "black paint on an empty layer": (on_layer((0, 0, 0), WHITE), {}, "opaque"),
    "a cut-out of the photo": (on_layer(PHOTO.pixels, WHITE), {}, "opaque"),
    "a cut-out with black underneath": (on_layer(np.where(DISC[:, :, None], PHOTO.pixels, 0), WHITE), {}, "opaque"),
    "the object erased from the photo": (on_layer(PHOTO.pixels, ERASED), {}, "transparent"),
    "the object erased from a white canvas": (on_layer((255, 255, 255), ERASED), {}, "transparent"),
    "the object erased from a black canvas": (on_layer((0, 0, 0), ERASED), {}, "transparent"),
    "a cut-out of another photo, said so": (
        on_layer(noise(HEIGHT, WIDTH, seed=9), WHITE),
        {"polarity": "opaque"},
        "opaque",
    ),
    "a class of a label image": (
        to_bytes((WHITE // 255 * 3 + (~DISC & (np.arange(WIDTH) > 100)) * 5).astype(np.uint8)),
        {"value": 3},
        "value 3",
    ),
    "a class of a palette by its colour": (
        palette((DISC * 1 + (~DISC & (np.arange(WIDTH) > 100)) * 2).astype(np.uint8), [0, 0, 0, 128, 0, 0, 0, 128, 0]),
        {"value": "#800000"},
        "value #800000",
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_habit_of_writing_a_mask_marks_the_same_object(name: str) -> None:
    source, options, origin = ACCEPTED[name]
    region = load_region(source, PHOTO, **options)
    assert np.array_equal(region.object, WHITE)
    assert region.report is not None
    assert origin in region.report.origin
    assert region.report.pieces == 1 and not region.report.warnings


@pytest.mark.parametrize(
    ("source", "origin"),
    [
        (antialiased(), "white"),
        (in_color((0, 0, 0), (255, 0, 0), antialiased()), "#ff0000"),
        (in_color((250, 250, 250), (0, 0, 200), antialiased()), "#0000c8"),
        (on_layer((255, 255, 255), antialiased()), "opaque"),
        (on_layer(PHOTO.pixels, 255 - antialiased()), "transparent"),
    ],
)
def test_grey_edges_are_coverage(source: Bytes, origin: str) -> None:
    region = load_region(source, PHOTO)
    expected = np.where(antialiased() < 8, np.uint8(0), antialiased())
    assert np.abs(region.edit.astype(int) - expected).max() <= 1
    assert region.report is not None and origin in region.report.origin


def test_a_colour_mask_as_jpeg_marks_its_colour() -> None:
    source = to_bytes(in_color((255, 255, 255), (220, 30, 30)), "JPEG", quality=85)
    wrong = (load_region(source, PHOTO).object != WHITE).mean()
    assert wrong < 0.005


def test_torch_tensors_are_taken() -> None:
    torch = pytest.importorskip("torch")
    region = load_region(torch.from_numpy(DISC)[None], PHOTO)
    assert np.array_equal(region.object, WHITE)


THREE = (DISC * 1 + (~DISC & (np.arange(WIDTH) > 100)) * 2).astype(np.uint8)
REFUSED: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "no mask": (None, {}, "mask_missing", "--box"),
    "three masks": (np.stack([DISC] * 3), {}, "mask_bad_array", "mask[0]"),
    "a shape": (np.zeros((2, HEIGHT, WIDTH, 3)), {}, "mask_bad_array", "[1,H,W]"),
    "logits": (noise(HEIGHT, WIDTH, 1)[:, :, 0] - 12.5, {}, "mask_bad_array", "numbers in [0,1]"),
    "NaN": (np.full((HEIGHT, WIDTH), np.nan), {}, "mask_bad_array", "numbers in [0,1]"),
    "negative labels": (DISC * -1, {}, "mask_bad_array", "integers in [0,255]"),
    "several labels": (THREE, {}, "mask_labels", "value 1 (#010101)"),
    "a VOC palette of two classes": (
        palette(THREE, [0, 0, 0, 128, 0, 0, 0, 128, 0]),
        {},
        "mask_labels",
        "value 1 (#800000)",
    ),
    "a VOC palette with its border colour": (
        palette(THREE, [0, 0, 0, 128, 0, 0, 224, 224, 192]),
        {},
        "mask_labels",
        "value 2 (#e0e0c0)",
    ),
    "a label that is absent": (THREE, {"value": 9}, "mask_value_absent", "value 1 (#010101)"),
    "a label that is no value": (THREE, {"value": "cat"}, "mask_value_type", "#ff0000"),
    "a cut-out of another photo": (
        on_layer(noise(HEIGHT, WIDTH, seed=9), WHITE),
        {},
        "mask_ambiguous",
        "--mask-polarity opaque",
    ),
    "a hole that reaches two borders": (
        on_layer((255, 255, 255), np.where(np.arange(WIDTH) > 55, np.uint8(0), np.uint8(255))[None].repeat(HEIGHT, 0)),
        {},
        "mask_ambiguous",
        "--mask-polarity alpha",
    ),
    "opaque without transparency": (WHITE, {"polarity": "opaque"}, "mask_without_alpha", "transparency"),
    "text": (io.StringIO("mask"), {}, "mask_type", '"rb"'),
    "a number": (3, {}, "mask_type", "array"),
    "an animation": (
        to_bytes(Image.fromarray(WHITE), "GIF", save_all=True, append_images=[Image.fromarray(ERASED)]),
        {},
        "mask_animated",
        "still",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_known_is_refused_with_what_to_do(name: str) -> None:
    source, options, code, words = REFUSED[name]
    with pytest.raises(InputError) as caught:
        load_region(source, PHOTO, **options)
    assert caught.value.code == code
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_photo_with_transparency_is_its_own_mask() -> None:
    cut_out = Photo(pixels=PHOTO.pixels, alpha=WHITE)
    region = load_region(None, cut_out)
    assert np.array_equal(region.object, WHITE)
    assert region.report is not None and "own" in region.report.origin


def test_an_inverted_mask_and_a_photo_in_place_of_a_mask_are_warned_of() -> None:
    inverted = load_region(255 - WHITE, PHOTO).report
    assert inverted is not None and "looks inverted" in inverted.warnings[0]
    ramp = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    photo = load_region(ramp, PHOTO).report
    assert photo is not None and "looks like a photo" in photo.warnings[0]
    soft = load_region(ramp, PHOTO, kind="soft").report
    assert soft is not None and not soft.warnings


def test_the_hint_of_a_mask_of_stored_pixels_names_the_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    from alterbute.images import load_photo

    photo = load_photo(to_bytes(Image.fromarray(noise(WIDTH, HEIGHT)), "JPEG", exif=exif))
    with pytest.raises(InputError, match=r"EXIF orientation 6.*exif_transpose"):
        load_region(np.zeros((photo.width, photo.height), np.uint8), photo)


def test_a_jpeg_mask_read_as_weights_has_no_far_levels() -> None:
    region = load_region(to_bytes(WHITE, "JPEG", quality=40), PHOTO, kind="soft")
    rows, columns = np.nonzero(region.edit)
    assert rows.min() >= 8 and rows.max() <= 75 and columns.min() >= 36 and columns.max() <= 104


def test_one_line_says_what_was_understood() -> None:
    dusty = WHITE.copy()
    dusty[2, 2] = dusty[80, 5] = 255
    report = load_region(dusty, PHOTO).report
    assert report is not None
    assert report.describe() == "13 % of the photo, 1 piece, from white, 2 specks (2 px) dropped"
