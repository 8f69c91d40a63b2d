"""A bundle in int8: its fp32 graphs are run on edits, what loses little becomes int8, and weights are stored once more, smaller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

import onnx_ir as ir
from alterbute.bundle import (
    Bundle,
    Graph,
    Manifest,
    TypeAudit,
    Variant,
    VariantPrecision,
    describe_files,
    verify_bundle,
    write_manifest,
)
from alterbute.editor import Editor
from alterbute.errors import AlterbuteError

from alterbute_export.checks.type_audit import audit_graph, manifest_sizes
from alterbute_export.errors import CalibrationError, PrecisionError
from alterbute_export.half.variants import TYPED_GRAPHS, half_precision
from alterbute_export.int8.activation_ranges import Range, RangeRecorder, watch_graph
from alterbute_export.int8.calibration_edits import CalibrationEdit, default_edits
from alterbute_export.int8.find_ops import QuantizableOp, find_quantizable_ops
from alterbute_export.int8.rewrite import quantize_graph
from alterbute_export.int8.scales import Scales, choose_scales
from alterbute_export.onnx_io.sessions import StreamingBackend
from alterbute_export.onnx_io.weights import WeightStore
from alterbute_export.packaging.atomic_folder import atomic_folder, check_target

_BACKEND: Final = "onnxruntime"
_SNR: Final = 38.0
"""Products with a lower signal-to-noise ratio stay fp32. Encoders and decoder run once, and what they lose is seen in the picture."""
_STEP_SNR: Final = 28.0
"""Of the step graph: its later runs see what the earlier ones lost, and mend it."""
_MIN_SHARE: Final = 0.5


def quantize_bundle(
    source: Path,
    target: Path,
    edits: Sequence[CalibrationEdit] | None = None,
    report: Callable[[str, int, int], None] | None = None,
    *,
    steps: int | None = None,
    step_snr: float | None = None,
) -> Manifest:
    """Write an int8 bundle of an fp32 one; the source stays as it is.

    Args:
        source: An fp32 bundle.
        target: The new bundle's folder; an earlier bundle there is replaced.
        edits: What the ranges are taken from, over all steps; None takes the bundle's sample photo alone.
        report: Told about progress: what, how many done, of how many.
        steps: Of the calibration; None is the bundle's default.
        step_snr: Products of the step graph with a lower signal-to-noise ratio (dB) stay fp32: higher is slower and closer. None is 28.

    Raises:
        CalibrationError: an edit cannot be run.
        PrecisionError: the source is not fp32, or hardly anything of a step can be int8.
        BundleError: a file of the source is not what its manifest says.
        OutputError: `target` holds something else than a bundle, or cannot be written.
    """
    check_target(target)
    bundle = verify_bundle(source)
    with atomic_folder(target) as folder:
        return write_int8(bundle, folder, edits, report, steps=steps, step_snr=step_snr)


def write_int8(
    bundle: Bundle,
    folder: Path,
    edits: Sequence[CalibrationEdit] | None = None,
    report: Callable[[str, int, int], None] | None = None,
    *,
    steps: int | None = None,
    step_snr: float | None = None,
) -> Manifest:
    """Write the int8 bundle of an fp32 one into an empty folder; arguments and errors as of `quantize_bundle`."""
    typed = half_precision(bundle.manifest)
    if typed != "fp32":
        raise PrecisionError(
            f"the bundle's graphs are {typed}", "an fp32 bundle", "export the checkpoint with --precision fp32 first"
        )
    tell = report or (lambda task, done, total: None)
    limit = _STEP_SNR if step_snr is None else step_snr
    files = {name: bundle.path / _variant(graph).file for name, graph in bundle.manifest.graphs.items()}
    ranges = record_ranges(bundle, files, edits or default_edits(bundle), tell, steps)
    _copy_rest(bundle, folder)
    store = WeightStore(folder, half=False)
    audits: dict[str, TypeAudit] = {}
    for index, (name, path) in enumerate(files.items()):
        tell(f"quantize {name}", index, len(files))
        model = ir.load(path)
        islands = _convert(model, name, ranges.get(name, {}), limit if name == "step" else _SNR)
        store.move_out(model, takes_stored=True)
        written = folder / f"{name}.onnx"
        written.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
        del model
        if name in TYPED_GRAPHS:
            audits[name] = audit_graph(written, manifest_sizes(bundle.manifest), islands=islands)
    _check_step(audits["step"], limit)
    graphs = {name: _describe(name, graph, audits.get(name)) for name, graph in bundle.manifest.graphs.items()}
    manifest = replace(bundle.manifest, graphs=graphs, engines=(), files=describe_files(folder))
    write_manifest(folder, manifest)
    return manifest


def record_ranges(
    bundle: Bundle,
    files: Mapping[str, Path],
    edits: Sequence[CalibrationEdit],
    tell: Callable[[str, int, int], None],
    steps: int | None = None,
) -> dict[str, dict[str, Range]]:
    """Run the edits on watched graphs; the range of every product's input and output, by graph and value."""

    @cache
    def watched(graph: str) -> bytes:
        model = ir.load(files[graph])
        return watch_graph(model, find_quantizable_ops(model))

    def prepare(graph: str, model: bytes) -> bytes:
        return watched(graph) if graph in TYPED_GRAPHS else model

    recorder = RangeRecorder(StreamingBackend(bundle, prepare, in_file_order=True))
    # Words that the bundle does not offer are still words that its graphs can be run with.
    open_to_all = replace(bundle, manifest=replace(bundle.manifest, attributes=None))
    with Editor(open_to_all, backend=recorder) as editor:
        for number, edit in enumerate(edits):
            tell("calibrate", number, len(edits))
            try:
                editor.edit(edit.photo, edit.mask, edit.prompt, reference=edit.reference, steps=steps, seed=edit.seed)
            except AlterbuteError as fault:
                raise CalibrationError(
                    f"calibration edit {number + 1} failed: {fault}",
                    "an edit that the fp32 bundle runs",
                    "mend or remove it",
                ) from fault
    return recorder.ranges


