"""Transformers, time embedding and ends of a step graph for the CUDA provider: what is fused, what is not and why, same numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from alterbute_export.cuda.channels_last import RewriteReport, make_channels_last
from alterbute_export.cuda.transformer.rewrite_transformer import rewrite_transformer
from alterbute_export.half.convert import convert_graph
from alterbute_export.onnx_io.ir import is_stored
from alterbute_export.rewrites.fused_attention import fuse_attention

from tests.conftest import FamilyFolder
from tests.support.cuda_graphs import measure_error, parse_graph, run_expanded

NORM = """
norms (float[N,S,4] p, float[N,S,8] r, float[4,8] w1, float[8] wb, float[8] wg, float[8] wd) => (float[N,S,8] y, float[N,S,8] z)
{
  product = MatMul(p, w1)  biased = Add(product, wb)  total = Add(biased, r)
  y = LayerNormalization<axis = -1, epsilon = 0.001>(total, wg, wd)  z = Sigmoid(total)
}
"""
GATED = """
gated (float[N,S,4] x, float[4,WIDTH] w1, float[WIDTH] wb, float[HALF,4] w2) => (float[N,S,4] y)
{
  product = MatMul(x, w1)  biased = Add(product, wb)  a, b = Split<axis = 2, num_outputs = 2>(biased)
  g = Gelu<approximate = "none">(b)  m = Mul(a, g)  y = MatMul(m, w2)
}
"""
ATTENTION = """
attention (float[N,S,8] x, float[N,T,6] text, float[N] s, float[8,8] wq, float[8,8] wk, float[8,8] wv, float[8,8] wo,
           float[6,8] wi, float[6,8] wj) => (float[N,S,8] y)
<int64[3] rows = {-1, 1, 1}>
{
  q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)
  self = com.microsoft.MultiHeadAttention<num_heads = 2, scale = 0.5>(q, k, v)
  qc = MatMul(self, wo)  kc = MatMul(text, wi)  vc = MatMul(text, wj)
  cross = com.microsoft.MultiHeadAttention<num_heads = 2, scale = 0.5>(qc, kc, vc)
  factor = Reshape(s, rows)  scaled = Mul(factor, cross)  y = Add(self, scaled)
}
"""
ENDS = """
ends (float[B,4,2,h,w] state, float[B,2,h,w] noise, float[B,n] guided, float[B,n] chosen, float[B] amount, float[B,2] reinject,
      float[B,2,h,w] background, float[B,1,h,w] keep, int64[N] owner, float[B,3,h,w] scene, float[N,5] t)
   => (float[B,4,2,h,w] next_state, float[N,5,h,w] rows, float[N,10] waves, float[B,n] rescaled)
