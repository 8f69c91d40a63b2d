"""Share of an edit spent outside the engine: wall time of whole edits less the time inside ONNX Runtime.

    python -m benchmarks.overhead --out benchmarks/results/overhead.json

Only `InferenceSession.run` counts as inside; copying arrays, plans, noise, caches, cropping and pasting count as outside. An edit takes
a decoded photo and returns a Pillow image. First edits, for which nothing is cached, alternate with second edits of the same photo.
`--profile` prints the functions with the most time of their own.
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

from benchmarks.common.bundle_options import bundle_folder, make_bundle_parser, save_figures
from benchmarks.common.machine import machine_facts
from benchmarks.common.timing import Stopwatch, clear_encodings, load_sample, open_timed_editor


def time_outside(edit: Callable[[], object], watch: Stopwatch) -> tuple[float, float]:
    """Milliseconds of an edit that are spent outside the engine, and of the whole edit."""
    watch.reset()
    start = time.perf_counter()
    edit()
    whole_s = time.perf_counter() - start
    return 1000 * (whole_s - watch.total_s), 1000 * whole_s


def summarise(times: list[tuple[float, float]]) -> dict[str, float]:
    """Medians over edits of (milliseconds outside, milliseconds of the edit); `share` is the median of their ratios."""
    return {
        "share": round(statistics.median(outside / whole for outside, whole in times), 5),
        "outside_ms": round(statistics.median(outside for outside, _ in times), 3),
        "edit_ms": round(statistics.median(whole for _, whole in times), 3),
        "n": len(times),
    }


def measure(
    folder: Path, *, steps: int | None, runs: int, warm_up: int, threads: int | None, profile: bool
) -> dict[str, Any]:
    """Shares of a first and of a second edit that are spent outside ONNX Runtime.

    Args:
        folder: The bundle's folder.
        steps: Denoising steps; None takes the bundle's default.
        runs: Number of counted edits of each kind.
        warm_up: Number of edits before them.
        threads: CPU threads; None takes the backend's default.
        profile: Whether to print the functions with the most time of their own.
    """
    bundle = open_bundle(folder)
    editor, watch, _ = open_timed_editor(bundle, threads=threads)
    photo, mask, prompt = load_sample(bundle)

    def edit() -> None:
        editor.edit(photo, mask, prompt, steps=steps, seed=1)

    firsts: list[tuple[float, float]] = []
    seconds: list[tuple[float, float]] = []
    with editor:
        for number in range(warm_up + runs):
            clear_encodings(editor)
            first = time_outside(edit, watch)
            second = time_outside(edit, watch)
            if number >= warm_up:
                firsts.append(first)
                seconds.append(second)
        if profile:
            print_profile(edit, max(runs, 1))
    return {
        "steps": steps or bundle.manifest.defaults.steps,
        "first_edit": summarise(firsts),
        "second_edit": summarise(seconds),
        "machine": machine_facts("onnxruntime", "numpy", "pillow"),
    }


def print_profile(edit: Callable[[], object], runs: int) -> None:
    """Profile second edits, and print the 25 functions with the most time of their own."""
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(runs):
        edit()
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    """Measure, and write the result file."""
    parser = make_bundle_parser(__doc__)
    parser.add_argument("--runs", type=int, default=60, help="counted edits of each kind")
    parser.add_argument("--warm-up", type=int, default=3, help="edits before them")
    parser.add_argument("--profile", action="store_true", help="print the functions with the most time")
    options = parser.parse_args()
    figures = measure(
        bundle_folder(options),
        steps=options.steps,
        runs=options.runs,
        warm_up=options.warm_up,
        threads=options.threads,
        profile=options.profile,
    )
    save_figures(options, figures)


if __name__ == "__main__":
    main()
