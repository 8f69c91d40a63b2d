"""Int8 operators: integer kernels, scales that do not depend on the batch, and weights that do not saturate on any CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from alterbute_export.int8.activation_ranges import Range
from alterbute_export.int8.find_ops import constant_array, find_quantizable_ops
from alterbute_export.int8.rewrite import quantize_graph
from alterbute_export.int8.scales import WEIGHT_LIMIT, choose_scale, choose_scales, quantize_weights
from numpy.typing import NDArray

GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[N,8,h,w] x, float[N,S,64] t) => (float[N,8,h,w] out, float[N,S,96] states)
{
  first = Conv<pads = [1,1,1,1]>(x, w_first)
  one = Conv<pads = [1,1,1,1]>(first, w_one, b_one)  positive = Relu(one)
  two = Conv<pads = [1,1,1,1]>(positive, w_two)
  out = Conv<pads = [1,1,1,1]>(two, w_last)
  w_fp32 = Cast<to = 1>(w_half)  states = MatMul(t, w_fp32)
}
"""
generator = np.random.default_rng(0)
WEIGHTS: dict[str, Any] = {
    "w_first": generator.standard_normal((32, 8, 3, 3), np.float32) / 8,
    "w_one": generator.standard_normal((32, 32, 3, 3), np.float32) / 17,
    "b_one": generator.standard_normal(32, np.float32),
    "w_two": generator.standard_normal((32, 32, 3, 3), np.float32) / 17,
    "w_last": generator.standard_normal((8, 32, 3, 3), np.float32) / 17,
    "w_half": (generator.standard_normal((64, 96)) / 8).astype(np.float16),
}


def parse() -> ir.Model:
    proto = onnx.parser.parse_model(GRAPH)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in WEIGHTS.items())
    model: ir.Model = ir.from_proto(proto)
    return model


def draw(rows: int, seed: int = 0) -> dict[str, Any]:
    numbers = np.random.default_rng(seed)
    return {
        "x": numbers.standard_normal((rows, 8, 9, 7), np.float32),
        "t": numbers.standard_normal((rows, 5, 64), np.float32),
    }


def run(model: ir.Model, inputs: dict[str, Any]) -> Any:
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, inputs)


def measure_range(array: NDArray[np.float32], axis: int) -> Range:
    others = tuple(index for index in range(array.ndim) if index != axis % array.ndim)
    return Range(
        low=array.min(others), high=array.max(others), mean_square=(array.astype(np.float64) ** 2).mean(others)
    )


def measure_ranges(model: ir.Model) -> dict[str, Range]:
    """Ranges of every quantizable operator's input and output, computed from the values themselves."""
    proto = ir.to_proto(model)
    axes = {name: op.channel_axis for op in find_quantizable_ops(model) for name in (op.input_name, op.output_name)}
    edges = {item.name for item in proto.graph.output} | {item.name for item in proto.graph.input}
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in axes if name not in edges)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    inputs = draw(4)
    values = {
        **inputs,
        **dict(zip([item.name for item in session.get_outputs()], session.run(None, inputs), strict=True)),
    }
    return {name: measure_range(values[name], axis) for name, axis in axes.items()}


def quantize(model: ir.Model) -> ir.Model:
    ranges = measure_ranges(model)
    quantize_graph(
        model,
        {
            item: choose_scales(item, ranges[item.input_name], ranges[item.output_name])
            for item in find_quantizable_ops(model)
        },
    )
    return model


def test_all_but_the_first_and_the_last_convolution_are_quantizable() -> None:
    assert [op.output_name for op in find_quantizable_ops(parse())] == ["one", "two", "states"]


def test_the_result_is_near_fp32() -> None:
    for output, expected in zip(run(quantize(parse()), draw(4)), run(parse(), draw(4)), strict=True):
        assert 0 < abs(output - expected).max() <= 0.04 * abs(expected).max()


