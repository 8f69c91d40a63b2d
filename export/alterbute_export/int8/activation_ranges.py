"""Ranges of activations, channel by channel, over all runs of a graph in the calibration edits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from alterbute.backends import Array, Arrays, Backend
from numpy.typing import NDArray

from alterbute_export.int8.find_ops import QuantizableOp
from alterbute_export.onnx_io.observers import ValueObserver, add_observers

_LOW: Final = "low_of_"
_HIGH: Final = "high_of_"
_SQUARE: Final = "square_of_"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Range:
    """Smallest value, largest value and mean square of each channel of an activation, all `[channels]`, over `runs` runs."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mean_square: NDArray[np.float64]
    runs: int = 1

    def join(self, other: Range) -> Range:
        """The range over the runs of both."""
        runs = self.runs + other.runs
        return Range(
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
            mean_square=(self.mean_square * self.runs + other.mean_square * other.runs) / runs,
            runs=runs,
        )


def add_range_outputs(model: ir.Model, ops: Iterable[QuantizableOp]) -> bytes:
    """The serialized graph with the ranges of every quantizable operator's input and output as additional outputs."""
    axes = {}
    for op in ops:
        axes[op.input_name] = op.channel_axis
        axes.setdefault(op.output_name, op.channel_axis)
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    add_observers(proto.graph, {name: _observe_range(name, axis) for name, axis in axes.items()})
    data: bytes = proto.SerializeToString()
    return data


def _observe_range(name: str, axis: int) -> ValueObserver:
    """Reductions of a value over all axes but its channels, each to `[channels]`."""
    transposed, flat, shape, rows = (f"{kind}_of_{name}" for kind in ("turned", "flat", "shape", "axes"))
    make_node, nodes, source = onnx.helper.make_node, [], name
    if axis == 1:
        nodes.append(make_node("Transpose", [name], [transposed], perm=[0, 2, 3, 1]))
        source = transposed
    # [rows, channels]: all axes but the channels become one.
    nodes += [
        make_node("Shape", [source], [shape], start=-1),
        make_node("Concat", [f"minus_{rows}", shape], [f"sizes_{rows}"], axis=0),
        make_node("Reshape", [source, f"sizes_{rows}"], [flat]),
        make_node("Mul", [flat, flat], [f"squares_{rows}"]),
    ]
    outputs = []
    for op_type, prefix, operand in (
        ("ReduceMin", _LOW, flat),
        ("ReduceMax", _HIGH, flat),
        ("ReduceMean", _SQUARE, f"squares_{rows}"),
    ):
        nodes.append(make_node(op_type, [operand, rows], [prefix + name], keepdims=0))
        outputs.append(onnx.helper.make_tensor_value_info(prefix + name, onnx.TensorProto.FLOAT, ["channels"]))
    constants = [
        onnx.numpy_helper.from_array(np.array([value], np.int64), constant)
        for constant, value in ((f"minus_{rows}", -1), (rows, 0))
    ]
    return ValueObserver(nodes=nodes, outputs=outputs, constants=constants)


class RangeRecorder:
    """A backend that takes the range outputs out of another backend's results and joins them over all runs.

    Args:
        inner: Runs the graphs that `add_range_outputs` returned.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.min_slots, self.min_rows = inner.min_slots, inner.min_rows
        self.precisions = inner.precisions
        self.ranges: dict[str, dict[str, Range]] = {}
        """Range of every observed value, by graph and by the value's name."""

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        """Run a graph and record its ranges.

        Args:
            graph: The graph's name.
            inputs: Its inputs by name, in the manifest's dtypes.
            outputs: Arrays to copy outputs into, by name; None allocates all of them.

        Returns:
            The graph's outputs by name, without the ranges.
        """
        results = self._inner.run(graph, inputs, outputs)
        ranges = self.ranges.setdefault(graph, {})
        for name in [name for name in results if name.startswith(_LOW)]:
            value = name.removeprefix(_LOW)
            mean_square = results.pop(_SQUARE + value).astype(np.float64)
            latest = Range(low=results.pop(name), high=results.pop(_HIGH + value), mean_square=mean_square)
            ranges[value] = ranges[value].join(latest) if value in ranges else latest
        return results

    def close(self) -> None:
        """Close the inner backend."""
        self._inner.close()
