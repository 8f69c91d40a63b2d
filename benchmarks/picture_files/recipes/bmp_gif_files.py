"""BMP, GIF and mask files."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.picture_files.expectations import Expected, FileFamily, FileRecipe
from benchmarks.picture_files.recipes.tiff_files import tifffile_bytes
from benchmarks.picture_files.source import (
    ANIMATED,
    CUT,
    EXACT8,
    EXACT_ALPHA8,
    EXACT_GREY8,
    GREY8,
    MASK,
    RGB8,
    RGBA8,
)
from benchmarks.picture_files.tools import imagemagick, pillow, pnm, reference, run, vips_image
from benchmarks.picture_files.writers import codecs, graphicsmagick, in_mode, magick, opencv, two_frames

_FFMPEG_PALETTE = "split[a][b];[a]palettegen=reserve_transparent=0[p];[b][p]paletteuse=dither=none"


def recipes() -> Iterator[FileRecipe]:
    """Recipes of BMP, GIF and mask files."""
    yield from _bmp()
    yield from _gif()
    yield from _masks()


def bmp(rows: list[bytes], bits: int, **fields: Any) -> bytes:
    """A BMP by hand (Microsoft's BITMAPINFOHEADER and BITMAPV4HEADER).

    Args:
        rows: Rows of pixels in the order of the file, not padded.
        bits: Bits per pixel.
        fields: `header`: size of the header, 40, 108 or 124; `compression`; `masks` of the channels; `is_top_down`.
    """
    size, masks = fields.get("header", 40), fields.get("masks", ())
    height = -len(rows) if fields.get("is_top_down") else len(rows)
    body = b"".join(row + b"\0" * (-len(row) % 4) for row in rows)
    width = len(rows[0]) * 8 // bits
    header = struct.pack(
        "<IiiHHIIiiII", size, width, height, 1, bits, fields.get("compression", 0), len(body), 2835, 2835, 0, 0
    )
    header += struct.pack(f"<{len(masks)}I", *masks)
    if size > 40:
        header = header.ljust(56, b"\0") + b"BGRs"
        header = header.ljust(size, b"\0")
    place = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", place + len(body), 0, 0, place) + header + body


def _bmp() -> Iterator[FileRecipe]:
    case = FileFamily(title="BMP", ending="bmp", usual=EXACT8)

    bgra = [row.tobytes() for row in RGBA8[:, :, [2, 1, 0, 3]]]
    bgr0 = [row.tobytes() for row in np.dstack((RGB8[:, :, ::-1], np.zeros_like(GREY8)))]
    argb = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    few = Image.fromarray(RGB8).quantize(16)
    few_colours = Expected(pixels=np.asarray(few.convert("RGB")))

    def by_netpbm(data: bytes) -> Expected:
        return reference(lambda file: run("bmptopnm", "in.bmp", files={"in.bmp": file}), 0)(data)

    yield case("24_pillow", "Pillow", "24 bits", lambda: pillow(RGB8, "BMP"))
    yield case("24_opencv", "OpenCV", "24 bits", lambda: opencv(".bmp"))
    yield case(
        "24_netpbm", "netpbm", "24 bits", lambda: run("ppmtobmp", "-bpp=24", "in.ppm", files={"in.ppm": pnm(RGB8)})
    )
    yield case("24_v3_imagemagick", "ImageMagick", "24 bits, version 3", lambda: magick(to="BMP3:bmp"))
    yield case("24_v5_imagemagick", "ImageMagick", "24 bits, version 5", lambda: magick(to="BMP:bmp"))
    yield case(
        "24_graphicsmagick",
        "GraphicsMagick",
        "24 bits",
        lambda: graphicsmagick("bmp"),
    )
    yield case(
        "24_ffmpeg",
        "ffmpeg",
        "24 bits",
        lambda: run(
            "ffmpeg", "-i", "in.ppm", "-pix_fmt", "bgr24", "out.bmp", files={"in.ppm": pnm(RGB8)}, out="out.bmp"
        ),
    )
    yield case(
        "32_v5_imagemagick",
        "ImageMagick",
        "32 bits with alpha, version 5",
        lambda: magick(to="BMP:bmp", levels=RGBA8),
        EXACT_ALPHA8,
    )
    yield case(
        "32_v4_by_hand",
        "by hand",
        "32 bits with alpha, version 4",
        lambda: bmp(bgra[::-1], 32, header=108, compression=3, masks=argb),
        EXACT_ALPHA8,
    )
    yield case("32_v3_by_hand", "by hand", "32 bits, the fourth byte unused and 0", lambda: bmp(bgr0[::-1], 32), EXACT8)
    yield case(
        "32_pillow", "Pillow", "32 bits, the fourth byte unused by the letter", lambda: pillow(RGBA8, "BMP"), EXACT8
    )
    yield case(
        "top_down",
        "by hand",
        "rows from the top",
        lambda: bmp([row.tobytes() for row in RGB8[:, :, ::-1]], 24, is_top_down=True),
        EXACT8,
    )
    yield case(
        "16_ffmpeg",
        "ffmpeg",
        "16 bits, 5-6-5",
        lambda: run(
            "ffmpeg", "-i", "in.ppm", "-pix_fmt", "rgb565le", "out.bmp", files={"in.ppm": pnm(RGB8)}, out="out.bmp"
        ),
        _few_bits,
    )
    yield case(
        "8_pillow",
        "Pillow",
        "palette of 8 bits",
        lambda: in_mode(Image.fromarray(RGB8).quantize(200), "BMP"),
        Expected(pixels=np.asarray(Image.fromarray(RGB8).quantize(200).convert("RGB"))),
    )
    yield case("8_grey", "Pillow", "grey of 8 bits", lambda: pillow(GREY8, "BMP"), EXACT_GREY8)
    yield case(
        "4_imagemagick",
        "ImageMagick",
        "palette of 4 bits",
        lambda: imagemagick(in_mode(few, "BMP"), "bmp", "-colors", "16", "-depth", "4", to="BMP3:bmp"),
        by_netpbm,
    )
    yield case(
        "4_netpbm",
        "netpbm",
        "palette of 4 bits",
        lambda: run("ppmtobmp", "-bpp=4", "in.ppm", files={"in.ppm": pnm(np.asarray(few.convert("RGB")))}),
        few_colours,
    )
    yield case(
        "1_netpbm",
        "netpbm",
        "1 bit",
        lambda: run("ppmtobmp", "-bpp=1", "in.pgm", files={"in.pgm": pnm(np.where(MASK, np.uint8(255), np.uint8(0)))}),
        Expected(pixels=np.repeat(np.where(MASK, np.uint8(255), np.uint8(0))[:, :, None], 3, axis=2)),
    )
    yield case(
        "rle_8",
        "ImageMagick",
        "RLE of 8 bits",
        lambda: imagemagick(in_mode(few, "BMP"), "bmp", "-compress", "RLE", to="BMP3:bmp"),
        few_colours,
    )
    yield case("truncated", "Pillow", "cut in half", lambda: pillow(RGB8, "BMP")[:3000], CUT)


def _few_bits(data: bytes) -> Expected:
    return reference(lambda file: imagemagick(file, "bmp", "-depth", "8"), 1)(data)


def _gif() -> Iterator[FileRecipe]:
    case = FileFamily(title="GIF", ending="gif")

    def by_netpbm(data: bytes) -> Expected:
        return reference(lambda gif: run("giftopnm", "in.gif", files={"in.gif": gif}), 0)(data)

    indexed = Image.fromarray(RGB8).quantize(32)
    alpha = np.where(np.asarray(indexed) == 3, np.uint8(0), np.uint8(255))

    def transparent() -> bytes:
        buffer = io.BytesIO()
        indexed.save(buffer, "GIF", transparency=3)
        return buffer.getvalue()

    yield case("pillow", "Pillow", "one frame", lambda: pillow(RGB8, "GIF"), by_netpbm)
    yield case(
        "netpbm",
        "netpbm",
        "one frame, interlaced",
        lambda: run("pamtogif", "-interlace", "in.ppm", files={"in.ppm": pnm(np.asarray(indexed.convert("RGB")))}),
        Expected(pixels=np.asarray(indexed.convert("RGB"))),
    )
    yield case(
        "imagemagick", "ImageMagick", "one frame", lambda: magick("-colors", "64", "+dither", to="gif"), by_netpbm
    )
    yield case(
        "ffmpeg",
        "ffmpeg",
        "one frame",
        lambda: run(
            "ffmpeg", "-i", "in.ppm", "-vf", _FFMPEG_PALETTE, "out.gif", files={"in.ppm": pnm(RGB8)}, out="out.gif"
        ),
        _gif_by_magick,
    )
    yield case("vips", "libvips", "one frame", lambda: bytes(vips_image(RGB8).gifsave_buffer(dither=0)), by_netpbm)
    yield case(
        "transparent",
        "Pillow",
        "one frame, transparent",
        transparent,
        lambda _: Expected(pixels=np.asarray(indexed.convert("RGB")), alpha=alpha),
    )
    yield case("animated", "Pillow", "animated", lambda: two_frames("GIF"), ANIMATED)
    yield case(
        "animated_imagemagick",
        "ImageMagick",
        "animated",
        lambda: run(
            "imagemagick",
            "-delay",
            "10",
            "a.ppm",
            "b.ppm",
            "out.gif",
            files={"a.ppm": pnm(RGB8), "b.ppm": pnm(RGB8[::-1].copy())},
            out="out.gif",
        ),
        ANIMATED,
    )
    yield case("truncated", "Pillow", "cut in half", lambda: pillow(RGB8, "GIF")[:1200], CUT)


def _gif_by_magick(data: bytes) -> Expected:
    return reference(lambda gif: imagemagick(gif, "gif", to="PNG24:png"), 0)(data)


def _masks() -> Iterator[FileRecipe]:
    """One object, as masks of all depths hold it."""
    full = np.where(MASK, np.uint8(255), np.uint8(0))
    deep = np.where(MASK, np.uint16(65535), np.uint16(0))
    expected = Expected(mask=MASK)

    def case(
        name: str,
        encoder: str,
        kind: str,
        make: Callable[[], bytes],
        expect: Expected = expected,
    ) -> FileRecipe:
        return FileRecipe(name=f"mask_{name}", encoder=encoder, kind=f"mask {kind}", make=make, expect=expect)

    yield case("grey_16.png", "imagecodecs", "16-bit grey PNG", lambda: codecs("png", deep))
    yield case(
        "grey_16_soft.png",
        "imagecodecs",
        "16-bit grey PNG with soft levels",
        lambda: codecs("png", np.where(MASK, np.uint16(65000), np.uint16(900))),
    )
    yield case("grey_16_vips.png", "libvips", "16-bit grey PNG", lambda: bytes(vips_image(deep).pngsave_buffer()))
    yield case("grey_16.tif", "tifffile", "16-bit grey TIFF", lambda: tifffile_bytes(deep))
    yield case(
        "grey_16_big_endian.tif",
        "tifffile",
        "16-bit grey TIFF, high byte first",
        lambda: tifffile_bytes(deep, byteorder=">"),
    )
    yield case(
        "grey_8_white_zero.tif",
        "tifffile",
        "grey TIFF, 0 is white",
        lambda: tifffile_bytes(255 - full, photometric="miniswhite"),
    )
    yield case(
        "float.tif",
        "tifffile",
        "float TIFF in [0,1]",
        lambda: tifffile_bytes(MASK.astype(np.float32)),
        Expected(mask=MASK, word="float|32"),
    )
    yield case("1_bit.png", "netpbm", "1-bit PNG", lambda: run("pnmtopng", "in.pgm", files={"in.pgm": pnm(full)}))
    yield case(
        "1_bit.tif",
        "ImageMagick",
        "1-bit TIFF, fax coding",
        lambda: imagemagick(pnm(full), "pgm", "-monochrome", "-compress", "Group4", to="tif"),
    )
    yield case("rgb.bmp", "Pillow", "RGB BMP", lambda: pillow(np.repeat(full[:, :, None], 3, axis=2), "BMP"))
    yield case("palette.gif", "Pillow", "GIF", lambda: pillow(full, "GIF"))
    yield case(
        "alpha.png",
        "Pillow",
        "object in alpha",
        lambda: pillow(np.dstack((np.full((*MASK.shape, 3), 255, np.uint8), full)), "PNG"),
    )
    yield case(
        "lossless.webp",
        "cwebp",
        "lossless WebP",
        lambda: run(
            "cwebp",
            "-quiet",
            "-lossless",
            "in.png",
            "-o",
            "out.webp",
            files={"in.png": pillow(full, "PNG")},
            out="out.webp",
        ),
    )
    yield case(
        "lossless.avif",
        "avifenc",
        "lossless AVIF",
        lambda: run("avifenc", "-l", "in.png", "out.avif", files={"in.png": pillow(full, "PNG")}, out="out.avif"),
        Expected(mask=MASK, word="AVIF"),
    )
    yield case(
        "grey.jpg", "cjpeg", "grey JPEG", lambda: run("cjpeg", "-quality", "95", "in.pgm", files={"in.pgm": pnm(full)})
    )
