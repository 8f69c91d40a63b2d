"""Memory of a step and of a whole edit: peak resident bytes of fresh processes, from the kernel.

    python -m benchmarks.memory --out benchmarks/results/memory.json
    python -m benchmarks.memory --bundle FOLDER --steps 1 --out benchmarks/results/memory.json

Each case is a process of its own, so that no peak of one hides another's: Python with the libraries and nothing else, the step graph alone
(opened and launched twice for one image), and a whole edit with all graphs. Pages of files that are only mapped count where they
were touched. The peaks of loading and of running a graph are reported apart.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.common.bundle_options import bundle_parser, chosen_bundle, keep
from benchmarks.common.machine import machine_facts

_ROOT: Final = Path(__file__).parents[1]
_CASES: Final = ("libraries", "step", "edit")
_STATUS: Final = Path("/proc/self/status")
_CLEAR: Final = Path("/proc/self/clear_refs")


def resident_mb(key: str) -> float:
    """`VmRSS` or `VmHWM`, the peak, of this process."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(key):
            return round(int(line.split()[1]) / 1000, 1)
    raise SystemExit(f"{_STATUS} has no {key}: this program needs Linux")


def forget_peak() -> bool:
    """Reset the peak to the resident size; returns False where the kernel does not allow it."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def run_case(case: str, folder: Path, steps: int | None, threads: int | None) -> dict[str, float]:
    """Run one case in this process, which must be fresh; returns its peaks in MB.

    Args:
        case: `libraries`, `step` or `edit`.
        folder: The bundle's folder.
        steps: Denoising steps; None takes the bundle's default.
        threads: CPU threads; None takes the backend's default.
    """
    import numpy as np
    from alterbute.backends.onnxruntime import OnnxRuntimeBackend
    from alterbute.bundle import open_bundle
    from alterbute.editor import Editor

    from benchmarks.common.timing import sample
    from benchmarks.step_share import draw

    if case == "libraries":
        return {"peak_mb": resident_mb("VmHWM")}
    bundle = open_bundle(folder)
    if case == "step":
        backend = OnnxRuntimeBackend(bundle, threads=threads, graphs=("step",))
        backend._sessions["step"].result()
        backend._pool.shutdown(wait=True)  # the file's bytes are let go a moment after the last session is made
        loaded = {"load_peak_mb": resident_mb("VmHWM"), "resident_mb": resident_mb("VmRSS")}
        forget_peak()
        inputs = draw(bundle.manifest, 1)
        state = np.zeros(inputs["state"].shape, np.float32)
        for _ in range(2):
            backend.run("step", inputs, {"next_state": state})
    else:
        editor = Editor(bundle, backend=OnnxRuntimeBackend(bundle, threads=threads), slots=1)
        photo, mask, prompt = sample(bundle)
        loaded = {}
        editor.edit(photo, mask, prompt, steps=steps, seed=1)
    run_peak = resident_mb("VmHWM")
    peak = max(run_peak, loaded.get("load_peak_mb", 0.0))
    return {**loaded, **({"run_peak_mb": run_peak} if loaded else {}), "peak_mb": peak}


def measure(folder: Path, steps: int | None, threads: int | None, cases: tuple[str, ...]) -> dict[str, Any]:
    """Run all cases, each in a fresh process.

    Args:
        folder: The bundle's folder.
        steps: Denoising steps; None takes the bundle's default.
        threads: CPU threads; None takes the backend's default.
        cases: Names of the cases.
    """
    found = {}
    for case in cases:
        command = [sys.executable, "-m", "benchmarks.memory", "--case", case, "--bundle", str(folder.resolve())]
        command += ["--steps", str(steps)] if steps else []
        command += ["--threads", str(threads)] if threads else []
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_ROOT)
        if done.returncode != 0:
            raise SystemExit(f"the case {case} failed:\n{done.stderr[-2000:]}")
        found[case] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and write."""
    parser = bundle_parser(__doc__)
    parser.add_argument("--cases", nargs="+", choices=_CASES, default=list(_CASES))
    parser.add_argument("--case", choices=_CASES, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()

    from alterbute.bundle import open_bundle

    folder = chosen_bundle(options)
    if options.case:
        print(json.dumps(run_case(options.case, folder, options.steps, options.threads)))
        return
    manifest = open_bundle(folder).manifest
    figures = {
        "weights_mb": round(sum(entry.size for entry in manifest.files.values()) / 1e6, 1),
        "precision": sorted({variant.precision for variant in manifest.graphs["step"].variants}),
        "cases": measure(folder, options.steps, options.threads, tuple(options.cases)),
        "machine": machine_facts("onnxruntime", "numpy", "pillow"),
    }
    keep(options, figures)


if __name__ == "__main__":
    main()
