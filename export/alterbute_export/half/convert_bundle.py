"""A bundle typed at export: its graphs are half precision themselves, and its weights are stored in that type alone."""

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
    describe_files,
    open_bundle,
    write_manifest,
)

from alterbute_export.half.variants import HalfVariant, write_variants
from alterbute_export.onnx_io.sessions import weight_files
from alterbute_export.onnx_io.weights import WeightStore
from alterbute_export.rewrites.fused_attention import FUSED_SUFFIX

_BACKENDS: Final[Mapping[Precision, tuple[str, ...]]] = {
    # ONNX Runtime's CPU provider computes fp16 graphs in fp32, between casts; of bf16 it has no convolution at all.
    "fp16": ("onnxruntime", "onnxruntime-cuda", "tensorrt", "tensorrt_rtx"),
    "bf16": ("onnxruntime-cuda", "tensorrt", "tensorrt_rtx"),
}
_PACKED: Final = "packed"


def convert_bundle(folder: Path, precision: Precision, *, measure: bool = True) -> Manifest:
    """Replace the graphs of a finished fp32 bundle by typed ones, and its weights by what those read.

    Args:
        folder: The bundle's folder, which nobody reads yet.
        precision: Of the graphs' heavy part.
        measure: As of `write_variants`.

    Raises:
        PrecisionError: as of `write_variants`.
    """
    bundle = open_bundle(folder)
    written = write_variants(bundle, folder, precision, measure=measure)
    kept = {f"{name}.onnx" for name in bundle.manifest.graphs}
    for name, variant in written.items():
        for form, file in _name_forms(name, variant).items():
            os.replace(folder / form, folder / file)
            kept.add(file)
    for path in folder.glob("*.onnx"):
        # Variants of the fp32 graphs: what they were made for is not in this bundle.
        if path.name not in kept:
            path.unlink()
    _pack_weights(folder)
    graphs = {
        name: _retype(name, graph, precision, written.get(name)) for name, graph in bundle.manifest.graphs.items()
    }
    (folder / MANIFEST_FILE).unlink()
    manifest = replace(bundle.manifest, graphs=graphs, files=describe_files(folder))
    write_manifest(folder, manifest)
    return manifest


def _name_forms(name: str, written: HalfVariant) -> dict[str, str]:
    """The names that a typed bundle has for a graph's files, by those that they were written under."""
    fused = {} if written.fused is None else {written.fused.file: f"{name}{FUSED_SUFFIX}"}
    return {written.file: f"{name}.onnx", **fused}


def _retype(name: str, graph: Graph, precision: Precision, written: HalfVariant | None) -> Graph:
    if written is None:
        return graph
    names = _name_forms(name, written)
    variants = (written.describe(backend, precision) for backend in _BACKENDS[precision])
    return replace(graph, variants=tuple(replace(variant, file=names[variant.file]) for variant in variants))


def _pack_weights(folder: Path) -> None:
    """Write the weights that graphs read, each once, and drop the files that held them and others."""
    packed = folder / _PACKED
    packed.mkdir()
    store = WeightStore(packed, half=False)
    for path in sorted(folder.glob("*.onnx")):
        model = ir.load(path)
        store.move_out(model, takes_stored=True)
        (packed / path.name).write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
    for path in weight_files(folder):
        path.unlink()
    for path in packed.iterdir():
        os.replace(path, folder / path.name)
    shutil.rmtree(packed)
