"""Time of a first edit as a whole process, from its start to a written picture, on a warm disk.

    python -m benchmarks.cold_start --out benchmarks/results/cold_start.json

Each figure is over several fresh processes; the first one, which warms the disk, is not counted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.common.machine import machine_facts
from benchmarks.common.results_file import write_results
from benchmarks.common.timing import summary_ms

IMPORT: Final = "import time; t = time.perf_counter(); import alterbute; print(time.perf_counter() - t)"
IMPORT_EDITOR: Final = "import time; t = time.perf_counter(); from alterbute import Editor; import onnxruntime; print(time.perf_counter() - t)"


def inside(code: str, runs: int) -> list[float]:
    """Seconds that the code prints, in fresh processes."""
    command = [sys.executable, "-c", code]
    found = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(runs + 1)]
    return [float(process.stdout) for process in found[1:]]


def whole_edit(runs: int, steps: int | None = None, bundle: Path | None = None) -> list[float]:
    """Wall seconds of `alterbute edit` as a process: interpreter, import, sessions, edit, PNG and before/after sheet.

    Args:
        runs: Number of processes that are counted.
        steps: Denoising steps; None takes the bundle's default.
        bundle: The bundle's folder. None is the demo bundle.
    """
    seconds = []
    command = [sys.executable, "-m", "alterbute.cli", "edit", "--seed", "1", "--quiet"]
    command += ["--steps", str(steps)] if steps else []
    command += ["--bundle", str(bundle.resolve())] if bundle else []
    with tempfile.TemporaryDirectory() as desk:
        for _ in range(runs + 1):
            begin = time.perf_counter()
            subprocess.run(command, cwd=desk, check=True, env=os.environ)
            seconds.append(time.perf_counter() - begin)
    return seconds[1:]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    machine = machine_facts("onnxruntime", "numpy", "pillow", "tokenizers", "typer")
    figures = {
        "import alterbute": summary_ms(inside(IMPORT, options.runs)),
        "import Editor and onnxruntime": summary_ms(inside(IMPORT_EDITOR, options.runs)),
        "alterbute edit": summary_ms(whole_edit(options.runs)),
        "alterbute edit --steps 20": summary_ms(whole_edit(options.runs, 20)),
    }
    write_results(options.out, {"processes": figures, "machine": machine})


if __name__ == "__main__":
    main()
