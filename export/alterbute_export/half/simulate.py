"""Simulation of half precision on a CPU: an fp32 graph that rounds after every operator that half precision would round.

ONNX Runtime's CPU provider runs fp16 operators in fp32 and drops the casts between them, so running the fp16 graph there
would measure next to nothing. A rounding that is written as two casts is not dropped.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import onnx
from alterbute.bundle import Precision

_TYPES: Final[dict[Precision, int]] = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}


def round_values(model: onnx.ModelProto, names: Collection[str], precision: Precision) -> None:
    """Round values and weights of an fp32 graph to half precision and back to fp32, in place.

    Args:
        model: The fp32 graph.
        names: Names of the values and weights to round; names that the graph neither computes nor stores are ignored.
        precision: The half precision to round to.
    """
    kind = _TYPES[precision]
    weights = [
        item.name for item in model.graph.initializer if item.name in names and item.data_type == onnx.TensorProto.FLOAT
    ]
    renamed = {name: f"{name}_rounded" for name in weights}
    nodes = [node for name in weights for node in _make_rounding(name, renamed[name], kind)]
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        rounded = [name for name in node.output if name in names]
        node.output[:] = [f"{name}_exact" if name in names else name for name in node.output]
        nodes += [node, *(cast for name in rounded for cast in _make_rounding(f"{name}_exact", name, kind))]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _make_rounding(source: str, target: str, kind: int) -> list[onnx.NodeProto]:
    """Two casts, to half precision and back, from one value name to another."""
    return [
        onnx.helper.make_node("Cast", [source], [f"{target}_half"], to=kind),
        onnx.helper.make_node("Cast", [f"{target}_half"], [target], to=onnx.TensorProto.FLOAT),
    ]
