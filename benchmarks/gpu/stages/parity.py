"""Stage `parity`: the measured backend against fp32, in one step and in whole edits of 20 steps."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from alterbute.backends import Array

from benchmarks.gpu.stage_plan import GpuJob, Stage
from benchmarks.gpu.stage_record import StageRecord
from benchmarks.gpu.stages.edits import LATENT_LIMIT, RunOutput, TimedEditor, compare, relative_error
from benchmarks.gpu.stages.step_session import REFERENCE_FILE, open_fp32_step, open_product_step, step_feed

_ONE_STEP, _ON_GPU, _ON_CPU = "one step against the CPU", "20 steps against the GPU's fp32", "20 steps against the CPU"


def run(job: GpuJob, record: StageRecord) -> None:
    """Compare one step with ONNX Runtime in fp32 on the CPU, then 20 steps with fp32 on the GPU and, in the time left, on the CPU."""

    @cache
    def output() -> RunOutput:
        timed = TimedEditor(job.bundle, job.backend)
        try:
            return timed.output()
        finally:
            timed.editor.close()

    names = [_ONE_STEP, _ON_CPU] if job.is_smoke else [_ONE_STEP, _ON_GPU, _ON_CPU]
    for name in record.pending(names):
        # An edit on the CPU takes 20 of the steps that the first case timed, its other graphs, and loading.
        if name == _ON_CPU and 25 * record.cases.get(_ONE_STEP, {}).get("cpu_step_s", 0) + 10 > record.time_left:
            record.leave_out(name)
            continue
        with record.case(name) as found:
            if name == _ONE_STEP:
                expected, found["cpu_step_s"] = reference_step(job)
                actual = open_product_step(job.bundle, job.backend, step_feed(job.bundle)).run()
                error = relative_error(actual, expected)
                found.update(relative_error=error, is_finite=bool(np.isfinite(actual).all()))
                found["passes"] = bool(error <= LATENT_LIMIT)
                continue
            found["backend"], reference = job.backend, "onnxruntime" if name == _ON_CPU else job.backend
            ours = output()
            wide = TimedEditor(job.bundle, reference, is_fp32=True)
            found.update(reference=f"{reference}, fp32", **compare(ours, wide.output()))
            wide.editor.close()


def reference_step(job: GpuJob) -> tuple[Array, float]:
    """Next state [1,K,C,h,w] f32 of one guided step in fp32 on the CPU, and its seconds; stages that follow find it in a file."""
    session, feed = open_fp32_step(job.bundle), step_feed(job.bundle)
    begin = time.perf_counter()
    expected: Array = session.run(None, feed)[0]
    seconds = time.perf_counter() - begin
    np.save(Path(job.out) / "stages" / REFERENCE_FILE, expected)
    return expected, round(seconds, 3)


PARITY: Final = Stage(
    name="parity",
    measures="error of one step, of latents after 20 steps, and PSNR of the picture, against fp32",
    seconds=90,
    limit=180,
    run=run,
    contender="onnxruntime-cuda",
    is_in_smoke=True,
)
