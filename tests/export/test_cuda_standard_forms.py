"""Definitions of the operators that transformers are rewritten to: the numbers of their documentation, in fp32 and fp16."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from alterbute_export.errors import AttentionError

from tests.support.cuda_graphs import parse_graph, run_expanded

TYPES = [(np.float32, "float", 1e-6), (np.float16, "float16", 2e-3)]


def draw(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32).astype(dtype)


def is_close(found: Any, expected: Any, dtype: Any, limit: float) -> bool:
    return found.dtype == dtype and bool(np.abs(found - expected).max() <= limit * np.abs(expected).max())


def attend(query: Any, key: Any, value: Any, scale: float) -> Any:
    """Attention of `[N,tokens,heads,width]` in fp64, joined."""
    scores = np.einsum("nshd,nthd->nhst", query.astype(np.float64), key.astype(np.float64)) * scale
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("nhst,nthd->nshd", weights, value.astype(np.float64)).reshape(*query.shape[:2], -1)


@pytest.mark.parametrize(("dtype", "name", "limit"), TYPES)
@pytest.mark.parametrize("has_bias", [False, True])
def test_skip_layer_normalization_gives_the_norm_and_the_sum(
    dtype: Any, name: str, limit: float, has_bias: bool
) -> None:
    text = f"""norm ({name}[N,S,8] x, {name}[N,S,8] s, {name}[8] g, {name}[8] b, {name}[8] c) => ({name}[N,S,8] y, {name}[N,S,8] t)
    {{ y, m, d, t = com.microsoft.SkipLayerNormalization<epsilon = 0.01>(x, s, g, b{", c" if has_bias else ""}) }}"""
    inputs = {"x": draw(2, 3, 8, dtype=dtype), "g": draw(8, dtype=dtype), "b": draw(10, dtype=dtype)[:8]}
    inputs["s"] = draw(2, 3, 9, dtype=dtype)[..., :8]
    inputs["c"] = draw(9, dtype=dtype)[:8]
    found = run_expanded(parse_graph(text), inputs)
    total = inputs["x"].astype(np.float64) + inputs["s"] + (inputs["c"] if has_bias else 0)
    centred = total - total.mean(-1, keepdims=True)
    norm = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 0.01) * inputs["g"] + inputs["b"]
    assert is_close(found["t"], total, dtype, limit)
    assert is_close(found["y"], norm, dtype, limit)


@pytest.mark.parametrize(("dtype", "name", "limit"), TYPES)
def test_bias_split_gelu_gates_the_left_half(dtype: Any, name: str, limit: float) -> None:
    text = f"gelu ({name}[N,S,12] x, {name}[12] b) => ({name}[N,S,6] y) {{ y = com.microsoft.BiasSplitGelu(x, b) }}"
    inputs = {"x": draw(2, 3, 12, dtype=dtype), "b": draw(12, dtype=dtype)}
    found = run_expanded(parse_graph(text), inputs)["y"]
    left, right = np.split(inputs["x"].astype(np.float64) + inputs["b"], 2, axis=-1)
    expected = left * right * 0.5 * (1 + np.vectorize(math.erf)(right / math.sqrt(2)))
    assert is_close(found, expected, dtype, limit)


@pytest.mark.parametrize(("dtype", "name", "limit"), TYPES)
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("form", ["separate", "packed kv", "packed qkv"])
def test_attention_reads_each_form_of_its_inputs(
    dtype: Any, name: str, limit: float, scale: float | None, form: str
) -> None:
    heads, width, tokens = 2, 4, 3 if form == "packed qkv" else 5
    query = draw(2, 3, heads, width, dtype=dtype)
    key, value = draw(2, tokens, heads, width, dtype=dtype), draw(2, tokens, heads, width + 1, dtype=dtype)[..., :width]
    flat = heads * width
    edges = {
        "separate": f"{name}[N,S,{flat}] q, {name}[N,T,{flat}] k, {name}[N,T,{flat}] v",
        "packed kv": f"{name}[N,S,{flat}] q, {name}[N,T,{heads},2,{width}] k",
        "packed qkv": f"{name}[N,S,{heads},3,{width}] q",
    }[form]
    if form == "separate":
        inputs = {"q": query.reshape(2, 3, -1), "k": key.reshape(2, tokens, -1), "v": value.reshape(2, tokens, -1)}
    elif form == "packed kv":
        inputs = {"q": query.reshape(2, 3, -1), "k": np.stack([key, value], axis=3)}
    else:
        inputs = {"q": np.stack([query, key, value], axis=3)}
    attributes = "num_heads = 2" + (f", scale = {scale}" if scale else "")
    text = f"""attention ({edges}) => ({name}[N,S,{flat}] y)
    {{ y = com.microsoft.MultiHeadAttention<{attributes}>({", ".join(inputs)}) }}"""
    found = run_expanded(parse_graph(text), inputs)["y"]
    assert is_close(found, attend(query, key, value, scale or width**-0.5), dtype, limit)


def test_attention_with_a_bias_is_refused() -> None:
    text = """attention (float[N,S,8] q, float[24] b) => (float[N,S,8] y)
    { y = com.microsoft.MultiHeadAttention<num_heads = 2>(q, q, q, b) }"""
    model: ir.Model = parse_graph(text)
    with pytest.raises(AttentionError, match="more inputs or outputs than query"):
        run_expanded(model, {})
