"""Error of each precision against fp32: the same edits by several bundles, compared by latent and by pixel.

    python -m benchmarks.fidelity FP32 INT8 [FP16 ...] --edits 8 --out benchmarks/results/fidelity.json
    python -m benchmarks.fidelity engines/demo build/demo-int8 --quality 40 --out benchmarks/results/fidelity.json

Every folder is a bundle of the same checkpoint; the first one is the reference. Seeds, photos, prompts and steps are the same, and so is the
noise, so what differs is arithmetic alone. Latents are compared before decoding: the largest difference and the root mean
square, relative to the reference's. Pixels are compared where the edit was allowed; outside the mask all must be equal, or the program
fails. `--quality N` also runs the demo's quality measure on N scenes for each bundle, and gives the difference in points.
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
from benchmarks.common.timing import open_timed, sample

Edits = list[tuple[Array, Array, Array]]


def edit_all(bundle: Bundle, edits: int, steps: int | None, threads: int | None) -> Edits:
    """Make the same edits with a bundle: latent [C,h,w], picture HWC uint8 and alpha HW uint8 of each.

    Args:
        bundle: The bundle.
        edits: Number of edits.
        steps: Denoising steps; None takes the bundle's default.
        threads: CPU threads; None takes the backend's default.
    """
    editor, watch, _ = open_timed(bundle, threads=threads)
    photo, mask, prompt = sample(bundle)
    prompts = first_prompts(bundle.manifest.attributes) or (prompt,)
    made: Edits = []
    with editor:
        for seed in range(edits):
            result = editor.edit(photo, mask, prompts[seed % len(prompts)], steps=steps, seed=seed)
            latent = watch.inputs["decode"]["latent"][0].copy()
            made.append((latent, np.asarray(result.image), result.alpha))
    return made


def compare(found: Edits, wanted: Edits) -> dict[str, Any]:
    """Errors of one bundle's edits against the reference's: the worst of all edits, and the mean PSNR."""
    errors: list[dict[str, float]] = []
    for (latent, picture, alpha), (true_latent, true_picture, true_alpha) in zip(found, wanted, strict=True):
        if not np.array_equal(picture[alpha == 0], true_picture[true_alpha == 0]):
            raise SystemExit("a pixel outside the mask differs: no precision may do that")
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


def quality(folder: Path, scenes: int, steps: int | None) -> dict[str, float]:
    """The demo's quality measure, in per cent by row.

    Args:
        folder: The bundle's folder.
        scenes: New identities; each is edited in six ways.
        steps: Denoising steps; None takes the bundle's default.
    """
    from benchmarks.demo_quality import measure_bundle

    rows: dict[str, dict[str, float]] = measure_bundle(folder, scenes=scenes, steps=steps)["percent"]
    return {name: row["value"] for name, row in rows.items() if name.startswith("edit/")}


def precision_of(bundle: Bundle) -> str:
    """The type of the step graph's heavy arithmetic on ONNX Runtime's CPU."""
    return next(
        variant.precision for variant in bundle.manifest.graphs["step"].variants if variant.backend == "onnxruntime"
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, help="the fp32 bundle")
    parser.add_argument("bundles", type=Path, nargs="+", help="bundles of the same checkpoint in other precisions")
    parser.add_argument("--name", default=None, help="the entry's name; else the reference bundle's")
    parser.add_argument("--edits", type=int, default=8)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--quality", type=int, default=0, help="scenes of the demo's quality measure; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    reference = open_bundle(options.reference)
    wanted = edit_all(reference, options.edits, options.steps, options.threads)
    true_quality = quality(options.reference, options.quality, options.steps) if options.quality else {}
    found: dict[str, Any] = {}
    for folder in options.bundles:
        bundle = open_bundle(folder)
        if bundle.manifest.checkpoint != reference.manifest.checkpoint:
            raise SystemExit(f"{folder} is of another checkpoint than {options.reference}: nothing is compared")
        row = compare(edit_all(bundle, options.edits, options.steps, options.threads), wanted)
        if options.quality:
            own = quality(folder, options.quality, options.steps)
            row["quality_points"] = {name: round(own[name] - true_quality[name], 1) for name in true_quality}
        found[precision_of(bundle) if precision_of(bundle) not in found else folder.name] = row
    figures = {
        "steps": options.steps or reference.manifest.defaults.steps,
        "against": precision_of(reference),
        "bundles": found,
        **({"quality_of_reference": true_quality} if true_quality else {}),
        "machine": machine_facts("onnxruntime", "numpy"),
    }
    update_results(options.out, options.name or reference.manifest.name, figures)


if __name__ == "__main__":
    main()
