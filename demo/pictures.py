"""The pictures of README and docs/pictures.md: one real photo, edited by the demo bundle.

    python -m demo.pictures

The photo is `coffee` of scikit-image (Rachel Michetti; public domain, CC0), 600x400 pixels; its mask was drawn by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from alterbute import Editor
from alterbute.bundle import default_bundle_path
from PIL import Image

FOLDER: Final = Path(__file__).parents[1] / "docs" / "pictures"
CROP: Final = (60, 200, 260, 390)  # the handle, a part of the saucer and of the table
_GAP: Final = 8
_SEED: Final = 3


def put_side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one height in a row."""
    width = sum(picture.width + _GAP for picture in pictures) - _GAP
    row = Image.new("RGB", (width, pictures[0].height), "white")
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width + _GAP
    return row


def stack(rows: list[Image.Image]) -> Image.Image:
    """Rows of pictures, one under another."""
    height = sum(row.height + _GAP for row in rows) - _GAP
    sheet = Image.new("RGB", (max(row.width for row in rows), height), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + _GAP
    return sheet


def main() -> None:
    """Write the pictures."""
    photo = Image.open(FOLDER / "cup.webp").convert("RGB")
    mask = Image.open(FOLDER / "cup_mask.png")
    with Editor.open(default_bundle_path()) as editor:
        subject = editor.prepare(photo, mask)
        blue, green, purple = (
            subject.edit(f"color: {color}", seed=_SEED).image for color in ("blue", "green", "purple")
        )
        model = subject.edit("color: blue", seed=_SEED, detail="model").image
        wide = editor.prepare(photo, mask, rim=12).edit("color: blue", seed=_SEED).image
    crops = [picture.crop(CROP) for picture in (photo, blue, green, purple)]
    half = [picture.resize((300, 200), Image.Resampling.LANCZOS) for picture in (photo, blue, green, purple)]
    enlarged = [crop.resize((300, 285), Image.Resampling.NEAREST) for crop in crops]
    stack([put_side_by_side(half), put_side_by_side(enlarged)]).save(FOLDER / "before_after.webp", quality=75, method=6)
    put_side_by_side([picture.crop(CROP).resize((400, 380), 0) for picture in (model, blue)]).save(
        FOLDER / "detail.webp", quality=80, method=6
    )
    changed = []
    for picture in (blue, wide):
        is_changed = (np.asarray(picture) != np.asarray(photo)).any(-1)
        marked = np.where(is_changed[:, :, None], np.array([255, 64, 160], np.uint8), np.asarray(photo) // 2 + 96)
        changed.append(Image.fromarray(marked.astype(np.uint8)).resize((450, 300), Image.Resampling.LANCZOS))
    put_side_by_side(changed).save(FOLDER / "rim.webp", quality=75, method=6)


if __name__ == "__main__":
    main()
