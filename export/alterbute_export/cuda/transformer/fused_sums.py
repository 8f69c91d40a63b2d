"""Sums of a transformer's states `[N,S,C]` in one launch with what stands around them.

`SkipLayerNormalization` adds a product, its bias and the residual, and normalizes the sum, which is another output where it is read.
`BiasAdd` adds product, bias and residual. `BiasSplitGelu` adds the bias of a gated GELU's product, splits it and multiplies.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import onnx_ir as ir

from alterbute_export.cuda.concrete_shapes import Shapes, transposed
from alterbute_export.cuda.transformer.patterns import (
    Term,
    find_product,
    find_single_reader,
    find_stored_shape,
    split_bias,
    take_place,
)
from alterbute_export.onnx_io.ir import CONTRIB_DOMAIN, is_stored, make_node, read_int

GATED_WIDTHS: Final = (2560, 5120, 10240)
"""Widths for which ONNX Runtime has had a BiasSplitGelu since it has the operator: of UNets with 320, 640 and 1280 channels."""


def fuse_gated_gelus(graph: ir.Graph, unfused: Counter[str]) -> int:
    """Replace `a * GELU(b)` of the halves of `x + bias`, in place.

    Returns:
        How many were replaced; `unfused` counts gated GELUs that stay as they are, by reason.
    """
    fused = 0
    for gelu in [node for node in graph if node.op_type == "Gelu" and not node.domain]:
        gate = gelu.inputs[0]
        split = gate.producer() if gate is not None else None
        product = find_single_reader(gelu.outputs[0])
        if split is None or split.op_type != "Split" or len(split.outputs) != 2 or split.outputs[1] is not gate:
            continue
        if (
            product is None
            or product.op_type != "Mul"
            or split.outputs[0] not in product.inputs
            or split.inputs[0] is None
        ):
            continue
        term = split_bias(split.inputs[0])
        reason = _find_gelu_fault(gelu, split, term)
        if reason:
            unfused[reason] += 1
            continue
        name = f"{product.outputs[0].name}_gated"
        node = make_node("BiasSplitGelu", [term.value, term.bias], domain=CONTRIB_DOMAIN, name=name, output=name)
        graph.insert_before(product, node)
        take_place(product.outputs[0], node.outputs[0])
        fused += 1
    return fused


def fuse_norms(graph: ir.Graph, shapes: Shapes, unfused: Counter[str]) -> int:
    """Replace every layer normalization of a sum, in place.

    Args:
        graph: The graph.
        shapes: Shapes of its values.
        unfused: Counts normalizations of a sum that stay as they are, by reason.

    Returns:
        How many were replaced.
    """
    fused = 0
    for norm in [node for node in graph if node.op_type == "LayerNormalization"]:
        total = norm.inputs[0].producer() if norm.inputs[0] is not None else None
        if total is None or total.op_type != "Add" or any(value is None or is_stored(value) for value in total.inputs):
            continue
        reason = _find_norm_fault(norm, total, shapes)
        if reason:
            unfused[reason] += 1
        else:
            _fuse_norm(graph, norm, total, shapes)
            fused += 1
    return fused


def fuse_first_norms(graph: ir.Graph) -> int:
    """Replace the layer normalization of a product with a bias, whose sum is also the skip of the next one, in place.

    A normalization does not change with the scale of what it reads: of `x + x + 2 bias`, with four times its epsilon, it is that of
    `x + bias`. The next one adds the bias with its own. It comes after `fuse_norms`.

    Returns:
        How many were replaced.
    """
    fused = 0
    for norm in [node for node in graph if node.op_type == "LayerNormalization"]:
        source = norm.inputs[0]
        readers = [reader for reader, _ in source.uses() if reader is not norm] if source is not None else []
        total = source.producer() if source is not None else None
        if source is None or total is None or total.op_type != "Add" or len(readers) != 1 or source.is_graph_output():
            continue
        after = readers[0]
        parts = _split_product(total)
        if parts is None or after.op_type != "SkipLayerNormalization" or after.inputs[1] is not source:
            continue
        if len(norm.outputs) > 1 or find_stored_shape(norm.inputs[2]) is None:
            continue
        _fuse_first_norm(graph, norm, after, *parts)
        fused += 1
    return fused


def fuse_residuals(graph: ir.Graph, shapes: Shapes) -> int:
    """Replace every sum of a product with a bias and another value of its shape, in place.

    Returns:
        How many were replaced.
    """
    fused = 0
    for total in [node for node in graph if node.op_type == "Add"]:
        if not _is_sum(total, shapes):
            continue
        first, skip = _order_terms(total)
        if first.bias is None or find_product(first.value) is None:
            continue
        name = f"{total.outputs[0].name}_sum"
        node = make_node("BiasAdd", [first.value, first.bias, skip], domain=CONTRIB_DOMAIN, name=name, output=name)
        graph.insert_before(total, node)
        take_place(total.outputs[0], node.outputs[0])
        fused += 1
    return fused


def _split_product(total: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """Product and stored bias `[C]` of a sum, or None."""
    for inner, bias in (total.inputs, total.inputs[::-1]):
        if inner is not None and bias is not None and find_product(inner) and len(find_stored_shape(bias) or ()) == 1:
            return inner, bias
    return None


def _fuse_first_norm(graph: ir.Graph, norm: ir.Node, after: ir.Node, product: ir.Value, bias: ir.Value) -> None:
    name = str(norm.outputs[0].name)
    twice = make_node("Add", [bias, bias], name=f"{name}_bias", output=f"{name}_bias")
    epsilon = 4 * (norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5)
    node = make_node(
        "SkipLayerNormalization",
        [product, product, norm.inputs[1], norm.inputs[2], twice.outputs[0]],
        attributes={"epsilon": epsilon},
        domain=CONTRIB_DOMAIN,
        name=f"{name}_skip",
        output=f"{name}_skip",
    )
    graph.insert_before(norm, [twice, node])
    take_place(norm.outputs[0], node.outputs[0])
    graph.remove(norm, safe=True)
    name = str(after.outputs[0].name)
    own = after.inputs[4] if len(after.inputs) > 4 else None
    both = make_node("Add", [own, bias], name=f"{name}_bias", output=f"{name}_bias") if own is not None else None
    if both is not None:
        graph.insert_before(after, both)
    after.resize_inputs(5)
    after.replace_input_with(4, both.outputs[0] if both is not None else bias)
    after.replace_input_with(1, product)


def _find_gelu_fault(gelu: ir.Node, split: ir.Node, term: Term) -> str:
    shape = find_stored_shape(term.bias)
    if (
        shape is None
        or find_product(term.value) is None
        or any(len(list(value.uses())) != 1 for value in split.outputs)
    ):
        return "gated GELU of another form than product, bias and halves"
    if shape[0] not in GATED_WIDTHS:
        return f"gated GELU of width {shape[0]}"
    if read_int(split, "axis", 0) not in (2, -1) or len(split.inputs) > 1:
        return "gated GELU of parts that are no halves"
    if "approximate" in gelu.attributes and gelu.attributes["approximate"].as_string() != "none":
        return "gated GELU by an approximation"
    return ""


def _find_norm_fault(norm: ir.Node, total: ir.Node, shapes: Shapes) -> str:
    scale = find_stored_shape(norm.inputs[1])
    beta = find_stored_shape(norm.inputs[2]) if len(norm.inputs) > 2 else None
    if not _is_sum(total, shapes):
        return "layer normalization of a sum of other shapes than [N,S,C] twice"
    if len(norm.outputs) > 1 or read_int(norm, "axis", -1) not in (2, -1):
        return "layer normalization over other axes than the last"
    if scale is None or beta is None or scale != beta or len(scale) != 1:
        return "layer normalization without stored scale and shift"
    return ""


def _is_sum(total: ir.Node, shapes: Shapes) -> bool:
    """Whether a node adds two computed values `[N,S,C]` of one shape."""
    values = (*total.inputs, total.outputs[0])
    if any(value is None or value not in shapes or is_stored(value) for value in values):
        return False
    found = {shapes[value] for value in values if value is not None}
    return len(found) == 1 and len(next(iter(found))[0]) == 3 and len(set(transposed(next(iter(found)))[2])) == 1


def _order_terms(total: ir.Node) -> tuple[Term, ir.Value]:
    """The terms of a sum: first one with a bias that can be taken, if there is any."""
    left, right = total.inputs
    assert left is not None and right is not None
    first = split_bias(left)
    return (first, right) if first.bias is not None else (split_bias(right), left)


def _fuse_norm(graph: ir.Graph, norm: ir.Node, total: ir.Node, shapes: Shapes) -> None:
    first, skip = _order_terms(total)
    result = total.outputs[0]
    has_sum = find_single_reader(result) is None
    epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5
    inputs = [first.value, skip, norm.inputs[1], norm.inputs[2], *([first.bias] if first.bias is not None else [])]
    name = f"{norm.outputs[0].name}_skip"
    node = ir.node(
        "SkipLayerNormalization",
        inputs,
        {"epsilon": epsilon},
        domain=CONTRIB_DOMAIN,
        num_outputs=4 if has_sum else 1,
        name=name,
    )
    node.outputs[0].name = name
    graph.insert_before(total, node)
    shapes[node.outputs[0]] = shapes[result]
    take_place(norm.outputs[0], node.outputs[0])
    if has_sum:
        # Mean and deviation, which only training reads.
        node.outputs[1].name = node.outputs[2].name = ""
        node.outputs[3].name = f"{name}_sum"
        shapes[node.outputs[3]] = shapes[result]
        take_place(result, node.outputs[3])
    graph.remove(norm, safe=True)
