"""A WebP that is cut anywhere is refused, or has all of its pixels, whatever its headers then state."""

from __future__ import annotations

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import load_photo

from tests.support.jpeg_files import picture
from tests.support.pictures import noise, to_bytes

_OPAQUE = picture(96, 128, 0, 8)
_CUT_OUT = np.dstack([_OPAQUE, noise(96, 128, 1)[:, :, 0] // 2 + 100])
FILES = {
    "lossy": to_bytes(_OPAQUE, "WEBP", quality=80),
    "lossy, of one colour": to_bytes(np.full_like(_OPAQUE, 90), "WEBP", quality=80),
    "lossless": to_bytes(_OPAQUE, "WEBP", lossless=True),
    "lossy with alpha": to_bytes(_CUT_OUT, "WEBP", quality=80),
    "lossless with alpha": to_bytes(_CUT_OUT, "WEBP", lossless=True),
    "with metadata": to_bytes(_CUT_OUT, "WEBP", quality=80, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0", xmp=b"<x/>"),
}


def with_size(data: bytes) -> bytes:
    """The file with its own size in its first header."""
    return data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]


def with_sizes(data: bytes) -> bytes:
    """The same, and in its last chunk the number of bytes that are there."""
    at = 12
    while (end := at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")) < len(data) - 8:
        at = end + (end & 1)
    return with_size(data[: at + 4] + (len(data) - at - 8).to_bytes(4, "little") + data[at + 8 :])


@pytest.mark.parametrize("name", FILES)
def test_a_cut_webp_is_refused_or_whole(name: str) -> None:
    data = FILES[name]
    whole = load_photo(data)
    cuts = {*np.linspace(21, len(data) - 1, 100).astype(int).tolist(), *range(max(21, len(data) - 40), len(data))}
    for size in sorted(cuts):
        cut = data[:size]
        with pytest.raises(InputError):
            load_photo(cut)
        for bent in (with_size(cut), with_sizes(cut)):
            try:
                taken = load_photo(bent)
            except InputError:
                continue
            assert np.array_equal(taken.pixels, whole.pixels), (size, len(data))
            if whole.alpha is None or taken.alpha is None:
                assert taken.alpha is whole.alpha
            else:
                assert np.array_equal(taken.alpha, whole.alpha)


def test_a_chunk_of_pixels_that_reaches_beyond_the_file_is_refused_by_that() -> None:
    for kind, name in (("VP8 ", "lossy"), ("VP8L", "lossless"), ("ALPH", "lossy with alpha")):  # codespell:ignore alph
        data = FILES[name]
        at = data.index(kind.encode(), 12) + 4
        for size in (len(data), 1 << 31):
            with pytest.raises(InputError, match=r"truncated"):
                load_photo(data[:at] + size.to_bytes(4, "little") + data[at + 4 :])
