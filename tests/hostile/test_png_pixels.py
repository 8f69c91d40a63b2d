"""A PNG is taken only when its file holds every pixel that its header promises."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import load_photo
from alterbute.images.files.canvas import make_planes
from alterbute.images.files.header import read_header
from alterbute.images.files.png.png_chunks import read_png
from alterbute.images.files.png.png_pixels import fill_from_png
from alterbute.images.photo import Bytes
from PIL import Image

from tests.support.pictures import noise, png_chunk, to_bytes

PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def is_whole(data: bytes) -> bool:
    header = read_header(data)
    assert header is not None
    try:
        png = read_png(data, header)
        fill_from_png(png, make_planes((header.width, header.height), has_alpha=png.has_alpha), 1)
    except OSError:
        return False
    return True


def interlaced(pixels: Bytes) -> bytes:
    """HW3 as an Adam7 PNG, which Pillow reads and does not write."""
    height, width = pixels.shape[:2]
    raw = b"".join(
        b"\0" + line.tobytes()
        for left, top, right, down in PASSES
        for line in pixels[top::down, left::right]
        if line.size
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(raw))
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (101, 32)])
def test_every_kind_of_whole_png_is_taken_and_none_that_is_cut(mode: str, size: tuple[int, int]) -> None:
    data = to_bytes(Image.fromarray(noise(*size)).convert(mode))
    assert is_whole(data)
    for share in (0.3, 0.6, 0.9):
        cut = data[: int(len(data) * share)]
        assert not is_whole(cut)
        with pytest.raises(InputError, match="truncated"):
            load_photo(cut)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (40, 35)])
def test_an_interlaced_png_is_taken_whole(size: tuple[int, int]) -> None:
    pixels = noise(*size)
    data = interlaced(pixels)
    assert np.array_equal(load_photo(data).pixels, pixels)
    at = data.index(b"IDAT") + 4
    short = zlib.compress(zlib.decompress(data[at : data.index(b"IEND") - 8])[:-1])
    assert not is_whole(data[: at - 8] + png_chunk(b"IDAT", short) + png_chunk(b"IEND", b""))


def test_pixels_that_are_missing_in_silence_are_not_taken_as_black() -> None:
    good = to_bytes(noise(480, 640))
    at = good.index(b"IDAT")
    for name, data in {
        "text": good[: at - 4] + png_chunk(b"IDAT", b"not zlib") + png_chunk(b"IEND", b""),
        "a length beyond the end": good[: at - 4] + struct.pack(">I", 0x7FFFFFFF) + good[at:],
        "no pixels": good[: at - 4] + png_chunk(b"IEND", b""),
    }.items():
        with pytest.raises(InputError):
            load_photo(data)
        assert not is_whole(data), name


def test_pixels_in_many_chunks_are_whole_and_bytes_after_the_end_do_not_matter() -> None:
    data = to_bytes(noise(400, 400))
    at = data.index(b"IDAT")
    packed = zlib.compress(b"".join(b"\0" + line.tobytes() for line in noise(400, 400)))
    pieces = b"".join(png_chunk(b"IDAT", packed[start : start + 1000]) for start in range(0, len(packed), 1000))
    assert is_whole(data[: at - 4] + pieces + png_chunk(b"IEND", b""))
    assert is_whole(data + bytes(1 << 20))
    assert is_whole(data[:-4])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_the_stand_in_has_all_that_is_told_of_the_pixels(mode: str) -> None:
    picture = Image.fromarray(noise(33, 47)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = to_bytes(picture, exif=exif, icc_profile=b"profile", compress_level=9)
    header = read_header(data)
    assert header is not None
    png = read_png(data, header)
    with Image.open(io.BytesIO(png.stand_in)) as again, Image.open(io.BytesIO(data)) as original:
        assert again.mode == original.mode
        assert again.getexif()[0x0112] == 6
        assert again.info["icc_profile"] == b"profile"
        assert again.getpalette() == original.getpalette()
