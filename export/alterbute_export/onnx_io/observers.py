"""Extra outputs of a graph that is run to measure it: statistics of its inner values, computed inside the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValueObserver:
    """Nodes that reduce one value to statistics, the graph outputs for these, and the initializers that the nodes need."""

    nodes: Sequence[onnx.NodeProto]
    outputs: Sequence[onnx.ValueInfoProto]
    constants: Sequence[onnx.TensorProto] = ()


def add_observers(graph: onnx.GraphProto, observers: Mapping[str, ValueObserver]) -> None:
    """Add observers to a graph, each right behind the node that computes its value, or first of all for a graph input.

    At the graph's end they would keep every value alive until then; run such a graph in file order (`open_session`).

    Args:
        graph: The graph, changed in place.
        observers: The observers by the name of the value that they reduce.
    """
    computed = {name for node in graph.node for name in node.output}
    nodes = [added for name, observer in observers.items() if name not in computed for added in observer.nodes]
    for node in graph.node:
        nodes.append(node)
        nodes += [added for name in node.output if name in observers for added in observers[name].nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    for observer in observers.values():
        graph.output.extend(observer.outputs)
        graph.initializer.extend(observer.constants)
