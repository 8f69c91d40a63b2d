"""Bundles with a variant for ONNX Runtime's CUDA provider: its buckets, and a prologue split from the step graph by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from alterbute.bundle import LaunchShape, Variant, describe_files, open_bundle, write_manifest

STEP, PROLOGUE = "step.cuda.onnx", "step.prologue.onnx"
ROW_INPUTS = ("text", "identity")


def add_cuda_variant(source: Path, folder: Path, buckets: tuple[tuple[int, int], ...], *, has_prologue: bool) -> Path:
    """Copy a bundle to `folder` and add a CUDA variant of its fp32 step graph; returns `folder`."""
    shutil.copytree(source, folder)
    manifest = open_bundle(folder).manifest
    step = manifest.graphs["step"]
    plain = next(variant for variant in step.variants if variant.backend == "onnxruntime")
    graph = onnx.load(folder / plain.file, load_external_data=False)
    if has_prologue:
        onnx.save(split_prologue(graph), folder / PROLOGUE)
    onnx.save(graph, folder / STEP)
    variant = Variant(
        backend="onnxruntime-cuda",
        file=STEP,
        prologue=PROLOGUE if has_prologue else None,
        buckets=tuple(LaunchShape(slots=slots, rows=rows) for slots, rows in buckets),
    )
    graphs = {**manifest.graphs, "step": replace(step, variants=(*step.variants, variant))}
    write_manifest(folder, replace(manifest, graphs=graphs, files=describe_files(folder)))
    return folder


def split_prologue(model: Any) -> Any:
    """Move every product of a row input and a weight to a graph of its own, which is returned; the model keeps the rest."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    inputs = {edge.name: edge for edge in graph.input}
    # Weights are stored in half precision, each with a Cast of its own.
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast" and node.input[0] in stored}
    moved, made, weights = [], [], []
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[0] not in ROW_INPUTS:
            continue
        cast = casts[node.input[1]]
        axes = [axis.dim_param or axis.dim_value for axis in inputs[node.input[0]].type.tensor_type.shape.dim]
        shape = [*axes[:2], stored[cast.input[0]].dims[1]]
        made.append(onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, shape))
        weights.append(stored[cast.input[0]])
        moved += [cast, node]
    assert len(moved) > 4
    prologue = onnx.helper.make_model(
        onnx.helper.make_graph(moved, "prologue", [inputs[name] for name in ROW_INPUTS], made, weights),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    for node in moved:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for name in ROW_INPUTS:
        if name not in used:
            graph.input.remove(inputs[name])
    graph.input.extend(made)
    for name, tensor in stored.items():
        if name not in used:
            graph.initializer.remove(tensor)
    # Types of values that are inputs now would be there twice.
    names = {edge.name for edge in made}
    kept = [value for value in graph.value_info if value.name not in names]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    return prologue
