"""Typed variants of a bundle's graphs: `step.fp16.onnx` beside `step.onnx`, over the same weights where they are the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from alterbute.bundle import Bundle, Graph, Manifest, Precision, TypeAudit, Variant, VariantPrecision

from alterbute_export.checks.recorded_edit import GraphCall, record_edit
from alterbute_export.checks.type_audit import audit_graph, check_types, manifest_sizes
from alterbute_export.errors import PrecisionError
from alterbute_export.half.convert import PrecisionReport, convert_graph
from alterbute_export.half.overflow import find_overflow
from alterbute_export.half.simulate import round_values
from alterbute_export.onnx_io.sessions import open_session
from alterbute_export.onnx_io.weights import WeightStore
from alterbute_export.rewrites.fused_attention import FUSED_GRAPHS, FUSED_SUFFIX, fuse_attention

TYPED_GRAPHS: Final = ("prompt", "identity", "scene", "step", "decode")
"""The graphs that a GPU runs; `window` and `paste` are exact integer-like arithmetic and stay on the CPU."""
_LIMITS: Final[dict[Precision, float]] = {"fp32": 1e-5, "fp16": 2e-2, "bf16": 1e-1}
_BACKENDS: Final = ("tensorrt", "tensorrt_rtx", "onnxruntime-cuda")
_FUSED_BACKENDS: Final = ("onnxruntime", "onnxruntime-cuda")
# ONNX Runtime has no MultiHeadAttention in bf16 on any device.
_FUSED_PRECISIONS: Final = ("fp32", "fp16")


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfVariant:
    """One file: which types it has, what overflowed in a real edit, and how far it is from fp32 there.

    `fused` is the same graph with its attention as single nodes, for ONNX Runtime; None where there is no such file.
    """

    file: str
    audit: TypeAudit
    relative_error: float | None
    fused: HalfVariant | None = None

    def describe(self, backend: str, precision: Precision) -> Variant:
        """The manifest's entry for a backend."""
        chosen = self.fused if self.fused is not None and backend in _FUSED_BACKENDS else self
        return Variant(
            backend=backend,
            file=chosen.file,
            precision=precision,
            relative_error=chosen.relative_error,
            audit=chosen.audit,
        )


def write_variants(
    bundle: Bundle, folder: Path, precision: Precision, *, measure: bool = True
) -> dict[str, HalfVariant]:
    """Write typed variants of a bundle's graphs into `folder`, which has the bundle's files.

    New weights go to `weights_<precision>.bin`, each once; weights that the bundle stores in that type are not written again.

    Args:
        bundle: Where the graphs come from.
        folder: Where the files go: the bundle's folder, or a copy of it.
        precision: Of their heavy part.
        measure: Edit the sample photo first, keep fp32 what overflows there, and check the error. Without, the variants
            are as good as the rules of `precision` alone.

    A bundle that was typed at export has these graphs already: nothing is written then.

    Raises:
        PrecisionError: a graph is further from fp32 than its type explains, or mostly fp32; or the bundle has another type.
    """
    typed = half_precision(bundle.manifest)
    if typed != "fp32":
        return _find_half(bundle, typed, precision)
    calls = record_edit(bundle) if measure else {}
    sizes = manifest_sizes(bundle.manifest)
    store = WeightStore(folder, half=False, file=f"weights_{precision}.bin")
    written: dict[str, HalfVariant] = {}
    try:
        for name in TYPED_GRAPHS:
            if name in bundle.manifest.graphs:
                written[name] = _write(folder, name, precision, store, calls.get(name, []), sizes)
    finally:
        if not store.path.stat().st_size:
            store.path.unlink()
    return written


def list_variants(
    graphs: Mapping[str, Graph], precision: Precision, written: Mapping[str, HalfVariant]
) -> dict[str, Graph]:
    """The manifest's graphs with these variants among theirs, in place of earlier ones of the same precision."""
    return {name: _with_variants(graph, precision, written.get(name)) for name, graph in graphs.items()}


def _with_variants(graph: Graph, precision: Precision, written: HalfVariant | None) -> Graph:
    if written is None:
        return graph
    kept = [
        variant for variant in graph.variants if not (variant.backend in _BACKENDS and variant.precision == precision)
    ]
    return replace(graph, variants=(*kept, *(written.describe(backend, precision) for backend in _BACKENDS)))


