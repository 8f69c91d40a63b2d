"""The paste graph: the edited window back to the photo's resolution, blended by alpha. Runs on the CPU always."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch.nn import functional

from alterbute_export.graphs.spec import Array, GraphSpec, Sizes, draw_mask, edge

# Three planes of alpha, so that nothing is broadcast: ONNX Runtime moves the transposes where it likes, and multiplies one alpha
# with the last axis's three channels ten times as slowly as three with three.
# Alpha 0 needs no case of its own: 255 * photo / 255 is exact in float32.
_TEXT: Final = """
<ir_version: 10, opset_import: ["" : 20]>
paste (uint8[SH,SW,3] edited, uint8[BH,BW,3] photo, uint8[BH,BW] alpha) => (uint8[BH,BW,3] image)
    <int64[1] first = {0}, int64[2] one_three = {1, 3}, float none = {0}, float full = {255}>
{
    edited_f = Cast <to = 1> (edited)
    edited_chw = Transpose <perm = [2, 0, 1]> (edited_f)
    edited_nchw = Unsqueeze(edited_chw, first)
    size = Shape(alpha)
    sizes = Concat <axis = 0> (one_three, size)
    resized = Resize <mode = "linear", antialias = 1, exclude_outside = 1> (edited_nchw, , , sizes)
    resized_chw = Squeeze(resized, first)
    clipped = Clip(resized_chw, none, full)

    photo_chw = Transpose <perm = [2, 0, 1]> (photo)
    photo_f = Cast <to = 1> (photo_chw)
    alpha_plane = Unsqueeze(alpha, first)
    alpha_chw = Concat <axis = 0> (alpha_plane, alpha_plane, alpha_plane)
    over = Cast <to = 1> (alpha_chw)
    under = Sub(full, over)
    edited_share = Mul(over, clipped)
    photo_share = Mul(under, photo_f)
    sum = Add(edited_share, photo_share)
    blended = Div(sum, full)
    pixels = Transpose <perm = [1, 2, 0]> (blended)
    rounded = Round(pixels)
    image = Cast <to = 2> (rounded)
}
"""


def paste_spec() -> GraphSpec:
    """The paste graph; it is the same for every checkpoint."""
    return GraphSpec(
        name="paste",
        graph=_TEXT,
        reference=paste_reference,
        inputs=(
            edge("edited", "uint8", "SH", "SW", 3),
            edge("photo", "uint8", "BH", "BW", 3),
            edge("alpha", "uint8", "BH", "BW"),
        ),
        outputs=(edge("image", "uint8", "BH", "BW", 3),),
        trace_sizes={},
        check_sizes=(
            {"SH": 48, "SW": 48, "BH": 145, "BW": 145},
            {"SH": 64, "SW": 64, "BH": 23, "BW": 31},
        ),
        draw={"alpha": _draw_alpha},
    )


def paste_reference(edited: torch.Tensor, photo: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The same arithmetic in torch, unrounded, as f32 in [0,255]."""
    picture = edited.permute(2, 0, 1)[None].float()
    size = list(alpha.shape)
    resized = functional.interpolate(picture, size, mode="bilinear", antialias=True, align_corners=False)
    over = alpha[:, :, None].float()
    blended = (over * resized[0].permute(1, 2, 0).clamp(0, 255) + (255 - over) * photo.float()) / 255
    return torch.where(over == 0, photo.float(), blended)


def _draw_alpha(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
    """A rectangle of 255 over faint noise: untouched, blended and replaced pixels."""
    faint = generator.integers(0, 256, shape) * (generator.random(shape) < 0.3)
    return np.maximum(faint.astype(np.uint8), draw_mask()(generator, shape, sizes))
