"""Group normalization as torch exports it, and what ONNX Runtime's CUDA kernel for it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from alterbute_export.cuda.static_shapes import is_whole_shape
from alterbute_export.onnx_io.ir import find_producer, list_readers, weight_source

# `onnxruntime/contrib_ops/cuda/diffusion/group_norm*`: a thread reads two channels, and a block of 256 threads holds whole groups.
_CHANNELS_PER_THREAD: Final = 2
_LARGEST_GROUP: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExportedGroupNorm:
    """One decomposed group normalization of `[N,C,...]`: Reshape, InstanceNormalization, Reshape, Mul, Add, and maybe SiLU."""

    source: ir.Value
    gamma: ir.Value
    """Scale `[C,1,1]` or `[C,1]`."""
    beta: ir.Value
    """Offset, of the same shape."""
    channels: int
    groups: int
    epsilon: float
    has_silu: bool
    nodes: tuple[ir.Node, ...]
    """The nodes that it is made of, the last one computing its output."""


def find_group_norms(graph: ir.Graph) -> list[ExportedGroupNorm]:
    """All decomposed group normalizations of a graph that scale and offset each channel."""
    found = (_read(node) for node in graph if node.op_type == "InstanceNormalization")
    return [norm for norm in found if norm is not None]


def find_group_norm_fault(channels: int, groups: int) -> str | None:
    """Why ONNX Runtime's kernel does not take a group normalization, as a short reason; None when it does."""
    width = channels // groups
    if width % _CHANNELS_PER_THREAD or width > _LARGEST_GROUP:
        return f"GroupNorm of {channels} channels in {groups} groups"
    return None


def _read(norm: ir.Node) -> ExportedGroupNorm | None:
    split, joined = find_producer(norm, 0), _only_reader(norm)
    if split is None or split.op_type != "Reshape" or joined is None or joined.op_type != "Reshape":
        return None
    source, shape = split.inputs[0], find_producer(joined, 1)
    groups = _read_groups(split)
    if source is None or groups is None or not _is_plain(norm) or shape is None or not is_whole_shape(shape):
        return None
    scaled = _only_reader(joined)
    moved = _only_reader(scaled) if scaled is not None else None
    if (
        scaled is None
        or moved is None
        or scaled.op_type != "Mul"
        or moved.op_type != "Add"
        or shape.inputs[0] is not source
    ):
        return None
    gamma, beta = _weight(scaled, joined), _weight(moved, scaled)
    if gamma is None or beta is None:
        return None
    nodes: tuple[ir.Node, ...] = (split, norm, joined, scaled, moved)
    silu = find_silu(moved)
    stored = weight_source(gamma)
    assert stored is not None and stored.const_value is not None
    return ExportedGroupNorm(
        source=source,
        gamma=gamma,
        beta=beta,
        channels=stored.const_value.size,
        groups=groups,
        epsilon=norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5,
        has_silu=silu is not None,
        nodes=(*nodes, *(silu or ())),
    )


def find_silu(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """The Sigmoid and Mul that make `x sigmoid(x)` of a node's output, when nothing else reads it."""
    readers = list_readers(node)
    sigmoid = next((reader for reader in readers if reader.op_type == "Sigmoid"), None)
    product = _only_reader(sigmoid) if sigmoid is not None else None
    if product is None or product.op_type != "Mul" or set(readers) != {sigmoid, product}:
        return None
    return None if node.outputs[0].is_graph_output() or sigmoid is None else (sigmoid, product)


def _read_groups(split: ir.Node) -> int | None:
    """G of a Reshape to `[N,G,-1]`."""
    sizes = split.inputs[1].const_value if split.inputs[1] is not None else None
    shape = sizes.numpy().tolist() if sizes is not None else []
    return int(shape[1]) if len(shape) == 3 and shape[0] == 0 and shape[2] == -1 and shape[1] > 0 else None


def _is_plain(norm: ir.Node) -> bool:
    """Whether an InstanceNormalization scales by 1 and adds 0."""
    tensors = [value.const_value if value is not None else None for value in norm.inputs[1:3]]
    return all(
        tensor is not None and bool(np.all(tensor.numpy() == expected))
        for tensor, expected in zip(tensors, (1, 0), strict=True)
    )


def _weight(node: ir.Node, previous: ir.Node) -> ir.Value | None:
    """The stored input of a Mul or Add whose other input is the previous node's output: one number for each channel."""
    others = [value for value in node.inputs if value is not previous.outputs[0]]
    stored = weight_source(others[0]) if len(others) == 1 and others[0] is not None else None
    if stored is None or stored.const_value is None:
        return None
    shape = list(stored.const_value.shape.numpy())
    return others[0] if len(shape) in (2, 3) and stored.const_value.size == shape[0] else None


def _only_reader(node: ir.Node) -> ir.Node | None:
    readers = list_readers(node)
    return readers[0] if len(readers) == 1 and not node.outputs[0].is_graph_output() else None
