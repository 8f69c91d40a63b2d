"""The paste of an edited window at the photo's resolution, in the photo's own colour space and depth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from alterbute.backends import Array, Arrays
from alterbute.detail import PasteRule
from alterbute.encode.encoder import CroppedWindow
from alterbute.images.color import add_change, from_srgb, is_srgb
from alterbute.images.photo import Bytes, Pixels

GraphRunner = Callable[[str, Arrays], dict[str, Array]]
"""Runs a graph of the bundle by name; returns its outputs by name."""


def paste_window(
    run: GraphRunner, window: CroppedWindow, icc: bytes | None, rule: PasteRule, edited: Bytes, roundtrip: Bytes | None
) -> Pixels:
    """Draw an edited window at the photo's resolution, and blend it by the window's alpha.

    The graph works in sRGB. A photo of another space is converted, and the change that the graph makes is converted back and added,
    so that colours outside sRGB are kept where the edit does not change them.

    Args:
        run: Runs the graphs `paste` and `paste16`.
        window: The window of the photo.
        icc: The photo's profile; None is sRGB.
        rule: How the window is pasted.
        edited: [S,S,3] uint8, the decoded edit.
        roundtrip: [S,S,3] uint8, the decoded latent of the photo's own window; None where the rule does not need it.

    Returns:
        [h,w,3] of the photo's dtype; the photo's own pixels where alpha is 0.
    """
    inputs: dict[str, Array] = {
        "edited": edited,
        "roundtrip": edited if roundtrip is None else roundtrip,
        "object_mask": window.images.object_mask,
        "threshold": np.array([rule.threshold], np.float32),
        "photo": window.srgb,
        "alpha": window.images.alpha,
    }
    drawn: Pixels = run("paste" if window.srgb.dtype == np.uint8 else "paste16", inputs)["image"]
    return drawn if is_srgb(icc) else add_change(window.pixels, window.restored, from_srgb(drawn, icc))
