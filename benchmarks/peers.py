"""One denoising step beside its peers: same weights, same inputs, contenders in turn.

    python -m benchmarks.peers --bundle BUNDLE --checkpoint CHECKPOINT --out benchmarks/results/peers.json
    python -m benchmarks.peers --bundle PLAIN --checkpoint CHECKPOINT --contenders diffusers alterbute optimum \
        --optimum-python ENVIRONMENT/bin/python --optimum-export FOLDER --out benchmarks/results/peers.json

Every turn of a contender is a process of its own: it loads, runs one step to warm up, and times a few. Turns alternate, and the medians
are over all turns. A step is two rows with guidance. `openvino` reads the decomposed graph with its free sizes, `openvino-fixed` compiles
it for the sizes at hand. optimum-onnx knows no IP-Adapter and needs an older transformers, so an environment of its own: its
folder is made there by `optimum-cli export onnx --model CHECKPOINT FOLDER`, and compared on a bundle without an adapter.
The file holds one entry per name; a run replaces its own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.machine import machine_facts, package_versions
from benchmarks.peer_parts.steps import make_step
from benchmarks.peer_parts.turns import Turn, run_turn, tell_turn
from benchmarks.results_file import update_results

CONTENDERS: Final = (
    "diffusers",
    "alterbute",
    "decomposed",
    "openvino",
    "openvino-fixed",
    "diffusers-bf16",
    "diffusers-compile",
    "optimum",
)
_BASE: Final = "diffusers"
_PACKAGES: Final = ("torch", "diffusers", "onnxruntime", "openvino", "optimum-onnx")


def take_turn(options: argparse.Namespace) -> Turn:
    """Load a contender, warm it up, and time its steps."""
    folder = options.optimum_export if options.turn == "optimum" else options.checkpoint
    start = time.perf_counter()
    step = make_step(options.turn, options.bundle, folder, options.side, options.threads)
    output = np.asarray(step())
    ready, times, cpu = time.perf_counter() - start, [], []
    for _ in range(options.steps):
        wall, used = time.perf_counter(), time.process_time()
        step()
        times.append(time.perf_counter() - wall)
        cpu.append(time.process_time() - used)
    return {"output": output.ravel().tolist(), "ready_s": ready, "wall_s": times, "cpu_s": cpu}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every contender's turns, and what they say against the first."""
    turns: dict[str, list[Turn]] = {kind: [] for kind in options.contenders}
    failed: dict[str, str] = {}
    names = ("bundle", "checkpoint", "side", "steps", "threads", "optimum_export")
    shared = [word for name in names if getattr(options, name) for word in (f"--{name.replace('_', '-')}", str(getattr(options, name)))]
    for _ in range(options.rounds):
        for kind in options.contenders:
            python = options.optimum_python if kind == "optimum" else sys.executable
            found = run_turn("benchmarks.peers", ["--turn", kind, *shared], python)
            if isinstance(found, str):
                failed[kind] = found
                continue
            turns[kind].append(found)
            sys.stderr.write(f"{kind}: {found['wall_s']}\n")
    return {"contenders": compare(turns), "failed": failed}


def compare(turns: dict[str, list[Turn]]) -> dict[str, Any]:
    """Median seconds, peak memory, speed and error against the base contender, where that one ran."""
    rows: dict[str, Any] = {}
    base = turns.get(_BASE) or None
    for kind, taken in turns.items():
        if not taken:
            continue
        wall = [value for turn in taken for value in turn["wall_s"]]
        row: dict[str, Any] = {"wall_s": round(statistics.median(wall), 3), "all_wall_s": [round(value, 3) for value in wall]}
        row["cpu_s"] = round(statistics.median(value for turn in taken for value in turn["cpu_s"]), 3)
        row["ready_s"] = round(statistics.median(turn["ready_s"] for turn in taken), 1)
        row["peak_gb"] = round(max(turn["peak_bytes"] for turn in taken) / 1e9, 2)
        if taken[0]["packages"] != package_versions(_PACKAGES):
            row["packages"] = taken[0]["packages"]
        if base is not None:
            wanted, found = np.array(base[0]["output"]), np.array(taken[0]["output"])
            reference = statistics.median(value for turn in base for value in turn["wall_s"])
            row["speed"] = round(reference / statistics.median(wall), 3)
            row["relative_error"] = float(f"{np.abs(found - wanted).max() / np.abs(wanted).max():.1e}")
        rows[kind] = row
    return rows


def make_parser() -> argparse.ArgumentParser:
    """The command line, of the program and of its turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--name", help="the entry's name; else that of the bundle's folder and the latent's size")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS[:4]))
    parser.add_argument("--side", type=int, default=64, help="latent height and width")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--optimum-python", default=sys.executable, help="interpreter of the environment that has optimum-onnx")
    parser.add_argument("--optimum-export", type=Path, help="the checkpoint as optimum-onnx exported it")
    parser.add_argument("--turn", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    return parser


def main() -> None:
    """Run the contenders, or one turn of one of them."""
    options = make_parser().parse_args()
    if options.turn:
        tell_turn(take_turn(options), _PACKAGES)
        return
    if "optimum" in options.contenders and options.optimum_export is None:
        raise SystemExit("the contender optimum needs --optimum-export, a folder made by `optimum-cli export onnx`")
    asked = {name: getattr(options, name) for name in ("side", "rounds", "steps", "threads")}
    figures = {"machine": machine_facts(*_PACKAGES), "asked": {**asked, "rows": 2}, **measure(options)}
    update_results(options.out, options.name or f"{options.bundle.name}, {options.side}x{options.side} latent", figures)


if __name__ == "__main__":
    main()
