"""Small parts without end: a picture of more segments, scans, chunks, blocks or tags than its size needs is refused before they are walked."""

from __future__ import annotations

import resource
import struct
import time
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import load_photo
from alterbute.images.files.gif_header import drop_texts
from alterbute.images.files.header import read_header
from PIL import Image

from tests.support.jpeg_files import END
from tests.support.pictures import noise, png_chunk, to_bytes

PIXELS = noise(64, 64)


def bombs(size: int) -> Iterator[tuple[str, bytes]]:
    """(name, file) of about `size` bytes, all of which are refused."""
    yield from _jpeg_bombs(size)
    yield from _png_bombs(size)
    yield from _gif_bombs(size)
    yield from _tiff_bombs(size)
    webp = to_bytes(PIXELS, "WEBP", lossless=True)
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (63).to_bytes(3, "little") * 2
    for body in (
        extended + webp[12:] + b"abcd\0\0\0\0" * (size // 8),
        extended + b"abcd\0\0\0\0" * (size // 8) + webp[12:],
    ):
        yield "WebP chunks", b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    avif = to_bytes(PIXELS, "AVIF")
    at = avif.index(b"meta") - 4
    end = at + int.from_bytes(avif[at : at + 4])
    free = b"\0\0\0\x08free" * (size // 8)
    yield "AVIF boxes", avif[:at] + free + avif[at:]
    yield (
        "AVIF boxes in its meta box",
        avif[:at] + (end - at + len(free)).to_bytes(4) + avif[at + 4 : end] + free + avif[end:],
    )


def _jpeg_bombs(size: int) -> Iterator[tuple[str, bytes]]:
    whole = to_bytes(PIXELS, "JPEG")
    progressive = to_bytes(PIXELS, "JPEG", progressive=True)
    scan, last = whole.index(b"\xff\xda"), progressive.rindex(b"\xff\xda")
    yield "fill bytes", b"\xff\xd8" + b"\xff" * size + whole[2:]
    yield "fill bytes before the end", whole[:-2] + b"\xff" * size + b"\xd9"
    yield "empty segments", b"\xff\xd8" + b"\xff\xfe\0\2" * (size // 4) + whole[2:]
    yield "empty segments behind the frame", whole[:scan] + b"\xff\xe5\0\2" * (size // 4) + whole[scan:]
    yield "scans", progressive[:-2] + progressive[last:-2] * (size // (len(progressive) - 2 - last)) + END
    yield "scans of no code", progressive[:-2] + b"\xff\xda\0\x08\1\1\0\1\x3f\0\0" * (size // 11) + END
    yield "restart markers", whole[:-2] + b"\xff\xd0" * (size // 2) + END
    yield (
        "restart markers of an interval",
        whole[:scan] + b"\xff\xdd\0\4\0\1" + whole[scan:-2] + b"\xff\xd0\xff\xd1" * (size // 4) + END,
    )
    yield "stuffed bytes", whole[:-2] + b"\xff\0" * (size // 2) + END
    yield "zeros", whole[:-2] + bytes(size) + END


def _png_bombs(size: int) -> Iterator[tuple[str, bytes]]:
    whole = to_bytes(PIXELS)
    at, end = whole.index(b"IDAT") - 4, len(whole) - 12
    for name, body in ((b"prIv", b""), (b"IDAT", b""), (b"tEXt", b"a\0b"), (b"fdAT", b"")):
        chunks = png_chunk(name, body) * (size // (12 + len(body)))
        yield f"{name.decode()} chunks before the pixels", whole[:at] + chunks + whole[at:]
        yield f"{name.decode()} chunks behind the pixels", whole[:end] + chunks + whole[end:]
    packed = zlib.compress(noise(1024, size // 13 // 1024 + 1, 1).tobytes(), 0)
    bytewise = b"".join(png_chunk(b"IDAT", packed[number : number + 1]) for number in range(size // 13))
    yield "a chunk to a byte", whole[:at] + bytewise + whole[end:]
    yield (
        "more lines than the header's",
        whole[:at] + png_chunk(b"IDAT", zlib.compress(bytes(10 * size), 9)) + whole[end:],
    )


def _gif_bombs(size: int) -> Iterator[tuple[str, bytes]]:
    whole = to_bytes(Image.fromarray(PIXELS).convert("P"), "GIF")
    at = whole.index(b",\0\0\0\0")
    yield "GIF blocks of a byte", whole[:at] + b"!\xfe" + b"\1a" * (size // 2) + b"\0" + whole[at:]
    for part in (b"!\xfe\1a\0", b"!\xfe\0", b"!\xf9\4\0\0\0\0\0"):
        yield f"GIF extensions {part!r}", whole[:at] + part * (size // len(part)) + whole[at:]
        yield f"GIF extensions {part!r} at the end", whole[:-1] + part * (size // len(part)) + b";"


def _tiff_bombs(size: int) -> Iterator[tuple[str, bytes]]:
    def tags(entries: list[tuple[int, int, int, int]], following: int) -> bytes:
        return (
            struct.pack("<H", len(entries))
            + b"".join(struct.pack("<HHII", *entry) for entry in entries)
            + struct.pack("<I", following)
        )

    def grey(num_strips: int, bits: tuple[int, int, int, int] = (258, 3, 1, 8)) -> list[tuple[int, int, int, int]]:
        return [
            *((256, 3, 1, 64), (257, 3, 1, 64), bits, (259, 3, 1, 1), (262, 3, 1, 1)),
            *((273, 4, num_strips, 300), (277, 3, 1, 1), (278, 3, 1, 64), (279, 4, num_strips, 300)),
        ]

    start = b"II*\0" + struct.pack("<I", 8)
    yield "TIFF strips", (start + tags(grey(size // 8), 0)).ljust(300, b"\0") + struct.pack("<I", 300) * (size // 4)
    yield (
        "TIFF numbers",
        (start + tags(grey(1, (258, 3, size // 2, 300)), 0)).ljust(300, b"\0") + b"\x08\0" * (size // 2),
    )
    page = [(1000 + number, 3, 1, 0) for number in range(4000)]
    first = start + tags(grey(1), 8 + 6 + 9 * 12)
    pages = (tags(page, len(first) + (number + 1) * (6 + 12 * 4000)) for number in range(size // 48_006 + 1))
    yield "TIFF pages", first + b"".join(pages)


def test_files_of_parts_without_end_are_refused() -> None:
    taken, complex_ones = [], 0
    for name, data in bombs(3 << 20):
        try:
            load_photo(data)
        except InputError as fault:
            complex_ones += fault.code == "photo_too_complex"
        else:
            taken.append(name)
    assert not taken
    assert complex_ones >= 24


@pytest.mark.slow
def test_forty_mebibytes_of_parts_cost_little_time_and_memory() -> None:
    slow = []
    for name, data in bombs(40 << 20):
        started = time.process_time()
        read_header(data)
        header = time.process_time() - started
        with pytest.raises(InputError):
            load_photo(data)
        took = time.process_time() - started
        print(f"{name}: header {header:.3f} s, in all {took:.3f} s")
        if header > 0.2 or took > 1:
            slow.append(name)
    assert not slow
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1 << 20


def test_metadata_of_many_segments_is_cut_and_the_picture_taken() -> None:
    whole = to_bytes(PIXELS, "JPEG")
    for segment in (
        b"\xff\xe1\xff\xffExif\0\0" + bytes(65_535 - 8),
        b"\xff\xe1\xff\xff" + (b"http://ns.adobe.com/xap/1.0/\0" + b"<a>" * 30_000)[:65_533],
        b"\xff\xed" + (2 + 14 + 12 * 5000).to_bytes(2) + b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5000,
    ):
        many = whole[:2] + segment * 100 + whole[2:]
        assert np.array_equal(load_photo(many).pixels, load_photo(whole).pixels)


def test_the_texts_of_a_gif_are_cut_and_the_picture_taken() -> None:
    whole = to_bytes(Image.fromarray(PIXELS).convert("P"), "GIF")
    at = whole.index(b",\0\0\0\0")
    described = b"!\xf9\4\0\0\0\0\0" + whole[at:]
    for num_extensions, num_blocks in ((1, 4000), (1000, 4), (200, 200)):
        texts = (b"!\xfe" + (b"\xff" + b"a" * 255) * num_blocks + b"\0") * num_extensions
        many = whole[:at] + texts + described
        assert len(drop_texts(many)) < len(whole) + (1 << 16) + 100
        assert drop_texts(many).endswith(described)
        assert np.array_equal(load_photo(many).pixels, load_photo(whole).pixels)
