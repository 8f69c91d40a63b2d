"""Definitions of CUDA operators in standard ONNX: the numbers that their documentation gives, in fp32 and fp16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from alterbute_export.cuda.definitions import DEFINITIONS, expand_operators

HEADER = '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>'
GROUPS, EPSILON = 3, 1e-3
NORM = f"channels_last = 1, epsilon = {EPSILON}, groups = {GROUPS}, activation = ACTIVATION"


def run(text: str, inputs: Mapping[str, Any]) -> list[Any]:
    """The outputs of a graph of one operator of the domain, expanded."""
    model = ir.from_proto(onnx.parser.parse_model(HEADER + text))
    assert expand_operators(model, DEFINITIONS) == 1
    assert not any(node.domain for node in model.graph)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    outputs: list[Any] = session.run(None, {edge.name: inputs[edge.name] for edge in session.get_inputs()})
    return outputs


def draw(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32).astype(dtype)


def normalize(picture: Any, gamma: Any, beta: Any, *, has_silu: bool) -> Any:
    """Group normalization of `[N,h,w,C]` in fp64."""
    grouped = picture.astype(np.float64).reshape(*picture.shape[:3], GROUPS, -1)
    axes = (1, 2, 4)
    scaled = (grouped - grouped.mean(axes, keepdims=True)) / np.sqrt(grouped.var(axes, keepdims=True) + EPSILON)
    result = scaled.reshape(picture.shape) * gamma + beta
    return result / (1 + np.exp(-result)) if has_silu else result


def is_close(found: Any, expected: Any, dtype: Any) -> bool:
    limit = {np.float32: 1e-6, np.float16: 1e-3}[dtype]
    return found.dtype == dtype and bool(np.abs(found - expected).max() <= limit * np.abs(expected).max())


@pytest.mark.parametrize("has_silu", [False, True])
@pytest.mark.parametrize(("dtype", "name"), [(np.float32, "float"), (np.float16, "float16")])
def test_group_norm_computes_in_fp32(has_silu: bool, dtype: Any, name: str) -> None:
    # A mean far from zero, whose squares fp16 cannot hold.
    picture, gamma, beta = draw(2, 4, 5, 12, dtype=dtype) + dtype(300), draw(12), draw(12)
    text = f"""norm ({name}[N,h,w,12] x, float[12] g, float[12] b) => ({name}[N,h,w,12] y)
      {{ y = com.microsoft.GroupNorm<{NORM}>(x, g, b) }}""".replace("ACTIVATION", str(int(has_silu)))
    (found,) = run(text, {"x": picture, "g": gamma, "b": beta})
    # In fp32, a mean of 300 costs the last digits of what remains.
    assert np.abs(found - normalize(picture, gamma, beta, has_silu=has_silu)).max() < (
        1e-3 if dtype is np.float32 else 5e-3
    )
    assert found.dtype == dtype


@pytest.mark.parametrize("skip_shape", [(2, 4, 5, 12), (2, 12), (2, 1, 1, 12)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_skip_group_norm_gives_the_norm_and_the_sum(skip_shape: tuple[int, ...], has_bias: bool) -> None:
    values = {"x": draw(2, 4, 5, 12), "g": draw(12), "b": draw(12), "s": draw(*skip_shape), "c": draw(13)[:12]}
    sizes = ",".join(str(size) for size in skip_shape)
    text = f"""norm (float[N,h,w,12] x, float[12] g, float[12] b, float[{sizes}] s, float[12] c) => (float[N,h,w,12] y, float[N,h,w,12] t)
      {{ y, t = com.microsoft.SkipGroupNorm<{NORM}>(x, g, b, s{", c" if has_bias else ""}) }}""".replace(
        "ACTIVATION", "1"
    )
    found, total = run(text, values)
    skip = values["s"] if len(skip_shape) == 4 else values["s"][:, None, None]
    expected = values["x"] + skip + (values["c"] if has_bias else 0)
    assert is_close(total, expected, np.float32)
    assert is_close(found, normalize(expected, values["g"], values["b"], has_silu=True), np.float32)


@pytest.mark.parametrize("group", [1, 2])
def test_nhwc_conv_is_a_convolution_with_the_channels_of_picture_and_kernel_last(group: int) -> None:
    values = {"x": draw(2, 7, 6, 4), "w": draw(6, 3, 3, 4 // group), "b": draw(6)}
    attributes = f"kernel_shape = [3, 3], pads = [0, 1, 2, 1], strides = [2, 1], group = {group}"
    (found,) = run(
        f"""conv (float[N,h,w,4] x, float[6,3,3,{4 // group}] w, float[6] b) => (float[N,p,q,6] y)
        {{ y = com.microsoft.NhwcConv<{attributes}>(x, w, b) }}""",
        values,
    )
    padded = np.pad(values["x"], ((0, 0), (0, 2), (1, 1), (0, 0)))
    width = 4 // group
    for channel in range(6):
        part = padded[..., channel // (6 // group) * width :][..., :width]
        windows = np.lib.stride_tricks.sliding_window_view(part, (3, 3), (1, 2))[:, ::2]
        expected = np.einsum("nijcab,abc->nij", windows, values["w"][channel]) + values["b"][channel]
        assert np.abs(found[..., channel] - expected).max() < 1e-5


@pytest.mark.parametrize(("dtype", "name"), [(np.float32, "float"), (np.float16, "float16")])
def test_bias_add_sums_three(dtype: Any, name: str) -> None:
    values = {
        "x": draw(2, 5, 8, dtype=dtype),
        "b": draw(8, dtype=dtype),
        "s": draw(5, 2, 8, dtype=dtype).reshape(2, 5, 8),
    }
    (found,) = run(
        f"""sum ({name}[N,S,8] x, {name}[8] b, {name}[N,S,8] s) => ({name}[N,S,8] y) {{ y = com.microsoft.BiasAdd(x, b, s) }}""",
        values,
    )
    assert is_close(found, values["x"].astype(np.float32) + values["b"] + values["s"], dtype)


def test_an_operator_that_computes_an_output_of_the_graph_keeps_its_name() -> None:
    model = ir.from_proto(
        onnx.parser.parse_model(
            f"{HEADER} sum (float[N,S,8] x, float[8] b) => (float[N,S,8] y) {{ y = com.microsoft.BiasAdd(x, b, x) }}"
        )
    )
    expand_operators(model, DEFINITIONS)
    assert [value.name for value in model.graph.outputs] == ["y"]
