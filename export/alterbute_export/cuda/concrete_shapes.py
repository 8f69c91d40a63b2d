"""Shapes of every value of a graph for chosen sizes of its free dimensions, computed without running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

Shape = tuple[int, ...]
Shapes = dict[ir.Value, tuple[Shape, ...]]
"""Shapes of each value, one for every choice of sizes."""

# Multiples of what any UNet and autoencoder halve a picture by, with odd factors that no two dimensions share, so that sizes which
# are equal for every choice are equal always.
_FACTORS: Final = ((3, 5, 7, 11, 13, 17, 19, 23), (13, 11, 5, 3, 19, 7, 29, 17), (7, 3, 23, 17, 5, 31, 11, 13))
_PICTURE: Final = 64
_SMALL: Final = 64
_INTEGER_OPS: Final = frozenset(
    {"Add", "Cast", "Concat", "Div", "Gather", "Identity", "Mul", "Reshape", "Slice", "Squeeze", "Sub", "Unsqueeze"}
)


def find_shapes(model: ir.Model) -> Shapes:
    """Shapes of the values of a graph, for three choices of the sizes of its free dimensions.

    Values behind an operator whose output shape cannot be inferred are missing.
    """
    names = list(dict.fromkeys(str(dim) for value in model.graph.inputs for dim in _dims(value) if not _is_number(dim)))
    choices = [
        _Inference(model, {name: _PICTURE * factors[index % 8] + index // 8 for index, name in enumerate(names)}).find()
        for factors in _FACTORS
    ]
    shapes: Shapes = {}
    for value in choices[0]:
        if all(value in choice for choice in choices):
            shapes[value] = tuple(choice[value] for choice in choices)
    return shapes


def transposed(shapes: tuple[Shape, ...]) -> list[tuple[int, ...]]:
    """The dimensions of a value, each with one size for every choice."""
    return list(zip(*shapes, strict=True))


class _Inference:
    """The shapes of one graph for one choice of sizes."""

    def __init__(self, model: ir.Model, sizes: Mapping[str, int]) -> None:
        self._graph = model.graph
        self._opset = model.opset_imports[""]
        self._types: dict[ir.Value, onnx.TypeProto] = {}
        self._data: dict[ir.Value, NDArray[Any]] = {}
        for value in model.graph.inputs:
            shape = [int(dim) if _is_number(dim) else sizes[str(dim)] for dim in _dims(value)]
            self._types[value] = onnx.helper.make_tensor_type_proto(int(value.dtype or 1), shape)
        for value in model.graph.initializers.values():
            tensor = value.const_value
            assert tensor is not None
            self._types[value] = onnx.helper.make_tensor_type_proto(int(tensor.dtype), list(tensor.shape.numpy()))
            if tensor.size <= _SMALL:
                self._data[value] = tensor.numpy()

    def find(self) -> dict[ir.Value, Shape]:
        for node in self._graph:
            if all(value is None or value in self._types for value in node.inputs):
                self._infer(node)
        return {
            value: tuple(dim.dim_value for dim in kind.tensor_type.shape.dim)
            for value, kind in self._types.items()
            if all(dim.HasField("dim_value") for dim in kind.tensor_type.shape.dim)
        }

    def _infer(self, node: ir.Node) -> None:
        if node.domain:
            shape = _CONTRIB.get(node.op_type, _first_shape)(node, self._shape)
            first = node.inputs[0]
            assert first is not None
            kind = self._types[first].tensor_type.elem_type
            self._types.update({value: onnx.helper.make_tensor_type_proto(kind, shape) for value in node.outputs})
        elif not self._compute(node):
            inputs = {str(value.name): self._types[value] for value in node.inputs if value is not None}
            data = {
                str(value.name): onnx.numpy_helper.from_array(self._data[value], str(value.name))
                for value in node.inputs
                if value is not None and value in self._data
            }
            schema = onnx.defs.get_schema(node.op_type, self._opset, "")
            opset = [onnx.helper.make_opsetid("", self._opset)]
            found = onnx.shape_inference.infer_node_outputs(
                schema, ir.to_proto(node), inputs, data, opset_imports=opset
            )
            for value in node.outputs:
                if str(value.name) in found and found[str(value.name)].tensor_type.HasField("shape"):
                    self._types[value] = found[str(value.name)]

    def _compute(self, node: ir.Node) -> bool:
        """Compute a node of shape arithmetic; whether it was one."""
        if node.op_type == "Shape":
            assert node.inputs[0] is not None
            shape = self._shape(node.inputs[0])
            limits = {
                name: node.attributes[name].as_int() if name in node.attributes else None for name in ("start", "end")
            }
            result = np.array(shape[limits["start"] : limits["end"]], np.int64)
        elif node.op_type in _INTEGER_OPS and all(value is None or value in self._data for value in node.inputs):
            feeds = {str(value.name): self._data[value] for value in node.inputs if value is not None}
            result = np.asarray(ReferenceEvaluator(ir.to_proto(node)).run(None, feeds)[0])
        else:
            return False
        output = node.outputs[0]
        self._data[output] = result
        kind = onnx.helper.np_dtype_to_tensor_dtype(result.dtype)
        self._types[output] = onnx.helper.make_tensor_type_proto(kind, result.shape)
        return True

    def _shape(self, value: ir.Value) -> Shape:
        return tuple(dim.dim_value for dim in self._types[value].tensor_type.shape.dim)


def _first_shape(node: ir.Node, shape: Callable[[ir.Value], Shape]) -> Shape:
    assert node.inputs[0] is not None
    return shape(node.inputs[0])


def _convolution_shape(node: ir.Node, shape: Callable[[ir.Value], Shape]) -> Shape:
    """Output `[N,H,W,O]` of an `NhwcConv`."""
    picture, weight = node.inputs[0], node.inputs[1]
    assert picture is not None and weight is not None
    rows, (channels, *kernel, _) = shape(picture), shape(weight)
    pads, strides, dilations = (
        list(node.attributes[name].as_ints()) if name in node.attributes else default
        for name, default in (("pads", [0] * 4), ("strides", [1] * 2), ("dilations", [1] * 2))
    )
    sides = (
        (rows[1 + axis] + pads[axis] + pads[axis + 2] - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1
        for axis in range(2)
    )
    return (rows[0], *sides, channels)


# Output shapes of operators of the domain com.microsoft; those of all others that the graphs have are that of their first input.
_CONTRIB: Final[dict[str, Callable[[ir.Node, Callable[[ir.Value], Shape]], Shape]]] = {"NhwcConv": _convolution_shape}


def _dims(value: ir.Value) -> list[Any]:
    assert value.shape is not None
    return [dim if isinstance(dim, int) else dim.value for dim in value.shape]


def _is_number(dim: Any) -> bool:
    return isinstance(dim, int)
