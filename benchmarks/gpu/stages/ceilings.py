"""Stage `machine`: what this card reaches in large products, a convolution and copies, measured in the same run as everything else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from benchmarks.gpu.stage_plan import GpuJob, Stage
from benchmarks.gpu.stage_record import StageRecord, StageSkippedError

_PRODUCTS: Final = {"product 8192": (8192, 8192, 8192), "product 16384x4096x4096": (16384, 4096, 4096)}
_COPY_BYTES: Final = 2**32
_RUNS: Final = 20
_SMOKE_SIDE: Final = 1024


def run(job: GpuJob, record: StageRecord) -> None:
    """Measure TFLOP/s of fp16 products and of a convolution, and TB/s of a copy, counting bytes read and written."""
    if job.is_smoke:
        _run_on_cpu(record)
        return
    torch = import_torch()
    for name in record.pending([*_PRODUCTS, "convolution 3x3", "copy"]):
        with record.case(name) as found:
            if name in _PRODUCTS:
                found["tflops"] = _product_tflops(torch, *_PRODUCTS[name])
            elif name == "copy":
                found["tb_per_s"] = _copy_tb_per_s(torch)
            else:
                found["convolution_tflops"] = _convolution_tflops(torch)


def _product_tflops(torch: Any, rows: int, inner: int, columns: int) -> float:
    left, right = (torch.randn(*shape, **_half(torch)) for shape in ((rows, inner), (inner, columns)))
    return 2e-12 * rows * inner * columns / time_on_gpu(torch, lambda: left @ right, _RUNS)


def _copy_tb_per_s(torch: Any) -> float:
    source = torch.empty(_COPY_BYTES // 4, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    return 2e-12 * _COPY_BYTES / time_on_gpu(torch, lambda: target.copy_(source), _RUNS)


def _convolution_tflops(torch: Any) -> float:
    """The size of SD 1.5's widest pictures at batch 8, in the layout of cuDNN's tensor-core kernels."""
    layout = torch.channels_last
    picture = torch.randn(16, 320, 64, 64, **_half(torch)).to(memory_format=layout)
    weight = torch.randn(320, 320, 3, 3, **_half(torch)).to(memory_format=layout)
    seconds = time_on_gpu(torch, lambda: torch.nn.functional.conv2d(picture, weight, padding=1), _RUNS)
    return 2e-12 * int(picture.numel()) * int(weight[0].numel()) / seconds


def _half(torch: Any) -> dict[str, Any]:
    return {"device": "cuda", "dtype": torch.float16}


def _run_on_cpu(record: StageRecord) -> None:
    matrix = np.random.default_rng(0).standard_normal((_SMOKE_SIDE, _SMOKE_SIDE)).astype(np.float32)
    for name in record.pending(["product", "copy"]):
        with record.case(name) as found:
            if name == "product":
                found["tflops"] = 2 * _SMOKE_SIDE**3 / _best_seconds(lambda: matrix @ matrix) / 1e12
            else:
                source = np.zeros(2**24, np.uint8)
                found["tb_per_s"] = 2 * source.nbytes / _best_seconds(source.copy) / 1e12


def _best_seconds(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def import_torch() -> Any:
    """torch with a CUDA device, without TF32.

    Raises:
        StageSkippedError: torch is not installed, or has no CUDA device.
    """
    try:
        import torch
    except ImportError as fault:
        raise StageSkippedError(f"torch cannot be imported ({fault})") from fault
    if not torch.cuda.is_available():
        raise StageSkippedError(f"torch {torch.__version__} has no CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch


def time_on_gpu(torch: Any, call: Callable[[], Any], runs: int) -> float:
    """Seconds of one call on the GPU, between two CUDA events around `runs` calls after three of warm-up.

    Args:
        torch: The module.
        call: Enqueues work on torch's current stream.
        runs: Number of timed calls.
    """
    for _ in range(3):
        call()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(runs):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / runs / 1000


CEILINGS: Final = Stage(
    name="machine",
    measures="ceilings of this card: TFLOP/s of fp16 products and a convolution, TB/s of a copy",
    seconds=20,
    limit=60,
    run=run,
    contender="torch",
    is_in_smoke=True,
    needs_bundle=False,
)
