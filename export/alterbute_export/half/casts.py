"""Writing a choice of narrow nodes into a graph: one cast per value and type, weights converted where they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx_ir as ir
from alterbute.bundle import Precision

from alterbute_export.onnx_io.ir import weight_source

_TYPES: Final = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
_NUMPY: Final[dict[str, Any]] = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
_LARGEST: Final = {"fp16": 65504.0, "bf16": float.fromhex("0x1.fep127")}
# Inputs whose type the operator fixes, whatever the type of the rest.
_FIXED_INPUTS: Final = {"Resize": (1, 2)}


class CastWriter:
    """Converts the inputs of nodes, in the graph's order.

    Args:
        model: The graph, changed in place.
        precision: The narrow type.
        kinds: ONNX element type of every value of the fp32 graph, by name.
    """

    def __init__(self, model: ir.Model, precision: Precision, kinds: Mapping[str, int]) -> None:
        self._graph, self._precision, self._kinds = model.graph, precision, kinds
        self._type = _TYPES[precision]
        self._narrow_values: set[ir.Value] = set()
        self._made: dict[tuple[str, bool], ir.Value] = {}
        self.casts = 0
        self.narrow_names: set[str] = set()
        """Values and weights of the fp32 graph that are narrow now."""

    def convert(self, node: ir.Node, *, is_half: bool) -> None:
        """Make a node narrow or keep it wide, casting what it reads."""
        floats = [index for index, value in enumerate(node.inputs) if value is not None and self._is_float(value)]
        floats = [index for index in floats if index not in _FIXED_INPUTS.get(node.op_type, ())]
        computes = any(self._is_float(value) for value in node.outputs) or len(floats) > 1
        if is_half:
            self._narrow_values |= set(node.outputs)
            self.narrow_names |= {str(value.name) for value in node.outputs if self._is_float(value)}
        elif not computes or node.op_type == "Cast":
            return
        for index in floats:
            value = node.inputs[index]
            assert value is not None
            replaced = self._narrowed(value) if is_half else self._widened(value)
            if replaced is not value:
                node.replace_input_with(index, replaced)

    def finish_outputs(self) -> None:
        """Give the graph's outputs back the types that they had."""
        for index, value in enumerate(self._graph.outputs):
            if value not in self._narrow_values:
                continue
            widened = self._widened(value)
            widened.shape, widened.type = value.shape, value.type
            name, value.name = value.name, f"{value.name}_{self._precision}"
            widened.name = name
            self._graph.outputs[index] = widened

    def _is_float(self, value: ir.Value) -> bool:
        return self._kinds.get(str(value.name)) == int(ir.DataType.FLOAT)

    def _widened(self, value: ir.Value) -> ir.Value:
        return self._cast(value, ir.DataType.FLOAT, is_half=False) if value in self._narrow_values else value

    def _narrowed(self, value: ir.Value) -> ir.Value:
        if value in self._narrow_values:
            return value
        source = weight_source(value)
        return self._cast(value, self._type, is_half=True) if source is None else self._narrow_weight(source)

    def _narrow_weight(self, source: ir.Value) -> ir.Value:
        """The same weight in the narrow type: as it is when it is stored so, else converted once for all its readers."""
        if source.dtype == self._type:
            return source
        key = (str(source.name), True)
        if key not in self._made:
            assert source.const_value is not None
            self.narrow_names.add(str(source.name))
            array = source.const_value.numpy().astype(np.float32)
            limit = _LARGEST[self._precision]
            # A mask's -inf is written as the lowest fp32 and must not become an infinity, which softmax cannot take.
            array = np.clip(array, -limit, limit).astype(_NUMPY[self._precision])
            name = f"{source.name}_{self._precision}"
            value = ir.Value(name=name, const_value=ir.Tensor(array, dtype=self._type, name=name))
            value.dtype, value.shape = self._type, ir.Shape(array.shape)
            self._graph.register_initializer(value)
            self._made[key] = value
        return self._made[key]

    def _cast(self, value: ir.Value, kind: ir.DataType, *, is_half: bool) -> ir.Value:
        key = (str(value.name), is_half)
        if key not in self._made:
            cast = ir.node("Cast", [value], attributes={"to": int(kind)}, name=f"cast_{value.name}_{kind.name.lower()}")
            cast.outputs[0].name = f"{value.name}_{kind.name.lower()}"
            producer = value.producer()
            if producer is None:
                self._graph.insert_before(self._graph[0], [cast])
            else:
                self._graph.insert_after(producer, [cast])
            self._made[key] = cast.outputs[0]
            self.casts += 1
        return self._made[key]
