"""Fused attention for ONNX Runtime: same results and weights as the decomposed graph, which TensorRT gets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from alterbute.bundle import Manifest
from alterbute_export.errors import AttentionError
from alterbute_export.rewrites.fused_attention import fuse_attention

GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
attention (float[N,S,8] q, float[N,T,8] k, float[N,T,8] v) => (float[N,S,8] out)
<int64[4] split = {0, -1, HEADS, 4}, int64[3] flat = {-1, TOKENS, 4}, int64[4] back = {-1, 2, 4, TOKENS},
 int64[3] joined = {0, -1, 8}, float root = {0.7}>
{
  q4 = Reshape(q, split)  qh = Transpose<perm = [0, 2, 1, 3]>(q4)  qs = Mul(qh, root)
  k4 = Reshape(k, split)  kh = Transpose<perm = [0, 2, 1, 3]>(k4)
  k3 = Reshape(kh, flat)  kt = Transpose<perm = [0, 2, 1]>(k3)  kr = Reshape(kt, back)  ks = Mul(kr, root)
  v4 = Reshape(v, split)  vh = Transpose<perm = [0, 2, 1, 3]>(v4)
  scores = MatMul(qs, ks)  weights = Softmax<axis = -1>(scores)  mixed = MatMul(weights, vh)
  turned = Transpose<perm = [0, 2, 1, 3]>(mixed)  out3 = Reshape(turned, joined)  out = Identity(out3)
}
"""


def parse(changes: Mapping[str, str] | None = None, *, heads: int = 2) -> ir.Model:
    """The graph with some of its text replaced."""
    text = GRAPH.replace("HEADS", str(heads)).replace("TOKENS", "5")
    for old, new in (changes or {}).items():
        text = text.replace(old, new)
    model: ir.Model = ir.from_proto(onnx.parser.parse_model(text))
    return model


def run(model: ir.Model, inputs: dict[str, Any]) -> Any:
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, inputs)[0]


def draw(rows: int) -> dict[str, Any]:
    generator = np.random.default_rng(rows)
    return {
        name: generator.standard_normal((rows, tokens, 8), np.float32)
        for name, tokens in (("q", 3), ("k", 5), ("v", 5))
    }


def test_the_fused_node_computes_the_same_with_the_product_of_both_scales() -> None:
    plain, fused = parse(), parse()
    assert fuse_attention(fused) == 1
    assert [node.op_type for node in fused.graph] == ["MultiHeadAttention", "Identity"]
    output, expected = run(fused, draw(3)), run(plain, draw(3))
    assert abs(output - expected).max() <= 1e-6 * abs(expected).max()


def test_a_row_has_the_same_bits_in_every_batch() -> None:
    fused = parse()
    fuse_attention(fused)
    many = draw(6)
    for rows in range(2, 6):
        few = run(fused, {name: value[:rows] for name, value in many.items()})
        assert np.array_equal(few, run(fused, many)[:rows])


def test_an_attention_of_another_form_is_refused_and_named() -> None:
    with pytest.raises(AttentionError, match="-1 heads"):
        fuse_attention(parse(heads=-1))


def test_a_masked_attention_is_left_alone() -> None:
    model = parse(
        {"weights = Softmax<axis = -1>(scores)": "masked = Add(scores, root)  weights = Softmax<axis = -1>(masked)"}
    )
    assert fuse_attention(model) == 0
    assert "MultiHeadAttention" not in [node.op_type for node in model.graph]


def test_onnx_runtime_gets_the_fused_step_and_tensorrt_the_decomposed_one(bundle: Path, manifest: Manifest) -> None:
    files = {variant.backend: variant.file for variant in manifest.graphs["step"].variants}
    assert files == {"onnxruntime": "step.mha.onnx", "tensorrt": "step.onnx", "tensorrt_rtx": "step.onnx"}
    fused, plain = (onnx.load(bundle / name, load_external_data=False).graph for name in ("step.mha.onnx", "step.onnx"))
    count = sum(node.op_type == "MultiHeadAttention" for node in fused.node)
    assert count == sum(node.op_type == "Softmax" for node in plain.node) - sum(
        node.op_type == "Softmax" for node in fused.node
    )
    assert count > 0 and not any(node.domain for node in plain.node)


def test_both_files_of_a_graph_read_the_same_weights(bundle: Path) -> None:
    places = [
        {
            tuple(sorted((entry.key, entry.value) for entry in weight.external_data))
            for weight in onnx.load(bundle / name, load_external_data=False).graph.initializer
            if weight.external_data
        }
        for name in ("step.mha.onnx", "step.onnx")
    ]
    assert places[0] == places[1] and places[0]
