"""The time embedding's projections for all residual blocks of one width as one product and a Split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import onnx_ir as ir

from alterbute_export.cuda.transformer.patterns import find_stored_shape, join, take_place
from alterbute_export.onnx_io.ir import read_int

# ONNX Runtime's Split copies a list of more equal outputs from the host, which a captured graph would read again later.
_MOST_OUTPUTS: Final = 32


def join_projections(graph: ir.Graph) -> int:
    """Compute products with biases of one value and one width at once, in place.

    Returns:
        How many products were joined.
    """
    joined = 0
    for group in _list_groups(graph):
        _join(graph, group)
        joined += len(group)
    return joined


def _list_groups(graph: ir.Graph) -> Iterator[list[ir.Node]]:
    """Two or more `Gemm` nodes with the same input and weights `[C,K]` of the same shape."""
    groups: dict[tuple[ir.Value, tuple[int, ...]], list[ir.Node]] = {}
    for node in graph:
        shape = find_stored_shape(node.inputs[1]) if _is_layer(node) else None
        source = node.inputs[0] if shape is not None else None
        if shape is not None and source is not None:
            groups.setdefault((source, shape), []).append(node)
    for group in groups.values():
        # Parts of even length, so that none is left with one.
        count = -(-len(group) // _MOST_OUTPUTS)
        parts = [group[index::count] for index in range(count)]
        yield from (part for part in parts if len(part) > 1)


def _is_layer(node: ir.Node) -> bool:
    """Whether a node is `x @ weight^T + bias` with stored weight and bias."""
    numbers = (
        {name: node.attributes[name].as_float() if name in node.attributes else 1.0 for name in ("alpha", "beta")}
        if node.op_type == "Gemm"
        else {}
    )
    return (
        set(numbers.values()) == {1.0}
        and (read_int(node, "transA", 0), read_int(node, "transB", 0)) == (0, 1)
        and len(node.inputs) == 3
        and len(find_stored_shape(node.inputs[2]) or ()) == 1
        and not node.outputs[0].is_graph_output()
    )


def _join(graph: ir.Graph, group: list[ir.Node]) -> None:
    first = group[0]
    name = f"{first.outputs[0].name}_joined"
    weights, biases = ([value for node in group if (value := node.inputs[index]) is not None] for index in (1, 2))
    weight, bias = join(weights, 0, name=f"{name}_weight"), join(biases, 0, name=f"{name}_bias")
    product = ir.node("Gemm", [first.inputs[0], weight.outputs[0], bias.outputs[0]], {"transB": 1}, name=name)
    product.outputs[0].name = name
    split = ir.node(
        "Split", product.outputs, {"axis": 1, "num_outputs": len(group)}, num_outputs=len(group), name=f"{name}_split"
    )
    graph.insert_before(first, [weight, bias, product, split])
    for node, output in zip(group, split.outputs, strict=True):
        take_place(node.outputs[0], output)
