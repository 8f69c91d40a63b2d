"""AVIF files: 8 to 12 bits, alpha, turned, in other colour spaces, in tiles, animated, HDR."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from benchmarks.picture_files.expectations import Expected, FileFamily, FileRecipe, Levels
from benchmarks.picture_files.source import (
    ADOBE_GAMMA,
    ANIMATED,
    CUT,
    EXACT8,
    EXACT_ALPHA8,
    GREY8,
    HEIGHT,
    RGB8,
    RGB16,
    RGBA8,
    WIDTH,
    from_srgb,
    to_srgb,
    turn,
)
from benchmarks.picture_files.tools import (
    pillow,
    reference,
    reference_of_many_bits,
    run,
    system_profile,
    vips_image,
)
from benchmarks.picture_files.writers import codecs, ffmpeg, half, two_frames

_HDR = Expected(word="HDR|PQ|HLG")
_ROUNDING = 2
_CHROMA = 12


def recipes() -> Iterator[FileRecipe]:
    """Recipes of all AVIF files."""

    avif = FileFamily(title="AVIF", ending="avif")

    def avifenc(*options: str, levels: Levels = RGB8, icc: bytes | None = None) -> bytes:
        source = codecs("png", levels) if levels.dtype == np.uint16 else pillow(levels, "PNG", icc_profile=icc)
        return run("avifenc", "-s", "8", *options, "in.png", "out.avif", files={"in.png": source}, out="out.avif")

    def by_ffmpeg(*options: str) -> bytes:
        return ffmpeg(
            "avif",
            "-c:v",
            "libaom-av1",
            "-still-picture",
            "1",
            "-crf",
            "12",
            "-pix_fmt",
            *options,
            program="new-ffmpeg",
        )

    quality = ("--min", "2", "--max", "6")
    read, read_chroma = reference(_avifdec, _ROUNDING), reference(_avifdec, _CHROMA)
    p3, adobe = from_srgb("p3"), from_srgb("adobe", ADOBE_GAMMA)
    by_p3 = reference(_avifdec, _ROUNDING, like=p3, tone=lambda levels: to_srgb(levels, "p3"))
    lossless = ("-l",)
    yield avif("444_avifenc", "avifenc", "4:4:4", lambda: avifenc(*quality, "-y", "444"), read)
    yield avif("420_avifenc", "avifenc", "4:2:0", lambda: avifenc(*quality, "-y", "420"), read_chroma)
    yield avif(
        "limited_avifenc", "avifenc", "narrow range", lambda: avifenc(*quality, "-y", "444", "-r", "limited"), read
    )
    yield avif("lossless_avifenc", "avifenc", "lossless", lambda: avifenc(*lossless), EXACT8)
    yield avif(
        "grey_avifenc",
        "avifenc",
        "grey",
        lambda: avifenc(*quality, "-y", "400"),
        reference(_avifdec, _ROUNDING, like=np.repeat(GREY8[:, :, None], 3, axis=2)),
    )
    yield avif(
        "10_bit_avifenc",
        "avifenc",
        "10 bits",
        lambda: avifenc(*quality, "-y", "444", "-d", "10", levels=RGB16),
        reference_of_many_bits(_avifdec, _ROUNDING),
    )
    yield avif(
        "12_bit_avifenc",
        "avifenc",
        "12 bits",
        lambda: avifenc(*quality, "-y", "444", "-d", "12", levels=RGB16),
        reference_of_many_bits(_avifdec, _ROUNDING),
    )
    yield avif(
        "alpha_avifenc", "avifenc", "lossless with alpha", lambda: avifenc(*lossless, levels=RGBA8), EXACT_ALPHA8
    )
    yield avif(
        "premultiplied",
        "avifenc",
        "lossless, colours multiplied by alpha",
        lambda: avifenc(*quality, "-p", "-y", "444", levels=RGBA8),
        reference(_avifdec, 6, word="premultipl|associated|multiplied"),
    )

    def turned(turns: int) -> bytes:
        return avifenc("-l", "--irot", str(turns), levels=np.ascontiguousarray(np.rot90(RGB8, -turns)))

    yield avif("irot_1", "avifenc", "turned by irot, 90 degrees anticlockwise", lambda: turned(1), EXACT8)
    yield avif("irot_2", "avifenc", "turned by irot, 180 degrees", lambda: turned(2), EXACT8)
    yield avif("irot_3", "avifenc", "turned by irot, 270 degrees anticlockwise", lambda: turned(3), EXACT8)
    yield avif(
        "imir",
        "avifenc",
        "mirrored by imir",
        lambda: avifenc("-l", "--imir", "1", levels=np.ascontiguousarray(RGB8[:, ::-1])),
        EXACT8,
    )
    yield avif("grid_avifenc", "avifenc", "grid of 2x1 tiles", lambda: _avif_grid(quality), _avif_grid_expected)
    yield avif(
        "nclx_p3",
        "avifenc",
        "Display P3 by nclx",
        lambda: avifenc(*quality, "-y", "444", "--cicp", "12/13/6", levels=p3),
        by_p3,
    )
    yield avif(
        "nclx_pq",
        "avifenc",
        "BT.2100 PQ by nclx",
        lambda: avifenc(*quality, "-y", "444", "-d", "10", "--cicp", "9/16/9", levels=RGB16),
        _HDR,
    )
    yield avif(
        "nclx_hlg",
        "avifenc",
        "BT.2100 HLG by nclx",
        lambda: avifenc(*quality, "-y", "444", "-d", "10", "--cicp", "9/18/9", levels=RGB16),
        _HDR,
    )
    yield avif(
        "icc_avifenc",
        "avifenc",
        "Adobe RGB by ICC",
        lambda: avifenc(*quality, "-y", "444", levels=adobe, icc=system_profile("compatibleWithAdobeRGB1998.icc")),
        reference(_avifdec, _ROUNDING, like=adobe, tone=lambda levels: to_srgb(levels, "adobe", ADOBE_GAMMA)),
    )
    yield avif("pillow", "Pillow", "4:2:0", lambda: pillow(RGB8, "AVIF", quality=90), read_chroma)
    yield avif("pillow_444", "Pillow", "4:4:4", lambda: pillow(RGB8, "AVIF", quality=90, subsampling="4:4:4"), read)
    yield avif("pillow_animated", "Pillow", "animated", lambda: two_frames("AVIF"), ANIMATED)
    yield avif(
        "vips",
        "libvips",
        "4:2:0",
        lambda: bytes(vips_image(RGB8).heifsave_buffer(compression="av1", Q=90)),
        read_chroma,
    )
    yield avif(
        "vips_lossless",
        "libvips",
        "lossless",
        lambda: bytes(vips_image(RGB8).heifsave_buffer(compression="av1", lossless=True)),
        read,
    )
    yield avif(
        "vips_12",
        "libvips",
        "12 bits",
        lambda: bytes(vips_image(RGB16).heifsave_buffer(compression="av1", Q=90, bitdepth=12, subsample_mode="off")),
        reference_of_many_bits(_avifdec, _ROUNDING),
    )
    yield avif("codecs", "imagecodecs", "4:4:4", lambda: codecs("avif", level=90, pixelformat="444"), read)
    yield avif(
        "heif_enc",
        "heif-enc",
        "4:4:4",
        lambda: run(
            "heif-enc",
            "-A",
            "-q",
            "90",
            "-p",
            "chroma=444",
            "-o",
            "out.avif",
            "in.png",
            files={"in.png": pillow(RGB8, "PNG")},
            out="out.avif",
        ),
        read,
    )
    yield avif(
        "ffmpeg", "new-ffmpeg", "4:4:4, matrix unspecified", lambda: by_ffmpeg("yuv444p"), reference(_avifdec, 6)
    )
    yield avif(
        "ffmpeg_10",
        "new-ffmpeg",
        "10 bits, BT.709",
        lambda: by_ffmpeg(
            "yuv444p10le",
            "-vf",
            "scale=out_color_matrix=bt709",
            "-colorspace",
            "bt709",
            "-color_primaries",
            "bt709",
            "-color_trc",
            "iec61966-2-1",
        ),
        reference_of_many_bits(_avifdec, _ROUNDING),
    )
    yield avif(
        "exif_orientation",
        "Pillow",
        "EXIF orientation 6, which AVIF's own turn replaces",
        _pillow_turned,
        _pillow_turned_expected,
    )
    yield avif("truncated", "avifenc", "cut in half", lambda: half(avifenc(*quality)), CUT)


def _avifdec(data: bytes) -> bytes:
    return run("avifdec", "in.avif", "out.png", files={"in.avif": data}, out="out.png")


def _avif_grid(quality: tuple[str, ...]) -> bytes:
    wide = np.pad(RGB8, ((0, 64 - HEIGHT), (0, 128 - WIDTH), (0, 0)), "edge")
    tiles = {f"{index}.png": pillow(wide[:, 64 * index : 64 * index + 64], "PNG") for index in range(2)}
    return run(
        "avifenc", "-s", "8", *quality, "-y", "444", "--grid", "2x1", *tiles, "out.avif", files=tiles, out="out.avif"
    )


def _avif_grid_expected(data: bytes) -> Expected:
    wide = np.pad(RGB8, ((0, 64 - HEIGHT), (0, 128 - WIDTH), (0, 0)), "edge")
    return reference(_avifdec, _ROUNDING, like=wide)(data)


def _pillow_turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return pillow(turn(RGB8, 8), "AVIF", quality=95, subsampling="4:4:4", exif=exif)


def _pillow_turned_expected(data: bytes) -> Expected:
    stored = reference(_avifdec, _ROUNDING, like=turn(RGB8, 8))(data)
    assert stored.pixels is not None
    return Expected(pixels=turn(stored.pixels, 6), tolerance=_ROUNDING)
