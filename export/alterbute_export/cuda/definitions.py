"""Operators of ONNX Runtime's CUDA provider by their documented definitions, in standard ONNX: for runs and checks on the CPU.

Source: docs/ContribOperators.md of ONNX Runtime. GroupNorm and SkipGroupNorm compute in fp32 whatever the type of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from alterbute_export.onnx_io.ir import CONTRIB_DOMAIN

Definition = Callable[[ir.Node], list[ir.Node]]
"""Function from a node to the nodes that replace it, in order; the last ones, one for each output, compute its outputs."""
_KERNEL: Final = ("dilations", "group", "kernel_shape", "pads", "strides")


def expand_operators(model: ir.Model, definitions: Mapping[str, Definition]) -> int:
    """Replace the operators of a graph that have a definition by standard ONNX, in place.

    Args:
        model: The graph.
        definitions: Definitions by operator type.

    Returns:
        How many nodes were replaced.
    """
    replaced = [node for node in model.graph if node.domain == CONTRIB_DOMAIN and node.op_type in definitions]
    for node in replaced:
        nodes = definitions[node.op_type](node)
        model.graph.insert_before(node, nodes)
        for old, last in zip(node.outputs, nodes[-len(node.outputs) :], strict=True):
            new = last.outputs[0]
            if old.is_graph_output():
                new.shape, new.type = old.shape, old.type
                new.name, old.name = old.name, f"{old.name}_replaced"
                model.graph.outputs[model.graph.outputs.index(old)] = new
            old.replace_all_uses_with(new)
    passes.RemoveUnusedNodesPass()(model)
    return len(replaced)


class _Writer:
    """Nodes in order, named after the node that they define."""

    def __init__(self, node: ir.Node) -> None:
        self._name = node.outputs[0].name
        self.nodes: list[ir.Node] = []

    def add(self, op_type: str, *inputs: ir.Value, attributes: Mapping[str, Any] | None = None) -> ir.Value:
        name = f"{self._name}_{len(self.nodes)}"
        node = ir.node(op_type, inputs, attributes=attributes, name=name)
        node.outputs[0].name = name
        self.nodes.append(node)
        return node.outputs[0]

    def constant(self, numbers: Any, dtype: type[np.generic] = np.int64) -> ir.Value:
        return self.add("Constant", attributes={"value": ir.tensor(np.array(numbers, dtype))})


def _group_norm(node: ir.Node) -> list[ir.Node]:
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta` over each group of each picture, then SiLU if asked."""
    writer = _Writer(node)
    picture, gamma, beta = _inputs(node)[:3]
    _normalize(writer, node, picture, gamma, beta)
    return writer.nodes


def _skip_group_norm(node: ir.Node) -> list[ir.Node]:
    """`S = x + skip + bias`, with skip of the picture's shape, `[N,C]` or `[N,1,1,C]`; then as GroupNorm. Outputs: y, S."""
    writer = _Writer(node)
    picture, gamma, beta, skip, *bias = _inputs(node)
    # [0,-1,C]: a sequence of pixels of either, one long for a skip without pixels.
    sequence = writer.add("Concat", writer.constant([0, -1]), writer.add("Shape", gamma), attributes={"axis": 0})
    total = writer.add("Reshape", picture, sequence)
    for value in bias:
        total = writer.add("Add", total, value)
    total = writer.add("Add", total, writer.add("Reshape", skip, sequence))
    total = writer.add("Reshape", total, writer.add("Shape", picture))
    _normalize(writer, node, total, gamma, beta)
    if len(node.outputs) > 1:
        writer.add("Identity", total)
    return writer.nodes


def _normalize(writer: _Writer, node: ir.Node, picture: ir.Value, gamma: ir.Value, beta: ir.Value) -> None:
    groups, epsilon = node.attributes["groups"].as_int(), node.attributes["epsilon"].as_float()
    shape = writer.add("Shape", picture)
    wide = writer.add("Cast", picture, attributes={"to": int(ir.DataType.FLOAT)})
    grouped = writer.add("Reshape", wide, writer.constant([0, 0, 0, groups, -1]))
    centred = writer.add("Sub", grouped, _mean(writer, grouped))
    variance = _mean(writer, writer.add("Mul", centred, centred))
    spread = writer.add("Sqrt", writer.add("Add", variance, writer.constant(epsilon, np.float32)))
    scaled = writer.add("Mul", writer.add("Reshape", writer.add("Div", centred, spread), shape), gamma)
    result = writer.add("Add", scaled, beta)
    if node.attributes["activation"].as_int():
        result = writer.add("Mul", result, writer.add("Sigmoid", result))
    writer.add("CastLike", result, picture)


def _mean(writer: _Writer, value: ir.Value) -> ir.Value:
    """The mean over each group of `[N,h,w,G,C/G]`; axis after axis, because one long sum in fp32 loses digits."""
    for axis in (4, 2, 1):
        value = writer.add("ReduceMean", value, writer.constant([axis]))
    return value


def _nhwc_conv(node: ir.Node) -> list[ir.Node]:
    """`Conv` of `[N,h,w,I]` with a kernel `[O,kh,kw,I]`."""
    writer = _Writer(node)
    picture, weight, *bias = _inputs(node)
    first, last = {"perm": [0, 3, 1, 2]}, {"perm": [0, 2, 3, 1]}
    value = writer.add(
        "Conv",
        writer.add("Transpose", picture, attributes=first),
        writer.add("Transpose", weight, attributes=first),
        *bias,
        attributes={
            name: list(node.attributes[name].as_ints())
            for name in _KERNEL
            if name in node.attributes and name != "group"
        }
        | ({"group": node.attributes["group"].as_int()} if "group" in node.attributes else {}),
    )
    writer.add("Transpose", value, attributes=last)
    return writer.nodes


def _bias_add(node: ir.Node) -> list[ir.Node]:
    """`x + bias + skip`."""
    writer = _Writer(node)
    value, bias, skip = _inputs(node)
    writer.add("Add", writer.add("Add", value, bias), skip)
    return writer.nodes


def _inputs(node: ir.Node) -> Sequence[ir.Value]:
    return [value for value in node.inputs if value is not None]


DEFINITIONS: Final[Mapping[str, Definition]] = {
    "BiasAdd": _bias_add,
    "GroupNorm": _group_norm,
    "NhwcConv": _nhwc_conv,
    "SkipGroupNorm": _skip_group_norm,
}
"""Definitions of the operators that `make_channels_last` writes."""
