"""Helpers that build, read and write graphs in onnx_ir's representation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

CONTRIB_DOMAIN: Final = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""
CORE_OPS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "NhwcConv"})
"""Convolutions and matrix products, which have nearly all of a graph's arithmetic."""

# Operators that give a stored weight another type or layout, which loaders compute once; then those that join several.
_WEIGHT_OPS: Final = frozenset({"Cast", "Reshape", "Transpose"})
_STORED_OPS: Final = _WEIGHT_OPS | {"Add", "Concat"}


def make_node(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    *,
    name: str,
    output: str,
    attributes: Mapping[str, int | float] | None = None,
    domain: str = "",
) -> ir.Node:
    """A node with one output, not yet in a graph.

    Args:
        op_type: The operator.
        inputs: Its inputs; None for an optional input that is left out.
        name: Name of the node.
        output: Name of its output.
        attributes: Attributes that are one number.
        domain: The operator's domain; empty for standard ONNX.
    """
    node = ir.node(op_type, inputs, attributes=attributes, domain=domain, name=name)
    node.outputs[0].name = output
    return node


def make_cast(value: ir.Value, dtype: ir.DataType, *, name: str, output: str) -> ir.Node:
    """A Cast of a value, not yet in a graph.

    Args:
        value: The value to cast.
        dtype: The element type of the result.
        name: Name of the node.
        output: Name of its output.
    """
    return make_node("Cast", [value], attributes={"to": int(dtype)}, name=name, output=output)


def add_constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """The initializer of a name, added to the graph when it is not there yet.

    Args:
        graph: The graph, changed in place.
        name: Name of the initializer.
        array: Its content; ignored when the graph has an initializer of this name already.
    """
    if name not in graph.initializers:
        tensor = ir.Tensor(array, name=name)
        graph.register_initializer(
            ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        )
    return graph.initializers[name]


def redirect_readers(value: ir.Value, replacement: ir.Value, *, skip: ir.Node) -> None:
    """Let the nodes that read a value read another one instead; graph outputs are not changed.

    Args:
        value: The value that is read now.
        replacement: The value to read.
        skip: The node that goes on reading `value`: the first of those that compute `replacement`.
    """
    for node, index in list(value.uses()):
        if node is not skip:
            node.replace_input_with(index, replacement)


def find_producer(node: ir.Node, index: int) -> ir.Node | None:
    """The node that computes an input; None for an input that is left out, a graph input or an initializer."""
    value = node.inputs[index]
    return value.producer() if value is not None else None


def list_readers(node: ir.Node) -> list[ir.Node]:
    """The nodes that read a node's first output, one entry for every input that does."""
    return [reader for reader, _ in node.outputs[0].uses()]


def read_int(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute of a node.

    Args:
        node: The node.
        name: The attribute.
        default: Its value when the node does not have it.
    """
    attribute = node.attributes.get(name)
    return attribute.as_int() if attribute is not None else default


def weight_source(value: ir.Value) -> ir.Value | None:
    """The initializer behind a value: itself, or what a Cast, Transpose or Reshape of it computes; None for every other value."""
    found: ir.Value | None = value
    while found is not None and not found.is_initializer():
        node = found.producer()
        found = node.inputs[0] if node is not None and node.op_type in _WEIGHT_OPS and not node.domain else None
    return found


def is_stored(value: ir.Value) -> bool:
    """Whether a value is a stored weight, or computed from stored weights alone: loaders compute it once."""
    node = value.producer()
    if node is None or node.domain or node.op_type not in _STORED_OPS:
        return value.is_initializer()
    return all(source is not None and is_stored(source) for source in node.inputs)


def write_model(model: ir.Model, path: Path, *, has_value_info: bool = True) -> None:
    """Write a graph to a file, the same bytes for the same graph.

    Args:
        model: The graph.
        path: The file.
        has_value_info: Write types and shapes of inner values and of initializers, as far as the model has them.
    """
    proto = ir.to_proto(model)
    if not has_value_info:
        del proto.graph.value_info[:]
    path.write_bytes(proto.SerializeToString(deterministic=True))
