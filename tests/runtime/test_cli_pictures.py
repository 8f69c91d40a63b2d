"""The command line with pictures of other depths, colours and metadata: `edit`, `mask` and `compare`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from alterbute.cli import main
from alterbute.images import Photo, compare_photos, load_photo, save_photo
from alterbute.images.color.icc_profile import (
    D65,
    SRGB_PRIMARIES,
    gamma_curve,
    make_profile,
)
from alterbute.images.metadata import Metadata, read_provenance

from tests.support.pictures import make_mask, noise
from tests.support.profiles import P3, SRGB

GAMMA_18 = make_profile("Gamma 1.8", SRGB_PRIMARIES, D65, gamma_curve(1.8))
METADATA = Metadata(dpi=(300.0, 300.0), texts={"Copyright": "me", "Comment": "private"})
HEIGHT, WIDTH = 70, 90


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: a photo of 8 and one of 16 bits, both in Display P3 with metadata, and a mask."""
    monkeypatch.chdir(tmp_path)
    pixels, mask = noise(HEIGHT, WIDTH), make_mask(HEIGHT, WIDTH)
    save_photo(Photo(pixels=pixels, icc=P3), "photo.png", METADATA)
    save_photo(Photo(pixels=pixels.astype(np.uint16) * 257, icc=P3), "deep.tif", METADATA)
    save_photo(Photo(pixels=np.repeat(mask[:, :, None], 3, axis=2)), "mask.png")
    yield tmp_path


def edit(photo: str, output: str, *words: str) -> int:
    fixed = ["--mask", "mask.png", "--prompt", "color: red", "--steps", "1", "--seed", "1", "--quiet"]
    return main(["edit", photo, *fixed, "--output", output, *words])


@pytest.mark.parametrize("photo", ["photo.png", "deep.tif"])
@pytest.mark.parametrize("output", ["out.png", "out.tif"])
def test_depth_profile_and_safe_metadata_stay(folder: Path, photo: str, output: str) -> None:
    assert edit(photo, output) == 0
    before, after = load_photo(photo), load_photo(output)
    assert (after.bits, after.icc) == (before.bits, P3)
    is_outside = make_mask(HEIGHT, WIDTH) == 0
    assert np.array_equal(after.pixels[is_outside], before.pixels[is_outside])
    assert not np.array_equal(after.pixels, before.pixels)
    assert after.metadata.dpi == pytest.approx((300, 300), abs=0.1)
    assert b"private" not in Path(output).read_bytes()
    origin = read_provenance(after.metadata)
    assert origin is not None and origin["prompt"] == "color: red"
    assert main(["compare", photo, output, "--mask", "mask.png"]) == 0


def test_metadata_and_provenance_are_options(folder: Path) -> None:
    assert edit("photo.png", "kept.png", "--metadata", "keep", "--no-provenance") == 0
    kept = load_photo("kept.png").metadata
    assert kept.texts["Comment"] == "private"
    assert read_provenance(kept) is None
    assert edit("photo.png", "bare.png", "--metadata", "strip", "--no-provenance") == 0
    assert load_photo("bare.png").metadata.dpi is None
    assert load_photo("bare.png").icc == P3


def test_16_bits_in_a_webp_are_refused_before_any_work(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edit("deep.tif", "out.webp") == 2
    assert "16 bits" in capsys.readouterr().err
    assert not Path("out.webp").exists()
    assert edit("deep.tif", "out.png", "--detail", "model") == 2
    assert "detail = photo" in capsys.readouterr().err
    assert not Path("out.png").exists()


def test_sheets_of_16_bits_are_drawn(folder: Path) -> None:
    assert edit("deep.tif", "out.png", "--sheet", "sheet.png") == 0
    assert main(["mask", "deep.tif", "--mask", "mask.png", "--sheet", "mask_sheet.png"]) == 0
    assert load_photo("sheet.png").width == load_photo("mask_sheet.png").width


def test_another_profile_is_not_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = load_photo("photo.png")
    for icc, code in ((P3, 0), (None, 1), (GAMMA_18, 1)):
        save_photo(Photo(pixels=photo.pixels, icc=icc), "after.png")
        assert main(["compare", "photo.png", "after.png", "--mask", "mask.png"]) == code
        assert ("profile    differs" in capsys.readouterr().out) == bool(code)
    # A profile of sRGB means the same as none.
    plain = Photo(pixels=photo.pixels)
    assert compare_photos(plain, Photo(pixels=photo.pixels, icc=SRGB), make_mask(HEIGHT, WIDTH)).is_same_profile


def test_16_bits_are_compared_in_16(folder: Path) -> None:
    deep, mask = load_photo("deep.tif"), make_mask(HEIGHT, WIDTH)
    changed = deep.pixels.copy()
    changed[0, 0, 1] ^= 1
    comparison = compare_photos(deep, Photo(pixels=changed, icc=P3), mask)
    assert (comparison.bits, comparison.changed_outside, comparison.largest_outside) == (16, 1, 1)
    # The same levels with 8 bits are equal.
    equal = compare_photos(deep, Photo(pixels=deep.to_8_bits().pixels, icc=P3), mask)
    assert (equal.bits, equal.changed_outside) == (16, 0)
