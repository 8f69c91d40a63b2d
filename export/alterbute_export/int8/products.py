"""Which operators of a graph become int8: convolutions and products with weights, and where their numbers are seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

MIN_WEIGHTS: Final = 4096
"""Smaller weights stay fp32: rounding their inputs costs more than they do."""
_RANKS: Final = {"Conv": 4, "MatMul": 2}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Product:
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


def find_products(model: ir.Model) -> list[Product]:
    """The products that become int8, in the graph's order: all but the first and the last convolution, and small ones."""
    nodes = list(model.graph)
    convolutions = [node for node in nodes if node.op_type == "Conv" and is_constant(node.inputs[1])]
    ends = {id(node) for node in (convolutions[:1] + convolutions[-1:])}
    found = []
    for node in nodes:
        source = node.inputs[0] if len(node.inputs) > 1 else None
        if source is None or id(node) in ends or is_constant(source) or not is_constant(node.inputs[1]):
            continue
        array = constant_array(node.inputs[1])
        if array is None or array.size < MIN_WEIGHTS or array.ndim != _RANKS.get(node.op_type) or _groups(node) != 1:
            continue
        is_convolution = node.op_type == "Conv"
        found.append(
            Product(
                node=node,
                source=str(source.name),
                result=str(node.outputs[0].name),
                channel_axis=1 if is_convolution else -1,
                output_axis=0 if is_convolution else 1,
            )
        )
    return found


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value follows from initialisers alone, as a weight that is widened when it is loaded does."""
    if value is None:
        return True
    if value.const_value is not None:
        return True
    producer = value.producer()
    return producer is not None and bool(producer.inputs) and all(is_constant(item) for item in producer.inputs)


def constant_array(value: ir.Value | None) -> NDArray[np.generic] | None:
    """What a constant value is; None of one that depends on the graph's inputs."""
    if value is None or not is_constant(value):
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    nodes: list[ir.Node] = []
    weights: dict[str, ir.Value] = {}
    _collect(value, nodes, weights)
    tensors = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(item.const_value.numpy()), name)
        for name, item in weights.items()
        if item.const_value is not None
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(str(value.name))]
    graph = onnx.helper.make_graph([ir.to_proto(node) for node in nodes], "constant", [], outputs, tensors)
    made = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])).run(
        None, {}
    )
    return np.asarray(made[0])


def _collect(value: ir.Value, nodes: list[ir.Node], weights: dict[str, ir.Value]) -> None:
    if value.const_value is not None:
        weights[str(value.name)] = value
        return
    producer = value.producer()
    assert producer is not None
    if producer in nodes:
        return
    for item in producer.inputs:
        if item is not None:
            _collect(item, nodes, weights)
    nodes.append(producer)


def _groups(node: ir.Node) -> int:
    attribute = node.attributes.get("group")
    return attribute.as_int() if attribute is not None else 1
