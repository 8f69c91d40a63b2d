"""What the rewrites of transformers look for: products with stored weights, their biases, and values with a single reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from alterbute_export.onnx_io.ir import is_stored, make_node, weight_source


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Term:
    """A term of a sum without its bias."""

    value: ir.Value
    bias: ir.Value | None
    """`[C]`, stored; None for a term without one."""


def find_stored_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Shape of a stored weight, or of a Cast of one; None for every other value."""
    if value is None:
        return None
    producer = value.producer()
    source = weight_source(value) if producer is None or producer.op_type == "Cast" else None
    if source is None or source.const_value is None:
        return None
    return tuple(int(size) for size in source.const_value.shape.numpy())


def find_single_reader(value: ir.Value) -> ir.Node | None:
    """The node that reads a value; None when more than one input does, or it is an output of the graph."""
    uses = list(value.uses())
    return uses[0][0] if len(uses) == 1 and not value.is_graph_output() else None


def find_product(value: ir.Value | None) -> ir.Node | None:
    """The MatMul with stored weights `[K,C]` that computes a value; None for every other value."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "MatMul" or node.inputs[1] is None or not is_stored(node.inputs[1]):
        return None
    return node


def split_bias(value: ir.Value) -> Term:
    """A value without the stored bias `[C]` that was added last, which stays where it is when two nodes read the biased value."""
    node = value.producer()
    if node is None or node.op_type != "Add" or find_single_reader(value) is None:
        return Term(value=value, bias=None)
    for inner, bias in (node.inputs, node.inputs[::-1]):
        shape = find_stored_shape(bias)
        if inner is not None and not is_stored(inner) and shape is not None and len(shape) == 1 and shape[0] > 1:
            return Term(value=inner, bias=bias)
    return Term(value=value, bias=None)


def take_place(old: ir.Value, new: ir.Value) -> None:
    """Let a value be read in place of another, or be the graph's output in its place, under its name."""
    if old.is_graph_output():
        new.shape, new.type = old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    new.name, old.name = old.name, f"{old.name}_before"


def join(values: Sequence[ir.Value], axis: int, *, name: str) -> ir.Node:
    """A node, not yet in a graph, that joins stored weights: loaders compute it once, and the file has each weight once.

    Args:
        values: The weights.
        axis: The axis along which they are joined.
        name: Name of the node and its output.
    """
    return make_node("Concat", values, attributes={"axis": axis}, name=name, output=name)
