"""Peak resident memory of a step and of a whole edit, in fresh processes.

    python -m benchmarks.memory --out benchmarks/results/memory.json
    python -m benchmarks.memory --bundle FOLDER --steps 1 --out benchmarks/results/memory.json

Each case runs in a process of its own, so that no peak hides another: `libraries` imports them and nothing else, `step` loads the step
graph and launches it twice for one image, `edit` makes a whole edit with all graphs. The kernel counts pages of mapped files once they
are touched. For `step`, the peak while loading and the peak while running are reported separately.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.common.bundle_options import bundle_folder, make_bundle_parser, save_figures
from benchmarks.common.machine import machine_facts

_ROOT: Final = Path(__file__).parents[1]
_CASES: Final = ("libraries", "step", "edit")
_STATUS: Final = Path("/proc/self/status")
_CLEAR: Final = Path("/proc/self/clear_refs")


def resident_mb(key: str) -> float:
    """Resident memory of this process in MB: now (key `VmRSS`) or its peak (`VmHWM`)."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(key):
            return round(int(line.split()[1]) / 1000, 1)
    raise SystemExit(f"{_STATUS} has no {key}; expected Linux")


def reset_peak() -> bool:
    """Reset the peak to the current resident size; returns whether the kernel allowed it."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def run_case(case: str, folder: Path, steps: int | None, threads: int | None) -> dict[str, float]:
    """Run one case in this process, which must be fresh; returns its peaks in MB by name.

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

    from benchmarks.common.timing import load_sample
    from benchmarks.step_share import draw_inputs

    if case == "libraries":
        return {"peak_mb": resident_mb("VmHWM")}
    bundle = open_bundle(folder)
    if case == "step":
        backend = OnnxRuntimeBackend(bundle, threads=threads, graphs=("step",))
        backend._sessions["step"].result()
        backend._pool.shutdown(wait=True)  # the weights' bytes are released shortly after the last session was made
        loaded = {"load_peak_mb": resident_mb("VmHWM"), "resident_mb": resident_mb("VmRSS")}
        reset_peak()
        inputs = draw_inputs(bundle.manifest, 1)
        state = np.zeros(inputs["state"].shape, np.float32)
        for _ in range(2):
            backend.run("step", inputs, {"next_state": state})
    else:
        editor = Editor(bundle, backend=OnnxRuntimeBackend(bundle, threads=threads), slots=1)
        photo, mask, prompt = load_sample(bundle)
        loaded = {}
        editor.edit(photo, mask, prompt, steps=steps, seed=1)
    run_peak = resident_mb("VmHWM")
    peak = max(run_peak, loaded.get("load_peak_mb", 0.0))
    return {**loaded, **({"run_peak_mb": run_peak} if loaded else {}), "peak_mb": peak}


def measure(folder: Path, steps: int | None, threads: int | None, cases: tuple[str, ...]) -> dict[str, Any]:
    """Peaks by case, each measured in a fresh process.

    Args:
        folder: The bundle's folder.
        steps: Denoising steps; None takes the bundle's default.
        threads: CPU threads; None takes the backend's default.
        cases: Names of the cases.
    """
    peaks = {}
    for case in cases:
        command = [sys.executable, "-m", "benchmarks.memory", "--case", case, "--bundle", str(folder.resolve())]
        command += ["--steps", str(steps)] if steps else []
        command += ["--threads", str(threads)] if threads else []
        process = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_ROOT)
        if process.returncode != 0:
            raise SystemExit(f"the case {case} failed:\n{process.stderr[-2000:]}")
        peaks[case] = json.loads(process.stdout)
    return peaks


def main() -> None:
    """Measure all cases and write the result file, or run one case in this process."""
    parser = make_bundle_parser(__doc__)
    parser.add_argument("--cases", nargs="+", choices=_CASES, default=list(_CASES), help="cases to measure")
    parser.add_argument("--case", choices=_CASES, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()

    from alterbute.bundle import open_bundle

    folder = bundle_folder(options)
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
    save_figures(options, figures)


if __name__ == "__main__":
    main()
