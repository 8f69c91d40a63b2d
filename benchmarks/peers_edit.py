"""A whole edit beside its peers: 20 steps with guidance and an IP-Adapter reference, from pictures and words to a picture.

    python -m benchmarks.peers_edit --bundle BUNDLE --checkpoint CHECKPOINT --out benchmarks/results/peers_edit.json

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
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from alterbute.bundle import open_bundle

from benchmarks.machine import commit, machine_facts
from benchmarks.peer_parts.edits import EDITS, open_contender
from benchmarks.peer_parts.material import GUIDANCE, SOLVER, Material, make_material
from benchmarks.peer_parts.turns import Turn, run_turn, tell_turn
from benchmarks.results_file import update_results

_BASE: Final = "diffusers"
_PARTS: Final = ("whole", "encode", "steps", "decode")
_PACKAGES: Final = ("torch", "diffusers", "onnxruntime", "openvino")

Entry = dict[str, Any]


def take_turn(options: argparse.Namespace) -> Turn:
    """Load a contender, warm it up, time one edit, and keep what it made."""
    material, start = Material.load(options.work / "material.npz"), time.perf_counter()
    contender = open_contender(options.turn, options.bundle, options.checkpoint, options.threads)
    loaded = time.perf_counter()
    contender.edit(material, 1)
    warm = time.perf_counter()
    made = contender.edit(material, options.steps)
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


def summarise(turns: dict[str, list[Turn]]) -> Entry:
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


def resume(options: argparse.Namespace, name: str, asked: Entry) -> Entry:
    """What earlier runs kept under this name.

    Raises:
        SystemExit: they were asked something else.
    """
    kept = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    entry: Entry = kept.get(name, {"asked": asked, "contenders": {}, "failed": {}})
    if entry["asked"] != asked:
        raise SystemExit(f"{options.out} has {name!r} with {entry['asked']}, and now it is {asked}: give another --name")
    return entry


def measure(options: argparse.Namespace) -> None:
    """Take the turns that are missing, at most `--limit` of them, and keep each at once."""
    bundle = open_bundle(options.bundle)
    name = options.name or f"{bundle.manifest.name}, {options.steps} steps"
    asked = {"resolution": bundle.manifest.resolution, "steps": options.steps, "threads": options.threads}
    asked |= {"solver": SOLVER, "guidance": GUIDANCE}
    entry = resume(options, name, asked)
    turns: dict[str, list[Turn]] = {kind: [] for kind in EDITS}
    turns |= {kind: row["turns"] for kind, row in entry["contenders"].items() if kind not in options.again}
    if not (options.work / "material.npz").exists():
        make_material(bundle).save(options.work / "material.npz")
    names = ("bundle", "checkpoint", "steps", "threads", "work")
    shared = [word for key in names for word in (f"--{key}", str(getattr(options, key)))]
    missing = [kind for number in range(options.rounds) for kind in options.contenders if len(turns[kind]) <= number]
    for kind in missing[: options.limit]:
        found = run_turn("benchmarks.peers_edit", ["--turn", kind, *shared])
        entry["failed"].pop(kind, None)
        if isinstance(found, str):
            entry["failed"][kind] = found
        else:
            compared = {"compared": compare_made(options.work, kind)} if (options.work / f"{_BASE}.npz").exists() else {}
            found.pop("packages")  # all run in this environment: the machine's facts have them
            turns[kind].append({**found, **compared, "commit": commit()})
        entry |= {"machine": machine_facts(*_PACKAGES), "contenders": summarise(turns)}
        update_results(options.out, name, entry)
    sys.stderr.write(f"{name}: {len(missing[options.limit :]) if options.limit else 0} turns are still missing\n")


def main() -> None:
    """Take turns, or be one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--name", help="the entry's name; else that of the bundle and the steps")
    parser.add_argument("--contenders", nargs="+", choices=EDITS, default=list(EDITS))
    parser.add_argument("--rounds", type=int, default=2, help="turns of each contender in all")
    parser.add_argument("--limit", type=int, help="turns that this run takes at most")
    parser.add_argument("--again", nargs="+", choices=EDITS, default=[], help="contenders whose kept turns are forgotten")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("build/peers_edit"), help="where pictures and latents pass between turns")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--turn", choices=EDITS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        tell_turn(take_turn(options), _PACKAGES)
    elif options.out is None:
        parser.error("--out is needed: turns are kept there")
    else:
        measure(options)


if __name__ == "__main__":
    main()
