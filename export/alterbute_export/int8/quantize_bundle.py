"""Conversion of an fp32 bundle to int8: calibration on edits, choice of the operators that lose little, and new weights files."""

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
from alterbute_export.half.variants import MODEL_GRAPHS, read_precision
from alterbute_export.int8.activation_ranges import Range, RangeRecorder, add_range_outputs
from alterbute_export.int8.calibration_edits import CalibrationEdit, default_edits
from alterbute_export.int8.find_ops import QuantizableOp, find_quantizable_ops
from alterbute_export.int8.rewrite import quantize_graph
from alterbute_export.int8.scales import Scales, choose_scales
from alterbute_export.onnx_io.ir import write_model
from alterbute_export.onnx_io.sessions import StreamingBackend
from alterbute_export.onnx_io.weights import WeightStore
from alterbute_export.packaging.atomic_folder import atomic_folder, check_target

_BACKEND: Final = "onnxruntime"
_SNR: Final = 38.0
"""Operators whose output would have a lower signal-to-noise ratio, in dB, stay fp32; in the graphs that run once per edit."""
_STEP_SNR: Final = 28.0
"""The same of the step graph, which tolerates more noise: later steps correct what earlier ones lost."""
_MIN_SHARE: Final = 0.5
"""Smallest share of the step graph's arithmetic that must be int8."""


