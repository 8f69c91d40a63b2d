"""The window graph: cuts a box out of photo and masks and resizes it for the model; it always runs on the CPU.

The graph is written by hand in ONNX's text form, with the control flow that it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch.nn import functional

from alterbute_export.graphs.spec import Array, GraphSpec, Sizes, draw_mask, edge

AREA_THRESHOLD: Final = 63.5
"""Least mask coverage, out of 255, of a window pixel that is object.

Just under a quarter of 255: masks that shrink by 2 have many pixels of exactly a quarter, which would otherwise depend on
the last bit of a float."""
GROUND: Final = 128
"""Level of window pixels in which nothing of the picture is visible."""

# Colours are weighted by opacity, so that the colour under a transparent pixel reaches no window; where nothing is visible, the
# window is grey.
# For a large photo each pass over the pixels of the box costs time: `protect` is resized only if any of its pixels is set, and
# alpha is cast to uint8 before it is processed further.
# Alpha is made of the part of the box that lies in the photo, and padded last: where the photo ends, the object's edge is not
# softened. What is protected counts as covered there, so that no unedited band is left beside it. Where the mask is thinner than
# three pixels, its edge is not softened either, so that a wire is painted in full.
# exclude_outside: without it ONNX Runtime repeats the border when it shrinks, which differs from Pillow by up to 14 levels.
_TEXT: Final = """
<ir_version: 10, opset_import: ["" : 20]>
window (uint8[H,W,3] image, uint8[OH,OW] opacity, uint8[H,W] mask, uint8[H,W] region, uint8[H,W] protect, int64[4] box,
        int64[2] size, int64[4] rules)
    => (uint8[SH,SW,3] window, uint8[SH,SW] object_mask, uint8[SH,SW] window_mask, uint8[BH,BW] alpha)
    <int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2}, int64[1] i3 = {3}, int64[1] i4 = {4},
     int64[2] zeros_2 = {0, 0}, int64[2] axes = {0, 1}, int64[2] ones = {1, 1},
     int64[2] one_three = {1, 3}, float none = {0}, float half = {0.5}, float area = {THRESHOLD},
     float full = {255}, float off = {0}, float ground = {GROUND}, float faint = {0.001},
     uint8 outside = {0}, uint8 whole = {255}>
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
    mask_sizes = Concat <axis = 0> (ones, size)
    least_opacity = ReduceMin <keepdims = 0> (opacity)
    is_opaque = Equal(least_opacity, whole)
    resized = If (is_opaque) <then_branch = resize () => (float[1,3,SH,SW] all_pixels) {
        all_pixels = Resize <mode = "linear", antialias = 1, exclude_outside = 1> (image_nchw, , , image_sizes)
    }, else_branch = resize_visible () => (float[1,3,SH,SW] visible_pixels) {
        opacity_inner = Slice(opacity, inner_start, inner_end, axes)
        opacity_box = Pad <mode = "edge"> (opacity_inner, mask_pads)
        opacity_f = Cast <to = 1> (opacity_box)
        opacity_nchw = Unsqueeze(opacity_f, axes)
        weighted = Mul(image_nchw, opacity_nchw)
        sums = Resize <mode = "linear", antialias = 1, exclude_outside = 1> (weighted, , , image_sizes)
        weights = Resize <mode = "linear", antialias = 1, exclude_outside = 1> (opacity_nchw, , , mask_sizes)
        is_seen = Greater(weights, faint)
        divisors = Where(is_seen, weights, full)
        means = Div(sums, divisors)
        visible_pixels = Where(is_seen, means, ground)
    }>
    resized_chw = Squeeze(resized, i0)
    resized_hwc = Transpose <perm = [1, 2, 0]> (resized_chw)
    clipped = Clip(resized_hwc, none, full)
    rounded = Round(clipped)
    window = Cast <to = 2> (rounded)

    dilate = Slice(rules, i0, i1)
    softness = Slice(rules, i1, i2)
    is_soft = Greater(softness, i0)
    takes_weights = Squeeze(is_soft, i0)

    mask_inner = Slice(mask, inner_start, inner_end, axes)
    mask_box = Pad(mask_inner, mask_pads, outside)
    mask_f = Cast <to = 1> (mask_box)
    mask_nchw = Unsqueeze(mask_f, axes)
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

    region_inner = Slice(region, inner_start, inner_end, axes)
    region_f = Cast <to = 1> (region_inner)
    region_nchw = Unsqueeze(region_f, axes)
    rim_grow = Slice(rules, i2, i3)
    rim_blur = Slice(rules, i3, i4)
    grown = Loop <body = grow_rim (int64 rim_turn, bool rim_go, float[N,C,PH,PW] rim_before) => (bool rim_go_on, float[N,C,PH,PW] rim_after) {
        rim_go_on = Identity(rim_go)
        rim_after = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (rim_before)
    }> (rim_grow, , region_nchw)
    nchw_pads = Concat <axis = 0> (zeros_2, before, zeros_2, after)
    grown_box = Pad(grown, nchw_pads, none)
    covered = Resize <mode = "linear", antialias = 1, exclude_outside = 1> (grown_box, , , mask_sizes)
    covered_peak = ReduceMax <keepdims = 0> (covered)
    covered_half = Mul(covered_peak, half)
    covered_threshold = Min(area, covered_half)
    covered_enough = GreaterOrEqual(covered, covered_threshold)
    covered_some = Greater(covered, none)
    is_edited = And(covered_enough, covered_some)
    edited_f = Where(is_edited, full, off)
    dilated = Loop <body = grow (int64 turn, bool go, float[N,C,SH,SW] before_turn) => (bool go_on, float[N,C,SH,SW] after_turn) {
        go_on = Identity(go)
        after_turn = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (before_turn)
    }> (dilate, , edited_f)

    protect_inner = Slice(protect, inner_start, inner_end, axes)
    protect_box = Pad(protect_inner, mask_pads, outside)
    most_protected = ReduceMax <keepdims = 0> (protect_inner)
    is_any_protected = Cast <to = 9> (most_protected)

    precise_or_soft = Where(is_soft, edited_f, dilated)
    free = If (is_any_protected) <then_branch = guard () => (float[N,C,SH,SW] guarded) {
        protect_f = Cast <to = 1> (protect_box)
        protect_nchw = Unsqueeze(protect_f, axes)
        protect_covered = Resize <mode = "linear", antialias = 1, exclude_outside = 1> (protect_nchw, , , mask_sizes)
        is_occluded = Greater(protect_covered, none)
        guarded = Where(is_occluded, off, precise_or_soft)
    }, else_branch = leave () => (float[N,C,SH,SW] left) {
        left = Identity(precise_or_soft)
    }>
    free_hw = Squeeze(free, axes)
    free_clipped = Clip(free_hw, none, full)
    free_rounded = Round(free_clipped)
    window_mask = Cast <to = 2> (free_rounded)

    protect_any = Cast <to = 9> (protect_inner)
    has_rim_1 = Greater(rim_grow, i0)
    has_rim = Squeeze(has_rim_1, i0)
    is_zero = Equal(region_inner, outside)
    is_full = Equal(region_inner, whole)
    is_level = Or(is_zero, is_full)
    is_grey = Not(is_level)
    is_grey_u8 = Cast <to = 2> (is_grey)
    any_grey_u8 = ReduceMax <keepdims = 0> (is_grey_u8)
    any_grey = Cast <to = 9> (any_grey_u8)
    takes_levels = Or(takes_weights, any_grey)
    alpha_f = If (has_rim) <then_branch = blur_rim () => (float[N,C,PH,PW] rim_alpha) {
        blurred = Loop <body = blur (int64 blur_turn, bool blur_go, float[N,C,PH,PW] blur_before) => (bool blur_go_on, float[N,C,PH,PW] blur_after) {
            blur_go_on = Identity(blur_go)
            blur_after = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 0> (blur_before)
        }> (rim_blur, , grown)
        rim_alpha = Max(blurred, region_nchw)
    }, else_branch = keep_inside () => (float[N,C,PH,PW] strict_alpha) {
        strict_alpha = If (takes_levels) <then_branch = take () => (float[N,C,PH,PW] levels) {
            levels = Identity(region_nchw)
        }, else_branch = antialias () => (float[N,C,PH,PW] smooth_alpha) {
            covered_any = Not(is_zero)
            solid = Or(covered_any, protect_any)
            solid_hw = Where(solid, full, off)
            solid_nchw = Unsqueeze(solid_hw, axes)
            hole_nchw = Sub(full, solid_nchw)
            near_hole = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (hole_nchw)
            eroded = Sub(full, near_hole)
            opened = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (eroded)
            half_blurred = AveragePool <kernel_shape = [2, 2], pads = [1, 1, 0, 0], count_include_pad = 0> (solid_nchw)
            edge_blurred = AveragePool <kernel_shape = [2, 2], pads = [0, 0, 1, 1], count_include_pad = 0> (half_blurred)
            is_thick = Cast <to = 9> (opened)
            softened = Where(is_thick, edge_blurred, full)
            smooth_alpha = Min(softened, region_nchw)
        }>
    }>
    alpha_box = Pad(alpha_f, nchw_pads, none)
    alpha_hw = Squeeze(alpha_box, axes)
    alpha_clipped = Clip(alpha_hw, none, full)
    alpha_rounded = Round(alpha_clipped)
    alpha_levels = Cast <to = 2> (alpha_rounded)
    alpha = If (is_any_protected) <then_branch = spare () => (uint8[BH,BW] spared) {
        is_unprotected = Equal(protect_box, outside)
        spared = Where(is_unprotected, alpha_levels, outside)
    }, else_branch = keep () => (uint8[BH,BW] kept) {
        kept = Identity(alpha_levels)
    }>
}
"""


def window_spec() -> GraphSpec:
    """The spec of the window graph, which is the same for every checkpoint.

    Inputs: `opacity` has the picture's size, or is one pixel of 255 for a picture without transparency; `mask` is the object;
    `region` is the area to edit (the object, the box around it, or blend weights); pixels of `protect` are never changed; `box` is
    `(top, left, bottom, right)` in photo pixels and may exceed the photo; `size` is the window's `(height, width)`; `rules` is
    `(dilate, is_soft, rim_grow, rim_blur)`: the growth of the model's mask on each side in window pixels; 1 where the region is
    blend weights; the growth of the region on each side in photo pixels, and the radius of the blur of the grown region's edge.

    Output `alpha` is 0 outside the region, unless it grows. Levels of the region between 0 and 255 are taken as they are; a region
    without such levels gets an antialiased edge, inside it.
    """
    return GraphSpec(
        name="window",
        graph=_TEXT.replace("THRESHOLD", str(AREA_THRESHOLD)).replace("GROUND", str(GROUND)),
        reference=window_reference,
        inputs=(
            edge("image", "uint8", "H", "W", 3),
            edge("opacity", "uint8", "OH", "OW"),
            edge("mask", "uint8", "H", "W"),
            edge("region", "uint8", "H", "W"),
            edge("protect", "uint8", "H", "W"),
            edge("box", "int64", 4),
            edge("size", "int64", 2),
            edge("rules", "int64", 4),
        ),
        outputs=(
            edge("window", "uint8", "SH", "SW", 3),
            edge("object_mask", "uint8", "SH", "SW"),
            edge("window_mask", "uint8", "SH", "SW"),
            edge("alpha", "uint8", "BH", "BW"),
        ),
        trace_sizes={},
        check_sizes=(
            {"H": 190, "W": 250, "OH": 1, "OW": 1, "SH": 64, "SW": 64},
            {"H": 31, "W": 21, "OH": 31, "OW": 21, "SH": 48, "SW": 48},
        ),
        draw={
            "opacity": _draw_opacity,
            "mask": draw_mask(),
            "region": draw_mask(),
            "protect": draw_mask(0.1, 0.2),
            "box": _draw_box,
            "size": lambda _, __, sizes: np.array([sizes["SH"], sizes["SW"]]),
            # The larger picture has a region of whole pixels, the smaller one blend weights that grow.
            "rules": lambda _, __, sizes: np.array([2, 0, 0, 0] if sizes["SH"] == 64 else [0, 1, 2, 1]),
        },
    )


def window_reference(
    image: torch.Tensor,
    opacity: torch.Tensor,
    mask: torch.Tensor,
    region: torch.Tensor,
    protect: torch.Tensor,
    box: torch.Tensor,
    size: torch.Tensor,
    rules: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The window graph's arithmetic in torch: `(window, object_mask, window_mask, alpha)`, not rounded.

    `window [SH,SW,3]`, `window_mask [SH,SW]` and `alpha [BH,BW]` are f32 in [0,255]; `object_mask [SH,SW]` is uint8.

    Args:
        image: `[H,W,3]` uint8 photo.
        opacity: `[H,W]` uint8, 255 = opaque; or `[1,1]` of 255.
        mask: `[H,W]` uint8 object.
        region: `[H,W]` uint8 area to edit, or blend weights.
        protect: `[H,W]` uint8, above 0 where a pixel must not change.
        box: `[4]` int64 `top, left, bottom, right` in photo pixels; may exceed the photo.
        size: `[2]` int64, the window's sides SH and SW in pixels.
        rules: `[4]` int64 `dilate, is_soft, rim_grow, rim_blur`; see `window_spec`.
    """
    top, left, bottom, right = box.tolist()
    sides, (dilate, softness, rim_grow, rim_blur) = size.tolist(), rules.tolist()
    rows, columns = torch.arange(top, bottom), torch.arange(left, right)
    inside = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & ((columns >= 0) & (columns < mask.shape[1]))
    rows, columns = rows.clamp(0, mask.shape[0] - 1)[:, None], columns.clamp(0, mask.shape[1] - 1)
    pixels = image[rows, columns].permute(2, 0, 1)[None].float()
    if (opacity == 255).all():
        window = _resize(pixels, sides)
    else:
        weights = opacity[rows, columns][None, None].float()
        cover = _resize(weights, sides)
        window = torch.where(cover > 1e-3, _resize(pixels * weights, sides) / cover, float(GROUND))
    window = window[0].permute(1, 2, 0).clamp(0, 255)
    object_box, protect_box = ((m[rows, columns] * inside)[None, None].float() for m in (mask, protect))
    object_mask = _threshold(_resize(object_box, sides))
    in_photo = (slice(max(top, 0), min(bottom, mask.shape[0])), slice(max(left, 0), min(right, mask.shape[1])))
    levels, occluder = region[in_photo][None, None].float(), protect[in_photo][None, None] > 0
    grown = _pool(functional.max_pool2d, levels, rim_grow)
    if rim_grow:
        blurred = grown
        for _ in range(rim_blur):
            blurred = functional.avg_pool2d(blurred, 3, 1, 1, count_include_pad=False)
        alpha_inside = torch.maximum(blurred, levels)
    elif softness or ((levels > 0) & (levels < 255)).any():
        alpha_inside = levels
    else:
        alpha_inside = _antialias_inside((levels > 0) | occluder).minimum(levels)
    around = (max(-left, 0), max(right - mask.shape[1], 0), max(-top, 0), max(bottom - mask.shape[0], 0))
    coverage = _resize(functional.pad(grown, around), sides)
    free = _pool(functional.max_pool2d, _threshold(coverage), 0 if softness else dilate)
    free = torch.where(_resize(protect_box, sides) > 0, 0.0, free)
    alpha = torch.where(protect_box > 0, 0.0, functional.pad(alpha_inside, around))
    return window, object_mask[0, 0].to(torch.uint8), free[0, 0].clamp(0, 255), alpha[0, 0]


