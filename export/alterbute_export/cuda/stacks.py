"""Stacked pictures: `[kB,...]` seen as `[k,B,...]` and taken apart again becomes one Split, which needs no shape arithmetic."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common as passes

from alterbute_export.onnx_io.ir import find_producer, list_readers, read_int


def split_stacks(model: ir.Model) -> None:
    """Replace every Reshape to a computed shape `[k,...]` whose entries along the first axis are all that is read, in place."""
    for node in [node for node in model.graph if node.op_type == "Reshape"]:
        count = _read_count(node)
        entries = [_read_entry(reader) for reader in list_readers(node)]
        if count is None or node.outputs[0].is_graph_output() or not entries:
            continue
        found = [entry for entry in entries if entry is not None]
        if len(found) < len(entries):
            continue
        split = ir.node(
            "Split", node.inputs[:1], {"axis": 0, "num_outputs": count}, num_outputs=count, name=f"{node.name}_split"
        )
        for index, value in enumerate(split.outputs):
            value.name = f"{node.outputs[0].name}_{index}"
        model.graph.insert_before(node, split)
        for value, index in found:
            replacement = split.outputs[index]
            if value.is_graph_output():
                replacement.shape, replacement.type = value.shape, value.type
                replacement.name, value.name = value.name, replacement.name
                model.graph.outputs[model.graph.outputs.index(value)] = replacement
            value.replace_all_uses_with(replacement)
    passes.RemoveUnusedNodesPass()(model)


def _read_count(node: ir.Node) -> int | None:
    """k of a shape that is a Concat of k, a computed size, and more; the later axes must be those of the input."""
    joined = find_producer(node, 1)
    if joined is None or joined.op_type != "Concat" or len(joined.inputs) < 3:
        return None
    first, second = (value.const_value if value is not None else None for value in joined.inputs[:2])
    return int(first.numpy()[0]) if first is not None and first.size == 1 and second is None else None


def _read_entry(node: ir.Node) -> tuple[ir.Value, int] | None:
    """The value and index of one entry along the first axis, taken by a Gather, or a Slice and a Squeeze."""
    if node.op_type == "Gather" and read_int(node, "axis", 0) == 0:
        index = _read_number(node, 1)
        return (node.outputs[0], index) if index is not None else None
    readers = list_readers(node)
    if node.op_type == "Slice" and len(node.inputs) >= 4 and len(readers) == 1 and readers[0].op_type == "Squeeze":
        start, end, axis, squeezed = (
            _read_number(node, 1),
            _read_number(node, 2),
            _read_number(node, 3),
            _read_number(readers[0], 1),
        )
        if start is not None and end == start + 1 and axis == 0 and squeezed == 0:
            return readers[0].outputs[0], start
    return None


def _read_number(node: ir.Node, index: int) -> int | None:
    value = node.inputs[index]
    tensor = value.const_value if value is not None else None
    return int(tensor.numpy().reshape(())) if tensor is not None and tensor.size == 1 else None
