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
from tests.support.pictures import to_bytes


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


@pytest.mark.parametrize("packing", ["raw", "jpeg", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
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
