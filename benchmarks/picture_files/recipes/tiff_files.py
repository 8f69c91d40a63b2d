"""TIFF files: depths, compressions, strips and tiles, byte orders."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.picture_files.expectations import Expected, FileFamily, FileRecipe, Levels
from benchmarks.picture_files.source import (
    CUT,
    EXACT8,
    EXACT16,
    EXACT_ALPHA8,
    EXACT_ALPHA16,
    EXACT_GREY8,
    EXACT_GREY16,
    GREY8,
    GREY16,
    RGB8,
    RGB16,
    RGBA8,
    RGBA16,
    draw,
    grey_rgb,
    turn,
)
from benchmarks.picture_files.tools import (
    exiftool,
    pillow,
    pnm,
    reference,
    run,
    vips_image,
)
from benchmarks.picture_files.writers import graphicsmagick, half, magick, opencv

_FLOAT = Expected(word="float|32")


tiff_case = FileFamily(title="TIFF", ending="tif", usual=EXACT8)


def recipes() -> Iterator[FileRecipe]:
    """Recipes of TIFF files of usual colour models."""
    yield from _depths()
    yield from _layouts()


def tifffile_bytes(levels: Levels, **options: Any) -> bytes:
    """A file by tifffile; RGB unless `photometric` is another kind."""
    import tifffile

    buffer = io.BytesIO()
    file_options = {name: options.pop(name) for name in ("bigtiff", "byteorder") if name in options}
    options.setdefault("photometric", "minisblack" if levels.ndim == 2 else "rgb")
    if levels.ndim == 3 and levels.shape[2] == 4 and options["photometric"] == "rgb":
        options.setdefault("extrasamples", ["unassalpha"])
    with tifffile.TiffWriter(buffer, **file_options) as writer:
        writer.write(levels, metadata=None, software="tifffile", **options)
    return buffer.getvalue()


def tiffcp(*options: str, levels: Levels = RGB8) -> bytes:
    source = tifffile_bytes(levels)
    return run("tiffcp", *options, "in.tif", "out.tif", files={"in.tif": source}, out="out.tif")


def vips_tiff(levels: Levels = RGB8, **options: Any) -> bytes:
    return bytes(vips_image(levels).tiffsave_buffer(**options))


def _depths() -> Iterator[FileRecipe]:
    for name, levels, exact in (
        ("grey_8", GREY8, EXACT_GREY8),
        ("grey_16", GREY16, EXACT_GREY16),
        ("rgb_8", RGB8, EXACT8),
        ("rgb_16", RGB16, EXACT16),
        ("rgba_8", RGBA8, EXACT_ALPHA8),
        ("rgba_16", RGBA16, EXACT_ALPHA16),
    ):
        yield from _of_depth(name, levels, exact)
    yield tiff_case("rgb_16_opencv", "OpenCV", "RGB of 16 bits, LZW", lambda: opencv(".tif", RGB16), EXACT16)
    yield tiff_case(
        "rgb_16_netpbm",
        "netpbm",
        "RGB of 16 bits",
        lambda: run(
            "pamtotiff", "-truecolor", "-output=out.tif", "in.ppm", files={"in.ppm": pnm(RGB16)}, out="out.tif"
        ),
        EXACT16,
    )
    yield tiff_case(
        "rgb_16_ffmpeg",
        "ffmpeg",
        "RGB of 16 bits",
        lambda: run(
            "ffmpeg", "-i", "in.ppm", "-pix_fmt", "rgb48le", "out.tif", files={"in.ppm": pnm(RGB16)}, out="out.tif"
        ),
        EXACT16,
    )
    yield tiff_case(
        "rgb_32",
        "tifffile",
        "RGB of 32 bits",
        lambda: tifffile_bytes(RGB16.astype(np.uint32) * 65537),
        Expected(word="32"),
    )
    yield tiff_case("rgb_float", "tifffile", "RGB of float", lambda: tifffile_bytes(draw().astype(np.float32)), _FLOAT)
    yield tiff_case(
        "grey_float", "tifffile", "grey of float", lambda: tifffile_bytes(draw()[:, :, 0].astype(np.float32)), _FLOAT
    )
    yield tiff_case(
        "rgb_float_imagemagick",
        "ImageMagick",
        "RGB of float",
        lambda: magick("-define", "quantum:format=floating-point", "-depth", "32", to="tif"),
        _FLOAT,
    )
    yield tiff_case(
        "rgb_half",
        "tifffile",
        "RGB of half floats",
        lambda: tifffile_bytes(draw().astype(np.float16)),
        Expected(word="float|half|16"),
    )
    yield tiff_case(
        "signed",
        "tifffile",
        "RGB of signed 16 bits",
        lambda: tifffile_bytes((RGB16 // 2).astype(np.int16)),
        Expected(word="signed|sample|16"),
    )
    bilevel = GREY8 > 120
    yield tiff_case(
        "bilevel",
        "tifffile",
        "1 bit",
        lambda: tifffile_bytes(bilevel),
        Expected(pixels=grey_rgb(np.where(bilevel, np.uint8(255), np.uint8(0)))),
    )
    yield tiff_case(
        "fax",
        "ImageMagick",
        "1 bit, fax coding",
        lambda: magick(
            "-monochrome", "-compress", "Group4", to="tif", levels=np.where(bilevel, np.uint8(255), np.uint8(0))
        ),
        Expected(pixels=grey_rgb(np.where(bilevel, np.uint8(255), np.uint8(0)))),
    )
    yield tiff_case(
        "grey_4",
        "ImageMagick",
        "grey of 4 bits",
        lambda: magick("-depth", "4", to="tif", levels=(GREY8 // 17 * 17).astype(np.uint8)),
        Expected(pixels=grey_rgb(GREY8 // 17 * 17)),
    )


def _layouts() -> Iterator[FileRecipe]:
    yield tiff_case("pillow", "Pillow", "RGB", lambda: pillow(RGB8, "TIFF"))
    for compression in ("packbits", "tiff_lzw", "tiff_adobe_deflate", "zstd", "lzma"):
        yield from _compressed_by_pillow(compression)
    for compression, options in (("none", ()), ("packbits", ()), ("lzw", ("-c", "lzw:2")), ("zip", ("-c", "zip:2"))):
        yield from _compressed_by_libtiff(compression, options)
    yield tiff_case("jpeg_tiffcp", "libtiff", "JPEG, YCbCr", lambda: tiffcp("-c", "jpeg:97", "-r", "16"), by_libtiff)
    yield tiff_case(
        "jpeg_vips",
        "libvips",
        "JPEG, in tiles",
        lambda: vips_tiff(compression="jpeg", Q=97, tile=True, tile_width=16, tile_height=16),
        by_libtiff,
    )
    yield tiff_case(
        "jpeg_imagemagick",
        "ImageMagick",
        "JPEG",
        lambda: magick("-compress", "jpeg", "-quality", "97", to="tif"),
        by_libtiff,
    )
    yield tiff_case(
        "tiles_tifffile",
        "tifffile",
        "RGB of 16 bits in tiles",
        lambda: tifffile_bytes(RGB16, tile=(16, 32)),
        EXACT16,
    )
    yield tiff_case("tiles_tiffcp", "libtiff", "RGB in tiles", lambda: tiffcp("-t", "-w", "16", "-l", "16"))
    yield tiff_case(
        "tiles_vips",
        "libvips",
        "RGB in tiles",
        lambda: vips_tiff(tile=True, tile_width=16, tile_height=16, compression="lzw"),
    )
    yield tiff_case(
        "planar_tifffile",
        "tifffile",
        "planes one by one",
        lambda: tifffile_bytes(np.ascontiguousarray(np.moveaxis(RGB8, 2, 0)), planarconfig="separate"),
    )
    yield tiff_case(
        "planar_16_tifffile",
        "tifffile",
        "planes of 16 bits one by one",
        lambda: tifffile_bytes(np.ascontiguousarray(np.moveaxis(RGB16, 2, 0)), planarconfig="separate"),
        Expected(word="separate planes"),
    )
    yield tiff_case("planar_tiffcp", "libtiff", "planes one by one, LZW", lambda: tiffcp("-p", "separate", "-c", "lzw"))
    yield tiff_case(
        "planar_imagemagick", "ImageMagick", "planes one by one", lambda: magick("-interlace", "plane", to="tif")
    )
    yield tiff_case(
        "big_endian_imagemagick",
        "ImageMagick",
        "high byte first",
        lambda: magick("-endian", "MSB", to="tif", levels=RGB16),
        EXACT16,
    )
    yield tiff_case(
        "bigtiff_tifffile",
        "tifffile",
        "BigTIFF",
        lambda: tifffile_bytes(RGB8, bigtiff=True),
        Expected(pixels=RGB8, word="BigTIFF"),
    )
    yield tiff_case(
        "bigtiff_16_vips",
        "libvips",
        "BigTIFF of 16 bits",
        lambda: vips_tiff(RGB16, bigtiff=True),
        Expected(pixels=RGB16, word="BigTIFF"),
    )
    yield tiff_case(
        "graphicsmagick",
        "GraphicsMagick",
        "RGB",
        lambda: graphicsmagick("tif"),
    )
    yield tiff_case(
        "rows_of_one", "tifffile", "one row a strip", lambda: tifffile_bytes(RGB16, rowsperstrip=1), EXACT16
    )
    yield tiff_case("truncated", "tifffile", "cut in half", lambda: half(tiffcp("-c", "zip")), CUT)
    yield tiff_case("strip_missing", "tifffile", "a strip past the end", lambda: _cut_strip(), CUT)
    for orientation, inverse in ((3, 3), (6, 8), (5, 5)):
        yield from _turned(orientation, inverse)
    yield tiff_case(
        "orientation_16",
        "exiftool, tifffile",
        "16 bits, orientation 8",
        lambda: exiftool(tifffile_bytes(turn(RGB16, 6)), "tif", "-IFD0:Orientation#=8"),
        EXACT16,
    )


def _cut_strip() -> bytes:
    """The directory first and the pixels last, of which the last third is missing."""
    data = tifffile_bytes(RGB8)
    return data[: len(data) - 2000]


def by_libtiff(data: bytes) -> Expected:
    def decode(tiff: bytes) -> bytes:
        return run("tiff2rgba", "-c", "none", "in.tif", "out.tif", files={"in.tif": tiff}, out="out.tif")

    read = reference(decode, 12, word="JPEG|compress")(data)
    return Expected(pixels=read.pixels, tolerance=12, word=read.word)


def _of_depth(name: str, levels: Levels, exact: Expected) -> Iterator[FileRecipe]:
    """One colour type and depth, by all encoders."""
    kind = name.replace("_", " of ") + " bits"
    yield tiff_case(f"{name}_tifffile", "tifffile", kind, lambda: tifffile_bytes(levels), exact)
    yield tiff_case(
        f"{name}_big_endian",
        "tifffile",
        f"{kind}, high byte first",
        lambda: tifffile_bytes(levels, byteorder=">"),
        exact,
    )
    yield tiff_case(
        f"{name}_lzw_imagemagick",
        "ImageMagick",
        f"{kind}, LZW",
        lambda: magick("-compress", "lzw", to="tif", levels=levels),
        exact,
    )
    yield tiff_case(
        f"{name}_deflate_vips",
        "libvips",
        f"{kind}, deflate",
        lambda: vips_tiff(levels, compression="deflate", predictor="horizontal"),
        exact,
    )


def _compressed_by_pillow(compression: str) -> Iterator[FileRecipe]:
    """One compression, by Pillow."""
    word = "zstd|lzma|compress" if compression in ("zstd", "lzma") else ""
    yield tiff_case(
        f"{compression}_pillow",
        "Pillow",
        f"RGB, {compression}",
        lambda: pillow(RGB8, "TIFF", compression=compression),
        Expected(pixels=RGB8, word=word),
    )


def _compressed_by_libtiff(compression: str, options: tuple[str, ...]) -> Iterator[FileRecipe]:
    """One compression, by libtiff."""
    flags = options or ("-c", compression)
    yield tiff_case(f"{compression}_tiffcp", "libtiff", f"RGB, {compression}", lambda: tiffcp(*flags))
    yield tiff_case(
        f"{compression}_16_tiffcp",
        "libtiff",
        f"RGB of 16 bits, {compression}",
        lambda: tiffcp(*flags, levels=RGB16),
        EXACT16,
    )


def _turned(orientation: int, inverse: int) -> Iterator[FileRecipe]:
    """Stored turned, with the tag that turns it upright."""
    yield tiff_case(
        f"orientation_{orientation}",
        "exiftool, tifffile",
        f"orientation {orientation}",
        lambda: exiftool(tifffile_bytes(turn(RGB8, inverse)), "tif", f"-IFD0:Orientation#={orientation}"),
        EXACT8,
    )
