"""Is the engine what the recipe says? Types are counted where the work is, in the network and, with a GPU, in the plan."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from alterbute.bundle import Precision

from alterbute_export.engine import api
from alterbute_export.engine.module import BuilderModule
from alterbute_export.errors import BuildError

_MIN_SHARE: Final = 0.8
"""Of the layers that do the work. Two layers of the timestep's embedding, guidance and solver are fp32 in every step graph: four
of 33 in the smallest that tests build, four of some 300 in a published one."""
_SUFFIXES: Final = {"Half": "fp16", "FP16": "fp16", "BFloat16": "bf16", "BF16": "bf16", "Float": "fp32", "FP32": "fp32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Layers by type: `work` counts convolutions and products, `layers` everything; `plan` the layers of the built plan, which
    only a machine with a GPU can read and is empty elsewhere.
    """

    work: Mapping[str, int]
    layers: Mapping[str, int]
    plan: Mapping[str, int]


def audit_network(trt: BuilderModule, network: api.INetworkDefinition) -> Audit:
    """Count a network's types. TensorRT 11 is strongly typed: what the network says is what the plan computes in."""
    names = {trt.DataType.FLOAT: "fp32", trt.DataType.HALF: "fp16", trt.DataType.BF16: "bf16"}
    workers = {trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION, trt.LayerType.MATRIX_MULTIPLY}
    work, layers = Counter[str](), Counter[str]()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = names.get(layer.get_output_type(0), "other") if layer.num_outputs else "other"
        layers[kind] += 1
        if layer.type in workers:
            work[kind] += 1
    return Audit(work=dict(work), layers=dict(layers), plan={})


def count_plan(information: str) -> dict[str, int]:
    """Layers by the type of their first output, from the inspector's JSON; unknown forms count as "other"."""
    document: Any = json.loads(information)
    counts = Counter[str]()
    for layer in document.get("Layers", []):
        outputs = layer.get("Outputs", []) if isinstance(layer, dict) else []
        described = str(outputs[0].get("Format/Datatype", outputs[0].get("Datatype", ""))) if outputs else ""
        words = described.replace(",", " ").split()
        counts[next((_SUFFIXES[word] for word in words if word in _SUFFIXES), "other")] += 1
    return dict(counts)


def check_audit(graph: str, precision: Precision, audit: Audit) -> None:
    """Refuse an engine that is not what its recipe promises.

    Raises:
        BuildError: too few of the layers that do the work have the recipe's type.
    """
    floats = sum(audit.work.get(kind, 0) for kind in ("fp32", "fp16", "bf16"))
    share = audit.work.get(precision, 0) / floats if floats else 1.0
    if share < _MIN_SHARE:
        raise BuildError(
            f"{audit.work.get(precision, 0)} of {floats} convolutions and products of graph {graph!r} are {precision}",
            f"at least {_MIN_SHARE:.0%} for this recipe",
            "build from typed variants: `alterbute-export engine` makes them, unless the graph overflows; then use bf16",
        )
