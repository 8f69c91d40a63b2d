"""HEIC files: 8 and 10 bits, alpha, turned, in other colour spaces, in tiles, HDR."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from benchmarks.picture_files.expectations import Expected, FileFamily, FileRecipe, Levels
from benchmarks.picture_files.recipes.heic_grid import TILE, join_tiles
from benchmarks.picture_files.source import (
    CUT,
    RGB8,
    RGB16,
    RGBA8,
    from_srgb,
    to_srgb,
    turn,
)
from benchmarks.picture_files.tools import (
    NotMade,
    imagemagick,
    pillow,
    pnm,
    reference,
    reference_of_many_bits,
    run,
    vips_profile,
)
from benchmarks.picture_files.writers import codecs, half

_HDR = Expected(word="HDR|PQ|HLG|10 bits")
_ROUNDING = 2
_CHROMA = 12
# Larger than one tile in both directions.
_ENLARGED = RGB8.repeat(2, axis=0).repeat(2, axis=1)


def recipes() -> Iterator[FileRecipe]:
    """Recipes of all HEIC files."""

    heic = FileFamily(title="HEIC", ending="heic")

    def heif_enc(*options: str, levels: Levels = RGB8, icc: bytes | None = None) -> bytes:
        source = codecs("png", levels) if levels.dtype == np.uint16 else pillow(levels, "PNG", icc_profile=icc)
        return run(
            "heif-enc", "-q", "97", *options, "-o", "out.heic", "in.png", files={"in.png": source}, out="out.heic"
        )

    read, read_chroma = reference(_heif_convert, _ROUNDING), reference(_heif_convert, _CHROMA)
    p3 = from_srgb("p3")
    by_p3 = reference(_heif_convert, _ROUNDING, like=p3, tone=lambda levels: to_srgb(levels, "p3"))
    full = ("-p", "chroma=444")
    yield heic("420_heif_enc", "heif-enc", "4:2:0", heif_enc, read_chroma)
    yield heic("444_heif_enc", "heif-enc", "4:4:4", lambda: heif_enc(*full), read)
    yield heic(
        "lossless_heif_enc",
        "heif-enc",
        "lossless",
        lambda: heif_enc("-L", *full, "--matrix_coefficients=0"),
        reference(_heif_convert, 1),
    )
    yield heic(
        "10_bit_heif_enc",
        "heif-enc",
        "10 bits",
        lambda: heif_enc("-b", "10", *full, levels=RGB16),
        reference_of_many_bits(_heif_convert, _ROUNDING),
    )
    yield heic(
        "alpha_heif_enc", "heif-enc", "with alpha", lambda: heif_enc(*full, levels=RGBA8), reference(_heif_convert, 3)
    )
    yield heic("thumbnail_heif_enc", "heif-enc", "with a thumbnail", lambda: heif_enc("-t", "16", *full), read)
    yield heic(
        "nclx_p3",
        "heif-enc",
        "Display P3 by nclx",
        lambda: heif_enc(*full, "--colour_primaries=12", "--transfer_characteristic=13", levels=p3),
        # Some versions leave out the box; the code points then stand in the video stream only, which readers of pictures ignore.
        lambda data: (by_p3 if b"nclx" in data else reference(_heif_convert, _ROUNDING, like=p3))(data),
    )
    yield heic(
        "nclx_pq",
        "heif-enc",
        "BT.2100 PQ by nclx",
        lambda: heif_enc("-b", "10", *full, "--colour_primaries=9", "--transfer_characteristic=16", levels=RGB16),
        _HDR,
    )
    yield heic(
        "icc_heif_enc",
        "heif-enc",
        "Display P3 by ICC, as phones write it",
        lambda: heif_enc(*full, levels=p3, icc=vips_profile("p3")),
        by_p3,
    )
    yield heic(
        "two_pictures",
        "heif-enc",
        "two pictures",
        lambda: run(
            "heif-enc",
            "-q",
            "92",
            *full,
            "-o",
            "out.heic",
            "a.png",
            "b.png",
            files={"a.png": pillow(RGB8, "PNG"), "b.png": pillow(RGB8[::-1].copy(), "PNG")},
            out="out.heic",
        ),
        _two_pictures,
    )
    yield heic("pillow_heif", "pillow-heif", "4:2:0", lambda: _pillow_heif(RGB8), read_chroma)
    yield heic("pillow_heif_444", "pillow-heif", "4:4:4", lambda: _pillow_heif(RGB8, chroma=444), read)
    yield heic(
        "pillow_heif_alpha",
        "pillow-heif",
        "with alpha",
        lambda: _pillow_heif(RGBA8, chroma=444),
        reference(_heif_convert, 3),
    )
    yield heic("turned_3", "pillow-heif", "turned upside down by irot", lambda: _turned(3, 3), read)
    yield heic("turned_6", "pillow-heif", "turned by 90 degrees by irot", lambda: _turned(6, 8), read)
    by_tiles = reference(_heif_convert, _ROUNDING, like=_ENLARGED)
    yield heic("grid", "pillow-heif, boxes by hand", "grid of tiles", lambda: _grid(_ENLARGED, 0), by_tiles)
    yield heic(
        "grid_turned",
        "pillow-heif, boxes by hand",
        "grid of tiles, turned by irot, as phones write it",
        lambda: _grid(np.ascontiguousarray(np.rot90(_ENLARGED, -1)), 1),
        by_tiles,
    )
    yield heic(
        "imagemagick",
        "ImageMagick",
        "4:2:0",
        lambda: imagemagick(pnm(RGB8), "ppm", "-quality", "97", to="heic"),
        read_chroma,
    )
    yield heic("truncated", "heif-enc", "cut", lambda: half(heif_enc()), CUT)


def _heif_convert(data: bytes) -> bytes:
    return run("heif-convert", "in.heic", "out.png", files={"in.heic": data}, out="out.png")


def _two_pictures(data: bytes) -> Expected:
    def first(heic: bytes) -> bytes:
        return run("heif-convert", "in.heic", "out.png", files={"in.heic": heic}, out="out-1.png")

    return reference(first, _ROUNDING, word="pictures|images|frames")(data)


def _turned(orientation: int, inverse: int) -> bytes:
    return _pillow_heif(turn(RGB8, inverse), chroma=444, orientation=orientation)


def _pillow_heif(levels: Levels, *, chroma: int = 420, orientation: int = 1) -> bytes:
    import pillow_heif

    file = pillow_heif.from_bytes(
        mode="RGBA" if levels.shape[2] == 4 else "RGB", size=levels.shape[1::-1], data=levels.tobytes()
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    # The library takes the tag out of EXIF and writes the turn as the box irot.
    options = {} if orientation == 1 else {"exif": exif.tobytes()}
    file.save(buffer, format="HEIF", quality=97, chroma=chroma, **options)
    return buffer.getvalue()


def _grid(levels: Levels, irot: int) -> bytes:
    # The picture is enlarged only at its right and bottom, and cut there again by the grid's size.
    height, width = levels.shape[:2]
    if max(height, width) > 2 * TILE:
        raise NotMade("two tiles a side are too few")
    large = np.pad(levels, ((0, 2 * TILE - height), (0, 2 * TILE - width), (0, 0)), "edge")
    tiles = [
        _pillow_heif(np.ascontiguousarray(large[top : top + TILE, left : left + TILE]), chroma=444)
        for top in (0, TILE)
        for left in (0, TILE)
    ]
    return join_tiles(tiles, 2, (width, height), irot)