def _draw_opacity(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
    """Draw an opacity with transparent, half-transparent and opaque pixels; 255 for a picture without transparency."""
    if shape == (1, 1):
        return np.full(shape, 255)
    return np.maximum(draw_mask()(generator, shape, sizes), 255 * generator.integers(0, 2, shape) // 3)


def _antialias_inside(solid: torch.Tensor) -> torch.Tensor:
    """Levels of a hard mask `[1,1,h,w]` bool: the binomial blur of 3x3 where the mask is thick, else 255; 0..255."""
    full = solid.float() * 255
    eroded = 255 - _pool(functional.max_pool2d, 255 - full, 1)
    padded = functional.pad(full, (1, 1, 1, 1), mode="replicate")
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    blurred = functional.conv2d(padded, (kernel[:, None] * kernel)[None, None])
    return torch.where(_pool(functional.max_pool2d, eroded, 1) > 0, blurred, 255.0)


def _pool(pool: Callable[..., torch.Tensor], planes: torch.Tensor, radius: int) -> torch.Tensor:
    return pool(planes, 2 * radius + 1, 1, radius)


def _threshold(coverage: torch.Tensor) -> torch.Tensor:
    """255 where coverage is at least AREA_THRESHOLD or half its peak, so that a thin line is not lost; 0 elsewhere."""
    threshold = min(AREA_THRESHOLD, 0.5 * float(coverage.max()))
    return ((coverage > 0) & (coverage >= threshold)).float() * 255


def _resize(picture: torch.Tensor, size: list[int]) -> torch.Tensor:
    return functional.interpolate(picture, size, mode="bilinear", antialias=True, align_corners=False)


def _draw_box(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
    """Draw a square box that starts before the picture's middle and may exceed the picture."""
    side = int(generator.integers(sizes["SH"] // 2, 2 * sizes["SH"]))
    top = int(generator.integers(-side // 3, sizes["H"] // 2))
    left = int(generator.integers(-side // 3, sizes["W"] // 2))
    return np.array([top, left, top + side, left + side])
