"""Casts of uint8 inputs to fp32: TensorRT supports uint8 only as the type of a graph's input or output."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from alterbute_export.onnx_io.ir import make_cast, redirect_readers


def cast_uint8_inputs(model: ir.Model) -> None:
    """Cast every uint8 input to fp32 before its first reader, and convert uint8 initializers, in place.

    Bytes are exact in fp32, and transposes, slices and comparisons give the same results in both types.
    """
    graph = model.graph
    inputs = [value for value in graph.inputs if value.dtype == ir.DataType.UINT8]
    if not inputs:
        return
    for value in inputs:
        cast = make_cast(value, ir.DataType.FLOAT, name=f"cast_{value.name}", output=f"{value.name}_float")
        graph.insert_before(graph[0], [cast])
        redirect_readers(value, cast.outputs[0], skip=cast)
    for value in list(graph.initializers.values()):
        if value.dtype == ir.DataType.UINT8 and value.const_value is not None:
            array = value.const_value.numpy().astype(np.float32)
            value.const_value = ir.Tensor(array, name=value.name)
            value.dtype = ir.DataType.FLOAT
