"""A PNG whose fields readers understand in different ways is refused; what all of them pass over is passed over."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import load_photo
from PIL import Image, ImageFile

from tests.support.pictures import noise, png_chunk

START = b"\x89PNG\r\n\x1a\n"
END = png_chunk(b"IEND", b"")
PIXELS = noise(33, 41)
LINES = b"".join(b"\0" + line.tobytes() for line in PIXELS)
INDICES = PIXELS[:, :, 0] % 8
PALETTE = bytes(range(24))
Parts = list[tuple[bytes, bytes]]


def header(
    width: int = 41,
    height: int = 33,
    bits: int = 8,
    kind: int = 2,
    packing: int = 0,
    filtering: int = 0,
    passes: int = 0,
) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, packing, filtering, passes)


def png(*parts: tuple[bytes, bytes], end: bytes = END) -> bytes:
    return START + b"".join(png_chunk(name, body) for name, body in parts) + end


def pixels(lines: bytes = LINES) -> tuple[bytes, bytes]:
    return b"IDAT", zlib.compress(lines)


def labels(first: int = 0) -> tuple[bytes, bytes]:
    indices = INDICES.copy()
    indices[20, 20] = max(first, indices[20, 20])
    return pixels(b"".join(b"\0" + line.tobytes() for line in indices))


def filtered(number: int, line: int = 10) -> bytes:
    lines = bytearray(LINES)
    lines[line * (1 + 41 * 3)] = number
    return bytes(lines)


def bad_files() -> Iterator[tuple[str, bytes]]:
    whole = zlib.compress(LINES)
    for value in range(1, 256):
        yield f"packing {value}", png(header(packing=value), pixels())
        yield f"filtering {value}", png(header(filtering=value), pixels())
        yield f"interlacing {value}", png(header(passes=value), pixels())
    for value in range(5, 256):
        yield f"filter {value} of a line", png(header(), pixels(filtered(value, value % 33)))
    for kind in (1, 5, 7, 8, 255):
        yield f"colour type {kind}", png(header(kind=kind), pixels())
    for bits in (0, 1, 3, 4, 7, 9, 12, 32, 255):
        yield f"{bits} bits", png(header(bits=bits), pixels())
    good = png(header(), pixels())
    for at in range(8, 33):
        yield f"byte {at} of the header", good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
    for at in range(1, 17):
        yield f"byte {at} before the end", good[: -12 - at] + bytes([good[-12 - at] ^ 4]) + good[-12 - at + 1 :]
    for size in range(1, 12):
        yield f"{size} bytes of the compressed pixels less", png(header(), (b"IDAT", whole[:-size]))
    for change in range(1, 5):
        wrong = whole[:-change] + bytes([whole[-change] ^ 1]) + whole[len(whole) - change + 1 :]
        yield f"checksum of the pixels, byte {change}", png(header(), (b"IDAT", wrong))
    for rows in (1, 31, 32):
        yield f"a line less, of {rows}", png(header(height=rows + 1), pixels(LINES[: rows * 124]))
    for width, height in ((41, 32), (40, 33), (33, 41), (42, 33), (41, 34), (20, 33), (41, 66)):
        yield f"size {width}x{height}", png(header(width, height), pixels())
    yield "a byte too many", png(header(), pixels(LINES + b"\0"))
    yield "no end", png(header(), pixels(), end=b"")
    yield "no end, but a text", png(header(), pixels(), (b"tEXt", b"a\0b"), end=b"")
    yield "two headers", png(header(), header(), pixels())
    yield "a header of 14 bytes", png((b"IHDR", header()[1] + b"\0"), pixels())
    yield "an unknown critical chunk", png(header(), (b"CgBI", bytes(4)), pixels())
    yield "an unknown critical chunk behind", png(header(), pixels(), (b"ABCD", b""))
    yield "pixels in two places", png(header(), (b"IDAT", whole[:50]), (b"tEXt", b"a\0b"), (b"IDAT", whole[50:]))
    palette = header(kind=3)
    yield "no palette", png(palette, labels())
    yield "a palette behind", png(palette, labels(), (b"PLTE", PALETTE))
    yield "a second palette", png(palette, (b"PLTE", PALETTE), (b"PLTE", PALETTE[::-1]), labels())
    yield "a second palette behind", png(palette, (b"PLTE", PALETTE), labels(), (b"PLTE", PALETTE[::-1]))
    for size in (0, 1, 2, 4, 23, 25, 769, 771):
        yield f"a palette of {size} bytes", png(palette, (b"PLTE", bytes(size)), labels())
        yield f"a palette of {size} bytes beside RGB", png(header(), (b"PLTE", bytes(size)), pixels())
    for index in (8, 9, 100, 255):
        yield f"index {index} of 8", png(palette, (b"PLTE", PALETTE), labels(index))
    yield "transparency before the palette", png(palette, (b"tRNS", bytes(8)), (b"PLTE", PALETTE), labels())
    yield "transparency behind", png(header(), pixels(), (b"tRNS", bytes(6)))
    for size in (0, 9, 256):
        yield f"transparency of {size} colours", png(palette, (b"PLTE", PALETTE), (b"tRNS", bytes(size)), labels())
    for size in (0, 1, 2, 3, 5, 7, 8, 12):
        yield f"a transparent colour of {size} bytes", png(header(), (b"tRNS", bytes(size)), pixels())
    yield "a transparent colour of 16 bits", png(header(), (b"tRNS", b"\1\0" * 3), pixels())
    yield "two transparent colours", png(header(), (b"tRNS", bytes(6)), (b"tRNS", bytes(6)), pixels())


@pytest.mark.parametrize("wrap", [bytes, lambda data: Image.open(io.BytesIO(data))], ids=["bytes", "Image.open"])
def test_a_png_with_a_wrong_field_is_refused(
    wrap: Callable[[bytes], bytes | Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    taken, num_refused, num_unopened = [], 0, 0
    for name, data in bad_files():
        try:
            source = wrap(data)
        except Exception:  # Pillow itself does not open some of them
            num_unopened += 1
            continue
        try:
            load_photo(source)
        except InputError:
            num_refused += 1
        else:
            taken.append(name)
    assert not taken
    assert num_refused > (1000 if wrap is bytes else 600)
    assert num_unopened == 0 or wrap is not bytes


def test_what_every_reader_passes_over_is_taken() -> None:
    whole = zlib.compress(LINES)
    broken = png_chunk(b"tEXt", b"a\0b")[:-1] + b"\0"
    for data in (
        png(header(), (b"PLTE", PALETTE), pixels()),
        png(header(), (b"abCd", b"private"), pixels(), (b"abCd", b"private")),
        png(header(), (b"IDAT", b""), (b"IDAT", whole[:9]), (b"IDAT", b""), (b"IDAT", whole[9:] + b"behind the end")),
        png(header(), pixels(), end=broken + END),
        png(header(), pixels(), end=END + b"behind the file"),
        *(png(header(), pixels(filtered(0))) for _ in range(1)),
    ):
        assert np.array_equal(load_photo(data).pixels, PIXELS)
    colors = load_photo(png(header(kind=3), (b"PLTE", PALETTE), (b"tRNS", bytes(8)), labels()))
    assert np.array_equal(colors.pixels, np.frombuffer(PALETTE, np.uint8).reshape(-1, 3)[INDICES])
    assert colors.alpha is not None and not colors.alpha.any()


def test_filters_that_exist_are_undone() -> None:
    for number in range(5):
        data = png(header(), pixels(filtered(number)))
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(load_photo(data).pixels, np.asarray(image))
