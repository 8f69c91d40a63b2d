"""One denoising step compared with peers: same weights, same inputs.

    python -m benchmarks.peers.measure_step --bundle BUNDLE --checkpoint CHECKPOINT --out benchmarks/results/peers.json
    python -m benchmarks.peers.measure_step --bundle PLAIN --checkpoint CHECKPOINT --contenders diffusers alterbute optimum \
        --optimum-python ENVIRONMENT/bin/python --optimum-export FOLDER --out benchmarks/results/peers.json

Each contender runs in processes of its own, which alternate. A process loads, runs two warm-up steps, and times `--steps` steps; medians
are over the steps of all processes. Its result is written at once, and the program resumes where its last run stopped: `--limit 1` runs
one process. A step is one UNet call of two rows with guidance. `openvino` compiles the decomposed graph with free dimensions,
`openvino-fixed` for the shapes of this step. optimum-onnx does not support IP-Adapter and needs an older transformers, hence an
environment of its own, in which `optimum-cli export onnx --library diffusers --task inpainting --model CHECKPOINT FOLDER` writes its
model; it is compared on a bundle without an adapter. The result file has one entry per `--name`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.common.machine import machine_facts, package_versions
from benchmarks.peers.alternate import Entry, Results, alternating_parser, run_alternating
from benchmarks.peers.processes import ProcessResult, print_result, run_process
from benchmarks.peers.step_contenders import GUIDANCE, make_step

CONTENDERS: Final = (
    "diffusers",
    "alterbute",
    "alterbute-int8",
    "decomposed",
    "openvino",
    "openvino-fixed",
    "diffusers-bf16",
    "diffusers-compile",
    "optimum",
)
_DEFAULT: Final = ("diffusers", "alterbute", "decomposed", "openvino", "openvino-fixed")
_BASE: Final = "diffusers"
_WARM_UP: Final = 2
"""Warm-up steps. Without fused attention, the second launch in ONNX Runtime takes at least a fifth longer than the next."""
_PACKAGES: Final = ("torch", "diffusers", "onnxruntime", "openvino", "optimum-onnx")


def run_contender(options: argparse.Namespace) -> ProcessResult:
    """Load a contender, warm it up, save its output under `--work`, and time its steps."""
    folder = options.optimum_export if options.contender == "optimum" else options.checkpoint
    bundle = options.int8_bundle if options.contender == "alterbute-int8" else options.bundle
    start = time.perf_counter()
    step = make_step(options.contender, bundle, folder, options.side, options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    np.save(options.work / f"{options.contender}.npy", np.asarray(step()))
    for _ in range(_WARM_UP - 1):
        step()
    ready = time.perf_counter() - start
    wall_s, cpu_s = [], []
    for _ in range(options.steps):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        step()
        wall_s.append(round(time.perf_counter() - wall_start, 4))
        cpu_s.append(round(time.process_time() - cpu_start, 4))
    return {"ready_s": round(ready, 2), "wall_s": wall_s, "cpu_s": cpu_s}


def compare_output(work: Path, kind: str) -> float:
    """Largest difference of a contender's guided output from diffusers', relative to the largest value."""
    expected, output = (np.load(work / f"{name}.npy") for name in (_BASE, kind))
    return float(f"{np.abs(output - expected).max() / np.abs(expected).max():.1e}")


def summarise(results: Results) -> Entry:
    """By contender: median seconds, speed relative to and error against diffusers, highest peak, and all results (`turns`)."""
    rows: Entry = {}
    wall = {kind: [value for result in runs for value in result["wall_s"]] for kind, runs in results.items() if runs}
    for kind, seconds in wall.items():
        runs = results[kind]
        row: Entry = {"wall_s": round(statistics.median(seconds), 3)}
        row["cpu_s"] = round(statistics.median(value for result in runs for value in result["cpu_s"]), 3)
        row["peak_gb"] = round(max(result["peak_bytes"] for result in runs) / 1e9, 2)
        if _BASE in wall:
            row["speed"] = round(statistics.median(wall[_BASE]) / statistics.median(seconds), 3)
        errors = [result["relative_error"] for result in runs if "relative_error" in result]
        if errors:
            row["relative_error"] = max(errors)
        rows[kind] = {**row, "turns": runs}
    return rows


def measure(options: argparse.Namespace) -> None:
    """Run the processes whose results are missing."""
    names = ("bundle", "checkpoint", "side", "steps", "threads", "int8_bundle", "optimum_export", "work", "out")
    arguments = [
        word
        for name in names
        if getattr(options, name)
        for word in (f"--{name.replace('_', '-')}", str(getattr(options, name)))
    ]

    def run(kind: str) -> ProcessResult | str:
        python = options.optimum_python if kind == "optimum" else sys.executable
        result = run_process("benchmarks.peers.measure_step", ["--turn", kind, *arguments], python)
        if isinstance(result, str):
            return result
        if result["packages"] == package_versions(_PACKAGES):
            result.pop("packages")  # the machine facts list them
        if (options.work / f"{_BASE}.npy").exists():
            result["relative_error"] = compare_output(options.work, kind)
        return result

    settings = {
        **{name: getattr(options, name) for name in ("side", "steps", "threads")},
        "rows": 2,
        "guidance": GUIDANCE,
    }
    name = options.name or f"{options.bundle.name}, {options.side}x{options.side} latent"
    run_alternating(options, name, settings, machine_facts(*_PACKAGES), run, summarise)


def main() -> None:
    """Run all contenders, or time one contender in this process."""
    parser = alternating_parser(__doc__, CONTENDERS, _DEFAULT)
    parser.add_argument("--side", type=int, default=64, help="height and width of the latent in cells")
    parser.add_argument("--steps", type=int, default=2, help="timed steps of a process")
    parser.add_argument(
        "--int8-bundle", type=Path, help="bundle that `alterbute-export quantize` wrote, for `alterbute-int8`"
    )
    parser.add_argument(
        "--optimum-python", default=sys.executable, help="Python interpreter of the environment with optimum-onnx"
    )
    parser.add_argument("--optimum-export", type=Path, help="folder that `optimum-cli export onnx` wrote")
    options = parser.parse_args()
    if "optimum" in options.contenders and options.optimum_export is None:
        parser.error("the contender optimum needs --optimum-export, a folder that `optimum-cli export onnx` wrote")
    if "alterbute-int8" in options.contenders and options.int8_bundle is None:
        parser.error("the contender alterbute-int8 needs --int8-bundle")
    if options.contender:
        print_result(run_contender(options), _PACKAGES)
    else:
        measure(options)


if __name__ == "__main__":
    main()
