"""Parity first, then times: one contender, one model, all cases."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from alterbute.backends import Array
from alterbute.bundle import Bundle
from alterbute.editor import Editor
from alterbute.encode.prompt import first_prompt

from benchmarks.common.timing import time_calls
from benchmarks.gpu.cases import MAX_SLOTS, GpuCase, Model, make_pictures
from benchmarks.gpu.timed import TimedBackend

LATENT_LIMIT: Final = 1e-2
PSNR_LIMIT: Final = 40.0
_PROMPT: Final = "color: red"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutput:
    """One edit's latents [C,h,w] and picture HWC uint8, for comparison."""

    latents: Array
    picture: Array


def open_editor(backend: TimedBackend, bundle: Bundle) -> Editor:
    """The editor that all measures of a contender share."""
    return Editor(bundle, backend=backend, slots=MAX_SLOTS)


def run_once(editor: Editor, backend: TimedBackend, steps: int = 20) -> RunOutput:
    """Make one guided edit.

    Args:
        editor: The contender's editor.
        backend: Its backend, which keeps the last latents.
        steps: Denoising steps.
    """
    bundle = editor.bundle
    photo, mask = make_pictures(bundle.manifest.resolution)
    backend.latents.clear()
    result = editor.edit(photo, mask, _prompt(bundle), steps=steps, guidance=_guidance(bundle, 7.5), seed=5)
    return RunOutput(latents=backend.latents[-1], picture=np.asarray(result.image, np.float32))


def compare(found: RunOutput, wanted: RunOutput) -> dict[str, Any]:
    """Errors of a contender against fp32 torch; `passes` is whether they are within the limits."""
    scale = float(np.abs(wanted.latents).max()) or 1.0
    latents = float(np.abs(found.latents - wanted.latents).max()) / scale
    error = float(np.mean((found.picture - wanted.picture) ** 2))
    psnr = 99.0 if error == 0 else 20 * np.log10(255 / np.sqrt(error))
    passes = bool(np.isfinite(latents) and latents <= LATENT_LIMIT and psnr >= PSNR_LIMIT)
    return {"latents_relative": latents, "psnr_db": round(float(psnr), 1), "passes": passes}


def measure_graphs(backend: TimedBackend, runs: int) -> dict[str, dict[str, float]]:
    """Wall milliseconds of every graph beside the step, upload and download included, on the inputs of the last edit."""
    found = {}
    for graph, inputs in list(backend.inputs.items()):
        _, seconds = time_calls(lambda graph=graph, inputs=inputs: backend.run(graph, inputs), runs, 3)  # type: ignore[misc]
        found[graph] = summary(seconds)
    return found


def measure_case(
    editor: Editor, backend: TimedBackend, case: GpuCase, model: Model, peak_tflops: float | None, runs: int
) -> dict[str, Any]:
    """Measure one kind of edit: whole edits, their steps in the loop, and the step alone.

    Args:
        editor: The contender's editor.
        backend: Its backend with clocks.
        case: Steps, guidance and batch size.
        model: The model, for its work in GFLOP.
        peak_tflops: The GPU's peak, or None where it is not known.
        runs: Edits that are counted.
    """
    bundle = editor.bundle
    photo, mask = make_pictures(bundle.manifest.resolution)
    subject = editor.prepare(photo, mask)
    loops: list[float] = []

    def edit() -> None:
        prompts = [_prompt(bundle)] * case.batch
        results = subject.edit_many(prompts, steps=case.steps, guidance=_guidance(bundle, case.guidance), seed=5)
        loops.append(max(result.timings["steps"] for result in results))

    def whole() -> None:
        editor.edit(photo, mask, _prompt(bundle), steps=case.steps, guidance=_guidance(bundle, case.guidance), seed=5)

    times = {"edits_ms": summary(time_calls(edit, runs, 2)[1])}
    if case.batch == 1:
        times["whole_edit_ms"] = summary(time_calls(whole, runs, 1)[1])
    steps = backend.steps[-1]
    loop_ms = 1000 * statistics.median(loops[2:])
    gpu_ms = steps.replay(max(10, runs), backend.clock)
    enqueue_ms = 1000 * statistics.median(steps.enqueue_s[-case.steps * runs :])
    work = case.rows * model.row_gflop if model.row_gflop else None
    return {
        "case": case.name,
        **times,
        "loop_ms": loop_ms,
        "step_gpu_ms": gpu_ms,
        "step_enqueue_ms": enqueue_ms,
        "host_gap_per_step_ms": max(0.0, loop_ms / case.steps - gpu_ms),
        "host_share": max(0.0, 1 - case.steps * gpu_ms / loop_ms),
        "achieved_tflops": work / gpu_ms if work else None,
        "share_of_peak": work / gpu_ms / peak_tflops if work and peak_tflops else None,
    }


def summary(seconds: list[float]) -> dict[str, float]:
    """p50, p90, p99 and minimum in milliseconds, and the number of values."""
    ordered = sorted(1000 * value for value in seconds)
    picks = {f"p{share}": ordered[min(len(ordered) - 1, int(share / 100 * len(ordered)))] for share in (50, 90, 99)}
    return {**{name: round(value, 3) for name, value in picks.items()}, "min": round(ordered[0], 3), "n": len(ordered)}


def _guidance(bundle: Bundle, scale: float) -> float:
    return scale if "text" in bundle.manifest.guidance.forms else 1.0


def _prompt(bundle: Bundle) -> str:
    return first_prompt(bundle.manifest.attributes) or _PROMPT
