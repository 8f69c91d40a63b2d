"""Operators of ONNX Runtime that transformers are rewritten to, by their documented definitions, in standard ONNX.

Source: docs/ContribOperators.md of ONNX Runtime. They show on the CPU what the rewritten graph computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from alterbute_export.cuda.definitions import Definition
from alterbute_export.errors import AttentionError


class _Chain:
    """Nodes in order, each with one output, named after the node that they define."""

    def __init__(self, node: ir.Node) -> None:
        self._name = node.outputs[0].name
        self.nodes: list[ir.Node] = []

    def add(self, op_type: str, *inputs: ir.Value | None, outputs: int = 1, **attributes: Any) -> Any:
        name = f"{self._name}_{op_type.lower()}_{len(self.nodes)}"
        node = ir.node(op_type, inputs, attributes, num_outputs=outputs, name=name)
        for index, value in enumerate(node.outputs):
            value.name = f"{name}_{index}"
        self.nodes.append(node)
        return node.outputs[0] if outputs == 1 else tuple(node.outputs)

    def sizes(self, *sizes: int) -> ir.Value:
        value: ir.Value = self.add("Constant", value=ir.tensor(np.array(sizes, np.int64)))
        return value


def _skip_layer_normalization(node: ir.Node) -> list[ir.Node]:
    """Inputs x, skip, gamma, beta, bias; `s = x + skip + bias`, `y = gamma * (s - mean) / sqrt(variance + epsilon) + beta` over the
    last axis. Outputs y, mean, inverse deviation, s."""
    chain = _Chain(node)
    value, skip, gamma, beta, bias = (*node.inputs, None, None)[:5]
    total = chain.add("Add", value, skip)
    if bias is not None:
        total = chain.add("Add", total, bias)
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-12
    normalized, mean, deviation = chain.add(
        "LayerNormalization", total, gamma, beta, outputs=3, axis=-1, epsilon=epsilon
    )
    for output in (normalized, mean, deviation, total)[: len(node.outputs)]:
        chain.add("Identity", output)
    return chain.nodes


def _bias_split_gelu(node: ir.Node) -> list[ir.Node]:
    """Inputs x `[N,S,2D]`, bias `[2D]`; the left half of `x + bias` times `0.5 * r * (1 + erf(r / sqrt(2)))` of the right half r."""
    chain = _Chain(node)
    left, right = chain.add("Split", chain.add("Add", *node.inputs), outputs=2, axis=2, num_outputs=2)

    def number(value: float) -> ir.Value:
        found: ir.Value = chain.add(
            "CastLike", chain.add("Constant", value=ir.tensor(np.array(value, np.float32))), right
        )
        return found

    error = chain.add("Erf", chain.add("Mul", right, number(0.5**0.5)))
    gelu = chain.add("Mul", chain.add("Mul", right, number(0.5)), chain.add("Add", error, number(1.0)))
    chain.add("Mul", left, gelu)
    return chain.nodes


def _multi_head_attention(node: ir.Node) -> list[ir.Node]:
    """`softmax(scale * q k^T) v` of each head, joined to `[N,S,heads*width]`; the scale is `1 / sqrt(width)` unless given.

    Inputs q, k, v `[N,tokens,heads*width]`; or q and packed `[N,T,heads,2,width]`; or packed `[N,S,heads,3,width]` alone.

    Raises:
        AttentionError: the node has a bias, a mask or a past.
    """
    chain = _Chain(node)
    if any(value is not None for value in node.inputs[3:]) or len(node.outputs) != 1:
        raise AttentionError(
            f"the MultiHeadAttention {node.name!r} has more inputs or outputs than query, key, value and result",
            "no bias, mask or past",
            "report the graph: the exporter writes none with them",
        )
    heads = node.attributes["num_heads"].as_int()
    first = [value for value in node.inputs[:3] if value is not None]
    packed = (
        chain.add("Split", first[-1], outputs=4 - len(first), axis=3, num_outputs=4 - len(first))
        if len(first) < 3
        else ()
    )
    separate = first if len(first) == 3 else first[:-1]
    # [N,tokens,heads,width], from either form.
    parts = [chain.add("Reshape", value, chain.sizes(0, 0, heads, -1)) for value in separate]
    parts += [chain.add("Squeeze", value, chain.sizes(3)) for value in packed]
    query = chain.add("Transpose", parts[0], perm=[0, 2, 1, 3])
    key = chain.add("Transpose", parts[1], perm=[0, 2, 3, 1])
    value = chain.add("Transpose", parts[2], perm=[0, 2, 1, 3])
    scale = node.attributes["scale"].as_float() if "scale" in node.attributes else 0.0
    if scale:
        factor = chain.add("CastLike", chain.add("Constant", value=ir.tensor(np.array(scale, np.float32))), query)
        query = chain.add("Mul", query, factor)
    else:
        width = chain.add("CastLike", chain.add("Shape", query, start=3), query)
        query = chain.add("Div", query, chain.add("Sqrt", width))
    weights = chain.add("Softmax", chain.add("MatMul", query, key), axis=-1)
    mixed = chain.add("Transpose", chain.add("MatMul", weights, value), perm=[0, 2, 1, 3])
    chain.add("Reshape", mixed, chain.sizes(0, 0, -1))
    return chain.nodes


TRANSFORMER_DEFINITIONS: Final[Mapping[str, Definition]] = {
    "BiasSplitGelu": _bias_split_gelu,
    "MultiHeadAttention": _multi_head_attention,
    "SkipLayerNormalization": _skip_layer_normalization,
}
"""Definitions of the operators that `rewrite_transformer` writes or reads, beside `BiasAdd`."""
