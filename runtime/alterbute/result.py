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
        alpha: [H,W] uint8, read-only: blend weight of the edit at each pixel; 0 = the photo's pixel.
        seed: The seed that was used; the same seed and `index` give the same bytes again.
        index: Index of the image within its request, 0-based.
        detail: Where the object's detail comes from: `photo` or `model`; see `alterbute.detail`.
        detail_threshold: T in [0,1] with which the model's pixels were added to the photo's; -1 for `model`.
        timings: Seconds by stage: `window`, `encode`, `steps`, `decode`, `paste`. `steps` is the whole time in the lane, with
            launches shared with other images; a stage whose outputs were cached takes almost no time.
        warnings: Messages for the user, such as words outside the bundle's vocabulary.
    """

    image: Image
    alpha: NDArray[np.uint8]
    seed: int
    index: int
    detail: str
    detail_threshold: float
    timings: Mapping[str, float]
    warnings: tuple[str, ...]
