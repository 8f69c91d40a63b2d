"""The part of a step graph that only its conditions decide, as a graph of its own: it runs once an edit, not once a step.

Keys and values of every cross-attention, and the embedding of pooled text and time ids, depend on no latent and no timestep.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir
from onnx_ir.passes import common as passes

from alterbute_export.cuda.concrete_shapes import find_shapes, transposed
from alterbute_export.errors import PrecisionError
from alterbute_export.onnx_io.ir import CORE_OPS

PROLOGUE_INPUTS: Final = ("text", "identity", "identity_scale", "pooled", "time_ids")
"""Inputs of a step graph that stay the same for all steps of an edit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Nodes of a graph by the part that they belong to."""

    moved: frozenset[ir.Node]
    """A product or convolution of conditions alone, and what such ones lead to, as long as only conditions decide it."""
    before: frozenset[ir.Node]
    """What leads to a moved node: only conditions and stored weights decide it. The step keeps what it also reads itself."""


def split_prologue(model: ir.Model, inputs: Collection[str] = PROLOGUE_INPUTS) -> ir.Model | None:
    """Move what depends only on some inputs, and on a product or convolution of them, to a graph of its own, in place.

    Values that cross from one graph to the other are the outputs of the new graph and inputs of the old one, with the same names.
    Inputs that the old graph no longer reads are removed from it. Both read their weights from the same files.

    Args:
        model: A step graph, in any precision; changed in place when something is moved.
        inputs: Names of the inputs; those that the graph does not have are ignored.

    Returns:
        The new graph, or None, and an unchanged `model`, when no product or convolution depends only on these inputs.

    Raises:
        PrecisionError: a value that would cross has a size that is no size of an input.
    """
    graph = model.graph
    conditions = [value for value in graph.inputs if value.name in inputs]
    parts = _find_parts(graph, frozenset(conditions))
    if not parts.moved:
        return None
    crossing = [
        value
        for node in graph
        if node in parts.moved
        for value in node.outputs
        if any(reader not in parts.moved for reader, _ in value.uses()) or value.is_graph_output()
    ]
    prologue = _copy_nodes(model, conditions, parts, crossing)
    _describe(prologue)
    for value, output in zip(crossing, prologue.graph.outputs, strict=True):
        _make_input(graph, value, output)
    graph.remove([node for node in graph if node in parts.moved], safe=True)
    _read_sizes_elsewhere(graph, conditions)
    passes.RemoveUnusedNodesPass()(model)
    for value in conditions:
        if not value.uses():
            graph.inputs.remove(value)
    return prologue


def _find_parts(graph: ir.Graph, conditions: frozenset[ir.Value]) -> _Parts:
    known: set[ir.Node] = set()
    conditional: set[ir.Value] = set(conditions)
    moved: set[ir.Node] = set()
    for node in graph:
        values = [value for value in node.inputs if value is not None]
        producers = [value.producer() for value in values]
        if not all(
            value in conditions or value.is_initializer() or producer in known
            for value, producer in zip(values, producers, strict=True)
        ):
            continue
        known.add(node)
        if any(value in conditional for value in values):
            conditional.update(node.outputs)
            # The step reads sizes from the value that crosses.
            if node.op_type != "Shape" and (
                node.op_type in CORE_OPS or any(producer in moved for producer in producers)
            ):
                moved.add(node)
    before: set[ir.Node] = set()
    for node in reversed(graph):
        if node in known and any(
            reader in moved or reader in before for value in node.outputs for reader, _ in value.uses()
        ):
            before.add(node)
    return _Parts(moved=frozenset(moved), before=frozenset(before - moved))


def _copy_nodes(
    model: ir.Model, conditions: Iterable[ir.Value], parts: _Parts, crossing: Iterable[ir.Value]
) -> ir.Model:
    """A model with copies of the nodes, and their inputs and initializers; its outputs have the names of the crossing values."""
    copies: dict[ir.Value, ir.Value] = {}
    nodes = []
    for condition in conditions:
        copies[condition] = ir.Value(name=condition.name, shape=condition.shape, type=condition.type)
    starts = list(copies)
    initializers = []
    for node in model.graph:
        if node not in parts.moved and node not in parts.before:
            continue
        for stored in node.inputs:
            if stored is not None and stored not in copies:
                copies[stored] = ir.Value(
                    name=stored.name, shape=stored.shape, type=stored.type, const_value=stored.const_value
                )
                initializers.append(copies[stored])
        copy = ir.node(
            node.op_type,
            [copies[value] if value is not None else None for value in node.inputs],
            node.attributes,
            domain=node.domain,
            num_outputs=len(node.outputs),
            name=node.name,
        )
        for value, output in zip(node.outputs, copy.outputs, strict=True):
            output.name, output.type = value.name, value.type
            copies[value] = output
        nodes.append(copy)
    graph = ir.Graph(
        [copies[value] for value in starts if copies[value].uses()],
        [copies[value] for value in crossing],
        nodes=nodes,
        initializers=initializers,
        opset_imports=dict(model.opset_imports),
        name="prologue",
    )
    return ir.Model(
        graph, ir_version=model.ir_version, producer_name=model.producer_name, producer_version=model.producer_version
    )


def _describe(prologue: ir.Model) -> None:
    """Give the outputs of a prologue their types and shapes, in the names of its inputs' sizes."""
    graph = prologue.graph
    names: dict[tuple[int, ...], str] = {}
    shapes = find_shapes(prologue)
    types = _find_types(prologue)
    for value in graph.inputs:
        assert value.shape is not None
        for dim, sizes in zip(value.shape, transposed(shapes[value]), strict=True):
            if not isinstance(dim, int):
                names[sizes] = str(dim.value)
    for value in graph.outputs:
        dims = transposed(shapes[value]) if value in shapes else []
        shape = [sizes[0] if len(set(sizes)) == 1 else names.get(sizes) for sizes in dims]
        if not shape or None in shape:
            raise PrecisionError(
                f"{value.name!r} depends only on the step's conditions and has the shape {shape or 'that cannot be inferred'}",
                "sizes of the conditions, or constants",
                "export the bundle without the CUDA variant, and report the checkpoint's configs",
            )
        value.shape, value.type = ir.Shape(shape), types[str(value.name)]


