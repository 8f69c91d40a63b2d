"""The arrays that a picture is decoded into, part by part and upright, so that no second copy of it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alterbute.images.photo import Bytes, Pixels

STRIP_BYTES: Final = 1 << 19
"""Size of the parts in which pixels are converted: several of them fit in a processor's cache."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Planes:
    """Decoded levels, upright.

    Args:
        colors: HW or HW3, uint8 or uint16.
        alpha: HW of the dtype of `colors`, highest = opaque; None without transparency.
        labels: HW uint8, the palette's indices, where they were asked for and there are any.
    """

    colors: Pixels
    alpha: Pixels | None = None
    labels: Bytes | None = None


def make_planes(
    size: tuple[int, int],
    orientation: int = 1,
    *,
    is_grey: bool = False,
    has_alpha: bool = False,
    has_labels: bool = False,
    bits: int = 8,
) -> Planes:
    """Arrays for a picture, not yet filled.

    Args:
        size: Columns and rows, as stored.
        orientation: EXIF orientation 1..8 by which it is shown.
        is_grey: Whether its colours are one plane.
        has_alpha: Whether it has transparency.
        has_labels: Whether the palette's indices are wanted.
        bits: Bits of a level, 8 or 16.
    """
    shape = size if orientation >= 5 else size[::-1]
    kind: Any = np.uint16 if bits == 16 else np.uint8
    return Planes(
        colors=np.empty(shape if is_grey else (*shape, 3), kind),
        alpha=np.empty(shape, kind) if has_alpha else None,
        labels=np.empty(shape, np.uint8) if has_labels else None,
    )


def as_stored(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A view of an upright array, HW or HWC, as the file stores the picture; what is written to it is turned upright."""
    views = {
        2: lambda: array[:, ::-1],
        3: lambda: array[::-1, ::-1],
        4: lambda: array[::-1],
        5: lambda: array.swapaxes(0, 1),
        6: lambda: np.rot90(array, 1),
        7: lambda: array[::-1, ::-1].swapaxes(0, 1),
        8: lambda: np.rot90(array, -1),
    }
    return views[orientation]() if orientation in views else array


def paint(target: NDArray[Any], levels: NDArray[Any]) -> None:
    """Write levels to a part of a plane: 16 bits are cut to 8, and grey is repeated, where the plane needs it.

    Args:
        target: HW or HW3, a view.
        levels: HW or HW3 of the same height and width.
    """
    if levels.dtype.itemsize == 2 and target.dtype == np.uint8:
        levels = levels >> 8
    target[...] = levels[:, :, None] if target.ndim == 3 and levels.ndim == 2 else levels
