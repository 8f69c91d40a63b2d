"""Stage `product`: the product as it is, one image at a time."""

from __future__ import annotations

from functools import cache
from typing import Final

from benchmarks.gpu.roofline import graph_work
from benchmarks.gpu.stage_plan import GpuJob, Stage
from benchmarks.gpu.stage_record import StageRecord
from benchmarks.gpu.stages.edits import TimedEditor, measure_batch, measure_graphs, measure_whole_edits


def run(job: GpuJob, record: StageRecord) -> None:
    """Measure the first edit, the step, whole edits and every graph of `job.bundle`."""
    measure_product(job.bundle, job.backend, record, runs=2 if job.is_smoke else 20)


def measure_product(folder: str, backend: str, record: StageRecord, runs: int) -> None:
    """Measure a bundle on a backend of the product, one image at a time.

    Args:
        folder: The bundle's folder.
        backend: A name in `alterbute.backends.BACKENDS`.
        record: Where the cases are stored.
        runs: Number of counted edits.
    """

    @cache
    def open_once() -> TimedEditor:
        return TimedEditor(folder, backend)

    for name in record.pending(["work", "batch 1", "whole edits", "graphs"]):
        with record.case(name) as found:
            if name == "work":
                found["graphs"] = graph_work(folder, backend)
                continue
            timed = open_once()
            found.update(backend=backend, precision=timed.editor.precision, open_s=timed.open_s)
            found.update(warm_up_s=timed.warm_up_s, first_edit_s=timed.first_edit_s)
            record.save()
            if name == "batch 1":
                found.update(measure_batch(timed, 1, runs, 2 * runs))
                found["memory_mb"] = timed.used_mb()
            elif name == "whole edits":
                found.update(measure_whole_edits(timed, runs))
            else:
                timed.edit()
                found["graphs_ms"] = measure_graphs(timed, runs)


PRODUCT: Final = Stage(
    name="product",
    measures="whole edits and the step alone, 20 guided steps, batch 1, on the product's own backend",
    seconds=60,
    limit=120,
    run=run,
    contender="onnxruntime-cuda",
    is_in_smoke=True,
)
