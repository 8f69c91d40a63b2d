"""Square boxes around the object, in whole pixels: the windows that the encoders read. Geometry only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alterbute.images.photo import Bytes

MIN_SIDE: Final = 32
"""Side of the smallest window in pixels, so that a one-pixel mask still has some photo around it."""
MAX_REFERENCE_ZOOM_OUT: Final = 3
"""Side of the largest reference window, in longer sides of the reference's object; bounds memory."""
MAX_ENLARGEMENT: Final = 1.25
"""Largest factor by which an edited window is enlarged when it is pasted, if the bundle has a resolution for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Pixels `top <= y < bottom`, `left <= x < right`; may reach beyond the picture."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows in the box."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns in the box."""
        return self.right - self.left

    def inside(self, height: int, width: int) -> Box:
        """The part of the box that lies in a picture of this size."""
        return Box(
            top=max(self.top, 0), left=max(self.left, 0), bottom=min(self.bottom, height), right=min(self.right, width)
        )

    def moved(self, down: int, right: int) -> Box:
        """The box moved by whole pixels."""
        return Box(top=self.top + down, left=self.left + right, bottom=self.bottom + down, right=self.right + right)

    def as_array(self) -> NDArray[np.int64]:
        """[4] int64 (top, left, bottom, right), the `window` graph's input."""
        return np.array([self.top, self.left, self.bottom, self.right], np.int64)


def object_box(mask: Bytes | NDArray[np.bool_]) -> Box:
    """The tightest box around a mask's object.

    Args:
        mask: HW uint8 or bool, not 0 = object; not empty.
    """
    rows = np.flatnonzero(mask.max(axis=1))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].max(axis=0))
    return Box(top=top, left=int(columns[0]), bottom=bottom, right=int(columns[-1]) + 1)


def photo_box(mask: Bytes, margin: float, rim: int = 0) -> Box:
    """The photo's window: a square of `margin` times the object, moved into the photo where it fits.

    The side is at most the photo's longer side: beyond it there is only padding.

    Args:
        mask: HW uint8, 255 = object; not empty.
        margin: Window side / longer side of the object.
        rim: Photo pixels around the object that must be in the window, too.
    """
    around = object_box(mask)
    height, width = mask.shape
    longer = max(around.height, around.width)
    side = max(math.ceil(margin * longer), longer + 2 * rim, MIN_SIDE)
    box = _square(around, min(side, max(height, width)))
    top, left = _shift(box.top, side=box.height, length=height), _shift(box.left, side=box.width, length=width)
    return Box(top=top, left=left, bottom=top + box.height, right=left + box.width)


def choose_resolution(box: Box, sides: tuple[int, ...]) -> int:
    """Side of the model's window: the smallest that pasting enlarges by at most `MAX_ENLARGEMENT`, or else the largest.

    Args:
        box: The photo's window, from `photo_box`.
        sides: The bundle's window sides in pixels, rising.
    """
    return next((side for side in sides if box.height <= MAX_ENLARGEMENT * side), sides[-1])


def identity_box(mask: Bytes, margin: float = 1.1) -> Box:
    """The square around a reference's object for the identity encoder, centred on it.

    Args:
        mask: HW uint8, 255 = object; not empty.
        margin: Box side / longer side of the object.
    """
    around = object_box(mask)
    return _square(around, math.ceil(margin * max(around.height, around.width)))


def reference_box(reference_mask: Bytes, photo_mask: Bytes, box: Box) -> Box:
    """The reference's window: it puts the reference's object where the photo's window has the photo's object.

    After both windows are resized to one size, the reference's object is centred on the photo's object and no
    higher or wider than it. The side is at most `MAX_REFERENCE_ZOOM_OUT` objects, so an object much longer in one
    direction than the photo's object may come out larger.

    Args:
        reference_mask: hw uint8, 255 = object; not empty.
        photo_mask: HW uint8, 255 = object; not empty.
        box: The photo's window, from `photo_box`.
    """
    source, target = object_box(reference_mask), object_box(photo_mask)
    fit = max(source.height / target.height, source.width / target.width) * box.height
    side = math.ceil(min(fit, MAX_REFERENCE_ZOOM_OUT * max(source.height, source.width)))
    scale = side / box.height
    top = math.floor((source.top + source.bottom + 1) / 2 - scale * ((target.top + target.bottom) / 2 - box.top))
    left = math.floor((source.left + source.right + 1) / 2 - scale * ((target.left + target.right) / 2 - box.left))
    return Box(top=top, left=left, bottom=top + side, right=left + side)


def _square(around: Box, side: int) -> Box:
    top = (around.top + around.bottom - side) // 2
    left = (around.left + around.right - side) // 2
    return Box(top=top, left=left, bottom=top + side, right=left + side)


def _shift(start: int, *, side: int, length: int) -> int:
    """Move a span into the picture; a span longer than the picture covers all of it."""
    low, high = sorted((0, length - side))
    return min(max(start, low), high)
