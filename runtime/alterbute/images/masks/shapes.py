"""Masks drawn from a box or from polygons, and the text forms of both that the command line accepts.

Coordinates are pixels of the displayed photo; pixel (i, j) covers [i, i+1) x [j, j+1), i to the right and j down.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from alterbute.errors import InputError
from alterbute.images.photo import Bytes

Polygon: TypeAlias = "Sequence[tuple[float, float]] | NDArray[np.float64]"
"""Three or more corners (x, y); the last is joined to the first. Where it crosses itself the even-odd rule applies."""

MAX_POINTS: Final = 100_000
MAX_COORDINATE: Final = 1_000_000
MAX_CROSSINGS: Final = 1 << 24
"""Most places where outlines cross the sample lines, `LINES` per row of pixels; bounds the time that drawing takes."""

# Coverage is exact along a sample line, to a STEPS-th of a pixel. Pillow's polygons are not used: Pillow 13 truncates corners
# to whole pixels and fills the pixels on the outline too, so that drawn 8 times as large they still spill into the next pixel.
LINES: Final = 16
STEPS: Final = 256
_CIRCLE_ERROR: Final = 0.02
_STRIP_ROWS: Final = 64
_STRIP_CROSSINGS: Final = 1 << 19

_Floats: TypeAlias = NDArray[np.float64]
_Integers: TypeAlias = NDArray[np.int64]
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def box_mask(size: tuple[int, int], box: Sequence[float]) -> Bytes:
    """The mask of a box, clipped to the photo.

    Args:
        size: Width and height of the photo.
        box: x0, y0, x1, y1 in pixels, x1 and y1 exclusive; each is rounded to the nearest whole pixel, halves up.

    Returns:
        HW uint8, 255 in the box, 0 elsewhere.

    Raises:
        InputError: not four finite numbers, empty, or wholly outside the photo.
    """
    is_usable = all(isinstance(value, int | float | np.number) and abs(value) < math.inf for value in box)
    if len(box) != 4 or not is_usable:
        raise _box_error(f"the box is {shorten(', '.join(str(value) for value in box))}", "box_bad_number")
    width, height = size
    left, top, right, bottom = (math.floor(value + 0.5) for value in box)
    seen = f"the box {left},{top},{right},{bottom}"
    if left >= right or top >= bottom:
        raise _box_error(f"{seen} is empty", "box_empty")
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        raise _box_error(f"{seen} is outside the photo of {width}x{height} pixels", "box_outside")
    mask = np.zeros((height, width), np.uint8)
    mask[max(top, 0) : bottom, max(left, 0) : right] = 255
    return mask


def polygon_mask(size: tuple[int, int], polygons: Sequence[Polygon]) -> Bytes:
    """The union of polygons, clipped to the photo.

    Args:
        size: Width and height of the photo.
        polygons: One or more; together at most `MAX_POINTS` corners.

    Returns:
        HW uint8, how much of each pixel is covered: 255 wholly, 0 not at all.

    Raises:
        InputError: no polygon, too many or too few corners, a corner that is no finite pair of numbers or far outside, a
            polygon without area, too long an outline, or nothing inside the photo.
    """
    width, height = size
    rings = _check_polygons(polygons)
    mask = np.zeros((height, width), np.uint8)
    corners = np.concatenate(rings)
    low, high = corners.min(axis=0), corners.max(axis=0)
    if low[0] >= width or low[1] >= height or high[0] <= 0 or high[1] <= 0:
        raise _polygon_error(f"the polygon is outside the photo of {width}x{height} pixels", "polygon_outside")
    left, right = max(math.floor(low[0]), 0), min(math.ceil(high[0]), width)
    edges = _Edges(rings, height)
    for top, bottom in edges.list_strips():
        lines, steps, owners = edges.cross(top, bottom, (left, right))
        lines, steps = _find_spans(lines, steps, owners, len(rings))
        mask[top:bottom, left:right] = _cover(lines, steps, (bottom - top, right - left))
    if not mask.any():
        raise _polygon_error("the polygon is too thin to cover a pixel of the photo", "polygon_empty")
    return mask


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Read a box such as `10,20,110,220`: x0, y0, x1, y1 in pixels, x1 and y1 exclusive."""
    words = text.split(",", 4)
    numbers = [_parse_number(word) for word in words]
    values = [number for number in numbers if number is not None]
    if len(words) != 4 or len(values) != 4:
        raise _box_error(f"the box is {shorten(text)!r}", "box_bad_number")
    return values[0], values[1], values[2], values[3]


