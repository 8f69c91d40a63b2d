"""Share of an edit outside the engine: wall time of whole edits against the time inside ONNX Runtime's calls.

    python -m benchmarks.overhead --out benchmarks/results/overhead.json

Inside is `InferenceSession.run` alone: copying arrays, plans, noise, caches, cutting and pasting all count as outside. Edits go
from a decoded photo to a Pillow picture; those for which nothing was cached and those of a photo that is known take turns. `--profile`
lists the functions with the most time of their own, to show where a share comes from.
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alterbute.bundle import open_bundle

from benchmarks.common.bundle_options import bundle_parser, chosen_bundle, keep
from benchmarks.common.machine import machine_facts
from benchmarks.common.timing import Stopwatch, forget_encodings, open_timed, sample


def share_of(edit: Callable[[], object], watch: Stopwatch) -> tuple[float, float]:
    """Milliseconds of an edit outside the engine, and of all of it."""
    watch.reset()
    start = time.perf_counter()
    edit()
    whole_s = time.perf_counter() - start
    return 1000 * (whole_s - watch.total_s), 1000 * whole_s


def summary(found: list[tuple[float, float]]) -> dict[str, float]:
    """Medians over edits; the share is the median of each edit's own."""
    return {
        "share": round(statistics.median(outside / whole for outside, whole in found), 5),
        "outside_ms": round(statistics.median(outside for outside, _ in found), 3),
        "edit_ms": round(statistics.median(whole for _, whole in found), 3),
        "n": len(found),
    }


def measure(
    folder: Path, *, steps: int | None, runs: int, warm_up: int, threads: int | None, profile: bool
) -> dict[str, Any]:
    """Measure the share of a first and of a second edit that is not spent in ONNX Runtime.

    Args:
        folder: The bundle's folder.
        steps: Denoising steps; None takes the bundle's default.
        runs: Edits that are counted.
        warm_up: Edits before them.
        threads: CPU threads; None takes the backend's default.
        profile: Also print the functions with the most time of their own.
    """
    bundle = open_bundle(folder)
    editor, watch, _ = open_timed(bundle, threads=threads)
    photo, mask, prompt = sample(bundle)

    def edit() -> None:
        editor.edit(photo, mask, prompt, steps=steps, seed=1)

    firsts: list[tuple[float, float]] = []
    seconds: list[tuple[float, float]] = []
    with editor:
        for number in range(warm_up + runs):
            forget_encodings(editor)
            first = share_of(edit, watch)
            second = share_of(edit, watch)
            if number >= warm_up:
                firsts.append(first)
                seconds.append(second)
        if profile:
            show_profile(edit, max(runs, 1))
    return {
        "steps": steps or bundle.manifest.defaults.steps,
        "first_edit": summary(firsts),
        "second_edit": summary(seconds),
        "machine": machine_facts("onnxruntime", "numpy", "pillow"),
    }


def show_profile(edit: Callable[[], object], runs: int) -> None:
    """Functions by their own time over some edits of a known photo."""
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(runs):
        edit()
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    """Measure and write."""
    parser = bundle_parser(__doc__)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    figures = measure(
        chosen_bundle(options),
        steps=options.steps,
        runs=options.runs,
        warm_up=options.warm_up,
        threads=options.threads,
        profile=options.profile,
    )
    keep(options, figures)


if __name__ == "__main__":
    main()
