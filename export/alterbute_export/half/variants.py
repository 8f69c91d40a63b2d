"""Half-precision variants of a bundle's graphs: `step.fp16.onnx` beside `step.onnx`, sharing the weights that are equal."""

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
from alterbute_export.onnx_io.ir import write_model
from alterbute_export.onnx_io.sessions import open_session
from alterbute_export.onnx_io.weights import WeightStore
from alterbute_export.rewrites.fused_attention import FUSED_GRAPHS, FUSED_SUFFIX, fuse_attention

MODEL_GRAPHS: Final = ("prompt", "identity", "scene", "step", "decode")
"""The graphs with model weights, which a GPU runs; `window` and `paste` are exact pixel arithmetic and stay fp32 on the CPU."""
# Largest allowed error, as a share of an output's largest value.
_LIMITS: Final[dict[Precision, float]] = {"fp32": 1e-5, "fp16": 2e-2, "bf16": 1e-1}
_BACKENDS: Final = ("tensorrt", "tensorrt_rtx", "onnxruntime-cuda")
_FUSED_BACKENDS: Final = ("onnxruntime", "onnxruntime-cuda")
# ONNX Runtime has no MultiHeadAttention in bf16 on any device.
_FUSED_PRECISIONS: Final = ("fp32", "fp16")


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfVariant:
    """One written file of a graph in another precision."""

    file: str
    audit: TypeAudit
    """Types of its arithmetic, and the values that overflowed in the recorded edit."""
    relative_error: float | None
    """Difference from fp32 in the recorded edit, as a share of an output's largest value; None when it was not measured."""
    fused: HalfVariant | None = None
    """The same graph with each attention as one node, for ONNX Runtime; None when there is no such file."""

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
    """Write variants of a bundle's graphs in another precision.

    New weights go to `weights_<precision>.bin`, each once; weights that the bundle stores in that type are not written again.
    A half-precision bundle has these graphs already: nothing is written then.

    Args:
        bundle: The bundle whose graphs are converted.
        folder: Folder to write to: the bundle's folder, or a copy of it.
        precision: Type of the graphs' heavy part.
        measure: Edit the sample photo first, keep operators that overflow there in fp32, and check the error. If False, only
            the rules of `convert` decide what stays fp32, and the error is not checked.

    Returns:
        The variants by graph.

    Raises:
        PrecisionError: a graph is further from fp32 than its type explains, or is mostly fp32; or the bundle has another half
            precision than `precision`.
    """
    bundle_precision = read_precision(bundle.manifest)
    if bundle_precision != "fp32":
        return _find_variants(bundle, bundle_precision, precision)
    calls = record_edit(bundle) if measure else {}
    sizes = manifest_sizes(bundle.manifest)
    store = WeightStore(folder, half=False, file=f"weights_{precision}.bin")
    written: dict[str, HalfVariant] = {}
    try:
        for name in MODEL_GRAPHS:
            if name in bundle.manifest.graphs:
                written[name] = _write_variant(folder, name, precision, store, calls.get(name, []), sizes)
    finally:
        if not store.path.stat().st_size:
            store.path.unlink()
    return written


def add_variants(
    graphs: Mapping[str, Graph], precision: Precision, written: Mapping[str, HalfVariant]
) -> dict[str, Graph]:
    """The manifest's graphs with new variants added, in place of earlier ones of the same precision.

    Args:
        graphs: The manifest's graphs by name.
        precision: Precision of the new variants.
        written: The new variants by graph, as `write_variants` returns them.
    """
    return {name: _add_variant(graph, precision, written.get(name)) for name, graph in graphs.items()}


def _add_variant(graph: Graph, precision: Precision, half_variant: HalfVariant | None) -> Graph:
    if half_variant is None:
        return graph
    kept = [
        variant for variant in graph.variants if not (variant.backend in _BACKENDS and variant.precision == precision)
    ]
    return replace(graph, variants=(*kept, *(half_variant.describe(backend, precision) for backend in _BACKENDS)))


def read_precision(manifest: Manifest) -> VariantPrecision:
    """The precision that a bundle was exported with: that of the file `step.onnx`."""
    step = manifest.graphs["step"]
    return next((variant.precision for variant in step.variants if variant.file == "step.onnx"), "fp32")


def _find_variants(bundle: Bundle, bundle_precision: VariantPrecision, precision: Precision) -> dict[str, HalfVariant]:
    """The graphs of a half-precision bundle, which are already in its manifest."""
    if bundle_precision != precision:
        raise PrecisionError(
            f"the bundle's graphs are {bundle_precision}, and {precision} was asked for",
            f"a recipe of {bundle_precision}, or an fp32 bundle, from which every precision is made",
            f"export the checkpoint again with `alterbute-export bundle --precision {precision}` (or fp32)",
        )
    variants: dict[str, HalfVariant] = {}
    for name in MODEL_GRAPHS:
        if name in bundle.manifest.graphs:
            files = {variant.file: variant for variant in bundle.manifest.graphs[name].variants}
            plain, fused = (
                _read_variant(bundle, files.get(file)) for file in (f"{name}.onnx", f"{name}{FUSED_SUFFIX}")
            )
            assert plain is not None
            variants[name] = replace(plain, fused=fused)
    return variants


def _read_variant(bundle: Bundle, variant: Variant | None) -> HalfVariant | None:
    if variant is None:
        return None
    audit = variant.audit or audit_graph(bundle.path / variant.file, manifest_sizes(bundle.manifest))
    return HalfVariant(file=variant.file, audit=audit, relative_error=variant.relative_error)


def _write_variant(
    folder: Path, name: str, precision: Precision, store: WeightStore, calls: list[GraphCall], sizes: Mapping[str, int]
) -> HalfVariant:
    source = folder / f"{name}.onnx"
    overflow = find_overflow(source, calls) if calls and precision == "fp16" else {}
    write = partial(_write_file, folder, precision=precision, store=store, calls=calls, sizes=sizes, overflow=overflow)
    plain = write(ir.load(source), name, f"{name}.{precision}.onnx")
    if name not in FUSED_GRAPHS or precision not in _FUSED_PRECISIONS:
        return plain
    # Fused before the conversion, whose casts may stand between an attention's parts and hide it from `fuse_attention`.
    model = ir.load(source)
    if not fuse_attention(model):
        return plain
    return replace(plain, fused=write(model, name, f"{name}.{precision}{FUSED_SUFFIX}"))


def _write_file(
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
    """Convert a graph, decomposed or fused, write it to a file and check it."""
    fp32_model = ir.to_proto(model)
    report = convert_graph(model, precision, fp32_values=overflow.keys())
    store.move_out(model)
    path = folder / file
    write_model(model, path)
    del model
    audit = audit_graph(path, sizes, islands=report.fp32_by_reason, overflow=overflow)
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
        model: The fp32 graph; it is changed.
        folder: The folder of its external weights.
        report: The values and weights that the conversion rounds.
        calls: Recorded runs of the fp32 graph.
    """
    if report.precision != "fp32":
        round_values(model, report.rounded, report.precision)
    session = open_session(model.SerializeToString(), folder)
    names = [output.name for output in session.get_outputs()]
    worst = 0.0
    for call in calls:
        for name, output in zip(names, session.run(names, call.inputs), strict=True):
            expected = call.outputs[name].astype(np.float64)
            scale = 255.0 if output.dtype == np.uint8 else float(np.abs(expected).max()) or 1.0
            error = float(np.abs(output.astype(np.float64) - expected).max()) / scale
            worst = max(worst, error if np.isfinite(error) else np.inf)
    return float(f"{worst:.1e}")
