"""The window graph: photo, mask and a box to the model's picture of them. Written by hand; runs on the CPU always."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from alterbute.bundle import MaskRules
from torch.nn import functional

from alterbute_export.graphs.spec import Array, GraphSpec, Sizes, draw_mask, edge

AREA_THRESHOLD: Final = 63.5
"""Mask coverage of a window pixel, of 255, from which it is object. Just under a quarter, so that exact
quarters, which masks that shrink by 2 are full of, do not hang on the last bit of a float."""

# exclude_outside: without it ONNX Runtime repeats the border when it shrinks, up to 14 levels away from Pillow there.
_TEXT: Final = """
<ir_version: 10, opset_import: ["" : 20]>
window (uint8[H,W,3] image, uint8[H,W] mask, int64[4] box, int64[2] size)
    => (uint8[SH,SW,3] window, uint8[SH,SW] object_mask, uint8[SH,SW] window_mask, uint8[BH,BW] alpha)
    <int64[1] i0 = {0}, int64[1] i2 = {2}, int64[1] i4 = {4}, int64[2] axes = {0, 1}, int64[2] ones = {1, 1},
     int64[2] one_three = {1, 3}, float none = {0}, float half = {0.5}, float area = {THRESHOLD},
     float full = {255}, float off = {0}, uint8 outside = {0}>
{
    start = Slice(box, i0, i2)
    end = Slice(box, i2, i4)
    box_size = Sub(end, start)
    picture = Shape(mask)
    inner_start = Max(start, i0)
    inner_end = Min(end, picture)
    before = Sub(inner_start, start)
    after = Sub(end, inner_end)
    pads = Concat <axis = 0> (before, i0, after, i0)
    mask_pads = Concat <axis = 0> (before, after)

    image_inner = Slice(image, inner_start, inner_end, axes)
    image_box = Pad <mode = "edge"> (image_inner, pads)
    image_f = Cast <to = 1> (image_box)
    image_chw = Transpose <perm = [2, 0, 1]> (image_f)
    image_nchw = Unsqueeze(image_chw, i0)
    image_sizes = Concat <axis = 0> (one_three, size)
    resized = Resize <mode = "linear", antialias = 1, exclude_outside = 1> (image_nchw, , , image_sizes)
    resized_chw = Squeeze(resized, i0)
    resized_hwc = Transpose <perm = [1, 2, 0]> (resized_chw)
    clipped = Clip(resized_hwc, none, full)
    rounded = Round(clipped)
    window = Cast <to = 2> (rounded)

    mask_inner = Slice(mask, inner_start, inner_end, axes)
    mask_box = Pad(mask_inner, mask_pads, outside)
    mask_f = Cast <to = 1> (mask_box)
    mask_nchw = Unsqueeze(mask_f, axes)
    mask_sizes = Concat <axis = 0> (ones, size)
    coverage = Resize <mode = "linear", antialias = 1, exclude_outside = 1> (mask_nchw, , , mask_sizes)
    peak = ReduceMax <keepdims = 0> (coverage)
    half_peak = Mul(peak, half)
    threshold = Min(area, half_peak)
    enough = GreaterOrEqual(coverage, threshold)
    some = Greater(coverage, none)
    is_object = And(enough, some)
    object_f = Where(is_object, full, off)
    object_hw = Squeeze(object_f, axes)
    object_mask = Cast <to = 2> (object_hw)

    dilated = MaxPool <kernel_shape = [DILATE, DILATE], pads = [DR, DR, DR, DR]> (object_f)
    dilated_hw = Squeeze(dilated, axes)
    window_mask = Cast <to = 2> (dilated_hw)

    grown = MaxPool <kernel_shape = [FEATHER, FEATHER], pads = [FR, FR, FR, FR]> (dilated)
    soft = AveragePool <kernel_shape = [FEATHER, FEATHER], pads = [FR, FR, FR, FR], count_include_pad = 0> (grown)
    alpha_sizes = Concat <axis = 0> (ones, box_size)
    alpha_nchw = Resize <mode = "linear", antialias = 1, exclude_outside = 1> (soft, , , alpha_sizes)
    alpha_hw = Squeeze(alpha_nchw, axes)
    alpha_clipped = Clip(alpha_hw, none, full)
    alpha_rounded = Round(alpha_clipped)
    alpha = Cast <to = 2> (alpha_rounded)
}
"""


def window_spec(rules: MaskRules) -> GraphSpec:
    """The window graph with the checkpoint's mask rules baked in."""
    numbers = {"DILATE": rules.dilate, "DR": rules.dilate // 2, "FEATHER": rules.feather, "FR": rules.feather // 2}
    text = _TEXT.replace("THRESHOLD", str(AREA_THRESHOLD))
    for word, number in numbers.items():
        text = (
            text.replace(f"[{word},", f"[{number},")
            .replace(f" {word},", f" {number},")
            .replace(f" {word}]", f" {number}]")
        )

    def reference(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        image, mask, box, size = inputs
        return window_reference(image, mask, box.tolist(), size.tolist(), rules)

    return GraphSpec(
        name="window",
        graph=text,
        reference=reference,
        inputs=(
            edge("image", "uint8", "H", "W", 3),
            edge("mask", "uint8", "H", "W"),
            edge("box", "int64", 4),
            edge("size", "int64", 2),
        ),
        outputs=(
            edge("window", "uint8", "SH", "SW", 3),
            edge("object_mask", "uint8", "SH", "SW"),
            edge("window_mask", "uint8", "SH", "SW"),
            edge("alpha", "uint8", "BH", "BW"),
        ),
        trace_sizes={},
        check_sizes=(
            {"H": 190, "W": 250, "SH": 64, "SW": 64},
            {"H": 31, "W": 21, "SH": 48, "SW": 48},
        ),
        draw={"mask": draw_mask(), "box": _draw_box, "size": lambda _, __, sizes: np.array([sizes["SH"], sizes["SW"]])},
    )


def window_reference(
    image: torch.Tensor, mask: torch.Tensor, box: list[int], size: list[int], rules: MaskRules
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same arithmetic in torch; pictures unrounded, as f32 in [0,255]."""
    top, left, bottom, right = box
    rows, columns = torch.arange(top, bottom), torch.arange(left, right)
    inside = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & ((columns >= 0) & (columns < mask.shape[1]))
    rows, columns = rows.clamp(0, mask.shape[0] - 1)[:, None], columns.clamp(0, mask.shape[1] - 1)
    pixels = image[rows, columns].permute(2, 0, 1)[None].float()
    window = _resize(pixels, size)[0].permute(1, 2, 0).clamp(0, 255)
    coverage = _resize((mask[rows, columns] * inside)[None, None].float(), size)
    threshold = min(AREA_THRESHOLD, 0.5 * float(coverage.max()))
    thing = ((coverage > 0) & (coverage >= threshold)).float() * 255
    dilated = functional.max_pool2d(thing, rules.dilate, 1, rules.dilate // 2)
    grown = functional.max_pool2d(dilated, rules.feather, 1, rules.feather // 2)
    soft = functional.avg_pool2d(grown, rules.feather, 1, rules.feather // 2, count_include_pad=False)
    alpha = _resize(soft, [bottom - top, right - left])[0, 0].clamp(0, 255)
    return window, thing[0, 0].to(torch.uint8), dilated[0, 0].to(torch.uint8), alpha


def _resize(picture: torch.Tensor, size: list[int]) -> torch.Tensor:
    return functional.interpolate(picture, size, mode="bilinear", antialias=True, align_corners=False)


def _draw_box(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
    """A square that overlaps the picture's middle and may reach beyond it."""
    side = int(generator.integers(sizes["SH"] // 2, 2 * sizes["SH"]))
    top = int(generator.integers(-side // 3, sizes["H"] // 2))
    left = int(generator.integers(-side // 3, sizes["W"] // 2))
    return np.array([top, left, top + side, left + side])
