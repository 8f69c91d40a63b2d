"""A whole edit beside its peers: 20 steps with guidance and an IP-Adapter reference, from pictures and words to a picture.

    python -m benchmarks.peers.measure_edit --bundle BUNDLE --checkpoint CHECKPOINT --out benchmarks/results/peers_edit.json

`diffusers` is its inpainting pipeline with IP-Adapter in eager fp32, `alterbute` is `Editor.edit` on ONNX Runtime, `openvino` is the same
editor over OpenVINO in fp32 with the bundle's decomposed graphs. All take the same weights, photo, mask, reference, token ids and first
noise, and DDIM: the maths is the same, so the clean latents and the painted pixels are compared. Differences that stay: diffusers takes
the mean of the autoencoder's posterior, as we do, instead of drawing from it; it encodes the masked photo alone, we the photo too; we cut
the window, and paste it into the photo.

Every turn is a process of its own: it loads, makes an edit of one step to warm up, and times one edit. Turns alternate. What a turn found
is kept as soon as it is there, and a run goes on where the last one stopped: `--limit 1` takes one turn, `--again KIND` forgets one's turns.
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
from benchmarks.peers.alternate import Entry, Turns, alternating_parser, run_alternating
from benchmarks.peers.edit_contenders import EDITS, open_contender
from benchmarks.peers.inputs import GUIDANCE, SOLVER, EditInputs, make_inputs
from benchmarks.peers.processes import Turn, print_process, run_process

_BASE: Final = "diffusers"
_PARTS: Final = ("whole", "encode", "steps", "decode")
_PACKAGES: Final = ("torch", "diffusers", "onnxruntime", "openvino")


def take_turn(options: argparse.Namespace) -> Turn:
    """Load a contender, warm it up, time one edit, and keep what it made."""
    inputs, start = EditInputs.load(options.work / "material.npz"), time.perf_counter()
    contender = open_contender(options.turn, options.bundle, options.checkpoint, options.threads)
    loaded = time.perf_counter()
    contender.edit(inputs, 1)
    warm = time.perf_counter()
    made = contender.edit(inputs, options.steps)
    np.savez(options.work / f"{options.turn}.npz", latent=made.latent, picture=made.picture, alpha=made.alpha)
    seconds = {part: round(value, 4) for part, value in made.seconds.items()}
    return {"load_s": round(loaded - start, 2), "warm_up_s": round(warm - loaded, 2), "seconds": seconds}


def compare_made(work: Path, kind: str) -> dict[str, float]:
    """How far a contender's last edit is from the base's: latents by their largest value, pixels where both painted in full."""
    with np.load(work / f"{_BASE}.npz") as wanted, np.load(work / f"{kind}.npz") as found:
        latent = float(np.abs(found["latent"] - wanted["latent"]).max() / np.abs(wanted["latent"]).max())
        painted = (found["alpha"] == 255) & (wanted["alpha"] == 255)
        levels = np.abs(found["picture"][painted].astype(int) - wanted["picture"][painted])
    return {
        "latent_error": float(f"{latent:.1e}"),
        "pixels_off": float(f"{(levels > 0).mean():.1e}"),
        "pixel_max": int(levels.max()),
    }


def summarise(turns: Turns) -> Entry:
    """Per contender: medians over its turns, speed against the base, the worst error, the highest peak; and its turns."""
    rows: Entry = {}
    median = {
        kind: {part: statistics.median(turn["seconds"][part] for turn in taken) for part in _PARTS}
        for kind, taken in turns.items()
        if taken
    }
    for kind, seconds in median.items():
        taken = turns[kind]
        row: Entry = {"seconds": {part: round(value, 3) for part, value in seconds.items()}}
        if _BASE in median:
            row["speed"] = {part: round(median[_BASE][part] / value, 3) for part, value in seconds.items()}
        compared = [turn["compared"] for turn in taken if "compared" in turn]
        if compared:
            row["compared"] = {name: max(found[name] for found in compared) for name in compared[0]}
        rows[kind] = {**row, "peak_gb": round(max(turn["peak_bytes"] for turn in taken) / 1e9, 2), "turns": taken}
    return rows


def measure(options: argparse.Namespace) -> None:
    """Take the turns that are missing."""
    bundle = open_bundle(options.bundle)
    inputs, base = options.work / "material.npz", options.work / f"{_BASE}.npz"
    if not inputs.exists():
        make_inputs(bundle).save(inputs)
    names = ("bundle", "checkpoint", "steps", "threads", "work", "out")
    shared = [word for key in names for word in (f"--{key}", str(getattr(options, key)))]

    def take(kind: str) -> Turn | str:
        found = run_process("benchmarks.peers.measure_edit", ["--turn", kind, *shared])
        if isinstance(found, str):
            return found
        found.pop("packages")  # all run in this environment: the machine's facts have them
        return {**found, "compared": compare_made(options.work, kind)} if base.exists() else found

    asked = {"resolution": bundle.manifest.resolution, "steps": options.steps, "threads": options.threads}
    asked |= {"solver": SOLVER, "guidance": GUIDANCE}
    name = options.name or f"{options.bundle.name}, {options.steps} steps"
    run_alternating(options, name, asked, machine_facts(*_PACKAGES), take, summarise)


def main() -> None:
    """Take turns, or be one."""
    parser = alternating_parser(__doc__, EDITS, EDITS)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    if options.turn:
        print_process(take_turn(options), _PACKAGES)
    else:
        measure(options)


if __name__ == "__main__":
    main()
