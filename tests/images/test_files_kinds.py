"""Formats that are read for all purposes, names of those that are not, limits, and damage."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import load_photo
from alterbute.images.arrays import MAX_PIXELS, MAX_SIDE
from alterbute.images.files.decode import decode, decode_levels
from alterbute.images.files.header import read_header
from alterbute.images.files.read_source import MAX_FILE_BYTES
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.picture_files import ramps, write_png, write_tiff
from tests.support.pictures import needs_pillow_13, noise, png_claiming, to_bytes

HEIC = (Path(__file__).parent / "files" / "orientation_6.heic").read_bytes()


@pytest.mark.parametrize("format", ["BMP", "GIF"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_bmp_and_gif_are_exact(format: str, mode: str) -> None:
    image = Image.fromarray(noise(40, 48)).convert(mode)
    data = to_bytes(image, format)
    with Image.open(io.BytesIO(data)) as again:
        wanted = np.asarray(again.convert("RGB"))
    assert np.array_equal(load_photo(data).pixels, wanted)
    assert np.array_equal(decode(data, "reference").pixels, wanted)
    header = read_header(data)
    assert header is not None
    assert (header.format, header.width, header.height) == (format, 48, 40)


def test_a_bmp_from_top_to_bottom_is_upright() -> None:
    data = to_bytes(noise(40, 48), "BMP")
    flipped = data[:22] + struct.pack("<i", -40) + data[26:]
    assert np.array_equal(load_photo(flipped).pixels, load_photo(data).pixels[::-1])


def test_a_gif_whose_frame_does_not_fill_its_canvas_is_refused_and_so_is_an_animation() -> None:
    data = to_bytes(Image.fromarray(noise(40, 48)).convert("P"), "GIF")
    with pytest.raises(InputError, match="covers a part of its canvas of 100x90") as caught:
        load_photo(data[:6] + struct.pack("<HH", 100, 90) + data[10:])
    assert caught.value.code == "photo_layout"
    frames = [Image.fromarray(noise(40, 48, seed=seed)).convert("P") for seed in range(3)]
    with pytest.raises(InputError, match="animation of 3 frames"):
        load_photo(to_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:]))


NAMES = {
    "is empty": b"",
    "a JPEG XL file": b"\xff\x0a\0\0",
    "a JPEG 2000 file": b"\0\0\0\x0cjP  \r\n\x87\n",
    r"a Photoshop file \(PSD\)": b"8BPS\0\1",
    r"camera RAW file \(CR3\)": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    r"camera RAW file \(RAF\)": b"FUJIFILMCCD-RAW 0201",
    r"camera RAW file \(ORF\)": b"IIRO\x08\0\0\0",
    r"camera RAW file \(RW2\)": b"IIU\0\x18\0\0\0",
    "an SVG drawing": b"<?xml version='1.0'?>\n<svg xmlns='x'/>",
    "a PDF document": b"%PDF-1.7",
    "an EPS or PostScript file": b"%!PS-Adobe-3.0 EPSF-3.0",
    "an icon file": b"\0\0\1\0\1\0",
    "a Netpbm file": b"P6\n4 4\n255\n",
    "an OpenEXR file": b"\x76\x2f\x31\x01",
    "a Radiance HDR file": b"#?RADIANCE\n",
    r"a video \(MP4 or MOV\)": b"\0\0\0\x18ftypisom\0\0\0\0isommp42",
    r"a video \(WebM": b"\x1a\x45\xdf\xa3",
    "a ZIP archive or an office document": b"PK\3\4\x14\0",
    "a web page: the download probably failed": b"\n<!DOCTYPE html><html>",
    "an XML text": b"<?xml version='1.0'?><error/>",
    "a TIFF file whose header is cut": b"II*\0\x08",
    "a HEIF file of a kind": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "which is no supported picture format": b"hello, I am a photo",
}


@pytest.mark.parametrize("name", NAMES)
def test_other_files_are_refused_by_their_name(name: str) -> None:
    with pytest.raises(InputError, match=name) as caught:
        load_photo(NAMES[name])
    assert caught.value.code == "photo_not_an_image"
    with pytest.raises(InputError, match=name):
        decode_levels(NAMES[name], "mask")


def test_the_advice_fits_the_purpose() -> None:
    with pytest.raises(InputError, match="save it as an 8-bit PNG"):
        decode_levels(b"\xff\x0a\0\0", "mask")
    with pytest.raises(InputError, match="profileToProfile"):
        load_photo(to_bytes(Image.new("CMYK", (48, 40)), "JPEG"))


def test_limits_are_those_of_100_megapixels() -> None:
    assert (MAX_PIXELS, MAX_SIDE, MAX_FILE_BYTES) == (100_000_000, 16384, 800_000_000 + (4 << 20))
    with pytest.raises(InputError, match="truncated"):
        load_photo(png_claiming(16384, 6103))
    with pytest.raises(InputError, match="16384x6104"):
        load_photo(png_claiming(16384, 6104))
    with pytest.raises(InputError, match="16385x40"):
        load_photo(png_claiming(16385, 40))


@pytest.mark.parametrize("format", ["PNG", pytest.param("TIFF", marks=needs_pillow_13), "GIF", "BMP"])
def test_a_large_picture_within_the_limits_gives_no_warning(format: str) -> None:
    picture = Image.new("1", (9500, 9500))
    data = to_bytes(picture, format, **({"compression": "group4"} if format == "TIFF" else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not decode_levels(data, "mask").luminance.any()
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(data)).load()


IMAGE = Image.fromarray(noise(33, 35))
SAMPLES = {
    "png": to_bytes(IMAGE),
    "png 16": write_png(ramps(33, 35, 3)),
    "jpeg": to_bytes(IMAGE, "JPEG"),
    "webp": to_bytes(IMAGE, "WEBP", lossless=True),
    "avif": to_bytes(IMAGE, "AVIF"),
    "heic": HEIC,
    "tiff": to_bytes(IMAGE, "TIFF"),
    "tiff 16": write_tiff(ramps(33, 35, 3), compression=8),
    "tiff lzw": to_bytes(IMAGE, "TIFF", compression="tiff_lzw"),
    "bmp": to_bytes(IMAGE, "BMP"),
    "gif": to_bytes(IMAGE, "GIF"),
}
CHECKED = ("png", "png 16")


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cut_and_flipped_files_never_do_worse_than_an_input_error(name: str, data: st.DataObject) -> None:
    file = bytearray(SAMPLES[name])
    for _ in range(data.draw(st.integers(0, 3))):
        file[data.draw(st.integers(0, len(file) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    spoilt = bytes(file[: data.draw(st.integers(0, len(file)) | st.just(len(file)))])
    for param in ("photo", "mask"):
        try:
            if param == "photo":
                pixels = load_photo(spoilt).pixels
                if name in CHECKED:
                    assert np.array_equal(pixels, load_photo(SAMPLES[name]).pixels)
            else:
                decode_levels(spoilt, "mask")
        except InputError as fault:
            assert "\n" not in str(fault)


@pytest.mark.parametrize("name", SAMPLES)
def test_no_file_of_which_half_is_missing_is_taken(name: str) -> None:
    for share in (0.05, 0.3, 0.6):
        with pytest.raises(InputError):
            load_photo(SAMPLES[name][: int(len(SAMPLES[name]) * share)])


@given(st.binary(max_size=80), st.sampled_from([data[:size] for data in SAMPLES.values() for size in (12, 40, 120)]))
def test_the_header_parser_never_raises(tail: bytes, start: bytes) -> None:
    read_header(start + tail)
