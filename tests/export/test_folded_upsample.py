"""Upsampling folded into a 3x3 convolution for ONNX Runtime: same results from the same weights as the decomposed graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from alterbute_export.onnx_io.weights import WeightStore
from alterbute_export.rewrites.folded_upsampling import fold_upsampling

GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
upsampler (float[N,16,H,W] x) => (float[N,24,H2,W2] out)
<float[4] scales = {1, 1, 2, 2}>
{
  large = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , scales)
  conv = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(large, weight, bias)
  out = Relu(conv)
}
"""
FOLDED = [*["Reshape"], *["MatMul", "Reshape", "Conv"] * 4, "Concat", "DepthToSpace", "Relu"]


def parse(changes: Mapping[str, str] | None = None) -> ir.Model:
    """The graph with random weights, and with some of its text replaced."""
    text = GRAPH
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    model: ir.Model = ir.from_proto(onnx.parser.parse_model(text))
    generator = np.random.default_rng(0)
    # fp16 numbers, which `WeightStore` stores as fp16.
    for name, shape in (("weight", (24, 16, 3, 3)), ("bias", (24,))):
        array = (generator.standard_normal(shape) / 8).astype(np.float16).astype(np.float32)
        reads = [
            (node, index)
            for node in model.graph
            for index, value in enumerate(node.inputs)
            if value and value.name == name
        ]
        value = ir.Value(name=name, const_value=ir.Tensor(array, name=name))
        if reads:
            model.graph.register_initializer(value)
        for node, index in reads:
            node.replace_input_with(index, value)
    return model


def run(model: ir.Model, pictures: Any) -> Any:
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, {"x": pictures})[0]


def draw(*shape: int) -> Any:
    return np.random.default_rng(1).standard_normal(shape, np.float32)


@pytest.mark.parametrize("shape", [(1, 16, 8, 8), (2, 16, 7, 5), (3, 16, 1, 1), (2, 16, 2, 9)])
@pytest.mark.parametrize("changes", [{}, {"large, weight, bias": "large, weight"}], ids=["bias", "no bias"])
def test_four_small_kernels_compute_the_same_as_one_on_repeated_pixels(
    shape: tuple[int, ...], changes: dict[str, str]
) -> None:
    plain, folded = parse(changes), parse(changes)
    assert fold_upsampling(folded) == 1
    assert [node.op_type for node in folded.graph] == FOLDED
    output, expected = run(folded, draw(*shape)), run(plain, draw(*shape))
    assert output.shape == expected.shape
    assert abs(output - expected).max() <= 1e-6 * abs(expected).max()


def test_a_picture_has_the_same_bits_in_every_batch() -> None:
    folded = parse()
    fold_upsampling(folded)
    many = draw(5, 16, 6, 7)
    for rows in range(1, 5):
        assert np.array_equal(run(folded, many[:rows]), run(folded, many)[:rows])


@pytest.mark.parametrize(
    "changes",
    [
        {"{1, 1, 2, 2}": "{1, 1, 3, 3}"},
        {"{1, 1, 2, 2}": "{1, 1, 2, 1}"},
        {'"nearest"': '"linear"'},
        {'"floor"': '"ceil"'},
        {'"asymmetric"': '"align_corners"'},
        {"pads = [1, 1, 1, 1]": "pads = [0, 0, 0, 0]"},
        {"pads = [1, 1, 1, 1]": "pads = [1, 1, 1, 1], strides = [2, 2]"},
        {"pads = [1, 1, 1, 1]": "pads = [1, 1, 1, 1], dilations = [2, 2]"},
        {"Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>": "Conv<kernel_shape = [3, 3]>"},
        {"kernel_shape = [3, 3], pads = [1, 1, 1, 1]": 'auto_pad = "SAME_UPPER"'},
    ],
    ids=lambda changes: next(iter(changes.values())),
)
def test_other_resizing_and_other_convolutions_are_left_alone(changes: dict[str, str]) -> None:
    model = parse(changes)
    assert fold_upsampling(model) == 0
    assert [node.op_type for node in model.graph] == ["Resize", "Conv", "Relu"]


def test_an_upsampled_picture_with_other_readers_is_kept() -> None:
    changes = {
        "out = Relu(conv)": "out = Relu(conv)  small = GlobalMaxPool(large)",
        "out)": "out, float[N,16,1,1] small)",
    }
    plain, folded = parse(changes), parse(changes)
    assert fold_upsampling(folded) == 1
    assert [node.op_type for node in folded.graph].count("Resize") == 1
    output, expected = run(folded, draw(2, 16, 4, 4)), run(plain, draw(2, 16, 4, 4))
    assert abs(output - expected).max() <= 1e-6 * abs(expected).max()


def test_fp16_weights_are_not_stored_again_and_their_sums_are_folded_by_the_loader(tmp_path: Path) -> None:
    model = parse()
    store = WeightStore(tmp_path, half=True)
    store.move_out(model)
    stored, expected = store.path.read_bytes(), run(parse(), draw(2, 16, 6, 6))
    fold_upsampling(model)
    store.move_out(model)
    assert store.path.read_bytes() == stored
    (tmp_path / "folded.onnx").write_bytes(ir.to_proto(model).SerializeToString())
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "folded.onnx", options)
    assert abs(session.run(None, {"x": draw(2, 16, 6, 6)})[0] - expected).max() <= 1e-6 * abs(expected).max()
    loaded = [node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node]
    assert loaded.count("Conv") == 4 and not {"Cast", "MatMul", "Resize"} & set(loaded)


def test_a_step_has_no_convolution_of_repeated_pixels_for_onnx_runtime(bundle: Path) -> None:
    folded, plain = (
        onnx.load(bundle / f"step{suffix}", load_external_data=False).graph for suffix in (".mha.onnx", ".onnx")
    )
    assert count_repeating(plain) > 0
    assert count_repeating(folded) == 0
    assert sum(node.op_type == "DepthToSpace" for node in folded.node) == count_repeating(plain)


def count_repeating(graph: onnx.GraphProto) -> int:
    repeated = {node.output[0] for node in graph.node if node.op_type == "Resize"}
    return sum(node.op_type == "Conv" and node.input[0] in repeated for node in graph.node)
