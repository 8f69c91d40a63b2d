"""Conversion of an fp32 graph to half precision: its heavy part becomes fp16 or bf16, with explicit casts around it.

TensorRT 11 networks are strongly typed: the types in the ONNX file decide, so half precision is a property of the file.

Half precision: the operators between the first and the last *core* operator (a convolution or matrix product with weights).
fp32: operators before the first core operator (pixels, sinusoids, the gather of latents) and after the last (guidance, solver,
re-injection, pixels again); the timestep embedding; decomposed norms, whose squares overflow; and operators that read or
compute one of `fp32_values`, which overflow in a recorded edit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import onnx
import onnx_ir as ir
from alterbute.bundle import Precision
from onnx_ir.passes import common as passes

from alterbute_export.errors import PrecisionError
from alterbute_export.half.casts import CastWriter
from alterbute_export.onnx_io.ir import CORE_OPS, is_stored
from alterbute_export.rewrites.uint8_inputs import cast_uint8_inputs

# Squares, roots and exponentials of decomposed norms: fp16 ends at 65504 and rounds everything under 3e-8 to zero. The norm
# operators themselves (LayerNormalization and its kin) sum in fp32 inside and can be half precision.
_FRAGILE_OPS: Final = frozenset(
    {"Pow", "Sqrt", "Reciprocal", "ReduceMean", "ReduceSum", "ReduceL2", "Exp", "Log", "Range"}
)
# TensorRT has no bf16 kernel for Resize, and the ONNX standard no bf16 for Einsum.
_NOT_BF16: Final = frozenset({"Resize", "Einsum"})
# The first opset in which convolutions and poolings may be bf16; the other operators that are used have not changed since 20.
_BF16_OPSET: Final = 22
_TIME_INPUTS: Final = frozenset({"timestep", "time_ids", "owner"})
_TIME_LAYERS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionReport:
    """Number of operators in half precision and in fp32 after a conversion."""

    precision: Precision
    core: int
    """Core operators: convolutions and matrix products with weights."""
    core_half: int
    """Core operators in half precision."""
    half_ops: int
    """Operators with a float output that are half precision."""
    fp32_ops: int
    """Operators with a float output that stayed fp32."""
    casts: int
    """Cast operators that were added."""
    fp32_by_reason: Mapping[str, int]
    """Operators between core operators that stayed fp32 on purpose, counted by reason; `TypeAudit.islands` of the manifest."""
    rounded: frozenset[str]
    """Names of the values and weights that were fp32 and are half precision now."""


def convert_graph(model: ir.Model, precision: Precision, *, fp32_values: Collection[str] = ()) -> PrecisionReport:
    """Convert a graph to half precision, in place. Its inputs and outputs keep their types.

    Args:
        model: An fp32 graph as `alterbute-export bundle` writes it.
        precision: The type of its heavy part; "fp32" only casts uint8 inputs, which TensorRT needs of any graph.
        fp32_values: Names of values that overflow fp16: the operators that compute or read them stay fp32.

    Returns:
        How many operators became half precision, and why others stayed fp32.

    Raises:
        PrecisionError: the graph has control flow, which no exported graph has.
    """
    cast_uint8_inputs(model)
    kinds = _element_types(model)
    nodes = [node for node in model.graph if _is_float(node, kinds)]
    core = {node for node in nodes if is_core(node)}
    half_ops, fp32_by_reason = (
        (set(), Counter[str]())
        if precision == "fp32"
        else _choose_half_ops(model, nodes, core, precision, set(fp32_values), kinds)
    )
    writer = CastWriter(model, precision, kinds)
    for node in list(model.graph):
        writer.convert(node, is_half=node in half_ops)
    writer.finish_outputs()
    if precision == "bf16":
        model.opset_imports[""] = max(model.opset_imports[""], _BF16_OPSET)
    _clean(model)
    return PrecisionReport(
        precision=precision,
        core=len(core),
        core_half=len(core & half_ops),
        half_ops=len(half_ops),
        fp32_ops=len(nodes) - len(half_ops),
        casts=writer.casts,
        fp32_by_reason=dict(fp32_by_reason),
        rounded=frozenset(writer.half_names),
    )


def is_core(node: ir.Node) -> bool:
    """Whether a node is a convolution or matrix product with weights, where nearly all arithmetic is."""
    return node.op_type in CORE_OPS and any(value is not None and is_stored(value) for value in node.inputs)


def _choose_half_ops(
    model: ir.Model,
    nodes: list[ir.Node],
    core: set[ir.Node],
    precision: Precision,
    fp32_values: set[str],
    kinds: Mapping[str, int],
) -> tuple[set[ir.Node], Counter[str]]:
    """The nodes that become half precision, and the number of nodes between core nodes that stay fp32, by reason."""
    after, before = _find_core_reach(model, core)
    time_embedding = _find_time_embedding(model, core)
    fp32_by_reason: Counter[str] = Counter()
    half_ops: set[ir.Node] = set()
    for node in nodes:
        if node not in after or node not in before or node.op_type == "Cast":
            continue
        value_names = {value.name for value in (*node.inputs, *node.outputs) if value is not None}
        if node in time_embedding:
            fp32_by_reason["timestep"] += 1
        elif value_names & fp32_values:
            fp32_by_reason["overflow"] += 1
        elif node.op_type in _FRAGILE_OPS:
            fp32_by_reason["norm"] += 1
        elif precision == "bf16" and node.op_type in _NOT_BF16:
            fp32_by_reason["no bf16 kernel"] += 1
        else:
            half_ops.add(node)
    half_ops -= _find_isolated(half_ops, core, kinds)
    return half_ops, fp32_by_reason


def _find_core_reach(model: ir.Model, core: set[ir.Node]) -> tuple[set[ir.Node], set[ir.Node]]:
    """Nodes that are core or depend on a core node, and nodes that are core or that a core node depends on."""
    after, before = set(core), set(core)
    order = list(model.graph)
    for node in order:
        if any(value is not None and value.producer() in after for value in node.inputs):
            after.add(node)
    for node in reversed(order):
        if any(user in before for value in node.outputs for user, _ in value.uses()):
            before.add(node)
    return after, before


def _find_time_embedding(model: ir.Model, core: set[ir.Node]) -> set[ir.Node]:
    """The timestep embedding: nodes that depend on the timestep and on no picture or prompt, up to the second layer with weights.

    Each UNet block's own projection of the embedding is a later layer, and half precision like its block.
    """
    sources: dict[ir.Node, set[str]] = {}
    depth: dict[ir.Node, int] = {}
    for node in model.graph:
        sources[node], depth[node] = set(), int(node in core)
        for value in node.inputs:
            producer = value.producer() if value is not None else None
            if producer is not None:
                sources[node] |= sources[producer]
                depth[node] = max(depth[node], depth[producer] + int(node in core))
            elif value is not None and value.is_graph_input():
                sources[node].add(str(value.name))
    return {
        node
        for node, inputs in sources.items()
        if "timestep" in inputs and inputs <= _TIME_INPUTS and depth[node] <= _TIME_LAYERS
    }


def _find_isolated(half_ops: set[ir.Node], core: set[ir.Node], kinds: Mapping[str, int]) -> set[ir.Node]:
    """Nodes that are not core and have only fp32 operators before and after them: two casts would cost more than they save."""
    isolated: set[ir.Node] = set()
    while True:
        newly_isolated = {node for node in half_ops - isolated - core if _is_isolated(node, half_ops - isolated, kinds)}
        if not newly_isolated:
            return isolated
        isolated |= newly_isolated


def _is_isolated(node: ir.Node, half_ops: set[ir.Node], kinds: Mapping[str, int]) -> bool:
    float_inputs = [value for value in node.inputs if value is not None and _is_float_value(value, kinds)]
    producers = [producer for value in float_inputs if (producer := value.producer()) is not None]
    users = [user for value in node.outputs for user, _ in value.uses()]
    return (
        bool(producers)
        and not any(producer in half_ops for producer in producers)
        and not any(user in half_ops for user in users)
    )


def _element_types(model: ir.Model) -> dict[str, int]:
    """ONNX element type of every value by name; outputs of other domains' operators have the type of the first input."""
    inferred = onnx.shape_inference.infer_shapes(ir.to_proto(model))
    kinds = {info.name: info.type.tensor_type.elem_type for info in inferred.graph.value_info}
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        kinds[str(value.name)] = int(value.dtype or ir.DataType.UNDEFINED)
    for node in model.graph:
        if any(
            attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
            for attribute in node.attributes.values()
        ):
            raise PrecisionError(
                f"the graph has the control flow operator {node.op_type}",
                "a graph without control flow",
                "export the bundle again",
            )
        for value in node.outputs:
            # An output that is left out has no name.
            if value.name and not kinds.get(value.name) and node.inputs and node.inputs[0] is not None:
                kinds[value.name] = kinds.get(str(node.inputs[0].name), 0)
    return kinds


def _is_float_value(value: ir.Value, kinds: Mapping[str, int]) -> bool:
    return kinds.get(str(value.name)) == int(ir.DataType.FLOAT)


def _is_float(node: ir.Node, kinds: Mapping[str, int]) -> bool:
    """Whether a node computes fp32 values; a stored weight in another type or layout is not counted."""
    return _is_float_value(node.outputs[0], kinds) and not is_stored(node.outputs[0])


def _clean(model: ir.Model) -> None:
    passes.RemoveUnusedNodesPass()(model)
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = value.type = None
