"""What a typed graph computes, computed where half precision has no kernels: fp32, rounded after every narrow operator.

ONNX Runtime's CPU provider runs half operators in fp32 and drops the casts between them, so running the typed graph there
would measure next to nothing. A rounding that is written out as two casts stays.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import onnx
from alterbute.bundle import Precision

_TYPES: Final[dict[Precision, int]] = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}


def round_values(model: onnx.ModelProto, names: Collection[str], precision: Precision) -> None:
    """Round values and weights of an fp32 graph to a narrow type and back, in place; one that is not computed there is left."""
    kind = _TYPES[precision]
    weights = [
        item.name for item in model.graph.initializer if item.name in names and item.data_type == onnx.TensorProto.FLOAT
    ]
    renamed = {name: f"{name}_rounded" for name in weights}
    nodes = [node for name in weights for node in _pair(name, renamed[name], kind)]
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        rounded = [name for name in node.output if name in names]
        node.output[:] = [f"{name}_exact" if name in names else name for name in node.output]
        nodes += [node, *(cast for name in rounded for cast in _pair(f"{name}_exact", name, kind))]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _pair(source: str, target: str, kind: int) -> list[onnx.NodeProto]:
    return [
        onnx.helper.make_node("Cast", [source], [f"{target}_narrow"], to=kind),
        onnx.helper.make_node("Cast", [f"{target}_narrow"], [target], to=onnx.TensorProto.FLOAT),
    ]
