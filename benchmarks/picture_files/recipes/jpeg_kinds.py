"""JPEG files with colour tags, of the rarer kinds of the standard, and with several pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from benchmarks.picture_files.expectations import Expected, FileRecipe, Levels
from benchmarks.picture_files.recipes.jpeg_files import cjpeg, jpeg_case
from benchmarks.picture_files.source import (
    ADOBE_GAMMA,
    CUT,
    GREY8,
    RGB8,
    RGB16,
    draw,
    from_srgb,
    grey_rgb,
    quantize,
    to_srgb,
)
from benchmarks.picture_files.tools import (
    djpeg,
    exiftool,
    pillow,
    pnm,
    read_plain,
    reference,
    run,
    system_profile,
    vips_image,
    vips_profile,
    vips_to_srgb,
)
from benchmarks.picture_files.writers import codecs, half, magick

# Decoders differ by rounding; with chroma of half the resolution, also by how they enlarge it.
_ROUNDING = 3
_CHROMA = 12
_CMYK = Expected(word="CMYK")


def recipes() -> Iterator[FileRecipe]:
    """Recipes of JPEG files with colour tags, and of the rarer kinds."""
    yield from _coloured()
    yield from _rare()
    yield from _several_pictures()


def _coloured() -> Iterator[FileRecipe]:
    adobe, p3 = from_srgb("adobe", ADOBE_GAMMA), from_srgb("p3")

    def adobe_tone(levels: Levels) -> Levels:
        return to_srgb(levels, "adobe", ADOBE_GAMMA)

    def p3_tone(levels: Levels) -> Levels:
        return to_srgb(levels, "p3")

    in_adobe = reference(djpeg, _ROUNDING, tone=adobe_tone, like=adobe)
    in_p3 = reference(djpeg, _ROUNDING, tone=p3_tone, like=p3)

    def store(levels: Levels, icc: bytes) -> bytes:
        return pillow(levels, "JPEG", quality=97, subsampling=0, icc_profile=icc)

    def plain() -> bytes:
        return pillow(adobe, "JPEG", quality=97, subsampling=0)

    yield jpeg_case(
        "adobe_rgb_exif",
        "exiftool",
        "Adobe RGB, marked by EXIF's interoperability only",
        lambda: exiftool(plain(), "jpg", "-InteropIndex=R03", "-ColorSpace#=65535"),
        in_adobe,
    )
    yield jpeg_case(
        "adobe_rgb_exif_2",
        "exiftool",
        "Adobe RGB, marked by colour space 2 only",
        lambda: exiftool(plain(), "jpg", "-ColorSpace#=2"),
        in_adobe,
    )
    yield jpeg_case(
        "srgb_exif",
        "exiftool",
        "sRGB, marked by EXIF",
        lambda: exiftool(pillow(RGB8, "JPEG", quality=97, subsampling=0), "jpg", "-InteropIndex=R98", "-ColorSpace#=1"),
    )
    yield jpeg_case(
        "adobe_rgb_icc",
        "Pillow",
        "Adobe RGB by ICC",
        lambda: store(adobe, system_profile("compatibleWithAdobeRGB1998.icc")),
        in_adobe,
    )
    yield jpeg_case("p3_icc", "Pillow", "Display P3 by ICC", lambda: store(p3, vips_profile("p3")), in_p3)
    yield jpeg_case(
        "p3_icc_exiftool",
        "exiftool",
        "Display P3 by ICC",
        lambda: exiftool(store(p3, b""), "jpg", "-icc_profile<=p3.icc", files={"p3.icc": vips_profile("p3")}),
        in_p3,
    )
    yield jpeg_case(
        "icc_in_parts", "Pillow", "ICC profile over several markers", lambda: store(adobe, _large_profile()), in_adobe
    )
    yield jpeg_case("icc_broken", "Pillow", "broken ICC profile", lambda: store(RGB8, b"not a profile" * 20))
    for name in ("Gray.icc", "Gray-CIE_L.icc"):
        yield _grey_case(name)
    yield jpeg_case("prophoto_icc", "ImageMagick", "ProPhoto RGB by ICC", _prophoto, _prophoto_expected)
    yield jpeg_case("p3_icc_vips", "libvips", "Display P3 by ICC, converted by lcms", _vips_p3, in_p3)


def _grey_case(profile: str) -> FileRecipe:
    return jpeg_case(
        f"grey_icc_{profile[:-4].lower()}",
        "Pillow",
        f"grey with the ICC profile {profile}",
        lambda: pillow(GREY8, "JPEG", quality=97, icc_profile=system_profile(profile)),
        lambda data: _grey_toned(data, profile),
    )


def _vips_p3() -> bytes:
    return bytes(
        vips_image(RGB8)
        .icc_transform("p3", input_profile="srgb", intent="relative")
        .jpegsave_buffer(Q=97, subsample_mode="off")
    )


def _large_profile() -> bytes:
    """Adobe RGB with 100 kB of padding after its tags."""
    icc = system_profile("compatibleWithAdobeRGB1998.icc")
    return (len(icc) + 100_000).to_bytes(4) + icc[4:] + b"\0" * 100_000


def _grey_toned(data: bytes, name: str) -> Expected:
    icc = system_profile(name)
    return reference(
        djpeg, 2, like=grey_rgb(GREY8), tone=lambda levels: vips_to_srgb(np.ascontiguousarray(levels[:, :, 0]), icc)
    )(data)


def _prophoto() -> bytes:
    files = {"in.ppm": pnm(RGB16), "srgb.icc": system_profile("srgb.icc"), "pro.icc": system_profile("rommrgb.icc")}
    command = (
        "in.ppm",
        "-profile",
        "srgb.icc",
        "-profile",
        "pro.icc",
        "-depth",
        "8",
        "-sampling-factor",
        "1x1",
        "-quality",
        "95",
        "out.jpg",
    )
    return run("imagemagick", *command, files=files, out="out.jpg")


def _prophoto_expected(data: bytes) -> Expected:
    icc = system_profile("rommrgb.icc")
    levels = read_plain(djpeg(data))
    return reference(djpeg, _ROUNDING, like=levels, tone=lambda pixels: vips_to_srgb(pixels, icc))(data)


def _rare() -> Iterator[FileRecipe]:
    def cmyk() -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(RGB8).convert("CMYK").save(buffer, "JPEG", quality=97)
        return buffer.getvalue()

    ink = np.dstack((255 - RGB8, np.zeros_like(GREY8)))
    yield jpeg_case("cmyk_pillow", "Pillow", "CMYK", cmyk, _CMYK)
    yield jpeg_case("cmyk_imagemagick", "ImageMagick", "CMYK", lambda: magick("-colorspace", "CMYK", to="jpg"), _CMYK)
    yield jpeg_case(
        "cmyk_codecs",
        "imagecodecs",
        "CMYK without Adobe's marker",
        lambda: codecs("jpeg8", level=97, levels=ink, colorspace="CMYK", outcolorspace="CMYK"),
        _CMYK,
    )
    yield jpeg_case(
        "ycck",
        "imagecodecs",
        "YCCK",
        lambda: codecs("jpeg8", level=97, levels=ink, colorspace="CMYK", outcolorspace="YCCK"),
        Expected(word="CMYK|YCCK"),
    )
    yield jpeg_case(
        "rgb",
        "imagecodecs",
        "RGB without YCbCr",
        lambda: codecs("jpeg8", level=97, colorspace="RGB", outcolorspace="RGB"),
    )
    yield jpeg_case("rgb_cjpeg", "cjpeg", "RGB without YCbCr", lambda: cjpeg("-rgb"))
    yield jpeg_case(
        "arithmetic",
        "cjpeg",
        "arithmetic coding",
        lambda: cjpeg("-arithmetic", "-sample", "1x1"),
        _either("arithmetic"),
    )
    yield jpeg_case(
        "arithmetic_progressive",
        "cjpeg",
        "arithmetic coding, progressive",
        lambda: cjpeg("-arithmetic", "-progressive", "-sample", "1x1"),
        _either("arithmetic"),
    )
    yield jpeg_case(
        "12_bit",
        "imagecodecs",
        "12 bits",
        lambda: codecs("jpeg8", level=97, levels=RGB16 >> 4, bitspersample=12),
        Expected(word="12"),
    )
    yield jpeg_case(
        "lossless",
        "imagecodecs",
        "lossless process",
        lambda: codecs("jpeg8", level=97, lossless=True, predictor=1),
        Expected(pixels=RGB8, word="lossless|JPEG"),
    )
    yield jpeg_case(
        "truncated", "Pillow", "cut in half", lambda: _half_of_pixels(pillow(RGB8, "JPEG", quality=97)), CUT
    )
    yield jpeg_case(
        "truncated_progressive", "cjpeg", "progressive, cut", lambda: _half_of_pixels(cjpeg("-progressive")), CUT
    )
    yield jpeg_case(
        "no_end",
        "Pillow",
        "without its last marker",
        lambda: pillow(RGB8, "JPEG", quality=97, subsampling=0)[:-2],
        lambda data: _either("truncated|damaged|incomplete|cut")(data + b"\xff\xd9"),
    )
    yield jpeg_case(
        "trailing_bytes",
        "Pillow",
        "followed by other bytes",
        lambda: pillow(RGB8, "JPEG", quality=97, subsampling=0) + b"\0" * 999,
    )


def _either(word: str) -> Callable[[bytes], Expected]:
    return reference(djpeg, _ROUNDING, word=word)


def _several_pictures() -> Iterator[FileRecipe]:
    other = quantize(1 - draw())

    def mpo() -> bytes:
        buffer = io.BytesIO()
        first, second = Image.fromarray(RGB8), Image.fromarray(other)
        first.save(buffer, "MPO", save_all=True, append_images=[second], quality=97, subsampling=0)
        return buffer.getvalue()

    def gain_map() -> bytes:
        first = pillow(RGB8, "JPEG", quality=97, subsampling=0)
        return first + pillow(other[::2, ::2, 0], "JPEG")

    yield jpeg_case("mpo", "Pillow", "MPO of a camera: a second picture follows", mpo, _first_of_mpo)
    yield jpeg_case("gain_map", "Pillow", "HDR gain map of a phone follows", gain_map)
    yield jpeg_case("ultra_hdr", "imagecodecs (libultrahdr)", "Ultra HDR with gain map", _ultra_hdr, _resembling)
    yield jpeg_case("thumbnail", "exiftool", "EXIF with a thumbnail of another picture", _thumbnail)


def _first_of_mpo(data: bytes) -> Expected:
    return reference(djpeg, _CHROMA)(data)


def _resembling(data: bytes) -> Expected:
    import pyvips

    # The profile is the encoder's choice: libvips applies it.
    tone = pyvips.Image.new_from_buffer(data, "").icc_transform("srgb", intent="relative", embedded=True).numpy()
    levels = read_plain(djpeg(data))
    return reference(djpeg, _CHROMA, like=levels, tone=lambda _: tone)(data)


def _ultra_hdr() -> bytes:
    import imagecodecs

    linear = np.dstack((quantize(draw() ** 2.2, 16) / 65535 * 4, np.ones(RGB8.shape[:2]))).astype(np.float16)
    even = np.pad(linear, ((0, 1), (0, 1), (0, 0)), "edge")
    return bytes(imagecodecs.ultrahdr_encode(even))


def _thumbnail() -> bytes:
    small = pillow(quantize(1 - draw())[::2, ::2], "JPEG")
    data = pillow(RGB8, "JPEG", quality=97, subsampling=0)
    return exiftool(data, "jpg", "-ThumbnailImage<=small.jpg", files={"small.jpg": small})


def _half_of_pixels(data: bytes) -> bytes:
    start = data.index(b"\xff\xda")
    return data[:start] + half(data[start:])
