"""Where a graph's numbers grow too large for fp16, seen on a real edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from alterbute_export.checks.recorded_edit import GraphCall
from alterbute_export.onnx_io.sessions import open_session

FP16_LIMIT: Final = 65504 / 4
"""Half a binary order twice under fp16's largest number: another photo may reach further than this one."""
_PREFIX: Final = "range_of_"


def find_overflow(path: Path, calls: list[GraphCall], limit: float = FP16_LIMIT) -> dict[str, float]:
    """Values of a graph whose magnitude passed `limit` in any of the calls, with that magnitude.

    Every value gets a maximum beside it in memory, so what comes out of a run is one number per value.
    """
    model = onnx.load(path, load_external_data=False)
    names = _watch(model)
    session = open_session(model.SerializeToString(), path.parent, in_file_order=True)
    largest: dict[str, float] = {}
    for call in calls:
        for name, value in zip(names, session.run([_PREFIX + name for name in names], call.inputs), strict=True):
            magnitude = float(np.nan_to_num(value, nan=np.inf))
            if magnitude > limit:
                largest[name] = max(magnitude, largest.get(name, 0.0))
    return largest


def _watch(model: Any) -> list[str]:
    """Make `max(abs(value))` an output for every computed float, right behind the node that computes it."""
    inferred = onnx.shape_inference.infer_shapes(model)
    floats = {
        info.name for info in inferred.graph.value_info if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    watched = [name for node in model.graph.node for name in node.output if name in floats]
    watchers = {}
    for name in watched:
        magnitude, largest = f"{_PREFIX}abs_{name}", _PREFIX + name
        watchers[name] = [
            onnx.helper.make_node("Abs", [name], [magnitude]),
            onnx.helper.make_node("ReduceMax", [magnitude], [largest], keepdims=0),
        ]
        model.graph.output.append(onnx.helper.make_tensor_value_info(largest, onnx.TensorProto.FLOAT, []))
    insert_behind(model.graph, watchers)
    return watched


def insert_behind(graph: Any, watchers: Mapping[str, Sequence[Any]]) -> None:
    """Put nodes that look at a value right behind the node that makes it, or in front of all for an input.

    At the graph's end they would keep every value alive until then; run such a graph in file order (`open_session`).

    Args:
        graph: A GraphProto, changed in place.
        watchers: NodeProtos by the value's name.
    """
    computed = {name for node in graph.node for name in node.output}
    nodes = [watcher for name, added in watchers.items() if name not in computed for watcher in added]
    for node in graph.node:
        nodes.append(node)
        nodes += [watcher for name in node.output for watcher in watchers.get(name, ())]
    del graph.node[:]
    graph.node.extend(nodes)