def _find_types(model: ir.Model) -> Mapping[str, ir.TypeProtocol]:
    """Element types of the values of a graph that reads floats, by name: a Cast says its own, others have that of an input."""
    types: dict[str, ir.TypeProtocol] = {}
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        dtype = value.dtype or (value.const_value.dtype if value.const_value is not None else ir.DataType.FLOAT)
        types[str(value.name)] = ir.TensorType(dtype)
    for node in model.graph:
        first = next(value for value in node.inputs if value is not None) if node.inputs else None
        kind = types[str(first.name)] if first is not None else ir.TensorType(ir.DataType.FLOAT)
        if node.op_type == "Cast":
            kind = ir.TensorType(ir.DataType(node.attributes["to"].as_int()))
        elif node.op_type in ("Shape", "Size"):
            kind = ir.TensorType(ir.DataType.INT64)
        types.update({str(value.name): kind for value in node.outputs})
    return types


def _make_input(graph: ir.Graph, value: ir.Value, output: ir.Value) -> None:
    """Let a graph read a value from a new input of its name."""
    new = ir.Value(name=value.name, shape=output.shape, type=output.type)
    value.name = f"{value.name}_moved"
    value.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.inputs.append(new)


def _read_sizes_elsewhere(graph: ir.Graph, conditions: Iterable[ir.Value]) -> None:
    """Let what reads one size of a condition read it from another input, so that the step does not need the condition for it."""
    others = [value for value in graph.inputs if value not in set(conditions)]
    for condition in conditions:
        for node, _ in list(condition.uses()):
            limits = [node.attributes[name].as_int() for name in ("start", "end") if name in node.attributes]
            if node.op_type != "Shape" or len(limits) != 2 or limits[1] != limits[0] + 1 or condition.shape is None:
                continue
            wanted = condition.shape[limits[0]]
            for other in others:
                axes = [
                    axis for axis, dim in enumerate(other.shape or ()) if dim == wanted and not isinstance(dim, int)
                ]
                if axes:
                    node.replace_input_with(0, other)
                    node.attributes["start"] = ir.AttrInt64("start", axes[0])
                    node.attributes["end"] = ir.AttrInt64("end", axes[0] + 1)
                    break
