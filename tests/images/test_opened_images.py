"""An image of `PIL.Image.open` that is not loaded is read as its file; one that is loaded is the caller's pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import load_mask, load_photo, load_reference
from alterbute.images.photo import Bytes
from PIL import Image, ImageFile

from tests.support.pictures import make_mask, noise, to_bytes

PIXELS = noise(96, 128)
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")


def encode(format: str) -> bytes:
    picture = Image.fromarray(PIXELS)
    if format == "WEBP":
        return to_bytes(picture, format, lossless=True)
    return to_bytes(picture.convert("P") if format == "GIF" else picture, format)


def decoded(data: bytes) -> Bytes:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("format", FORMATS)
def test_an_image_stays_usable_and_its_file_where_it_was(format: str, tmp_path: Path) -> None:
    data = encode(format)
    file = io.BytesIO(data)
    image = Image.open(file)
    at = file.tell()
    assert np.array_equal(load_photo(image).pixels, decoded(data))
    assert file.tell() == at
    assert np.array_equal(np.asarray(image.convert("RGB")), decoded(data))
    assert np.array_equal(load_photo(image).pixels, decoded(data))  # now it is loaded
    path = tmp_path / "picture"
    path.write_bytes(data)
    with Image.open(path) as opened:
        path.rename(tmp_path / "elsewhere")
        assert np.array_equal(load_photo(opened).pixels, decoded(data))


@pytest.mark.parametrize("format", ("PNG", "JPEG", "TIFF", "BMP", "GIF"))
@pytest.mark.parametrize("is_lenient", [False, True])
def test_an_image_of_a_cut_file_is_refused(format: str, is_lenient: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", is_lenient)
    data = encode(format)
    # A TIFF's directory is at its end or its start.
    cut = data[: len(data) * 6 // 10]
    for use in (load_photo, load_reference):
        with pytest.raises(InputError, match="truncated"):
            use(Image.open(io.BytesIO(cut)))
        with pytest.raises(InputError, match="truncated"):
            use(cut)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is is_lenient


def test_a_mask_that_is_opened_is_read_as_its_file() -> None:
    mask = to_bytes(make_mask(96, 128))
    at = mask.index(b"IDAT") + 10
    flipped = mask[:at] + bytes([mask[at] ^ 1]) + mask[at + 1 :]
    photo = load_photo(PIXELS)
    assert load_mask(Image.open(io.BytesIO(mask)), photo).any()
    with pytest.raises(InputError, match=r"damaged|truncated"):
        load_mask(Image.open(io.BytesIO(flipped)), photo)


@pytest.mark.parametrize("format", (*FORMATS, "PPM"))
def test_an_image_whose_file_is_closed_is_taken_where_it_is_loaded_and_refused_where_not(
    format: str, tmp_path: Path
) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encode(format))
    with Image.open(path) as loaded:
        loaded.load()
    assert np.array_equal(load_photo(loaded).pixels, decoded(path.read_bytes()))
    with Image.open(path) as closed:
        pass
    with pytest.raises(InputError, match="file is closed") as caught:
        load_photo(closed)
    assert caught.value.code == "photo_unreadable"


def test_an_image_whose_file_has_changed_is_refused() -> None:
    for other in (to_bytes(noise(50, 50)), b"", b"text" * 1000, to_bytes(PIXELS, "BMP")):
        file = io.BytesIO(to_bytes(PIXELS))
        image = Image.open(file)
        file.seek(0)
        file.truncate()
        file.write(other)
        with pytest.raises(InputError, match="changed since it was opened"):
            load_photo(image)


def test_what_the_caller_changed_before_loading_counts() -> None:
    data = to_bytes(PIXELS, "JPEG")
    draft = Image.open(io.BytesIO(data))
    draft.draft("RGB", (64, 48))
    assert load_photo(draft).pixels.shape == (48, 64, 3)
    tagged = Image.open(io.BytesIO(to_bytes(PIXELS, icc_profile=b"no profile")))
    assert load_photo(tagged).warnings
    tagged = Image.open(io.BytesIO(to_bytes(PIXELS, icc_profile=b"no profile")))
    del tagged.info["icc_profile"]
    assert not load_photo(tagged).warnings
    with pytest.raises(InputError, match="truncated"):
        cut = Image.open(io.BytesIO(data[:-200]))
        cut.draft("RGB", (64, 48))
        load_photo(cut)


def test_each_picture_of_an_mpo_file_can_be_chosen() -> None:
    file = io.BytesIO()
    second = Image.fromarray(noise(96, 128, seed=4))
    Image.fromarray(PIXELS).save(file, "MPO", save_all=True, append_images=[second])
    image = Image.open(io.BytesIO(file.getvalue()))
    assert image.format == "MPO"
    for number in (0, 1, 0):
        image.seek(number)
        again = Image.open(io.BytesIO(file.getvalue()))
        again.seek(number)
        assert np.array_equal(load_photo(image).pixels, np.asarray(again))
