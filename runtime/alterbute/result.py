"""The result of an edit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EditResult:
    """One edited photo.

    Args:
        image: The photo at its own size, RGB or RGBA; every pixel where `alpha` is 0 is the photo's, bit for bit.
        alpha: HW uint8, how much of the edit each pixel got; 0 = untouched, read-only.
        seed: The seed that was used; with `index` it makes the same bytes again.
        index: Index of the image within its request, 0-based.
        timings: Seconds by stage: `window`, `encode`, `steps`, `decode`, `paste`. Stages that
            were cached count 0; images that shared launches each count the whole time that they were in the lane.
        warnings: Messages for the user, such as words outside the bundle's vocabulary.
    """

    image: Image
    alpha: NDArray[np.uint8]
    seed: int
    index: int
    timings: Mapping[str, float]
    warnings: tuple[str, ...]
