"""Small files and bodies that cost much time or memory to read: many scans, segments, chunks, boxes, frames, numbers and brackets."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image

from tests.support.pictures import noise, png_chunk, png_claiming, to_bytes
from tests.support.serving import mask_bytes, photo_bytes

_SIDES = ((64, 48), (2000, 1500), (6000, 4000))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bomb:
    """A request.

    Args:
        name: What it is.
        path: Where it is posted; `{model}` stands for the bundle's name.
        files: Files of a form; a body has none.
        body: The body, where there are no files.
        content_type: Its type.
    """

    name: str
    path: str = "/v1/images/edits"
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    body: bytes = b""
    content_type: str = "application/json"


def bombs() -> Iterator[Bomb]:
    """All of them; each file once as the image, and every third one as a mask, too."""
    for number, (name, data) in enumerate(bomb_files()):
        yield Bomb(name=name, files={"image": ("a.png", data), "mask": ("m.png", mask_bytes())})
        if number % 3 == 0:
            yield Bomb(name=f"{name} as the mask", files={"image": ("a.png", photo_bytes()), "mask": ("m.png", data)})
    yield from bomb_bodies()


def bomb_files() -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of picture files."""
    yield from _jpegs()
    yield from _pngs()
    yield from _others()


def bomb_bodies() -> Iterator[Bomb]:
    """Bodies that are not multipart forms with pictures."""
    texts = {
        "lists": b'{"prompt":[' + b"[]," * (8 << 20) + b"[]]}",
        "objects": b'{"prompt":[' + b"{}," * (8 << 20) + b"{}]}",
        "deep": b"[" * (1 << 20) + b"]" * (1 << 20),
        "numbers": b'{"prompt":[' + b"1," * (12 << 20) + b"1]}",
        "a number of a million digits": b'{"prompt":' + b"9" * (1 << 20) + b"}",
        "exponents": b'{"prompt":[' + b"1e308," * (3 << 20) + b"1]}",
        "keys": b"{" + b",".join(b'"%d":0' % number for number in range(1_000_000)) + b"}",
        "spaces": b'{"prompt":' + b" " * (24 << 20) + b"1}",
        "escapes": b'{"prompt":"' + b"\\u0041" * (4 << 20) + b'"}',
        "quotes": b'{"prompt":[' + b'"",' * (8 << 20) + b'""]}',
        "a backslash at each place": b'{"prompt":"' + b"\\\\" * (12 << 20) + b'"}',
    }
    for name, body in texts.items():
        yield Bomb(name=f"JSON of {name}", body=body)
        if name in ("lists", "deep", "numbers", "keys"):
            yield Bomb(name=f"KServe's JSON of {name}", path="/v2/models/{model}/infer", body=body)
    tensor = {"name": "IMAGE", "datatype": "UINT8", "shape": [3000, 2000, 1]}
    head = json.dumps({"inputs": [{**tensor, "data": "@"}]}).encode()
    yield Bomb(
        name="KServe's data",
        path="/v2/models/{model}/infer",
        body=head.replace(b'"@"', b"[" + b"7," * 5_999_999 + b"7]"),
    )
    parts = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n\r\n' % number for number in range(99_999)
    )
    for name, body in {
        "parts": parts + b"--x--\r\n",
        "boundaries that are none": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"\r\n--y" * (4 << 20),
        "returns": b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + b"\r" * (24 << 20),
        "headers": b"--x\r\n" + b"a:b\r\n" * 1_000_000,
    }.items():
        yield Bomb(name=f"form of {name}", body=body, content_type="multipart/form-data; boundary=x")


@cache
def _flat(width: int, height: int, format: str, mode: str = "L", **options: object) -> bytes:
    return to_bytes(Image.new(mode, (width, height)), format, **options)


def _jpegs() -> Iterator[tuple[str, bytes]]:
    for width, height in _SIDES:
        good = _flat(width, height, "JPEG", progressive=True)
        scan = good[good.rindex(b"\xff\xda") : -2]
        for count in (40, 90, 200, 2000, 20_000):
            yield f"JPEG of {width}x{height} with {count} scans", good[:-2] + scan * count + good[-2:]
    small = to_bytes(noise(48, 64), "JPEG")
    for name, segment in (("COM", b"\xff\xfe\0\2"), ("APP1", b"\xff\xe1\0\2"), ("DHT", b"\xff\xc4\0\2")):
        for count in (1900, 100_000, 5_000_000):
            yield f"JPEG with {count} empty {name}", small[:2] + segment * count + small[2:]
    for count in (1000, 1_000_000, 16_000_000):
        yield f"JPEG with {count} fill bytes", small[:2] + b"\xff" * count + small[2:]
        yield f"JPEG with {count} fill bytes in its scan", small[:-2] + b"\xff" * count + small[-2:]
    yield "JPEG with a restart at each block", _flat(6000, 4000, "JPEG", restart_marker_blocks=1)
    yield "JPEG with a megabyte of restarts", small[:-2] + b"\xff\xd0" * 500_000 + small[-2:]


