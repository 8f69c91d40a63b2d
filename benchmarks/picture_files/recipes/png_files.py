"""PNG files: all colour types and depths, and animations."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from benchmarks.picture_files.expectations import Expected, FileFamily, FileRecipe, Levels
from benchmarks.picture_files.source import (
    ANIMATED,
    CUT,
    EXACT8,
    EXACT16,
    EXACT_ALPHA8,
    EXACT_ALPHA16,
    EXACT_GREY8,
    EXACT_GREY16,
    GREY8,
    GREY16,
    HEIGHT,
    RGB8,
    RGB16,
    RGBA8,
    RGBA16,
    WIDTH,
    grey_rgb,
    turn,
)
from benchmarks.picture_files.tools import (
    add_png_chunks,
    exiftool,
    imagemagick,
    pillow,
    pnm,
    reference,
    run,
    vips_image,
)
from benchmarks.picture_files.writers import codecs, ffmpeg, graphicsmagick, half, magick, opencv, two_frames

png_case = FileFamily(title="PNG", ending="png", usual=EXACT8)


def recipes() -> Iterator[FileRecipe]:
    """Recipes of PNG files without colour tags."""
    yield from _depths()
    yield from _other_encoders()


def _few_levels(bits: int) -> Levels:
    """A grey picture of 2**bits levels, spread over 0..255."""
    top = 2**bits - 1
    levels: Levels = (GREY8.astype(int) * top // 255 * 255 // top).astype(np.uint8)
    return levels


def _depths() -> Iterator[FileRecipe]:
    for bits in (1, 2, 4):
        yield from _grey_of_bits(bits)
    for name, levels, exact in (
        ("grey_8", GREY8, EXACT_GREY8),
        ("grey_16", GREY16, EXACT_GREY16),
        ("rgb_8", RGB8, EXACT8),
        ("rgb_16", RGB16, EXACT16),
        ("rgba_8", RGBA8, EXACT_ALPHA8),
        ("rgba_16", RGBA16, EXACT_ALPHA16),
    ):
        yield from _of_depth(name, levels, exact)


def _depth_checked(data: bytes, levels: Levels) -> Expected:
    if data[24] == 8:
        raise ValueError("libvips wrote 8 bits")
    # libvips chooses the levels of few bits itself; ImageMagick reads back which.
    read = imagemagick(data, "png", "-depth", "8", to="PGM:pgm")
    stored = np.frombuffer(read[-WIDTH * HEIGHT :], np.uint8).reshape(HEIGHT, WIDTH)
    return Expected(pixels=grey_rgb(stored))


def _other_encoders() -> Iterator[FileRecipe]:
    yield png_case("pillow", "Pillow", "RGB", lambda: pillow(RGB8, "PNG"))
    yield png_case("netpbm", "netpbm", "RGB, interlaced", lambda: netpbm_png("-interlace"))
    yield png_case("netpbm_16", "netpbm", "RGB of 16 bits", lambda: netpbm_png(levels=RGB16), EXACT16)
    yield png_case(
        "graphicsmagick",
        "GraphicsMagick",
        "RGB",
        lambda: graphicsmagick("png"),
    )
    yield png_case("ffmpeg", "ffmpeg", "RGB", lambda: ffmpeg("png", "-pix_fmt", "rgb24", levels=RGB8))
    yield png_case(
        "ffmpeg_16", "ffmpeg", "RGB of 16 bits", lambda: ffmpeg("png", "-pix_fmt", "rgb48be", levels=RGB16), EXACT16
    )
    yield png_case(
        "ffmpeg_rgba_16",
        "ffmpeg",
        "RGBA of 16 bits",
        lambda: ffmpeg("png", "-pix_fmt", "rgba64be", levels=RGBA16),
        EXACT_ALPHA16,
    )
    yield png_case(
        "ffmpeg_grey_16",
        "ffmpeg",
        "grey of 16 bits",
        lambda: ffmpeg("png", "-pix_fmt", "gray16be", levels=GREY16),
        EXACT_GREY16,
    )
    for bits in (1, 2, 4, 8):
        yield from _with_palette(bits)
    yield png_case(
        "palette_imagemagick",
        "ImageMagick",
        "palette",
        lambda: magick("-colors", "60", "+dither", to="PNG8:png"),
        _by_pngtopnm,
    )
    yield png_case(
        "palette_vips",
        "libvips",
        "palette",
        lambda: bytes(vips_image(RGB8).pngsave_buffer(palette=True)),
        _by_pngtopnm,
    )
    yield png_case("truncated", "Pillow", "cut in half", lambda: half(pillow(RGB8, "PNG")), CUT)
    yield png_case("checksum", "Pillow", "a wrong checksum", _wrong_checksum, Expected(word="checksum|damaged"))
    yield png_case("texts", "Pillow", "texts and resolution", _with_texts)
    yield png_case(
        "exif_orientation",
        "exiftool",
        "EXIF orientation 6",
        lambda: exiftool(pillow(turn(RGB8, 8), "PNG"), "png", "-Orientation#=6"),
        EXACT8,
    )
    yield png_case("apng_pillow", "Pillow", "APNG", lambda: two_frames("PNG"), ANIMATED)
    yield png_case("apng_codecs", "imagecodecs", "APNG", _apng, ANIMATED)
    yield png_case("apng_ffmpeg", "ffmpeg", "APNG", _apng_ffmpeg, ANIMATED)


def _palette(bits: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB8).quantize(2**bits).save(buffer, "PNG", bits=bits)
    return buffer.getvalue()


def _palette_colours(bits: int) -> Levels:
    return np.asarray(Image.fromarray(RGB8).quantize(2**bits).convert("RGB"))


def _by_pngtopnm(data: bytes) -> Expected:
    return reference(lambda png: run("pngtopnm", "in.png", files={"in.png": png}), 0)(data)


def _wrong_checksum() -> bytes:
    data = bytearray(pillow(RGB8, "PNG"))
    data[data.index(b"IDAT") + 40] ^= 1
    return bytes(data)


def _with_texts() -> bytes:
    text = b"Comment\0caf\xe9"
    return add_png_chunks(
        pillow(RGB8, "PNG", dpi=(300, 300)), (b"tEXt", text), (b"zTXt", b"Long\0\0" + zlib.compress(b"x" * 999))
    )


def _apng() -> bytes:
    import imagecodecs

    return bytes(imagecodecs.apng_encode(np.stack((RGB8, RGB8[::-1])), delay=100))


def _apng_ffmpeg() -> bytes:
    files = {"0.ppm": pnm(RGB8), "1.ppm": pnm(np.ascontiguousarray(RGB8[::-1]))}
    return run("ffmpeg", "-i", "%d.ppm", "-f", "apng", "-plays", "0", "out.png", files=files, out="out.png")


def netpbm_png(*options: str, levels: Levels = RGB8) -> bytes:
    """A PNG by netpbm."""
    return run("pnmtopng", *options, "in.pnm", files={"in.pnm": pnm(levels)})


def _grey_of_bits(bits: int) -> Iterator[FileRecipe]:
    """A grey picture of few bits."""
    levels = _few_levels(bits)
    exact = Expected(pixels=grey_rgb(levels))
    yield png_case(
        f"grey_{bits}_vips",
        "libvips",
        f"grey of {bits} bits",
        lambda: bytes(vips_image(levels).pngsave_buffer(bitdepth=bits)),
        lambda data: _depth_checked(data, levels),
    )
    yield png_case(
        f"grey_{bits}_netpbm",
        "netpbm",
        f"grey of {bits} bits",
        lambda: netpbm_png("-force", levels=levels),
        exact,
    )
    yield png_case(
        f"grey_{bits}_imagemagick",
        "ImageMagick",
        f"grey of {bits} bits",
        lambda: magick("-define", "png:color-type=0", "-define", f"png:bit-depth={bits}", to="png", levels=levels),
        exact,
    )
    yield png_case(
        f"grey_{bits}_interlaced",
        "ImageMagick",
        f"grey of {bits} bits, interlaced",
        lambda: magick(
            "-interlace",
            "PNG",
            "-define",
            "png:color-type=0",
            "-define",
            f"png:bit-depth={bits}",
            to="png",
            levels=levels,
        ),
        exact,
    )


def _of_depth(name: str, levels: Levels, exact: Expected) -> Iterator[FileRecipe]:
    """One colour type and depth, by all encoders."""
    kind = name.replace("_", " of ") + " bits"
    yield png_case(f"{name}_codecs", "imagecodecs", kind, lambda: codecs("png", levels), exact)
    yield png_case(f"{name}_opencv", "OpenCV", kind, lambda: opencv(".png", levels), exact)
    yield png_case(f"{name}_vips", "libvips", kind, lambda: bytes(vips_image(levels).pngsave_buffer()), exact)
    yield png_case(
        f"{name}_interlaced_vips",
        "libvips",
        f"{kind}, interlaced",
        lambda: bytes(vips_image(levels).pngsave_buffer(interlace=True)),
        exact,
    )
    yield png_case(f"{name}_imagemagick", "ImageMagick", kind, lambda: magick(to="png", levels=levels), exact)


def _with_palette(bits: int) -> Iterator[FileRecipe]:
    """A palette of this many bits."""
    yield png_case(
        f"palette_{bits}",
        "Pillow",
        f"palette of {bits} bits",
        lambda: _palette(bits),
        lambda data: Expected(pixels=_palette_colours(bits)),
    )
