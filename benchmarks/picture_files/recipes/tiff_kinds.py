"""TIFF files of other colour models, of several pages, and camera files that look like TIFF."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.picture_files.expectations import Expected, FileRecipe, Levels
from benchmarks.picture_files.recipes.tiff_files import by_libtiff, tiff_case, tifffile_bytes, vips_tiff
from benchmarks.picture_files.source import (
    ADOBE_GAMMA,
    ALPHA8,
    EXACT_GREY8,
    EXACT_GREY16,
    GREY8,
    GREY16,
    RGB8,
    RGB16,
    RGBA8,
    draw,
    from_srgb,
    grey_rgb,
    quantize,
    to_srgb,
)
from benchmarks.picture_files.tools import (
    imagemagick,
    pillow,
    reference,
    run,
    system_profile,
    vips_image,
    vips_profile,
    vips_to_srgb,
)
from benchmarks.picture_files.writers import magick

_PAGES = Expected(word="pages|pictures|frames|images")
_RAW = Expected(word=r"\braw\b|CFA|DNG|NEF|CR2|preview|thumbnail|reduced")


def recipes() -> Iterator[FileRecipe]:
    """Recipes of TIFF files of other colour models, of pages and of cameras."""
    yield from _colour_models()
    yield from _pages()


def _colour_models() -> Iterator[FileRecipe]:
    image = Image.fromarray(RGB8).quantize(64)
    palette = np.asarray(image.convert("RGB"))
    adobe, p3 = from_srgb("adobe", ADOBE_GAMMA, bits=16), from_srgb("p3")

    def palette_pillow() -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "TIFF")
        return buffer.getvalue()

    yield tiff_case("palette", "Pillow", "palette", palette_pillow, Expected(pixels=palette))
    yield tiff_case(
        "palette_imagemagick",
        "ImageMagick",
        "palette",
        lambda: magick("-type", "Palette", "-colors", "64", "+dither", to="tif"),
        # The palette has 16 bits, which may be rounded or cut to 8.
        reference(lambda tiff: imagemagick(tiff, "tif", to="PNG24:png"), 1),
    )
    yield tiff_case(
        "white_zero",
        "tifffile",
        "0 is white",
        lambda: tifffile_bytes(255 - GREY8, photometric="miniswhite"),
        EXACT_GREY8,
    )
    yield tiff_case(
        "white_zero_16",
        "tifffile",
        "0 is white, 16 bits",
        lambda: tifffile_bytes(65535 - GREY16, photometric="miniswhite"),
        EXACT_GREY16,
    )
    yield tiff_case("white_zero_vips", "libvips", "0 is white", lambda: vips_tiff(GREY8, miniswhite=True), EXACT_GREY8)
    yield tiff_case(
        "cmyk_tifffile",
        "tifffile",
        "CMYK",
        lambda: tifffile_bytes(np.dstack((255 - RGB8, 0 * GREY8)), photometric="separated"),
        Expected(word="CMYK"),
    )
    yield tiff_case(
        "cmyk_imagemagick",
        "ImageMagick",
        "CMYK",
        lambda: magick("-colorspace", "CMYK", to="tif"),
        Expected(word="CMYK"),
    )
    yield tiff_case(
        "cmyk_16",
        "tifffile",
        "CMYK of 16 bits",
        lambda: tifffile_bytes(np.dstack((65535 - RGB16, 0 * GREY16)), photometric="separated"),
        Expected(word="CMYK"),
    )
    yield tiff_case(
        "lab", "ImageMagick", "CIELAB", lambda: magick("-colorspace", "Lab", to="tif"), Expected(word="lab")
    )
    yield tiff_case(
        "lab_vips",
        "libvips",
        "CIELAB",
        lambda: bytes(vips_image(RGB8).colourspace("lab").tiffsave_buffer()),
        Expected(word="lab"),
    )
    yield tiff_case("lab_pillow", "Pillow", "CIELAB", _pillow_lab, Expected(word="lab"))
    yield tiff_case(
        "ycbcr",
        "libtiff",
        "YCbCr, not compressed",
        lambda: run("tiffcp", "-c", "none", "in.tif", "out.tif", files={"in.tif": _pillow_ycbcr()}, out="out.tif"),
        lambda data: _by_libtiff_named(data, "YCbCr"),
    )
    premultiplied = np.dstack((np.rint(RGB8 * (ALPHA8[:, :, None] / 255.0)).astype(np.uint8), ALPHA8))
    yield tiff_case(
        "premultiplied",
        "tifffile",
        "colours multiplied by alpha",
        lambda: tifffile_bytes(premultiplied, extrasamples=["assocalpha"]),
        _divided(premultiplied),
    )
    yield tiff_case(
        "unspecified_fourth",
        "tifffile",
        "a fourth channel that is no alpha",
        lambda: tifffile_bytes(RGBA8, extrasamples=["unspecified"]),
        Expected(pixels=RGB8, word="channel|sample|extra"),
    )
    yield tiff_case(
        "grey_alpha",
        "ImageMagick",
        "grey with alpha",
        lambda: imagemagick(pillow(np.dstack((GREY8, ALPHA8)), "PNG"), "png", to="tif"),
        Expected(pixels=grey_rgb(GREY8), alpha=ALPHA8),
    )
    yield tiff_case(
        "icc_adobe_16",
        "tifffile",
        "16 bits, Adobe RGB by ICC",
        lambda: tifffile_bytes(adobe, iccprofile=system_profile("compatibleWithAdobeRGB1998.icc")),
        Expected(pixels=adobe, srgb=to_srgb(adobe, "adobe", ADOBE_GAMMA)),
    )
    yield tiff_case(
        "icc_p3",
        "Pillow",
        "Display P3 by ICC",
        lambda: pillow(p3, "TIFF", icc_profile=vips_profile("p3")),
        Expected(pixels=p3, srgb=to_srgb(p3, "p3")),
    )
    yield tiff_case(
        "icc_grey",
        "tifffile",
        "grey with an ICC profile",
        lambda: tifffile_bytes(GREY8, iccprofile=system_profile("Gray-CIE_L.icc")),
        lambda _: Expected(pixels=grey_rgb(GREY8), srgb=vips_to_srgb(GREY8, system_profile("Gray-CIE_L.icc"))),
    )


def _pillow_ycbcr() -> bytes:
    """A TIFF in YCbCr, by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(RGB8).convert("YCbCr").save(buffer, "TIFF")
    return buffer.getvalue()


