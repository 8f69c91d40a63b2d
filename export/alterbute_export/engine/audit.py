"""Check that an engine has its recipe's precision: element types of the network's layers and, with a GPU, of the plan's layers."""

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
"""Smallest share of convolutions and matrix products that must have the recipe's precision. Four layers of every step graph are fp32
(two of the timestep embedding, guidance and solver): of 33 in the smallest graph of the tests, of some 300 in a published one."""
_SUFFIXES: Final = {"Half": "fp16", "FP16": "fp16", "BFloat16": "bf16", "BF16": "bf16", "Float": "fp32", "FP32": "fp32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Number of layers by element type."""

    work: Mapping[str, int]
    """Convolutions and matrix products of the network."""
    layers: Mapping[str, int]
    """All layers of the network."""
    plan: Mapping[str, int]
    """All layers of the built plan; empty without a GPU, which is needed to read them."""


def audit_network(trt: BuilderModule, network: api.INetworkDefinition) -> Audit:
    """Count a network's layers by type. TensorRT 11 networks are strongly typed: the plan computes in the network's types."""
    names = {trt.DataType.FLOAT: "fp32", trt.DataType.HALF: "fp16", trt.DataType.BF16: "bf16"}
    work_types = {trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION, trt.LayerType.MATRIX_MULTIPLY}
    work, layers = Counter[str](), Counter[str]()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = names.get(layer.get_output_type(0), "other") if layer.num_outputs else "other"
        layers[kind] += 1
        if layer.type in work_types:
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
    """Refuse a network that does not have its recipe's precision.

    Args:
        graph: The graph's name.
        precision: The recipe's precision.
        audit: The network's layers by type.

    Raises:
        BuildError: too few convolutions and matrix products have the recipe's precision.
    """
    floats = sum(audit.work.get(kind, 0) for kind in ("fp32", "fp16", "bf16"))
    share = audit.work.get(precision, 0) / floats if floats else 1.0
    if share < _MIN_SHARE:
        raise BuildError(
            f"{audit.work.get(precision, 0)} of {floats} convolutions and products of graph {graph!r} are {precision}",
            f"at least {_MIN_SHARE:.0%} for this recipe",
            "build from half-precision variants: `alterbute-export engine` makes them, unless the graph overflows; then use bf16",
        )
