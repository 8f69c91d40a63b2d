"""Inputs of attention: one product for query, key and value, and the identity's strength in its values.

ONNX Runtime's CUDA provider runs cuDNN's or flash attention on separate q, k and v in one launch. Packed `[N,S,heads,3,width]` costs
one more, that unpacks it: as many as a Split, which needs no weights in another order.
"""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from alterbute_export.cuda.transformer.patterns import (
    find_product,
    find_single_reader,
    find_stored_shape,
    join,
    take_place,
)
from alterbute_export.onnx_io.ir import make_node


def pack_products(graph: ir.Graph, unfused: Counter[str]) -> int:
    """Compute query, key and value of every self-attention by one product and a Split, in place.

    Returns:
        How many were packed; `unfused` counts self-attentions that keep three products, by reason.
    """
    packed = 0
    for attention in [node for node in graph if node.op_type == "MultiHeadAttention"]:
        products = [find_product(value) for value in attention.inputs[:3]]
        query, key, value = products if len(products) == 3 else (None, None, None)
        if query is None or key is None or value is None or len(set(products)) < 3:
            continue
        source = query.inputs[0]
        if source is None or key.inputs[0] is not source or value.inputs[0] is not source:
            continue
        reason = _find_fault((query, key, value))
        if reason:
            unfused[reason] += 1
        else:
            _pack(graph, source, (query, key, value), str(attention.name))
            packed += 1
    return packed


def scale_values(graph: ir.Graph) -> int:
    """Multiply the values of an attention, not its output, by a scale for each row, in place: it is linear in its values.

    Returns:
        How many scales were moved.
    """
    moved = 0
    for scaled in [node for node in graph if node.op_type == "Mul"]:
        for factor, out in (scaled.inputs, scaled.inputs[::-1]):
            attention = out.producer() if out is not None else None
            if factor is None or out is None or attention is None or attention.op_type != "MultiHeadAttention":
                continue
            if len(attention.inputs) != 3 or find_single_reader(out) is None or not _is_row_scale(factor):
                continue
            value = attention.inputs[2]
            assert value is not None
            name = f"{value.name}_scaled"
            node = make_node("Mul", [value, factor], name=name, output=name)
            graph.insert_before(attention, node)
            attention.replace_input_with(2, node.outputs[0])
            scaled.outputs[0].replace_all_uses_with(out)
            moved += 1
            break
    return moved


def _find_fault(products: tuple[ir.Node, ir.Node, ir.Node]) -> str:
    """Why the products of a self-attention cannot be one; empty when they can."""
    shapes = {find_stored_shape(product.inputs[1]) for product in products}
    if any(find_single_reader(product.outputs[0]) is None for product in products):
        return "self-attention whose query, key or value is read twice"
    return "self-attention with widths that differ" if len(shapes) > 1 or None in shapes else ""


def _pack(graph: ir.Graph, source: ir.Value, products: tuple[ir.Node, ir.Node, ir.Node], name: str) -> None:
    outputs = [product.outputs[0] for product in products]
    weights = [product.inputs[1] for product in products]
    joined = join([weight for weight in weights if weight is not None], 1, name=f"{name}_weight")
    product = make_node("MatMul", [source, joined.outputs[0]], name=f"{name}_qkv", output=f"{name}_qkv")
    split = ir.node("Split", product.outputs, {"axis": 2, "num_outputs": 3}, num_outputs=3, name=f"{name}_split")
    graph.insert_before(products[0], [joined, product, split])
    for old, new in zip(outputs, split.outputs, strict=True):
        take_place(old, new)


def _is_row_scale(value: ir.Value) -> bool:
    """Whether a value is `[N,1,1]`: a Reshape with that constant shape."""
    node = value.producer()
    shape = (
        node.inputs[1].const_value
        if node is not None and node.op_type == "Reshape" and node.inputs[1] is not None
        else None
    )
    return shape is not None and shape.numpy().tolist() in ([-1, 1, 1], [0, 1, 1])
