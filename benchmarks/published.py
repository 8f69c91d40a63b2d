"""Cost of exporting a published checkpoint: peak memory, seconds and sizes, with random weights in the published shapes.

    python -m benchmarks.published sd15-adapter sdxl-adapter-vit-h --work /tmp/published
    python -m benchmarks.published sd15-adapter --precision fp16 --work /tmp/published

Each export runs in a process of its own; the kernel reports the peak of resident memory of it and its children when it ends. The
result file has one entry per kind and precision. A checkpoint that exists under `--work` is reused; bundles are deleted after they
were measured, unless `--keep` is given.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from alterbute.bundle import Manifest, Precision, verify_bundle
from alterbute_export.checkpoint.reader import read_checkpoint
from alterbute_export.checks.resources import estimate_resources

from benchmarks.common.machine import machine_facts
from benchmarks.common.results_file import update_results

RESULTS = Path(__file__).parent / "results" / "published.json"
PACKAGES = ("torch", "diffusers", "transformers", "onnx", "onnxruntime")
MEMORY_SHARE = 1.6
"""Largest allowed ratio of an export's peak memory to the checkpoint's fp32 size."""


def run_child(command: list[str]) -> tuple[float, int]:
    """Run a command; returns wall seconds and the peak of resident memory in bytes, of it or of its largest child."""
    start = time.monotonic()
    pid = os.spawnv(os.P_NOWAIT, command[0], command)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command[1:4])} failed with exit code {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - start, usage.ru_maxrss * 1024


def measure(kind: str, precision: Precision, work: Path, *, keep: bool, measures: bool) -> dict[str, Any]:
    """Export a sample checkpoint, which is made if it does not exist; returns time, memory, sizes and errors.

    Args:
        kind: Kind of the checkpoint, from `alterbute-export sample-checkpoint list`.
        precision: Precision of the export.
        work: Folder for checkpoint and bundle.
        keep: Whether to keep the bundle afterwards.
        measures: Whether the export measures the error of half precision with a real edit.
    """
    checkpoint, bundle = work / f"{kind}-checkpoint", work / f"{kind}-{precision}-bundle"
    tool = [sys.executable, "-m", "alterbute_export"]
    if not checkpoint.exists():
        run_child([*tool, "sample-checkpoint", kind, "--size", "published", "-o", str(checkpoint)])
    flag = "--measure" if measures else "--no-measure"
    seconds, peak = run_child([*tool, "bundle", str(checkpoint), "-o", str(bundle), "--precision", precision, flag])
    manifest = verify_bundle(bundle).manifest
    estimate = estimate_resources(read_checkpoint(checkpoint), precision, measure=measures)
    fp32_bytes = estimate.fp32
    figures = {
        "seconds": round(seconds),
        "peak_gb": round(peak / 1e9, 2),
        "estimated_gb": round(estimate.memory / 1e9, 2),
        "checkpoint_fp32_gb": round(fp32_bytes / 1e9, 2),
        "peak_by_fp32_size": round(peak / fp32_bytes, 2),
        "is_within_limit": peak <= MEMORY_SHARE * fp32_bytes,
        "checkpoint_disk_gb": round(_folder_bytes(checkpoint) / 1e9, 2),
        "bundle_disk_gb": round(_folder_bytes(bundle) / 1e9, 2),
        "graphs": {name: _describe_graph(manifest, name) for name in manifest.graphs},
    }
    if not keep:
        shutil.rmtree(bundle)
    return figures


def _describe_graph(manifest: Manifest, name: str) -> dict[str, Any]:
    graph = manifest.graphs[name]
    variant = next(item for item in graph.variants if item.file == f"{name}.onnx")
    return {
        "file_mb": round(manifest.files[variant.file].size / 1e6, 2),
        "parity": graph.parity.relative_error if graph.parity else None,
        "types": dict(variant.audit.shares) if variant.audit else None,
        "overflow": len(variant.audit.overflow) if variant.audit else 0,
        "from_fp32": variant.relative_error,
    }


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Measure the kinds of the command line one by one; write each result as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", help="kinds that `alterbute-export sample-checkpoint list` prints")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), default="fp32", help="precision of the export")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and bundles")
    parser.add_argument("--keep", action="store_true", help="keep the bundles")
    parser.add_argument(
        "--no-measure",
        action="store_true",
        help="half precision: skip the real edit that finds overflows and measures errors",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="result file (JSON)")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for kind in options.kinds:
        figures = measure(kind, options.precision, options.work, keep=options.keep, measures=not options.no_measure)
        update_results(options.out, f"{kind} {options.precision}", {**figures, "machine": machine_facts(*PACKAGES)})
        print(f"{kind} {options.precision}: {figures['seconds']} s, peak {figures['peak_gb']} GB")


if __name__ == "__main__":
    main()
