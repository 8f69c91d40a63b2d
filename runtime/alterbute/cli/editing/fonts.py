"""Drawing of captions in any script with the fonts of the system; Pillow's own font has Latin letters only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

_SIZE: Final = 13
_ENDINGS: Final = (".ttf", ".otf", ".ttc")
# Fonts with many scripts are opened first; opening all fonts of a desktop takes seconds.
_PREFERRED: Final = (
    "noto",
    "unifont",
    "nanum",
    "malgun",
    "applesdgothic",
    "arialunicode",
    "msyh",
    "hiragino",
    "dejavu",
)
_MAX_FONTS: Final = 400
# No font has a glyph for a noncharacter: it is drawn as what the font shows for characters that it lacks.
_MISSING: Final = "\uffff"


def draw_caption(canvas: ImageDraw, place: tuple[int, int], text: str) -> str:
    """Draw a line of text, each part in the first font that has its characters.

    Args:
        canvas: Where to draw.
        place: Left and top of the line in pixels.
        text: One line.

    Returns:
        The characters that no font of the system has; they are drawn as `?`.
    """
    left, top = place
    missing = ""
    for part, font in _split(text):
        if font is None:
            missing += part
            part, font = "?" * len(part), _own_font()
        canvas.text((left, top), part, fill="black", font=font)
        left += round(font.getlength(part))
    return missing


def _split(text: str) -> Iterator[tuple[str, FreeTypeFont | None]]:
    """The text in parts of one font each; None for characters that no font has."""
    part, current = "", _own_font() if text else None
    for character in text:
        font = current if current is not None and _has(current, character) else find_font(character)
        if font is not current and part:
            yield part, current
            part = ""
        part, current = part + character, font
    if part:
        yield part, current


@lru_cache(maxsize=4096)
def find_font(character: str) -> FreeTypeFont | None:
    """The first font with a glyph for a character: Pillow's own, then the system's; None if there is none."""
    own = _own_font()
    if character.isspace() or _has(own, character):
        return own
    return next((font for path in list_fonts() if (font := _open(path)) is not None and _has(font, character)), None)


@lru_cache(maxsize=1)
def list_fonts() -> Sequence[Path]:
    """Font files of the system, those with many scripts first."""
    found = [
        Path(folder) / name
        for root in _font_folders()
        for folder, _, names in os.walk(root)
        for name in sorted(names)
        if name.lower().endswith(_ENDINGS)
    ]

    def rank(path: Path) -> int:
        name = path.name.lower().replace(" ", "").replace("-", "")
        return next((index for index, word in enumerate(_PREFERRED) if word in name), len(_PREFERRED))

    return sorted(found, key=rank)[:_MAX_FONTS]


def _font_folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"]
    own = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share") / "fonts"
    return [own, home / ".fonts", Path("/usr/local/share/fonts"), Path("/usr/share/fonts")]


@lru_cache(maxsize=1)
def _own_font() -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(_SIZE)  # type: ignore[return-value] # FreeType is part of Pillow's wheels


@lru_cache(maxsize=_MAX_FONTS)
def _open(path: Path) -> FreeTypeFont | None:
    from PIL import ImageFont

    try:
        return ImageFont.truetype(path, _SIZE)
    except OSError:
        return None


def _has(font: FreeTypeFont, character: str) -> bool:
    return character == " " or bytes(font.getmask(character)) != bytes(font.getmask(_MISSING))
