"""Upsampling folded into the convolution behind it: four small kernels on the small picture, for ONNX Runtime.

A 3x3 convolution of a picture whose pixels were each repeated 2x2 reads every pixel up to four times. Output pixel (2i+p, 2j+q) sees
but 2x2 different pixels around (i, j), weighed by sums of the kernel's taps: 4 products where there were 9. The sums are made in
the graph from the stored kernel, so that the decomposed graph reads the same weights; loaders fold them, as they do casts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common as passes

from alterbute_export.onnx_io.ir import weight_source

_PHASES: Final = (0, 1)
# Row: a tap of the 2-tap kernel; column: the taps of the 3-tap kernel that fall on its pixel. By phase.
_SUMS: Final = (((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1)))
_REPEATS: Final = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def fold_upsampling(model: ir.Model) -> int:
    """Replace every plain repetition of pixels before a 3x3 convolution, in place; other resizing is left alone.

    Returns:
        How many convolutions were replaced.
    """
    found = [node for node in model.graph if _is_foldable(node)]
    for node in found:
        _fold(model.graph, node)
    if found:
        passes.RemoveUnusedNodesPass()(model)
    return len(found)


def _is_foldable(node: ir.Node) -> bool:
    if node.op_type != "Conv" or node.domain:
        return False
    resize = node.inputs[0].producer() if node.inputs[0] is not None else None
    return resize is not None and _repeats_twice(resize) and _is_padded_3x3(node)


def _repeats_twice(resize: ir.Node) -> bool:
    """Whether a node does nothing but write every pixel of `[N,C,h,w]` as 2x2 pixels."""
    if resize.op_type != "Resize" or len(resize.inputs) != 3 or "axes" in resize.attributes:
        return False
    modes = {name: resize.attributes[name].as_string() for name in _REPEATS if name in resize.attributes}
    scales = resize.inputs[2]
    tensor = scales.const_value if scales is not None else None
    return modes == _REPEATS and tensor is not None and tensor.numpy().tolist() == [1, 1, 2, 2]


def _is_padded_3x3(conv: ir.Node) -> bool:
    """Whether a convolution keeps a picture's size, one pixel at a time, with a stored kernel."""
    kernel = _kernel_shape(conv)
    wanted = {"pads": (1, 1, 1, 1), "strides": (1, 1), "dilations": (1, 1)}
    seen = {name: tuple(conv.attributes[name].as_ints()) for name in wanted if name in conv.attributes}
    is_explicit = "auto_pad" not in conv.attributes or conv.attributes["auto_pad"].as_string() == "NOTSET"
    # Strides and dilations are 1 where they are not given; pads are 0.
    return is_explicit and kernel is not None and kernel[2:] == (3, 3) and {**wanted, "pads": (), **seen} == wanted


def _kernel_shape(conv: ir.Node) -> tuple[int, ...] | None:
    source = weight_source(conv.inputs[1]) if conv.inputs[1] is not None else None
    if source is None or source.const_value is None:
        return None
    return tuple(int(size) for size in source.const_value.shape.numpy())


def _fold(graph: ir.Graph, conv: ir.Node) -> None:
    resize = conv.inputs[0].producer() if conv.inputs[0] is not None else None
    shape = _kernel_shape(conv)
    assert resize is not None and shape is not None
    base = conv.outputs[0].name
    flat = _node("Reshape", [conv.inputs[1], _constant(graph, "upsample_taps", np.array([-1, 9]))], f"{base}_taps")
    whole = _constant(graph, f"{base}_kernel_shape", np.array([*shape[:2], 2, 2]))
    made, phases = [flat], []
    for p in _PHASES:
        for q in _PHASES:
            # Of the flat kernel, whose taps are in rows of three.
            sums = np.kron(np.array(_SUMS[p]), np.array(_SUMS[q])).T.astype(np.float32)
            place = f"{p}{q}"
            summed = _node(
                "MatMul", [flat.outputs[0], _constant(graph, f"upsample_sums_{place}", sums)], f"{base}_sum_{place}"
            )
            kernel = _node("Reshape", [summed.outputs[0], whole], f"{base}_kernel_{place}")
            phase = _node("Conv", [resize.inputs[0], kernel.outputs[0], *conv.inputs[2:]], f"{base}_phase_{place}")
            phase.attributes.update(conv.attributes)
            phase.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", [2, 2])
            phase.attributes["pads"] = ir.AttrInt64s("pads", [1 - p, 1 - q, p, q])
            made += [summed, kernel, phase]
            phases.append(phase.outputs[0])
    joined = _node("Concat", phases, f"{base}_phases")
    joined.attributes["axis"] = ir.AttrInt64("axis", 1)
    woven = _node("DepthToSpace", [joined.outputs[0]], f"{base}_woven")
    woven.attributes["blocksize"] = ir.AttrInt64("blocksize", 2)
    graph.insert_before(conv, [*made, joined, woven])
    conv.outputs[0].replace_all_uses_with(woven.outputs[0])


def _node(op_type: str, inputs: Sequence[ir.Value | None], name: str) -> ir.Node:
    node = ir.node(op_type, inputs, name=name)
    node.outputs[0].name = name
    return node


def _constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """An initialiser, made once for a name."""
    if name not in graph.initializers:
        graph.register_initializer(ir.Value(name=name, const_value=ir.Tensor(array, name=name)))
    return graph.initializers[name]
