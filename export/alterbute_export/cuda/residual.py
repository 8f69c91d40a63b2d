"""Sums with a second input and a bias in one launch: `SkipGroupNorm` before a normalization, `BiasAdd` elsewhere.

ONNX Runtime adds the bias of a convolution or product in a pass of its own. Where the result is added to another value anyway, the
operator that adds takes the bias too; two biases of one sum are added when the graph is loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes import common as passes

from alterbute_export.cuda.concrete_shapes import Shapes, find_shapes, transposed
from alterbute_export.cuda.static_shapes import constant_shape, read_shape
from alterbute_export.onnx_io.ir import CONTRIB_DOMAIN, find_producer, make_node, weight_source


def fuse_sums(model: ir.Model) -> Counter[str]:
    """Replace sums of pictures `[N,h,w,C]` by operators that also add biases or normalize, in place.

    Returns:
        How many operators of each type were made.
    """
    shapes = find_shapes(model)
    fused: Counter[str] = Counter()
    for norm in [node for node in model.graph if node.op_type == "GroupNorm"]:
        fused["SkipGroupNorm"] += _fuse_norm(model.graph, norm, shapes)
    for total in [node for node in model.graph if node.op_type == "Add"]:
        fused["BiasAdd"] += _fuse_bias(model.graph, total, shapes)
    passes.RemoveUnusedNodesPass()(model)
    return fused


def _fuse_norm(graph: ir.Graph, norm: ir.Node, shapes: Shapes) -> bool:
    """Add within the normalization what it normalizes the sum of."""
    total = find_producer(norm, 0)
    if total is None or total.op_type != "Add":
        return False
    terms = _order_terms(total, shapes)
    if terms is None:
        return False
    picture, skip = terms
    channels = shapes[total.outputs[0]][0][-1]
    picture, *biases = _take_bias(picture, total, channels)
    if shapes[skip] == shapes[total.outputs[0]]:
        skip, *more = _take_bias(skip, total, channels)
        biases += more
    else:
        skip = _find_rows(skip, shapes)
    name = str(norm.outputs[0].name)
    inputs = [picture, *norm.inputs[1:3], skip, *_add_biases(graph, total, biases)]
    has_sum = any(reader is not norm for reader, _ in total.outputs[0].uses()) or total.outputs[0].is_graph_output()
    node = ir.node(
        "SkipGroupNorm", inputs, norm.attributes, domain=CONTRIB_DOMAIN, num_outputs=1 + has_sum, name=f"{name}_skip"
    )
    node.outputs[0].name = f"{name}_skip"
    graph.insert_before(total, node)
    _replace(norm.outputs[0], node.outputs[0], shapes)
    if has_sum:
        node.outputs[1].name = f"{total.outputs[0].name}_sum"
        _replace(total.outputs[0], node.outputs[1], shapes)
    graph.remove(norm, safe=True)
    return True


def _fuse_bias(graph: ir.Graph, total: ir.Node, shapes: Shapes) -> bool:
    """Add biases together with the sum of two pictures that have them."""
    terms = _order_terms(total, shapes)
    if terms is None or shapes[terms[1]] != shapes[total.outputs[0]] or total.outputs[0].is_graph_output():
        return False
    channels = shapes[total.outputs[0]][0][-1]
    (picture, *biases), (skip, *more) = (_take_bias(value, total, channels) for value in terms)
    biases = [*biases, *more]
    if not biases:
        return False
    rows = [_flatten(graph, total, value, channels, shapes) for value in (picture, skip)]
    name = f"{total.outputs[0].name}_biased"
    added = make_node(
        "BiasAdd", [rows[0], *_add_biases(graph, total, biases), rows[1]], domain=CONTRIB_DOMAIN, name=name, output=name
    )
    shape = read_shape(graph, skip)
    back = make_node("Reshape", [added.outputs[0], shape], name=f"{name}_picture", output=f"{name}_picture")
    graph.insert_before(total, [added, back])
    _replace(total.outputs[0], back.outputs[0], shapes)
    return True


def _order_terms(total: ir.Node, shapes: Shapes) -> tuple[ir.Value, ir.Value] | None:
    """The terms of a sum of two computed values, the first of the sum's shape `[N,h,w,C]`, the second too or `[N,1,1,C]`."""
    first, second = total.inputs
    if (
        first is None
        or second is None
        or any(value not in shapes or weight_source(value) is not None for value in (first, second))
    ):
        return None
    wanted = shapes.get(total.outputs[0])
    if wanted is None or len(wanted[0]) != 4 or len({shape[-1] for shape in wanted}) != 1:
        return None
    rows = tuple((shape[0], 1, 1, shape[3]) for shape in wanted)
    for picture, skip in ((first, second), (second, first)):
        if shapes[picture] == wanted and shapes[skip] in (wanted, rows):
            return picture, skip
    return None


