"""Stage `kernels`: GPU time of one step by kernel, as CUPTI reports it through torch's profiler."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.stage_plan import GpuJob, Stage
from benchmarks.gpu.stage_record import StageRecord
from benchmarks.gpu.stages.ceilings import import_torch
from benchmarks.gpu.stages.step_session import StepVariant, open_step, product_variant, step_feed

_RUNS: Final = 5
_SHOWN: Final = 40
_GROUPS: Final = (
    ("attention", ("flash", "fmha", "attention", "sdpa", "softmax")),
    ("convolution", ("conv", "implicit", "fprop", "xmma", "nchwtonhwc", "nhwctonchw")),
    ("product", ("gemm", "cutlass", "cublas", "nvjet", "splitk", "dot_kernel")),
    ("normalization", ("norm", "bn_fw")),
    ("memory", ("memcpy", "memset", "transpose", "concat", "cast", "split", "slice")),
)


def run(job: GpuJob, record: StageRecord) -> None:
    """Profile the product's step graph without a CUDA graph and with one."""
    torch = import_torch()
    product = product_variant(job.bundle)
    feed = step_feed(job.bundle)
    captures = {"no CUDA graph": "0", "CUDA graph": "1"}
    for name in record.pending(captures):
        with record.case(name) as found:
            options = {"enable_cuda_graph": captures[name]}
            session = open_step(
                job.bundle, StepVariant(file=product.file, prologue=product.prologue, options=options), feed
            )
            for _ in range(4):
                session.launch()
            kinds = torch.profiler.ProfilerActivity
            with torch.profiler.profile(activities=[kinds.CUDA, kinds.CPU]) as seen:
                for _ in range(_RUNS):
                    session.launch()
                torch.cuda.synchronize()
            rows = [
                (event.self_device_time_total / 1000 / _RUNS, event.count / _RUNS, event.key)
                for event in seen.key_averages()
                if event.self_device_time_total
            ]
            found.update(summarize_kernels(rows))
            text = "\n".join(f"{ms:8.4f} ms {count:7.1f} x  {key}" for ms, count, key in sorted(rows, reverse=True))
            (Path(job.out) / f"kernels-{name.replace(' ', '-')}.txt").write_text(text + "\n", encoding="utf-8")


def summarize_kernels(rows: list[tuple[float, float, str]]) -> dict[str, Any]:
    """Sums over kernels, and the longest ones.

    Args:
        rows: Milliseconds of one step, launches of one step, and name of each kernel.
    """
    groups: Counter[str] = Counter()
    for ms, _, key in rows:
        groups[_group(key)] += ms  # type: ignore[assignment]  # counts here are milliseconds
    longest = sorted(rows, reverse=True)[:_SHOWN]
    return {
        "gpu_ms": round(sum(row[0] for row in rows), 4),
        "launches": round(sum(row[1] for row in rows), 1),
        "groups_ms": {name: round(ms, 4) for name, ms in groups.most_common()},
        "longest": [[round(ms, 4), round(count, 1), key[:150]] for ms, count, key in longest],
    }


def _group(key: str) -> str:
    lower = key.lower()
    return next((name for name, words in _GROUPS if any(word in lower for word in words)), "pointwise and other")


KERNELS: Final = Stage(
    name="kernels",
    measures="GPU time of one step by kernel, with and without a CUDA graph",
    seconds=35,
    limit=90,
    run=run,
    case_limit=60,
    contender="onnxruntime-cuda",
)
