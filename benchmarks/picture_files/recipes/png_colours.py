"""PNG files with colour chunks, profiles and transparent colours."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.picture_files.expectations import Expected, FileRecipe, Levels
from benchmarks.picture_files.recipes.png_files import netpbm_png, png_case
from benchmarks.picture_files.source import (
    ADOBE_GAMMA,
    ALPHA8,
    EXACT8,
    GREY8,
    GREY16,
    RGB8,
    RGB16,
    from_srgb,
    grey_rgb,
    to_srgb,
)
from benchmarks.picture_files.tools import (
    add_png_chunks,
    pillow,
    pnm,
    reference,
    run,
    system_profile,
    vips_image,
    vips_profile,
    vips_to_srgb,
)
from benchmarks.picture_files.writers import codecs, ffmpeg, opencv

_HDR = Expected(word="HDR|PQ|HLG")
# Writers mean sRGB by it, and by the letter it is a curve of its own, up to 8 levels away: a reader may choose.
_USUAL_GAMMA = Expected(pixels=RGB8, srgb=to_srgb(RGB8, "bt709", 2.2), colour_tolerance=9)


def recipes() -> Iterator[FileRecipe]:
    """Recipes of PNG files with colour tags and transparency."""
    yield from _coloured()
    yield from _transparent()


def _chromaticities(primaries: tuple[float, ...]) -> bytes:
    return struct.pack(">8I", *(round(value * 100_000) for value in (0.3127, 0.329, *primaries)))


def _coloured() -> Iterator[FileRecipe]:
    p3_points, srgb_points = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06), (0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
    bt2020_points = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046)

    def tagged(levels: Levels, *chunks: tuple[bytes, bytes]) -> Callable[[], bytes]:
        return lambda: add_png_chunks(codecs("png", levels), *chunks)

    def seen(primaries: str, gamma: float | None, bits: int = 8) -> Expected:
        levels = from_srgb(primaries, gamma, bits=bits)
        return Expected(pixels=levels, srgb=to_srgb(levels, primaries, gamma))

    def stored(primaries: str, gamma: float | None) -> Any:
        """Of a file that another colour management made: its own levels, read by OpenCV."""
        like = from_srgb(primaries, gamma)
        return reference(lambda png: png, 0, like=like, tone=lambda levels: to_srgb(levels, primaries, gamma))

    def gama(gamma: float) -> tuple[bytes, bytes]:
        return b"gAMA", struct.pack(">I", round(100_000 / gamma))

    linear = from_srgb("bt709", 1.0, bits=16)
    by_hand = "imagecodecs, chunks by hand"
    yield png_case(
        "gamma_1_netpbm",
        "netpbm",
        "16 bits of linear light by gAMA",
        lambda: netpbm_png("-gamma", "1.0", levels=linear),
        seen("bt709", 1.0, 16),
    )
    yield png_case("gamma_1.8", by_hand, "gAMA of 1.8", tagged(from_srgb("bt709", 1.8), gama(1.8)), seen("bt709", 1.8))
    yield png_case("gamma_2.2", by_hand, "gAMA of 1/2.2, the usual one", tagged(RGB8, gama(2.2)), _USUAL_GAMMA)
    yield png_case(
        "gamma_chroma_p3",
        by_hand,
        "gAMA and cHRM of P3",
        tagged(from_srgb("p3", 2.2), gama(2.2), (b"cHRM", _chromaticities(p3_points))),
        seen("p3", 2.2),
    )
    yield png_case(
        "gamma_chroma_adobe",
        by_hand,
        "gAMA and cHRM of Adobe RGB",
        tagged(
            from_srgb("adobe", ADOBE_GAMMA),
            gama(ADOBE_GAMMA),
            (b"cHRM", _chromaticities((0.64, 0.33, 0.21, 0.71, 0.15, 0.06))),
        ),
        seen("adobe", ADOBE_GAMMA),
    )
    yield png_case(
        "chroma_srgb",
        by_hand,
        "gAMA and cHRM of sRGB",
        tagged(RGB8, gama(2.2), (b"cHRM", _chromaticities(srgb_points))),
        _USUAL_GAMMA,
    )
    yield png_case("srgb_netpbm", "netpbm", "sRGB chunk", lambda: netpbm_png("-srgbintent=perceptual"))
    yield png_case(
        "srgb_over_gamma",
        by_hand,
        "sRGB chunk beside a gAMA, which it overrides",
        tagged(RGB8, (b"sRGB", b"\0"), gama(1.0)),
    )
    yield png_case(
        "cicp_p3",
        by_hand,
        "cICP of Display P3",
        tagged(from_srgb("p3"), (b"cICP", bytes((12, 13, 0, 1)))),
        seen("p3", None),
    )
    yield png_case(
        "cicp_p3_16",
        by_hand,
        "cICP of Display P3, 16 bits",
        tagged(from_srgb("p3", bits=16), (b"cICP", bytes((12, 13, 0, 1)))),
        seen("p3", None, 16),
    )
    yield png_case(
        "cicp_over_icc",
        by_hand,
        "cICP of P3 beside an ICC profile of sRGB, which it overrides",
        lambda: add_png_chunks(
            pillow(from_srgb("p3"), "PNG", icc_profile=vips_profile("srgb")), (b"cICP", bytes((12, 13, 0, 1)))
        ),
        seen("p3", None),
    )
    yield png_case("cicp_srgb", by_hand, "cICP of sRGB", tagged(RGB8, (b"cICP", bytes((1, 13, 0, 1)))))
    yield png_case("cicp_pq", by_hand, "cICP of BT.2100 PQ", tagged(RGB8, (b"cICP", bytes((9, 16, 0, 1)))), _HDR)
    yield png_case("cicp_hlg", by_hand, "cICP of BT.2100 HLG", tagged(RGB16, (b"cICP", bytes((9, 18, 0, 1)))), _HDR)
    yield png_case(
        "cicp_narrow",
        by_hand,
        "cICP of narrow range",
        tagged(RGB8, (b"cICP", bytes((1, 13, 0, 0)))),
        Expected(word="range|narrow|limited"),
    )
    yield png_case(
        "cicp_ffmpeg_pq",
        "new-ffmpeg",
        "PQ as ffmpeg 9 marks it",
        lambda: ffmpeg(
            "png",
            "-pix_fmt",
            "rgb48be",
            "-vf",
            "setparams=color_primaries=bt2020:color_trc=smpte2084",
            levels=RGB16,
            program="new-ffmpeg",
        ),
        _marked_by_ffmpeg,
    )
    yield png_case(
        "bt2020_gamma",
        by_hand,
        "gAMA and cHRM of BT.2020",
        tagged(from_srgb("bt2020", 2.4), gama(2.4), (b"cHRM", _chromaticities(bt2020_points))),
        seen("bt2020", 2.4),
    )
    adobe = from_srgb("adobe", ADOBE_GAMMA)
    yield png_case(
        "icc_adobe",
        "Pillow",
        "Adobe RGB by iCCP",
        lambda: pillow(adobe, "PNG", icc_profile=system_profile("compatibleWithAdobeRGB1998.icc")),
        seen("adobe", ADOBE_GAMMA),
    )
    yield png_case("icc_p3_vips", "libvips", "Display P3 by iCCP, 16 bits", _vips_p3, stored("p3", None))
    yield png_case(
        "icc_imagemagick",
        "ImageMagick",
        "Adobe RGB by iCCP, 16 bits",
        _magick_adobe,
        stored("adobe", ADOBE_GAMMA),
    )
    yield png_case(
        "icc_grey",
        "Pillow",
        "grey with an ICC profile",
        lambda: pillow(GREY8, "PNG", icc_profile=system_profile("Gray-CIE_L.icc")),
        lambda _: Expected(pixels=grey_rgb(GREY8), srgb=vips_to_srgb(GREY8, system_profile("Gray-CIE_L.icc"))),
    )
    yield png_case(
        "icc_grey_16",
        "libvips",
        "grey of 16 bits with an ICC profile",
        _grey_profile_16,
        lambda _: Expected(pixels=grey_rgb(GREY16), srgb=vips_to_srgb(GREY8, system_profile("Gray.icc"))),
    )


def _marked_by_ffmpeg(data: bytes) -> Expected:
    if b"cICP" not in data[:300]:
        raise ValueError("ffmpeg wrote no cICP chunk")
    return _HDR


def _vips_p3() -> bytes:
    image = vips_image(RGB16).icc_transform("p3", input_profile="srgb", intent="relative", depth=16)
    return bytes(image.pngsave_buffer())


def _grey_profile_16() -> bytes:
    import pyvips

    image = vips_image(GREY16).copy()
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", system_profile("Gray.icc"))
    return bytes(image.pngsave_buffer())


def _magick_adobe() -> bytes:
    files = {
        "in.ppm": pnm(RGB16),
        "a.icc": vips_profile("srgb"),
        "b.icc": system_profile("compatibleWithAdobeRGB1998.icc"),
    }
    return run("imagemagick", "in.ppm", "-profile", "a.icc", "-profile", "b.icc", "out.png", files=files, out="out.png")


def _transparent() -> Iterator[FileRecipe]:
    key8, key16 = RGB8[20, 20], RGB16[20, 20]
    alpha8 = np.where((key8 == RGB8).all(axis=2), np.uint8(0), np.uint8(255))
    alpha16 = np.where((key16 == RGB16).all(axis=2), np.uint16(0), np.uint16(65535))
    grey_alpha = np.where(GREY8[20, 20] == GREY8, np.uint8(0), np.uint8(255))
    by_hand = "imagecodecs, chunks by hand"
    yield png_case(
        "trns_rgb",
        by_hand,
        "one transparent colour of RGB",
        lambda: add_png_chunks(codecs("png", RGB8), (b"tRNS", struct.pack(">3H", *key8))),
        Expected(pixels=RGB8, alpha=alpha8),
    )
    yield png_case(
        "trns_rgb_16",
        by_hand,
        "one transparent colour of 16-bit RGB",
        lambda: add_png_chunks(codecs("png", RGB16), (b"tRNS", struct.pack(">3H", *key16))),
        Expected(pixels=RGB16, alpha=alpha16),
    )
    yield png_case(
        "trns_grey",
        by_hand,
        "one transparent grey",
        lambda: add_png_chunks(codecs("png", GREY8), (b"tRNS", struct.pack(">H", GREY8[20, 20]))),
        Expected(pixels=grey_rgb(GREY8), alpha=grey_alpha),
    )
    yield png_case(
        "trns_palette", "Pillow", "palette with transparency", _transparent_palette, _transparent_palette_expected
    )
    yield png_case(
        "grey_alpha_8",
        "imagecodecs",
        "grey with alpha",
        lambda: codecs("png", np.dstack((GREY8, ALPHA8))),
        Expected(pixels=grey_rgb(GREY8), alpha=ALPHA8),
    )
    yield png_case(
        "grey_alpha_16",
        "imagecodecs",
        "grey with alpha of 16 bits",
        lambda: codecs("png", np.dstack((GREY16, ALPHA8.astype(np.uint16) * 257))),
        Expected(pixels=grey_rgb(GREY16), alpha=ALPHA8.astype(np.uint16) * 257),
    )
    yield png_case(
        "rgba_opaque",
        "OpenCV",
        "RGBA, opaque",
        lambda: opencv(".png", np.dstack((RGB8, np.full_like(GREY8, 255)))),
        EXACT8,
    )


def _transparent_palette() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB8).quantize(16).save(buffer, "PNG", transparency=bytes([0, 128]))
    return buffer.getvalue()


def _transparent_palette_expected(_: bytes) -> Expected:
    image = Image.fromarray(RGB8).quantize(16)
    indices = np.asarray(image)
    alpha = np.where(indices == 0, 0, np.where(indices == 1, 128, 255)).astype(np.uint8)
    return Expected(pixels=np.asarray(image.convert("RGB")), alpha=alpha)
