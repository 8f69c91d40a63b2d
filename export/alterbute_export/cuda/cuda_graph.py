"""A graph made for ONNX Runtime's CUDA provider: all rewrites in their order, and the same graph in standard operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

import onnx_ir as ir

from alterbute_export.cuda.channels_last import RewriteReport, make_channels_last
from alterbute_export.cuda.definitions import DEFINITIONS, Definition, expand_operators
from alterbute_export.cuda.transformer.rewrite_transformer import rewrite_transformer
from alterbute_export.cuda.transformer.standard_forms import TRANSFORMER_DEFINITIONS
from alterbute_export.onnx_io.ir import CONTRIB_DOMAIN
from alterbute_export.rewrites.fused_attention import fuse_attention

_ALL_DEFINITIONS: Final[Mapping[str, Definition]] = {**DEFINITIONS, **TRANSFORMER_DEFINITIONS}
_CPU_OPERATORS: Final = frozenset({"MultiHeadAttention", "SkipLayerNormalization"})


def rewrite_for_cuda(model: ir.Model, *, fp32_values: Collection[str] = ()) -> RewriteReport:
    """Rewrite an fp32 graph for ONNX Runtime's CUDA kernels, in place; half precision and the prologue come after it.

    A value that overflows fp16 could disappear inside an operator that computes in fp16. A graph with such a value outside of its
    attentions, which sum in fp32, gets fused attention only; so does one with an operator whose shapes are not known.

    Args:
        model: A graph as the exporter writes it, with decomposed attention.
        fp32_values: Names of values that overflow fp16.

    Returns:
        How many operators were made, and what was left as it was.

    Raises:
        AttentionError: an attention has another form than the exporter writes.
    """
    attentions = fuse_attention(model)
    faults = {
        "values that overflow fp16": sum(value.name in fp32_values for node in model.graph for value in node.outputs),
        "operators of another domain": sum(node.domain not in ("", CONTRIB_DOMAIN) for node in model.graph),
    }
    if any(faults.values()):
        unfused = {reason: count for reason, count in faults.items() if count}
        return RewriteReport(fused={"MultiHeadAttention": attentions}, unfused=unfused)
    reports = [make_channels_last(model), rewrite_transformer(model)]
    fused, kept = Counter({"MultiHeadAttention": attentions}), Counter[str]()
    for report in reports:
        fused.update(report.fused)
        kept.update(report.unfused)
    return RewriteReport(fused=dict(+fused), unfused=dict(+kept))


def expand_for_cpu(model: ir.Model) -> int:
    """Replace the operators of `rewrite_for_cuda` that ONNX Runtime's CPU provider lacks by their definitions, in place.

    Attention stays one node: decomposed, it takes several times the memory and time.

    Returns:
        How many nodes were replaced.
    """
    return expand_operators(model, {name: _ALL_DEFINITIONS[name] for name in _ALL_DEFINITIONS.keys() - _CPU_OPERATORS})


def expand_all(model: ir.Model) -> int:
    """Replace every operator that `rewrite_for_cuda` writes by its definition in standard ONNX, in place.

    Returns:
        How many nodes were replaced.
    """
    return expand_operators(model, _ALL_DEFINITIONS)