def parse_polygon(text: str) -> list[tuple[float, float]]:
    """Read a polygon such as `10,20 110,20 60,200`: the corners x,y in pixels, with blanks between them."""
    words = text.split(maxsplit=MAX_POINTS)
    _check_count(len(words), "the polygon")
    corners = []
    for number, word in enumerate(words, 1):
        x, comma, y = word.partition(",")
        right, down = _parse_number(x), _parse_number(y)
        if not comma or right is None or down is None:
            raise _polygon_error(f"corner {number} of the polygon is {shorten(word)!r}", "polygon_bad_number")
        corners.append((right, down))
    return corners


def draw_circle(centre: tuple[float, float], radius: float) -> list[tuple[float, float]]:
    """The corners of a polygon that leaves a circle by at most `_CIRCLE_ERROR` pixels."""
    num_corners = max(64, math.ceil(math.pi * math.sqrt(radius / (2 * _CIRCLE_ERROR))))
    angles = np.arange(num_corners) * (2 * math.pi / num_corners)
    x, y = centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)
    return list(zip(x.tolist(), y.tolist(), strict=True))


class _Edges:
    """The edges of polygons that cross a sample line of the photo, the upper end first.

    Args:
        rings: The corners of each polygon, [n,2] float64.
        height: Rows of the photo.
    """

    def __init__(self, rings: list[_Floats], height: int) -> None:
        edges = np.concatenate([np.concatenate((ring, np.roll(ring, -1, axis=0)), axis=1) for ring in rings])
        owners = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
        edges = np.where((edges[:, 1] > edges[:, 3])[:, None], edges[:, [2, 3, 0, 1]], edges)
        # An edge crosses the lines whose height y is y0 <= y < y1, so that a shared corner counts once.
        first, last = (np.clip(np.ceil(edges[:, i] * LINES - 0.5), 0, height * LINES).astype(np.int64) for i in (1, 3))
        crosses = last > first
        self._edges, self._owners = edges[crosses], owners[crosses]
        self._first, self._last = first[crosses], last[crosses]
        crossings = int((self._last - self._first).sum())
        if crossings > MAX_CROSSINGS:
            seen = f"the polygon's outline crosses rows of pixels {crossings // LINES:,} times"
            raise _polygon_error(seen, "polygon_outline_too_long", f"at most {MAX_CROSSINGS // LINES:,}")
        self._height = height

    def list_strips(self) -> Iterator[tuple[int, int]]:
        """Rows from top to bottom in strips of a bounded number of crossings, without rows that no edge crosses."""
        changes = np.bincount(self._first // LINES, minlength=self._height + 1)[: self._height + 1]
        changes = changes - np.bincount((self._last - 1) // LINES + 1, minlength=self._height + 1)
        counts = np.cumsum(changes)[: self._height] * LINES
        rows = np.flatnonzero(counts)
        if not len(rows):
            return
        top, crossings = int(rows[0]), 0
        for row in range(top, int(rows[-1]) + 1):
            if row > top and (row - top == _STRIP_ROWS or crossings + counts[row] > _STRIP_CROSSINGS):
                yield top, row
                top, crossings = row, 0
            crossings += int(counts[row])
        yield top, int(rows[-1]) + 1

    def cross(self, top: int, bottom: int, columns: tuple[int, int]) -> tuple[_Integers, _Integers, _Integers]:
        """Where edges cross the sample lines of a strip, in no order.

        Args:
            top: First row of the strip.
            bottom: Row after the last one.
            columns: First column of the drawing and the column after the last one; crossings are moved inside.

        Returns:
            The line within the strip, x in steps from the first column, and the polygon, each [n] int64.
        """
        first, last = np.maximum(self._first, top * LINES), np.minimum(self._last, bottom * LINES)
        chosen = np.flatnonzero(last > first)
        counts = (last - first)[chosen]
        ends = np.cumsum(counts)
        index = np.repeat(chosen, counts)
        lines = np.arange(len(index)) - np.repeat(ends - counts, counts) + first[index]
        x0, y0, x1, y1 = self._edges[index].T
        x = x0 + (x1 - x0) / (y1 - y0) * ((lines + 0.5) / LINES - y0)
        x = np.clip(x, np.minimum(x0, x1), np.maximum(x0, x1))  # a nearly level edge amplifies rounding errors
        steps = np.rint((np.clip(x, *columns) - columns[0]) * STEPS).astype(np.int64)
        return lines - top * LINES, steps, self._owners[index]


def _find_spans(
    lines: _Integers, steps: _Integers, owners: _Integers, num_polygons: int
) -> tuple[_Integers, _Integers]:
    """The spans of the lines inside any polygon: a start, its end, the next start..., from line to line.

    Args:
        lines: Line of each crossing.
        steps: Its x.
        owners: Its polygon.
        num_polygons: How many polygons there are.
    """
    num_steps = int(steps.max(initial=0)) + 1
    num_lines = int(lines.max(initial=0)) + 1
    # Sorted as one number each. A polygon crosses a line an even number of times, so starts and ends alternate.
    keys = np.sort((owners * num_lines + lines) * num_steps + steps)
    if num_polygons > 1:
        is_end = np.arange(len(keys)) % 2
        keys = np.sort(keys % (num_lines * num_steps) * 2 + is_end)
        is_end, keys = keys % 2, keys // 2
        depth = np.cumsum(1 - 2 * is_end)
        keys = keys[depth == is_end ^ 1]
    return keys // num_steps % num_lines, keys % num_steps


def _cover(lines: _Integers, steps: _Integers, shape: tuple[int, int]) -> Bytes:
    """How much of each pixel of a strip the spans cover, rounded to 0..255.

    Args:
        lines: Line of each start and end of a span, alternating.
        steps: Its x.
        shape: Rows and columns of the strip.
    """
    height, width = shape
    # Differences along each row: a start at x adds the covered part of its pixel there, and the rest of a pixel to the next.
    places = lines // LINES * (width + 2) + steps // STEPS
    signs, parts = 1 - 2 * (np.arange(len(steps)) % 2), steps % STEPS
    length = height * (width + 2)
    change = np.bincount(places, signs * (STEPS - parts), length) + np.bincount(places + 1, signs * parts, length)
    covered = np.cumsum(change.reshape(height, width + 2), axis=1)[:, :width]
    return np.floor(covered * (255 / (LINES * STEPS)) + 0.5).astype(np.uint8)


def _check_polygons(polygons: Sequence[Polygon]) -> list[_Floats]:
    if not len(polygons):
        raise _polygon_error("there is no polygon", "polygon_missing")
    names = ["the polygon"] if len(polygons) == 1 else [f"polygon {number}" for number in range(1, len(polygons) + 1)]
    for polygon, name in zip(polygons, names, strict=True):
        if not hasattr(polygon, "__len__"):
            raise _polygon_error(f"{name} is a {type(polygon).__name__}", "polygon_bad_number")
        _check_count(len(polygon), name)
    _check_count(sum(len(polygon) for polygon in polygons), "all polygons together")
    return [_check_polygon(polygon, name) for polygon, name in zip(polygons, names, strict=True)]


def _check_polygon(polygon: Polygon, name: str) -> _Floats:
    try:
        corners = np.asarray(polygon)
    except (ValueError, TypeError, OverflowError):
        corners = np.empty(0)
    if corners.ndim != 2 or corners.shape[1] != 2 or corners.dtype.kind not in "iuf":
        raise _polygon_error(f"a corner of {name} is not a pair of numbers", "polygon_bad_number")
    corners = corners.astype(np.float64)
    with np.errstate(invalid="ignore"):
        is_usable = np.abs(corners) <= MAX_COORDINATE  # False for NaN, too
    if not is_usable.all():
        number = int(np.flatnonzero(~is_usable.all(axis=1))[0])
        x, y = corners[number]
        raise _polygon_error(
            f"corner {number + 1} of {name} is {x:g},{y:g}",
            "polygon_bad_number",
            f"finite numbers of at most {MAX_COORDINATE:,}",
        )
    arms = corners - corners[0]
    lengths = np.hypot(arms[:, 0], arms[:, 1])
    farthest = arms[lengths.argmax()]
    if np.abs(arms[:, 0] * farthest[1] - arms[:, 1] * farthest[0]).max() <= 1e-12 * lengths.max() ** 2:
        raise _polygon_error(f"{name} has no area: its corners lie on one line", "polygon_no_area")
    return corners


def _check_count(count: int, name: str) -> None:
    if count < 3:
        raise _polygon_error(f"{name} has {count} corner{'s' * (count != 1)}", "polygon_few_points")
    if count > MAX_POINTS:
        raise _polygon_error(f"{name} has {count:,} corners", "polygon_many_points", f"at most {MAX_POINTS:,}")


def _parse_number(word: str) -> float | None:
    return float(word) if _NUMBER.fullmatch(word.strip()) and math.isfinite(float(word)) else None


def shorten(value: object) -> str:
    """The text of a value from a user, cut after 60 characters, for a message."""
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _box_error(seen: str, code: str) -> InputError:
    return InputError(
        seen, "x0,y0,x1,y1 in pixels of the photo, x0 < x1 and y0 < y1", "write it like 10,20,110,220", "box", code
    )


def _polygon_error(
    seen: str, code: str, expected: str = "three or more corners x,y around an area of the photo"
) -> InputError:
    return InputError(seen, expected, "write it like 10,20 110,20 60,200, with few corners", "polygon", code)
