"""Upsampling folded into the 3x3 convolution behind it, for ONNX Runtime: four 2x2 kernels on the small feature map.

A 3x3 convolution of a feature map whose pixels were each repeated 2x2 reads every pixel up to four times. Output pixel (2i+p, 2j+q)
depends on only 2x2 different pixels around (i, j), weighted by sums of the kernel's taps: 4 products instead of 9. The sums are
computed in the graph from the stored kernel, so that the decomposed graph reads the same weights; loaders fold them, like casts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from alterbute_export.onnx_io.ir import add_constant, find_producer, make_node, weight_source

_PHASES: Final = (0, 1)
# For each phase p, along one axis. Row: a tap of the 2-tap kernel; column: the taps of the 3-tap kernel that fall on its pixel.
_SUMS: Final = (((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1)))
_NEAREST: Final = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def fold_upsampling(model: ir.Model) -> int:
    """Replace every 3x3 convolution of a feature map that is upsampled 2x by repetition, in place; other resizing stays.

    Returns:
        How many convolutions were replaced.
    """
    convolutions = [node for node in model.graph if _is_foldable(node)]
    for conv in convolutions:
        _fold(model.graph, conv)
    if convolutions:
        passes.RemoveUnusedNodesPass()(model)
    return len(convolutions)


def _is_foldable(node: ir.Node) -> bool:
    if node.op_type != "Conv" or node.domain:
        return False
    resize = find_producer(node, 0)
    return resize is not None and _is_doubling(resize) and _is_padded_3x3(node)


def _is_doubling(resize: ir.Node) -> bool:
    """Whether a node upsamples `[N,C,h,w]` to `[N,C,2h,2w]` by repeating every pixel 2x2."""
    if resize.op_type != "Resize" or len(resize.inputs) != 3 or "axes" in resize.attributes:
        return False
    modes = {name: resize.attributes[name].as_string() for name in _NEAREST if name in resize.attributes}
    scales = resize.inputs[2]
    tensor = scales.const_value if scales is not None else None
    return modes == _NEAREST and tensor is not None and tensor.numpy().tolist() == [1, 1, 2, 2]


def _is_padded_3x3(conv: ir.Node) -> bool:
    """Whether a convolution has a stored 3x3 kernel, stride 1 and one pixel of padding, so that it keeps the size."""
    kernel = _kernel_shape(conv)
    expected = {"pads": (1, 1, 1, 1), "strides": (1, 1), "dilations": (1, 1)}
    attributes = {name: tuple(conv.attributes[name].as_ints()) for name in expected if name in conv.attributes}
    is_explicit = "auto_pad" not in conv.attributes or conv.attributes["auto_pad"].as_string() == "NOTSET"
    # Without the attribute, strides and dilations are 1, but pads are 0.
    settings = {**expected, "pads": (), **attributes}
    return is_explicit and kernel is not None and kernel[2:] == (3, 3) and settings == expected


def _kernel_shape(conv: ir.Node) -> tuple[int, ...] | None:
    source = weight_source(conv.inputs[1]) if conv.inputs[1] is not None else None
    if source is None or source.const_value is None:
        return None
    return tuple(int(size) for size in source.const_value.shape.numpy())


def _fold(graph: ir.Graph, conv: ir.Node) -> None:
    resize = find_producer(conv, 0)
    shape = _kernel_shape(conv)
    assert resize is not None and shape is not None
    base = conv.outputs[0].name
    flat = _make_node(
        "Reshape", [conv.inputs[1], add_constant(graph, "upsample_taps", np.array([-1, 9]))], f"{base}_taps"
    )
    kernel_shape = add_constant(graph, f"{base}_kernel_shape", np.array([*shape[:2], 2, 2]))
    nodes, phases = [flat], []
    for p in _PHASES:
        for q in _PHASES:
            # [9,4]: from the 3x3 taps, row by row, to the 2x2 taps of this phase.
            sums = add_constant(
                graph,
                f"upsample_sums_{p}{q}",
                np.kron(np.array(_SUMS[p]), np.array(_SUMS[q])).T.astype(np.float32),
            )
            summed = _make_node("MatMul", [flat.outputs[0], sums], f"{base}_sum_{p}{q}")
            kernel = _make_node("Reshape", [summed.outputs[0], kernel_shape], f"{base}_kernel_{p}{q}")
            phase = _make_node("Conv", [resize.inputs[0], kernel.outputs[0], *conv.inputs[2:]], f"{base}_phase_{p}{q}")
            phase.attributes.update(conv.attributes)
            phase.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", [2, 2])
            phase.attributes["pads"] = ir.AttrInt64s("pads", [1 - p, 1 - q, p, q])
            nodes += [summed, kernel, phase]
            phases.append(phase.outputs[0])
    joined = _make_node("Concat", phases, f"{base}_phases", axis=1)
    # Channels [phase, C] to pixels: phase (p, q) of a pixel (i, j) is pixel (2i+p, 2j+q).
    interleaved = _make_node("DepthToSpace", [joined.outputs[0]], f"{base}_woven", blocksize=2)
    graph.insert_before(conv, [*nodes, joined, interleaved])
    conv.outputs[0].replace_all_uses_with(interleaved.outputs[0])


def _make_node(op_type: str, inputs: Sequence[ir.Value | None], name: str, **attributes: int) -> ir.Node:
    """A node whose output has the node's name."""
    return make_node(op_type, inputs, name=name, output=name, attributes=attributes)
