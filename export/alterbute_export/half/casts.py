"""Conversion of chosen operators to half precision: one Cast per value and type, weights converted where they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx_ir as ir
from alterbute.bundle import Precision

from alterbute_export.onnx_io.ir import add_constant, is_stored, make_cast, make_node, weight_source

_TYPES: Final = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
_NUMPY: Final[dict[str, Any]] = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
_LARGEST: Final = {"fp16": 65504.0, "bf16": float.fromhex("0x1.fep127")}
# Inputs whose type is the same whatever the type of the operator's other inputs.
_FIXED_INPUTS: Final = {"Resize": (1, 2), "GroupNorm": (1, 2), "SkipGroupNorm": (1, 2)}
# Operators on stored weights that loaders compute in half precision. ONNX Runtime has no half-precision Add on the CPU, where it does
# that: a sum of biases is computed in fp32 and then converted.
_EXPRESSIONS: Final = ("Concat", "Reshape", "Transpose")


class CastWriter:
    """Casts the inputs of operators, one operator after another in the graph's order.

    Args:
        model: The graph, changed in place.
        precision: The half precision.
        kinds: ONNX element type of every value of the fp32 graph, by name.
    """

    def __init__(self, model: ir.Model, precision: Precision, kinds: Mapping[str, int]) -> None:
        self._graph, self._precision, self._kinds = model.graph, precision, kinds
        self._type = _TYPES[precision]
        self._half_values: set[ir.Value] = set()
        self._half_weights: dict[str, ir.Value] = {}
        self._half_expressions: dict[str, ir.Value] = {}
        self._casts: dict[tuple[str, ir.DataType], ir.Value] = {}
        self.half_names: set[str] = set()
        """Values and weights that were fp32 in the fp32 graph and are half precision now."""

    @property
    def casts(self) -> int:
        """Number of Cast operators that were added."""
        return len(self._casts)

    def convert(self, node: ir.Node, *, is_half: bool) -> None:
        """Cast what an operator reads, so that it computes in half precision, or in fp32."""
        floats = [index for index, value in enumerate(node.inputs) if value is not None and self._is_float(value)]
        floats = [index for index in floats if index not in _FIXED_INPUTS.get(node.op_type, ())]
        computes = any(self._is_float(value) for value in node.outputs) or len(floats) > 1
        if is_half:
            self._half_values |= set(node.outputs)
            self.half_names |= {str(value.name) for value in node.outputs if self._is_float(value)}
        elif not computes or node.op_type == "Cast":
            return
        for index in floats:
            value = node.inputs[index]
            assert value is not None
            converted = self._to_half(value) if is_half else self._to_fp32(value)
            if converted is not value:
                node.replace_input_with(index, converted)

    def finish_outputs(self) -> None:
        """Cast graph outputs that became half precision back to fp32, under their own names."""
        for index, value in enumerate(self._graph.outputs):
            if value not in self._half_values:
                continue
            output = self._to_fp32(value)
            output.shape, output.type = value.shape, value.type
            name, value.name = value.name, f"{value.name}_{self._precision}"
            output.name = name
            self._graph.outputs[index] = output

    def _is_float(self, value: ir.Value) -> bool:
        return self._kinds.get(str(value.name)) == int(ir.DataType.FLOAT)

    def _to_fp32(self, value: ir.Value) -> ir.Value:
        return self._cast(value, ir.DataType.FLOAT) if value in self._half_values else value

    def _to_half(self, value: ir.Value) -> ir.Value:
        if value in self._half_values:
            return value
        node = value.producer()
        if node is not None and node.op_type in _EXPRESSIONS and is_stored(value):
            return self._convert_expression(node)
        source = weight_source(value)
        return self._cast(value, self._type) if source is None else self._convert_weight(source)

    def _convert_expression(self, node: ir.Node) -> ir.Value:
        """What is computed from stored weights alone, from the weights in half precision, so that the file has each once."""
        name = str(node.outputs[0].name)
        if name not in self._half_expressions:
            sources = [
                value if value is None or not self._is_float(value) else self._to_half(value) for value in node.inputs
            ]
            copy = make_node(
                node.op_type, sources, name=f"{node.name}_{self._precision}", output=f"{name}_{self._precision}"
            )
            copy.attributes.update(node.attributes)
            self._graph.insert_after(node, copy)
            self._half_expressions[name] = copy.outputs[0]
        return self._half_expressions[name]

    def _convert_weight(self, source: ir.Value) -> ir.Value:
        """A weight in half precision: as it is when it is stored so, else converted once for all its readers."""
        if source.dtype == self._type:
            return source
        name = str(source.name)
        if name not in self._half_weights:
            assert source.const_value is not None
            self.half_names.add(name)
            array = source.const_value.numpy().astype(np.float32)
            limit = _LARGEST[self._precision]
            # A mask's -inf is written as the lowest fp32 and must not become an infinity, which softmax cannot take.
            array = np.clip(array, -limit, limit).astype(_NUMPY[self._precision])
            self._half_weights[name] = add_constant(self._graph, f"{name}_{self._precision}", array)
        return self._half_weights[name]

    def _cast(self, value: ir.Value, kind: ir.DataType) -> ir.Value:
        key = (str(value.name), kind)
        if key not in self._casts:
            suffix = kind.name.lower()
            cast = make_cast(value, kind, name=f"cast_{value.name}_{suffix}", output=f"{value.name}_{suffix}")
            producer = value.producer()
            if producer is None:
                self._graph.insert_before(self._graph[0], [cast])
            else:
                self._graph.insert_after(producer, [cast])
            self._casts[key] = cast.outputs[0]
        return self._casts[key]
