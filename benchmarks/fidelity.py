"""Error of each precision against fp32: the same edits by several bundles, compared by latent and by pixel.

    python -m benchmarks.fidelity FP32 INT8 [FP16 ...] --edits 8 --out benchmarks/results/fidelity.json
    python -m benchmarks.fidelity engines/demo build/demo-int8 --quality 40 --out benchmarks/results/fidelity.json

Every folder is a bundle of the same checkpoint; the first one is the reference. Photos, prompts, seeds (hence noise) and steps are
equal, so that only the arithmetic differs. Latents are compared before decoding: the largest difference relative to the largest
value, and the rms difference relative to the rms. Pixels are compared inside the mask (alpha > 0); outside all must be equal, or
the program fails. `--quality N` also runs the demo's quality measure on N scenes with each bundle, and reports the change in points.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from alterbute.backends import Array
from alterbute.bundle import Bundle, open_bundle
from alterbute.encode.prompt import first_prompts

from benchmarks.common.machine import machine_facts
from benchmarks.common.results_file import update_results
from benchmarks.common.timing import load_sample, open_timed_editor

Edits = list[tuple[Array, Array, Array]]
"""Latent [C,h,w] f32, picture HWC uint8 and alpha HW uint8 of each edit."""


def run_edits(bundle: Bundle, edits: int, steps: int | None, threads: int | None) -> Edits:
    """Edit the sample photo with seeds 0, 1, ... and the bundle's first prompts in turn.

    Args:
        bundle: The bundle.
        edits: Number of edits.
        steps: Denoising steps; None takes the bundle's default.
        threads: CPU threads; None takes the backend's default.
    """
    editor, watch, _ = open_timed_editor(bundle, threads=threads)
    photo, mask, prompt = load_sample(bundle)
    prompts = first_prompts(bundle.manifest.attributes) or (prompt,)
    results: Edits = []
    with editor:
        for seed in range(edits):
            result = editor.edit(photo, mask, prompts[seed % len(prompts)], steps=steps, seed=seed)
            latent = watch.inputs["decode"]["latent"][0].copy()
            results.append((latent, np.asarray(result.image), result.alpha))
    return results


def compare(edits: Edits, reference: Edits) -> dict[str, Any]:
    """Errors of a bundle's edits against the reference bundle's: the worst over all edits, and the mean PSNR in dB."""
    errors: list[dict[str, float]] = []
    for (latent, picture, alpha), (true_latent, true_picture, true_alpha) in zip(edits, reference, strict=True):
        if not np.array_equal(picture[alpha == 0], true_picture[true_alpha == 0]):
            raise SystemExit(
                "a pixel outside the mask differs from the reference; expected equal pixels in every precision"
            )
        difference = picture[alpha > 0].astype(np.float64) - true_picture[alpha > 0]
        mean_square = float((difference**2).mean())
        errors.append(
            {
                "latent_max": float(abs(latent - true_latent).max() / abs(true_latent).max()),
                "latent_rms": float(np.sqrt(((latent - true_latent) ** 2).mean() / (true_latent**2).mean())),
                "psnr_db": 99.0 if mean_square == 0 else min(99.0, float(10 * np.log10(255**2 / mean_square))),
                "pixel_max": float(abs(difference).max()),
                "not_finite": float((~np.isfinite(latent)).sum()),
            }
        )
    worst = {
        name: max(error[name] for error in errors) for name in ("latent_max", "latent_rms", "pixel_max", "not_finite")
    }
    return {
        **{name: float(f"{value:.3g}") for name, value in worst.items()},
        "psnr_db_worst": round(min(error["psnr_db"] for error in errors), 1),
        "psnr_db_mean": round(float(np.mean([error["psnr_db"] for error in errors])), 1),
        "edits": len(errors),
    }


def measure_quality(folder: Path, scenes: int, steps: int | None) -> dict[str, float]:
    """Per cent of right attributes, by row of the demo's quality measure.

    Args:
        folder: The bundle's folder.
        scenes: Number of held-out identities; each is edited in six ways.
        steps: Denoising steps; None takes the bundle's default.
    """
    from benchmarks.demo_quality import measure_bundle

    rows: dict[str, dict[str, float]] = measure_bundle(folder, scenes=scenes, steps=steps)["percent"]
    return {name: row["value"] for name, row in rows.items() if name.startswith("auto/")}


def step_precision(bundle: Bundle) -> str:
    """Precision of the step graph's variant for ONNX Runtime."""
    return next(
        variant.precision for variant in bundle.manifest.graphs["step"].variants if variant.backend == "onnxruntime"
    )


def main() -> None:
    """Measure, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, help="the fp32 bundle")
    parser.add_argument("bundles", type=Path, nargs="+", help="bundles of the same checkpoint in other precisions")
    parser.add_argument(
        "--name", default=None, help="name of the entry in the result file; default: the reference bundle's name"
    )
    parser.add_argument("--edits", type=int, default=8, help="number of edits")
    parser.add_argument("--steps", type=int, default=None, help="denoising steps of an edit; default: the bundle's")
    parser.add_argument("--quality", type=int, default=0, help="scenes of the demo's quality measure; 0: not measured")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; default: the backend's")
    parser.add_argument("--out", type=Path, default=None, help="result file (JSON); default: print only")
    options = parser.parse_args()
    reference = open_bundle(options.reference)
    reference_edits = run_edits(reference, options.edits, options.steps, options.threads)
    reference_quality = measure_quality(options.reference, options.quality, options.steps) if options.quality else {}
    errors: dict[str, Any] = {}
    for folder in options.bundles:
        bundle = open_bundle(folder)
        if bundle.manifest.checkpoint != reference.manifest.checkpoint:
            raise SystemExit(
                f"{folder} was exported from another checkpoint than {options.reference}; expected the same"
            )
        row = compare(run_edits(bundle, options.edits, options.steps, options.threads), reference_edits)
        if options.quality:
            percent = measure_quality(folder, options.quality, options.steps)
            row["quality_points"] = {name: round(percent[name] - value, 1) for name, value in reference_quality.items()}
        precision = step_precision(bundle)
        errors[precision if precision not in errors else folder.name] = row
    figures = {
        "steps": options.steps or reference.manifest.defaults.steps,
        "against": step_precision(reference),
        "bundles": errors,
        **({"quality_of_reference": reference_quality} if reference_quality else {}),
        "machine": machine_facts("onnxruntime", "numpy"),
    }
    update_results(options.out, options.name or reference.manifest.name, figures)


if __name__ == "__main__":
    main()