def _pngs() -> Iterator[tuple[str, bytes]]:
    small = photo_bytes()
    for name in (b"teXt", b"vpAg", b"IDAT"):
        for count in (9000, 100_000, 1_500_000):
            yield f"PNG with {count} empty {name.decode()}", small[:33] + png_chunk(name, b"") * count + small[33:]
    inflated = zlib.compress(bytes(100 << 20), 9)
    for name, prefix in ((b"zTXt", b"key\0\0"), (b"iCCP", b"profile\0\0"), (b"iTXt", b"key\0\1\0\0\0")):
        yield f"PNG with {name.decode()} of 100 MB", small[:33] + png_chunk(name, prefix + inflated) + small[33:]
    yield (
        "PNG with 2000 zTXt",
        small[:33] + png_chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(1 << 19))) * 2000 + small[33:],
    )
    pixels = zlib.compress(bytes(7001 * 7000), 9)
    yield "flat PNG of 49 megapixels", png_claiming(7000, 7000, extra=png_chunk(b"IDAT", pixels))
    yield "PNG with more pixels than it has", png_claiming(64, 64, extra=png_chunk(b"IDAT", pixels))
    header = struct.pack(">IIBBBBB", 7000, 7000, 16, 6, 0, 0, 0)
    wide = png_chunk(b"IDAT", zlib.compress(bytes((8 * 7000 + 1) * 7000), 9)) + png_chunk(b"IEND", b"")
    yield "flat PNG of 16 bits", b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + wide
    header = struct.pack(">IIBBBBB", 7000, 7000, 8, 2, 0, 0, 1)
    yield "interlaced PNG", b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + wide


def _others() -> Iterator[tuple[str, bytes]]:
    gif = to_bytes(Image.fromarray(noise(48, 64)).quantize(8), "GIF")
    yield "GIF with a million comments", gif[:-1] + b"\x21\xfe\0" * 1_000_000 + gif[-1:]
    yield "GIF with a million blocks", gif[:-2] + b"\1\0" * 1_000_000 + gif[-2:]
    yield "flat GIF of 49 megapixels", _flat(7000, 7000, "GIF", "P")
    yield "flat TIFF of 49 megapixels", _flat(7000, 7000, "TIFF", "RGB", compression="tiff_adobe_deflate")
    yield "flat TIFF of LZW", _flat(7000, 7000, "TIFF", "RGBA", compression="tiff_lzw")
    entries = b"".join(struct.pack("<HHII", tag, 4, 1 << 28, 8) for tag in range(256, 4352))
    yield "TIFF with large tags", b"II*\0\x08\0\0\0" + struct.pack("<H", 4096) + entries + bytes(4)
    pages = b"".join(struct.pack("<HHHIII", 1, 256, 4, 1, 64, 8 + 18 * (page + 1)) for page in range(500_000))
    yield "TIFF with half a million pages", b"II*\0\x08\0\0\0" + pages
    webp = to_bytes(noise(48, 64), "WEBP")
    yield "WebP with a million chunks", webp + b"ABCD\0\0\0\0" * 1_000_000
    yield "flat WebP of 49 megapixels", _flat(7000, 7000, "WEBP", "RGB", lossless=True, method=0)
    avif = to_bytes(noise(48, 64), "AVIF")
    yield (
        "AVIF with a million boxes",
        avif[:32] + struct.pack(">I", 8) + b"free" * 1 + b"\0\0\0\x08free" * 1_000_000 + avif[32:],
    )
    yield "flat AVIF of 24 megapixels", _flat(6000, 4000, "AVIF", "RGB", speed=10)
    bmp = io.BytesIO()
    Image.fromarray(np.zeros((7000, 7000), np.uint8)).save(bmp, "BMP")
    yield "flat BMP cut to its header", bmp.getvalue()[:1100]
