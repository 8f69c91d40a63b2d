"""Stage `graphs`: the step under each set of provider options, and every step graph of the bundle, timed beside each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from alterbute.backends import Array

from benchmarks.gpu.stage_plan import GpuJob, Stage
from benchmarks.gpu.stage_record import StageRecord
from benchmarks.gpu.stages.edits import LATENT_LIMIT, relative_error
from benchmarks.gpu.stages.step_session import (
    REFERENCE_FILE,
    StepVariant,
    open_step,
    product_variant,
    step_feed,
    step_files,
)

_RUNS: Final = 40
_NHWC: Final = {"prefer_nhwc": "1"}
_OPTIONS: Final[dict[str, tuple[bool, dict[str, str]]]] = {
    "as the product": (False, {}),
    "static sizes": (True, {}),
    "conv+bias": (False, {"fuse_conv_bias": "1"}),
    "static, NHWC": (True, _NHWC),
    "static, NHWC, conv+bias": (True, {**_NHWC, "fuse_conv_bias": "1"}),
    "flash attention 2": (False, {"sdpa_kernel": "1"}),
    "conv search by heuristics": (False, {"cudnn_conv_algo_search": "HEURISTIC"}),
    "no CUDA graph": (False, {"enable_cuda_graph": "0"}),
}
"""Whether free dimensions are replaced by their sizes, and options that differ from the product's, by name of the case."""


def run(job: GpuJob, record: StageRecord) -> None:
    """Time 40 steps of each variant, and compare its first output with fp32; one outside the limits is timed and marked."""
    variants = step_variants(job.bundle)
    feed = step_feed(job.bundle)
    expected, source = _reference(job)
    for name in record.pending(variants):
        with record.case(name) as found:
            variant = variants[name]
            found.update(file=variant.file, prologue=variant.prologue, is_static=variant.is_static)
            found["options"] = dict(variant.options)
            session = open_step(job.bundle, variant, feed)
            actual = session.run()
            if expected is None:
                expected, source = actual, f"{name!r}"
            error = relative_error(actual, expected)
            found.update(relative_error=error, compared_with=source, passes=bool(error <= LATENT_LIMIT))
            record.save()
            found.update(session.time(_RUNS))
            # The next session gets the memory of this one.
            del session


def step_variants(folder: str) -> dict[str, StepVariant]:
    """The measured variants by name: the product's graph first, then every other graph, then provider options of the product's graph."""
    product = product_variant(folder)
    base = StepVariant(file=product.file, prologue=product.prologue)
    options = {
        name: replace(base, is_static=is_static, options=changes) for name, (is_static, changes) in _OPTIONS.items()
    }
    first = next(iter(options))
    files = {f"file {variant.file}": variant for variant in step_files(folder) if variant.file != product.file}
    return {first: options.pop(first), **files, **options}


def _reference(job: GpuJob) -> tuple[Array | None, str]:
    path = Path(job.out) / "stages" / REFERENCE_FILE
    return (np.load(path), "fp32 on the CPU") if path.exists() else (None, "")


STEP_GRAPHS: Final = Stage(
    name="graphs",
    measures="the step alone: every step graph of the bundle, and ONNX Runtime's options on the product's graph",
    seconds=100,
    limit=180,
    run=run,
    case_limit=60,
    contender="onnxruntime-cuda",
)
