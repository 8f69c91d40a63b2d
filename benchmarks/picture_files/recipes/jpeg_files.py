"""JPEG files: what phones, cameras and tools write, and the directions they are stored in."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.picture_files.expectations import Expected, FileFamily, FileRecipe, Levels
from benchmarks.picture_files.source import (
    GREY8,
    HEIGHT,
    RGB8,
    WIDTH,
    grey_rgb,
    turn,
)
from benchmarks.picture_files.tools import (
    djpeg,
    exiftool,
    imagemagick,
    pillow,
    pnm,
    reference,
    run,
    vips_image,
)
from benchmarks.picture_files.writers import ffmpeg, graphicsmagick, magick, opencv

# Decoders differ by rounding; with chroma of half the resolution, also by how they enlarge it.
_ROUNDING = 3
_CHROMA = 12
_READ = reference(djpeg, _ROUNDING)
_READ_SUBSAMPLED = reference(djpeg, _CHROMA)


jpeg_case = FileFamily(title="JPEG", ending="jpg", usual=_READ)


def recipes() -> Iterator[FileRecipe]:
    """Recipes of usual JPEG files."""
    yield from _usual()
    yield from _oriented()


def cjpeg(*options: str, levels: Levels = RGB8) -> bytes:
    """A JPEG by libjpeg-turbo's own program."""
    return run("cjpeg", "-quality", "97", *options, "in.pnm", files={"in.pnm": pnm(levels)})


def _mozjpeg() -> bytes:
    import mozjpeg_lossless_optimization

    return bytes(mozjpeg_lossless_optimization.optimize(pillow(RGB8, "JPEG", quality=97)))


def _vips(**options: Any) -> bytes:
    return bytes(vips_image(RGB8).jpegsave_buffer(Q=97, **options))


def _usual() -> Iterator[FileRecipe]:
    yield jpeg_case(
        "baseline_420", "Pillow", "baseline, 4:2:0", lambda: pillow(RGB8, "JPEG", quality=97), _READ_SUBSAMPLED
    )
    yield jpeg_case(
        "baseline_444",
        "Pillow",
        "baseline, 4:4:4",
        lambda: pillow(RGB8, "JPEG", quality=97, subsampling=0),
    )
    yield jpeg_case(
        "progressive", "Pillow", "progressive", lambda: pillow(RGB8, "JPEG", progressive=True, subsampling=0)
    )
    yield jpeg_case("cjpeg_420", "cjpeg", "baseline, 4:2:0", cjpeg, _READ_SUBSAMPLED)
    yield jpeg_case("cjpeg_440", "cjpeg", "4:4:0", lambda: cjpeg("-sample", "1x2"), _READ_SUBSAMPLED)
    yield jpeg_case("cjpeg_411", "cjpeg", "4:1:1", lambda: cjpeg("-sample", "4x1"), _READ_SUBSAMPLED)
    yield jpeg_case("cjpeg_progressive", "cjpeg", "progressive", lambda: cjpeg("-progressive", "-sample", "1x1"))
    yield jpeg_case("cjpeg_restart", "cjpeg", "restart markers", lambda: cjpeg("-restart", "1B", "-sample", "1x1"))
    yield jpeg_case("cjpeg_optimized", "cjpeg", "optimized tables", lambda: cjpeg("-optimize", "-sample", "1x1"))
    yield jpeg_case(
        "jpegtran",
        "jpegtran",
        "turned by 90 degrees without a loss",
        _jpegtran,
        reference(djpeg, _ROUNDING, like=turn(_whole_blocks(), 6)),
    )
    yield jpeg_case("mozjpeg", "mozjpeg", "progressive", _mozjpeg, _READ_SUBSAMPLED)
    yield jpeg_case("opencv", "OpenCV", "baseline, 4:2:0", lambda: opencv(".jpg"), _READ_SUBSAMPLED)
    yield jpeg_case("opencv_progressive", "OpenCV", "progressive", lambda: opencv(".jpg", RGB8, 2, 1), _READ_SUBSAMPLED)
    yield jpeg_case("vips", "libvips", "baseline, 4:2:0", _vips, _READ_SUBSAMPLED)
    yield jpeg_case("vips_444", "libvips", "interlaced, 4:4:4", lambda: _vips(interlace=True, subsample_mode="off"))
    yield jpeg_case(
        "imagemagick", "ImageMagick", "baseline", lambda: magick("-quality", "97", to="jpg"), _READ_SUBSAMPLED
    )
    yield jpeg_case(
        "imagemagick_422",
        "ImageMagick",
        "4:2:2",
        lambda: magick("-quality", "97", "-sampling-factor", "2x1", to="jpg"),
        _READ_SUBSAMPLED,
    )
    yield jpeg_case(
        "graphicsmagick",
        "GraphicsMagick",
        "baseline",
        lambda: graphicsmagick("jpg", "-quality", "97"),
        _READ_SUBSAMPLED,
    )
    yield jpeg_case(
        "ffmpeg_420", "ffmpeg", "4:2:0", lambda: ffmpeg("jpg", "-pix_fmt", "yuvj420p", "-q:v", "2"), _READ_SUBSAMPLED
    )
    yield jpeg_case("ffmpeg_444", "ffmpeg", "4:4:4", lambda: ffmpeg("jpg", "-pix_fmt", "yuvj444p", "-q:v", "2"))
    yield jpeg_case("grey_pillow", "Pillow", "grey", lambda: pillow(GREY8, "JPEG", quality=97), _grey)
    yield jpeg_case("grey_cjpeg", "cjpeg", "grey, progressive", lambda: cjpeg("-progressive", levels=GREY8), _grey)
    yield jpeg_case(
        "grey_imagemagick", "ImageMagick", "grey", lambda: magick("-quality", "97", to="jpg", levels=GREY8), _grey
    )
    yield jpeg_case("exif_uncommon", "exiftool", "EXIF, XMP and comment", _many_tags)


