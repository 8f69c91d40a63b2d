"""The paste graph: the edit at the photo's resolution, blended by alpha; it always runs on the CPU.

Either the edited window is enlarged (`model`), or only its local colour map is, which is then applied to the photo's own pixels
(`photo`): the object keeps the photo's detail. The map is that of a guided filter (He et al., "Guided Image Filtering", 2013,
equations 14 to 16, with the smoothing of equation 16 weighted), between the decoded round trip of the photo's window and the edit.
The graph is written by hand in ONNX's text form, with the control flow that it needs.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from alterbute.bundle import DetailRules

from alterbute_export.graphs.paste_reference import paste_reference
from alterbute_export.graphs.spec import Array, GraphSpec, Sizes, draw_mask, draw_uniform, edge

# Matrices are unrolled into planes: S has 6 different entries (00, 01, 02, 11, 12, 22), C and D have 9 (row by row).
# The solver is LDL^T: in fp32 the adjugate's determinant cancels on grey objects, LDL^T is within 3e-5 of float64.
_FIT: Final = """
        edited_f = Cast <to = 1> (edited)
        trip_f = Cast <to = 1> (roundtrip)
        edited_01 = Div(edited_f, full)
        trip_01 = Div(trip_f, full)
        edited_chw = Transpose <perm = [2, 0, 1]> (edited_01)
        trip_chw = Transpose <perm = [2, 0, 1]> (trip_01)
        e = Unsqueeze(edited_chw, i0)
        b = Unsqueeze(trip_chw, i0)
        d = Sub(e, b)
        is_object_b = Cast <to = 9> (object_mask)
        is_object_f = Cast <to = 1> (is_object_b)
        is_object = Unsqueeze(is_object_f, axes)
        w = Max(is_object, outside_weight)

        b_row6 = Gather <axis = 1> (b, row6)
        b_col6 = Gather <axis = 1> (b, col6)
        bb = Mul(b_row6, b_col6)
        b_row9 = Gather <axis = 1> (b, row9)
        d_col9 = Gather <axis = 1> (d, col9)
        bd = Mul(b_row9, d_col9)
        moments = Concat <axis = 1> (b, d, bb, bd)
        weighted = Mul(moments, w)
        planes = Concat <axis = 1> (w, weighted)
        HALVE_PLANES
        pooled_x = AveragePool <kernel_shape = [1, K], pads = [0, R, 0, R], count_include_pad = 1> (grid)
        pooled = AveragePool <kernel_shape = [K, 1], pads = [R, 0, R, 0], count_include_pad = 1> (pooled_x)
        weight, sums = Split <axis = 1> (pooled, split_weight21)
        means = Div(sums, weight)
        mb, md, mbb, mbd = Split <axis = 1> (means, split_means)

        mb_row6 = Gather <axis = 1> (mb, row6)
        mb_col6 = Gather <axis = 1> (mb, col6)
        mb_mb = Mul(mb_row6, mb_col6)
        variance = Sub(mbb, mb_mb)
        s = Add(variance, ridge)
        mb_row9 = Gather <axis = 1> (mb, row9)
        md_col9 = Gather <axis = 1> (md, col9)
        mb_md = Mul(mb_row9, md_col9)
        covariance = Sub(mbd, mb_md)
        s11, s12, s13, s22, s23, s33 = Split <axis = 1> (s, split_six)
        c1, c2, c3 = Split <axis = 1> (covariance, split_rows)
        l21 = Div(s12, s11)
        l31 = Div(s13, s11)
        l21_s12 = Mul(l21, s12)
        d22 = Sub(s22, l21_s12)
        l31_s12 = Mul(l31, s12)
        t23 = Sub(s23, l31_s12)
        l32 = Div(t23, d22)
        l31_s13 = Mul(l31, s13)
        l32_t23 = Mul(l32, t23)
        t33 = Sub(s33, l31_s13)
        d33 = Sub(t33, l32_t23)
        l21_c1 = Mul(l21, c1)
        y2 = Sub(c2, l21_c1)
        l31_c1 = Mul(l31, c1)
        l32_y2 = Mul(l32, y2)
        y3_part = Sub(c3, l31_c1)
        y3 = Sub(y3_part, l32_y2)
        z1 = Div(c1, s11)
        z2 = Div(y2, d22)
        local3 = Div(y3, d33)
        l32_local3 = Mul(l32, local3)
        local2 = Sub(z2, l32_local3)
        l31_local3 = Mul(l31, local3)
        l21_local2 = Mul(l21, local2)
        local1_part = Sub(z1, l31_local3)
        local1 = Sub(local1_part, l21_local2)
        mb1, mb2, mb3 = Split <axis = 1> (mb, split_three)
        mb1_local1 = Mul(mb1, local1)
        mb2_local2 = Mul(mb2, local2)
        mb3_local3 = Mul(mb3, local3)
        mapped_mean = Sum(mb1_local1, mb2_local2, mb3_local3)
        local_offset = Sub(md, mapped_mean)

        local_map = Concat <axis = 1> (local1, local2, local3, local_offset)
        weighted_map = Mul(local_map, weight)
        map_planes = Concat <axis = 1> (weight, weighted_map)
        smooth_x = AveragePool <kernel_shape = [1, K], pads = [0, R, 0, R], count_include_pad = 1> (map_planes)
        smooth = AveragePool <kernel_shape = [K, 1], pads = [R, 0, R, 0], count_include_pad = 1> (smooth_x)
        smooth_weight, smooth_sums = Split <axis = 1> (smooth, split_weight12)
        grid_map = Div(smooth_sums, smooth_weight)
        DOUBLE_MAP
        D1, D2, D3, c = Split <axis = 1> (color_map, split_map)

        b1, b2, b3 = Split <axis = 1> (b, split_three)
        b1_D1 = Mul(b1, D1)
        b2_D2 = Mul(b2, D2)
        b3_D3 = Mul(b3, D3)
        explained = Sum(b1_D1, b2_D2, b3_D3, c)
        rho = Sub(d, explained)
        rho_rho = Mul(rho, rho)
        energy_sum = ReduceSum(rho_rho, i1)
        energy = Add(energy_sum, tiny)
        energy_energy = Mul(energy, energy)
        T_T = Mul(threshold, threshold)
        T_T_T_T = Mul(T_T, T_T)
        energy_and_T = Add(energy_energy, T_T_T_T)
        model_share = Div(energy_energy, energy_and_T)
        object_share = Mul(model_share, is_object)
        added = Mul(object_share, rho)
        c_added = Add(c, added)
        offset = Mul(c_added, full)
        gain_1 = Add(D1, unit1)
        gain_2 = Add(D2, unit2)
        gain_3 = Add(D3, unit3)
        mapping = Concat <axis = 1> (gain_1, gain_2, gain_3, offset)
