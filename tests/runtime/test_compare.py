"""Promises of `alterbute compare`: exact figures of what changed outside the mask, and the cause of each kind of change."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alterbute.cli import main
from alterbute.images import Box, Comparison, Photo, compare_photos
from alterbute.images.photo import Bytes
from PIL import Image, ImageFilter

from tests.support.pictures import make_mask, noise, to_bytes

HEIGHT, WIDTH, BORDER = 144, 192, 16
MASK = make_mask(HEIGHT, WIDTH, top=50, left=70, side=48)
LARGE_MASK = make_mask(360, 480, top=120, left=150, side=120)
Edit = Callable[[Bytes], Bytes]


@cache
def draw_texture(height: int, width: int, seed: int = 0) -> Bytes:
    """A picture with detail of all sizes, as in a photo, and a little grain."""
    rng = np.random.default_rng(seed)
    picture = rng.normal(120, 1, (height, width, 3))
    for step, contrast in ((32, 40), (16, 22), (8, 15), (4, 9), (2, 5)):
        rows, columns = height // step + 3, width // step + 3
        knots = 0.5 * rng.normal(size=(rows, columns, 3)) + 0.8 * rng.normal(size=(rows, columns, 1))
        for channel in range(3):
            layer = Image.fromarray(knots[:, :, channel].astype(np.float32))
            layer = layer.resize((columns * step, rows * step), Image.Resampling.BICUBIC)
            picture[:, :, channel] += contrast * np.asarray(layer)[step : step + height, step : step + width]
    return to_levels(picture)


def draw_photo(height: int = HEIGHT, width: int = WIDTH) -> Bytes:
    """The middle of a larger texture, so that a shifted picture shows true neighbours at its edge."""
    return draw_texture(height + 2 * BORDER, width + 2 * BORDER)[BORDER:-BORDER, BORDER:-BORDER].copy()


def to_levels(values: np.ndarray[Any, Any]) -> Bytes:
    return np.asarray(np.rint(values).clip(0, 255), np.uint8)


def compare_pixels(before: Bytes, after: Bytes, mask: Bytes = MASK) -> Comparison:
    comparison = compare_photos(Photo(pixels=before.copy()), Photo(pixels=after.copy()), mask)
    check_figures(comparison, before, after, mask)
    return comparison


def check_figures(comparison: Comparison, before: Bytes, after: Bytes, mask: Bytes) -> None:
    """Compare every exact figure with a direct computation in wide types; the arrays are HWC, alpha included."""
    difference = abs(after.astype(np.int64) - before)
    outside, changed = mask == 0, (difference > 0).any(axis=2)
    assert comparison.is_same_size
    assert comparison.size == comparison.after_size == mask.shape[::-1]
    assert comparison.mask_share == pytest.approx((mask > 0).mean())
    assert comparison.outside_pixels == outside.sum()
    assert comparison.changed_outside == (changed & outside).sum()
    assert comparison.largest_outside == difference[outside].max(initial=0)
    assert comparison.mean_outside == pytest.approx(difference[outside].mean() if outside.any() else 0)
    assert comparison.changed_inside == (changed & ~outside).sum()
    assert comparison.mean_inside == pytest.approx(difference[~outside].mean() if (~outside).any() else 0)
    rows, columns = (places.tolist() for places in np.nonzero(changed & outside))
    if box := comparison.bounds_outside:
        assert (box.top, box.left, box.bottom - 1, box.right - 1) == (min(rows), min(columns), max(rows), max(columns))
    assert (len(rows) == 0) == (comparison.bounds_outside is None) == (comparison.cause == "none")
    assert (drift := comparison.colour_drift) is not None
    for channel in range(3 if outside.any() else 0):
        a, b = before[:, :, channel][outside].astype(float), after[:, :, channel][outside].astype(float)
        assert drift.mean[channel] == pytest.approx((b - a).mean(), abs=1e-9)
        line = np.polyfit(a, b, 1) if a.std() else (1.0, (b - a).mean())
        assert (drift.gain[channel], drift.offset[channel]) == pytest.approx(line, abs=1e-6)


def shift_photo(right: int, down: int, height: int = HEIGHT, width: int = WIDTH) -> Bytes:
    top, left = BORDER - down, BORDER - right
    return draw_texture(height + 2 * BORDER, width + 2 * BORDER)[top : top + height, left : left + width].copy()


def scale_photo(pixels: Bytes, scale: float, resample: Image.Resampling, *, is_centred: bool = True) -> Bytes:
    """Resize by `scale`, about the centre or the upper left corner; a smaller picture keeps the photo at its edge."""
    height, width = pixels.shape[:2]
    new_width, new_height = round(width * scale), round(height * scale)
    resized = Image.fromarray(pixels).resize((new_width, new_height), resample)
    canvas = Image.fromarray(pixels)
    canvas.paste(resized, ((width - new_width) // 2, (height - new_height) // 2) if is_centred else (0, 0))
    return np.asarray(canvas)


def save_jpeg(pixels: Bytes, quality: int) -> Bytes:
    return np.asarray(Image.open(io.BytesIO(to_bytes(pixels, "JPEG", quality=quality))))


def blur(pixels: Bytes, radius: float) -> Bytes:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def add_noise(pixels: Bytes, deviation: float) -> Bytes:
    return to_levels(pixels + np.random.default_rng(1).normal(0, deviation, pixels.shape))


def mix_grey(pixels: Bytes, weight: float) -> Bytes:
    return to_levels(weight * pixels + (1 - weight) * pixels.mean(axis=2, keepdims=True))


def change_pixel(row: int, column: int, levels: int = 1) -> Bytes:
    changed = draw_photo()
    changed[row, column, 1] ^= levels
    return changed


def blend_halo(pixels: Bytes, mask: Bytes, radius: float) -> Bytes:
    """Another colour inside the mask, blended over its edge."""
    weight = np.asarray(Image.fromarray(mask).filter(ImageFilter.GaussianBlur(radius)))[:, :, None] / 255
    return to_levels(pixels * (1 - weight) + np.array([200, 30, 30]) * weight)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (144, 192), (32, 700)])
def test_a_copy_has_no_changes(size: tuple[int, int]) -> None:
    photo = draw_photo(*size)
    comparison = compare_pixels(photo, photo, make_mask(*size, top=8, left=9, side=12))
    assert (comparison.cause, comparison.shift, comparison.scale) == ("none", (0, 0), 1)


@pytest.mark.parametrize("size", [(32, 32), (144, 192)])
def test_changes_inside_the_mask_are_kept_apart(size: tuple[int, int]) -> None:
    photo, mask = draw_photo(*size), make_mask(*size, top=8, left=9, side=12)
    comparison = compare_pixels(photo, np.where(mask[:, :, None] > 0, 255 - photo, photo), mask)
    assert (comparison.cause, comparison.changed_inside) == ("none", 12 * 12)


@pytest.mark.parametrize(
    ("row", "column", "cause"),
    [(49, 70, "local"), (34, 54, "local"), (113, 133, "local"), (33, 70, "elsewhere"), (143, 191, "elsewhere")],
)
def test_one_changed_pixel_is_found_and_near_is_16_pixels(row: int, column: int, cause: str) -> None:
    comparison = compare_pixels(draw_photo(), change_pixel(row, column))
    assert comparison.bounds_outside == Box(top=row, left=column, bottom=row + 1, right=column + 1)
    assert (comparison.changed_outside, comparison.largest_outside, comparison.cause) == (1, 1, cause)


@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (-2, 0), (0, -2), (3, 3), (-3, 4), (5, -4), (-5, -5), (12, 7)])
@pytest.mark.parametrize("is_saved_as_jpeg", [False, True])
def test_a_shift_is_estimated_to_the_pixel(shift: tuple[int, int], is_saved_as_jpeg: bool) -> None:
    after = shift_photo(*shift)
    comparison = compare_pixels(draw_photo(), save_jpeg(after, 80) if is_saved_as_jpeg else after)
    assert (comparison.cause, comparison.shift, comparison.scale) == ("shifted", shift, 1)


@pytest.mark.parametrize("shift", [(1, 0), (-2, 3), (5, 4)])
def test_a_shift_of_a_tiny_photo_is_estimated(shift: tuple[int, int]) -> None:
    mask = make_mask(32, 32, top=8, left=10, side=10)
    comparison = compare_pixels(draw_photo(32, 32), shift_photo(*shift, 32, 32), mask)
    assert (comparison.cause, comparison.shift) == ("shifted", shift)


def test_a_shift_of_noise_which_has_no_detail_when_shrunk_is_estimated() -> None:
    picture = noise(200, 240)
    comparison = compare_pixels(picture[10:190, 10:230], picture[14:194, 3:223], make_mask(180, 220))
    assert (comparison.cause, comparison.shift) == ("shifted", (7, -4))


@pytest.mark.parametrize("shift", [(0.5, 0.0), (0.0, -1.5), (2.5, 0.5)])
def test_half_pixels_are_estimated(shift: tuple[float, float]) -> None:
    moved = Image.fromarray(draw_photo()).transform(
        (WIDTH, HEIGHT), Image.Transform.AFFINE, (1, 0, -shift[0], 0, 1, -shift[1]), Image.Resampling.BICUBIC
    )
    comparison = compare_pixels(draw_photo(), np.asarray(moved))
    assert (comparison.cause, comparison.shift) == ("shifted", shift)


@pytest.mark.parametrize("scale", [0.95, 0.98, 0.9833333, 0.99, 1.0083333, 1.0166667, 1.02, 1.05])
@pytest.mark.parametrize("resample", [Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
def test_a_scale_about_the_centre_is_estimated(scale: float, resample: Image.Resampling) -> None:
    photo = draw_photo(360, 480)
    comparison = compare_pixels(photo, scale_photo(photo, scale, resample), LARGE_MASK)
    assert comparison.cause == "scaled"
    assert comparison.scale == pytest.approx((round(480 * scale) / 480 + round(360 * scale) / 360) / 2, abs=7e-4)
    assert comparison.shift == pytest.approx((0, 0), abs=0.5)


@pytest.mark.parametrize("scale", [0.98, 1.0166667])
def test_a_scale_about_the_corner_moves_the_centre(scale: float) -> None:
    photo = draw_photo(360, 480)
    after = save_jpeg(scale_photo(photo, scale, Image.Resampling.BICUBIC, is_centred=False), 90)
    comparison = compare_pixels(photo, after, LARGE_MASK)
    assert comparison.cause == "scaled"
    assert comparison.scale == pytest.approx(scale, abs=1e-3)
    assert comparison.shift == pytest.approx((240 * (scale - 1), 180 * (scale - 1)), abs=0.6)


COLOUR_EDITS: dict[str, Edit] = {
    "gain 1.1": lambda pixels: to_levels(pixels * 1.1),
    "gain 0.99": lambda pixels: to_levels(pixels * 0.99),
    "offset 1": lambda pixels: to_levels(pixels + 1.0),
    "tint": lambda pixels: to_levels(pixels + np.array([4.0, 0.0, -6.0])),
    "warm": lambda pixels: to_levels(pixels * np.array([1.05, 1.0, 0.93])),
    "gamma 1.1": lambda pixels: to_levels(255 * (pixels / 255) ** (1 / 1.1)),
    "gamma 0.8": lambda pixels: to_levels(255 * (pixels / 255) ** (1 / 0.8)),
    "contrast": lambda pixels: to_levels(128 + 1.2 * (pixels - 128.0)),
    "saturation": lambda pixels: mix_grey(pixels, 1.3),
    "grey": lambda pixels: mix_grey(pixels, 0.0),
    "tint and JPEG": lambda pixels: save_jpeg(to_levels(pixels + np.array([9.0, 0.0, -9.0])), 90),
}


@pytest.mark.parametrize("edit", COLOUR_EDITS.values(), ids=COLOUR_EDITS.keys())
def test_a_change_of_all_colours_is_told_from_local_changes(edit: Edit) -> None:
    comparison = compare_pixels(draw_photo(), edit(draw_photo()))
    assert (comparison.cause, comparison.shift, comparison.scale) == ("colour", (0, 0), 1)


def test_the_drift_has_the_gain_and_offset_of_each_channel() -> None:
    photo = to_levels(60 + 0.5 * draw_photo())
    drift = compare_pixels(photo, to_levels(photo * np.array([1.1, 1.0, 0.9]) + np.array([0.0, 5.0, 3.0]))).colour_drift
    assert drift is not None
    assert drift.gain == pytest.approx((1.1, 1.0, 0.9), abs=2e-3)
    assert drift.offset == pytest.approx((0.0, 5.0, 3.0), abs=0.3)


@pytest.mark.parametrize("size", [(32, 32), (HEIGHT, WIDTH)])
@pytest.mark.parametrize("quality", [75, 80, 85, 90, 95])
def test_jpeg_is_recognised_at_usual_qualities(size: tuple[int, int], quality: int) -> None:
    photo = draw_photo(*size)
    comparison = compare_pixels(photo, save_jpeg(photo, quality), make_mask(*size, top=8, left=9, side=12))
    assert (comparison.cause, comparison.shift, comparison.scale) == ("recompressed", (0, 0), 1)


def test_jpeg_is_recognised_though_it_keeps_flat_areas() -> None:
    photo = draw_photo()
    photo[:, 60:] = 255
    comparison = compare_pixels(photo, save_jpeg(photo, 85))
    assert comparison.cause == "recompressed"
    assert 0 < (comparison.changed_outside or 0) < 0.5 * photo[:, :, 0].size


OTHER_EDITS: dict[str, tuple[str, Edit]] = {
    "faint noise": ("recompressed", lambda pixels: add_noise(pixels, 2)),
    "strong noise": ("elsewhere", lambda pixels: add_noise(pixels, 30)),
    "slight blur": ("recompressed", lambda pixels: blur(pixels, 0.8)),
    "strong blur": ("elsewhere", lambda pixels: blur(pixels, 8)),
    "sharpened": ("recompressed", lambda pixels: to_levels(2.0 * pixels - blur(pixels, 1))),
    "halo of 2 pixels": ("local", lambda pixels: blend_halo(pixels, MASK, 2)),
    "halo of 5 pixels": ("local", lambda pixels: blend_halo(pixels, MASK, 5)),
    "wide halo": ("elsewhere", lambda pixels: blend_halo(pixels, MASK, 20)),
    "another picture": ("elsewhere", lambda pixels: draw_texture(*MASK.shape, seed=9)),
    "white background": ("elsewhere", lambda pixels: np.where(MASK[:, :, None] > 0, pixels, np.uint8(255))),
    "mirrored": ("elsewhere", lambda pixels: pixels[:, ::-1]),
    "half brighter": ("elsewhere", lambda pixels: np.hstack([to_levels(pixels[:, :96] + 20.0), pixels[:, 96:]])),
    "part blurred": ("elsewhere", lambda pixels: np.hstack([blur(pixels, 3)[:, :40], pixels[:, 40:]])),
}


@pytest.mark.parametrize(("cause", "edit"), OTHER_EDITS.values(), ids=OTHER_EDITS.keys())
def test_other_edits_claim_no_motion(cause: str, edit: Edit) -> None:
    comparison = compare_pixels(draw_photo(), edit(draw_photo()))
    assert (comparison.cause, comparison.shift, comparison.scale) == (cause, (0, 0), 1)


@pytest.mark.parametrize("corner", [(0, 0), (0, WIDTH - 40), (HEIGHT - 40, 0), (HEIGHT - 40, WIDTH - 40)])
def test_a_mask_at_the_border_is_handled(corner: tuple[int, int]) -> None:
    photo, mask = draw_photo(), make_mask(HEIGHT, WIDTH, *corner, side=40)
    assert compare_pixels(photo, blend_halo(photo, mask, 3), mask).cause == "local"
    assert compare_pixels(photo, shift_photo(2, -1), mask).shift == (2, -1)


@pytest.mark.parametrize("level", [0, 255])
def test_masks_without_an_inside_or_an_outside_give_figures(level: int) -> None:
    mask = np.full((HEIGHT, WIDTH), level, np.uint8)
    comparison = compare_pixels(draw_photo(), shift_photo(1, 1), mask)
    assert comparison.cause == ("none" if level else "shifted")


@pytest.mark.parametrize(("after", "cause"), [(100, "none"), (104, "colour"), (180, "colour")])
def test_flat_photos_have_drift_without_gain(after: int, cause: str) -> None:
    flat = np.full((64, 64, 3), 100, np.uint8)
    comparison = compare_pixels(flat, np.full_like(flat, after), make_mask(64, 64))
    assert comparison.cause == cause
    assert comparison.colour_drift is not None and comparison.colour_drift.gain == (1, 1, 1)


def test_a_grey_photo_is_compared_as_colours() -> None:
    photo = np.repeat(draw_photo()[:, :, 1:2], 3, axis=2)
    assert compare_pixels(photo, save_jpeg(photo, 90)).cause == "recompressed"
    assert compare_pixels(photo, to_levels(photo + np.array([5.0, 0.0, 0.0]))).cause == "colour"


@pytest.mark.parametrize("has_alpha", [(True, True), (True, False), (False, True)])
def test_alpha_is_compared_and_a_photo_without_it_is_opaque(has_alpha: tuple[bool, bool]) -> None:
    alphas = np.full((2, HEIGHT, WIDTH), 255, np.uint8)
    alphas[has_alpha, 2:6, 3:10] = 200
    alphas[0, 60, 80] -= 5 * has_alpha[0]
    first, second = (
        Photo(pixels=draw_photo(), alpha=alphas[index].copy() if has_alpha[index] else None) for index in range(2)
    )
    comparison = compare_photos(first, second, MASK)
    check_figures(comparison, np.dstack([draw_photo(), alphas[0]]), np.dstack([draw_photo(), alphas[1]]), MASK)
    assert comparison.changed_alpha_outside == comparison.changed_outside == (0 if all(has_alpha) else 28)
    assert comparison.cause == ("none" if all(has_alpha) else "elsewhere")
    assert comparison.changed_inside == int(has_alpha[0])


def test_photos_of_two_sizes_have_no_other_figures() -> None:
    comparison = compare_photos(Photo(pixels=draw_photo()), Photo(pixels=draw_photo(144, 190)), MASK)
    assert comparison == Comparison(size=(WIDTH, HEIGHT), after_size=(190, HEIGHT), is_same_size=False)


def test_memory_beside_large_photos_is_a_few_bytes_a_pixel() -> None:
    photo = np.tile(draw_texture(512, 512), (6, 8, 1))
    mask = make_mask(photo.shape[0], photo.shape[1], top=900, left=900, side=700)
    photos = Photo(pixels=photo), Photo(pixels=np.roll(photo, (40, -33), axis=(0, 1)))
    tracemalloc.start()
    comparison = compare_photos(*photos, mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert comparison.shift == (-33, 40)
    assert peak < 6 * mask.size + 90 * 2**20  # the constant part: crops, samples and strips of a megapixel


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    photos = {"photo": draw_photo(), "pixel": change_pixel(3, 4, 8), "smaller": draw_photo(144, 190)}
    masks = {"mask": MASK, "inverted": 255 - MASK, "empty": MASK * 0}
    for name, picture in {**photos, **masks}.items():
        (tmp_path / f"{name}.png").write_bytes(to_bytes(picture))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("photo.png -m mask.png", 0),
        ("pixel.png -m mask.png", 1),
        ("pixel.png -m mask.png --tolerance 7", 1),
        ("pixel.png -m mask.png --tolerance 8", 0),
        ("pixel.png -m inverted.png", 0),
        ("pixel.png -m inverted.png --mask-polarity black", 1),
        ("smaller.png -m mask.png --tolerance 255", 1),
    ],
)
@pytest.mark.usefixtures("folder")
def test_the_exit_code_is_whether_the_outside_is_kept(
    capsys: pytest.CaptureFixture[str], words: str, code: int
) -> None:
    assert main(["compare", "photo.png", *words.split()]) == code
    out, err = capsys.readouterr()
    assert ("not kept" in out.splitlines()[-1], err) == (code == 1, "")
    assert main(["compare", "photo.png", *words.split(), "--json"]) == code
    assert json.loads(capsys.readouterr().out)["is_kept"] == (code == 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("photo.png", "there is no mask"),
        ("photo.png -m empty.png", "the mask is empty"),
        ("photo.png -m smaller.png", "the mask is 190x144 pixels"),
        ("missing.png -m mask.png", "missing.png"),
        ("photo.png -m mask.png --tolerance -1", "tolerance"),
        ("photo.png -m mask.png --mask-polarity alpha", "no transparency"),
        ("", "Missing argument"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_an_unusable_input_is_exit_code_2(capsys: pytest.CaptureFixture[str], words: str, message: str) -> None:
    assert main(["compare", "photo.png", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, message in err) == ("", True)


@pytest.mark.usefixtures("folder")
def test_the_report_and_the_json_object_have_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "photo.png", "pixel.png", "--mask", "mask.png"]
    main(words)
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "size       192x144 pixels, 8.33% in the mask",
        "outside    1 of 25344 pixels changed, at most 8 levels, 0.000105 on average",
        "           from x 4, y 3 to x 4, y 3",
        "inside     0 pixels changed, 0 levels on average",
        "motion     +0 pixels to the right, +0 down; scale 1.0000",
        out.splitlines()[5],
        "cause      elsewhere: there are changes away from the mask",
        "result     not kept: a pixel outside the mask changed by more than 0 levels",
    ]
    main([*words, "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert figures["bounds_outside"] == {"top": 3, "left": 4, "bottom": 4, "right": 5}
    assert (figures["size"], figures["cause"], figures["tolerance"]) == ([192, 144], "elsewhere", 0)
    assert (figures["changed_outside"], figures["largest_outside"], figures["shift"]) == (1, 8, [0, 0])
    assert set(Comparison.__dataclass_fields__) | {"tolerance", "is_kept"} == set(figures)
