"""The product's editor on a backend that is timed: whole edits, the step alone, every graph, and outputs for parity."""

from __future__ import annotations

import importlib
import statistics
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
from alterbute.backends import Array, choose_backend, open_backend
from alterbute.bundle import Bundle
from alterbute.editor import Editor
from alterbute.encode.prompt import first_prompt

from benchmarks.common.timing import time_calls
from benchmarks.gpu.cases import GUIDANCE, STEPS, make_pictures, open_measured
from benchmarks.gpu.timed import Clock, CudaClock, HostClock, TimedBackend

LATENT_LIMIT: Final = 1e-2
"""Largest error of latents, as a share of their norm."""
PSNR_LIMIT: Final = 40.0
"""Least PSNR of the picture, in dB."""
_REPLAYS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutput:
    """Clean latents [1,C,h,w] f32 and picture [H,W,3] f32, 0..255, of one edit."""

    latents: Array
    picture: Array


class TimedEditor:
    """An open editor of the product after its first edit, its timed backend, and the seconds that opening, warm-up and edit took.

    Args:
        folder: The bundle's folder.
        backend: A name in `alterbute.backends.BACKENDS`.
        slots: Maximum number of images that are denoised together.
        is_fp32: Whether the fp32 graphs run although the backend has half-precision ones.
    """

    def __init__(self, folder: str, backend: str, slots: int = 1, *, is_fp32: bool = False) -> None:
        before = free_bytes(backend)
        begin = time.monotonic()
        bundle = open_measured(folder)
        bundle = keep_fp32(bundle) if is_fp32 else bundle
        if backend == "onnxruntime":
            inner: Any = open_backend(backend, bundle)
            clock: Clock = HostClock()
        else:
            inner = choose_backend(backend, bundle, allow_unsigned=True).backend
            clock = CudaClock(inner)
        self.backend = TimedBackend(inner, clock)
        self.editor = Editor(bundle, backend=self.backend, slots=slots)
        self.open_s = round(time.monotonic() - begin, 2)
        begin = time.monotonic()
        self.editor.warm_up()
        self.warm_up_s = round(time.monotonic() - begin, 2)
        begin = time.monotonic()
        self.edit()
        self.first_edit_s = round(time.monotonic() - begin, 3)
        self._before, self._name = before, backend

    @property
    def bundle(self) -> Bundle:
        """The open bundle."""
        return self.editor.bundle

    def used_mb(self) -> int | None:
        """Device memory taken since before the backend was opened, in MB; None on the CPU."""
        after = free_bytes(self._name)
        return round((self._before - after) / 1e6) if self._before is not None and after is not None else None

    def prompt(self) -> str:
        """A prompt that the bundle takes."""
        return first_prompt(self.bundle.manifest.attributes) or "color: red"

    def guidance(self) -> float:
        """Scale of text guidance; 1 for a bundle without it."""
        return GUIDANCE if "text" in self.bundle.manifest.guidance.forms else 1.0

    def edit(self, seed: int = 1, steps: int = STEPS) -> Any:
        """Edit one drawn photo; another seed is another photo, which is encoded anew."""
        photo, mask = make_pictures(self.bundle.manifest.resolution, seed)
        return self.editor.edit(photo, mask, self.prompt(), steps=steps, guidance=self.guidance(), seed=5)

    def output(self) -> RunOutput:
        """Latents and picture of one edit of the first photo."""
        self.backend.latents.clear()
        result = self.edit()
        return RunOutput(latents=self.backend.latents[-1], picture=np.asarray(result.image, np.float32))


