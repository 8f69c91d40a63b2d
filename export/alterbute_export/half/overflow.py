"""Search for values of a graph that are too large for fp16 in a recorded edit."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnx

from alterbute_export.checks.recorded_edit import GraphCall
from alterbute_export.onnx_io.observers import ValueObserver, add_observers
from alterbute_export.onnx_io.sessions import open_session

FP16_LIMIT: Final = 65504 / 4
"""A quarter of fp16's largest number: values may be larger in an edit of another photo."""
_PREFIX: Final = "range_of_"


def find_overflow(path: Path, calls: list[GraphCall], limit: float = FP16_LIMIT) -> dict[str, float]:
    """The values of a graph whose magnitude passes a limit in any of the calls.

    The maximum of every value is computed inside the graph, so a run returns one number per value.

    Args:
        path: The fp32 graph, beside its weights.
        calls: Recorded runs of the graph.
        limit: The largest magnitude that is no overflow.

    Returns:
        The largest magnitude by the value's name; NaN counts as infinite.
    """
    model = onnx.load(path, load_external_data=False)
    names = _add_magnitude_outputs(model)
    session = open_session(model.SerializeToString(), path.parent, in_file_order=True)
    largest: dict[str, float] = {}
    for call in calls:
        for name, value in zip(names, session.run([_PREFIX + name for name in names], call.inputs), strict=True):
            magnitude = float(np.nan_to_num(value, nan=np.inf))
            if magnitude > limit:
                largest[name] = max(magnitude, largest.get(name, 0.0))
    return largest


def _add_magnitude_outputs(model: onnx.ModelProto) -> list[str]:
    """Make `max(abs(value))` a graph output for every computed fp32 value; returns the names of these values."""
    inferred = onnx.shape_inference.infer_shapes(model)
    floats = {
        info.name for info in inferred.graph.value_info if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    names = [name for node in model.graph.node for name in node.output if name in floats]
    add_observers(model.graph, {name: _observe_magnitude(name) for name in names})
    return names


def _observe_magnitude(name: str) -> ValueObserver:
    magnitude, largest = f"{_PREFIX}abs_{name}", _PREFIX + name
    return ValueObserver(
        nodes=[
            onnx.helper.make_node("Abs", [name], [magnitude]),
            onnx.helper.make_node("ReduceMax", [magnitude], [largest], keepdims=0),
        ],
        outputs=[onnx.helper.make_tensor_value_info(largest, onnx.TensorProto.FLOAT, [])],
    )
