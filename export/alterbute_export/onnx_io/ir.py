"""Helpers for graphs in onnx_ir's representation."""

from __future__ import annotations

import onnx_ir as ir


def weight_source(value: ir.Value) -> ir.Value | None:
    """The initialiser that a value is: itself, or what a Cast widens to fp32; None for what is computed."""
    if value.is_initializer():
        return value
    node = value.producer()
    if node is not None and node.op_type == "Cast" and node.inputs[0] is not None and node.inputs[0].is_initializer():
        return node.inputs[0]
    return None
