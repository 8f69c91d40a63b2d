"""Bytes become floats where they enter: TensorRT knows uint8 only as the type of a graph's input or output."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def widen_bytes(model: ir.Model) -> None:
    """Cast every uint8 input to fp32 before anything moves it, and the constants that met it with it, in place.

    Bytes are exact in fp32, and transposes, slices and comparisons give the same either way.
    """
    graph = model.graph
    inputs = [value for value in graph.inputs if value.dtype == ir.DataType.UINT8]
    if not inputs:
        return
    for value in inputs:
        users = list(value.uses())
        cast = ir.node("Cast", [value], attributes={"to": int(ir.DataType.FLOAT)}, name=f"cast_{value.name}")
        cast.outputs[0].name = f"{value.name}_float"
        graph.insert_before(graph[0], [cast])
        for node, index in users:
            node.replace_input_with(index, cast.outputs[0])
    for value in list(graph.initializers.values()):
        if value.dtype == ir.DataType.UINT8 and value.const_value is not None:
            array = value.const_value.numpy().astype(np.float32)
            value.const_value = ir.Tensor(array, name=value.name)
            value.dtype = ir.DataType.FLOAT