def _convert(model: ir.Model, name: str, ranges: Mapping[str, Range], limit: float) -> dict[str, int]:
    """Give a graph int8 arithmetic in place, where that is quiet enough; how many products stayed, by reason."""
    if name not in TYPED_GRAPHS:
        return {}
    products = find_quantizable_ops(model)
    chosen: dict[QuantizableOp, Scales] = {}
    for product in products:
        scales = choose_scales(product, ranges[product.source], ranges[product.result])
        if scales.snr >= limit:
            chosen[product] = scales
    quantize_graph(model, chosen)
    noisy = len(products) - len(chosen)
    return {f"under {limit:.0f} dB": noisy} if noisy else {}


def _copy_rest(bundle: Bundle, folder: Path) -> None:
    """Tokenizer, tables and samples: all that is no graph, no weights and no engine."""
    left_out = {engine.file for engine in bundle.manifest.engines}
    for name in bundle.manifest.files:
        if name not in left_out and not name.endswith((".onnx", ".bin")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(bundle.read(name))


def _describe(name: str, graph: Graph, audit: TypeAudit | None) -> Graph:
    """The entry of a written graph: for ONNX Runtime's CPU alone, fp32 where nothing of it could be int8."""
    precision: VariantPrecision = "int8" if audit is not None and "int8" in audit.shares else "fp32"
    return replace(graph, variants=(Variant(backend=_BACKEND, file=f"{name}.onnx", precision=precision, audit=audit),))


def _check_step(audit: TypeAudit, limit: float) -> None:
    share = audit.shares.get("int8", 0.0)
    if share < _MIN_SHARE:
        raise PrecisionError(
            f"{share:.1%} of the step graph's arithmetic has a signal-to-noise ratio of {limit:.0f} dB or more in int8",
            f"at least {_MIN_SHARE:.0%}",
            "give --step-snr to allow more noise, and look at the edits; or stay with fp32",
        )


def _variant(graph: Graph) -> Variant:
    return next(variant for variant in graph.variants if variant.backend == _BACKEND)
