"""The before/after sheet: the photo with its object outlined, then every result, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from alterbute.cli.editing.fonts import draw_caption
from alterbute.images import Photo
from alterbute.images.color import to_srgb
from alterbute.images.photo import Bytes

if TYPE_CHECKING:
    from PIL.Image import Image

_TILE: Final = 320
_GAP: Final = 12
_CAPTION: Final = 22
_OUTLINE: Final = (255, 64, 160)
_CHECKER: Final = 8
_LIGHT, _DARK = 255, 204


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sheet:
    """A drawn sheet.

    Args:
        image: RGB, in sRGB.
        warnings: Messages for the user.
    """

    image: Image
    warnings: tuple[str, ...]


def make_sheet(photo: Photo, mask: Bytes, results: Sequence[Photo], captions: Sequence[str]) -> Sheet:
    """Draw the photo and its edits side by side in one picture; transparent parts show a checkerboard.

    Args:
        photo: The photo before.
        mask: HW uint8, 255 = object.
        results: The edited photos.
        captions: A line under each tile: the photo's, then the results'.
    """
    from PIL import Image, ImageDraw

    tiles = [_outlined(photo, mask), *(_fit(result) for result in results)]
    width = sum(tile.width + _GAP for tile in tiles) + _GAP
    sheet = Image.new("RGB", (width, max(tile.height for tile in tiles) + 2 * _GAP + _CAPTION), "white")
    draw, left, missing = ImageDraw.Draw(sheet), _GAP, ""
    for tile, caption in zip(tiles, captions, strict=True):
        sheet.paste(tile, (left, _GAP))
        missing += draw_caption(draw, (left, tile.height + _GAP + 4), caption)
        left += tile.width + _GAP
    characters = "".join(dict.fromkeys(missing))
    warning = f"no installed font has {characters!r}, so the sheet shows `?`; install one, such as Noto Sans"
    return Sheet(image=sheet, warnings=(warning,) if missing else ())


def _fit(photo: Photo) -> Image:
    """Scale a picture to the tile: enlarge by repeating pixels, so that each stays visible, and shrink smoothly."""
    from PIL import Image

    # A large photo is thinned first: the tile shows no more than a few of its pixels in either direction.
    step = max(max(photo.height, photo.width) // (4 * _TILE), 1)
    part = Photo(
        pixels=photo.pixels[::step, ::step],
        alpha=None if photo.alpha is None else photo.alpha[::step, ::step],
    ).to_8_bits()
    image = Image.fromarray(np.ascontiguousarray(to_srgb(part.pixels, photo.icc)))
    scale = _TILE / max(photo.height, photo.width)
    size = (max(round(photo.width * scale), 1), max(round(photo.height * scale), 1))
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    if part.alpha is None:
        return image.resize(size, resampling)
    image.putalpha(Image.fromarray(np.ascontiguousarray(part.alpha)))
    # Pillow's `RGBa` has colours multiplied by alpha, so that hidden colours do not bleed into the edge.
    tile = image.convert("RGBa").resize(size, resampling).convert("RGBA")
    ground = _checkerboard(size)
    ground.paste(tile, (0, 0), tile)
    return ground


def _checkerboard(size: tuple[int, int]) -> Image:
    from PIL import Image

    x, y = np.arange(size[0]) // _CHECKER, np.arange(size[1]) // _CHECKER
    levels = np.where((x[None, :] + y[:, None]) % 2, np.uint8(_DARK), np.uint8(_LIGHT))
    return Image.fromarray(levels).convert("RGB")


def _outlined(photo: Photo, mask: Bytes) -> Image:
    from PIL import Image, ImageFilter

    tile = _fit(photo)
    shape = Image.fromarray(mask).resize(tile.size, Image.Resampling.NEAREST)
    edge = np.asarray(shape) != np.asarray(shape.filter(ImageFilter.MinFilter(5)))
    pixels = np.array(tile)
    pixels[edge] = _OUTLINE
    return Image.fromarray(pixels)
