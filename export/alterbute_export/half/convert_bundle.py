"""Half-precision bundles: the graphs themselves are fp16 or bf16, and weights are stored in that type alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import onnx_ir as ir
from alterbute.bundle import (
    MANIFEST_FILE,
    Graph,
    Manifest,
    Precision,
    Variant,
    describe_files,
    open_bundle,
    write_manifest,
)

from alterbute_export.half.variant_file import CUDA_SUFFIX, PROLOGUE_SUFFIX
from alterbute_export.half.variants import HalfVariant, write_variants
from alterbute_export.onnx_io.ir import write_model
from alterbute_export.onnx_io.sessions import weight_files
from alterbute_export.onnx_io.weights import WeightStore
from alterbute_export.rewrites.fused_attention import FUSED_SUFFIX

_BACKENDS: Final[Mapping[Precision, tuple[str, ...]]] = {
    # ONNX Runtime's CPU provider computes fp16 graphs in fp32, between casts, and has no bf16 convolution.
    "fp16": ("onnxruntime", "onnxruntime-cuda", "tensorrt", "tensorrt_rtx"),
    "bf16": ("onnxruntime-cuda", "tensorrt", "tensorrt_rtx"),
}
_PACKED: Final = "packed"


def convert_bundle(folder: Path, precision: Precision, *, measure: bool = True) -> Manifest:
    """Replace the graphs of a finished fp32 bundle by half-precision ones, and its weights by those that these graphs read.

    Args:
        folder: The bundle's folder, changed in place: no process may have it open.
        precision: Type of the graphs' heavy part.
        measure: Edit the sample photo first, keep operators that overflow there in fp32, and check the error.

    Returns:
        The manifest of the half-precision bundle.

    Raises:
        PrecisionError: a graph is further from fp32 than its type explains, or is mostly fp32.
    """
    bundle = open_bundle(folder)
    written = write_variants(bundle, folder, precision, measure=measure)
    kept = {f"{name}.onnx" for name in bundle.manifest.graphs}
    for name, variant in written.items():
        for variant_file, file in _final_names(name, variant).items():
            os.replace(folder / variant_file, folder / file)
            kept.add(file)
    for path in folder.glob("*.onnx"):
        # Other variants of the fp32 graphs, which are not in this bundle.
        if path.name not in kept:
            path.unlink()
    _pack_weights(folder)
    graphs = {
        name: _describe_graph(name, graph, precision, written.get(name))
        for name, graph in bundle.manifest.graphs.items()
    }
    (folder / MANIFEST_FILE).unlink()
    manifest = replace(bundle.manifest, graphs=graphs, files=describe_files(folder))
    write_manifest(folder, manifest)
    return manifest


def _final_names(name: str, variant: HalfVariant) -> dict[str, str]:
    """File names of a graph in a half-precision bundle, by the names that `write_variants` gave the files."""
    names = {variant.plain.file: f"{name}.onnx"}
    if variant.fused is not None:
        names[variant.fused.file] = f"{name}{FUSED_SUFFIX}"
    if variant.cuda is not None:
        names[variant.cuda.file] = f"{name}{CUDA_SUFFIX}"
        if variant.cuda.prologue is not None:
            names[variant.cuda.prologue] = f"{name}{PROLOGUE_SUFFIX}"
    return names


def _describe_graph(name: str, graph: Graph, precision: Precision, half_variant: HalfVariant | None) -> Graph:
    if half_variant is None:
        return graph
    names = _final_names(name, half_variant)
    variants = [item for backend in _BACKENDS[precision] for item in half_variant.describe(backend, precision)]
    return replace(graph, variants=tuple(_rename(variant, names) for variant in variants))


def _rename(variant: Variant, names: Mapping[str, str]) -> Variant:
    prologue = None if variant.prologue is None else names[variant.prologue]
    return replace(variant, file=names[variant.file], prologue=prologue)


def _pack_weights(folder: Path) -> None:
    """Move the weights that graphs read into one file, each once, and delete the earlier weights files."""
    packed = folder / _PACKED
    packed.mkdir()
    store = WeightStore(packed, half=False)
    for path in sorted(folder.glob("*.onnx")):
        model = ir.load(path)
        store.move_out(model, takes_stored=True)
        write_model(model, packed / path.name)
    for path in weight_files(folder):
        path.unlink()
    for path in packed.iterdir():
        os.replace(path, folder / path.name)
    shutil.rmtree(packed)
