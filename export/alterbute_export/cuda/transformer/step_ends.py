"""The ends of a step graph, before and after its UNet, in fewer launches: each is small, and a launch costs the same for all sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from alterbute_export.cuda.concrete_shapes import Shapes, transposed
from alterbute_export.cuda.static_shapes import constant_shape, read_shape
from alterbute_export.cuda.transformer.patterns import find_single_reader, take_place
from alterbute_export.onnx_io.ir import add_constant, find_producer, make_node, read_int


def shorten_ends(graph: ir.Graph, shapes: Shapes) -> Counter[str]:
    """Rewrite what a step graph does around its UNet, in place.

    Args:
        graph: The graph.
        shapes: Shapes of its values.

    Returns:
        How many places were rewritten, by what they compute.
    """
    found: Counter[str] = Counter()
    for node in list(graph):
        for name, rewrite in _REWRITES.get(node.op_type, ()):
            # Each returns the value that takes the place of the node's output, or None.
            new = rewrite(graph, node, shapes)
            if new is not None:
                _replace(node.outputs[0], new, shapes)
                found[name] += 1
                break
    return found


def _gather_once(graph: ir.Graph, concat: ir.Node, shapes: Shapes) -> ir.Value | None:
    """Rows of several values, joined along another axis: join the values, then take the rows."""
    gathers = [value.producer() if value is not None else None for value in concat.inputs]
    first = gathers[0]
    if first is None or len(gathers) < 2 or read_int(concat, "axis", 0) != 1:
        return None
    sources = []
    for gather in gathers:
        if gather is None or gather.op_type != "Gather" or read_int(gather, "axis", 0) != 0:
            return None
        if gather.inputs[1] is not first.inputs[1] or find_single_reader(gather.outputs[0]) is None:
            return None
        sources.append(gather.inputs[0])
    name = str(concat.outputs[0].name)
    joined = make_node("Concat", sources, attributes={"axis": 1}, name=f"{name}_slots", output=f"{name}_slots")
    rows = make_node(
        "Gather",
        [joined.outputs[0], first.inputs[1]],
        attributes={"axis": 0},
        name=f"{name}_rows",
        output=f"{name}_rows",
    )
    graph.insert_before(concat, [joined, rows])
    return rows.outputs[0]


def _swap_halves(graph: ir.Graph, concat: ir.Node, shapes: Shapes) -> ir.Value | None:
    """The second part of two that were joined, then the first: join them in this order."""
    slices = [value.producer() if value is not None else None for value in concat.inputs]
    if len(slices) != 2 or any(part is None or part.op_type != "Slice" for part in slices):
        return None
    second, first = slices
    assert second is not None and first is not None
    joined = find_producer(first, 0)
    if (
        joined is None
        or joined.op_type != "Concat"
        or len(joined.inputs) != 2
        or second.inputs[0] is not first.inputs[0]
    ):
        return None
    left, right = joined.inputs
    if left is None or right is None or left not in shapes or concat.outputs[0] not in shapes:
        return None
    axis, width = len(shapes[left][0]) - 1, transposed(shapes[left])[-1]
    axes = {read_int(node, "axis", 0) % (axis + 1) for node in (joined, concat)}
    limits = [_read_slice(part, axis) for part in (first, second)]
    if len(set(width)) != 1 or axes != {axis} or limits[0] != (0, width[0]) or limits[1] is None:
        return None
    whole = transposed(shapes[concat.outputs[0]])[-1]
    if limits[1][0] != width[0] or limits[1][1] < whole[0]:
        return None
    name = f"{concat.outputs[0].name}_swapped"
    node = make_node("Concat", [right, left], attributes={"axis": -1}, name=name, output=name)
    graph.insert_before(concat, node)
    return node.outputs[0]


def _divide_deviations(graph: ir.Graph, ratio: ir.Node, shapes: Shapes) -> ir.Value | None:
    """The ratio of two values' standard deviations `[B,1]`, the second at least some number: of deviations of their normalizations.

    Layer normalization computes the inverse deviation of each row in one launch, its square limited by epsilon. Its scale must have
    the shape of a row or of the whole input: as its result is not read, that can be the input itself.
    """
    limit = find_producer(ratio, 1)
    if limit is None or limit.op_type != "Clip" or any(value is not None for value in limit.inputs[2:]):
        return None
    least = limit.inputs[1].const_value if len(limit.inputs) > 1 and limit.inputs[1] is not None else None
    dividend, divisor = _find_centred(ratio.inputs[0], shapes), _find_centred(limit.inputs[0], shapes)
    if least is None or dividend is None or divisor is None:
        return None
    epsilon = float(least.numpy().reshape(())) ** 2
    if not 0.0 < epsilon < 1.0:
        return None
    inverse = [_add_inverse_deviation(graph, ratio, value, epsilon) for value in (dividend, divisor)]
    name = f"{ratio.outputs[0].name}_inverse"
    node = make_node("Div", [inverse[1], inverse[0]], name=name, output=name)
    flat = make_node(
        "Reshape", [node.outputs[0], constant_shape(graph, (0, 1))], name=f"{name}_flat", output=f"{name}_flat"
    )
    graph.insert_before(ratio, [node, flat])
    return flat.outputs[0]


def _mix_by_product(graph: ir.Graph, total: ir.Node, shapes: Shapes) -> ir.Value | None:
    """`weights[:,0] * a + weights[:,1] * b` of pictures `[B,C,h,w]`: one product of the weights and both."""
    weights: list[ir.Value] = []
    pictures: list[ir.Value] = []
    for index, product in enumerate(value.producer() if value is not None else None for value in total.inputs):
        if product is None or product.op_type != "Mul":
            return None
        factor, picture = product.inputs
        chosen = _find_column(factor, index)
        if chosen is None or picture is None or find_single_reader(product.outputs[0]) is None:
            return None
        weights.append(chosen)
        pictures.append(picture)
    if weights[0] is not weights[1] or weights[0] not in shapes or any(value not in shapes for value in pictures):
        return None
    shape = shapes[pictures[0]]
    if shapes[pictures[1]] != shape or len(shape[0]) != 4 or any(sizes[1:] != (2,) for sizes in shapes[weights[0]]):
        return None
    name = f"{total.outputs[0].name}_mixed"
    chain = _Chain(graph, total, name)
    one = constant_shape(graph, (1,))
    both = chain.add("Concat", *(chain.add("Unsqueeze", picture, one) for picture in pictures), axis=1)
    flat = chain.add("Reshape", both, constant_shape(graph, (0, 2, -1)))
    mixed = chain.add("MatMul", chain.add("Unsqueeze", weights[0], one), flat)
    return chain.add("Reshape", mixed, read_shape(graph, pictures[0]))


def _blend_first_row(graph: ir.Graph, concat: ir.Node, shapes: Shapes) -> ir.Value | None:
    """A blend into the first row of a state, then its other rows: a blend into the whole state, which keeps nothing of other rows."""
    blend, rest = (value.producer() if value is not None else None for value in (*concat.inputs, None)[:2])
    state = rest.inputs[0] if rest is not None and rest.op_type == "Slice" else None
    if (
        blend is None
        or blend.op_type != "Add"
        or state is None
        or state not in shapes
        or read_int(concat, "axis", 0) != 1
    ):
        return None
    rows = transposed(shapes[state])[1] if len(shapes[state][0]) == 5 else ()
    parts = _find_blend(blend, state)
    limits = _read_slice(rest, 1) if rest is not None else None
    if parts is None or len(set(rows)) != 1 or limits is None or limits[0] != 1 or limits[1] < rows[0]:
        return None
    keep, background, one = parts
    if keep not in shapes or any(sizes[1] != 1 for sizes in shapes[keep]) or len(shapes[keep][0]) != 5:
        return None
    chain = _Chain(graph, concat, f"{concat.outputs[0].name}_blend")
    pads = add_constant(graph, f"pad_rows_{rows[0] - 1}", np.array([0] * 6 + [rows[0] - 1] + [0] * 3, np.int64))
    kept = chain.add("Pad", keep, pads)
    return chain.add("Add", chain.add("Mul", kept, background), chain.add("Mul", chain.add("Sub", one, kept), state))


class _Chain:
    """Nodes in order before another one, each with one output."""

    def __init__(self, graph: ir.Graph, before: ir.Node, name: str) -> None:
        self._graph, self._before, self._name, self._count = graph, before, name, 0

    def add(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        name = f"{self._name}_{self._count}"
        self._count += 1
        node = make_node(op_type, inputs, attributes=attributes, name=name, output=name)
        self._graph.insert_before(self._before, node)
        return node.outputs[0]


def _find_centred(value: ir.Value | None, shapes: Shapes) -> ir.Value | None:
    """The value `[B,n]` whose standard deviation `[B,1]` this one is, or None."""
    root = value.producer() if value is not None else None
    mean = find_producer(root, 0) if root is not None and root.op_type == "Sqrt" else None
    square = find_producer(mean, 0) if mean is not None and _is_row_mean(mean) else None
    centred = find_producer(square, 0) if square is not None and square.op_type == "Mul" else None
    if square is None or centred is None or centred.op_type != "Sub" or square.inputs[0] is not square.inputs[1]:
        return None
    source, mean = centred.inputs[0], find_producer(centred, 1)
    if source is None or mean is None or not _is_row_mean(mean) or mean.inputs[0] is not source:
        return None
    return source if len(shapes.get(source, ((),))[0]) == 2 else None


def _is_row_mean(node: ir.Node) -> bool:
    axes = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
    is_mean = node.op_type == "ReduceMean" and read_int(node, "keepdims", 1) == 1
    return is_mean and axes is not None and axes.numpy().tolist() in ([1], [-1])


def _add_inverse_deviation(graph: ir.Graph, before: ir.Node, value: ir.Value, epsilon: float) -> ir.Value:
    """The inverse standard deviation `[B,1,1]` of each row of `[B,n]`."""
    name = f"{value.name}_deviation"
    rows = make_node("Reshape", [value, constant_shape(graph, (0, 1, -1))], name=f"{name}_rows", output=f"{name}_rows")
    source = rows.outputs[0]
    attributes = {"axis": 2, "epsilon": epsilon}
    node = ir.node("LayerNormalization", [source, source], attributes, num_outputs=3, name=name)
    for output, suffix in zip(node.outputs, ("normalized", "mean", "inverse"), strict=True):
        output.name = f"{name}_{suffix}"
    graph.insert_before(before, [rows, node])
    return node.outputs[2]


def _find_column(value: ir.Value | None, index: int) -> ir.Value | None:
    """The value `[B,columns]` whose column this one is, as `[B,1,1,1]`, or None."""
    shape = value.producer() if value is not None else None
    column = find_producer(shape, 0) if shape is not None and shape.op_type == "Reshape" else None
    if column is None or column.op_type != "Gather" or read_int(column, "axis", 0) != 1 or column.inputs[1] is None:
        return None
    number = column.inputs[1].const_value
    return column.inputs[0] if number is not None and number.numpy().tolist() == index else None


def _find_blend(total: ir.Node, state: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value] | None:
    """Keep, background and 1 of `keep * background + (1 - keep) * state[:,:1]`, or None."""
    left, right = (value.producer() if value is not None else None for value in total.inputs)
    if left is None or right is None or left.op_type != "Mul" or right.op_type != "Mul":
        return None
    keep, background = left.inputs
    rest, row = find_producer(right, 0), find_producer(right, 1)
    if rest is None or rest.op_type != "Sub" or rest.inputs[1] is not keep or keep is None or background is None:
        return None
    one = rest.inputs[0]
    if (
        one is None
        or one.const_value is None
        or one.const_value.size != 1
        or float(one.const_value.numpy().reshape(())) != 1.0
    ):
        return None
    is_first = row is not None and row.op_type == "Slice" and row.inputs[0] is state and _read_slice(row, 1) == (0, 1)
    return (keep, background, one) if is_first else None


def _read_slice(node: ir.Node, axis: int) -> tuple[int, int] | None:
    """First and last + 1 of a Slice with step 1 along one axis, or None."""
    numbers = [value.const_value if value is not None else None for value in node.inputs[1:]]
    if len(numbers) < 3 or any(number is None or number.size != 1 for number in numbers):
        return None
    start, end, along, *step = (int(number.numpy().reshape(())) for number in numbers if number is not None)
    return (start, end) if along in (axis, -1) and step in ([], [1]) else None


def _replace(old: ir.Value, new: ir.Value, shapes: Shapes) -> None:
    if old in shapes:
        shapes[new] = shapes[old]
    take_place(old, new)


_Rewrite = Callable[[ir.Graph, ir.Node, Shapes], ir.Value | None]
_REWRITES: Final[dict[str, tuple[tuple[str, _Rewrite], ...]]] = {
    "Add": (("re-injected background", _mix_by_product),),
    "Concat": (
        ("rows of slots", _gather_once),
        ("sinusoids", _swap_halves),
        ("re-injection", _blend_first_row),
    ),
    "Div": (("guidance rescale", _divide_deviations),),
}
