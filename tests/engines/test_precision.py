"""Graphs in half precision: which operators are converted, which stay fp32, that edges keep their types, and the error against fp32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from alterbute.bundle import WEIGHTS_FILE, Precision, open_bundle
from alterbute_export.checks.recorded_edit import GraphCall
from alterbute_export.half.convert import convert_graph, is_core
from alterbute_export.half.overflow import find_overflow
from alterbute_export.half.simulate import round_values
from alterbute_export.half.variants import MODEL_GRAPHS, add_variants, write_variants
from alterbute_export.onnx_io.sessions import open_session

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
# Conv, norm written out, Conv, and an output product: one operator of each case.
SMALL = """
<ir_version: 10, opset_import: ["" : 20]>
small (float[B,2,4,4] x, float[B] timestep, float[B,2] guidance) => (float[B,2,4,4] y)
<float[2,2,1,1] w = {1,0,0,1}, float[2,2,1,1] v = {2,0,0,2}, float[1,2] t = {1,1}, float eps = {1e-12}, float two = {2}>
{
  scaled = Mul(x, two)
  a = Conv(scaled, w)
  square = Pow(a, two)
  mean = ReduceMean <keepdims: int = 1> (square)
  safe = Add(mean, eps)
  root = Sqrt(safe)
  n = Div(a, root)
  one = Constant <value_ints: ints = [1]> ()
  column = Unsqueeze(timestep, one)
  temb = MatMul(column, t)
  two_three = Constant <value_ints: ints = [2, 3]> ()
  wide = Unsqueeze(temb, two_three)
  m = Add(n, wide)
  b = Conv(m, v)
  g = Unsqueeze(guidance, two_three)
  y = Mul(b, g)
}
"""


def _small() -> ir.Model:
    model: ir.Model = ir.from_proto(onnx.parser.parse_model(SMALL))
    return model


def _types(model: ir.Model) -> dict[str, int]:
    """Element type of every computed value, by the operator's own output name."""
    inferred = onnx.shape_inference.infer_shapes(ir.to_proto(model), check_type=True, strict_mode=True)
    infos = [*inferred.graph.value_info, *inferred.graph.output]
    return {info.name: info.type.tensor_type.elem_type for info in infos}


def test_convolutions_become_half_and_norms_and_the_timestep_stay_fp32() -> None:
    model = _small()
    report = convert_graph(model, "fp16")
    types = _types(model)
    assert {types[name] for name in ("a", "n", "m", "b")} == {HALF}
    assert {types[name] for name in ("scaled", "square", "mean", "safe", "root", "temb", "y")} == {FLOAT}
    assert (report.core, report.core_half) == (3, 2)
    assert report.fp32_by_reason == {"norm": 3, "timestep": 2}


def test_inputs_and_outputs_keep_their_types() -> None:
    model = _small()
    convert_graph(model, "bf16")
    assert {value.dtype for value in (*model.graph.inputs, *model.graph.outputs)} == {ir.DataType.FLOAT}


def test_a_graph_that_ends_in_a_core_operator_still_gives_fp32() -> None:
    model: ir.Model = ir.from_proto(
        onnx.parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 20]> g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1,2,3,4}> { y = MatMul(x, w) }'
        )
    )
    convert_graph(model, "fp16")
    assert _types(model)["y"] == FLOAT
    (result,) = open_session(ir.to_proto(model).SerializeToString(), Path()).run(
        ["y"], {"x": np.eye(2, dtype=np.float32)}
    )
    assert np.array_equal(result, [[1, 2], [3, 4]])


def test_a_value_that_overflows_stays_fp32_with_its_readers() -> None:
    model = _small()
    report = convert_graph(model, "fp16", fp32_values=["n"])
    types = _types(model)
    assert types["n"] == types["m"] == FLOAT
    assert report.fp32_by_reason["overflow"] == 2


def test_a_mask_of_minus_infinity_becomes_the_lowest_fp16_and_not_an_infinity() -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (float[2,2] x) => (float[2,2] y) '
        "<float[2,2] w = {1,0,0,1}, float[2,2] mask = {0,-3.4e38,0,0}> "
        "{ a = MatMul(x, w) b = Add(a, mask) c = Softmax(b) y = MatMul(c, w) }"
    )
    model: ir.Model = ir.from_proto(onnx.parser.parse_model(text))
    convert_graph(model, "fp16")
    (result,) = open_session(ir.to_proto(model).SerializeToString(), Path()).run(
        ["y"], {"x": np.eye(2, dtype=np.float32)}
    )
    assert np.isfinite(result).all()


def test_control_flow_is_refused() -> None:
    from alterbute_export.errors import PrecisionError

    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (bool c, float[2] x) => (float[2] y) '
        "{ y = If (c) <then_branch = t () => (float[2] a) { a = Identity(x) }, else_branch = e () => (float[2] b) { b = Neg(x) }> }"
    )
    with pytest.raises(PrecisionError, match="control flow operator If"):
        convert_graph(ir.from_proto(onnx.parser.parse_model(text)), "fp16")


