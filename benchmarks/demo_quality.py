"""The demo's quality measure, with the edits of a bundle as the runtime makes them.

python -m benchmarks.demo_quality --bundle engines/demo --scenes 120 --out benchmarks/results/demo_quality.json
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
from alterbute.request import Detail, EditRequest
from alterbute.subject import Subject

from benchmarks.common.machine import machine_facts
from benchmarks.common.results_file import write_results
from demo.quality import HELD_OUT, Bytes, QualityCase, measure


class Contenders:
    """Makes the four pictures of a case: the edit and the ideal edit, each pasted in two ways.

    Args:
        editor: The editor of the bundle.
        options: Steps, solver and guidance of the edits; None takes the bundle's default.
    """

    def __init__(self, editor: Editor, **options: Any) -> None:
        self._editor, self._options = editor, options
        self.seconds: list[float] = []

    def __call__(self, case: QualityCase, photo: Bytes, seed: int) -> dict[str, Bytes]:
        """The pictures by name; see `demo.quality.Edit`."""
        pictures = {}
        subject = self._editor.prepare(photo, case.mask)
        for detail in ("auto", "model"):
            begin = time.perf_counter()
            result = subject.edit(case.prompt, seed=seed, detail=detail, **self._options)
            self.seconds.append(time.perf_counter() - begin)
            pictures[detail] = np.asarray(result.image)
            pictures[f"ideal {detail}"] = self._paste_ideal(case, subject, detail)
        return pictures

    def _paste_ideal(self, case: QualityCase, subject: Subject, detail: Detail) -> Bytes:
        """The exact rendering after encoding and decoding, pasted into the photo: what a perfect editor of these latents gives."""
        editor, truth = self._editor, self._editor.prepare(case.draw(case.after), case.mask)
        request = EditRequest(prompt=case.prompt, seed=0, detail=detail)
        info = next(iter(editor.make_jobs(subject, [request], None).values()))
        ideal, roundtrip = editor.decode(truth.scenes[0].background), editor.decode_roundtrip(subject, info)
        patch = editor.make_patch(subject, info, ideal, roundtrip)
        return patch.put_into(subject.photo).pixels


def measure_bundle(
    folder: Path,
    *,
    scenes: int,
    seed: int = HELD_OUT,
    steps: int | None = None,
    guidance: float | None = None,
    solver: str | None = None,
    sheet: Path | None = None,
) -> dict[str, Any]:
    """Figures of the quality measure for one bundle, and the settings of its edits.

    Args:
        folder: The bundle's folder.
        scenes: Number of held-out identities; each is edited in six ways.
        seed: First seed of the identities.
        steps: Denoising steps; None takes the bundle's default.
        guidance: Scale of text guidance; None takes the bundle's default.
        solver: Name of the solver; None takes the bundle's default.
        sheet: Path of a contact sheet (PNG); None writes none.
    """
    bundle = open_bundle(folder)
    # No attribute list: attributes that the bundle does not offer yet are measured, too, to decide which it may offer.
    editor = Editor.open(replace(bundle, manifest=replace(bundle.manifest, attributes=None)))
    contenders = Contenders(editor, steps=steps, guidance=guidance, solver=solver)
    figures: dict[str, Any] = measure(contenders, scenes, seed=seed, sheet=sheet)
    return figures | {
        "bundle": editor.manifest.name,
        "steps": steps or editor.manifest.defaults.steps,
        "solver": solver or editor.manifest.defaults.solver,
        "guidance": guidance or editor.manifest.guidance.scale,
        "median_edit_s": round(float(np.median(contenders.seconds)), 3),
    }


def main() -> None:
    """Measure, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None, help="bundle folder; default: the demo bundle")
    parser.add_argument("--scenes", type=int, default=120, help="held-out identities; each is edited in six ways")
    parser.add_argument("--seed", type=int, default=HELD_OUT, help="first seed of the identities")
    parser.add_argument("--steps", type=int, default=None, help="denoising steps; default: the bundle's")
    parser.add_argument("--guidance", type=float, default=None, help="scale of text guidance; default: the bundle's")
    parser.add_argument("--solver", default=None, help="name of the solver; default: the bundle's")
    parser.add_argument("--out", type=Path, default=None, help="result file (JSON); default: print only")
    parser.add_argument("--sheet", type=Path, default=None, help="path of a contact sheet (PNG)")
    options = parser.parse_args()
    figures = measure_bundle(
        options.bundle or default_bundle_path(),
        scenes=options.scenes,
        seed=options.seed,
        steps=options.steps,
        guidance=options.guidance,
        solver=options.solver,
        sheet=options.sheet,
    )
    write_results(options.out, figures | {"machine": machine_facts("onnxruntime", "numpy")})


if __name__ == "__main__":
    main()