def _find_rows(value: ir.Value, shapes: Shapes) -> ir.Value:
    """The value `[N,C]` behind `[N,1,1,C]`, or the value itself."""
    rows = tuple((shape[0], shape[-1]) for shape in shapes[value])
    found: ir.Value | None = value
    while found is not None:
        if shapes.get(found) == rows:
            return found
        producer = found.producer()
        found = producer.inputs[0] if producer is not None and producer.op_type in ("Reshape", "Unsqueeze") else None
    return value


def _take_bias(value: ir.Value, reader: ir.Node, channels: int) -> list[ir.Value]:
    """A value without its bias, then the bias: of a convolution or product that nothing else reads; else only the value."""
    producer = value.producer()
    others = {user for user, _ in value.uses() if user is not reader and user.op_type != "Shape"}
    if producer is None or others or value.is_graph_output() or [user for user, _ in value.uses()].count(reader) != 1:
        return [value]
    if producer.op_type == "NhwcConv" and len(producer.inputs) == 3 and producer.inputs[2] is not None:
        bias = producer.inputs[2]
        producer.replace_input_with(2, None)
        return [value, bias]
    if producer.op_type == "Add":
        for product, offset in (producer.inputs, producer.inputs[::-1]):
            if (
                product is not None
                and offset is not None
                and _is_bias(offset, channels)
                and weight_source(product) is None
            ):
                return [product, offset]
    if producer.op_type == "Reshape" and producer.inputs[0] is not None:
        inner, *bias_found = _take_bias(producer.inputs[0], producer, channels)
        if bias_found:
            producer.replace_input_with(0, inner)
            return [value, *bias_found]
    return [value]


def _is_bias(value: ir.Value, channels: int) -> bool:
    stored = weight_source(value)
    return (
        stored is not None and stored.const_value is not None and list(stored.const_value.shape.numpy()) == [channels]
    )


def _add_biases(graph: ir.Graph, total: ir.Node, biases: Sequence[ir.Value]) -> Sequence[ir.Value]:
    """No bias, or one that is the sum of all."""
    if len(biases) < 2:
        return biases
    name = f"{total.outputs[0].name}_bias"
    node = make_node("Add", biases, name=name, output=name)
    graph.insert_before(total, node)
    return node.outputs


def _flatten(graph: ir.Graph, total: ir.Node, value: ir.Value, channels: int, shapes: Shapes) -> ir.Value:
    """A picture as a sequence of pixels, `[N,hw,C]`; what was a sequence before is taken from there."""
    producer = value.producer()
    before = producer.inputs[0] if producer is not None and producer.op_type == "Reshape" else None
    if before is not None and before in shapes:
        dims, picture = transposed(shapes[before]), transposed(shapes[value])
        if len(dims) == 3 and (dims[0], dims[2]) == (picture[0], picture[3]):
            return before
    name = f"{value.name}_pixels"
    for reader, _ in value.uses():
        if reader.name == name:
            return reader.outputs[0]
    node = make_node("Reshape", [value, constant_shape(graph, (0, -1, channels))], name=name, output=name)
    graph.insert_before(total, node)
    return node.outputs[0]


def _replace(value: ir.Value, replacement: ir.Value, shapes: Shapes) -> None:
    shapes[replacement] = shapes[value]
    value.replace_all_uses_with(replacement)
