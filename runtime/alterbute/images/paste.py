"""Cut the window out of the photo, and paste the edited window back; all other pixels stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from alterbute.images.boxes import Box, object_box
from alterbute.images.photo import Bytes, Photo, Pixels

AnyPixels = TypeVar("AnyPixels", bound=NDArray[Any])


def cut(pixels: AnyPixels, box: Box) -> AnyPixels:
    """Cut a box out of a picture; where it reaches beyond the picture, the nearest pixel is repeated.

    Args:
        pixels: HWC uint8 or uint16, or HW.
        box: A box that overlaps the picture.

    Returns:
        hwC or hw of the same dtype; the size of the box.
    """
    height, width = pixels.shape[:2]
    if box == box.inside(height, width):
        return pixels[box.top : box.bottom, box.left : box.right].copy()  # type: ignore[return-value]
    rows = np.arange(box.top, box.bottom).clip(0, height - 1)
    columns = np.arange(box.left, box.right).clip(0, width - 1)
    window: AnyPixels = pixels[rows[:, None], columns]
    return window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patch:
    """The part of an edited photo that may differ from the photo.

    Args:
        box: Its place in the photo.
        pixels: hwC of the photo's dtype; the photo's own where `alpha` is 0.
        alpha: hw uint8, how much of the edit each pixel got; 0 = untouched.
    """

    box: Box
    pixels: Pixels
    alpha: Bytes

    def spread_alpha(self, photo: Photo) -> Bytes:
        """HW uint8 alpha over the whole photo, read-only."""
        touched = np.zeros((photo.height, photo.width), np.uint8)
        touched[self.box.top : self.box.bottom, self.box.left : self.box.right] = self.alpha
        touched.setflags(write=False)
        return touched

    def put_into(self, photo: Photo, pixels: Pixels | None = None) -> Photo:
        """The photo with the patch in it; transparency, colour tags and metadata are the photo's.

        Args:
            photo: The photo.
            pixels: A copy of the photo's pixels, which becomes the result's; None copies them.
        """
        pixels = photo.pixels.copy() if pixels is None else pixels
        pixels[self.box.top : self.box.bottom, self.box.left : self.box.right] = self.pixels
        return replace(photo, pixels=pixels)


def make_patch(photo: Photo, box: Box, pasted: Pixels, alpha: Bytes) -> Patch:
    """Crop an edited window to the pixels that it changes in the photo; pixels with alpha 0 are taken from the photo.

    Args:
        photo: The photo that `box` was cut from.
        box: The window, which may reach beyond the photo.
        pasted: hwC of the photo's dtype, the window with the edit blended in.
        alpha: hw uint8, how much of the edit each pixel got; 0 = untouched.
    """
    inside = box.inside(photo.height, photo.width)
    inside_alpha = alpha[
        inside.top - box.top : inside.bottom - box.top, inside.left - box.left : inside.right - box.left
    ]
    touched = object_box(inside_alpha) if inside_alpha.any() else Box(top=0, left=0, bottom=0, right=0)
    patch = touched.moved(inside.top, inside.left)
    in_window = np.s_[patch.top - box.top : patch.bottom - box.top, patch.left - box.left : patch.right - box.left]
    pixels = cut(photo.pixels, patch)
    np.copyto(_whole_pixels(pixels), _whole_pixels(pasted[in_window]), where=alpha[in_window] > 0)
    return Patch(box=patch, pixels=pixels, alpha=alpha[in_window])


def join_patches(photo: Photo, patches: Sequence[Patch]) -> Patch:
    """One patch that does what several do, for objects that were edited in windows of their own; of two, the later one wins.

    Args:
        photo: The photo that the patches belong to.
        patches: At least one patch.
    """
    drawn = [patch for patch in patches if patch.pixels.size]
    if len(drawn) < 2:
        return drawn[0] if drawn else patches[0]
    around = Box(
        top=min(patch.box.top for patch in drawn),
        left=min(patch.box.left for patch in drawn),
        bottom=max(patch.box.bottom for patch in drawn),
        right=max(patch.box.right for patch in drawn),
    )
    pixels, alpha = cut(photo.pixels, around), np.zeros((around.height, around.width), np.uint8)
    for patch in drawn:
        place = patch.box.moved(-around.top, -around.left)
        part = np.s_[place.top : place.bottom, place.left : place.right]
        is_changed = patch.alpha > 0
        np.copyto(_whole_pixels(pixels[part]), _whole_pixels(patch.pixels), where=is_changed)
        np.copyto(alpha[part], patch.alpha, where=is_changed)
    return Patch(box=around, pixels=pixels, alpha=alpha)


def _whole_pixels(pixels: Pixels) -> NDArray[np.void]:
    """View hw3 as hw: indexing whole pixels is three times as fast as a mask that is spread over channels."""
    view: NDArray[np.void] = pixels.view(f"V{3 * pixels.itemsize}")[:, :, 0]
    return view
