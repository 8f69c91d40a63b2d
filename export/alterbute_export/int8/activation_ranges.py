"""What range a value has, channel by channel, over all runs of a graph in the edits that calibrate it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from alterbute.backends import Array, Arrays, Backend
from numpy.typing import NDArray

from alterbute_export.half.overflow import insert_behind
from alterbute_export.int8.find_ops import QuantizableOp

_LOW: Final = "low_of_"
_HIGH: Final = "high_of_"
_SQUARE: Final = "square_of_"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Range:
    """Smallest and largest value of each channel and its mean square, all `[channels]`, over `runs` runs."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    square: NDArray[np.float64]
    runs: int = 1

    def join(self, other: Range) -> Range:
        """The range of both."""
        runs = self.runs + other.runs
        return Range(
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
            square=(self.square * self.runs + other.square * other.runs) / runs,
            runs=runs,
        )


def watch_graph(model: ir.Model, products: Iterable[QuantizableOp]) -> bytes:
    """The graph with the range of every product's input and output among its outputs."""
    axes = {}
    for product in products:
        axes[product.source] = product.channel_axis
        axes.setdefault(product.result, product.channel_axis)
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    insert_behind(proto.graph, {name: _watch(proto.graph, name, axis) for name, axis in axes.items()})
    data: bytes = proto.SerializeToString()
    return data


def _watch(graph: onnx.GraphProto, name: str, axis: int) -> list[onnx.NodeProto]:
    """Nodes that put channels last and all else in one axis, and reduce that; their results become outputs."""
    turned, flat, shape, rows = (f"{kind}_of_{name}" for kind in ("turned", "flat", "shape", "axes"))
    make, nodes, source = onnx.helper.make_node, [], name
    if axis == 1:
        nodes.append(make("Transpose", [name], [turned], perm=[0, 2, 3, 1]))
        source = turned
    for constant, value in ((f"minus_{rows}", -1), (rows, 0)):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.int64), constant))
    nodes += [
        make("Shape", [source], [shape], start=-1),
        make("Concat", [f"minus_{rows}", shape], [f"sizes_{rows}"], axis=0),
        make("Reshape", [source, f"sizes_{rows}"], [flat]),
        make("Mul", [flat, flat], [f"squares_{rows}"]),
    ]
    for kind, prefix, reduced in (
        ("ReduceMin", _LOW, flat),
        ("ReduceMax", _HIGH, flat),
        ("ReduceMean", _SQUARE, f"squares_{rows}"),
    ):
        nodes.append(make(kind, [reduced, rows], [prefix + name], keepdims=0))
        graph.output.append(onnx.helper.make_tensor_value_info(prefix + name, onnx.TensorProto.FLOAT, ["channels"]))
    return nodes


class RangeRecorder:
    """A backend over watched graphs that keeps their ranges and hands on the rest.

    Args:
        inner: Runs the watched graphs.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.min_slots, self.min_rows = inner.min_slots, inner.min_rows
        self.ranges: dict[str, dict[str, Range]] = {}

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        """As `Backend.run`."""
        made = self._inner.run(graph, inputs, outputs)
        seen = self.ranges.setdefault(graph, {})
        for name in [name for name in made if name.startswith(_LOW)]:
            value = name.removeprefix(_LOW)
            square = made.pop(_SQUARE + value).astype(np.float64)
            found = Range(low=made.pop(name), high=made.pop(_HIGH + value), square=square)
            seen[value] = seen[value].join(found) if value in seen else found
        return made

    def close(self) -> None:
        """As `Backend.close`."""
        self._inner.close()