"""

# Only the bounding box of the pixels with alpha > 0 is blended, or the whole picture where there are none. It is processed in
# strips of rows, which are faster than whole planes (they stay in the cache) and need a tenth of the memory. All strips have one
# height: the last one is moved up to end with the box, and its doubled rows are cut off.
# Alpha is repeated for the three channels: ONNX Runtime's optimizer moves transposes, and multiplying HWC pixels by a broadcast
# HW1 alpha is ten times as slow as by an HWC one. Alpha 0 needs no case of its own: 255 * photo / 255 is exact in float32.
_TEXT: Final = """
<ir_version: 10, opset_import: ["" : 20]>
NAME (uint8[SH,SW,3] edited, uint8[SH,SW,3] roundtrip, uint8[SH,SW] object_mask, float[1] threshold,
       DTYPE[BH,BW,3] photo, uint8[BH,BW] alpha) => (DTYPE[BH,BW,3] image)
    <int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2}, int64[1] i3 = {3}, int64[1] i4 = {4}, int64[2] axes = {0, 1},
     int64[1] last = {-1}, int64[1] strip = {STRIP}, int64[1] three = {3},
     int64[6] row6 = {0, 0, 0, 1, 1, 2}, int64[6] col6 = {0, 1, 2, 1, 2, 2},
     int64[9] row9 = {0, 0, 0, 1, 1, 1, 2, 2, 2}, int64[9] col9 = {0, 1, 2, 0, 1, 2, 0, 1, 2},
     int64[2] split_weight21 = {1, 21}, int64[2] split_weight12 = {1, 12}, int64[4] split_means = {3, 3, 6, 9},
     int64[6] split_six = {1, 1, 1, 1, 1, 1}, int64[3] split_rows = {3, 3, 3}, int64[3] split_three = {1, 1, 1},
     int64[4] split_map = {3, 3, 3, 3},
     float[1,6,1,1] ridge = {RIDGE, 0, 0, RIDGE, 0, RIDGE}, float[1,3,1,1] unit1 = {1, 0, 0},
     float[1,3,1,1] unit2 = {0, 1, 0}, float[1,3,1,1] unit3 = {0, 0, 1},
     float none = {0}, float full = {255}, float outside_weight = {0.001}, float tiny = {1e-12}, bool yes = {1}>
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
    size = Shape(alpha)
    rows = Slice(size, i0, i1)
    columns = Slice(size, i1, i2)

    is_guided_1 = GreaterOrEqual(threshold, none)
    is_guided = Squeeze(is_guided_1, i0)
    coefficients = If (is_guided) <then_branch = fit () => (float[1,P,SH,SW] mapping) {FIT
    }, else_branch = enlarge () => (float[1,P,SH,SW] pixels_nchw) {
        pixels_f = Cast <to = 1> (edited)
        pixels_chw = Transpose <perm = [2, 0, 1]> (pixels_f)
        pixels_nchw = Unsqueeze(pixels_chw, i0)
    }>
    coefficients_size = Shape(coefficients)
    head = Slice(coefficients_size, i0, i2)
    window_columns = Slice(coefficients_size, i3, i4)
    tall_size = Concat <axis = 0> (head, rows, window_columns)
    tall = Resize <mode = "linear", antialias = 1, exclude_outside = 1> (coefficients, , , tall_size)

    near_rows = Sub(bottom, top)
    near_columns = Sub(right, left)
    height = Min(strip, near_rows)
    last_start = Sub(near_rows, height)
    grown = Add(near_rows, height)
    rounded_up = Sub(grown, i1)
    num_strips_1 = Div(rounded_up, height)
    num_strips = Squeeze(num_strips_1, i0)
    strips = Loop (num_strips, yes) <body = paint (int64 index, bool go) => (bool go_on, DTYPE[h,n,3] painted) {
        go_on = Identity(go)
        index_1 = Unsqueeze(index, i0)
        next_start = Mul(index_1, height)
        from_top = Min(next_start, last_start)
        first = Add(top, from_top)
        end = Add(first, height)
        tall_strip = Slice(tall, first, end, i2)
        wide_size = Concat <axis = 0> (head, height, columns)
        wide = Resize <mode = "linear", antialias = 1, exclude_outside = 1> (tall_strip, , , wide_size)
        near_nchw = Slice(wide, left, right, i3)
        near = Squeeze(near_nchw, i0)
        start_2 = Concat <axis = 0> (first, left)
        end_2 = Concat <axis = 0> (end, right)
        photo_hwc = Slice(photo, start_2, end_2, axes)
        photo_chw = Transpose <perm = [2, 0, 1]> (photo_hwc)
        PHOTO_LEVELS
        drawn = If (is_guided) <then_branch = apply_map () => (float[3,h,n] mapped) {
            gain1, gain2, gain3, shift = Split <axis = 0> (near, split_map)
            p1, p2, p3 = Split <axis = 0> (photo_f, split_three)
            p1_gain1 = Mul(p1, gain1)
            p2_gain2 = Mul(p2, gain2)
            p3_gain3 = Mul(p3, gain3)
            mapped = Sum(p1_gain1, p2_gain2, p3_gain3, shift)
        }, else_branch = take () => (float[3,h,n] taken) {
            taken = Identity(near)
        }>
        clipped = Clip(drawn, none, full)
        alpha_near = Slice(alpha, start_2, end_2, axes)
        alpha_plane = Unsqueeze(alpha_near, i0)
        alpha_chw = Concat <axis = 0> (alpha_plane, alpha_plane, alpha_plane)
        over = Cast <to = 1> (alpha_chw)
        under = Sub(full, over)
        edited_share = Mul(over, clipped)
        photo_share = Mul(under, photo_f)
        sum = Add(edited_share, photo_share)
        blended = Div(sum, full)
        ROUND_LEVELS
        painted_chw = Cast <to = TYPE_NUMBER> (rounded)
        painted = Transpose <perm = [1, 2, 0]> (painted_chw)
    }>
    flat_size = Concat <axis = 0> (last, near_columns, three)
    flat = Reshape(strips, flat_size)
    flat_full = Shape(flat)
    flat_rows = Slice(flat_full, i0, i1)
    whole_rows = Sub(flat_rows, height)
    tail_rows = Sub(near_rows, whole_rows)
    tail_start = Sub(flat_rows, tail_rows)
    whole = Slice(flat, i0, whole_rows, i0)
    tail = Slice(flat, tail_start, flat_rows, i0)
    image_near = Concat <axis = 0> (whole, tail)

    above = Slice(photo, i0, top, i0)
    below = Slice(photo, bottom, rows, i0)
    band = Slice(photo, top, bottom, i0)
    before = Slice(band, i0, left, i1)
    after = Slice(band, right, columns, i1)
    middle = Concat <axis = 1> (before, image_near, after)
    image = Concat <axis = 0> (above, middle, below)
}
"""
_HALVE: Final = "grid = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (planes)"
_DOUBLE: Final = """b_size = Shape(b)
        b_sides = Slice(b_size, i2, i4)
        map_size = Shape(grid_map)
        map_head = Slice(map_size, i0, i2)
        window_size = Concat <axis = 0> (map_head, b_sides)
        color_map = Resize <mode = "linear"> (grid_map, , , window_size)"""
_FROM_16_BITS: Final = """fine = Constant <value = float {257}> ()
        photo_16_bits = Cast <to = 1> (photo_chw)
        photo_f = Div(photo_16_bits, fine)"""
_TO_16_BITS: Final = """blended_16_bits = Mul(blended, fine)
        rounded = Round(blended_16_bits)"""
_STRIP_ROWS: Final = 16
HALF_GRID_SIDE: Final = 256
"""Side of the window, in pixels, from which the map is fitted on a grid of half the resolution: as exact, at a quarter of the time."""


def paste_spec(rules: DetailRules, resolution: int, bits: int = 8) -> GraphSpec:
    """The spec of the paste graph, with radius and ridge of `rules` as constants: `paste`, or `paste16` for photos of 16 bits.

    Inputs: `edited` is the decoded edit; `roundtrip` the decoded latent of the photo's own window; `object_mask` the object in the
    window; `threshold` [1] is T in [0,1], or negative to paste the model's pixels; `photo` and `alpha` are the box of the photo and
    the weight of the edit at each of its pixels.

    Args:
        rules: Radius and ridge of the fit.
        resolution: Side of the bundle's window in pixels, which decides on the grid of the fit.
        bits: Bits per channel of `photo` and of the output, 8 or 16.
    """
    step = 2 if resolution >= HALF_GRID_SIDE else 1
    radius = max(rules.radius // step, 1)
    name, dtype = ("paste16", "uint16") if bits == 16 else ("paste", "uint8")
    words = {
        "FIT": _FIT.rstrip(),
        "STRIP": str(_STRIP_ROWS),
        "RIDGE": repr(rules.ridge),
        "HALVE_PLANES": _HALVE if step == 2 else "grid = Identity(planes)",
        "DOUBLE_MAP": _DOUBLE if step == 2 else "color_map = Identity(grid_map)",
        "NAME": name,
        "DTYPE": dtype,
        "TYPE_NUMBER": "4" if bits == 16 else "2",
        # The arithmetic is on levels in [0,255], in fractions of a level for 16 bits.
        "PHOTO_LEVELS": _FROM_16_BITS if bits == 16 else "photo_f = Cast <to = 1> (photo_chw)",
        "ROUND_LEVELS": _TO_16_BITS if bits == 16 else "rounded = Round(blended)",
    }
    text = _TEXT
    for word, replacement in words.items():
        text = text.replace(word, replacement)
    for word, number in (("K", 2 * radius + 1), ("R", radius)):
        text = (
            text.replace(f" {word}]", f" {number}]")
            .replace(f"[{word},", f"[{number},")
            .replace(f" {word},", f" {number},")
        )
    return GraphSpec(
        name=name,
        graph=text,
        reference=lambda *inputs: paste_reference(*inputs, radius=radius, ridge=rules.ridge, step=step),
        inputs=(
            edge("edited", "uint8", "SH", "SW", 3),
            edge("roundtrip", "uint8", "SH", "SW", 3),
            edge("object_mask", "uint8", "SH", "SW"),
            edge("threshold", "float32", 1),
            edge("photo", dtype, "BH", "BW", 3),
            edge("alpha", "uint8", "BH", "BW"),
        ),
        outputs=(edge("image", dtype, "BH", "BW", 3),),
        trace_sizes={},
        check_sizes=(
            {"SH": 48, "SW": 48, "BH": 145, "BW": 145},
            {"SH": 64, "SW": 64, "BH": 23, "BW": 31},
        ),
        draw={
            "edited": _draw_smooth,
            "roundtrip": _draw_smooth,
            "object_mask": draw_mask(),
            "threshold": draw_uniform(0.0, 0.5),
            "alpha": _draw_alpha,
        },
        # The 3x3 solves in fp32: a fortieth of a level, which rounding to 8 bits hides mostly; a tenth where all of it is seen.
        leeway=40 if bits == 16 else 10,
    )


def _draw_smooth(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
    """Draw a picture of blurred noise: independent pixels would have no local colour map."""
    coarse = generator.uniform(0, 255, (shape[0] // 8, shape[1] // 8, 3))
    return np.kron(coarse, np.ones((8, 8, 1))) * 0.65 + generator.uniform(0, 88, shape)


def _draw_alpha(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
    """Draw an alpha with untouched, blended and replaced pixels: a rectangle of 255 over sparse noise."""
    sparse = generator.integers(0, 256, shape) * (generator.random(shape) < 0.3)
    return np.maximum(sparse.astype(np.uint8), draw_mask()(generator, shape, sizes))