def test_onnx_runtime_uses_integer_kernels_for_every_quantized_operator(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(ir.to_proto(quantize(parse())).SerializeToString(), options)
    loaded = [node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node]
    assert (loaded.count("QLinearConv"), loaded.count("MatMulIntegerToFloat"), loaded.count("Conv")) == (2, 1, 2)


def test_a_row_has_the_same_bytes_in_every_batch() -> None:
    model, inputs = quantize(parse()), draw(6, seed=3)
    # One row is a hundred times as large: a scale that is computed over the batch would depend on it.
    inputs = {
        name: array * np.array([1, 100, 1, 1, 1, 1]).reshape(-1, *[1] * (array.ndim - 1)).astype(np.float32)
        for name, array in inputs.items()
    }
    together = run(model, inputs)
    for rows in ([0, 2], [0, 3, 4, 5]):
        for whole, part in zip(
            together, run(model, {name: array[rows] for name, array in inputs.items()}), strict=True
        ):
            assert np.array_equal(whole[rows], part)


@pytest.mark.parametrize(("shape", "axis"), [((32, 16, 3, 3), 0), ((64, 48), 1)])
def test_weights_have_seven_bits_and_a_scale_for_each_output(shape: tuple[int, ...], axis: int) -> None:
    weights = np.random.default_rng(1).standard_normal(shape, np.float32)
    weights[(slice(None),) * axis + (3,)] = 0
    stored, scales = quantize_weights(weights, axis)
    assert stored.dtype == np.int8 and abs(stored.astype(int)).max() == WEIGHT_LIMIT == 63
    # An AVX2 CPU adds two products of a u8 number and a weight in 16 bits.
    assert 2 * 255 * WEIGHT_LIMIT < 2**15
    sizes = [-1 if index == axis else 1 for index in range(len(shape))]
    assert (abs(stored * scales.reshape(sizes) - weights) <= scales.reshape(sizes) / 2 + 1e-6).all()


def test_zero_is_exact_in_every_scale() -> None:
    for low, high in ((-0.3, 7.0), (2.0, 5.0), (-4.0, -1.0), (0.0, 0.0)):
        ends = np.array([low], np.float32), np.array([high], np.float32)
        scale = choose_scale(Range(low=ends[0], high=ends[1], mean_square=np.ones(1)))
        stored = np.clip(np.rint(np.array([low, 0.0, high]) / scale.scale) + scale.zero_point, 0, 255)
        assert stored[1] == scale.zero_point
        assert abs((stored - scale.zero_point) * scale.scale - np.array([low, 0.0, high])).max() <= scale.scale


def test_channels_of_different_magnitude_are_smoothed_and_lose_less() -> None:
    model = parse()
    op = next(item for item in find_quantizable_ops(model) if item.output_name == "states")
    inputs = draw(4)["t"]
    inputs[..., 0] *= 100
    activations, output = measure_range(inputs, -1), measure_range(inputs @ op.weights, -1)
    smoothed = choose_scales(op, activations, output)
    even = choose_scales(op, measure_range(draw(4)["t"], -1), output)
    assert smoothed.smooth is not None and even.smooth is None
    quantize_graph(model, {op: smoothed})
    expected = inputs @ WEIGHTS["w_half"].astype(np.float32)
    errors = abs(run(model, {**draw(4), "t": inputs})[1] - expected)
    assert np.sqrt((errors**2).mean() / (expected**2).mean()) < 0.02


def test_the_predicted_noise_is_the_measured_noise() -> None:
    model = parse()
    ranges = measure_ranges(model)
    chosen = {
        item: choose_scales(item, ranges[item.input_name], ranges[item.output_name])
        for item in find_quantizable_ops(model)
    }
    predicted = {item.output_name: scales.snr for item, scales in chosen.items()}
    quantize_graph(model, chosen)
    output, expected = run(model, draw(4))[1], run(parse(), draw(4))[1]
    measured = 10 * np.log10((expected**2).mean() / ((output - expected) ** 2).mean())
    assert abs(measured - predicted["states"]) < 1.0


def test_a_weight_that_is_cast_to_fp32_is_a_constant() -> None:
    model = parse()
    node = next(node for node in model.graph if node.op_type == "MatMul")
    weights = constant_array(node.inputs[1])
    assert weights is not None and np.array_equal(weights, WEIGHTS["w_half"].astype(np.float32))
    assert constant_array(node.inputs[0]) is None
