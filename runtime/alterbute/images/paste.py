"""Cut the window out of the photo, and put the edited window back without touching anything else."""

from __future__ import annotations

import numpy as np

from alterbute.images.photo import Bytes, Photo
from alterbute.images.window import Box


def cut(pixels: Bytes, box: Box) -> Bytes:
    """The box's pixels; where it reaches beyond the picture, the nearest pixel is repeated.

    Args:
        pixels: HWC uint8 RGB in [0,255].
        box: A box that overlaps the picture.

    Returns:
        hwC uint8 RGB, h x w the size of the box.
    """
    height, width = pixels.shape[:2]
    rows = np.arange(box.top, box.bottom).clip(0, height - 1)
    columns = np.arange(box.left, box.right).clip(0, width - 1)
    window: Bytes = pixels[rows[:, None], columns]
    return window


def paste_back(photo: Photo, box: Box, pasted: Bytes, alpha: Bytes) -> tuple[Photo, Bytes]:
    """Put the edited window into a copy of the photo; a pixel with alpha 0 is never written.

    Args:
        photo: The photo that `box` was cut from; its transparency and profile are kept.
        box: The window, which may reach beyond the photo.
        pasted: hwC uint8 RGB, the window with the edit blended in, from the `paste` graph.
        alpha: hw uint8, how much of the edit each pixel got; 0 = untouched.

    Returns:
        The edited photo, and HW uint8 alpha over the whole photo.
    """
    inside = box.inside(photo.height, photo.width)
    there = np.s_[inside.top : inside.bottom, inside.left : inside.right]
    here = np.s_[inside.top - box.top : inside.bottom - box.top, inside.left - box.left : inside.right - box.left]
    pixels, touched = photo.pixels.copy(), np.zeros((photo.height, photo.width), np.uint8)
    touched[there] = alpha[here]
    written = touched[there] > 0
    pixels[there][written] = pasted[here][written]
    return Photo(pixels=pixels, alpha=photo.alpha, icc=photo.icc), touched
