"""The different colours of a mask: counted, named, and projected on the line between two of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from alterbute.errors import InputError
from alterbute.images.files.decode import Levels
from alterbute.images.photo import Bytes

Color: TypeAlias = tuple[int, ...]

_LISTED: Final = 8
_MOST_COUNTED: Final = 4096
# Largest distance of a colour from the line between background and object, in levels: JPEG's errors stay below.
_OFF_LINE: Final = 48.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorTable:
    """The colours of a mask, the most frequent first.

    Args:
        colors: RGB, 0..255; at most 4096 of them.
        shares: Share of the pixels of each, 0..1.
        labels: Palette index or grey level of each; empty where colours have no number.
    """

    colors: tuple[Color, ...]
    shares: tuple[float, ...]
    labels: tuple[int, ...]

    def name(self, index: int) -> str:
        """Such as `value 1 (#800000)`, or `#800000` where colours have no number."""
        color = "#{:02x}{:02x}{:02x}".format(*self.colors[index])
        return f"value {self.labels[index]} ({color})" if self.labels else color

    def describe(self) -> str:
        """The most frequent colours with their shares, in one line."""
        listed = [f"{self.name(index)} {self.shares[index]:.1%}" for index in range(min(len(self.colors), _LISTED))]
        rest = len(self.colors) - len(listed)
        return ", ".join(listed) + (f" and {rest} more" if rest > 0 else "")


def parse_color(text: str) -> Color:
    """Read `#rrggbb`.

    Raises:
        InputError: not such a colour.
    """
    match = re.fullmatch(r"#?([0-9a-fA-F]{6})", text.strip())
    if match is None:
        raise InputError(
            f"the mask value is {text!r}",
            "a number 0..255, or a colour such as #ff0000",
            "choose a value of the mask",
            "mask_value",
            "mask_value_type",
        )
    return tuple(bytes.fromhex(match.group(1)))


def count_colors(mask: Levels) -> ColorTable:
    """Count the colours of a mask. Of more than 4096, the rest are left out."""
    if mask.labels is not None or mask.colors is None:
        plane = mask.luminance if mask.labels is None else mask.labels
        counts = np.bincount(plane.ravel(), minlength=256)
        values = np.flatnonzero(counts)
        values = values[np.argsort(-counts[values], kind="stable")]
        places = [int(np.argmax(plane.ravel() == value)) for value in values]
        colors = [tuple(int(channel.ravel()[place]) for channel in mask.channels()) for place in places]
        labels = tuple(int(value) for value in values)
    else:
        codes = np.zeros(mask.luminance.shape, np.int32)
        for channel in mask.channels():
            codes = codes << 8 | channel
        # A presence table is much faster than sorting a large picture's colours.
        present = np.zeros(1 << 24, np.bool_)
        present[codes.ravel()] = True
        found = np.flatnonzero(present)[:_MOST_COUNTED]
        counts = np.bincount(np.searchsorted(found, codes.ravel()).clip(0, len(found) - 1), minlength=len(found))
        order = np.argsort(-counts, kind="stable")
        counts = counts[order]
        colors = [(int(code) >> 16, int(code) >> 8 & 255, int(code) & 255) for code in found[order]]
        return ColorTable(colors=tuple(colors), shares=tuple((counts / mask.luminance.size).tolist()), labels=())
    shares = tuple((counts[values] / mask.luminance.size).tolist())
    return ColorTable(colors=tuple(colors), shares=shares, labels=labels)


def project_on_line(mask: Levels, table: ColorTable) -> tuple[Bytes, str] | None:
    """Coverage of a mask that is painted in one colour on another, with blended edges or JPEG's errors.

    Args:
        mask: The mask.
        table: Its colours.

    Returns:
        HW uint8 coverage, 0 at the corners' colour and 255 at the colour that is painted, and that colour's name; None if the
        mask has other colours.
    """
    planes = mask.channels()
    corners = np.array([[float(plane[y, x]) for plane in planes] for y in (0, -1) for x in (0, -1)])
    ground = np.median(corners, axis=0)
    frequent = np.array(
        [color for color, share in zip(table.colors, table.shares, strict=True) if share > 0.0005], float
    )
    if not len(frequent):
        return None
    distances = np.linalg.norm(frequent - ground, axis=1)
    paint = frequent[int(distances.argmax())]
    axis = paint - ground
    length = float(axis @ axis)
    if length < 32**2:
        return None
    along = np.zeros(mask.luminance.shape, np.float32)
    norm = np.zeros(mask.luminance.shape, np.float32)
    for index, plane in enumerate(planes):
        offset = plane.astype(np.float32) - np.float32(ground[index])
        along += offset * np.float32(axis[index])
        norm += offset * offset
    share = along / np.float32(length)
    off_line = norm - share * share * np.float32(length)
    # A JPEG blurs colours over several pixels of an edge; its levels are not used as coverage.
    if float((off_line > _OFF_LINE**2).mean()) > (0.1 if mask.is_lossy else 0.002):
        return None
    coverage: Bytes = np.round(share.clip(0, 1) * 255).astype(np.uint8)
    return coverage, "#{:02x}{:02x}{:02x}".format(*(int(level) for level in paint))
