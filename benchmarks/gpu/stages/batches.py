"""Stage `batches`: images per second of the product when several images are denoised together."""

from __future__ import annotations

from typing import Final

from benchmarks.gpu.cases import BATCHES
from benchmarks.gpu.stage_plan import GpuJob, Stage
from benchmarks.gpu.stage_record import StageRecord
from benchmarks.gpu.stages.edits import TimedEditor, measure_batch


def run(job: GpuJob, record: StageRecord) -> None:
    """Measure edits of a prepared photo at every batch size, in one editor."""
    batches = {f"batch {batch}": batch for batch in (BATCHES[:2] if job.is_smoke else BATCHES)}
    timed: TimedEditor | None = None
    for name in record.pending(batches):
        with record.case(name) as found:
            timed = timed or TimedEditor(job.bundle, job.backend, slots=max(batches.values()))
            runs = 2 if job.is_smoke else 8
            found.update(measure_batch(timed, batches[name], runs, 2 * runs))
            found.update(warm_up_s=timed.warm_up_s, memory_mb=timed.used_mb())


PRODUCT_BATCHES: Final = Stage(
    name="batches",
    measures="images per second of the product, 20 guided steps, at batches 1, 2, 4 and 8",
    seconds=60,
    limit=120,
    run=run,
    contender="onnxruntime-cuda",
    is_in_smoke=True,
)
