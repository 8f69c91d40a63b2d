"""Search for the operators of a graph that can be int8: convolutions and matrix products with constant weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from alterbute_export.onnx_io.ir import read_int
from alterbute_export.onnx_io.write_onnx import OPSET

MIN_WEIGHTS: Final = 4096
"""Operators with fewer weights stay fp32: quantizing their inputs costs more than the operator."""
_RANKS: Final = {"Conv": 4, "MatMul": 2}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantizableOp:
    """One convolution or matrix product with constant weights."""

    node: ir.Node
    input_name: str
    """Name of the activations."""
    output_name: str
    channel_axis: int
    """Axis of the activations' channels: 1 of a convolution, -1 of a matrix product."""
    output_axis: int
    """Axis of the weights' output channels: 0 of a convolution, 1 of a matrix product."""

    @property
    def weights(self) -> NDArray[np.float32]:
        """The weights in fp32: `[O,I,kh,kw]` of a convolution, `[I,O]` of a matrix product."""
        array = constant_array(self.node.inputs[1])
        assert array is not None
        return array.astype(np.float32)


def find_quantizable_ops(model: ir.Model) -> list[QuantizableOp]:
    """The operators that can be int8, in the graph's order: all but the first and last convolution, grouped ones and small ones."""
    nodes = list(model.graph)
    constants = find_constants(model)
    convolutions = [node for node in nodes if node.op_type == "Conv" and node.inputs[1] in constants]
    ends = {id(node) for node in (convolutions[:1] + convolutions[-1:])}
    ops = []
    for node in nodes:
        source = node.inputs[0] if len(node.inputs) > 1 else None
        if source is None or id(node) in ends or source in constants or node.inputs[1] not in constants:
            continue
        array = constant_array(node.inputs[1])
        if array is None or array.size < MIN_WEIGHTS or array.ndim != _RANKS.get(node.op_type):
            continue
        if read_int(node, "group", 1) != 1:
            continue
        is_convolution = node.op_type == "Conv"
        ops.append(
            QuantizableOp(
                node=node,
                input_name=str(source.name),
                output_name=str(node.outputs[0].name),
                channel_axis=1 if is_convolution else -1,
                output_axis=0 if is_convolution else 1,
            )
        )
    return ops


def find_constants(model: ir.Model) -> set[ir.Value | None]:
    """The values that depend on initializers alone, such as a weight that is stored as fp16 and cast to fp32."""
    constants: set[ir.Value | None] = set(model.graph.initializers.values())
    for node in model.graph:
        if node.inputs and all(value is None or value in constants for value in node.inputs):
            constants.update(node.outputs)
    return constants


def constant_array(value: ir.Value | None) -> NDArray[np.generic] | None:
    """The content of a constant value, computed from initializers where needed; None if it depends on the graph's inputs."""
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    nodes: list[ir.Node] = []
    weights: dict[str, ir.TensorProtocol] = {}
    if not _collect(value, nodes, weights):
        return None
    tensors = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(tensor.numpy()), name) for name, tensor in weights.items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(str(value.name))]
    graph = onnx.helper.make_graph([ir.to_proto(node) for node in nodes], "constant", [], outputs, tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    return np.asarray(ReferenceEvaluator(model).run(None, {})[0])


def _collect(value: ir.Value, nodes: list[ir.Node], weights: dict[str, ir.TensorProtocol]) -> bool:
    """Collect the nodes that a value is computed by, in order, and their initializers; False if the value depends on a graph input."""
    if value.const_value is not None:
        weights[str(value.name)] = value.const_value
        return True
    producer = value.producer()
    if producer is None:
        return False
    if producer not in nodes:
        if not all(_collect(item, nodes, weights) for item in producer.inputs if item is not None):
            return False
        nodes.append(producer)
    return True
