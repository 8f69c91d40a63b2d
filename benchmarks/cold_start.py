"""Time of a first edit as a whole process, from its start to the written image, on a warm disk.

    python -m benchmarks.cold_start --out benchmarks/results/cold_start.json

Each figure summarises several fresh processes; the first one, which warms the disk cache, is not counted.
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


def run_code(code: str, runs: int) -> list[float]:
    """Run Python code in fresh processes; returns the seconds that each of them prints."""
    command = [sys.executable, "-c", code]
    processes = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(runs + 1)]
    return [float(process.stdout) for process in processes[1:]]


def time_edit_process(runs: int, steps: int | None = None, bundle: Path | None = None) -> list[float]:
    """Wall seconds of `alterbute edit` as a process: interpreter, import, sessions, edit, PNG and before/after sheet.

    Args:
        runs: Number of counted processes.
        steps: Denoising steps; None takes the bundle's default.
        bundle: The bundle's folder; None takes the demo bundle.
    """
    seconds = []
    command = [sys.executable, "-m", "alterbute.cli", "edit", "--seed", "1", "--quiet"]
    command += ["--steps", str(steps)] if steps else []
    command += ["--bundle", str(bundle.resolve())] if bundle else []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs + 1):
            begin = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True, env=os.environ)
            seconds.append(time.perf_counter() - begin)
    return seconds[1:]


def main() -> None:
    """Measure, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="counted processes of each kind")
    parser.add_argument("--out", type=Path, default=None, help="result file (JSON); default: print only")
    options = parser.parse_args()
    machine = machine_facts("onnxruntime", "numpy", "pillow", "tokenizers", "typer")
    figures = {
        "import alterbute": summary_ms(run_code(IMPORT, options.runs)),
        "import Editor and onnxruntime": summary_ms(run_code(IMPORT_EDITOR, options.runs)),
        "alterbute edit": summary_ms(time_edit_process(options.runs)),
        "alterbute edit --steps 20": summary_ms(time_edit_process(options.runs, 20)),
    }
    write_results(options.out, {"processes": figures, "machine": machine})


if __name__ == "__main__":
    main()
