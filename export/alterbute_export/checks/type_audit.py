"""Element types of a graph's arithmetic: multiply-adds of convolutions, matrix products and attention, counted by type."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import onnx_ir as ir
from alterbute.bundle import Manifest, Precision, TypeAudit
from onnxscript import optimizer

from alterbute_export.cuda.cuda_graph import expand_all
from alterbute_export.errors import PrecisionError
from alterbute_export.onnx_io.ir import read_int
from alterbute_export.onnx_io.write_onnx import quiet_tracing

_NAMES: Final = {ir.DataType.FLOAT: "fp32", ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16"}
_MIN_SHARE: Final = 0.5
"""Smallest share of a graph's multiply-adds that must have its precision."""


def audit_graph(
    path: Path,
    sizes: Mapping[str, int],
    *,
    islands: Mapping[str, int] | None = None,
    overflow: Mapping[str, float] | None = None,
) -> TypeAudit:
    """Count a written graph's multiply-adds by type.

    Args:
        path: The graph; its weights are not read.
        sizes: Value of every free dimension.
        islands: Number of operators that stayed fp32 on purpose, by reason; copied to the result.
        overflow: Magnitude of the values that were too large for fp16, by name; copied to the result.
    """
    model = ir.load(path)
    # Shape inference knows standard operators only.
    expand_all(model)
    for value in model.graph.inputs:
        assert value.shape is not None
        value.shape = ir.Shape([size if isinstance(size, int) else sizes[str(size.value)] for size in value.shape])
    for value in model.graph.outputs:
        value.shape = None
    # With its inputs' sizes known, folding the graph's shape arithmetic makes every other size known.
    with quiet_tracing():
        optimizer.fold_constants(model, onnx_shape_inference=True)
    work: Counter[str] = Counter()
    for node in model.graph:
        amount = _multiply_adds(node)
        if amount:
            work[_type_name(node)] += amount
    total = work.total()
    return TypeAudit(
        multiply_adds=total,
        shares={kind: float(f"{amount / total:.4f}") for kind, amount in sorted(work.items())} if total else {},
        islands=dict(islands or {}),
        overflow={name: float(f"{size:.3g}") for name, size in (overflow or {}).items()},
    )


def check_types(graph: str, precision: Precision, audit: TypeAudit) -> None:
    """Refuse a graph most of whose arithmetic has another precision than it should have.

    Args:
        graph: The graph's name.
        precision: The precision that it should have.
        audit: Its multiply-adds by type.

    Raises:
        PrecisionError: most of its arithmetic is of another type.
    """
    share = audit.shares.get(precision, 0.0)
    if audit.multiply_adds and share < _MIN_SHARE:
        reasons = ", ".join(f"{count} operators for {reason}" for reason, count in audit.islands.items())
        raise PrecisionError(
            f"{share:.0%} of the arithmetic of graph {graph!r} is {precision} (kept fp32: {reasons or 'nothing on purpose'})",
            f"at least {_MIN_SHARE:.0%} of a graph of that precision",
            "export in bf16, which does not overflow, or in fp32",
        )


def edit_sizes(*, resolution: int, factor: int, tokens: int) -> dict[str, int]:
    """Sizes of the graphs' free dimensions in one edit with text guidance.

    Args:
        resolution: Side of the window in pixels.
        factor: Pixels per latent cell, along one side.
        tokens: Length of a tokenized prompt.
    """
    cells = resolution // factor
    return {"B": 1, "N": 2, "M": 1, "T": tokens, "S": resolution, "h": cells, "w": cells}


def manifest_sizes(manifest: Manifest) -> dict[str, int]:
    """Sizes of the graphs' free dimensions in one edit at the bundle's own resolution."""
    return edit_sizes(resolution=manifest.resolution, factor=manifest.latent_factor, tokens=manifest.text.tokens)


def _type_name(node: ir.Node) -> str:
    """Type that a node computes in; int8 between Q/DQ pairs, where the graph is fp32 but ONNX Runtime's kernels are int8."""
    if all(value is not None and _is_dequantized(value) for value in node.inputs[:2]):
        return "int8"
    kind = node.outputs[0].dtype or (node.inputs[0].dtype if node.inputs[0] is not None else None)
    return _NAMES.get(kind, "other") if kind is not None else "other"


def _is_dequantized(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _multiply_adds(node: ir.Node) -> int:
    """Multiply-adds of a convolution, matrix product or attention, 0 of every other node; an unknown size counts as 1."""
    first, second = (node.inputs[index] if len(node.inputs) > index else None for index in (0, 1))
    if node.op_type in ("Conv", "ConvTranspose") and second is not None:
        # Every output element of a convolution, and every input element of a transposed one, is multiplied by
        # (channels on the other side) x (taps) weights.
        elements = node.outputs[0] if node.op_type == "Conv" else first
        return math.prod(_sizes(elements)) * math.prod(_sizes(second)[1:])
    if node.op_type == "MatMul":
        return math.prod(_sizes(node.outputs[0])) * (_sizes(first) or [1])[-1]
    if node.op_type == "Gemm":
        inner_axis = 0 if read_int(node, "transA", 0) else -1
        return math.prod(_sizes(node.outputs[0])) * (_sizes(first) or [1])[inner_axis]
    if node.op_type in ("MultiHeadAttention", "Attention"):
        return 2 * math.prod(_sizes(first)) * (_sizes(second) or [1, 1])[-2]
    return 0


def _sizes(value: ir.Value | None) -> list[int]:
    if value is None or value.shape is None:
        return []
    return [size if isinstance(size, int) else 1 for size in value.shape]
