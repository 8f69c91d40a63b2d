"""The prologue of a step graph: what only conditions decide, in a graph of its own, with the numbers of the whole graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from alterbute_export.cuda.channels_last import make_channels_last
from alterbute_export.cuda.prologue import split_prologue
from alterbute_export.cuda.transformer.rewrite import rewrite_transformer
from alterbute_export.errors import PrecisionError
from alterbute_export.half.convert import convert_graph
from alterbute_export.rewrites.fused_attention import fuse_attention

from tests.conftest import FamilyFolder
from tests.support.cuda_graphs import measure_error, parse_graph, run_expanded

STEP = """
step (float[N,S,4] x, int64[N] owner, float[N,T,6] text, float[N] identity_scale, float[N,2] pooled, float[4,8] w1, float[6,8] wk,
      float[6,8] wv, float[2,8] wp, float[8,8] wo) => (float[N,S,8] y, int64[1] size)
<int64[3] rows = {-1, 1, 1}, int64[1] one = {1}>
{
  q = MatMul(x, w1)  k = MatMul(text, wk)  v = MatMul(text, wv)
  factor = Reshape(identity_scale, rows)  scaled = Mul(v, factor)
  mixed = com.microsoft.MultiHeadAttention<num_heads = 2, scale = 0.5>(q, k, scaled)
  p = MatMul(pooled, wp)  active = Relu(p)  wide = Unsqueeze(active, one)  both = Add(mixed, wide)  y = MatMul(both, wo)
  size = Shape<start = 0, end = 1>(text)
}
"""
FAMILIES = {
    "sd15": ["text"],
    "sd15-adapter": ["text", "identity", "identity_scale"],
    "sd15-grid": ["text"],
    "sdxl-adapter": ["text", "pooled", "time_ids", "identity", "identity_scale"],
}


def names(values: Any) -> list[str]:
    return [str(value.name) for value in values]


def split(model: ir.Model) -> ir.Model:
    prologue = split_prologue(model)
    assert prologue is not None
    return prologue


def run_both(prologue: ir.Model, step: ir.Model, inputs: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    return run_expanded(step, {**inputs, **run_expanded(prologue, inputs, **options)}, **options)


def draw_step(rows: int) -> dict[str, Any]:
    generator = np.random.default_rng(rows)
    shapes = {"x": (rows, 3, 4), "text": (rows, 5, 6), "identity_scale": (rows,), "pooled": (rows, 2)}
    return {"owner": np.arange(rows)} | {
        name: generator.standard_normal(shape, np.float32) for name, shape in shapes.items()
    }


def test_what_only_conditions_decide_moves_with_the_names_and_shapes_of_its_values() -> None:
    step = parse_graph(STEP)
    prologue = split(step)
    assert names(prologue.graph.inputs) == ["text", "identity_scale", "pooled"]
    assert [(value.name, str(value.shape), value.dtype) for value in prologue.graph.outputs] == [
        ("k", "[N,T,8]", ir.DataType.FLOAT),
        ("scaled", "[N,T,8]", ir.DataType.FLOAT),
        ("wide", "[N,1,8]", ir.DataType.FLOAT),
    ]
    # The number of rows is read from another input, so that the step does without the text.
    assert names(step.graph.inputs) == ["x", "owner", "k", "scaled", "wide"]
    assert [(value.name, str(value.shape)) for value in step.graph.inputs[2:]] == [
        (value.name, str(value.shape)) for value in prologue.graph.outputs
    ]
    assert sorted(prologue.graph.initializers) == ["one", "rows", "wk", "wp", "wv"]
    assert sorted(step.graph.initializers) == ["w1", "wo"]


@pytest.mark.parametrize("rows", [1, 3])
def test_the_prologue_and_then_the_step_compute_what_the_graph_does(rows: int) -> None:
    step, inputs = parse_graph(STEP), draw_step(rows)
    prologue = split(step)
    assert measure_error(run_both(prologue, step, inputs), run_expanded(parse_graph(STEP), inputs)) == 0.0


def test_half_precision_crosses_as_half_precision() -> None:
    step, inputs = parse_graph(STEP), draw_step(2)
    convert_graph(step, "fp16")
    prologue = split(step)
    assert {value.dtype for value in prologue.graph.outputs} == {ir.DataType.FLOAT16}
    assert {value.dtype for value in step.graph.inputs[2:]} == {ir.DataType.FLOAT16}
    assert {value.dtype for value in prologue.graph.inputs} == {ir.DataType.FLOAT}
    assert measure_error(run_both(prologue, step, inputs), run_expanded(parse_graph(STEP), inputs)) < 2e-2


def test_a_condition_and_a_weight_that_both_read_are_in_both() -> None:
    text = """step (float[N,T,8] x, float[N,T,8] text, float[8,8] wo) => (float[N,T,8] y)
    { k = MatMul(text, wo)  own = MatMul(x, wo)  sum = Add(own, text)  y = Mul(sum, k) }"""
    generator = np.random.default_rng(0)
    step, inputs = parse_graph(text), {name: generator.standard_normal((2, 5, 8), np.float32) for name in ("x", "text")}
    prologue = split(step)
    assert names(step.graph.inputs) == ["x", "text", "k"]
    assert names(prologue.graph.inputs) == ["text"]
    assert step.graph.initializers["wo"].const_value is prologue.graph.initializers["wo"].const_value
    assert measure_error(run_both(prologue, step, inputs), run_expanded(parse_graph(text), inputs)) == 0.0


def test_without_a_product_of_conditions_nothing_changes() -> None:
    text = """step (float[N,T,4] x, float[N,T,4] text, float[4,4] w1) => (float[N,T,4] y)
    { a = Sigmoid(text)  b = Mul(a, x)  y = MatMul(b, w1) }"""
    model = parse_graph(text)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert split_prologue(model) is None
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_only_the_inputs_that_are_named_move() -> None:
    step = parse_graph(STEP)
    prologue = split_prologue(step, inputs=("pooled",))
    assert prologue is not None
    assert names(prologue.graph.outputs) == ["wide"]
    assert names(step.graph.inputs) == ["x", "owner", "text", "identity_scale", "wide"]


def test_a_value_whose_size_is_that_of_no_input_is_refused_and_nothing_changes() -> None:
    text = """step (float[M,4] x, float[N,T,4] text, float[4,4] w1) => (float[M,4] y)
    <int64[2] flat = {-1, 4}>
    { a = Reshape(text, flat)  b = MatMul(a, w1)  y = Mul(b, x) }"""
    model = parse_graph(text)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    with pytest.raises(PrecisionError, match=r"'b' depends only on the step's conditions"):
        split_prologue(model)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_has_the_prologue_of_its_conditions(family_step: FamilyFolder, kind: str) -> None:
    folder = family_step(kind)
    plain, step = ir.load(folder / "step.onnx"), ir.load(folder / "step.onnx")
    fuse_attention(step)
    make_channels_last(step)
    rewrite_transformer(step)
    prologue = split(step)
    assert names(prologue.graph.inputs) == FAMILIES[kind]
    crossing = names(prologue.graph.outputs)
    assert names(step.graph.inputs)[-len(crossing) :] == crossing
    left = set(names(step.graph.inputs)) & set(FAMILIES[kind])
    assert not left
    for sizes in ({"B": 1, "N": 2, "T": 7, "h": 16, "w": 8}, {"B": 2, "N": 3, "T": 5, "h": 8, "w": 24}):
        inputs = draw(plain, sizes)
        expected = run_expanded(plain, inputs, folder)
        outputs = run_expanded(prologue, inputs, folder)
        for value in prologue.graph.outputs:
            assert value.shape is not None
            shape = tuple(dim if isinstance(dim, int) else sizes[str(dim.value)] for dim in value.shape)
            assert outputs[str(value.name)].shape == shape
        assert measure_error(run_expanded(step, {**inputs, **outputs}, folder), expected) < 1e-5


def draw(model: ir.Model, sizes: Mapping[str, int]) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    values: dict[str, Any] = {}
    for value in model.graph.inputs:
        assert value.shape is not None
        shape = [dim if isinstance(dim, int) else sizes[str(dim.value)] for dim in value.shape]
        if value.dtype == ir.DataType.INT64:
            values[str(value.name)] = generator.integers(0, sizes["B" if value.name == "owner" else "N"], shape)
        else:
            values[str(value.name)] = generator.uniform(0, 1, shape).astype(np.float32)
    return values
