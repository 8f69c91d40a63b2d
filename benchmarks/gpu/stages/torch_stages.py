"""Stages `torch`, `compile` and `torch-batches`: the same step in torch, fp16 and channels last."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.gpu.cases import BATCHES
from benchmarks.gpu.stage_plan import GpuJob, Stage
from benchmarks.gpu.stage_record import StageRecord, StageSkippedError
from benchmarks.gpu.stages.ceilings import import_torch, time_on_gpu
from benchmarks.gpu.stages.edits import LATENT_LIMIT, relative_error
from benchmarks.gpu.stages.step_session import REFERENCE_FILE, step_feed

_RUNS: Final = 30
Call = Callable[[], Any]


def run_eager(job: GpuJob, record: StageRecord) -> None:
    """Time the step eagerly, and as one CUDA graph, at batch 1."""
    torch, opened = import_torch(), _opener(job)
    for name in record.pending(["eager", "CUDA graph"]):
        with record.case(name) as found, torch.inference_mode():
            call, facts = opened(1)
            found.update(facts)
            found.update(_check(job, call))
            found.update(_time(torch, _capture(torch, call) if name == "CUDA graph" else call))


def run_compiled(job: GpuJob, record: StageRecord) -> None:
    """Compile the step for batch 1 and time it; the seconds of the first calls, which compile, are a result, too."""
    torch, opened = import_torch(), _opener(job)
    for name in record.pending(["reduce-overhead"]):
        with record.case(name) as found, torch.inference_mode():
            call, facts = opened(1, mode=name)
            found.update(facts)
            begin = time.monotonic()
            for _ in range(2):
                call()
            torch.cuda.synchronize()
            found["compile_s"] = round(time.monotonic() - begin, 1)
            record.save()
            found.update(_check(job, call))
            found.update(_time(torch, call))


def run_batches(job: GpuJob, record: StageRecord) -> None:
    """Time the step in a CUDA graph at batches above 1."""
    torch, opened = import_torch(), _opener(job)
    for name in record.pending([f"batch {batch}" for batch in BATCHES[1:]]):
        with record.case(name) as found, torch.inference_mode():
            call, facts = opened(int(name.split()[1]))
            found.update(facts)
            found.update(_time(torch, _capture(torch, call)))


def _opener(job: GpuJob) -> Callable[..., tuple[Call, dict[str, Any]]]:
    """A function that gives a call of the step at a batch size, and facts about it; the module is made once."""
    try:
        from benchmarks.gpu.torch_step import make_step, step_arguments
    except ImportError as fault:
        raise StageSkippedError(f"the exporter's modules cannot be imported ({fault})") from fault

    @cache
    def module() -> Any:
        checkpoint = Path(job.checkpoint) if job.checkpoint else None
        return make_step(Path(job.bundle), checkpoint, step_feed(job.bundle), "cuda", is_half=True)

    def open_call(batch: int, mode: str | None = None) -> tuple[Call, dict[str, Any]]:
        import torch

        step, weights = module()
        arguments = step_arguments(step, step_feed(job.bundle, batch, 2 * batch), "cuda")
        called = torch.compile(step, mode=mode) if mode else step
        return (lambda: called(*arguments)), {"batch": batch, "rows": 2 * batch, "torch_weights": weights}

    return open_call


def _capture(torch: Any, call: Call) -> Call:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()

    def replay(kept: Any = kept) -> None:
        graph.replay()

    return replay


def _time(torch: Any, call: Call) -> dict[str, float]:
    return {
        "step_ms": round(1000 * time_on_gpu(torch, call, _RUNS), 4),
        "memory_mb": round(torch.cuda.max_memory_allocated() / 1e6),
    }


def _check(job: GpuJob, call: Call) -> dict[str, Any]:
    """Error of the step against fp32 on the CPU; it says nothing where torch has other random weights than the bundle."""
    path = Path(job.out) / "stages" / REFERENCE_FILE
    if not path.exists():
        return {}
    error = relative_error(call().float().cpu().numpy(), np.load(path))
    return {"relative_error": error, "passes": bool(error <= LATENT_LIMIT)}


TORCH: Final = Stage(
    name="torch",
    measures="the same step in torch, fp16, channels last, batch 1: eager and in a CUDA graph",
    seconds=45,
    limit=120,
    run=run_eager,
    contender="torch",
)
COMPILED: Final = Stage(
    name="compile",
    measures="the same step under torch.compile (reduce-overhead), batch 1, with its compile seconds",
    seconds=110,
    limit=200,
    run=run_compiled,
    contender="torch",
)
TORCH_BATCHES: Final = Stage(
    name="torch-batches",
    measures="the same step in torch, in a CUDA graph, at batches 2, 4 and 8",
    seconds=40,
    limit=90,
    run=run_batches,
    contender="torch",
)
