"""Which operators of a graph become int8: convolutions and products with weights, and where their numbers are seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from alterbute_export.onnx_io.write_onnx import OPSET

MIN_WEIGHTS: Final = 4096
"""Smaller weights stay fp32: rounding their inputs costs more than they do."""
_RANKS: Final = {"Conv": 4, "MatMul": 2}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantizableOp:
    """One operator with constant weights; `source` and `result` name its activations and what is made of them.

    `channel_axis` is that of the input's channels, `output_axis` that of the weights' outputs: 1 and 0 of a convolution, -1 and 1 of
    a matrix product.
    """

    node: ir.Node
    source: str
    result: str
    channel_axis: int
    output_axis: int

    @property
    def weights(self) -> NDArray[np.float32]:
        """`[O,I,kh,kw]` or `[K,N]`."""
        found = constant_array(self.node.inputs[1])
        assert found is not None
        return found.astype(np.float32)


def find_quantizable_ops(model: ir.Model) -> list[QuantizableOp]:
    """The products that become int8, in the graph's order: all but the first and the last convolution, and small ones."""
    nodes = list(model.graph)
    fixed = find_constants(model)
    convolutions = [node for node in nodes if node.op_type == "Conv" and node.inputs[1] in fixed]
    ends = {id(node) for node in (convolutions[:1] + convolutions[-1:])}
    found = []
    for node in nodes:
        source = node.inputs[0] if len(node.inputs) > 1 else None
        if source is None or id(node) in ends or source in fixed or node.inputs[1] not in fixed:
            continue
        array = constant_array(node.inputs[1])
        if array is None or array.size < MIN_WEIGHTS or array.ndim != _RANKS.get(node.op_type) or _groups(node) != 1:
            continue
        is_convolution = node.op_type == "Conv"
        found.append(
            QuantizableOp(
                node=node,
                source=str(source.name),
                result=str(node.outputs[0].name),
                channel_axis=1 if is_convolution else -1,
                output_axis=0 if is_convolution else 1,
            )
        )
    return found


def find_constants(model: ir.Model) -> set[ir.Value | None]:
    """The values that follow from initialisers alone, as a weight that is widened when it is loaded does."""
    found: set[ir.Value | None] = set(model.graph.initializers.values())
    for node in model.graph:
        if node.inputs and all(value is None or value in found for value in node.inputs):
            found.update(node.outputs)
    return found


def constant_array(value: ir.Value | None) -> NDArray[np.generic] | None:
    """What a constant value is; None of one that depends on the graph's inputs."""
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
    """The nodes that make a value, in their order, and the initialisers under them; False where a graph's input is among those."""
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


def _groups(node: ir.Node) -> int:
    attribute = node.attributes.get("group")
    return attribute.as_int() if attribute is not None else 1
