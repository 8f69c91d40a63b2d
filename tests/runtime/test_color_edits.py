"""Edits of photos with a profile, 16 bits or transparency: the background is exact, and the object looks as in sRGB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alterbute import Editor, EditResult
from alterbute.errors import InputError
from alterbute.images import Photo, PictureSource, load_photo
from alterbute.images.color import from_srgb, to_srgb
from alterbute.images.metadata import Metadata, read_provenance
from alterbute.images.photo import Bytes, Pixels, to_8_bits
from PIL import Image

from tests.support.profiles import ADOBE, P3

SAMPLE = Path(__file__).parents[2] / "engines" / "demo" / "sample"
PROMPT = "color: blue"


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.open()


@pytest.fixture(scope="module")
def sample() -> tuple[Bytes, Bytes]:
    return np.asarray(Image.open(SAMPLE / "photo.png").convert("RGB")), np.asarray(
        Image.open(SAMPLE / "mask.png").convert("L")
    )


def edit(editor: Editor, photo: PictureSource, mask: Bytes | None, **options: Any) -> EditResult:
    return editor.edit(photo, mask, PROMPT, seed=1, steps=4, **options)


@pytest.mark.parametrize("detail", ["photo", "model"])
@pytest.mark.parametrize("icc", [P3, ADOBE], ids=["P3", "Adobe RGB"])
def test_a_photo_of_another_space_is_edited_as_in_srgb(
    editor: Editor, sample: tuple[Bytes, Bytes], icc: bytes, detail: str
) -> None:
    pixels, mask = sample
    photo = Photo(pixels=from_srgb(pixels, icc), icc=icc)
    plain, managed = (edit(editor, source, mask, detail=detail) for source in (pixels, photo))
    assert managed.photo.icc == icc
    assert np.array_equal(managed.pixels[mask == 0], photo.pixels[mask == 0])
    inside = mask >= 128
    difference = np.abs(to_srgb(managed.pixels, icc).astype(int) - plain.pixels)[inside]
    assert difference.mean() < 0.8
    # Read as if it were sRGB, the edit would be another colour.
    naive = edit(editor, photo.pixels, mask, detail=detail)
    assert np.abs(naive.pixels.astype(int) - managed.pixels)[inside].mean() > 2 * difference.mean()


@pytest.mark.parametrize("icc", [None, P3, ADOBE], ids=["sRGB", "P3", "Adobe RGB"])
def test_16_bits_stay_16_bits(editor: Editor, sample: tuple[Bytes, Bytes], icc: bytes | None) -> None:
    pixels, mask = sample
    fine = pixels.astype(np.uint16) * 257
    fine += np.random.default_rng(0).integers(0, 100, fine.shape, np.uint16) * (fine < 65000)
    photo = Photo(pixels=from_srgb(fine, icc), icc=icc)
    result = edit(editor, photo, mask)
    assert result.pixels.dtype == np.uint16
    assert np.array_equal(result.pixels[mask == 0], photo.pixels[mask == 0])
    # The edit of the photo with 8 bits, within a level where its levels are equal.
    coarse = edit(editor, Photo(pixels=to_8_bits(photo.pixels), icc=icc), mask)
    difference = np.abs(to_8_bits(result.pixels).astype(int) - coarse.pixels)[mask > 0]
    assert np.percentile(difference, 99) <= (1 if icc is None else 3)
    low_bytes = result.pixels[mask >= 128] & 255
    assert len(np.unique(low_bytes)) > 200  # not 8-bit levels stretched to 16
    with pytest.raises(InputError, match="16 bits") as caught:
        edit(editor, photo, mask, detail="model")
    assert caught.value.code == "detail_depth"
    with pytest.raises(InputError, match="16 bits per channel"):
        result.image  # noqa: B018


def test_equal_levels_give_the_8_bit_edit_within_a_level(editor: Editor, sample: tuple[Bytes, Bytes]) -> None:
    pixels, mask = sample
    coarse, fine = (edit(editor, source, mask) for source in (pixels, pixels.astype(np.uint16) * 257))
    assert np.abs(to_8_bits(fine.pixels).astype(int) - coarse.pixels).max() <= 1


def cut_outs(pixels: Bytes, alpha: Bytes) -> list[Pixels]:
    """The photo with alpha, and different colours under its transparent pixels."""
    hidden = [pixels] + [np.full_like(pixels, color) for color in ((0, 0, 0), (255, 255, 255), (255, 0, 255))]
    return [np.dstack([np.where(alpha[:, :, None] == 0, color, pixels), alpha]) for color in hidden]


@pytest.mark.parametrize("mask_grows", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_hidden_colours_reach_no_visible_pixel(
    editor: Editor, sample: tuple[Bytes, Bytes], bits: int, mask_grows: bool
) -> None:
    pixels, mask = sample
    # A soft edge, and a mask that covers transparent pixels, too.
    alpha = np.asarray(Image.fromarray(mask).resize((40, 30)).resize(mask.shape[::-1], Image.Resampling.BILINEAR))
    own_mask = np.where(np.asarray(Image.fromarray(alpha).resize((20, 15)).resize(mask.shape[::-1])) > 0, 255, 0)
    scale = np.uint8(1) if bits == 8 else np.uint16(257)
    results = [
        edit(editor, source * scale, own_mask.astype(np.uint8) if mask_grows else None, rim=4)
        for source in cut_outs(pixels, alpha)
    ]
    visible = alpha > 0
    for result in results[1:]:
        assert np.array_equal(result.pixels[visible], results[0].pixels[visible])
    assert np.array_equal(results[0].pixels[:, :, 3], alpha * scale)
    assert (results[0].alpha[visible] > 0).any()


def test_hidden_colours_of_a_reference_reach_nothing(editor: Editor, sample: tuple[Bytes, Bytes]) -> None:
    pixels, mask = sample
    references = cut_outs(np.ascontiguousarray(pixels[:, ::-1]), np.ascontiguousarray(mask[:, ::-1]))
    whole = np.full_like(mask, 255)
    for reference_mask in (None, whole):
        results = [
            edit(editor, pixels, mask, reference=source, reference_mask=reference_mask).pixels for source in references
        ]
        assert all(np.array_equal(result, results[0]) for result in results[1:])


def test_the_result_is_saved_with_colour_metadata_and_provenance(
    editor: Editor, sample: tuple[Bytes, Bytes], tmp_path: Path
) -> None:
    pixels, mask = sample
    metadata = Metadata(dpi=(300.0, 300.0), texts={"Copyright": "\u6625", "Comment": "private"})
    photo = Photo(pixels=from_srgb(pixels, P3), icc=P3, metadata=metadata)
    result = edit(editor, photo, mask)
    for name in ("a.png", "a.tif", "a.webp"):
        saved = load_photo(result.save(tmp_path / name))
        assert np.array_equal(saved.pixels, result.pixels)
        assert saved.icc == P3
        origin = read_provenance(saved.metadata)
        assert origin is not None
        assert (origin["bundle"], origin["prompt"], origin["seed"]) == ("alterbute-demo", PROMPT, 1)
        assert origin["bundle_sha256"] == editor.bundle.sha256
    saved = load_photo(tmp_path / "a.png")
    assert saved.metadata.dpi == pytest.approx((300, 300), abs=0.1)
    assert saved.metadata.texts["Copyright"] == "\u6625"
    assert "Comment" not in saved.metadata.texts
    kept = load_photo(result.save(tmp_path / "b.png", metadata="keep", provenance=False))
    assert kept.metadata.texts["Comment"] == "private"
    assert read_provenance(kept.metadata) is None
    bare = load_photo(result.save(tmp_path / "c.png", metadata="strip", provenance=False)).metadata
    assert (bare.exif, bare.xmp, bare.dpi, dict(bare.texts)) == (None, None, None, {})
    again = edit(editor, photo, mask)
    assert again.save(tmp_path / "d.png").read_bytes() == (tmp_path / "a.png").read_bytes()
