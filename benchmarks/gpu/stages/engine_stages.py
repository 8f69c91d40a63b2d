"""Stages `tensorrt` and `tensorrt-rtx`: engines built for this GPU, and the product on them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from benchmarks.gpu.contenders import add_engines
from benchmarks.gpu.gpu_machine import probe_machine
from benchmarks.gpu.stage_plan import GpuJob, Stage
from benchmarks.gpu.stage_record import StageRecord, StageSkippedError
from benchmarks.gpu.stages.product import measure_product

_RUNS: Final = 20


def run_tensorrt(job: GpuJob, record: StageRecord) -> None:
    """Build TensorRT's engines and measure the product on them."""
    _measure("tensorrt", job, record)


def run_rtx(job: GpuJob, record: StageRecord) -> None:
    """Build TensorRT-RTX's engines and measure the product on them."""
    _measure("tensorrt_rtx", job, record)


def _measure(name: str, job: GpuJob, record: StageRecord) -> None:
    target = Path(job.work) / f"{Path(job.bundle).name}-{name}"
    for case in record.pending(["build"]):
        with record.case(case) as found:
            begin = time.monotonic()
            target, recipe = add_engines(name, Path(job.bundle), Path(job.work), probe_machine())
            if not recipe:
                raise StageSkippedError("no shipped recipe is for this GPU")
            found.update(recipe=recipe, build_s=round(time.monotonic() - begin, 1))
    if "build" in record.cases:
        measure_product(str(target), name, record, _RUNS)


TENSORRT: Final = Stage(
    name="tensorrt",
    measures="the product on TensorRT engines built here, batch 1, with the seconds of the build",
    seconds=420,
    limit=900,
    run=run_tensorrt,
    contender="tensorrt",
)
RTX: Final = Stage(
    name="tensorrt-rtx",
    measures="the product on TensorRT-RTX engines built here, batch 1, with the seconds of the build",
    seconds=420,
    limit=900,
    run=run_rtx,
    contender="tensorrt_rtx",
)
