"""The before/after sheet: the photo with its object outlined, then every result, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from alterbute.images import Photo
from alterbute.images.photo import Bytes

if TYPE_CHECKING:
    from PIL.Image import Image

_TILE: Final = 320
_GAP: Final = 12
_CAPTION: Final = 22
_OUTLINE: Final = (255, 64, 160)


def make_sheet(photo: Photo, mask: Bytes, results: Sequence[Image], captions: Sequence[str]) -> Image:
    """Draw the photo and its edits side by side in one picture.

    Args:
        photo: The photo before.
        mask: HW uint8, 255 = object.
        results: The edited photos.
        captions: A line under each tile: the photo's, then the results'.
    """
    from PIL import Image, ImageDraw

    tiles = [_outlined(photo, mask), *(_fit(result.convert("RGB")) for result in results)]
    width = sum(tile.width + _GAP for tile in tiles) + _GAP
    sheet = Image.new("RGB", (width, max(tile.height for tile in tiles) + 2 * _GAP + _CAPTION), "white")
    draw, left = ImageDraw.Draw(sheet), _GAP
    for tile, caption in zip(tiles, captions, strict=True):
        sheet.paste(tile, (left, _GAP))
        draw.text((left, tile.height + _GAP + 4), caption.encode("latin-1", "replace").decode("latin-1"), fill="black")
        left += tile.width + _GAP
    return sheet


def _fit(picture: Image) -> Image:
    """Scale a picture to the tile: enlarge by repeating pixels, so that each stays visible, and shrink smoothly."""
    from PIL.Image import Resampling

    scale = _TILE / max(picture.size)
    size = tuple(max(round(side * scale), 1) for side in picture.size)
    return picture.resize((size[0], size[1]), Resampling.NEAREST if scale > 1 else Resampling.LANCZOS)


def _outlined(photo: Photo, mask: Bytes) -> Image:
    from PIL import Image, ImageFilter

    tile = _fit(photo.to_pil().convert("RGB"))
    shape = Image.fromarray(mask).resize(tile.size, Image.Resampling.NEAREST)
    edge = np.asarray(shape) != np.asarray(shape.filter(ImageFilter.MinFilter(5)))
    pixels = np.array(tile)
    pixels[edge] = _OUTLINE
    return Image.fromarray(pixels)
