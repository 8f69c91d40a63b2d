"""Promises of picture intake: what is accepted keeps its pixels, and masks mean what the user meant."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import Photo, PictureSource, Polarity, encode, load_mask, load_photo, load_reference, save
from alterbute.images.files.header import read_header
from alterbute.images.output.encode_photo import Format
from alterbute.images.photo import Bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tests.support.pictures import noise, to_bytes

PHOTO = Photo(pixels=noise(40, 48))


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_path_bytes_pillow_and_array_give_the_same_photo(tmp_path: Path, format: str) -> None:
    pixels = noise(40, 48)
    image = Image.fromarray(pixels)
    data = to_bytes(image, format, lossless=True)
    (tmp_path / "photo").write_bytes(data)
    for source in (data, tmp_path / "photo", str(tmp_path / "photo"), image, pixels):
        assert np.array_equal(load_photo(source).pixels, pixels)


def test_an_array_changed_later_does_not_change_the_photo() -> None:
    pixels = noise(40, 48)
    photo = load_photo(pixels)
    before = photo.pixels.copy()
    pixels[:] = 0
    assert np.array_equal(photo.pixels, before)
    with pytest.raises(ValueError, match="read-only"):
        photo.pixels[0, 0] = 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_exactly_once(orientation: int) -> None:
    stored = Image.fromarray(noise(40, 48))
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = load_photo(to_bytes(stored, exif=exif))
    exif[0x0112] = 1
    turns = [None, None, 0, 3, 1, 5, 4, 6, 2]
    turn = turns[orientation]
    upright = stored if turn is None else stored.transpose(Image.Transpose(turn))
    assert np.array_equal(photo.pixels, np.asarray(upright))
    assert np.array_equal(load_photo(encode(photo.to_pil())).pixels, photo.pixels)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_broken_exif_does_not_cost_the_photo(exif: bytes) -> None:
    assert load_photo(to_bytes(Image.fromarray(noise(40, 48)), "JPEG", exif=exif)).width == 48


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_every_8_bit_mode_decodes_to_its_own_colours(mode: str) -> None:
    image = Image.fromarray(noise(40, 48, 4)).convert("RGB" if mode == "P" else "RGBA").convert(mode)
    photo = load_photo(to_bytes(image))
    assert np.array_equal(photo.pixels, np.asarray(image.convert("RGBA"))[:, :, :3])
    assert (photo.alpha is not None) == (mode in ("LA", "RGBA"))


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_alpha_and_the_colours_under_it_survive_a_round_trip(format: Format) -> None:
    planes = noise(40, 48, 4)
    planes[:20, :, 3] = 0
    photo = load_photo(encode(load_photo(Image.fromarray(planes)).to_pil(), format))
    assert photo.alpha is not None
    assert np.array_equal(np.dstack((photo.pixels, photo.alpha)), planes)


def test_colour_profile_is_kept_and_a_broken_or_huge_one_dropped() -> None:
    sound = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile, kept in ((sound, sound), (b"x" * 200, None), (sound + b"\0" * (1 << 20), None)):
        photo = load_photo(to_bytes(Image.fromarray(noise(40, 48)), "JPEG", icc_profile=profile))
        assert photo.icc == kept
        assert load_photo(encode(photo.to_pil())).icc == kept


def test_metadata_is_not_carried_to_the_output() -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    photo = load_photo(to_bytes(Image.fromarray(noise(40, 48)), "JPEG", exif=exif))
    assert b"home" not in encode(photo.to_pil())


def test_a_camera_jpeg_with_a_second_picture_is_a_photo() -> None:
    first, second = Image.fromarray(noise(40, 48)), Image.fromarray(noise(40, 48, seed=1))
    data = to_bytes(first, "MPO", save_all=True, append_images=[second])
    alone = load_photo(to_bytes(first, "JPEG")).pixels
    assert np.array_equal(load_photo(data).pixels, alone)
    assert np.array_equal(load_photo(Image.open(io.BytesIO(data))).pixels, alone)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (Image.open(io.BytesIO(to_bytes(noise(40, 48))[:2000])), "photo_undecodable"),
        (Image.new("CMYK", (48, 40)), "photo_colour_model"),
        (Image.new("I", (48, 40)), "photo_bit_depth"),
        (Image.new("F", (48, 40)), "photo_bit_depth"),
        (Image.new("RGB", (48, 31)), "photo_size_out_of_limits"),
        (np.zeros((40, 48, 3), np.float32), "photo_bad_array"),
        (np.zeros((40, 48, 3), np.int16), "photo_bad_array"),
        (np.zeros((3, 40, 48), np.uint8), "photo_bad_array"),
        (np.zeros((0, 0, 3), np.uint8), "photo_size_out_of_limits"),
        (None, "photo_type"),
        ("a\0b", "photo_unreadable"),
    ],
)
def test_what_a_program_passes_wrongly_is_refused_by_name(source: PictureSource, code: str) -> None:
    with pytest.raises(InputError) as caught:
        load_photo(source)
    assert caught.value.code == code


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_no_damaged_file_does_worse_than_an_input_error(format: str, data: st.DataObject) -> None:
    file = bytearray(to_bytes(Image.fromarray(noise(33, 35)), format))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, min(len(file) - 1, 400)))] = data.draw(st.integers(0, 255))
    cut = bytes(file[: data.draw(st.integers(0, len(file)))])
    try:
        photo = load_photo(cut)
    except InputError as fault:
        assert "\n" not in str(fault)
    else:
        assert photo.pixels.shape[2] == 3


@given(
    st.binary(max_size=64),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff", b"RIFF0000WEBPVP8X"]),
)
def test_the_header_parser_never_raises(tail: bytes, magic: bytes) -> None:
    read_header(magic + tail)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_the_header_parser_agrees_with_pillow(format: str, lossless: bool, mode: str) -> None:
    if format == "JPEG" and mode == "RGBA":
        return
    image = Image.fromarray(noise(57, 91, 4)).convert(mode)
    header = read_header(to_bytes(image, format, lossless=lossless, progressive=lossless))
    assert header is not None
    assert (header.format, header.width, header.height, header.bits) == (format, 91, 57, 8)


def painted(object_value: int, rest: int) -> Bytes:
    mask = np.full((40, 48), rest, np.uint8)
    mask[10:20, 10:30] = object_value
    return mask


def rgba(object_alpha: int, rest_alpha: int, object_value: int = 0, rest: int = 0) -> Bytes:
    grey = painted(object_value, rest)
    return np.dstack((grey, grey, grey, painted(object_alpha, rest_alpha)))


@pytest.mark.parametrize(
    ("source", "polarity"),
    [
        (painted(255, 0), "auto"),
        (painted(128, 127), "auto"),
        (painted(127, 0), "auto"),
        (painted(200, 140), "auto"),
        (painted(255, 0).astype(np.float32) / 255, "auto"),
        (painted(1, 0)[None].astype(bool), "auto"),
        (painted(7, 0)[:, :, None].astype(np.int32), "auto"),
        (rgba(255, 0), "auto"),
        (rgba(255, 0, object_value=255, rest=255), "auto"),
        (rgba(255, 0, object_value=0, rest=255), "opaque"),
        (painted(1, 0), "auto"),
        (painted(1, 0).astype(bool), "auto"),
        (painted(0, 255), "black"),
        (rgba(0, 255), "auto"),
        (rgba(0, 255, object_value=0, rest=255), "alpha"),
        (rgba(255, 255, object_value=255), "auto"),
        (rgba(255, 0, object_value=255, rest=255), "white"),
        (rgba(255, 0, object_value=0, rest=0), "black"),
        (Image.fromarray(painted(255, 0)).convert("1"), "auto"),
        (to_bytes(Image.fromarray(painted(255, 0)), "WEBP", lossless=True), "auto"),
    ],
)
def test_a_mask_marks_the_object_in_every_convention(source: Bytes, polarity: Polarity) -> None:
    assert np.array_equal(load_mask(source, PHOTO, polarity), painted(255, 0))


def test_a_rotated_photo_takes_a_mask_of_its_displayed_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = load_photo(to_bytes(Image.fromarray(noise(48, 40)), "JPEG", exif=exif))
    assert load_mask(painted(255, 0), photo).shape == (photo.height, photo.width)


@pytest.mark.parametrize(
    ("source", "polarity", "code"),
    [
        (None, "auto", "mask_missing"),
        (painted(0, 0), "auto", "mask_empty"),
        (painted(127, 0), "white", "mask_empty"),
        (painted(255, 255), "auto", "mask_full"),
        (rgba(0, 0), "alpha", "mask_full"),
        (rgba(0, 0), "auto", "mask_empty"),
        (np.stack([painted(1, 0)] * 3), "auto", "mask_bad_array"),
        (np.dstack([noise(40, 48), painted(0, 255)])[::-1, :25].repeat(2, 1)[:, :48], "auto", "mask_ambiguous"),
        (painted(255, 0).T.copy(), "auto", "mask_size"),
        (painted(255, 0), "alpha", "mask_without_alpha"),
        (painted(255, 0).astype(np.float32), "auto", "mask_bad_array"),
    ],
)
def test_a_mask_that_cannot_be_meant_is_refused(source: Bytes | None, polarity: Polarity, code: str) -> None:
    with pytest.raises(InputError) as caught:
        load_mask(source, PHOTO, polarity)
    assert caught.value.code == code


def test_a_reference_shows_its_object_by_mask_by_alpha_or_whole() -> None:
    pixels = noise(40, 48)
    assert load_reference(pixels)[1].all()
    cut_out = np.dstack((pixels, painted(255, 0)))
    assert np.array_equal(load_reference(cut_out)[1], painted(255, 0))
    assert np.array_equal(load_reference(pixels, painted(255, 0))[1], painted(255, 0))
    with pytest.raises(InputError, match="empty"):
        load_reference(np.dstack((pixels, painted(0, 0))))
    with pytest.raises(InputError, match="48x40"):
        load_reference(pixels, painted(255, 0).T.copy())


def test_a_large_reference_is_shrunk_and_a_thin_object_stays() -> None:
    pixels = np.full((3100, 2100, 3), 7, np.uint8)
    mask = np.zeros((3100, 2100), np.uint8)
    mask[:, 1000] = 255
    small, shown = load_reference(pixels, mask)
    assert small.shape == (1033, 700, 3)
    assert (small == 7).all()
    assert shown.any(axis=1).all()
    assert shown.any(axis=0).sum() == 1


def test_a_failed_save_leaves_the_old_file_and_no_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.png"
    target.write_bytes(b"old")

    def refuse(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(InputError, match="No space left"):
        save(PHOTO.to_pil(), target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