def half_precision(manifest: Manifest) -> VariantPrecision:
    """The type that a bundle's graphs have in the files that the exporter wrote."""
    step = manifest.graphs["step"]
    return next((variant.precision for variant in step.variants if variant.file == "step.onnx"), "fp32")


def _find_half(bundle: Bundle, typed: VariantPrecision, precision: Precision) -> dict[str, HalfVariant]:
    """The graphs of a bundle that was typed at export."""
    if typed != precision:
        raise PrecisionError(
            f"the bundle's graphs are {typed}, and {precision} was asked for",
            f"a recipe of {typed}, or an fp32 bundle, from which every precision is made",
            f"export the checkpoint again with `alterbute-export bundle --precision {precision}` (or fp32)",
        )
    found: dict[str, HalfVariant] = {}
    for name in TYPED_GRAPHS:
        if name in bundle.manifest.graphs:
            files = {variant.file: variant for variant in bundle.manifest.graphs[name].variants}
            plain, fused = (_find(bundle, files.get(file)) for file in (f"{name}.onnx", f"{name}{FUSED_SUFFIX}"))
            assert plain is not None
            found[name] = replace(plain, fused=fused)
    return found


def _find(bundle: Bundle, variant: Variant | None) -> HalfVariant | None:
    if variant is None:
        return None
    audit = variant.audit or audit_graph(bundle.path / variant.file, manifest_sizes(bundle.manifest))
    return HalfVariant(file=variant.file, audit=audit, relative_error=variant.relative_error)


def _write(
    folder: Path, name: str, precision: Precision, store: WeightStore, calls: list[GraphCall], sizes: Mapping[str, int]
) -> HalfVariant:
    source = folder / f"{name}.onnx"
    overflow = find_overflow(source, calls) if calls and precision == "fp16" else {}
    write = partial(_write_form, folder, precision=precision, store=store, calls=calls, sizes=sizes, overflow=overflow)
    plain = write(ir.load(source), name, f"{name}.{precision}.onnx")
    if name not in FUSED_GRAPHS or precision not in _FUSED_PRECISIONS:
        return plain
    # Fused first and typed then: between the two there are casts, which an attention is not recognised through.
    model = ir.load(source)
    if not fuse_attention(model):
        return plain
    return replace(plain, fused=write(model, name, f"{name}.{precision}{FUSED_SUFFIX}"))


def _write_form(
    folder: Path,
    model: ir.Model,
    name: str,
    file: str,
    *,
    precision: Precision,
    store: WeightStore,
    calls: list[GraphCall],
    sizes: Mapping[str, int],
    overflow: Mapping[str, float],
) -> HalfVariant:
    """Type one form of a graph, check it and write it."""
    fp32_model = ir.to_proto(model)
    report = convert_graph(model, precision, fp32_values=overflow.keys())
    store.move_out(model)
    path = folder / file
    path.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
    del model
    audit = audit_graph(path, sizes, islands=report.islands, overflow=overflow)
    check_types(name, precision, audit)
    error = _measure(fp32_model, folder, report, calls) if calls else None
    if error is not None and not error <= _LIMITS[precision]:
        raise PrecisionError(
            f"the graph {name!r} in {precision} is {error:.1e} from fp32 on the sample edit",
            f"at most {_LIMITS[precision]:.0e} of the largest value",
            "export this checkpoint in bf16 or fp32, and report its configs",
        )
    return HalfVariant(file=path.name, audit=audit, relative_error=error)


def _measure(model: onnx.ModelProto, folder: Path, report: PrecisionReport, calls: Iterable[GraphCall]) -> float:
    """Largest difference that rounding makes in any output, as a share of that output's largest value.

    Args:
        model: The graph before it was typed, over weights in `folder`; it is changed.
        folder: Of the weights.
        report: What typing made narrow.
        calls: What the graph is fed.
    """
    if report.precision != "fp32":
        round_values(model, report.rounded, report.precision)
    session = open_session(model.SerializeToString(), folder)
    names = [output.name for output in session.get_outputs()]
    worst = 0.0
    for call in calls:
        for name, found in zip(names, session.run(names, call.inputs), strict=True):
            wanted = call.outputs[name].astype(np.float64)
            scale = 255.0 if found.dtype == np.uint8 else float(np.abs(wanted).max()) or 1.0
            error = float(np.abs(found.astype(np.float64) - wanted).max()) / scale
            worst = max(worst, error if np.isfinite(error) else np.inf)
    return float(f"{worst:.1e}")
