"""WebP files: lossy, lossless, with alpha and profiles, animated."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from benchmarks.picture_files.expectations import Expected, FileFamily, FileRecipe, Levels
from benchmarks.picture_files.source import (
    ADOBE_GAMMA,
    ANIMATED,
    CUT,
    EXACT8,
    EXACT_ALPHA8,
    RGB8,
    RGBA8,
    from_srgb,
    to_srgb,
    turn,
)
from benchmarks.picture_files.tools import (
    pillow,
    reference,
    run,
    system_profile,
    vips_image,
    vips_profile,
)
from benchmarks.picture_files.writers import codecs, ffmpeg, half, magick, opencv, two_frames


def recipes() -> Iterator[FileRecipe]:
    """Recipes of all WebP files."""

    webp = FileFamily(title="WebP", ending="webp", usual=EXACT8)

    def dwebp(data: bytes) -> bytes:
        return run("dwebp", "in.webp", "-o", "out.png", files={"in.webp": data}, out="out.png")

    def cwebp(*options: str, levels: Levels = RGB8, icc: bytes | None = None) -> bytes:
        source = pillow(levels, "PNG", icc_profile=icc)
        return run("cwebp", "-quiet", *options, "in.png", "-o", "out.webp", files={"in.png": source}, out="out.webp")

    def by_ffmpeg(lossless: int) -> bytes:
        options = ("-c:v", "libwebp", "-lossless", str(lossless), "-pix_fmt", "bgra" if lossless else "yuv420p")
        return ffmpeg("webp", *options, program="new-ffmpeg")

    lossy = reference(dwebp, 2)
    adobe, p3 = from_srgb("adobe", ADOBE_GAMMA), from_srgb("p3")
    yield webp("lossy_cwebp", "cwebp", "lossy", lambda: cwebp("-q", "90"), lossy)
    yield webp("lossy_sharp", "cwebp", "lossy, sharp chroma", lambda: cwebp("-q", "90", "-sharp_yuv"), lossy)
    yield webp("lossless_cwebp", "cwebp", "lossless", lambda: cwebp("-lossless"))
    yield webp("near_lossless", "cwebp", "near lossless", lambda: cwebp("-near_lossless", "40"), reference(dwebp, 0))
    yield webp(
        "exact_alpha",
        "cwebp",
        "lossless, colours under transparent pixels",
        lambda: cwebp("-lossless", "-exact", levels=RGBA8),
        EXACT_ALPHA8,
    )
    yield webp(
        "lossy_alpha", "cwebp", "lossy, with alpha", lambda: cwebp("-q", "90", levels=RGBA8), reference(dwebp, 2)
    )
    yield webp(
        "icc_cwebp",
        "cwebp",
        "Adobe RGB by ICC",
        lambda: cwebp(
            "-lossless", "-metadata", "icc", levels=adobe, icc=system_profile("compatibleWithAdobeRGB1998.icc")
        ),
        Expected(pixels=adobe, srgb=to_srgb(adobe, "adobe", ADOBE_GAMMA)),
    )
    yield webp(
        "icc_pillow",
        "Pillow",
        "Display P3 by ICC",
        lambda: pillow(p3, "WEBP", lossless=True, icc_profile=vips_profile("p3")),
        Expected(pixels=p3, srgb=to_srgb(p3, "p3")),
    )
    yield webp("lossless_pillow", "Pillow", "lossless", lambda: pillow(RGB8, "WEBP", lossless=True))
    yield webp("lossy_pillow", "Pillow", "lossy", lambda: pillow(RGB8, "WEBP", quality=90), lossy)
    yield webp("lossless_vips", "libvips", "lossless", lambda: bytes(vips_image(RGB8).webpsave_buffer(lossless=True)))
    yield webp("lossy_vips", "libvips", "lossy", lambda: bytes(vips_image(RGB8).webpsave_buffer(Q=90)), lossy)
    yield webp("lossless_codecs", "imagecodecs", "lossless", lambda: codecs("webp", lossless=True))
    yield webp("lossless_opencv", "OpenCV", "lossless", lambda: opencv(".webp", RGB8, 64, 101))
    yield webp("lossy_opencv", "OpenCV", "lossy", lambda: opencv(".webp", RGB8, 64, 90), lossy)
    yield webp(
        "lossless_imagemagick", "ImageMagick", "lossless", lambda: magick("-define", "webp:lossless=true", to="webp")
    )
    yield webp("lossless_ffmpeg", "new-ffmpeg", "lossless", lambda: by_ffmpeg(1))
    yield webp("lossy_ffmpeg", "new-ffmpeg", "lossy", lambda: by_ffmpeg(0), lossy)
    yield webp("exif_orientation", "webpmux", "EXIF orientation 6", lambda: _turned_webp(), EXACT8)
    yield webp("animated_pillow", "Pillow", "animated", lambda: two_frames("WEBP"), ANIMATED)
    yield webp(
        "animated_gif2webp",
        "gif2webp",
        "animated",
        lambda: run(
            "gif2webp", "-quiet", "in.gif", "-o", "out.webp", files={"in.gif": two_frames("GIF")}, out="out.webp"
        ),
        ANIMATED,
    )
    yield webp("truncated", "Pillow", "cut in half", lambda: half(pillow(RGB8, "WEBP", lossless=True)), CUT)


def _turned_webp() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {"in.webp": pillow(turn(RGB8, 8), "WEBP", lossless=True), "exif.bin": exif.tobytes()[6:]}
    return run("webpmux", "-set", "exif", "exif.bin", "in.webp", "-o", "out.webp", files=files, out="out.webp")
