"""The windows of a region: one for all of it, or one for each of several distant objects, so that each keeps its resolution."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alterbute.images.boxes import MAX_ENLARGEMENT, Box
from alterbute.images.masks.pieces import Pieces
from alterbute.images.masks.region import Region, fill_box

MAX_WINDOWS: Final = 8
"""Most windows of one photo; nearest objects share one beyond that."""
MAX_PIECES: Final = 64
"""Most pieces of a mask that is split; a mask of more is lettering or a texture, and is edited in one window."""
MIN_GAP: Final = 0.5
"""Gap between two objects, in longer sides of the larger one, from which they are edited apart."""


def group_objects(boxes: list[Box], margin: float, largest_side: int) -> list[list[int]]:
    """Group the pieces of a mask that share a window.

    Two groups share one if their gap is less than `MIN_GAP` of the larger one, or if the window around both would shrink them by
    at most `MAX_ENLARGEMENT` more than a window of their own.

    Args:
        boxes: The box around each piece.
        margin: Window side / longer side of the object.
        largest_side: The bundle's largest window side in pixels; up to it no window is shrunk.

    Returns:
        Indices of each group's pieces, in rising order; the groups in the order of their first piece.
    """
    groups = [([index], box) for index, box in enumerate(boxes)]
    while len(groups) > 1:
        best: tuple[float, int, int] | None = None
        for one in range(len(groups)):
            for other in range(one + 1, len(groups)):
                a, b = groups[one][1], groups[other][1]
                if len(groups) <= MAX_WINDOWS and _are_apart(a, b, margin, largest_side):
                    continue
                rank = (_gap(a, b), one, other)
                best = rank if best is None or rank < best else best
        if best is None:
            break
        _, one, other = best
        pieces = sorted(groups[one][0] + groups[other][0])
        groups[one] = (pieces, _around(groups[one][1], groups[other][1]))
        del groups[other]
    return [pieces for pieces, _ in groups]


def count_windows(region: Region, margin: float, window_sides: tuple[int, ...]) -> int:
    """Number of windows that `split_region` makes, without making them; it makes one where a part has no object.

    Args:
        region: A photo's masks.
        margin: Window side / longer side of the object.
        window_sides: The bundle's window sides in pixels, rising.
    """
    return len(_group_pieces(region, margin, window_sides))


def split_region(region: Region, margin: float, window_sides: tuple[int, ...]) -> list[Region]:
    """The regions that are edited in windows of their own.

    Args:
        region: A photo's masks.
        margin: Window side / longer side of the object.
        window_sides: The bundle's window sides in pixels, rising.
    """
    pieces, groups = region.pieces, _group_pieces(region, margin, window_sides)
    if pieces is None or len(groups) < 2:
        return [region]
    parts = [_take_part(region, pieces.paint(_choose(pieces, group))) for group in groups]
    # A part without an object is a faint smear, or all of it is protected: then the objects are not told apart.
    return parts if all(part.object.any() for part in parts) else [region]


def _group_pieces(region: Region, margin: float, window_sides: tuple[int, ...]) -> list[list[int]]:
    """The pieces of each window; one empty group for a mask that is not split."""
    pieces = region.pieces
    if pieces is None or not 2 <= len(pieces.areas) <= MAX_PIECES:
        return [[]]
    return group_objects(pieces.boxes(), margin, window_sides[-1])


def _take_part(region: Region, is_part: NDArray[np.bool_]) -> Region:
    """The region of some pieces of the mask, HW bool."""
    visible = np.where(is_part, region.object, np.uint8(0))
    if region.kind == "box" and visible.any():
        edit = np.where(region.protect == 0, fill_box(visible), np.uint8(0))
    else:
        edit = np.where(is_part, region.edit, np.uint8(0))
    return replace(region, object=visible, edit=edit, pieces=None)


def _choose(pieces: Pieces, group: list[int]) -> NDArray[np.bool_]:
    chosen = np.zeros(len(pieces.areas), np.bool_)
    chosen[group] = True
    return chosen


def _are_apart(a: Box, b: Box, margin: float, largest_side: int) -> bool:
    alone = max(_side(a), _side(b))
    together = _side(_around(a, b))
    # A window up to the bundle's largest side is not shrunk, so nothing is lost.
    loss = max(margin * together, largest_side) / max(margin * alone, largest_side)
    return loss > MAX_ENLARGEMENT and _gap(a, b) >= MIN_GAP * alone


def _side(box: Box) -> int:
    return max(box.height, box.width)


def _gap(a: Box, b: Box) -> int:
    """Rows or columns between two boxes, whichever are more; 0 if they touch in both directions."""
    down = max(a.top - b.bottom, b.top - a.bottom, 0)
    right = max(a.left - b.right, b.left - a.right, 0)
    return max(down, right)


def _around(a: Box, b: Box) -> Box:
    return Box(
        top=min(a.top, b.top), left=min(a.left, b.left), bottom=max(a.bottom, b.bottom), right=max(a.right, b.right)
    )
