"""Channels last for ONNX Runtime's CUDA provider: each pattern becomes the fused operators, with the same numbers.

The operators have no CPU kernels: the numbers are those of their definitions in standard ONNX.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from alterbute_export.cuda.channels_last import RewriteReport, make_channels_last
from alterbute_export.cuda.definitions import DEFINITIONS, expand_operators
from alterbute_export.half.convert import convert_graph
from alterbute_export.onnx_io.ir import find_producer, weight_source

HEADER = '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>'
CONV3 = "Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>"
SIZES = ({"N": 2, "h": 4, "w": 6, "T": 3}, {"N": 3, "h": 8, "w": 2, "T": 5})
LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def parse(edges: str, nodes: str, weights: Mapping[str, tuple[int, ...]], **numbers: Any) -> ir.Model:
    """A graph from the text of its edges and nodes, with random weights of these shapes, and constants."""
    model: ir.Model = ir.from_proto(onnx.parser.parse_model(f"{HEADER} test {edges} {{ {nodes} }}"))
    generator = np.random.default_rng(0)
    arrays = {name: (generator.standard_normal(shape) / 2).astype(np.float32) for name, shape in weights.items()}
    arrays |= {
        name: np.array(value, np.float32 if name.startswith("f_") else np.int64) for name, value in numbers.items()
    }
    reads = [(node, index, str(value.name)) for node in model.graph for index, value in enumerate(node.inputs) if value]
    for name, array in arrays.items():
        value = ir.Value(
            name=name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(ir.tensor(array).dtype),
            const_value=ir.tensor(array, name=name),
        )
        model.graph.register_initializer(value)
        for node, index, read in reads:
            if read == name:
                node.replace_input_with(index, value)
    return model


def norm(source: str, target: str, groups: int, channels: int, *, has_silu: bool = True) -> str:
    """The nodes of a group normalization as torch exports it; weights `gamma<C>` and `beta<C>`, constants `split<G>`, `one<G>`, `zero<G>`."""
    text = f"""
      {target}_g = Reshape({source}, split{groups})
      {target}_n = InstanceNormalization<epsilon = 0.001>({target}_g, f_one{groups}, f_zero{groups})
      {target}_s = Shape({source})  {target}_r = Reshape({target}_n, {target}_s)
      {target}_m = Mul({target}_r, gamma{channels})  {target}_a = Add({target}_m, beta{channels})
    """
    if not has_silu:
        return text.replace(f"{target}_a", target)
    return text + f"{target}_i = Sigmoid({target}_a)  {target} = Mul({target}_a, {target}_i)"


def norm_weights(channels: int) -> dict[str, tuple[int, ...]]:
    return {f"gamma{channels}": (channels, 1, 1), f"beta{channels}": (channels, 1, 1)}


def norm_numbers(groups: int) -> dict[str, Any]:
    return {f"split{groups}": [0, groups, -1], f"f_one{groups}": [1] * groups, f"f_zero{groups}": [0] * groups}


def rewrite(model: ir.Model) -> tuple[RewriteReport, Counter[str]]:
    """Rewrite a graph, check its numbers at two sizes, and count its operators but those that only give weights a layout."""
    plain = ir.to_proto(model).SerializeToString()
    report = make_channels_last(model)
    rewritten = ir.to_proto(model)
    operators = count(model)
    copy = ir.from_proto(rewritten)
    expand_operators(copy, DEFINITIONS)
    sessions = [onnxruntime.InferenceSession(data) for data in (plain, ir.to_proto(copy).SerializeToString())]
    for sizes in SIZES:
        expected, found = (session.run(None, draw(sessions[0], sizes)) for session in sessions)
        for one, other in zip(expected, found, strict=True):
            assert one.shape == other.shape
            assert np.abs(other - one).max() <= 1e-5 * np.abs(one).max()
    return report, operators


def count(model: ir.Model) -> Counter[str]:
    """Operators that compute something of the inputs."""
    live: set[ir.Value] = set(model.graph.inputs)
    found: Counter[str] = Counter()
    for node in model.graph:
        if any(value in live for value in node.inputs):
            live.update(node.outputs)
            found[node.op_type] += 1
    return found


def draw(session: Any, sizes: Mapping[str, int]) -> dict[str, Any]:
    generator = np.random.default_rng(1)
    return {
        edge.name: generator.standard_normal([sizes.get(size, size) for size in edge.shape], np.float32)
        for edge in session.get_inputs()
    }


def takes_bias(model: ir.Model) -> list[bool]:
    """For each convolution, whether it adds a bias itself."""
    return [len(node.inputs) > 2 and node.inputs[2] is not None for node in model.graph if node.op_type == "NhwcConv"]


def perms(model: ir.Model) -> list[list[int]]:
    """Axes of the transposes of computed values, in order."""
    return [
        list(node.attributes["perm"].as_ints())
        for node in model.graph
        if node.op_type == "Transpose" and weight_source(node.outputs[0]) is None
    ]


def test_a_resnet_block_has_one_launch_for_each_sum_and_norm_and_a_transpose_at_each_end() -> None:
    model = parse(
        "(float[N,4,h,w] x, float[N,8] time) => (float[N,8,h,w] out)",
        f"c1 = {CONV3}(x, kernel1, bias1)  t1 = Unsqueeze(time, axis2)  t2 = Unsqueeze(t1, axis3)  sum = Add(c1, t2)"
        + norm("sum", "silu", 4, 8)
        + f"""c2 = {CONV3}(silu, kernel2, bias2)  short = Conv<kernel_shape = [1, 1]>(x, point, bias3)  total = Add(short, c2)"""
        + norm("total", "normed", 2, 8, has_silu=False)
        + f"c3 = {CONV3}(normed, kernel3, bias4)  out = Add(c3, total)",
        {"kernel1": (8, 4, 3, 3), "kernel2": (8, 8, 3, 3), "kernel3": (8, 8, 3, 3), "point": (8, 4, 1, 1)}
        | {f"bias{index}": (8,) for index in range(1, 5)}
        | norm_weights(8),
        axis2=[2],
        axis3=[3],
        **norm_numbers(4),
        **norm_numbers(2),
    )
    report, operators = rewrite(model)
    assert report == RewriteReport(fused={"SkipGroupNorm": 2, "NhwcConv": 3, "BiasAdd": 1}, unfused={})
    free = {"Reshape": 3, "Shape": 1}
    assert operators == {"Transpose": 2, "NhwcConv": 3, "MatMul": 1, "SkipGroupNorm": 2, "BiasAdd": 1, **free}
    assert perms(model) == [LAST, FIRST]
    first, second = (node for node in model.graph if node.op_type == "SkipGroupNorm")
    assert [value.name for value in first.inputs[3:] if value is not None] == ["time", "bias1"]
    assert (len(first.outputs), len(second.outputs)) == (1, 2)
    assert not any(takes_bias(model))


def test_a_sum_without_norm_takes_the_biases_of_both_terms() -> None:
    model = parse(
        "(float[N,4,h,w] x) => (float[N,4,h2,w2] out)",
        f"""c1 = {CONV3}(x, kernel1, bias1)  c2 = Conv<kernel_shape = [1, 1]>(x, point, bias2)  sum = Add(c1, c2)
            out = Conv<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(sum, kernel2, bias3)""",
        {
            "kernel1": (8, 4, 3, 3),
            "kernel2": (4, 8, 3, 3),
            "point": (8, 4, 1, 1),
            "bias1": (8,),
            "bias2": (8,),
            "bias3": (4,),
        },
    )
    report, operators = rewrite(model)
    assert report.fused == {"NhwcConv": 2, "BiasAdd": 1}
    assert not operators["Add"]
    assert takes_bias(model) == [False, True]


def test_a_bias_that_something_else_reads_stays_in_its_convolution() -> None:
    model = parse(
        "(float[N,4,h,w] x) => (float[N,8,h,w] out, float[N,8,h,w] other)",
        f"c1 = {CONV3}(x, kernel1, bias1)  c2 = {CONV3}(c1, kernel2, bias2)  out = Add(c1, c2)  other = Sigmoid(c1)",
        {"kernel1": (8, 4, 3, 3), "kernel2": (8, 8, 3, 3), "bias1": (8,), "bias2": (8,)},
    )
    rewrite(model)
    assert takes_bias(model) == [True, False]


@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (1026, 2)])
def test_a_norm_that_the_kernel_does_not_take_stays_and_is_counted(channels: int, groups: int) -> None:
    model = parse(
        "(float[N,4,h,w] x) => (float[N,4,h,w] out)",
        f"c1 = {CONV3}(x, kernel1, bias1)"
        + norm("c1", "silu", groups, channels)
        + f"out = {CONV3}(silu, kernel2, bias2)",
        {"kernel1": (channels, 4, 3, 3), "kernel2": (4, channels, 3, 3), "bias1": (channels,), "bias2": (4,)}
        | norm_weights(channels),
        **norm_numbers(groups),
    )
    report, operators = rewrite(model)
    assert report.unfused == {f"GroupNorm of {channels} channels in {groups} groups": 1}
    assert (operators["NhwcConv"], operators["InstanceNormalization"], operators["GroupNorm"]) == (2, 1, 0)
    assert perms(model) == [LAST, FIRST, LAST, FIRST]


@pytest.mark.parametrize("is_linear", [False, True])
def test_a_transformer_reads_and_returns_pixels_without_transposes_or_shape_arithmetic(is_linear: bool) -> None:
    sizes = "s = Shape<start = 0, end = 1>(n)  a = Shape<start = 2, end = 3>(n)  b = Shape<start = 3, end = 4>(n)"
    sizes += "ab = Mul(a, b)  flat = Concat<axis = 0>(s, ab, eight)  back = Concat<axis = 0>(s, a, b, eight)"
    inside = "t = Transpose<perm = [0, 2, 3, 1]>(p)  r = Reshape(t, flat)  "
    outside = "v = Reshape(m, back)  f = Transpose<perm = [0, 3, 1, 2]>(v)"
    if is_linear:
        text = (
            inside.replace("(p)", "(n)")
            + "i = MatMul(r, matrix)  ii = Add(i, bias2)  o = Erf(ii)  q = MatMul(o, matrix)  m = Add(q, bias3) "
            + outside
        )
        text += " out = Add(f, c)"
    else:
        text = f"p = Conv(n, point1, bias2) {inside} m = Erf(r) {outside} g = Conv(f, point2, bias3)  out = Add(g, c)"
    model = parse(
        "(float[N,4,h,w] x) => (float[N,8,h,w] out)",
        f"c = {CONV3}(x, kernel1, bias1)" + norm("c", "n", 4, 8, has_silu=False) + sizes + text,
        {"kernel1": (8, 4, 3, 3), "point1": (8, 8, 1, 1), "point2": (8, 8, 1, 1), "matrix": (8, 8)}
        | {f"bias{index}": (8,) for index in range(1, 4)}
        | norm_weights(8),
        eight=[8],
        **norm_numbers(4),
    )
    report, operators = rewrite(model)
    assert report.fused == {"GroupNorm": 1, "NhwcConv": 1, "BiasAdd": 1}
    assert perms(model) == [LAST, FIRST]
    assert (operators["MatMul"], operators["Shape"], operators["Concat"], operators["Mul"]) == (2, 1, 0, 0)
    products = [node for node in model.graph if node.op_type == "MatMul"]
    pixels = find_producer(products[0], 0)
    assert pixels is not None and pixels.op_type == "Reshape"


def test_an_autoencoders_attention_is_normalized_as_pixels() -> None:
    model = parse(
        "(float[N,4,h,w] x) => (float[N,8,h,w] out)",
        f"""c = {CONV3}(x, kernel1, bias1)  s = Shape(c)  q = Reshape(c, flat)
            g = Reshape(q, split4)  i = InstanceNormalization(g, f_one4, f_zero4)  qs = Shape(q)  k = Reshape(i, qs)
            m = Mul(k, scale)  n = Add(m, offset)  t = Transpose<perm = [0, 2, 1]>(n)
            l = MatMul(t, matrix)  e = Add(l, bias2)  u = Transpose<perm = [0, 2, 1]>(e)  v = Reshape(u, s)  out = Add(v, c)""",
        {"kernel1": (8, 4, 3, 3), "matrix": (8, 8), "bias1": (8,), "bias2": (8,), "scale": (8, 1), "offset": (8, 1)},
        flat=[0, 8, -1],
        **norm_numbers(4),
    )
    report, _ = rewrite(model)
    assert report.fused == {"GroupNorm": 1, "NhwcConv": 1, "BiasAdd": 1}
    assert perms(model) == [LAST, FIRST]


def test_resizing_padding_joining_and_taking_channels_stay_in_the_region() -> None:
    resize = 'Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">'
    model = parse(
        "(float[N,4,h,w] x) => (float[N,4,h2,w2] out)",
        f"""c = {CONV3}(x, kernel1, bias1)  large = {resize}(c, , f_scales)  j = Concat<axis = 1>(large, large)
            p = Pad(j, pads)  d = Conv<kernel_shape = [3, 3], strides = [2, 2]>(p, kernel2, bias2)
            part = Slice(d, from, to, axis)  half = Mul(part, f_half)  out = {CONV3}(half, kernel3, bias3)""",
        {
            "kernel1": (6, 4, 3, 3),
            "kernel2": (8, 12, 3, 3),
            "kernel3": (4, 5, 3, 3),
            "bias1": (6,),
            "bias2": (8,),
            "bias3": (4,),
        },
        f_scales=[1, 1, 2, 2],
        pads=[0, 0, 0, 0, 0, 0, 1, 1],
        **{"from": [1], "to": [6], "axis": [1]},
        f_half=0.5,
    )
    _, operators = rewrite(model)
    assert operators == {"Transpose": 2, "NhwcConv": 3, "Resize": 1, "Concat": 1, "Pad": 1, "Slice": 1, "Mul": 1}


def test_a_convolution_of_another_form_stays_and_is_counted() -> None:
    model = parse(
        "(float[N,4,h,w] x) => (float[N,8,h,w] out)",
        'c = Conv<kernel_shape = [3, 3], auto_pad = "SAME_UPPER">(x, kernel1, bias1)  out = Sigmoid(c)',
        {"kernel1": (8, 4, 3, 3), "bias1": (8,)},
    )
    report, operators = rewrite(model)
    assert report == RewriteReport(fused={}, unfused={"Conv of another form": 1})
    assert operators == {"Conv": 1, "Sigmoid": 1}


def test_silu_of_the_time_embedding_is_computed_once() -> None:
    model = parse(
        "(float[N,8] t) => (float[N,8] out)",
        """a = Sigmoid(t)  b = Mul(t, a)  c = Sigmoid(t)  d = Mul(t, c)  e = MatMul(b, matrix1)  f = MatMul(d, matrix2)  g = Add(e, f)
           h = Div(g, f_one)  i = Add(h, f_zero)  j = Slice(i, zero, end)  out = Erf(j)""",
        {"matrix1": (8, 8), "matrix2": (8, 8)},
        f_one=1.0,
        f_zero=0.0,
        zero=[0],
        end=[2**63 - 1],
    )
    _, operators = rewrite(model)
    assert operators == {"Sigmoid": 1, "Mul": 1, "MatMul": 2, "Add": 1, "Erf": 1}


def test_every_shape_that_can_be_is_constant_or_that_of_a_value() -> None:
    model = parse(
        "(float[N,4,h,w] x, float[N,T,8] y) => (float[M,T2,4] out, float[N,4,h,w] back)",
        """t = Shape<start = 1, end = 2>(y)  n = Shape<start = 0, end = 1>(y)  m = Mul(n, two)  a = Concat<axis = 0>(m, t, four)
           s = Reshape(y, halves)  u = Transpose<perm = [0, 2, 1, 3]>(s)  out = Reshape(u, a)
           h = Shape<start = 2, end = 3>(x)  w = Shape<start = 3, end = 4>(x)  hw = Mul(h, w)  f = Concat<axis = 0>(n, four, hw)
           g = Reshape(x, f)  k = Erf(g)  b = Concat<axis = 0>(n, four, h, w)  back = Reshape(k, b)""",
        {},
        two=[2],
        four=[4],
        halves=[0, 0, 2, 4],
    )
    report, operators = rewrite(model)
    assert not report.unfused
    assert operators == {"Reshape": 4, "Transpose": 1, "Flatten": 1, "Erf": 1, "Shape": 1}


def test_a_shape_that_nothing_has_stays_computed_and_is_counted() -> None:
    model = parse(
        "(float[N,4,h,w] x) => (float[N,4,a,2,b,2] out)",
        """n = Shape<start = 0, end = 1>(x)  h = Shape<start = 2, end = 3>(x)  w = Shape<start = 3, end = 4>(x)  a = Div(h, two)  b = Div(w, two)
           s = Concat<axis = 0>(n, four, a, two, b, two)  out = Reshape(x, s)""",
        {},
        two=[2],
        four=[4],
    )
    report, operators = rewrite(model)
    assert report.unfused == {"shape arithmetic": 1}
    assert operators["Concat"] == 1


def test_stacked_pictures_are_split() -> None:
    model = parse(
        "(float[N,4,h,w] x) => (float[N,4,h,w] first, float[N,4,h,w] second)",
        f"""two = Concat<axis = 0>(x, x)  c = {CONV3}(two, kernel1, bias1)
            n = Shape<start = 0, end = 1>(x)  h = Shape<start = 2, end = 3>(x)  w = Shape<start = 3, end = 4>(x)
            s = Concat<axis = 0>(count, n, four, h, w)  v = Reshape(c, s)
            first = Gather<axis = 0>(v, index)  p = Slice(v, one, count, zero)  second = Squeeze(p, zero)""",
        {"kernel1": (4, 4, 3, 3), "bias1": (4,)},
        count=[2],
        four=[4],
        one=[1],
        zero=[0],
        index=0,
    )
    report, operators = rewrite(model)
    assert not report.unfused
    assert operators == {"Concat": 1, "Transpose": 2, "NhwcConv": 1, "Split": 1}


def test_half_precision_keeps_scale_and_offset_of_norms_and_stores_each_kernel_once() -> None:
    model = parse(
        "(float[N,4,h,w] x) => (float[N,4,h,w] out)",
        f"c1 = {CONV3}(x, kernel1, bias1)" + norm("c1", "silu", 4, 8) + f"out = {CONV3}(silu, kernel2, bias2)",
        {"kernel1": (8, 4, 3, 3), "kernel2": (4, 8, 3, 3), "bias1": (8,), "bias2": (4,)} | norm_weights(8),
        **norm_numbers(4),
    )
    make_channels_last(model)
    report = convert_graph(model, "fp16")
    assert (report.core, report.core_half) == (2, 2)
    stored = {value.name: value.dtype for value in model.graph.initializers.values() if value.uses()}
    assert stored["gamma8"] == stored["beta8"] == ir.DataType.FLOAT
    assert {stored[f"{name}_fp16"] for name in ("kernel1", "kernel2", "bias1", "bias2")} == {ir.DataType.FLOAT16}
    assert not {"kernel1", "kernel2", "bias1", "bias2"} & set(stored)
    norms = [node for node in model.graph if node.op_type == "GroupNorm"]
    assert [getattr(weight_source(value), "name", None) for node in norms for value in node.inputs[1:] if value] == [
        "gamma8",
        "beta8",
    ]
    expand_operators(model, DEFINITIONS)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    assert np.isfinite(session.run(None, draw(session, SIZES[0]))[0]).all()


def test_the_same_graph_gives_the_same_bytes() -> None:
    def write() -> bytes:
        model = parse(
            "(float[N,4,h,w] x) => (float[N,8,h,w] out)",
            f"c1 = {CONV3}(x, kernel1, bias1)"
            + norm("c1", "silu", 4, 8)
            + f"c2 = {CONV3}(silu, kernel2, bias2)  out = Add(c1, c2)",
            {"kernel1": (8, 4, 3, 3), "kernel2": (8, 8, 3, 3), "bias1": (8,), "bias2": (8,)} | norm_weights(8),
            **norm_numbers(4),
        )
        make_channels_last(model)
        data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
        return data

    assert write() == write()
