"""Half-precision variants of a bundle's graphs: `step.fp16.onnx` beside `step.onnx`, sharing the weights that are equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import onnx_ir as ir
from alterbute.bundle import Bundle, Graph, LaunchShape, Manifest, Precision, Variant, VariantPrecision

from alterbute_export.checks.recorded_edit import record_edit
from alterbute_export.checks.type_audit import audit_graph, manifest_sizes
from alterbute_export.errors import PrecisionError
from alterbute_export.half.overflow import find_overflow
from alterbute_export.half.variant_file import (
    CUDA_SUFFIX,
    PROLOGUE_SUFFIX,
    VariantFile,
    VariantJob,
    write_cuda_variant,
    write_variant,
)
from alterbute_export.onnx_io.weights import WeightStore
from alterbute_export.rewrites.fused_attention import FUSED_GRAPHS, FUSED_SUFFIX, fuse_attention

MODEL_GRAPHS: Final = ("prompt", "identity", "scene", "step", "decode")
"""The graphs with model weights, which a GPU runs; `window` and `paste` are exact pixel arithmetic and stay fp32 on the CPU."""
_BACKENDS: Final = ("tensorrt", "tensorrt_rtx", "onnxruntime-cuda")
_FUSED_BACKENDS: Final = ("onnxruntime", "onnxruntime-cuda")
# ONNX Runtime has no MultiHeadAttention in bf16 on any device.
_FUSED_PRECISIONS: Final = ("fp32", "fp16")


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfVariant:
    """The files of one graph in another precision: one graph, three forms.

    Args:
        plain: Attention and norms decomposed, for TensorRT, which fuses them itself.
        fused: Each attention as one node, for ONNX Runtime; None where there is no such file.
        cuda: Rewritten for ONNX Runtime's CUDA kernels; None where there is no such file.
    """

    plain: VariantFile
    fused: VariantFile | None = None
    cuda: VariantFile | None = None

    @property
    def files(self) -> tuple[VariantFile, ...]:
        """The files that were written."""
        return tuple(file for file in (self.plain, self.fused, self.cuda) if file is not None)

    def describe(
        self, backend: str, precision: Precision, buckets: tuple[LaunchShape, ...] = ()
    ) -> tuple[Variant, ...]:
        """The manifest's entries for a backend, the preferred one first.

        A graph made for CUDA is not deterministic; the graph without its operators stays beside it for those who need that.

        Args:
            backend: Name of the backend.
            precision: Precision of the variant.
            buckets: Launch shapes; kept by the backend that pads to them, `onnxruntime-cuda`.
        """
        form = self.plain if backend not in _FUSED_BACKENDS or self.fused is None else self.fused
        forms = [self.cuda, form] if backend == "onnxruntime-cuda" and self.cuda is not None else [form]
        return tuple(
            Variant(
                backend=backend,
                file=written.file,
                prologue=written.prologue,
                buckets=buckets if backend == "onnxruntime-cuda" else (),
                is_deterministic=written is not self.cuda,
                unfused=written.unfused,
                precision=precision,
                relative_error=written.relative_error,
                audit=written.audit,
            )
            for written in forms
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
                recorded = calls.get(name, [])
                job = VariantJob(
                    folder=folder,
                    graph=name,
                    precision=precision,
                    store=store,
                    calls=recorded,
                    sizes=sizes,
                    overflow=find_overflow(folder / f"{name}.onnx", recorded)
                    if recorded and precision == "fp16"
                    else {},
                )
                written[name] = _write_variant(job)
    finally:
        if not store.path.stat().st_size:
            store.path.unlink()
    return written


def add_variants(
    graphs: Mapping[str, Graph],
    precision: Precision,
    written: Mapping[str, HalfVariant],
    buckets: tuple[LaunchShape, ...] = (),
) -> dict[str, Graph]:
    """The manifest's graphs with new variants added, in place of earlier ones of the same precision.

    Args:
        graphs: The manifest's graphs by name.
        precision: Precision of the new variants.
        written: The new variants by graph, as `write_variants` returns them.
        buckets: Launch shapes of the step graph on `onnxruntime-cuda`; none keeps those of the earlier variant.
    """
    return {
        name: _add_variant(graph, precision, written[name], buckets if name == "step" else ())
        if name in written
        else graph
        for name, graph in graphs.items()
    }


def _add_variant(
    graph: Graph, precision: Precision, half_variant: HalfVariant, buckets: tuple[LaunchShape, ...]
) -> Graph:
    earlier = [variant for variant in graph.variants if variant.backend in _BACKENDS and variant.precision == precision]
    kept = [variant for variant in graph.variants if variant not in earlier]
    buckets = buckets or next((variant.buckets for variant in earlier if variant.buckets), ())
    described = [item for backend in _BACKENDS for item in half_variant.describe(backend, precision, buckets)]
    return replace(graph, variants=(*kept, *described))


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
            plain, fused, cuda = (
                _read_file(bundle, files.get(f"{name}{suffix}")) for suffix in (".onnx", FUSED_SUFFIX, CUDA_SUFFIX)
            )
            assert plain is not None
            variants[name] = HalfVariant(plain=plain, fused=fused, cuda=cuda)
    return variants


def _read_file(bundle: Bundle, variant: Variant | None) -> VariantFile | None:
    if variant is None:
        return None
    return VariantFile(
        file=variant.file,
        audit=variant.audit or audit_graph(bundle.path / variant.file, manifest_sizes(bundle.manifest)),
        relative_error=variant.relative_error,
        prologue=variant.prologue,
        unfused=variant.unfused,
    )


def _write_variant(job: VariantJob) -> HalfVariant:
    name, precision, source = job.graph, job.precision, job.folder / f"{job.graph}.onnx"
    plain = write_variant(job, ir.load(source), f"{name}.{precision}.onnx")
    if name not in FUSED_GRAPHS or precision not in _FUSED_PRECISIONS:
        return HalfVariant(plain=plain)
    # Fused before the conversion, whose casts may stand between an attention's parts and hide it from `fuse_attention`.
    model = ir.load(source)
    fused = write_variant(job, model, f"{name}.{precision}{FUSED_SUFFIX}") if fuse_attention(model) else None
    if precision != "fp16":
        return HalfVariant(plain=plain, fused=fused)
    cuda = write_cuda_variant(job, f"{name}.{precision}{CUDA_SUFFIX}", f"{name}.{precision}{PROLOGUE_SUFFIX}")
    return HalfVariant(plain=plain, fused=fused, cuda=cuda)
