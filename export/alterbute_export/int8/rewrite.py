"""Static quantisation: activations u8 with one scale each, weights s8 with one for each output channel, written as Q/DQ pairs.

`QuantizeLinear -> DequantizeLinear -> Conv` is standard ONNX; ONNX Runtime makes integer kernels of it when it loads the graph. No scale
is taken from the data of a launch: one over a batch would make a row's bytes depend on its neighbours.

Weights have seven bits. The product of a u8 and an s8 number fits 16 bits, a sum of two does not, and x86 machines before
VNNI add two before they widen: with 8-bit weights they would saturate, and the same bundle would have other pixels there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common as passes

from alterbute_export.int8.find_ops import QuantizableOp, constant_array
from alterbute_export.int8.scales import Scale, Scales


def quantize_graph(model: ir.Model, products: Mapping[QuantizableOp, Scales]) -> None:
    """Give products int8 arithmetic, in place; the graph's edges keep their types.

    Args:
        model: The fp32 graph.
        products: What becomes int8, in the graph's order, and its scales.
    """
    writer = _Writer(model)
    for product, scales in products.items():
        writer.convert(product, scales)
    passes.RemoveUnusedNodesPass()(model)


class _Writer:
    """Adds the pairs around one product after another; a value that several products read alike is quantised once."""

    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._known: dict[tuple[str, bytes], ir.Value] = {}

    def convert(self, product: QuantizableOp, scales: Scales) -> None:
        node, name = product.node, product.result
        source = node.inputs[0]
        assert source is not None
        # The convolution before this one may have handed its result on in integers already, over the same range.
        if source.name == product.source or scales.smooth is not None:
            node.replace_input_with(0, self._activation(source, product, scales))
        weights = self._widened(f"{name}_weights", scales.weights, scales.weight_scales, product.output_axis, node)
        node.replace_input_with(1, weights)
        if scales.result is None:
            return
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            bias = constant_array(node.inputs[2])
            assert bias is not None
            steps = (scales.weight_scales * scales.activation.scale).astype(np.float32)
            whole = np.clip(np.rint(bias.astype(np.float64) / steps), -(2**31), 2**31 - 1).astype(np.int32)
            node.replace_input_with(2, self._widened(f"{name}_bias", whole, steps, 0, node))
        # A convolution has integer kernels only between integers.
        value = node.outputs[0]
        uses = list(value.uses())
        made = self._pair(value, scales.result, f"{name}_out")
        self._graph.insert_after(node, made)
        for user, index in uses:
            user.replace_input_with(index, made[-1].outputs[0])

    def _activation(self, value: ir.Value, product: QuantizableOp, scales: Scales) -> ir.Value:
        smooth = scales.smooth
        key = (str(value.name), b"" if smooth is None else smooth.tobytes())
        if key in self._known:
            return self._known[key]
        base, nodes = f"{product.result}_in", []
        if smooth is not None:
            shape = (-1, 1, 1) if product.channel_axis == 1 else (-1,)
            factor = self._constant(f"{base}_smooth", (1 / smooth).astype(np.float32).reshape(shape))
            nodes.append(ir.node("Mul", [value, factor], name=f"{base}_mul"))
            value = nodes[0].outputs[0]
            value.name = f"{base}_smoothed"
        nodes += self._pair(value, scales.activation, base)
        self._graph.insert_before(product.node, nodes)
        self._known[key] = nodes[-1].outputs[0]
        return self._known[key]

    def _pair(self, value: ir.Value, scale: Scale, base: str) -> list[ir.Node]:
        numbers = [
            self._constant(f"{base}_scale", np.array(scale.scale)),
            self._constant(f"{base}_zero", np.array(scale.zero)),
        ]
        down = ir.node("QuantizeLinear", [value, *numbers], name=f"{base}_quantize")
        down.outputs[0].name = f"{base}_u8"
        up = ir.node("DequantizeLinear", [down.outputs[0], *numbers], name=f"{base}_widen")
        up.outputs[0].name = f"{base}_widened"
        return [down, up]

    def _widened(
        self, base: str, array: NDArray[np.generic], scales: NDArray[np.float32], axis: int, before: ir.Node
    ) -> ir.Value:
        inputs = [self._constant(base, array), self._constant(f"{base}_scales", scales)]
        up = ir.node("DequantizeLinear", inputs, attributes={"axis": axis}, name=f"{base}_widen")
        up.outputs[0].name = f"{base}_widened"
        self._graph.insert_before(before, [up])
        return up.outputs[0]

    def _constant(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value
