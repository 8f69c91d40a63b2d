"""Colour tags of files: which profile they give, which are kept, and which are refused."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import Photo, encode_photo, load_photo
from alterbute.images.color import to_srgb
from alterbute.images.color.icc_profile import (
    ADOBE_RGB_PRIMARIES,
    D65,
    SRGB_PRIMARIES,
    color_model,
    find_tag,
    gamma_curve,
    make_profile,
)
from PIL import Image, ImageCms

from tests.support.picture_files import write_png
from tests.support.pictures import noise, png_chunk
from tests.support.profiles import ADOBE, P3, SRGB

ADOBE_POINTS = (D65, *ADOBE_RGB_PRIMARIES)
SRGB_POINTS = (D65, *SRGB_PRIMARIES)


def chromaticities(points: tuple[tuple[float, float], ...]) -> bytes:
    return struct.pack(">8I", *(round(100_000 * value) for point in points for value in point))


def png_with(**chunks: bytes) -> bytes:
    extra = b"".join(png_chunk(name.encode(), data) for name, data in chunks.items())
    return write_png(noise(40, 48), 8, extra=extra)


def exif_of(space: int, index: bytes | None) -> bytes:
    """EXIF as cameras write it: a colour space in the Exif table, and an interoperability index in a table of its own."""
    entries = struct.pack(">HHII", 0xA001, 3, 1, space << 16)
    interop = b""
    if index is not None:
        start = 8 + 2 + 12 + 4 + 2 + 24 + 4
        entries += struct.pack(">HHII", 0xA005, 4, 1, start)
        interop = struct.pack(">HHHI4sI", 1, 1, 2, 4, index + b"\0", 0)
    count = len(entries) // 12
    first = struct.pack(">HHHIII", 1, 0x8769, 4, 1, 26, 0)
    return b"Exif\0\0MM\0*\0\0\0\x08" + first + struct.pack(">H", count) + entries + b"\0\0\0\0" + interop


def jpeg_with(**options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(40, 48)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def primaries_of(profile: bytes | None) -> bytes | None:
    """The red colorant and the red curve of a profile; None for sRGB."""
    return None if profile is None else (find_tag(profile, b"rXYZ") or b"") + (find_tag(profile, b"rTRC") or b"")


GAMMA_18 = (100_000 * 10 // 18).to_bytes(4)
KEPT = {
    "P3 by cICP": (png_with(cICP=b"\x0c\x0d\0\1"), P3, (b"cICP",)),
    "sRGB by cICP": (png_with(cICP=b"\x01\x0d\0\1"), None, (b"cICP",)),
    "cICP before sRGB": (png_with(sRGB=b"\0", cICP=b"\x0c\x0d\0\1"), P3, (b"cICP",)),
    "sRGB": (png_with(sRGB=b"\0", gAMA=(45455).to_bytes(4)), None, (b"sRGB", b"gAMA")),
    "gamma and primaries of sRGB": (
        png_with(gAMA=(45455).to_bytes(4), cHRM=chromaticities(SRGB_POINTS)),
        None,
        (b"gAMA", b"cHRM"),
    ),
    "primaries of Adobe RGB": (
        png_with(gAMA=(45472).to_bytes(4), cHRM=chromaticities(ADOBE_POINTS)),
        make_profile("", ADOBE_RGB_PRIMARIES, D65, gamma_curve(1 / 0.45472)),
        (b"gAMA", b"cHRM"),
    ),
    "gamma alone": (
        png_with(gAMA=GAMMA_18),
        make_profile("", SRGB_PRIMARIES, D65, gamma_curve(1 / 0.55555)),
        (b"gAMA",),
    ),
    "no tags": (png_with(), None, ()),
    "primaries on a line": (png_with(cHRM=chromaticities((D65, (0.3, 0.3), (0.3, 0.3), (0.3, 0.3)))), None, (b"cHRM",)),
}


@pytest.mark.parametrize("name", KEPT)
def test_the_tags_of_a_png_give_a_profile_and_are_written_again(name: str) -> None:
    data, profile, chunks = KEPT[name]
    photo = load_photo(data)
    assert primaries_of(photo.icc) == primaries_of(profile)
    assert tuple(chunk for chunk, _ in photo.color_chunks) == chunks
    again = load_photo(encode_photo(photo))
    assert again.color_chunks == photo.color_chunks
    assert again.icc == photo.icc
    # A format without such chunks gets the profile.
    assert load_photo(encode_photo(photo, "TIFF")).icc == photo.icc
    assert load_photo(encode_photo(photo, "WEBP")).icc == photo.icc


@pytest.mark.parametrize(
    ("chunk", "word"), [(b"\x09\x10\0\1", "PQ"), (b"\x09\x12\0\1", "HLG"), (b"\x09\x0b\0\1", "9/11")]
)
def test_hdr_and_unknown_code_points_are_refused_by_name(chunk: bytes, word: str) -> None:
    with pytest.raises(InputError, match=word):
        load_photo(png_with(cICP=chunk))


def test_a_damaged_colour_chunk_is_refused() -> None:
    data = bytearray(png_with(gAMA=GAMMA_18))
    data[data.index(b"gAMA") + 5] ^= 1
    with pytest.raises(InputError, match="checksum"):
        load_photo(bytes(data))


def test_adobe_rgb_that_only_exif_marks_becomes_a_profile() -> None:
    for space, index in ((65535, b"R03"), (2, None)):
        assert primaries_of(load_photo(jpeg_with(exif=exif_of(space, index))).icc) == primaries_of(ADOBE)
    for space, index in ((1, b"R98"), (1, None)):
        assert load_photo(jpeg_with(exif=exif_of(space, index))).icc is None
    # A profile takes precedence over EXIF.
    assert load_photo(jpeg_with(exif=exif_of(65535, b"R03"), icc_profile=P3)).icc == P3


def test_an_exif_that_names_no_space_gives_a_warning() -> None:
    photo = load_photo(jpeg_with(exif=exif_of(65535, None)))
    assert photo.icc is None
    assert "read as sRGB" in photo.warnings[0]


def grey_profile(curve: bytes) -> bytes:
    """A grey profile, made of an RGB one: its first curve gets the name `kTRC`."""
    profile = bytearray(make_profile("grey", SRGB_PRIMARIES, D65, curve).replace(b"rTRC", b"kTRC"))
    profile[16:20] = b"GRAY"
    return bytes(profile)


@pytest.mark.parametrize("exponent", [1.8, 2.2])
def test_a_grey_profile_becomes_an_rgb_profile_of_the_same_look(exponent: float) -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8)[None, :], 40, axis=0)
    grey, buffer = grey_profile(gamma_curve(exponent)), io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG", icc_profile=grey)
    photo = load_photo(buffer.getvalue())
    assert photo.icc is not None and color_model(photo.icc) == "RGB"
    srgb = ImageCms.ImageCmsProfile(io.BytesIO(SRGB))
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(grey)), srgb, "L", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
    )
    shown = np.asarray(ImageCms.applyTransform(Image.fromarray(levels), transform))
    # littlecms rounds grey and RGB transforms differently.
    assert np.abs(shown.astype(int) - to_srgb(photo.pixels, photo.icc)).max() <= 1


def test_a_profile_that_does_not_fit_is_left_out_with_a_warning() -> None:
    grey = grey_profile(gamma_curve(2.2))
    for profile, word in ((grey, "GRAY"), (b"x" * 200, "damaged"), (P3[:-8], "damaged")):
        photo = load_photo(jpeg_with(icc_profile=profile))
        assert photo.icc is None
        assert word in photo.warnings[0] and photo.warnings[0].startswith("photo: ")


def test_a_profile_without_a_way_back_is_refused() -> None:
    # Input profiles of cameras have tables in one direction only.
    one_way = bytearray(P3)
    for name in (b"rTRC", b"gTRC", b"bTRC"):
        one_way = one_way.replace(name, b"zTRC")
    with pytest.raises(InputError, match="colour profile") as caught:
        load_photo(Photo(pixels=noise(40, 48), icc=bytes(one_way)))
    assert caught.value.code == "photo_profile"
