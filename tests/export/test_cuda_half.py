"""The step graph made for CUDA, in fp16, over a whole edit: the plain graph's latents within the limit of half precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from alterbute.backends import Arrays
from alterbute.backends.base import copy_outputs
from alterbute.bundle import Bundle, open_bundle
from alterbute_export.checks.recorded_edit import GraphCall, record_edit
from alterbute_export.cuda.cuda_graph import expand_all, rewrite_for_cuda
from alterbute_export.cuda.prologue import split_prologue
from alterbute_export.half.convert import convert_graph
from alterbute_export.half.simulate import round_values
from alterbute_export.onnx_io.sessions import StreamingBackend, open_session

STEPS = 20
# Of the largest fp32 latent, as in benchmarks/half_precision.py.
LIMIT = 2e-3


def make_half_step(bundle: Bundle) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Prologue and step in standard fp32 operators, which round every weight and value that is fp16 in the graph for CUDA."""
    step = ir.load(bundle.path / "step.onnx")
    rewrite_for_cuda(step)
    rounded = convert_graph(ir.from_proto(ir.to_proto(step)), "fp16").rounded
    prologue = split_prologue(step)
    assert prologue is not None
    written = []
    for model in (prologue, step):
        expand_all(model)
        proto = ir.to_proto(model)
        assert not any(node.domain for node in proto.graph.node)
        round_values(proto, rounded, "fp16")
        written.append(proto)
    return written[0], written[1]


class PrologueBackend(StreamingBackend):
    """The bundle's graphs on the CPU, with another step graph and its prologue."""

    def __init__(self, bundle: Bundle, prologue: onnx.ModelProto, step: onnx.ModelProto) -> None:
        super().__init__(bundle)
        self.sessions = [open_session(model.SerializeToString(), bundle.path) for model in (prologue, step)]

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Any]:
        if graph != "step":
            return super().run(graph, inputs, outputs)
        values = dict(inputs)
        for session in self.sessions:
            names = [edge.name for edge in session.get_outputs()]
            found = session.run(names, {edge.name: values[edge.name] for edge in session.get_inputs()})
            values |= dict(zip(names, found, strict=True))
        return copy_outputs({name: values[name] for name in names}, outputs)


def last_latent(calls: dict[str, list[GraphCall]]) -> Any:
    """The latent after the last step: the first row of the state."""
    assert len(calls["step"]) == STEPS
    return calls["step"][-1].outputs["next_state"][:, 0].astype(np.float64)


def count_roundings(model: onnx.ModelProto) -> int:
    return sum(
        node.op_type == "Cast" and node.attribute[0].i == onnx.TensorProto.FLOAT16 and node.output[0].endswith("_half")
        for node in model.graph.node
    )


def test_twenty_steps_in_fp16_stay_close_to_fp32(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    prologue, step = make_half_step(bundle)
    for model in (prologue, step):
        assert count_roundings(model) >= sum(node.op_type == "MatMul" for node in model.graph.node) > 0
    expected = last_latent(record_edit(bundle, steps=STEPS))
    found = last_latent(record_edit(bundle, PrologueBackend(bundle, prologue, step), steps=STEPS))
    error = np.abs(found - expected).max() / np.abs(expected).max()
    # Exactly 0 would be a graph that does not round.
    assert 0 < error <= LIMIT
