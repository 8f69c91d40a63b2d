"""How long does a newcomer wait? Whole processes, from nothing to a written picture, on a warm disk.

    python benchmarks/cold_start.py --out benchmarks/results/cold_start.json

Each figure is the median of several fresh processes; the first one, which warms the disk, is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import onnxruntime

IMPORT = "import time; t = time.perf_counter(); import alterbute; print(time.perf_counter() - t)"
IMPORT_EDITOR = "import time; t = time.perf_counter(); from alterbute import Editor; import onnxruntime; print(time.perf_counter() - t)"


def processor() -> str:
    """The CPU's name as Linux gives it; elsewhere what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def inside(code: str, runs: int) -> list[float]:
    """Seconds that the code itself reports, in fresh processes."""
    command = [sys.executable, "-c", code]
    return [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(runs + 1)][
        1:
    ]


def whole_edit(runs: int, steps: int) -> list[float]:
    """Wall seconds of `alterbute edit` as a process: interpreter, import, sessions, edit, PNG."""
    seconds = []
    with tempfile.TemporaryDirectory() as desk:
        command = [sys.executable, "-m", "alterbute.cli", "edit", "--steps", str(steps), "--seed", "1", "--quiet"]
        for _ in range(runs + 1):
            begin = time.perf_counter()
            subprocess.run(command, cwd=desk, check=True)
            seconds.append(time.perf_counter() - begin)
    return seconds[1:]


def summary(seconds: list[float]) -> dict[str, float]:
    return {
        "median_s": round(statistics.median(seconds), 3),
        "min_s": round(min(seconds), 3),
        "max_s": round(max(seconds), 3),
        "n": len(seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    figures = {
        "import alterbute": summary(inside(IMPORT, options.runs)),
        "import Editor and onnxruntime": summary(inside(IMPORT_EDITOR, options.runs)),
        f"alterbute edit, whole process, {options.steps} steps": summary(whole_edit(options.runs, options.steps)),
        "machine": {
            "processor": processor(),
            "cpus": os.cpu_count(),
            "load_before": round(os.getloadavg()[0], 2),
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
        },
    }
    text = json.dumps(figures, indent=2) + "\n"
    if options.out:
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
