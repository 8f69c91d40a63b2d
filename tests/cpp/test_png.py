"""The examples' PNG reader takes what Python takes, and refuses a picture whose pixels are missing or doubtful."""

from __future__ import annotations

import struct
import zlib
from contextlib import nullcontext

import pytest
from alterbute.errors import InputError
from alterbute.images import load_photo

from tests.cpp.examples import form, post
from tests.support.pictures import png_chunk


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, data) for name, data in chunks)


def header(width: int, height: int, bits: int = 8, colour: int = 2, rest: bytes = b"\0\0\0") -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBB", width, height, bits, colour) + rest


def test_the_examples_reader_takes_no_picture_whose_pixels_are_missing_or_doubtful(server: str) -> None:
    rows = (b"\0" + bytes(range(192))) * 64
    packed, end = zlib.compress(rows), (b"IEND", b"")
    sound = png(header(64, 64), (b"IDAT", packed), end)
    palette = (b"PLTE", bytes(range(12)))
    indices = zlib.compress((b"\0" + b"\3" * 64) * 64)
    wrong = {
        "checksum of IDAT": sound[:-20] + bytes([sound[-20] ^ 1]) + sound[-19:],
        "checksum of the data": png(header(64, 64), (b"IDAT", packed[:-1] + bytes([packed[-1] ^ 1])), end),
        "no checksum": png(header(64, 64), (b"IDAT", packed[:-4]), end),
        "half": png(header(64, 64), (b"IDAT", zlib.compress(rows[: len(rows) // 2])), end),
        "a row more": png(header(64, 64), (b"IDAT", zlib.compress(rows + rows[:193])), end),
        "filter": png(header(64, 64), (b"IDAT", zlib.compress(rows.replace(b"\0\0", b"\5\0", 1))), end),
        "interlace": png(header(64, 64, rest=b"\0\0\2"), (b"IDAT", packed), end),
        "packing": png(header(64, 64, rest=b"\1\0\0"), (b"IDAT", packed), end),
        "index": png(header(64, 64, colour=3), palette, (b"IDAT", zlib.compress((b"\0" + b"\4" * 64) * 64)), end),
        "no palette": png(header(64, 64, colour=3), (b"IDAT", indices), end),
        "transparency": png(header(64, 64), (b"tRNS", b"\0"), (b"IDAT", packed), end),
        "animation": png(header(64, 64), (b"acTL", struct.pack(">II", 2, 0)), (b"IDAT", packed), end),
        "critical": png(header(64, 64), (b"ABCD", b""), (b"IDAT", packed), end),
        "profile": png(header(64, 64), (b"iCCP", b"x\0\0junk"), (b"IDAT", packed), end),
        "bomb": png(header(10_000, 10_000), (b"IDAT", packed), end),
        "no end": sound[:-12],
    }
    clear = zlib.compress((b"\0" + b"\0" * 16 + b"\xff" * 32 + b"\0" * 16) * 64)
    fields = {"mask": png(header(64, 64, colour=0), (b"IDAT", clear), end), "prompt": b"color: red", "steps": b"1"}
    for name, data in wrong.items():
        status, body = post(server, *form({**fields, "photo": data}))
        assert status == 400 and b"the photo is damaged" in body, (name, body)
        # Python goes on without a profile that cannot be read.
        with pytest.raises(InputError) if name != "profile" else nullcontext():
            load_photo(data)
    right = {
        "RGB": sound,
        "palette": png(header(64, 64, colour=3), palette, (b"IDAT", indices), (b"tEXt", b"a\0b"), end),
        "bytes behind": png(header(64, 64), (b"IDAT", packed + b"more"), end),
        "pixels behind": png(header(64, 64), (b"IDAT", packed), (b"IDAT", packed), end),
        "pieces": png(header(64, 64), (b"IDAT", b""), (b"IDAT", packed[:9]), (b"IDAT", packed[9:] + b"more"), end),
    }
    for name, data in right.items():
        status, body = post(server, *form({**fields, "photo": data}))
        assert status == 200, (name, body)
        assert (load_photo(body).pixels[:, :8] == load_photo(data).pixels[:, :8]).all()
