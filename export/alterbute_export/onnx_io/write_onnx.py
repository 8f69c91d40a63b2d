"""Export of a torch module, or of a graph in ONNX text, to `<name>.onnx`: the same bytes every time."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import onnx
import onnx.parser
import onnx_ir as ir
import torch
from alterbute.bundle import TensorSpec
from onnx_ir.passes import common as passes
from onnxscript import optimizer
from torch import nn

from alterbute_export.graphs.spec import GraphSpec, draw_inputs
from alterbute_export.onnx_io.ir import write_model
from alterbute_export.onnx_io.weights import WeightStore

OPSET: Final = 20
"""The newest opset that TensorRT's parser supports and ONNX Runtime runs without a fallback."""
IR_VERSION: Final = 10


def write_graph(spec: GraphSpec, store: WeightStore) -> Path:
    """Export one graph into the folder of the weights file, and return its path."""
    model = _parse(spec.graph) if isinstance(spec.graph, str) else _trace(spec, spec.graph)
    _clean(model, spec)
    store.move_out(model)
    path = store.path.parent / f"{spec.name}.onnx"
    # It would repeat the types and shapes that initializers carry themselves.
    write_model(model, path, has_value_info=False)
    return path


def _parse(text: str) -> ir.Model:
    model: ir.Model = ir.from_proto(onnx.parser.parse_model(text))
    return model


def _trace(spec: GraphSpec, module: nn.Module) -> ir.Model:
    """The module's graph with every free dimension dynamic, its inputs and outputs named as in the spec."""
    inputs = tuple(torch.from_numpy(array) for array in draw_inputs(spec, spec.trace_sizes, seed=0).values())
    dims = tuple(_dynamic_dims(tensor) for tensor in spec.inputs)
    shapes: tuple[Any, ...] = (dims,) if _is_variadic(module) else dims
    with torch.no_grad(), quiet_tracing():
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=[tensor.name for tensor in spec.outputs],
            opset_version=OPSET,
            optimize=False,
            verbose=False,
        )
    assert program is not None
    model: ir.Model = program.model
    _simplify(model)
    _copy_constant_outputs(model)
    return model


def _dynamic_dims(tensor: TensorSpec) -> dict[int, Any]:
    return {index: torch.export.Dim.DYNAMIC for index, size in enumerate(tensor.shape) if isinstance(size, str)}


def _is_variadic(module: nn.Module) -> bool:
    """Whether `forward` is `(self, *values)`: the tracer counts all values as one argument then."""
    parameters = inspect.signature(module.forward).parameters.values()
    return any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)


def _simplify(model: ir.Model) -> None:
    """Run the tracer's optimizer without its pattern rewriter, which takes half a minute and finds next to nothing."""
    passes.InlinePass()(model)
    optimizer.fold_constants(model, onnx_shape_inference=True)
    ir.passes.Sequential(
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    )(model)


def _copy_constant_outputs(model: ir.Model) -> None:
    """Give an output that depends on no input a node of its own: not every parser takes a weight as an output."""
    graph = model.graph
    for index, value in enumerate(list(graph.outputs)):
        if not value.is_initializer():
            continue
        name = str(value.name)
        graph.initializers.pop(name)
        value.name = f"{name}_constant"
        graph.register_initializer(value)
        node = ir.node("Identity", [value])
        node.outputs[0].name = name
        graph.append(node)
        graph.outputs[index] = node.outputs[0]


def _clean(model: ir.Model, spec: GraphSpec) -> None:
    """Type inputs and outputs as in the spec, and drop metadata and the types and shapes of inner values.

    The tracer's metadata is stack traces with paths of this machine, nine tenths of the file. Its shapes of inner values go stale
    and break ONNX Runtime's quantizers.
    """
    graph = model.graph
    graph.name = spec.name
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "alterbute-export", None
    model.doc_string = graph.doc_string = None
    model.metadata_props.clear()
    graph.metadata_props.clear()
    for node in graph:
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
            value.shape = value.type = None
    for value in graph.initializers.values():
        value.metadata_props.clear()
    _type_edges(list(graph.inputs), spec.inputs)
    _type_edges(list(graph.outputs), spec.outputs)


def _type_edges(values: list[ir.Value], edges: tuple[TensorSpec, ...]) -> None:
    if [value.name for value in values] != [edge.name for edge in edges]:
        raise AssertionError(f"the tracer changed the edges: {[value.name for value in values]}")
    for value, edge in zip(values, edges, strict=True):
        value.metadata_props.clear()
        value.type = ir.TensorType(ir.DataType[_ONNX_NAMES[edge.dtype]])
        value.shape = ir.Shape(edge.shape)


_ONNX_NAMES: Final = {"float32": "FLOAT", "int64": "INT64", "uint8": "UINT8", "uint16": "UINT16"}


@contextmanager
def quiet_tracing() -> Iterator[None]:
    """Silence warnings and notes of the tracer and of the constant folder about their own internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