def test_overflow_is_found_with_its_largest_magnitude(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    onnx.save(onnx.parser.parse_model(SMALL), path)
    inputs = {
        "x": np.full((1, 2, 4, 4), 200.0, np.float32),
        "timestep": np.ones(1, np.float32),
        "guidance": np.ones((1, 2), np.float32),
    }
    overflow = find_overflow(path, [GraphCall(inputs=inputs, outputs={})])
    assert overflow.keys() == {"square", "mean", "safe"}
    assert overflow["square"] == 160000


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("graph", MODEL_GRAPHS)
def test_core_operators_of_every_exported_graph_are_converted(
    tiny_bundle: Path, graph: str, precision: Precision
) -> None:
    model = ir.load(tiny_bundle / f"{graph}.onnx")
    report = convert_graph(model, precision)
    types = _types(model)
    target = {"fp32": FLOAT, "fp16": HALF, "bf16": onnx.TensorProto.BFLOAT16}[precision]
    core = [types[str(node.outputs[0].name)] for node in model.graph if is_core(node)]
    # The two layers of the step graph that embed the timestep stay fp32.
    assert sum(kind != target for kind in core) == (2 if graph == "step" and precision != "fp32" else 0)
    assert precision == "fp32" or report.core_half == sum(kind == target for kind in core)


def test_nothing_but_an_input_or_output_is_a_byte(tiny_bundle: Path) -> None:
    for graph in ("scene", "identity", "decode"):
        model = ir.load(tiny_bundle / f"{graph}.onnx")
        convert_graph(model, "fp32")
        outputs = {value.name for value in model.graph.outputs}
        kinds = {name: kind for name, kind in _types(model).items() if name not in outputs}
        assert onnx.TensorProto.UINT8 not in kinds.values(), graph


def test_half_variants_of_a_half_bundle_store_no_weight_again(copy: Path) -> None:
    written = write_variants(open_bundle(copy), copy, "fp16", measure=False)
    assert not (copy / "weights_fp16.bin").exists()
    assert (copy / written["step"].plain.file).stat().st_size < (copy / WEIGHTS_FILE).stat().st_size


def test_onnx_runtime_on_a_gpu_gets_the_half_step_made_for_cuda(copy: Path) -> None:
    bundle = open_bundle(copy)
    written = write_variants(bundle, copy, "fp16", measure=False)
    graphs = add_variants(bundle.manifest.graphs, "fp16", written)
    variants = [variant for variant in graphs["step"].variants if variant.precision == "fp16"]
    assert [(variant.backend, variant.file, variant.prologue, variant.is_deterministic) for variant in variants] == [
        ("tensorrt", "step.fp16.onnx", None, True),
        ("tensorrt_rtx", "step.fp16.onnx", None, True),
        ("onnxruntime-cuda", "step.fp16.cuda.onnx", "step.fp16.prologue.onnx", False),
        ("onnxruntime-cuda", "step.fp16.mha.onnx", None, True),
    ]
    assert (copy / "step.fp16.prologue.onnx").is_file()
    operators = [node.op_type for node in ir.load(copy / "step.fp16.mha.onnx").graph]
    fp32 = [node.op_type for node in ir.load(copy / "step.mha.onnx").graph]
    assert operators.count("MultiHeadAttention") == fp32.count("MultiHeadAttention") > 0


def test_bf16_variants_share_one_file_of_weights(copy: Path) -> None:
    write_variants(open_bundle(copy), copy, "bf16", measure=False)
    size = (copy / "weights_bf16.bin").stat().st_size
    assert 0 < size <= 1.05 * (copy / WEIGHTS_FILE).stat().st_size


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 1e-2), ("bf16", 5e-2)])
def test_half_variants_stay_close_to_fp32_on_a_real_edit(copy: Path, precision: Precision, limit: float) -> None:
    written = write_variants(open_bundle(copy), copy, precision)
    errors = {file.file: file.relative_error for variant in written.values() for file in variant.files}
    assert all(error is not None and 0 < error <= limit for error in errors.values()), errors


def test_simulated_rounding_is_that_of_fp16_and_is_not_optimised_away() -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[2] x) => (float[2] y) <float[2] w = {1.0001, 3}> { a = Mul(x, w) y = Neg(a) }'
    model = onnx.parser.parse_model(text)
    round_values(model, {"a", "w", "y"}, "fp16")
    x = np.array([1.2345, 0.1], np.float32)
    (result,) = open_session(model.SerializeToString(), Path()).run(["y"], {"x": x})
    product = x * np.array([1.0001, 3], np.float16).astype(np.float32)
    assert np.array_equal(result, -product.astype(np.float16).astype(np.float32))


def test_fused_attention_is_converted_with_its_inputs() -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]> g (float[1,4,2] x) => (float[1,4,2] y) <float[2,2] w = {1,0,0,1}> '
        "{ q = MatMul(x, w) a = com.microsoft.MultiHeadAttention<num_heads: int = 2>(q, q, q) y = MatMul(a, w) }"
    )
    model: ir.Model = ir.from_proto(onnx.parser.parse_model(text))
    report = convert_graph(model, "fp16")
    assert (report.half_ops, report.fp32_ops, report.casts) == (3, 0, 2)


def test_fp32_variants_compute_what_the_bundles_graphs_compute(copy: Path) -> None:
    written = write_variants(open_bundle(copy), copy, "fp32")
    assert {variant.plain.relative_error for variant in written.values()} == {0.0}
    fused = [variant.fused.relative_error for variant in written.values() if variant.fused is not None]
    assert fused and all(error is not None and error <= 1e-6 for error in fused)