def _by_libtiff_named(data: bytes, word: str) -> Expected:
    read = by_libtiff(data)
    return Expected(pixels=read.pixels, tolerance=12, word=word)


def _pillow_lab() -> bytes:
    from PIL import ImageCms

    lab = ImageCms.profileToProfile(
        Image.fromarray(RGB8), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    buffer = io.BytesIO()
    lab.save(buffer, "TIFF")
    return buffer.getvalue()


def _divided(premultiplied: Levels) -> Expected:
    """Where alpha is small, division gives back few levels: the tolerance is that of half the levels."""
    pixels = RGB8.copy()
    thin = premultiplied[:, :, 3] < 100
    pixels[thin] = np.minimum(
        np.rint(premultiplied[thin, :3] * 255.0 / np.maximum(premultiplied[thin, 3:], 1)), 255
    ).astype(np.uint8)
    return Expected(pixels=pixels, alpha=ALPHA8, tolerance=3, word="premultipl|associated|multiplied")


def _pages() -> Iterator[FileRecipe]:
    def write(pages: list[tuple[Levels, dict[str, Any]]]) -> bytes:
        import tifffile

        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as writer:
            for levels, options in pages:
                writer.write(levels, metadata=None, photometric=options.pop("photometric", "rgb"), **options)
        return buffer.getvalue()

    small = np.ascontiguousarray(quantize(1 - draw())[::2, ::2])
    yield tiff_case("two_pages", "tifffile", "two pages", lambda: write([(RGB8, {}), (RGB8[::-1].copy(), {})]), _PAGES)
    yield tiff_case(
        "two_pages_pillow",
        "Pillow",
        "two pages",
        lambda: pillow(RGB8, "TIFF", save_all=True, append_images=[Image.fromarray(RGB8[::-1])]),
        _PAGES,
    )
    yield tiff_case(
        "pyramid_vips",
        "libvips",
        "with smaller copies",
        lambda: vips_tiff(pyramid=True, tile=True, tile_width=16, tile_height=16),
        Expected(pixels=RGB8, word=_PAGES.word),
    )
    yield tiff_case(
        "thumbnail_second",
        "tifffile",
        "a thumbnail follows",
        lambda: write([(RGB8, {}), (small, {"subfiletype": 1})]),
        Expected(pixels=RGB8, word=_PAGES.word),
    )
    yield tiff_case(
        "thumbnail_first",
        "tifffile",
        "a thumbnail comes first",
        lambda: write([(small, {"subfiletype": 1}), (RGB8, {})]),
        Expected(pixels=RGB8, word=f"{_RAW.word}|{_PAGES.word}"),
    )
    mosaic = np.full_like(GREY16, 999)
    cfa = {"photometric": 32803, "extratags": [(33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\0\1\1\2", True)]}
    dng = [(50706, 1, 4, b"\1\4\0\0", True)]
    yield FileRecipe(
        name="raw_nef_like.nef",
        encoder="tifffile",
        kind="raw like NEF: preview first, mosaic in SubIFD",
        make=lambda: write([(_preview(), {"subfiletype": 1, "subifds": 1}), (mosaic, dict(cfa))]),
        expect=_RAW,
    )
    yield FileRecipe(
        name="raw_dng_like.dng",
        encoder="tifffile",
        kind="raw like DNG",
        make=lambda: write([(_preview(), {"subfiletype": 1, "subifds": 1, "extratags": dng}), (mosaic, dict(cfa))]),
        expect=_RAW,
    )
    yield FileRecipe(
        name="raw_dng_linear.dng",
        encoder="tifffile",
        kind="raw like linear DNG",
        make=lambda: write([(RGB16, {"photometric": 34892, "extratags": dng})]),
        expect=Expected(word=r"\braw\b|DNG|linear|34892"),
    )
    yield FileRecipe(
        name="raw_cr2_like.cr2",
        encoder="tifffile",
        kind="raw like CR2",
        make=lambda: _cr2(write([(_preview(), {}), (small, {}), (mosaic, dict(cfa))])),
        expect=Expected(word=r"\braw\b|CR2"),
    )


def _preview() -> Levels:
    return np.ascontiguousarray(RGB8)


def _cr2(data: bytes) -> bytes:
    """The mark of a CR2 after the header; the first directory moves behind it, to the end."""
    start = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[start : start + 2], "little")
    directory = data[start : start + 2 + 12 * entries + 4]
    place = len(data) + len(data) % 2
    moved = data + b"\0" * (len(data) % 2) + directory
    if start < 16:
        # The mark may take the place of the old directory only.
        return moved[:4] + place.to_bytes(4, "little") + b"CR\x02\0\0\0\0\0" + moved[16:]
    return moved[:4] + place.to_bytes(4, "little") + b"CR\x02\0\0\0\0\0" + moved[16:]
