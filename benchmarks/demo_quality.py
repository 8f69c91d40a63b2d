"""The demo's quality measure, with the edits of a bundle as the runtime makes them.

python -m benchmarks.demo_quality --bundle engines/demo --scenes 40 --out benchmarks/results/demo_quality.json
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from alterbute import Editor
from alterbute.bundle import default_bundle_path, open_bundle
from alterbute.images import paste_back

from benchmarks.common.machine import machine_facts
from benchmarks.common.results_file import write_results
from demo.quality import Bytes, measure


def round_trip(editor: Editor, photo: Bytes, mask: Bytes) -> Bytes:
    """Encode and decode the truth with the bundle's autoencoder and paste it back: the ceiling of any edit; HWC uint8.

    Args:
        editor: The editor of the bundle.
        photo: HWC uint8, the exact rendering of the edit.
        mask: HW uint8, 255 = object.
    """
    subject = editor.prepare(photo, mask)
    backend = editor._backend
    decoded = backend.run("decode", {"latent": subject.scene.background[None]})["image"][0]
    inputs = {"edited": decoded, "photo": subject.pixels, "alpha": subject.window.alpha}
    pasted = backend.run("paste", inputs)["image"]
    return paste_back(subject.photo, subject.box, pasted, subject.window.alpha)[0].pixels


def measure_bundle(
    folder: Path,
    *,
    scenes: int,
    steps: int | None = None,
    guidance: float | None = None,
    solver: str | None = None,
    sheet: Path | None = None,
) -> dict[str, Any]:
    """Figures of the quality measure for one bundle, and the settings of its edits.

    Args:
        folder: The bundle's folder.
        scenes: Number of held-out identities; each is edited in six ways.
        steps: Denoising steps; None takes the bundle's default.
        guidance: Scale of text guidance; None takes the bundle's default.
        solver: Name of the solver; None takes the bundle's default.
        sheet: Path of a contact sheet (PNG); None writes none.
    """
    bundle = open_bundle(folder)
    # No attribute list: attributes that the bundle does not offer yet are measured, too, to decide which it may offer.
    editor = Editor.open(replace(bundle, manifest=replace(bundle.manifest, attributes=None)))
    seconds: list[float] = []

    def edit(photo: Bytes, mask: Bytes, prompt: str, seed: int) -> tuple[Bytes, Bytes]:
        begin = time.perf_counter()
        result = editor.edit(photo, mask, prompt, seed=seed, steps=steps, guidance=guidance, solver=solver)
        seconds.append(time.perf_counter() - begin)
        return np.asarray(result.image), result.alpha

    figures: dict[str, Any] = measure(edit, lambda photo, mask: round_trip(editor, photo, mask), scenes, sheet)
    return figures | {
        "bundle": editor.manifest.name,
        "steps": steps or editor.manifest.defaults.steps,
        "solver": solver or editor.manifest.defaults.solver,
        "guidance": guidance or editor.manifest.guidance.scale,
        "median_edit_s": round(float(np.median(seconds)), 3),
    }


def main() -> None:
    """Measure, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None, help="bundle folder; default: the demo bundle")
    parser.add_argument("--scenes", type=int, default=40, help="held-out identities; each is edited in six ways")
    parser.add_argument("--steps", type=int, default=None, help="denoising steps; default: the bundle's")
    parser.add_argument("--guidance", type=float, default=None, help="scale of text guidance; default: the bundle's")
    parser.add_argument("--solver", default=None, help="name of the solver; default: the bundle's")
    parser.add_argument("--out", type=Path, default=None, help="result file (JSON); default: print only")
    parser.add_argument("--sheet", type=Path, default=None, help="path of a contact sheet (PNG)")
    options = parser.parse_args()
    figures = measure_bundle(
        options.bundle or default_bundle_path(),
        scenes=options.scenes,
        steps=options.steps,
        guidance=options.guidance,
        solver=options.solver,
        sheet=options.sheet,
    )
    write_results(options.out, figures | {"machine": machine_facts("onnxruntime", "numpy")})


if __name__ == "__main__":
    main()
