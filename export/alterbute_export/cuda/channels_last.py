"""A graph's convolutions and group normalizations with channels last, in the operators that ONNX Runtime's CUDA provider has for them.

cuDNN computes convolutions of half precision with channels last and transposes pictures that come otherwise; a group normalization
as torch exports it takes nine launches and a batch normalization over 32 "channels". From the first convolution to the last, this
rewrite leaves one transpose at each end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common as passes

from alterbute_export.cuda.concrete_shapes import find_shapes
from alterbute_export.cuda.group_norm import ExportedGroupNorm, find_group_norm_fault, find_group_norms
from alterbute_export.cuda.nhwc_region import ChannelsLastWriter
from alterbute_export.cuda.no_ops import remove_no_ops
from alterbute_export.cuda.residual import fuse_sums
from alterbute_export.cuda.stacks import split_stacks
from alterbute_export.cuda.static_shapes import constant_shape, remove_shape_arithmetic, share_shapes
from alterbute_export.onnx_io.ir import CONTRIB_DOMAIN, find_producer, list_readers, make_node, weight_source

_OPERATORS = ("GroupNorm", "SkipGroupNorm", "NhwcConv", "BiasAdd")
# Operators that are left where a pattern was not recognised.
_KEPT = {"Conv": "Conv of another form", "InstanceNormalization": "normalization of another form"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteReport:
    """What a rewrite made of a graph."""

    fused: Mapping[str, int]
    """Operators of the rewritten graph, counted by type."""
    unfused: Mapping[str, int]
    """Patterns that kept the form of the plain graph, counted by reason; `Variant.unfused` of the manifest."""


def make_channels_last(model: ir.Model) -> RewriteReport:
    """Rewrite a graph for ONNX Runtime's CUDA provider: channels last, fused normalizations and biases, no shape arithmetic.

    Args:
        model: An fp32 graph as the exporter writes it, with fused attention; changed in place. Half precision comes after it.

    Returns:
        How many operators were made, and what was left as it was.
    """
    unfused: Counter[str] = Counter()
    remove_no_ops(model)
    split_stacks(model)
    unfused["shape arithmetic"] += remove_shape_arithmetic(model)
    remove_no_ops(model)
    norms: list[ExportedGroupNorm] = []
    for norm in find_group_norms(model.graph):
        fault = find_group_norm_fault(norm.channels, norm.groups)
        if fault is None:
            norms.append(norm)
        else:
            unfused[fault] += 1
    refused = unfused.total() - unfused["shape arithmetic"]
    ChannelsLastWriter(model, find_shapes(model), norms).convert()
    fuse_sums(model)
    model.graph.sort()
    share_shapes(model)
    _flatten_products(model)
    model.graph.sort()
    passes.RemoveUnusedNodesPass()(model)
    for op_type, reason in _KEPT.items():
        unfused[reason] += sum(node.op_type == op_type for node in model.graph)
    unfused[_KEPT["InstanceNormalization"]] -= refused
    operators = Counter(node.op_type for node in model.graph if node.domain == CONTRIB_DOMAIN)
    if any(operators[name] for name in _OPERATORS):
        model.opset_imports[CONTRIB_DOMAIN] = 1
    return RewriteReport(
        fused={name: operators[name] for name in _OPERATORS if operators[name]},
        unfused={reason: count for reason, count in unfused.items() if count},
    )


def _flatten_products(model: ir.Model) -> None:
    """Make a sequence of pixels before a product with a bias, not after it, so that both are the first of what follows them."""
    for node in [node for node in model.graph if node.op_type == "Reshape"]:
        shape = node.inputs[1].const_value if node.inputs[1] is not None else None
        added = find_producer(node, 0)
        product = find_producer(added, 0) if added is not None and added.op_type == "Add" else None
        if (
            shape is None
            or added is None
            or product is None
            or product.op_type != "MatMul"
            or product.inputs[1] is None
        ):
            continue
        weight = weight_source(product.inputs[1])
        target = shape.numpy().tolist()
        is_single = list_readers(added) == [node] and list_readers(product) == [added]
        if weight is None or weight.const_value is None or len(target) != 3 or target[:2] != [0, -1] or not is_single:
            continue
        channels = weight.const_value.size // target[2]
        name = f"{product.outputs[0].name}_pixels"
        flat = constant_shape(model.graph, (0, -1, channels))
        pixels = make_node("Reshape", [product.inputs[0], flat], name=name, output=name)
        model.graph.insert_before(product, pixels)
        product.replace_input_with(0, pixels.outputs[0])
        node.outputs[0].replace_all_uses_with(added.outputs[0])
