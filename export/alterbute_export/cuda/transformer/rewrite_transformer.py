"""A step graph's transformers in the operators of ONNX Runtime's CUDA provider."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir
from onnx_ir.passes import common as passes

from alterbute_export.cuda.channels_last import RewriteReport
from alterbute_export.cuda.concrete_shapes import find_shapes
from alterbute_export.cuda.no_ops import remove_no_ops
from alterbute_export.cuda.transformer.attention_inputs import pack_products, scale_values
from alterbute_export.cuda.transformer.fused_sums import fuse_first_norms, fuse_gated_gelus, fuse_norms, fuse_residuals
from alterbute_export.cuda.transformer.step_ends import shorten_ends
from alterbute_export.cuda.transformer.time_embedding import join_projections
from alterbute_export.onnx_io.ir import CONTRIB_DOMAIN


def rewrite_transformer(model: ir.Model) -> RewriteReport:
    """Rewrite transformers, time embedding and ends of a step graph, in place; half precision comes after it.

    Args:
        model: An fp32 graph with fused attention, with channels last or not.

    Returns:
        How many operators were made, and what was left as it was.
    """
    graph = model.graph
    unfused: Counter[str] = Counter()
    remove_no_ops(model)
    shapes = find_shapes(model)
    fused = Counter({"packed attention": pack_products(graph, unfused), "scaled values": scale_values(graph)})
    fused["BiasSplitGelu"] = fuse_gated_gelus(graph, unfused)
    fused["SkipLayerNormalization"] = fuse_norms(graph, shapes, unfused)
    # What has been replaced must not count as a reader of what remains.
    passes.RemoveUnusedNodesPass()(model)
    fused["SkipLayerNormalization"] += fuse_first_norms(graph)
    passes.RemoveUnusedNodesPass()(model)
    fused["BiasAdd"] = fuse_residuals(graph, shapes)
    fused["joined projections"] = join_projections(graph)
    fused += shorten_ends(graph, shapes)
    graph.sort()
    passes.RemoveUnusedNodesPass()(model)
    if any(node.domain == CONTRIB_DOMAIN for node in graph):
        model.opset_imports[CONTRIB_DOMAIN] = 1
    return RewriteReport(
        fused={name: count for name, count in fused.items() if count},
        unfused={reason: count for reason, count in unfused.items() if count},
    )
