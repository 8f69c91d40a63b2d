"""Reshapes without shape arithmetic: constants with 0 and -1, or the shape of another value.

A shape that is computed from sizes costs operators on the CPU in every launch and hides which axes stay the same. What remains is
`Reshape(x, Shape(y))`, which the host resolves from sizes that it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from alterbute_export.cuda.concrete_shapes import Shapes, find_shapes, transposed
from alterbute_export.onnx_io.ir import add_constant, find_producer, make_node

_READ_AS = {"Reshape": 0, "Expand": 1}


def remove_shape_arithmetic(model: ir.Model) -> int:
    """Give every Reshape and Expand whose shape is computed a constant shape or that of another value, in place.

    Returns:
        How many keep a computed shape, because nothing before them has it.
    """
    shapes = find_shapes(model)
    order = {node: index for index, node in enumerate(model.graph)}
    left = 0
    for node in list(model.graph):
        if node.op_type in _READ_AS and not node.domain and not has_static_shape(node):
            left += not _make_static(model.graph, node, shapes, order)
    passes.RemoveUnusedNodesPass()(model)
    return left


def share_shapes(model: ir.Model) -> None:
    """Read every whole shape from the first value that has it, in place: one Shape node for each different shape."""
    shapes = find_shapes(model)
    first: dict[tuple[tuple[int, ...], ...], ir.Value] = {}
    for value in _list_values(model.graph):
        if value in shapes:
            first.setdefault(shapes[value], value)
    shared: dict[ir.Value, ir.Value] = {}
    for node in list(model.graph):
        source = node.inputs[0] if is_whole_shape(node) else None
        if source is None or source not in shapes:
            continue
        owner = first[shapes[source]]
        if owner not in shared:
            shared[owner] = read_shape(model.graph, owner)
        if node.outputs[0] is not shared[owner]:
            node.outputs[0].replace_all_uses_with(shared[owner])
    passes.RemoveUnusedNodesPass()(model)


def is_whole_shape(node: ir.Node) -> bool:
    """Whether a node reads all sizes of a value."""
    attributes = (
        {name: attribute.as_int() for name, attribute in node.attributes.items()} if node.op_type == "Shape" else {}
    )
    return node.op_type == "Shape" and attributes.get("start", 0) == 0 and "end" not in attributes


def has_static_shape(node: ir.Node) -> bool:
    """Whether the shape of a Reshape or Expand is constant or that of a value."""
    producer, shape = find_producer(node, 1), node.inputs[1]
    return (shape is not None and shape.const_value is not None) or (producer is not None and is_whole_shape(producer))


def read_shape(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """A new Shape node of a value, directly after it, so that the value is not kept for it."""
    node = make_node("Shape", [value], name=f"{value.name}_shape", output=f"{value.name}_shape")
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)
    return node.outputs[0]


def constant_shape(graph: ir.Graph, sizes: Sequence[int]) -> ir.Value:
    """The constant of a Reshape: 0 keeps a size, -1 is what remains."""
    return add_constant(
        graph, "shape_" + "_".join(str(size) for size in sizes).replace("-", "m"), np.array(sizes, np.int64)
    )


def _make_static(graph: ir.Graph, node: ir.Node, shapes: Shapes, order: dict[ir.Node, int]) -> bool:
    source, target = node.inputs[0], node.outputs[0]
    if source not in shapes or target not in shapes:
        return False
    assert source is not None
    dims, wanted = transposed(shapes[source]), transposed(shapes[target])
    sizes = _constant_sizes(dims, wanted, kept=_READ_AS[node.op_type])
    if sizes is not None and (node.op_type == "Reshape" or -1 not in sizes):
        shape = constant_shape(graph, sizes)
    elif node.op_type == "Reshape" and (flat := _flatten(graph, node, dims, wanted)) is not None:
        shape = constant_shape(graph, flat)
    else:
        same = _find_same(graph, node, shapes, order)
        if same is None:
            return False
        shape = read_shape(graph, same)
    node.replace_input_with(1, shape)
    node.attributes.pop("allowzero", None)
    return True


def _constant_sizes(source: list[tuple[int, ...]], target: list[tuple[int, ...]], *, kept: int) -> list[int] | None:
    """The constant sizes that make `target` of `source`, or None when more than one is unknown.

    Args:
        source: Dimensions of the input.
        target: Dimensions of the output.
        kept: The number that keeps a dimension of the input: 0 for Reshape, 1 for Expand.
    """
    shift = 0 if kept == 0 else len(target) - len(source)
    sizes = []
    for axis, dim in enumerate(target):
        if len(set(dim)) == 1:
            sizes.append(dim[0])
        elif 0 <= axis - shift < len(source) and source[axis - shift] == dim:
            sizes.append(kept)
        else:
            sizes.append(-1)
    return sizes if sizes.count(-1) <= 1 else None


def _flatten(
    graph: ir.Graph, node: ir.Node, source: list[tuple[int, ...]], target: list[tuple[int, ...]]
) -> list[int] | None:
    """Flatten a Reshape's input to two axes where the output then has a constant shape, and return that."""
    for axis in range(2, len(source)):
        flat = [tuple(prod(sizes) for sizes in zip(*part, strict=True)) for part in (source[:axis], source[axis:])]
        sizes = _constant_sizes(flat, target, kept=0)
        if sizes is not None:
            name = f"{node.outputs[0].name}_flat"
            flattened = make_node("Flatten", [node.inputs[0]], attributes={"axis": axis}, name=name, output=name)
            graph.insert_before(node, flattened)
            node.replace_input_with(0, flattened.outputs[0])
            return sizes
    return None


def _find_same(graph: ir.Graph, node: ir.Node, shapes: Shapes, order: dict[ir.Node, int]) -> ir.Value | None:
    """A value with the shape of a node's output that exists before the node: an input, or the nearest value."""
    wanted = shapes[node.outputs[0]]
    for value in graph.inputs:
        if shapes.get(value) == wanted:
            return value
    found = None
    for value in _list_values(graph):
        producer = value.producer()
        if shapes.get(value) == wanted and producer in order and order[producer] < order[node]:
            found = value
    return found


def _list_values(graph: ir.Graph) -> list[ir.Value]:
    """Inputs and computed values in the graph's order."""
    return [*graph.inputs, *(value for node in graph for value in node.outputs)]
