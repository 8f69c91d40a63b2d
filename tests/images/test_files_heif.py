"""AVIF and HEIC: upright once, of 8 bits, one picture.

`orientation_1.heic` to `orientation_8.heic` were written by pillow-heif from one scene; each has its EXIF orientation also in the boxes
`irot` and `imir`, as iPhones write it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import load_photo
from alterbute.images.files.decode import decode_levels
from alterbute.images.files.header import read_header
from alterbute.images.photo import Bytes, Pixels
from PIL import Image

from tests.support.pictures import noise, to_bytes

FILES = Path(__file__).parent / "files"
TURNS = [None, None, 0, 3, 1, 5, 4, 6, 2]


def scene() -> Bytes:
    """Red, green and blue in three corners of grey."""
    pixels = np.full((48, 64, 3), 128, np.uint8)
    pixels[:16, :21], pixels[:16, -21:], pixels[-16:, :21] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    return pixels


def corners(pixels: Pixels) -> str:
    """Names of the colours in the four corners."""
    spots = [pixels[y, x].astype(int) for y in (4, -5) for x in (4, -5)]
    return "".join("RGB"[int(spot.argmax())] if spot.max() - spot.min() > 90 else "." for spot in spots)


def upright_corners(orientation: int) -> str:
    turn = TURNS[orientation]
    image = Image.fromarray(scene())
    return corners(np.asarray(image if turn is None else image.transpose(Image.Transpose(turn))))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_is_upright_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Camera"
    data = to_bytes(scene(), "AVIF", exif=exif, quality=90)
    assert corners(load_photo(data).pixels) == upright_corners(orientation)
    header = read_header(data)
    assert header is not None
    assert (header.format, header.width, header.height, header.bits) == ("AVIF", 64, 48, 8)
    assert bool(header.quarter_turns & 1) == (orientation >= 5)


def test_the_exif_orientation_of_an_avif_without_boxes_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0128] = 6
    data = to_bytes(scene(), "AVIF", exif=exif, quality=90)
    assert data.count(b"\x28\x01\x03\x00") + data.count(b"\x01\x28\x00\x03") == 1
    data = data.replace(b"\x28\x01\x03\x00", b"\x12\x01\x03\x00").replace(b"\x01\x28\x00\x03", b"\x01\x12\x00\x03")
    assert corners(load_photo(data).pixels) == upright_corners(1)


def test_an_avif_states_its_colour_by_code_points_or_by_a_profile() -> None:
    data = to_bytes(scene(), "AVIF", quality=90)
    at = data.index(b"nclx")
    header = read_header(data[: at + 4] + bytes([0, 12, 0, 13]) + data[at + 8 :])
    assert header is not None and header.cicp is not None
    assert (header.cicp.primaries, header.cicp.transfer, header.cicp.is_full_range) == (12, 13, True)
    profile = read_header(to_bytes(scene(), "AVIF", icc_profile=bytes(200)))
    assert profile is not None and profile.cicp is None


def test_avif_of_ten_bits_and_a_sequence_are_refused() -> None:
    data = to_bytes(scene(), "AVIF", quality=90)
    at = data.index(b"av1C") + 6
    with pytest.raises(InputError, match="10 bits"):
        load_photo(data[:at] + bytes([data[at] | 0x40]) + data[at + 1 :])
    with pytest.raises(InputError, match="image sequence"):
        load_photo(to_bytes(scene(), "AVIF", save_all=True, append_images=[Image.fromarray(noise(48, 64))]))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_avif_photos_and_masks_of_every_mode_are_read(mode: str) -> None:
    image = Image.fromarray(scene()).convert(mode)
    if mode == "RGBA":
        image.putalpha(200)
    data = to_bytes(image, "AVIF", quality=95)
    photo = load_photo(data)
    assert (photo.alpha is not None) == (mode == "RGBA")
    assert (
        np.abs(photo.pixels.astype(int).mean(axis=(0, 1)) - np.asarray(image.convert("RGB")).mean(axis=(0, 1))).max()
        < 6
    )
    assert decode_levels(data, "mask").is_lossy


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_is_upright_once(orientation: int) -> None:
    pytest.importorskip("pi_heif")
    data = (FILES / f"orientation_{orientation}.heic").read_bytes()
    assert b"Exif" in data
    assert corners(load_photo(data).pixels) == upright_corners(orientation)


def test_the_primary_heic_is_taken_with_its_own_size_and_transparency() -> None:
    pytest.importorskip("pi_heif")
    photo = load_photo(FILES / "second_is_primary_and_odd.heic")
    assert photo.pixels.shape == (49, 65, 3)
    assert photo.pixels.any()
    alpha = load_photo(FILES / "alpha.heic").alpha
    assert alpha is not None
    assert abs(float(alpha.mean()) - 200) < 2
    assert decode_levels(FILES / "alpha.heic", "mask").is_lossy


def test_a_heic_of_ten_bits_is_refused_as_a_photo_by_its_header() -> None:
    with pytest.raises(InputError, match="10 bits"):
        load_photo(FILES / "ten_bits.heic")


@pytest.mark.parametrize(
    ("name", "size"), [("orientation_6", (64, 48)), ("second_is_primary_and_odd", (65, 49)), ("ten_bits", (64, 48))]
)
def test_the_header_of_a_heic_is_read_without_the_package(name: str, size: tuple[int, int]) -> None:
    header = read_header((FILES / f"{name}.heic").read_bytes())
    assert header is not None
    assert (header.format, header.width, header.height) == ("HEIC", *size)
    assert header.bits == (10 if name == "ten_bits" else 8)


def test_without_the_package_a_heic_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(InputError, match=r"a HEIC file \(iPhone\).*pip install 'alterbute\[heif\]'"):
        load_photo(FILES / "orientation_1.heic")


@pytest.mark.parametrize(("name", "text"), [("orientation_1.heic", b"Exif"), ("alpha.heic", b"urn:")])
def test_a_heic_whose_texts_are_no_utf8_is_refused(name: str, text: bytes) -> None:
    """pi-heif 1.4 ends the process in a segmentation fault when it reads such a type of an item."""
    data = (FILES / name).read_bytes()
    damaged = data.replace(text, text[:1] + b"\xc7" + text[2:], 1)
    assert damaged != data
    assert read_header(damaged) is None
    with pytest.raises(InputError, match="damaged"):
        load_photo(damaged)


def test_the_pixels_of_a_heic_outlive_its_decoder() -> None:
    pytest.importorskip("pi_heif")
    photos = [load_photo(FILES / f"orientation_{orientation}.heic") for orientation in range(1, 9) for _ in range(3)]
    assert {corners(photo.pixels) for photo in photos[::3]} == {upright_corners(turn) for turn in range(1, 9)}
    for first, second, third in zip(photos[::3], photos[1::3], photos[2::3], strict=True):
        assert np.array_equal(first.pixels, second.pixels) and np.array_equal(first.pixels, third.pixels)
