"""One file of a graph in another precision: converted, written, and compared with the fp32 graph on a recorded edit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from alterbute.bundle import Precision, TypeAudit

from alterbute_export.checks.recorded_edit import GraphCall
from alterbute_export.checks.type_audit import audit_graph, check_types
from alterbute_export.cuda.cuda_graph import expand_for_cpu, rewrite_for_cuda
from alterbute_export.cuda.prologue import split_prologue
from alterbute_export.errors import PrecisionError
from alterbute_export.half.convert import PrecisionReport, convert_graph
from alterbute_export.half.simulate import round_values
from alterbute_export.onnx_io.ir import write_model
from alterbute_export.onnx_io.sessions import open_session
from alterbute_export.onnx_io.weights import WeightStore

CUDA_SUFFIX: Final = ".cuda.onnx"
PROLOGUE_SUFFIX: Final = ".prologue.onnx"
_GROUP_NORMS: Final = frozenset({"GroupNorm", "SkipGroupNorm"})
# Largest allowed error, as a share of an output's largest value.
_LIMITS: Final[dict[Precision, float]] = {"fp32": 1e-5, "fp16": 2e-2, "bf16": 1e-1}


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantFile:
    """A written file of a graph in another precision."""

    file: str
    audit: TypeAudit
    """Types of its arithmetic, and the values that overflowed in the recorded edit."""
    relative_error: float | None
    """Difference from fp32 in the recorded edit, as a share of an output's largest value; None when it was not measured."""
    prologue: str | None = None
    """File of the graph that computes this file's inputs that do not change from step to step; None without one."""
    unfused: Mapping[str, int] = field(default_factory=dict)
    """Number of operators that stayed as exported because a kernel's condition does not hold, by condition."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VariantJob:
    """What all files of one graph in one precision have in common.

    Args:
        folder: The bundle's folder, to which files are written.
        graph: The graph's name.
        precision: Type of the graph's heavy part.
        store: The weights file for converted weights.
        calls: Recorded runs of the fp32 graph; none: overflow and error are not measured.
        sizes: Value of every free dimension, for the audit.
        overflow: Magnitude of the plain graph's values that are too large for fp16, by name.
    """

    folder: Path
    graph: str
    precision: Precision
    store: WeightStore
    calls: list[GraphCall]
    sizes: Mapping[str, int]
    overflow: Mapping[str, float]


def write_variant(job: VariantJob, model: ir.Model, file: str) -> VariantFile:
    """Convert a graph, decomposed or with fused attention, write it and check it.

    Args:
        job: The graph's name, folder and measurements.
        model: The fp32 graph; it is changed.
        file: Name of the file to write.

    Raises:
        PrecisionError: the graph is further from fp32 than its type explains, or is mostly fp32.
    """
    fp32_model = ir.to_proto(model)
    report = convert_graph(model, job.precision, fp32_values=job.overflow.keys())
    job.store.move_out(model)
    write_model(model, job.folder / file)
    del model
    return _check(job, fp32_model, report, file, job.overflow)


def write_cuda_variant(job: VariantJob, file: str, prologue_file: str) -> VariantFile | None:
    """Rewrite a graph for ONNX Runtime's CUDA kernels, convert it, write it with its prologue, and check it.

    Args:
        job: The graph's name, folder and measurements.
        file: Name of the file to write.
        prologue_file: Name of the prologue's file; not written where nothing can be computed ahead of the steps.

    Returns:
        The written file; None for a graph without group normalization, which the rewrite does not make faster, and for one in
        which values overflow fp16 (see `rewrite_for_cuda`).

    Raises:
        PrecisionError: as for `write_variant`.
    """
    model = ir.load(job.folder / f"{job.graph}.onnx")
    rewrites = rewrite_for_cuda(model, fp32_values=job.overflow.keys())
    if not _GROUP_NORMS & rewrites.fused.keys():
        return None
    # ONNX Runtime's CPU provider does not have most of these operators: their definitions are measured.
    expanded = ir.from_proto(ir.to_proto(model))
    expand_for_cpu(expanded)
    fp32_model = ir.to_proto(expanded)
    # Values of the two graphs differ by a bias at most, and the limit is a quarter of fp16's range: what overflows nowhere in the
    # plain graph does not overflow here.
    report = convert_graph(model, job.precision)
    prologue = split_prologue(model) if job.graph == "step" else None
    job.store.move_out(model)
    write_model(model, job.folder / file, has_value_info=False)
    if prologue is not None:
        job.store.move_out(prologue)
        write_model(prologue, job.folder / prologue_file, has_value_info=False)
    del model
    # One recorded run: the plain graph, which rounds at more places, was measured in all of them.
    written = _check(replace(job, calls=job.calls[-1:]), fp32_model, report, file, {})
    return VariantFile(
        file=written.file,
        audit=written.audit,
        relative_error=written.relative_error,
        prologue=None if prologue is None else prologue_file,
        unfused=rewrites.unfused,
    )


def _check(
    job: VariantJob, fp32_model: onnx.ModelProto, report: PrecisionReport, file: str, overflow: Mapping[str, float]
) -> VariantFile:
    """Audit a written file's types, and measure its error with roundings in the fp32 graph that it was converted from."""
    audit = audit_graph(job.folder / file, job.sizes, islands=report.fp32_by_reason, overflow=overflow)
    check_types(job.graph, job.precision, audit)
    error = _measure(fp32_model, job.folder, report.rounded, report.precision, job.calls) if job.calls else None
    if error is not None and not error <= _LIMITS[job.precision]:
        raise PrecisionError(
            f"the graph {job.graph!r} in {job.precision} is {error:.1e} from fp32 on the sample edit",
            f"at most {_LIMITS[job.precision]:.0e} of the largest value",
            "export this checkpoint in bf16 or fp32, and report its configs",
        )
    return VariantFile(file=file, audit=audit, relative_error=error)


def _measure(
    model: onnx.ModelProto, folder: Path, rounded: Collection[str], precision: Precision, calls: Iterable[GraphCall]
) -> float:
    """Largest difference that rounding makes in any output, as a share of that output's largest value.

    Args:
        model: The fp32 graph; it is changed.
        folder: The folder of its external weights.
        rounded: Names of the values and weights that the conversion rounds.
        precision: The precision that they are rounded to.
        calls: Recorded runs of the fp32 graph.
    """
    if precision != "fp32":
        round_values(model, rounded, precision)
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
