"""Files of formats that are not read, and the files of GIMP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np

from benchmarks.picture_files.expectations import Expected, FileRecipe
from benchmarks.picture_files.recipes.tiff_files import tifffile_bytes
from benchmarks.picture_files.source import (
    EXACT8,
    GREY16,
    RGB8,
    RGB16,
    draw,
)
from benchmarks.picture_files.tools import imagemagick, pillow, pnm, reference, run
from benchmarks.picture_files.writers import codecs, magick, opencv

_UNKNOWN = "no supported|not supported|unsupported|not a picture|no picture"


def recipes() -> Iterator[FileRecipe]:
    """Recipes of files of formats that are not read, and of GIMP."""
    yield from _unsupported()
    yield from _gimp()


def _unsupported() -> Iterator[FileRecipe]:
    def case(name: str, encoder: str, make: Callable[[], bytes], word: str) -> FileRecipe:
        return FileRecipe(
            name=f"other_{name}",
            encoder=encoder,
            kind="unsupported format",
            make=make,
            expect=Expected(word=word),
        )

    photoshop, jxl, j2k = "PSD|Photoshop", "JPEG.?XL", "JPEG.?2000"
    yield case("photoshop.psd", "ImageMagick", lambda: magick(to="psd"), photoshop)
    yield case("photoshop_large.psb", "ImageMagick", lambda: magick(to="PSB:psb"), f"{photoshop}|PSB")
    yield case(
        "jpeg_xl.jxl",
        "cjxl",
        lambda: run("cjxl", "in.png", "out.jxl", files={"in.png": pillow(RGB8, "PNG")}, out="out.jxl"),
        jxl,
    )
    yield case(
        "jpeg_xl_container.jxl",
        "cjxl",
        lambda: run("cjxl", "--container=1", "in.png", "out.jxl", files={"in.png": pillow(RGB8, "PNG")}, out="out.jxl"),
        jxl,
    )
    yield case("jpeg_xl_codecs.jxl", "imagecodecs", lambda: codecs("jpegxl"), jxl)
    yield case("jpeg_2000.jp2", "ImageMagick", lambda: magick(to="jp2"), j2k)
    yield case("jpeg_2000_opencv.jp2", "OpenCV", lambda: opencv(".jp2"), j2k)
    yield case("jpeg_2000_codestream.j2k", "imagecodecs", lambda: codecs("jpeg2k", codecformat="j2k"), j2k)
    yield case("jpeg_ls.jls", "imagecodecs", lambda: codecs("jpegls"), "JPEG.?LS|lossless")
    yield case("jpeg_xr.jxr", "imagecodecs", lambda: codecs("jpegxr"), f"JPEG.?XR|HD Photo|{_UNKNOWN}")
    yield case("icon.ico", "Pillow", lambda: pillow(RGB8, "ICO"), r"\bICO\b|icon")
    yield case("icon_imagemagick.ico", "ImageMagick", lambda: magick(to="ico"), r"\bICO\b|icon")
    yield case("targa.tga", "ImageMagick", lambda: magick(to="tga"), f"TGA|Targa|{_UNKNOWN}")
    yield case("pixmap.ppm", "by hand", lambda: pnm(RGB8), "PPM|PNM|Netpbm")
    yield case("pixmap_16.pgm", "by hand", lambda: pnm(GREY16), "PGM|PPM|PNM|Netpbm")
    yield case("floats.pfm", "OpenCV", lambda: opencv(".pfm", draw().astype(np.float32)), f"PFM|Netpbm|{_UNKNOWN}")
    yield case(
        "drawing.svg",
        "by hand",
        lambda: b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="51" height="37"/>',
        "SVG",
    )
    yield case(
        "drawing_plain.svg",
        "by hand",
        lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="51" height="37"/>',
        "SVG",
    )
    yield case("page.pdf", "Pillow", lambda: pillow(RGB8, "PDF"), "PDF")
    yield case("page.eps", "Pillow", lambda: pillow(RGB8, "EPS"), "EPS|PostScript")
    yield case(
        "light.exr",
        "ffmpeg",
        lambda: run(
            "ffmpeg", "-i", "in.ppm", "-pix_fmt", "gbrpf32le", "out.exr", files={"in.ppm": pnm(RGB8)}, out="out.exr"
        ),
        "EXR",
    )
    yield case("light.hdr", "OpenCV", lambda: opencv(".hdr", draw().astype(np.float32)), "HDR|Radiance")
    yield case(
        "film.mp4",
        "ffmpeg",
        lambda: _film("mp4"),
        "MP4|video|film",
    )
    yield case(
        "film.mov",
        "ffmpeg",
        lambda: run("ffmpeg", "-i", "in.ppm", "-c:v", "png", "out.mov", files={"in.ppm": pnm(RGB8)}, out="out.mov"),
        "MOV|QuickTime|video|film",
    )
    yield case(
        "film.webm",
        "ffmpeg",
        lambda: _film("webm"),
        f"WebM|Matroska|video|film|{_UNKNOWN}",
    )
    yield case("canon.cr3", "by hand", lambda: b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + b"\0" * 200, r"CR3|\braw\b")
    yield case(
        "error.png",
        "by hand",
        lambda: b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>",
        "HTML|web page",
    )
    yield case("empty.png", "by hand", lambda: b"", "empty")
    yield case("zeros.jpg", "by hand", lambda: b"\0" * 5000, _UNKNOWN)
    yield case("text.txt", "by hand", lambda: b"a picture of a cup\n", f"text|{_UNKNOWN}")
    yield case("archive.zip", "by hand", lambda: b"PK\3\4" + b"\0" * 60, f"ZIP|archive|{_UNKNOWN}")
    for name, ending in (
        ("paintbrush", "pcx"),
        ("irix", "sgi"),
        ("sky", "fits"),
        ("wireless", "wbmp"),
        ("bitmap", "xbm"),
        ("pixels", "xpm"),
        ("film", "dpx"),
        ("gimp", "miff"),
    ):
        yield case(f"{name}.{ending}", "ImageMagick", partial(magick, to=ending), f"{ending}|{_UNKNOWN}")
    yield case("texture.dds", "ImageMagick", lambda: magick(to="dds"), f"DDS|{_UNKNOWN}")
    yield case("quick.qoi", "imagecodecs", lambda: codecs("qoi"), f"QOI|{_UNKNOWN}")
    yield case("deep.jxl", "imagecodecs", lambda: codecs("jpegxl", RGB16), jxl)
    yield case("animated.mng", "by hand", lambda: b"\x8aMNG\r\n\x1a\n" + b"\0" * 100, f"MNG|{_UNKNOWN}")


def _film(ending: str) -> bytes:
    out = f"out.{ending}"
    size_and_format = ("-vf", "scale=64:48", "-pix_fmt", "yuv420p")
    return run("ffmpeg", "-i", "in.ppm", *size_and_format, out, files={"in.ppm": pnm(RGB8)}, out=out)


@cache
def _gimp_files() -> dict[str, bytes]:
    """Files of one run of GIMP, whose start takes seconds."""
    import tempfile
    from pathlib import Path

    names = (
        "out.png",
        "out.tif",
        "out.webp",
        "out.bmp",
        "out.jpg",
        "out.psd",
        "out.xcf",
        "out.heic",
        "out.avif",
        "deep.png",
        "deep.tif",
    )
    with tempfile.TemporaryDirectory(prefix="gimp-") as folder:
        Path(folder, "in.png").write_bytes(pillow(RGB8, "PNG"))
        Path(folder, "deep_in.tif").write_bytes(tifffile_bytes(RGB16))
        # The script's batches share no variables, so it is one expression.
        steps = []
        for source, prefix in (("in.png", "out"), ("deep_in.tif", "deep")):
            steps.append(f'(set! image (car (gimp-file-load RUN-NONINTERACTIVE "{folder}/{source}" "{source}")))')
            for name in (name for name in names if name.startswith(prefix)):
                path = f'"{folder}/{name}" "{name}"'
                steps.append(
                    f"(gimp-file-save RUN-NONINTERACTIVE image (car (gimp-image-get-active-drawable image)) {path})"
                )
        run("gimp", "-i", "-d", "-f", "-b", f"(let* ((image 0)) {' '.join(steps)})", "-b", "(gimp-quit 0)")
        return {name: Path(folder, name).read_bytes() for name in names if Path(folder, name).is_file()}


def _gimp() -> Iterator[FileRecipe]:
    def case(name: str, kind: str, expect: Any, ending: str) -> FileRecipe:
        return FileRecipe(
            name=f"gimp_{name}", encoder="GIMP", kind=kind, make=lambda: _gimp_files()[name], expect=expect
        )

    def by_magick(tolerance: float) -> Callable[[bytes], Expected]:
        return lambda data: reference(lambda file: imagemagick(file, _ending(file), to="PNG24:png"), tolerance)(data)

    yield case("out.png", "PNG RGB", EXACT8, "png")
    yield case("out.tif", "TIFF RGB", EXACT8, "tif")
    yield case("out.webp", "WebP", by_magick(3), "webp")
    yield case("out.bmp", "BMP", EXACT8, "bmp")
    yield case("out.jpg", "JPEG", by_magick(12), "jpg")
    yield case("out.heic", "HEIC", by_magick(12), "heic")
    # Decoders enlarge the chroma planes of 4:2:0 in different ways.
    yield case("out.avif", "AVIF", by_magick(30), "avif")
    yield case("deep.png", "PNG RGB of 16 bits", Expected(pixels=RGB16), "png")
    yield case("deep.tif", "TIFF RGB of 16 bits", Expected(pixels=RGB16), "tif")
    yield case("out.psd", "unsupported format", Expected(word="PSD|Photoshop"), "psd")
    yield case("out.xcf", "unsupported format", Expected(word=f"XCF|GIMP|{_UNKNOWN}"), "xcf")


def _ending(data: bytes) -> str:
    if data.startswith(b"RIFF"):
        return "webp"
    return "jpg" if data.startswith(b"\xff\xd8") else data[8:12].decode("latin-1")