def _grey(data: bytes) -> Expected:
    return reference(djpeg, 2, like=grey_rgb(GREY8))(data)


def _jpegtran() -> bytes:
    # Partial blocks cannot be turned, so the sides are made whole blocks.
    source = pillow(_whole_blocks(), "JPEG", quality=95, subsampling=0)
    return run("jpegtran", "-rotate", "90", "-perfect", "in.jpg", files={"in.jpg": source})


def _whole_blocks() -> Levels:
    return np.pad(RGB8, ((0, -HEIGHT % 8), (0, -WIDTH % 8), (0, 0)), "edge")


def _many_tags() -> bytes:
    data = pillow(RGB8, "JPEG", quality=97, subsampling=0, comment=b"by hand")
    return exiftool(data, "jpg", "-Artist=me", "-XMP:Rating=5", "-GPSLatitude=52.5", "-GPSLatitudeRef=N", "-Make=Canon")


def _oriented() -> Iterator[FileRecipe]:
    """Stored turned, with the tag that turns it upright: all eight show the same picture."""
    inverse = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    for orientation in range(1, 9):
        stored = turn(RGB8, inverse[orientation])

        def make(stored: Levels = stored, orientation: int = orientation) -> bytes:
            data = pillow(stored, "JPEG", quality=97, subsampling=0)
            return exiftool(data, "jpg", f"-Orientation#={orientation}")

        def expect(data: bytes, orientation: int = orientation) -> Expected:
            plain = imagemagick(data, "jpg", "-auto-orient", "-strip")
            return reference(lambda _: plain, _ROUNDING)(data)

        yield jpeg_case(
            f"orientation_{orientation}",
            "exiftool, Pillow",
            f"EXIF orientation {orientation}",
            make,
            expect,
        )
    yield jpeg_case(
        "orientation_big_endian", "Pillow", "EXIF of high byte first, orientation 3", _big_endian_exif, _upright
    )


def _upright(data: bytes) -> Expected:
    return reference(lambda _: imagemagick(data, "jpg", "-auto-orient", "-strip"), _ROUNDING)(data)


def _big_endian_exif() -> bytes:
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHxxI", 8, 1, 274, 3, 1, 3, 0)
    return pillow(turn(RGB8, 3), "JPEG", quality=97, subsampling=0, exif=exif)
