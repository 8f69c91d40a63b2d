"""Attention as one `MultiHeadAttention` node: the variant of a graph that ONNX Runtime runs.

Decomposed attention stores all its scores: 1 GB for the 64x64 level of an SD1.5 UNet with guidance. ONNX Runtime's own operator
computes them in tiles that stay in cache. TensorRT does not have this operator and fuses the decomposed form itself, so the
bundle has both files, over the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import onnx_ir as ir
from alterbute.bundle import Graph, Parity, Variant
from onnx_ir.passes import common as passes

from alterbute_export.errors import AttentionError
from alterbute_export.onnx_io.ir import CONTRIB_DOMAIN, find_producer, list_readers, make_node, write_model
from alterbute_export.rewrites.folded_upsampling import fold_upsampling

FUSED_GRAPHS: Final = ("step", "scene", "decode")
"""The graphs whose attention is fused. The sequences of prompt and identity encoders are short: their attention takes 1 % of an edit."""
FUSED_SUFFIX: Final = ".mha.onnx"
_SPLIT: Final = (0, 2, 1, 3)
_DECOMPOSED: Final = ("tensorrt", "tensorrt_rtx")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Attention:
    """One decomposed attention: its inputs and output `[N,tokens,C]`, and the attributes of the node that replaces it."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    out: ir.Value
    heads: int
    scale: float


def add_fused(name: str, graph: Graph, path: Path, check: Callable[[Path], Parity]) -> Graph:
    """Write `<name>.mha.onnx` beside a written graph that has attention or upsampling, and list both.

    Args:
        name: The graph's name.
        graph: Its manifest entry, with the decomposed file as the variant of ONNX Runtime.
        path: The decomposed file.
        check: Compares a written file with torch and returns its parity.

    Returns:
        The manifest entry with the fused file for ONNX Runtime, the decomposed one for TensorRT, and the larger error of the two;
        `graph` itself when nothing can be fused.

    Raises:
        AttentionError: an attention has another form than the exporter writes.
    """
    if name not in FUSED_GRAPHS:
        return graph
    model = ir.load(path)
    if not fuse_attention(model) + fold_upsampling(model):
        return graph
    fused = path.with_suffix(FUSED_SUFFIX)
    write_model(model, fused, has_value_info=False)
    parities = [parity for parity in (graph.parity, check(fused)) if parity is not None]
    kept = [variant for variant in graph.variants if variant.backend != "onnxruntime"]
    plain = next(variant for variant in graph.variants if variant.backend == "onnxruntime")
    variants = (
        Variant(backend="onnxruntime", file=fused.name),
        *kept,
        *(replace(plain, backend=backend) for backend in _DECOMPOSED),
    )
    return replace(graph, variants=variants, parity=max(parities, key=lambda parity: parity.relative_error))


def fuse_attention(model: ir.Model) -> int:
    """Replace every unmasked `softmax(Q K^T) V` by a `MultiHeadAttention` node, in place.

    Returns:
        How many were replaced.

    Raises:
        AttentionError: an attention has another form than the exporter writes.
    """
    attentions = [_read_attention(node) for node in model.graph if _is_attention(node)]
    for attention in attentions:
        node = make_node(
            "MultiHeadAttention",
            [attention.query, attention.key, attention.value],
            attributes={"num_heads": attention.heads, "scale": attention.scale},
            domain=CONTRIB_DOMAIN,
            name=f"mha_{attention.out.name}",
            output=f"{attention.out.name}_mha",
        )
        last = attention.out.producer()
        assert last is not None
        model.graph.insert_before(last, node)
        attention.out.replace_all_uses_with(node.outputs[0])
    if attentions:
        model.opset_imports[CONTRIB_DOMAIN] = 1
        passes.RemoveUnusedNodesPass()(model)
    return len(attentions)


def _is_attention(node: ir.Node) -> bool:
    """Whether a node is a softmax directly between two matrix products; with a mask there is an Add before it."""
    if node.op_type != "Softmax":
        return False
    scores = find_producer(node, 0)
    reader_types = [reader.op_type for reader in list_readers(node)]
    return scores is not None and scores.op_type == "MatMul" and reader_types == ["MatMul"]


