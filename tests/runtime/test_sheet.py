"""The before/after sheet: tiles, transparency, colour, and captions in any script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from alterbute.cli.editing import fonts
from alterbute.cli.editing.sheet import make_sheet
from alterbute.images import Photo
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image, ImageDraw

from tests.support.pictures import noise
from tests.support.profiles import P3

KOREAN = "\ube68\uac15"


@pytest.mark.parametrize("size", [(64, 64), (40, 900), (900, 40)])
def test_the_sheet_shows_before_and_every_result(size: tuple[int, int]) -> None:
    photo = Photo(pixels=noise(*size))
    mask = np.zeros(size, np.uint8)
    mask[10:30, 10:30] = 255
    one = make_sheet(photo, mask, [photo], ["before", "color: red"]).image
    two = make_sheet(photo, mask, [photo, photo], ["before", "again", "color: red"]).image
    assert two.width > one.width
    assert two.height == one.height


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("side", [80, 700])
def test_transparent_parts_show_a_checkerboard_and_no_hidden_colour(side: int, bits: int) -> None:
    scale = np.uint16(257) if bits == 16 else np.uint8(1)
    sheets = []
    for hidden in ((0, 0, 0), (255, 0, 255)):
        pixels, alpha = np.full((side, side, 3), hidden, np.uint8), np.zeros((side, side), np.uint8)
        pixels[:, : side // 2], alpha[:, : side // 2] = (200, 30, 30), 255
        photo = Photo(pixels=pixels * scale, alpha=alpha * scale)
        sheets.append(np.asarray(make_sheet(photo, alpha, [photo], ["a", "b"]).image))
    assert np.array_equal(sheets[0], sheets[1])
    tile = sheets[0][12:332, 344:664]
    assert set(np.unique(tile[:, 180:])) == {204, 255}
    assert (tile[:, 20:140] == (200, 30, 30)).all()


def test_the_sheet_is_in_srgb() -> None:
    pixels = np.full((64, 64, 3), (200, 60, 60), np.uint8)
    photo = Photo(pixels=pixels, icc=P3)
    tile = np.asarray(make_sheet(photo, np.zeros((64, 64), np.uint8), [photo], ["a", "b"]).image)[100, 450]
    assert tile[0] > 205
    assert tile[1] < 55


@pytest.fixture
def font_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The only folder in which fonts are looked for."""
    monkeypatch.setattr(fonts, "_font_folders", lambda: [tmp_path])
    caches = (fonts.find_font, fonts.list_fonts)
    for cache in caches:
        cache.cache_clear()
    yield tmp_path
    for cache in caches:
        cache.cache_clear()


def write_font(path: Path, characters: str) -> None:
    """A font in which every character is a filled box."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(point)
    pen.closePath()
    box, names = pen.glyph(), {ord(character): f"box{ord(character)}" for character in characters}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), **dict.fromkeys(names.values(), box)})
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (900, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def draw(text: str) -> tuple[bytes, str]:
    canvas = Image.new("RGB", (200, 30), "white")
    missing = fonts.draw_caption(ImageDraw.Draw(canvas), (2, 2), text)
    return canvas.tobytes(), missing


def test_a_caption_is_drawn_in_the_font_that_has_its_characters(font_folder: Path) -> None:
    write_font(font_folder / "Other.ttf", "\u0394")
    write_font(font_folder / "Korean.ttf", KOREAN)
    drawn, missing = draw(f"color {KOREAN}!")
    assert missing == ""
    assert drawn != draw("color ??!")[0]
    assert draw("color !")[1] == ""


def test_characters_without_a_font_are_named(font_folder: Path) -> None:
    drawn, missing = draw(f"color {KOREAN}")
    assert missing == KOREAN
    assert drawn == draw("color ??")[0]
    photo = Photo(pixels=noise(40, 40))
    sheet = make_sheet(photo, np.zeros((40, 40), np.uint8), [photo], ["before", f"{KOREAN}{KOREAN}"])
    assert KOREAN in sheet.warnings[0]
    assert "Noto" in sheet.warnings[0]