def measure_batch(timed: TimedEditor, batch: int, runs: int, replays: int = _REPLAYS) -> dict[str, Any]:
    """Times of edits of a prepared photo, of their step loop, and of the step alone.

    Args:
        timed: The editor, with at least `batch` slots.
        batch: Number of images denoised together.
        runs: Number of counted edits.
        replays: Number of launches of the step alone.
    """
    photo, mask = make_pictures(timed.bundle.manifest.resolution)
    subject = timed.editor.prepare(photo, mask)
    loops: list[float] = []

    def edit_batch() -> None:
        prompts = [timed.prompt()] * batch
        results = subject.edit_many(prompts, steps=STEPS, guidance=timed.guidance(), seed=5)
        loops.append(max(result.timings["steps"] for result in results))

    warm_up, seconds = time_calls(edit_batch, runs, 1)
    steps = timed.backend.steps[-1]
    gpu_ms = steps.replay(replays, timed.backend.clock)
    loop_ms = 1000 * statistics.median(loops[len(warm_up) :])
    edits = summary(seconds)
    return {
        "batch": batch,
        "rows": batch * (2 if timed.guidance() != 1 else 1),
        "first_ms": round(1000 * warm_up[0], 1),
        "edits_ms": edits,
        "images_per_s": round(1000 * batch / edits["p50"], 3),
        "loop_ms": round(loop_ms, 3),
        "step_gpu_ms": round(gpu_ms, 4),
        "step_enqueue_ms": round(1000 * statistics.median(steps.enqueue_s[-STEPS * runs :]), 4),
        "host_share": round(max(0.0, 1 - STEPS * gpu_ms / loop_ms), 4),
    }


def measure_whole_edits(timed: TimedEditor, runs: int) -> dict[str, Any]:
    """Times of whole edits, each of another photo, and of the graphs within them.

    Args:
        timed: The editor.
        runs: Number of counted edits.
    """
    timed.edit(2)
    timed.backend.graph_s.clear()
    results = []
    seconds = []
    for seed in range(10, 10 + runs):
        photo, mask = make_pictures(timed.bundle.manifest.resolution, seed)
        begin = time.perf_counter()
        results.append(
            timed.editor.edit(photo, mask, timed.prompt(), steps=STEPS, guidance=timed.guidance(), seed=5).timings
        )
        seconds.append(time.perf_counter() - begin)
    parts = {name: summary([timings[name] for timings in results]) for name in results[0]}
    graphs = {name: summary(times) | {"calls": len(times) / runs} for name, times in timed.backend.graph_s.items()}
    return {"edits_ms": summary(seconds), "parts_ms": parts, "graphs_ms": graphs}


def measure_graphs(timed: TimedEditor, runs: int) -> dict[str, dict[str, float]]:
    """Wall milliseconds of every graph except the step, transfers included, with the inputs of the last edit."""
    times = {}
    for graph, inputs in list(timed.backend.inputs.items()):
        if graph != "step":
            times[graph] = summary(time_calls(partial(timed.backend.run, graph, inputs), runs, 2)[1])
    return times


def compare(output: RunOutput, reference: RunOutput) -> dict[str, Any]:
    """Error of latents and PSNR of the picture against a reference; `passes` states whether both are within the limits."""
    latents = relative_error(output.latents, reference.latents)
    error = float(np.mean((output.picture - reference.picture) ** 2))
    psnr = 99.0 if error == 0 else 20 * np.log10(255 / np.sqrt(error))
    passes = bool(np.isfinite(latents) and latents <= LATENT_LIMIT and psnr >= PSNR_LIMIT)
    return {"latents_relative": latents, "psnr_db": round(float(psnr), 1), "passes": passes}


def relative_error(found: Array, expected: Array) -> float:
    """Norm of the difference as a share of the expected array's norm; not finite if an array is not."""
    difference = np.linalg.norm(found.astype(np.float64) - expected)
    return float(difference / (np.linalg.norm(expected.astype(np.float64)) or 1.0))


def summary(seconds: list[float]) -> dict[str, float]:
    """p50, p90, p99 and minimum of seconds, in milliseconds, and the number of values."""
    ordered = sorted(1000 * value for value in seconds)
    picks = {f"p{share}": ordered[min(len(ordered) - 1, int(share / 100 * len(ordered)))] for share in (50, 90, 99)}
    return {**{name: round(value, 3) for name, value in picks.items()}, "min": round(ordered[0], 3), "n": len(ordered)}


def keep_fp32(bundle: Bundle) -> Bundle:
    """The bundle without graphs in other precisions than fp32."""
    graphs = {
        name: replace(graph, variants=tuple(variant for variant in graph.variants if variant.precision == "fp32"))
        for name, graph in bundle.manifest.graphs.items()
    }
    return replace(bundle, manifest=replace(bundle.manifest, graphs=graphs))


def free_bytes(backend: str) -> int | None:
    """Free memory of the GPU in bytes, from the CUDA runtime; None for a backend on the CPU."""
    if backend == "onnxruntime":
        return None
    runtime = importlib.import_module("cuda.bindings.runtime")
    return int(runtime.cudaMemGetInfo()[1])
