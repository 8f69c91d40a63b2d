"""One denoising step beside its peers: same weights, same inputs, contenders in turn.

    python -m benchmarks.peers.measure_step --bundle BUNDLE --checkpoint CHECKPOINT --out benchmarks/results/peers.json
    python -m benchmarks.peers.measure_step --bundle PLAIN --checkpoint CHECKPOINT --contenders diffusers alterbute optimum \
        --optimum-python ENVIRONMENT/bin/python --optimum-export FOLDER --out benchmarks/results/peers.json

Every turn of a contender is a process of its own: it loads, runs two steps to warm up, and times a few. Turns alternate, and the medians
are over all turns; each is kept at once, and a run goes on where the last one stopped: `--limit 1` takes one turn. A step is two rows with
guidance. `openvino` reads the decomposed graph with its free sizes, `openvino-fixed` compiles it for the sizes at hand. optimum-onnx
knows no IP-Adapter and needs an older transformers, so an environment of its own: its folder is made there by
`optimum-cli export onnx --library diffusers --task inpainting --model CHECKPOINT FOLDER`, and compared on a bundle without an adapter.
The file holds one entry per name.
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
from benchmarks.peers.alternate import Entry, Turns, alternating_parser, run_alternating
from benchmarks.peers.processes import Turn, print_process, run_process
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
"""In ONNX Runtime the second launch of a graph without fused attention took a fifth longer than the next, or more."""
_PACKAGES: Final = ("torch", "diffusers", "onnxruntime", "openvino", "optimum-onnx")


def take_turn(options: argparse.Namespace) -> Turn:
    """Load a contender, warm it up, keep what it gives, and time its steps."""
    folder = options.optimum_export if options.turn == "optimum" else options.checkpoint
    bundle = options.int8_bundle if options.turn == "alterbute-int8" else options.bundle
    start = time.perf_counter()
    step = make_step(options.turn, bundle, folder, options.side, options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    np.save(options.work / f"{options.turn}.npy", np.asarray(step()))
    for _ in range(_WARM_UP - 1):
        step()
    ready = time.perf_counter() - start
    times, cpu = [], []
    for _ in range(options.steps):
        wall, used = time.perf_counter(), time.process_time()
        step()
        times.append(round(time.perf_counter() - wall, 4))
        cpu.append(round(time.process_time() - used, 4))
    return {"ready_s": round(ready, 2), "wall_s": times, "cpu_s": cpu}


def compare_output(work: Path, kind: str) -> float:
    """The largest difference from the base's guided output, by its largest value."""
    wanted, found = (np.load(work / f"{name}.npy") for name in (_BASE, kind))
    return float(f"{np.abs(found - wanted).max() / np.abs(wanted).max():.1e}")


def summarise(turns: Turns) -> Entry:
    """Per contender: median seconds, speed and error against the base, the highest peak; and its turns."""
    rows: Entry = {}
    wall = {kind: [value for turn in taken for value in turn["wall_s"]] for kind, taken in turns.items() if taken}
    for kind, seconds in wall.items():
        taken = turns[kind]
        row: Entry = {"wall_s": round(statistics.median(seconds), 3)}
        row["cpu_s"] = round(statistics.median(value for turn in taken for value in turn["cpu_s"]), 3)
        row["peak_gb"] = round(max(turn["peak_bytes"] for turn in taken) / 1e9, 2)
        if _BASE in wall:
            row["speed"] = round(statistics.median(wall[_BASE]) / statistics.median(seconds), 3)
        errors = [turn["relative_error"] for turn in taken if "relative_error" in turn]
        if errors:
            row["relative_error"] = max(errors)
        rows[kind] = {**row, "turns": taken}
    return rows


def measure(options: argparse.Namespace) -> None:
    """Take the turns that are missing."""
    names = ("bundle", "checkpoint", "side", "steps", "threads", "int8_bundle", "optimum_export", "work", "out")
    shared = [
        word
        for name in names
        if getattr(options, name)
        for word in (f"--{name.replace('_', '-')}", str(getattr(options, name)))
    ]

    def take(kind: str) -> Turn | str:
        python = options.optimum_python if kind == "optimum" else sys.executable
        found = run_process("benchmarks.peers.measure_step", ["--turn", kind, *shared], python)
        if isinstance(found, str):
            return found
        if found["packages"] == package_versions(_PACKAGES):
            found.pop("packages")  # the machine's facts have them
        return (
            {**found, "relative_error": compare_output(options.work, kind)}
            if (options.work / f"{_BASE}.npy").exists()
            else found
        )

    asked = {**{name: getattr(options, name) for name in ("side", "steps", "threads")}, "rows": 2, "guidance": GUIDANCE}
    name = options.name or f"{options.bundle.name}, {options.side}x{options.side} latent"
    run_alternating(options, name, asked, machine_facts(*_PACKAGES), take, summarise)


def main() -> None:
    """Take turns, or be one."""
    parser = alternating_parser(__doc__, CONTENDERS, _DEFAULT)
    parser.add_argument("--side", type=int, default=64, help="latent height and width")
    parser.add_argument("--steps", type=int, default=2, help="timed steps of a turn")
    parser.add_argument(
        "--int8-bundle", type=Path, help="the bundle as `alterbute-export quantize` made it, for `alterbute-int8`"
    )
    parser.add_argument(
        "--optimum-python", default=sys.executable, help="interpreter of the environment that has optimum-onnx"
    )
    parser.add_argument("--optimum-export", type=Path, help="the checkpoint as optimum-onnx exported it")
    options = parser.parse_args()
    if "optimum" in options.contenders and options.optimum_export is None:
        parser.error("the contender optimum needs --optimum-export, a folder made by `optimum-cli export onnx`")
    if "alterbute-int8" in options.contenders and options.int8_bundle is None:
        parser.error("the contender alterbute-int8 needs --int8-bundle")
    if options.turn:
        print_process(take_turn(options), _PACKAGES)
    else:
        measure(options)


if __name__ == "__main__":
    main()