<int64[1] one = {1}, int64 zero = {0}, int64 first = {1}, int64[1] start = {0}, int64[1] half = {5}, int64[1] last = {9223372036854775807},
 int64[2] column = {-1, 1}, int64[4] cells = {0, 1, 1, 1}, float unit = {1.0}, float tiny = {1e-12}>
{
  latent = Gather<axis = 1>(state, zero)  a = Gather<axis = 0>(latent, owner)  b = Gather<axis = 0>(scene, owner)
  rows = Concat<axis = 1>(a, b)
  sine = Sin(t)  cosine = Cos(t)  both = Concat<axis = -1>(sine, cosine)
  right = Slice(both, half, last, one, one)  left = Slice(both, start, half, one, one)  waves = Concat<axis = -1>(right, left)
  gm = ReduceMean<keepdims = 1>(guided, one)  gc = Sub(guided, gm)  gs = Mul(gc, gc)  gv = ReduceMean<keepdims = 1>(gs, one)
  gd = Sqrt(gv)  cm = ReduceMean<keepdims = 1>(chosen, one)  cc = Sub(chosen, cm)  cs = Mul(cc, cc)
  cv = ReduceMean<keepdims = 1>(cs, one)  cd = Sqrt(cv)  limit = Clip(gd, tiny)  ratio = Div(cd, limit)
  share = Reshape(amount, column)  more = Sub(ratio, unit)  part = Mul(share, more)  factor = Add(part, unit)
  rescaled = Mul(guided, factor)
  r0 = Gather<axis = 1>(reinject, zero)  f0 = Reshape(r0, cells)  r1 = Gather<axis = 1>(reinject, first)  f1 = Reshape(r1, cells)
  m0 = Mul(f0, background)  m1 = Mul(f1, noise)  noised = Add(m0, m1)  n5 = Unsqueeze(noised, one)  k5 = Unsqueeze(keep, one)
  kept = Mul(k5, n5)  rest = Sub(unit, k5)  row = Slice(state, start, one, one, one)  open = Mul(rest, row)  blend = Add(kept, open)
  others = Slice(state, one, last, one, one)  next_state = Concat<axis = 1>(blend, others)
}
"""


def draw(**shapes: tuple[int, ...]) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def rewrite(text: str, inputs: dict[str, Any]) -> tuple[Counter[str], RewriteReport]:
    """Rewrite a graph, check its numbers, and count the operators that compute something else than stored weights."""
    plain, model = parse_graph(text), parse_graph(text)
    report = rewrite_transformer(model)
    assert measure_error(run_expanded(model, inputs), run_expanded(plain, inputs)) < 2e-6
    return Counter(node.op_type for node in model.graph if not is_stored(node.outputs[0])), report


def test_a_norm_takes_the_residual_and_the_bias_before_it() -> None:
    operators, report = rewrite(NORM, draw(p=(2, 3, 4), r=(2, 3, 8)))
    assert operators == {"MatMul": 1, "SkipLayerNormalization": 1, "Sigmoid": 1}
    assert report.fused == {"SkipLayerNormalization": 1} and not report.unfused


def test_a_bias_that_is_read_elsewhere_stays() -> None:
    operators, _ = rewrite(NORM.replace("Sigmoid(total)", "Sigmoid(biased)"), draw(p=(2, 3, 4), r=(2, 3, 8)))
    assert operators == {"MatMul": 1, "Add": 1, "SkipLayerNormalization": 1, "Sigmoid": 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"float[N,S,8] r": "float[1,S,8] r"}, "layer normalization of a sum of other shapes than [N,S,C] twice"),
        ({"float[8] wg": "float[8] g"}, "layer normalization without stored scale and shift"),
    ],
)
def test_a_norm_that_cannot_be_fused_is_counted(changes: dict[str, str], reason: str) -> None:
    text = NORM
    for old, new in changes.items():
        text = text.replace(old, new)
    text = text.replace("wg, wd)", "g, wd)") if "float[8] g" in text else text
    inputs = draw(p=(1, 3, 4), r=(1, 3, 8), g=(8,))
    operators, report = rewrite(text, inputs)
    assert report.unfused == {reason: 1}
    assert operators["LayerNormalization"] == 1


def test_the_norm_of_a_biased_product_reads_the_product_and_the_next_one_adds_the_bias() -> None:
    text = """norms (float[N,S,4] p, float[N,S,8] u, float[4,8] w1, float[8] wb, float[8,8] w2, float[8] wc, float[8] wg, float[8] wd)
        => (float[N,S,8] y, float[N,S,8] z, float[N,S,8] t)
    {
      product = MatMul(p, w1)  x = Add(product, wb)  y = LayerNormalization<epsilon = 0.5>(x, wg, wd)
      inner = MatMul(u, w2)  biased = Add(inner, wc)  total = Add(biased, x)  z = LayerNormalization(total, wd, wg)
      t = Sigmoid(total)
    }"""
    operators, report = rewrite(text, draw(p=(2, 3, 4), u=(2, 3, 8)))
    assert operators == {"MatMul": 2, "SkipLayerNormalization": 2, "Sigmoid": 1}
    assert report.fused == {"SkipLayerNormalization": 2}


def test_a_last_residual_takes_the_bias() -> None:
    text = """sums (float[N,S,4] p, float[N,S,8] r, float[4,8] w1, float[8] wb) => (float[N,S,8] y)
    { product = MatMul(p, w1)  biased = Add(product, wb)  total = Add(r, biased)  y = Sigmoid(total) }"""
    operators, report = rewrite(text, draw(p=(2, 3, 4), r=(2, 3, 8)))
    assert operators == {"MatMul": 1, "BiasAdd": 1, "Sigmoid": 1}
    assert report.fused == {"BiasAdd": 1}


def gated(width: int) -> str:
    return GATED.replace("WIDTH", str(width)).replace("HALF", str(width // 2))


def test_a_gated_gelu_of_a_published_width_is_one_operator() -> None:
    for width in (2560, 5120, 10240):
        operators, report = rewrite(gated(width), draw(x=(1, 2, 4)))
        assert operators == {"MatMul": 2, "BiasSplitGelu": 1}
        assert report.fused == {"BiasSplitGelu": 1} and not report.unfused


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (gated(2432), "gated GELU of width 2432"),
        (gated(2560).replace('"none"', '"tanh"'), "gated GELU by an approximation"),
        (
            gated(2560).replace("Add(product, wb)", "Relu(product)"),
            "gated GELU of another form than product, bias and halves",
        ),
    ],
)
def test_a_gated_gelu_without_a_kernel_is_counted(text: str, reason: str) -> None:
    operators, report = rewrite(text, draw(x=(1, 2, 4)))
    assert report.unfused == {reason: 1}
    assert operators["Gelu"] == 1


def test_self_attention_has_one_product_and_the_strength_scales_the_values() -> None:
    inputs = draw(x=(2, 3, 8), text=(2, 5, 6), s=(2,))
    operators, report = rewrite(ATTENTION, inputs)
    assert operators == {"MatMul": 4, "Split": 1, "MultiHeadAttention": 2, "Reshape": 1, "Mul": 1, "Add": 1}
    assert report.fused == {"packed attention": 1, "scaled values": 1}
    model = parse_graph(ATTENTION)
    rewrite_transformer(model)
    factor = next(node for node in model.graph if node.op_type == "Mul")
    assert {str(value.name) for value in factor.inputs if value is not None} == {"vc", "factor"}


def projections(count: int) -> str:
    weights = "".join(f", float[6,4] wa{index}, float[6] wb{index}" for index in range(count))
    nodes = " ".join(f"y{index} = Gemm<transB = 1>(s, wa{index}, wb{index})" for index in range(count))
    sums = " ".join(f"s{index} = Add({'y0' if index == 1 else f's{index - 1}'}, y{index})" for index in range(1, count))
    return f"""time (float[N,4] x{weights}, float[3,4] wc, float[3] wd) => (float[N,6] y, float[N,3] z)
    {{ s = Sigmoid(x) {nodes} {sums} y = Relu(s{count - 1}) o = Gemm<transB = 1>(s, wc, wd) z = Relu(o) }}"""


@pytest.mark.parametrize(("count", "products"), [(2, 2), (32, 2), (33, 3)])
def test_projections_of_one_width_are_one_product_with_at_most_32_parts(count: int, products: int) -> None:
    operators, report = rewrite(projections(count), draw(x=(3, 4)))
    # One product is of another width.
    assert operators["Gemm"] == products
    assert report.fused == {"joined projections": count}


def ends_inputs() -> dict[str, Any]:
    inputs = draw(
        state=(2, 4, 2, 3, 5), noise=(2, 2, 3, 5), guided=(2, 30), chosen=(2, 30), reinject=(2, 2), background=(2, 2, 3, 5),
        scene=(2, 3, 3, 5), t=(3, 5), keep=(2, 1, 3, 5),
    )  # fmt: skip
    return {**inputs, "amount": np.array([0.0, 0.7], np.float32), "owner": np.array([1, 0, 1])}


def test_the_ends_of_a_step_take_fewer_operators() -> None:
    operators, report = rewrite(ENDS, ends_inputs())
    names = ("guidance rescale", "re-injected background", "re-injection", "rows of slots", "sinusoids")
    assert report.fused == dict.fromkeys(names, 1)
    assert not {"ReduceMean", "Sqrt", "Slice", "Clip"} & set(operators)
    assert operators["Gather"] == 2


def test_kept_cells_and_open_cells_keep_every_bit_and_no_rescale_multiplies_by_one() -> None:
    model = parse_graph(ENDS)
    rewrite_transformer(model)
    inputs = ends_inputs()
    inputs["keep"] = (inputs["keep"] > 0).astype(np.float32)
    plain, found = run_expanded(parse_graph(ENDS), inputs), run_expanded(model, inputs)
    assert np.array_equal(found["next_state"][:, 1:], inputs["state"][:, 1:])
    is_open = np.broadcast_to(inputs["keep"] == 0, inputs["noise"].shape)
    assert np.array_equal(found["next_state"][:, 0][is_open], inputs["state"][:, 0][is_open])
    assert np.array_equal(found["rescaled"][0], inputs["guided"][0])
    assert measure_error(found, plain) < 2e-6


def test_a_guided_output_without_any_spread_stays_finite() -> None:
    model = parse_graph(ENDS)
    rewrite_transformer(model)
    inputs = {**ends_inputs(), "guided": np.ones((2, 30), np.float32)}
    assert np.isfinite(run_expanded(model, inputs)["rescaled"]).all()


INNER_NORM = (
    NORM.replace("float[8] wd)", "float[8] wd, float[8,8] w2)")
    .replace("  y = LayerNormalization", "  n = LayerNormalization")
    .replace("z = Sigmoid(total)", "u = Sigmoid(total)  s = Add(n, u)  y = MatMul(s, w2)  z = Relu(y)")
)


@pytest.mark.parametrize("text", [INNER_NORM, ATTENTION])
def test_half_precision_joins_the_same_weights(text: str) -> None:
    model = parse_graph(text)
    stored = {name: value.const_value for name, value in model.graph.initializers.items() if name.startswith("w")}
    rewrite_transformer(model)
    joined = {name: value.const_value for name, value in model.graph.initializers.items() if name.startswith("w")}
    assert joined == stored
    report = convert_graph(model, "fp16")
    assert report.core == report.core_half > 0
    names = {name for name in model.graph.initializers if name.startswith("w")}
    # Every weight once, in half precision: the parts of a joined one, not the whole.
    assert names == {f"{name}_fp16" for name in stored}
    inputs = draw(x=(2, 3, 8), text=(2, 5, 6), s=(2,), p=(2, 3, 4), r=(2, 3, 8))
    assert measure_error(run_expanded(model, inputs), run_expanded(parse_graph(text), inputs)) < 2e-2


@pytest.mark.parametrize("has_layout", [False, True])
def test_a_step_of_the_adapter_is_rewritten_to_the_same_bytes_each_time(
    family_step: FamilyFolder, has_layout: bool
) -> None:
    written = []
    for _ in range(2):
        model = ir.load(family_step("sd15-adapter") / "step.onnx")
        fuse_attention(model)
        if has_layout:
            make_channels_last(model)
        report = rewrite_transformer(model)
        written.append(ir.to_proto(model).SerializeToString(deterministic=True))
    assert written[0] == written[1]
    assert report.fused["SkipLayerNormalization"] >= 2
    assert report.unfused == {"gated GELU of width 256": 1}
    operators = Counter(node.op_type for node in model.graph if not is_stored(node.outputs[0]))
    assert operators["MultiHeadAttention"] == 3
    if not has_layout:
        # Self-attention 2, cross-attention 6, feed-forward 2, guidance, solver and re-injection; else products of 1x1 kernels, too.
        assert operators["MatMul"] == 13
