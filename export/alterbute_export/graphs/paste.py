"""The paste graph: the edited window resized to the photo's box and blended by alpha; it always runs on the CPU."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch.nn import functional

from alterbute_export.graphs.spec import Array, GraphSpec, Sizes, draw_mask, edge

# Only the bounding box of the pixels with alpha > 0 is blended, or the whole picture where there are none. Width is resized
# before height, in the order of one Resize of both, so that columns outside the bounding box are cut off before the second.
# Alpha is repeated for the three channels: ONNX Runtime's optimizer moves the transposes to the end, and multiplying HWC
# pixels by a broadcast HW1 alpha is ten times as slow as by an HWC one.
# Alpha 0 needs no case of its own: 255 * photo / 255 is exact in float32.
_TEXT: Final = """
<ir_version: 10, opset_import: ["" : 20]>
paste (uint8[SH,SW,3] edited, uint8[BH,BW,3] photo, uint8[BH,BW] alpha) => (uint8[BH,BW,3] image)
    <int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2}, int64[1] i3 = {3}, int64[2] axes = {0, 1}, int64[2] one_three = {1, 3},
     float none = {0}, float full = {255}>
{
    row_alpha = ReduceMax <keepdims = 0> (alpha, i1)
    column_alpha = ReduceMax <keepdims = 0> (alpha, i0)
    is_row_b = Cast <to = 9> (row_alpha)
    is_column_b = Cast <to = 9> (column_alpha)
    is_row = Cast <to = 2> (is_row_b)
    is_column = Cast <to = 2> (is_column_b)
    top = ArgMax(is_row)
    left = ArgMax(is_column)
    last_row = ArgMax <select_last_index = 1> (is_row)
    last_column = ArgMax <select_last_index = 1> (is_column)
    bottom = Add(last_row, i1)
    right = Add(last_column, i1)
    start = Concat <axis = 0> (top, left)
    end = Concat <axis = 0> (bottom, right)
    near = Slice(photo, start, end, axes)
    alpha_near = Slice(alpha, start, end, axes)

    edited_f = Cast <to = 1> (edited)
    edited_chw = Transpose <perm = [2, 0, 1]> (edited_f)
    edited_nchw = Unsqueeze(edited_chw, i0)
    edited_size = Shape(edited_nchw)
    edited_rows = Slice(edited_size, i2, i3)
    size = Shape(alpha)
    rows = Slice(size, i0, i1)
    columns = Slice(size, i1, i2)
    wide = Concat <axis = 0> (one_three, edited_rows, columns)
    widened = Resize <mode = "linear", antialias = 1, exclude_outside = 1> (edited_nchw, , , wide)
    widened_near = Slice(widened, left, right, i3)
    near_columns = Sub(right, left)
    high = Concat <axis = 0> (one_three, rows, near_columns)
    resized = Resize <mode = "linear", antialias = 1, exclude_outside = 1> (widened_near, , , high)
    resized_near = Slice(resized, top, bottom, i2)
    resized_chw = Squeeze(resized_near, i0)
    clipped = Clip(resized_chw, none, full)

    photo_chw = Transpose <perm = [2, 0, 1]> (near)
    photo_f = Cast <to = 1> (photo_chw)
    alpha_plane = Unsqueeze(alpha_near, i0)
    alpha_chw = Concat <axis = 0> (alpha_plane, alpha_plane, alpha_plane)
    over = Cast <to = 1> (alpha_chw)
    under = Sub(full, over)
    edited_share = Mul(over, clipped)
    photo_share = Mul(under, photo_f)
    sum = Add(edited_share, photo_share)
    blended = Div(sum, full)
    pixels = Transpose <perm = [1, 2, 0]> (blended)
    rounded = Round(pixels)
    image_near = Cast <to = 2> (rounded)

    above = Slice(photo, i0, top, i0)
    below = Slice(photo, bottom, rows, i0)
    band = Slice(photo, top, bottom, i0)
    before = Slice(band, i0, left, i1)
    after = Slice(band, right, columns, i1)
    middle = Concat <axis = 1> (before, image_near, after)
    image = Concat <axis = 0> (above, middle, below)
}
"""


def paste_spec() -> GraphSpec:
    """The spec of the paste graph, which is the same for every checkpoint."""
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
    """The paste graph's arithmetic in torch: the blended photo `[BH,BW,3]`, f32 in [0,255], not rounded.

    Args:
        edited: `[SH,SW,3]` uint8 edited window.
        photo: `[BH,BW,3]` uint8 box of the photo.
        alpha: `[BH,BW]` uint8 weight of the edit, 255 for the edit alone.
    """
    picture = edited.permute(2, 0, 1)[None].float()
    size = list(alpha.shape)
    resized = functional.interpolate(picture, size, mode="bilinear", antialias=True, align_corners=False)
    over = alpha[:, :, None].float()
    blended = (over * resized[0].permute(1, 2, 0).clamp(0, 255) + (255 - over) * photo.float()) / 255
    return torch.where(over == 0, photo.float(), blended)


def _draw_alpha(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
    """Draw an alpha with untouched, blended and replaced pixels: a rectangle of 255 over sparse noise."""
    sparse = generator.integers(0, 256, shape) * (generator.random(shape) < 0.3)
    return np.maximum(sparse.astype(np.uint8), draw_mask()(generator, shape, sizes))
