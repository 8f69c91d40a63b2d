"""A TIFF whose strips hold fewer bytes than it has pixels is refused, also where its decoder would not notice."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import load_photo
from PIL import Image

from tests.support.jpeg_files import picture
from tests.support.pictures import needs_pillow_13, to_bytes


def change(data: bytes, tag: int, value: int, number: int = -1) -> bytes:
    """A little-endian TIFF with another value of a tag, or of one of its values."""
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        name, kind, length = struct.unpack_from("<HHI", data, entry)
        if name == tag:
            size = 2 if kind == 3 else 4
            place = entry + 8 if size * length <= 4 else struct.unpack_from("<I", data, entry + 8)[0]
            place += (number % length) * size
            return data[:place] + value.to_bytes(size, "little") + data[place + size :]
    raise ValueError(tag)


@pytest.mark.parametrize(
    "packing", ["raw", pytest.param("jpeg", marks=needs_pillow_13), "tiff_lzw", "tiff_adobe_deflate", "packbits"]
)
def test_a_tiff_of_short_strips_is_refused(packing: str) -> None:
    whole = to_bytes(picture(96, 128, 0, 8), "TIFF", compression=packing)
    with Image.open(io.BytesIO(whole)) as image:
        last = image.tag_v2[279][-1]  # type: ignore[attr-defined]
        assert np.array_equal(load_photo(whole).pixels, np.asarray(image))
    for share in (1, 30, 60, 90):
        with pytest.raises(InputError, match=r"truncated|damaged"):
            load_photo(change(whole, 279, last * share // 100))
    with pytest.raises(InputError, match=r"truncated|damaged"):
        load_photo(change(whole, 257, 120))


@pytest.mark.parametrize("packing", ["tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "lzma"])
@pytest.mark.parametrize("strip", [0, -1])
def test_a_tiff_whose_strip_ends_in_zeros_is_refused(packing: str, strip: int) -> None:
    whole = to_bytes(picture(160, 200, 0, 8), "TIFF", compression=packing, strip_size=40 * 200 * 3)
    pixels = load_photo(whole).pixels
    with Image.open(io.BytesIO(whole)) as image:
        tags = image.tag_v2  # type: ignore[attr-defined]
        assert len(tags[273]) > 1
        start, size = tags[273][strip], tags[279][strip]
    for share in range(5, 100, 5):
        zeros = size * share // 100
        cut = whole[: start + size - zeros] + bytes(zeros) + whole[start + size :]
        try:
            assert np.array_equal(load_photo(cut).pixels, pixels), share
        except InputError:
            continue


def test_a_strip_whose_checksum_is_zero_is_inflated_for_it() -> None:
    whole = to_bytes(picture(40, 56, 0, 8), "TIFF", compression="tiff_adobe_deflate")
    with Image.open(io.BytesIO(whole)) as image:
        (start,), (size,) = image.tag_v2[273], image.tag_v2[279]  # type: ignore[attr-defined]
    # Zeros behind the code, which belong to the strip: some writers fill strips up.
    strip = whole[start : start + size]
    for end in (b"", bytes(8)):
        moved = change(change(whole + strip + end, 273, len(whole)), 279, size + len(end))
        assert np.array_equal(load_photo(moved).pixels, load_photo(whole).pixels)
        with pytest.raises(InputError, match="damaged"):
            load_photo(moved[: len(whole)] + strip[:-4] + bytes(4) + end)