def _read_attention(softmax: ir.Node) -> _Attention:
    """The attention around a softmax, read from the nodes that torch's `scaled_dot_product_attention` is exported to."""
    scores = _producer(softmax, 0, "MatMul")
    mixed = _reader(softmax, "MatMul")
    query_scaled, key_scaled = _producer(scores, 0, "Mul"), _producer(scores, 1, "Mul")
    query = _find_split(_producer(query_scaled, 0, "Transpose"))
    # torch transposes the key's last two axes in a flat [N*heads, tokens, width].
    flat = _producer(_producer(key_scaled, 0, "Reshape"), 0, "Transpose")
    key = _find_split(_producer(_producer(flat, 0, "Reshape"), 0, "Transpose"))
    value = _find_split(_producer(mixed, 1, "Transpose"))
    joined = _reader(mixed, "Transpose")
    if _perm(joined) != _SPLIT or _perm(flat) != (0, 2, 1):
        raise _unknown_form(joined, f"axes in the order {_perm(joined)}", f"{_SPLIT}")
    return _Attention(
        query=_input(query, 0),
        key=_input(key, 0),
        value=_input(value, 0),
        out=_reader(joined, "Reshape").outputs[0],
        heads=_read_heads(query),
        scale=_read_number(query_scaled, 1) * _read_number(key_scaled, 1),
    )


def _find_split(transpose: ir.Node) -> ir.Node:
    """The Reshape `[N,S,C] -> [N,S,heads,width]` before a Transpose to `[N,heads,S,width]`."""
    if _perm(transpose) != _SPLIT:
        raise _unknown_form(transpose, f"axes in the order {_perm(transpose)}", f"{_SPLIT}")
    return _producer(transpose, 0, "Reshape")


def _read_heads(reshape: ir.Node) -> int:
    shape = _input(reshape, 1)
    joined = shape.producer()
    if shape.const_value is not None:
        heads = int(shape.const_value.numpy()[2])
    elif joined is not None and joined.op_type == "Concat" and len(joined.inputs) == 4:
        heads = int(_read_number(joined, 2))
    else:
        raise _unknown_form(reshape, "a shape that is computed", "four sizes, the third a constant")
    if heads < 1:
        raise _unknown_form(reshape, f"{heads} heads", "at least one")
    return heads


def _read_number(node: ir.Node, index: int) -> float:
    tensor = _input(node, index).const_value
    if tensor is None or tensor.size != 1:
        raise _unknown_form(node, f"input {index} that is no constant", "a constant number")
    return float(tensor.numpy().reshape(()))


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    if value is None:
        raise _unknown_form(node, f"no input {index}", "an input")
    return value


def _producer(node: ir.Node, index: int, op_type: str) -> ir.Node:
    """The node that computes an input, which must be one of this operator."""
    producer = _input(node, index).producer()
    if producer is None or producer.op_type != op_type:
        origin = producer.op_type if producer else "a weight or input"
        raise _unknown_form(node, f"input {index} from {origin}", op_type)
    return producer


def _reader(node: ir.Node, op_type: str) -> ir.Node:
    """The only node that reads a node's output, which must be one of this operator."""
    readers = list_readers(node)
    if len(readers) != 1 or readers[0].op_type != op_type:
        raise _unknown_form(node, f"read by {', '.join(reader.op_type for reader in readers)}", op_type)
    return readers[0]


def _perm(transpose: ir.Node) -> tuple[int, ...]:
    attribute = transpose.attributes.get("perm")
    return tuple(attribute.as_ints()) if attribute is not None else ()


def _unknown_form(node: ir.Node, seen: str, expected: str) -> AttentionError:
    return AttentionError(
        f"the attention at node {node.name!r} ({node.op_type}) has {seen}",
        expected,
        "export with the package versions of alterbute's extra `export`, and report the checkpoint's configs",
    )
