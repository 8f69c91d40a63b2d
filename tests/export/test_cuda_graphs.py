"""Exported graphs rewritten for ONNX Runtime's CUDA provider: the plain graph's numbers, and what each launch costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from alterbute.bundle import WEIGHTS_FILE
from alterbute_export.cuda.channels_last import RewriteReport, make_channels_last
from alterbute_export.cuda.cuda_graph import rewrite_for_cuda
from alterbute_export.cuda.definitions import DEFINITIONS, expand_operators
from alterbute_export.onnx_io.ir import weight_source
from alterbute_export.rewrites.fused_attention import fuse_attention

from tests.conftest import FamilyFolder

SIZES = ({"B": 1, "N": 2, "h": 16, "w": 16, "T": 9, "S": 64}, {"B": 3, "N": 7, "h": 8, "w": 24, "T": 5, "S": 32})
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8}


def load(folder: Path, name: str) -> ir.Model:
    model = ir.load(folder / f"{name}.onnx")
    fuse_attention(model)
    return model


def open_session(folder: Path, model: ir.Model) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    weights = (folder / WEIGHTS_FILE).read_bytes()
    options.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [weights], [len(weights)])
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)


def draw(session: Any, sizes: Mapping[str, int]) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    values = {}
    for edge in session.get_inputs():
        shape = [sizes.get(size, size) for size in edge.shape]
        dtype = TYPES[edge.type]
        if dtype == np.float32:
            values[edge.name] = generator.uniform(0, 1, shape).astype(dtype)
        else:
            values[edge.name] = generator.integers(0, 256 if dtype == np.uint8 else 1, shape, dtype=dtype)
    return values


def rewrite(folder: Path, name: str) -> tuple[ir.Model, RewriteReport]:
    """Rewrite a graph and compare its numbers with those of the plain one."""
    plain, model = load(folder, name), load(folder, name)
    report = make_channels_last(model)
    expanded = ir.from_proto(ir.to_proto(model))
    expand_operators(expanded, DEFINITIONS)
    sessions = [open_session(folder, graph) for graph in (plain, expanded)]
    for sizes in SIZES:
        inputs = draw(sessions[0], sizes)
        for edge, expected, found in zip(
            sessions[0].get_outputs(), *(session.run(None, inputs) for session in sessions), strict=True
        ):
            # Bytes are rounded: 1 apart where the plain graph is between two.
            limit = 1.0 if expected.dtype == np.uint8 else 1e-5 * float(np.abs(expected).max())
            assert np.abs(found.astype(np.float64) - expected).max() <= limit, (name, edge.name, sizes)
    return model, report


def count(model: ir.Model) -> Counter[str]:
    """Operators that compute something else than a stored weight in another type or layout."""
    return Counter(node.op_type for node in model.graph if weight_source(node.outputs[0]) is None)


@pytest.mark.parametrize("kind", ["sd15", "sd15-adapter", "sd15-grid", "sd15-instruct", "sdxl-adapter"])
def test_a_step_has_two_transposes_and_no_shape_arithmetic(family_step: FamilyFolder, kind: str) -> None:
    model, report = rewrite(family_step(kind), "step")
    assert not report.unfused
    assert report.fused["GroupNorm"] + report.fused["SkipGroupNorm"] == 8
    operators = count(model)
    assert operators["Transpose"] == 2
    assert not {"Conv", "InstanceNormalization", "Squeeze"} & set(operators)
    # An operator that computes with sizes would run on the CPU.
    shapes = [node.outputs[0] for node in model.graph if node.op_type == "Shape"]
    assert {reader.op_type for value in shapes for reader, _ in value.uses()} <= {"Reshape", "Expand", "Slice"}


@pytest.mark.parametrize("name", ["step", "scene", "decode"])
def test_the_graphs_of_the_demos_layout_compute_the_same(bundle: Path, name: str) -> None:
    model, report = rewrite(bundle, name)
    assert report.fused["NhwcConv"]
    # The demo's encoder takes pixels apart with shapes that it computes.
    assert set(report.unfused) <= ({"shape arithmetic"} if name == "scene" else set())
    assert not count(model)["Conv"]


@pytest.mark.parametrize("name", ["scene", "decode"])
def test_an_autoencoder_with_group_norms_computes_the_same(family_bundle: FamilyFolder, name: str) -> None:
    model, report = rewrite(family_bundle("sd15-adapter"), name)
    assert not report.unfused
    assert not {"Conv", "InstanceNormalization"} & set(count(model))


@pytest.mark.parametrize("reason", ["values that overflow fp16", "operators of another domain"])
def test_a_graph_whose_values_or_shapes_are_not_safe_gets_fused_attention_only(tiny_bundle: Path, reason: str) -> None:
    model = ir.load(tiny_bundle / "step.onnx")
    conv = next(node for node in model.graph if node.op_type == "Conv")
    overflowing = [str(conv.outputs[0].name)] if reason == "values that overflow fp16" else []
    if not overflowing:
        conv.domain = "example"
    report = rewrite_for_cuda(model, fp32_values=overflowing)
    assert report.unfused == {reason: 1}
    assert {node.op_type for node in model.graph if node.domain == "com.microsoft"} == {"MultiHeadAttention"}
