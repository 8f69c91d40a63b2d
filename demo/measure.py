"""Run the quality measure on a bundle with the runtime that users run, and keep the figures as JSON.

python -m demo.measure --bundle engines/demo --scenes 40 --out benchmarks/results/demo_quality.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from alterbute import Editor
from alterbute.bundle import default_bundle_path, open_bundle
from alterbute.images import paste_back

from demo.quality import Bytes, measure


def round_trip(editor: Editor, photo: Bytes, mask: Bytes) -> Bytes:
    """The truth through the bundle's own autoencoder and paste: the ceiling of every edit."""
    subject = editor.prepare(photo, mask)
    backend = editor._backend
    decoded = backend.run("decode", {"latent": subject.scene.background[None]})["image"][0]
    inputs = {"edited": decoded, "photo": subject.pixels, "alpha": subject.window.alpha}
    pasted = backend.run("paste", inputs)["image"]
    return paste_back(subject.photo, subject.box, pasted, subject.window.alpha)[0].pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None, help="a bundle folder; else the demo bundle")
    parser.add_argument("--scenes", type=int, default=40, help="new identities; each is edited in six ways")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--guidance", type=float, default=None)
    parser.add_argument("--solver", default=None)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--sheet", type=Path, default=None)
    options = parser.parse_args()
    bundle = open_bundle(options.bundle or default_bundle_path())
    # What the bundle does not offer is measured, too: the figures decide what it may offer.
    editor = Editor.open(replace(bundle, manifest=replace(bundle.manifest, attributes=None)))
    seconds: list[float] = []

    def edit(photo: Bytes, mask: Bytes, prompt: str, seed: int) -> tuple[Bytes, Bytes]:
        begin = time.perf_counter()
        result = editor.edit(
            photo, mask, prompt, seed=seed, steps=options.steps, guidance=options.guidance, solver=options.solver
        )
        seconds.append(time.perf_counter() - begin)
        return np.asarray(result.image), result.alpha

    figures = measure(edit, lambda photo, mask: round_trip(editor, photo, mask), options.scenes, options.sheet)
    figures |= {
        "bundle": editor.manifest.name,
        "steps": options.steps or editor.manifest.defaults.steps,
        "solver": options.solver or editor.manifest.defaults.solver,
        "guidance": options.guidance or editor.manifest.guidance.scale,
        "median_edit_s": round(float(np.median(seconds)), 3),
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
    }
    text = json.dumps(figures, indent=2) + "\n"
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
