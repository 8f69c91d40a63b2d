"""Stages `bundle` and `sdxl`: models of published size with random weights, made here where no bundle was given."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.gpu.cases import SD15, SDXL, SMOKE, make_model
from benchmarks.gpu.contenders import add_half_variants
from benchmarks.gpu.stage_plan import GpuJob, Stage
from benchmarks.gpu.stage_record import StageRecord
from benchmarks.gpu.stages.product import measure_product


def run_bundle(job: GpuJob, record: StageRecord) -> None:
    """Make the checkpoint and the bundle that `job` names, with graphs in fp16."""
    for name in record.pending(["export"]):
        with record.case(name) as found:
            bundle = make_model(SMOKE if job.is_smoke else SD15, Path(job.work))
            if not job.is_smoke:
                add_half_variants(bundle)
            found["bundle"] = str(bundle)


def run_sdxl(job: GpuJob, record: StageRecord) -> None:
    """Measure the product on the second bundle, which is made here if none was given."""
    bundle = Path(job.sdxl)
    for name in record.pending([] if job.sdxl else ["export"]):
        with record.case(name):
            bundle = make_model(SDXL, Path(job.work))
            add_half_variants(bundle)
    measure_product(str(bundle), job.backend, record, runs=8)


BUNDLE: Final = Stage(
    name="bundle",
    measures="a bundle of published size with random weights, made on this machine's CPU",
    seconds=360,
    limit=1200,
    run=run_bundle,
    is_in_smoke=True,
    needs_bundle=False,
)
SDXL_GIVEN: Final = Stage(
    name="sdxl",
    measures="the product on SDXL at 1024x1024, 20 guided steps, batch 1",
    seconds=120,
    limit=300,
    run=run_sdxl,
    contender="onnxruntime-cuda",
    needs_bundle=False,
)
SDXL_MADE: Final = Stage(
    name="sdxl",
    measures="SDXL at 1024x1024 made on this machine's CPU, then the product on it, 20 guided steps, batch 1",
    seconds=1500,
    limit=3600,
    run=run_sdxl,
    contender="onnxruntime-cuda",
    needs_bundle=False,
)