def quantize_bundle(
    source: Path,
    target: Path,
    edits: Sequence[CalibrationEdit] | None = None,
    report: Callable[[str, int, int], None] | None = None,
    *,
    steps: int | None = None,
    step_snr: float | None = None,
) -> Manifest:
    """Quantize an fp32 bundle to a new int8 bundle; the source is not changed.

    Args:
        source: An fp32 bundle.
        target: The new bundle's folder; an earlier bundle there is replaced.
        edits: Edits whose activations are measured, over all steps; None takes the bundle's sample photo alone.
        report: Called with the name of the task, how many of its parts are done, and how many there are.
        steps: Steps of every edit; None is the bundle's default.
        step_snr: Operators of the step graph with a lower signal-to-noise ratio (dB) stay fp32: a higher ratio is slower and closer
            to fp32. None is 28.

    Returns:
        The manifest of the int8 bundle.

    Raises:
        CalibrationError: an edit cannot be run.
        PrecisionError: the source is not fp32, or hardly anything of a step can be int8.
        BundleError: a file of the source differs from its hash in the manifest.
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
    """Write the int8 bundle of an fp32 one into an empty folder.

    Args:
        bundle: An fp32 bundle.
        folder: The empty folder.
        edits: Edits whose activations are measured, over all steps; None takes the bundle's sample photo alone.
        report: Called with the name of the task, how many of its parts are done, and how many there are.
        steps: Steps of every edit; None is the bundle's default.
        step_snr: Operators of the step graph with a lower signal-to-noise ratio (dB) stay fp32. None is 28.

    Returns:
        The manifest of the int8 bundle.

    Raises:
        CalibrationError: an edit cannot be run.
        PrecisionError: the bundle is not fp32, or hardly anything of a step can be int8.
    """
    precision = read_precision(bundle.manifest)
    if precision != "fp32":
        raise PrecisionError(
            f"the bundle's graphs are {precision}",
            "an fp32 bundle",
            "export the checkpoint with --precision fp32 first",
        )
    report = report or (lambda task, done, total: None)
    limit = _STEP_SNR if step_snr is None else step_snr
    files = {name: bundle.path / _find_variant(graph).file for name, graph in bundle.manifest.graphs.items()}
    ranges = record_ranges(bundle, files, edits or default_edits(bundle), report, steps)
    _copy_rest(bundle, folder)
    store = WeightStore(folder, half=False)
    audits: dict[str, TypeAudit] = {}
    for index, (name, path) in enumerate(files.items()):
        report(f"quantize {name}", index, len(files))
        model = ir.load(path)
        fp32_by_reason = _quantize(model, name, ranges.get(name, {}), limit if name == "step" else _SNR)
        store.move_out(model, takes_stored=True)
        target = folder / f"{name}.onnx"
        write_model(model, target)
        del model
        if name in MODEL_GRAPHS:
            audits[name] = audit_graph(target, manifest_sizes(bundle.manifest), islands=fp32_by_reason)
    _check_step(audits["step"], limit)
    graphs = {name: _describe(name, graph, audits.get(name)) for name, graph in bundle.manifest.graphs.items()}
    manifest = replace(bundle.manifest, graphs=graphs, engines=(), files=describe_files(folder))
    write_manifest(folder, manifest)
    return manifest


def record_ranges(
    bundle: Bundle,
    files: Mapping[str, Path],
    edits: Sequence[CalibrationEdit],
    report: Callable[[str, int, int], None],
    steps: int | None = None,
) -> dict[str, dict[str, Range]]:
    """Run the edits, and measure the input and output of every quantizable operator.

    Args:
        bundle: An fp32 bundle.
        files: Its graph files by graph.
        edits: The edits to run.
        report: Called with the name of the task, how many edits are done, and how many there are.
        steps: Steps of every edit; None is the bundle's default.

    Returns:
        Range of every input and output, by graph and by the value's name.

    Raises:
        CalibrationError: an edit cannot be run.
    """

    @cache
    def load_with_ranges(graph: str) -> bytes:
        model = ir.load(files[graph])
        return add_range_outputs(model, find_quantizable_ops(model))

    def prepare(graph: str, model: bytes) -> bytes:
        return load_with_ranges(graph) if graph in MODEL_GRAPHS else model

    recorder = RangeRecorder(StreamingBackend(bundle, prepare, in_file_order=True))
    # Without the list of attributes, any prompt is accepted: the graphs can encode words that the bundle does not offer.
    unrestricted = replace(bundle, manifest=replace(bundle.manifest, attributes=None))
    with Editor(unrestricted, backend=recorder) as editor:
        for number, edit in enumerate(edits):
            report("calibrate", number, len(edits))
            try:
                editor.edit(edit.photo, edit.mask, edit.prompt, reference=edit.reference, steps=steps, seed=edit.seed)
            except AlterbuteError as fault:
                raise CalibrationError(
                    f"calibration edit {number + 1} failed: {fault}",
                    "an edit that the fp32 bundle runs",
                    "correct or remove it",
                ) from fault
    return recorder.ranges


def _quantize(model: ir.Model, name: str, ranges: Mapping[str, Range], limit: float) -> dict[str, int]:
    """Quantize a graph in place where the signal-to-noise ratio reaches `limit` dB; number of operators that stay fp32, by reason."""
    if name not in MODEL_GRAPHS:
        return {}
    ops = find_quantizable_ops(model)
    chosen: dict[QuantizableOp, Scales] = {}
    for op in ops:
        scales = choose_scales(op, ranges[op.input_name], ranges[op.output_name])
        if scales.snr >= limit:
            chosen[op] = scales
    quantize_graph(model, chosen)
    noisy = len(ops) - len(chosen)
    return {f"under {limit:.0f} dB": noisy} if noisy else {}


def _copy_rest(bundle: Bundle, folder: Path) -> None:
    """Copy tokenizer, tables and samples: every file but graphs, weights and engines."""
    left_out = {engine.file for engine in bundle.manifest.engines}
    for name in bundle.manifest.files:
        if name not in left_out and not name.endswith((".onnx", ".bin")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(bundle.read(name))


def _describe(name: str, graph: Graph, audit: TypeAudit | None) -> Graph:
    """The manifest's entry of a written graph: one variant for ONNX Runtime's CPU, fp32 when no operator of it is int8."""
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


def _find_variant(graph: Graph) -> Variant:
    return next(variant for variant in graph.variants if variant.backend == _BACKEND)
