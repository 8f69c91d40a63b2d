"""TIFF gives the file's own levels, or is refused by the name of what it is; RAW files are never taken for their thumbnails."""

from __future__ import annotations

import io
import struct
from typing import Any, Literal

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import load_photo
from alterbute.images.files.decode import decode, decode_levels
from alterbute.images.files.header import read_header
from alterbute.images.photo import to_8_bits
from PIL import Image

from tests.support.picture_files import ramps, write_tiff
from tests.support.pictures import needs_pillow_13, noise, to_bytes

TURNS = [None, None, 0, 3, 1, 5, 4, 6, 2]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("compression", "predictor"), [(1, 1), (8, 1), (8, 2)])
@pytest.mark.parametrize(("channels", "extra"), [(1, None), (3, None), (4, 2), (4, 0)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_levels_are_exact(
    kind: Any, channels: int, extra: int | None, compression: int, predictor: int, order: Literal["<", ">"]
) -> None:
    levels = ramps(45, 37, channels, kind)
    data = write_tiff(levels, order=order, compression=compression, predictor=predictor, extra=extra)
    photo = load_photo(data)
    assert photo.pixels.dtype == kind
    assert np.array_equal(photo.pixels, levels[:, :, None].repeat(3, 2) if channels == 1 else levels[:, :, :3])
    # An unspecified channel is no transparency.
    assert (photo.alpha is not None) == (extra == 2)
    if photo.alpha is not None:
        assert np.array_equal(photo.alpha, levels[:, :, 3])
    reference = decode(data, "reference").pixels
    assert np.array_equal(reference, to_8_bits(photo.pixels))


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd", None])
@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_pillows_own_tiffs_are_exact(mode: str, compression: str | None) -> None:
    image = Image.fromarray(noise(40, 48, 4)).convert("RGB" if mode == "P" else "RGBA").convert(mode)
    photo = load_photo(to_bytes(image, "TIFF", compression=compression))
    assert np.array_equal(photo.pixels, np.asarray(image.convert("RGBA"))[:, :, :3])
    assert (photo.alpha is not None) == (mode in ("LA", "RGBA"))


@needs_pillow_13
def test_bilevel_fax_and_bigtiff_are_read() -> None:
    image = Image.fromarray(noise(40, 48)).convert("1")
    for options in ({"compression": "group4"}, {"compression": "group3"}, {"big_tiff": True}):
        assert np.array_equal(
            load_photo(to_bytes(image, "TIFF", **options)).pixels, np.asarray(image.convert("RGB"))
        ), options


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_white_as_zero_is_inverted(kind: Any) -> None:
    levels = ramps(45, 37, 1, kind)
    assert np.array_equal(load_photo(write_tiff(levels, photometric=0)).pixels[:, :, 0], np.invert(levels))
    if kind == np.uint16:
        with pytest.raises(InputError, match="0 is white"):
            load_photo(write_tiff(levels, photometric=0, order=">"))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_upright_once(orientation: int, kind: Any) -> None:
    levels = ramps(45, 37, 3, kind)
    data = write_tiff(levels, tags=((274, 3, orientation),))
    high = Image.fromarray((levels >> 8 if kind == np.uint16 else levels).astype(np.uint8))
    turn = TURNS[orientation]
    upright = np.asarray(high if turn is None else high.transpose(Image.Transpose(turn)))
    photo = load_photo(data)
    assert np.array_equal(photo.pixels >> 8 if kind == np.uint16 else photo.pixels, upright)
    assert photo.orientation == orientation
    for source in (data, Image.open(io.BytesIO(data))):
        colors = decode_levels(source, "mask").colors
        assert colors is not None
        assert np.array_equal(colors, upright)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_premultiplied_colours_are_taken_only_where_nothing_is_transparent(kind: Any) -> None:
    levels = ramps(45, 37, 4, kind)
    levels[:, :, 3] = np.iinfo(kind).max
    assert np.array_equal(load_photo(write_tiff(levels, extra=1)).pixels, levels[:, :, :3])
    levels[3, 3, 3] -= 1
    with pytest.raises(InputError, match="associated alpha"):
        load_photo(write_tiff(levels, extra=1))


GREY, RGB = ramps(45, 37, 1, np.uint8), ramps(45, 37, 3, np.uint8)
MAKE = (271, 1, 83)
REFUSED = {
    "pages": (write_tiff(RGB, pages=3), "photo_animated", "TIFF of 3 pages"),
    "float": (write_tiff(GREY.astype(np.float32)), "photo_bit_depth", "floating-point"),
    "signed": (write_tiff(GREY, tags=((339, 3, 2),)), "photo_bit_depth", "signed"),
    "cmyk": (to_bytes(Image.new("CMYK", (48, 40)), "TIFF"), "photo_colour_model", "CMYK"),
    "lab": (to_bytes(Image.new("LAB", (48, 40)), "TIFF"), "photo_colour_model", "LAB"),
    "ycbcr": (to_bytes(Image.new("YCbCr", (48, 40)), "TIFF"), "photo_colour_model", "YCbCr"),
    "16-bit planes": (write_tiff(ramps(45, 37, 3), tags=((284, 3, 2),)), "photo_bit_depth", "separate planes"),
    "16-bit grey and alpha": (write_tiff(ramps(45, 37, 2), extra=2), "photo_bit_depth", "2 channels"),
    "32 bits": (write_tiff(GREY.astype(np.uint32)), "photo_bit_depth", "32 bits"),
    "unmarked channels": (write_tiff(ramps(45, 37, 2, np.uint8)), "photo_layout", "2 channels"),
    "compression": (write_tiff(RGB, tags=((259, 3, 34661),)), "photo_layout", "compression 34661"),
    "two widths": (write_tiff(RGB).replace(b"\1\1\4\0", b"\0\1\4\0", 1), "photo_not_an_image", "cut or damaged"),
    "DNG": (write_tiff(RGB, tags=((50706, 1, 1),)), "photo_not_an_image", r"camera RAW file \(DNG\)"),
    "CFA": (write_tiff(GREY, photometric=32803), "photo_not_an_image", "camera RAW"),
    "a thumbnail first": (write_tiff(RGB, tags=((254, 4, 1), MAKE)), "photo_not_an_image", "camera RAW"),
    "a hidden picture": (write_tiff(RGB, tags=(MAKE, (330, 4, 8))), "photo_not_an_image", "camera RAW"),
    "CR2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "photo_not_an_image", r"camera RAW file \(CR2\)"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_pillow_13) if name == "ycbcr" else name for name in REFUSED]
)
def test_what_would_not_be_exact_is_refused_by_name(name: str) -> None:
    data, code, words = REFUSED[name]
    with pytest.raises(InputError, match=words) as caught:
        load_photo(data)
    assert caught.value.code == code


UNSAFE = {
    "tiles": write_tiff(RGB, tags=((322, 4, 16),)),
    "jpeg": to_bytes(Image.fromarray(RGB), "TIFF", compression="jpeg"),
    "group4": to_bytes(Image.fromarray(GREY).convert("1"), "TIFF", compression="group4"),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_a_pillow_that_would_read_beyond_its_memory_is_not_given_the_file(name: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("PIL.__version__", "12.3.0")
    with pytest.raises(InputError, match=r"Pillow 12\.3\.0 does not read safely.*pillow>=13") as caught:
        load_photo(UNSAFE[name])
    assert caught.value.code == "photo_layout"
    assert np.array_equal(load_photo(to_bytes(Image.fromarray(RGB), "TIFF", compression="tiff_lzw")).pixels, RGB)


@pytest.mark.parametrize("pointer", [None, 34665, 34853])
def test_tags_that_share_their_bytes_are_refused_before_they_are_read(pointer: int | None) -> None:
    tags = tuple((40000 + index, 1, 100) for index in range(50))
    data = write_tiff(RGB, tags=tags if pointer is None else ((pointer, 4, 8),))
    if pointer is not None:
        at = len(data) + len(data) % 2
        data = data.replace(struct.pack("<HHII", pointer, 4, 1, 8), struct.pack("<HHII", pointer, 4, 1, at)).ljust(
            at, b"\0"
        )
        entries = b"".join(struct.pack("<HHII", tag, kind, 4000, 8) for tag, kind, _ in tags)
        data += struct.pack("<H", len(tags)) + entries + bytes(4)
    else:
        for tag, kind, value in tags:
            data = data.replace(struct.pack("<HHII", tag, kind, 1, value), struct.pack("<HHII", tag, kind, 4000, 8))
    with pytest.raises(InputError, match="cut or damaged"):
        load_photo(data)


def test_a_photo_with_its_camera_and_a_thumbnail_behind_it_is_no_raw_file() -> None:
    assert load_photo(write_tiff(RGB, tags=(MAKE,))).width == 37
    two = write_tiff(RGB, pages=2, tags=((254, 4, 0),))
    at = two.rindex(b"\xfe\0\4\0\1\0\0\0")
    assert load_photo(two[: at + 8] + b"\1\0\0\0" + two[at + 12 :]).width == 37


def test_a_directory_that_leads_to_itself_ends() -> None:
    data = write_tiff(RGB)
    header = read_header(data[:-4] + data[4:8] if data.endswith(bytes(4)) else data)
    assert header is None or header.num_frames == 1
