"""Parity and times of one contender on one model."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import partial
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
"""Largest latent error, relative to the largest value."""
PSNR_LIMIT: Final = 40.0
"""Least PSNR of the picture, in dB."""
_PROMPT: Final = "color: red"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutput:
    """Clean latents [1,C,h,w] f32 and picture [H,W,3] f32, 0..255, of one edit."""

    latents: Array
    picture: Array


def open_editor(backend: TimedBackend, bundle: Bundle) -> Editor:
    """The editor that a contender is measured with; it denoises up to MAX_SLOTS images together."""
    return Editor(bundle, backend=backend, slots=MAX_SLOTS)


def run_edit(editor: Editor, backend: TimedBackend, steps: int = 20) -> RunOutput:
    """Output of one guided edit of a drawn photo.

    Args:
        editor: The contender's editor.
        backend: The editor's backend, which records latents.
        steps: Denoising steps.
    """
    bundle = editor.bundle
    photo, mask = make_pictures(bundle.manifest.resolution)
    backend.latents.clear()
    result = editor.edit(photo, mask, _prompt(bundle), steps=steps, guidance=_guidance(bundle, 7.5), seed=5)
    return RunOutput(latents=backend.latents[-1], picture=np.asarray(result.image, np.float32))


def compare(output: RunOutput, reference: RunOutput) -> dict[str, Any]:
    """Latent error and PSNR against the output of fp32 torch; `passes` states whether both are within the limits."""
    scale = float(np.abs(reference.latents).max()) or 1.0
    latents = float(np.abs(output.latents - reference.latents).max()) / scale
    error = float(np.mean((output.picture - reference.picture) ** 2))
    psnr = 99.0 if error == 0 else 20 * np.log10(255 / np.sqrt(error))
    passes = bool(np.isfinite(latents) and latents <= LATENT_LIMIT and psnr >= PSNR_LIMIT)
    return {"latents_relative": latents, "psnr_db": round(float(psnr), 1), "passes": passes}


def measure_graphs(backend: TimedBackend, runs: int) -> dict[str, dict[str, float]]:
    """Wall milliseconds of every graph except `step`, transfers included, with the inputs of the last edit."""
    times = {}
    for graph, inputs in list(backend.inputs.items()):
        _, seconds = time_calls(partial(backend.run, graph, inputs), runs, 3)
        times[graph] = summary(seconds)
    return times


def measure_case(
    editor: Editor, backend: TimedBackend, case: GpuCase, model: Model, peak_tflops: float | None, runs: int
) -> dict[str, Any]:
    """Times of one kind of edit: whole edits, their step loop, and the step alone.

    Args:
        editor: The contender's editor.
        backend: The editor's backend.
        case: Steps, guidance and batch size.
        model: The model, whose work in GFLOP gives the achieved TFLOP/s.
        peak_tflops: The GPU's peak in TFLOP/s; None if unknown.
        runs: Number of counted edits.
    """
    bundle = editor.bundle
    photo, mask = make_pictures(bundle.manifest.resolution)
    subject = editor.prepare(photo, mask)
    loops: list[float] = []

    def edit_batch() -> None:
        prompts = [_prompt(bundle)] * case.batch
        results = subject.edit_many(prompts, steps=case.steps, guidance=_guidance(bundle, case.guidance), seed=5)
        loops.append(max(result.timings["steps"] for result in results))

    def whole_edit() -> None:
        editor.edit(photo, mask, _prompt(bundle), steps=case.steps, guidance=_guidance(bundle, case.guidance), seed=5)

    times = {"edits_ms": summary(time_calls(edit_batch, runs, 2)[1])}
    if case.batch == 1:
        times["whole_edit_ms"] = summary(time_calls(whole_edit, runs, 1)[1])
    steps = backend.steps[-1]
    loop_ms = 1000 * statistics.median(loops[2:])
    gpu_ms = steps.replay(max(10, runs), backend.clock)
    enqueue_ms = 1000 * statistics.median(steps.enqueue_s[-case.steps * runs :])
    gflop = case.rows * model.row_gflop if model.row_gflop else None
    return {
        "case": case.name,
        **times,
        "loop_ms": loop_ms,
        "step_gpu_ms": gpu_ms,
        "step_enqueue_ms": enqueue_ms,
        "host_gap_per_step_ms": max(0.0, loop_ms / case.steps - gpu_ms),
        "host_share": max(0.0, 1 - case.steps * gpu_ms / loop_ms),
        "achieved_tflops": gflop / gpu_ms if gflop else None,
        "share_of_peak": gflop / gpu_ms / peak_tflops if gflop and peak_tflops else None,
    }


def summary(seconds: list[float]) -> dict[str, float]:
    """p50, p90, p99 and minimum of seconds, in milliseconds, and the number of values."""
    ordered = sorted(1000 * value for value in seconds)
    picks = {f"p{share}": ordered[min(len(ordered) - 1, int(share / 100 * len(ordered)))] for share in (50, 90, 99)}
    return {**{name: round(value, 3) for name, value in picks.items()}, "min": round(ordered[0], 3), "n": len(ordered)}


def _guidance(bundle: Bundle, scale: float) -> float:
    return scale if "text" in bundle.manifest.guidance.forms else 1.0


def _prompt(bundle: Bundle) -> str:
    return first_prompt(bundle.manifest.attributes) or _PROMPT
