"""Operators that give back their input, and operators that occur twice: both cost a launch, and the first hide patterns."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir
from onnx_ir.passes import common as passes

from alterbute_export.onnx_io.ir import find_producer, read_int

# Operators that give back their first input when the second is this number; of Add and Mul, either input can be the number.
_NEUTRAL: Final = {"Add": 0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0}
_COMMUTATIVE: Final = ("Add", "Mul")
_LAST: Final = 2**62


def remove_no_ops(model: ir.Model) -> None:
    """Remove operators that give back their input, and merge operators that compute the same from the same, in place."""
    for node in list(model.graph):
        value = _same_input(node)
        if value is not None and not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(value)
    passes.RemoveUnusedNodesPass()(model)
    passes.CommonSubexpressionEliminationPass()(model)
    passes.RemoveUnusedNodesPass()(model)


def _same_input(node: ir.Node) -> ir.Value | None:
    """The input that a node gives back, or None."""
    if node.domain:
        return None
    if node.op_type == "Identity":
        return node.inputs[0]
    if node.op_type == "Slice":
        return node.inputs[0] if _is_whole(node) else None
    if node.op_type == "Reshape":
        return _one_size(node)
    if node.op_type in _NEUTRAL:
        orders = ((0, 1), (1, 0)) if node.op_type in _COMMUTATIVE else ((0, 1),)
        for kept, number in orders:
            if _is_number(node.inputs[number], _NEUTRAL[node.op_type]) and not _is_number(node.inputs[kept], None):
                return node.inputs[kept]
    return None


def _one_size(node: ir.Node) -> ir.Value | None:
    """The size `[1]` that a Reshape to `[-1]` gives back after a Squeeze: both would run on the CPU."""
    shape, squeeze = node.inputs[1].const_value if node.inputs[1] is not None else None, find_producer(node, 0)
    size = find_producer(squeeze, 0) if squeeze is not None and squeeze.op_type == "Squeeze" else None
    if shape is None or shape.numpy().tolist() != [-1] or size is None or size.op_type != "Shape":
        return None
    start, end = read_int(size, "start", 0), read_int(size, "end", 0)
    return size.outputs[0] if end == start + 1 else None


def _is_number(value: ir.Value | None, expected: float | None) -> bool:
    """Whether a value is a constant without axes, and this number unless None."""
    tensor = value.const_value if value is not None else None
    if tensor is None or len(tensor.shape) or tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return False
    return expected is None or float(tensor.numpy()) == expected


def _is_whole(node: ir.Node) -> bool:
    """Whether a Slice takes everything."""
    limits = [value.const_value for value in node.inputs[1:] if value is not None]
    if any(limit is None for limit in limits):
        return False
    starts, ends, *rest = [limit.numpy() for limit in limits if limit is not None]
    steps = rest[1] if len(rest) > 1 else None
    return bool((starts == 0).all() and (ends >= _LAST).all() and (steps is None or (steps == 1).all()))
