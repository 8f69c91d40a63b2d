"""Static quantization, written as Q/DQ pairs: u8 activations with one scale each, s8 weights with a scale per output channel.

`QuantizeLinear -> DequantizeLinear -> Conv` is standard ONNX; ONNX Runtime replaces it by integer kernels when it loads the graph. No
scale is computed from the data of a launch: a scale over a batch would make a row's bytes depend on the other rows.

Weights have seven bits. The product of a u8 and an s8 number fits 16 bits, the sum of two such products does not, and x86 CPUs
without VNNI add two products in 16 bits: 8-bit weights would saturate there, and the same bundle would give different pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common as passes

from alterbute_export.int8.find_ops import QuantizableOp, constant_array
from alterbute_export.int8.scales import Scale, Scales
from alterbute_export.onnx_io.ir import add_constant, make_node, redirect_readers


def quantize_graph(model: ir.Model, ops: Mapping[QuantizableOp, Scales]) -> None:
    """Quantize operators to int8, in place; the graph's inputs and outputs keep their types.

    Args:
        model: The fp32 graph.
        ops: The operators to quantize, in the graph's order, and their scales.
    """
    writer = _Writer(model)
    for op, scales in ops.items():
        writer.convert(op, scales)
    passes.RemoveUnusedNodesPass()(model)


class _Writer:
    """Adds Q/DQ pairs around one operator after another; a value that several operators read is quantized once per smoothing."""

    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._quantized: dict[tuple[str, bytes], ir.Value] = {}

    def convert(self, op: QuantizableOp, scales: Scales) -> None:
        node, name = op.node, op.output_name
        activations = node.inputs[0]
        assert activations is not None
        # Another name: the convolution before has quantized its output, over the same range.
        if activations.name == op.input_name or scales.smooth is not None:
            node.replace_input_with(0, self._quantize_activations(activations, op, scales))
        weights = self._add_dequantized(f"{name}_weights", scales.weights, scales.weight_scales, op.output_axis, node)
        node.replace_input_with(1, weights)
        if scales.output is None:
            return
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            bias = constant_array(node.inputs[2])
            assert bias is not None
            steps = (scales.weight_scales * scales.activation.scale).astype(np.float32)
            stored = np.clip(np.rint(bias.astype(np.float64) / steps), -(2**31), 2**31 - 1).astype(np.int32)
            node.replace_input_with(2, self._add_dequantized(f"{name}_bias", stored, steps, 0, node))
        # ONNX Runtime has an integer kernel only for a convolution whose output is quantized, too.
        value = node.outputs[0]
        pair = self._make_pair(value, scales.output, f"{name}_out")
        self._graph.insert_after(node, pair)
        redirect_readers(value, pair[-1].outputs[0], skip=pair[0])

    def _quantize_activations(self, value: ir.Value, op: QuantizableOp, scales: Scales) -> ir.Value:
        """The operator's activations, smoothed if that was chosen, quantized and dequantized."""
        smooth = scales.smooth
        key = (str(value.name), b"" if smooth is None else smooth.tobytes())
        if key in self._quantized:
            return self._quantized[key]
        base, nodes = f"{op.output_name}_in", []
        if smooth is not None:
            shape = (-1, 1, 1) if op.channel_axis == 1 else (-1,)
            factor = add_constant(self._graph, f"{base}_smooth", (1 / smooth).astype(np.float32).reshape(shape))
            nodes.append(make_node("Mul", [value, factor], name=f"{base}_mul", output=f"{base}_smoothed"))
            value = nodes[0].outputs[0]
        nodes += self._make_pair(value, scales.activation, base)
        self._graph.insert_before(op.node, nodes)
        self._quantized[key] = nodes[-1].outputs[0]
        return self._quantized[key]

    def _make_pair(self, value: ir.Value, scale: Scale, base: str) -> list[ir.Node]:
        """QuantizeLinear and DequantizeLinear behind a value, not yet in the graph."""
        constants = [
            add_constant(self._graph, f"{base}_scale", np.array(scale.scale)),
            add_constant(self._graph, f"{base}_zero", np.array(scale.zero_point)),
        ]
        quantize = make_node("QuantizeLinear", [value, *constants], name=f"{base}_quantize", output=f"{base}_u8")
        inputs = [quantize.outputs[0], *constants]
        return [quantize, make_node("DequantizeLinear", inputs, name=f"{base}_widen", output=f"{base}_widened")]

    def _add_dequantized(
        self, base: str, array: NDArray[np.generic], scales: NDArray[np.float32], axis: int, before: ir.Node
    ) -> ir.Value:
        """The fp32 value of a stored integer array with a scale for each index of `axis`, added before a node."""
        inputs = [add_constant(self._graph, base, array), add_constant(self._graph, f"{base}_scales", scales)]
        node = make_node(
            "DequantizeLinear", inputs, attributes={"axis": axis}, name=f"{base}_widen", output=f"{base}_widened"
        )
        self._graph.insert_before(before, [node])
        return node.outputs[0]
