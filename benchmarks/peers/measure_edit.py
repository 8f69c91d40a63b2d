"""A whole edit compared with peers: 20 steps with guidance and an IP-Adapter reference, encoders and decoder included.

    python -m benchmarks.peers.measure_edit --bundle BUNDLE --checkpoint CHECKPOINT --out benchmarks/results/peers_edit.json

`diffusers` is its inpainting pipeline with IP-Adapter in eager fp32, `alterbute` is `Editor.edit` on ONNX Runtime, and `openvino` is the
same editor on OpenVINO in fp32 with the bundle's decomposed graphs. All use DDIM and the same weights, photo, mask, reference, token ids
and initial noise, so that their clean latents and generated pixels can be compared. diffusers is changed to take the mean of the
autoencoder's posterior instead of a sample. Two differences remain: alterbute also encodes the photo, not the masked photo only, and it
crops the window and pastes it back.

Each contender runs in processes of its own, which alternate. A process loads, makes a warm-up edit of one step, and times one edit. Its
result is written at once, and the program resumes where its last run stopped: `--limit 1` runs one process, `--again NAME` drops a
contender's earlier results.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Final

import numpy as np
from alterbute.bundle import open_bundle

from benchmarks.common.machine import machine_facts
from benchmarks.peers.alternate import Entry, Results, alternating_parser, run_alternating
from benchmarks.peers.edit_contenders import EDITS, open_contender
from benchmarks.peers.inputs import GUIDANCE, SOLVER, EditInputs, make_inputs
from benchmarks.peers.processes import ProcessResult, print_result, run_process

_BASE: Final = "diffusers"
_PARTS: Final = ("whole", "encode", "steps", "decode")
_PACKAGES: Final = ("torch", "diffusers", "onnxruntime", "openvino")


def run_contender(options: argparse.Namespace) -> ProcessResult:
    """Load a contender, warm it up, time one edit, and save its latent, picture and alpha under `--work`."""
    inputs, start = EditInputs.load(options.work / "inputs.npz"), time.perf_counter()
    contender = open_contender(options.contender, options.bundle, options.checkpoint, options.threads)
    loaded = time.perf_counter()
    contender.edit(inputs, 1)
    warm = time.perf_counter()
    edit = contender.edit(inputs, options.steps)
    np.savez(options.work / f"{options.contender}.npz", latent=edit.latent, picture=edit.picture, alpha=edit.alpha)
    seconds = {part: round(value, 4) for part, value in edit.seconds.items()}
    return {"load_s": round(loaded - start, 2), "warm_up_s": round(warm - loaded, 2), "seconds": seconds}


def compare_output(work: Path, kind: str) -> dict[str, float]:
    """Errors of a contender's last edit against diffusers'.

    Returns:
        `latent_error`, the largest difference relative to the largest value; of the pixels where both alphas are 255,
        the share that differs (`pixels_off`) and the largest difference in 8-bit levels (`pixel_max`).
    """
    with np.load(work / f"{_BASE}.npz") as expected, np.load(work / f"{kind}.npz") as edit:
        latent = float(np.abs(edit["latent"] - expected["latent"]).max() / np.abs(expected["latent"]).max())
        painted = (edit["alpha"] == 255) & (expected["alpha"] == 255)
        levels = np.abs(edit["picture"][painted].astype(int) - expected["picture"][painted])
    return {
        "latent_error": float(f"{latent:.1e}"),
        "pixels_off": float(f"{(levels > 0).mean():.1e}"),
        "pixel_max": int(levels.max()),
    }


def summarise(results: Results) -> Entry:
    """By contender: median seconds, speed relative to diffusers, largest errors, highest peak, and all results (`turns`)."""
    rows: Entry = {}
    median = {
        kind: {part: statistics.median(result["seconds"][part] for result in runs) for part in _PARTS}
        for kind, runs in results.items()
        if runs
    }
    for kind, seconds in median.items():
        runs = results[kind]
        row: Entry = {"seconds": {part: round(value, 3) for part, value in seconds.items()}}
        if _BASE in median:
            row["speed"] = {part: round(median[_BASE][part] / value, 3) for part, value in seconds.items()}
        errors = [result["compared"] for result in runs if "compared" in result]
        if errors:
            row["compared"] = {name: max(error[name] for error in errors) for name in errors[0]}
        rows[kind] = {**row, "peak_gb": round(max(result["peak_bytes"] for result in runs) / 1e9, 2), "turns": runs}
    return rows


def measure(options: argparse.Namespace) -> None:
    """Run the processes whose results are missing."""
    bundle = open_bundle(options.bundle)
    inputs, base = options.work / "inputs.npz", options.work / f"{_BASE}.npz"
    if not inputs.exists():
        make_inputs(bundle).save(inputs)
    names = ("bundle", "checkpoint", "steps", "threads", "work", "out")
    arguments = [word for key in names for word in (f"--{key}", str(getattr(options, key)))]

    def run(kind: str) -> ProcessResult | str:
        result = run_process("benchmarks.peers.measure_edit", ["--turn", kind, *arguments])
        if isinstance(result, str):
            return result
        result.pop("packages")  # all run in this environment: the machine facts list the packages
        return {**result, "compared": compare_output(options.work, kind)} if base.exists() else result

    settings = {"resolution": bundle.manifest.resolution, "steps": options.steps, "threads": options.threads}
    settings |= {"solver": SOLVER, "guidance": GUIDANCE}
    name = options.name or f"{options.bundle.name}, {options.steps} steps"
    run_alternating(options, name, settings, machine_facts(*_PACKAGES), run, summarise)


def main() -> None:
    """Run all contenders, or time one contender in this process."""
    parser = alternating_parser(__doc__, EDITS, EDITS)
    parser.add_argument("--steps", type=int, default=20, help="denoising steps of an edit")
    options = parser.parse_args()
    if options.contender:
        print_result(run_contender(options), _PACKAGES)
    else:
        measure(options)


if __name__ == "__main__":
    main()
