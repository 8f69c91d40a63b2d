"""Time of an edit: as a whole, by graph, by step, and as a fresh process.

    python -m benchmarks.latency --out benchmarks/results/latency.json
    python -m benchmarks.latency --bundle FOLDER --steps 2 --runs 2 --cold-runs 0 --out benchmarks/results/latency.json

All times come from whole edits through the public editor, not from graphs with made-up inputs. First edits, for which nothing is
cached, alternate with second edits of the same photo and prompt with another seed, which run only steps, decode and paste. Warm-up
edits are reported separately. The result file has one entry per bundle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alterbute.bundle import open_bundle

from benchmarks.cold_start import time_edit_process
from benchmarks.common.bundle_options import bundle_folder, make_bundle_parser, save_figures
from benchmarks.common.machine import machine_facts
from benchmarks.common.timing import Stopwatch, clear_encodings, load_sample, open_timed_editor, summary_ms, time_calls


def measure(folder: Path, *, steps: int | None, runs: int, warm_up: int, threads: int | None) -> dict[str, Any]:
    """Times of one bundle's edits and graphs.

    Args:
        folder: The bundle's folder.
        steps: Denoising steps; None takes the bundle's default.
        runs: Number of counted edits of each kind.
        warm_up: Number of edits before them.
        threads: CPU threads; None takes the backend's default.
    """
    bundle = open_bundle(folder)
    editor, watch, open_s = open_timed_editor(bundle, threads=threads)
    photo, mask, prompt = load_sample(bundle)
    seeds = iter(range(1 << 30))

    def first_edit() -> None:
        clear_encodings(editor)
        editor.edit(photo, mask, prompt, steps=steps, seed=next(seeds))

    def second_edit() -> None:
        editor.edit(photo, mask, prompt, steps=steps, seed=next(seeds))

    with editor:
        warm, _ = time_calls(first_edit, 0, warm_up)
        watch.reset()
        firsts: list[float] = []
        seconds: list[float] = []
        graph_times = Stopwatch()
        for _ in range(runs):
            firsts += time_calls(first_edit, 1, 0)[1]
            for graph, times in watch.seconds.items():
                graph_times.seconds[graph] += times
            watch.reset()
            seconds += time_calls(second_edit, 1, 0)[1]
            calls = watch.calls
            watch.reset()
    return {
        "resolution": bundle.manifest.resolution,
        "steps": steps or bundle.manifest.defaults.steps,
        "rows_per_step": 2 if bundle.manifest.guidance.scale != 1 else 1,
        "open_s": round(open_s, 3),
        "warm_up_s": [round(value, 3) for value in warm],
        "first_edit": summary_ms(firsts),
        "second_edit": {**summary_ms(seconds), "graph_runs": calls},
        "graphs": {graph: summary_ms(times) for graph, times in sorted(graph_times.seconds.items())},
        "machine": machine_facts("onnxruntime", "numpy", "pillow"),
    }


def main() -> None:
    """Measure, and write the result file."""
    parser = make_bundle_parser(__doc__)
    parser.add_argument("--runs", type=int, default=60, help="counted edits of each kind")
    parser.add_argument("--warm-up", type=int, default=3, help="edits before them")
    parser.add_argument("--cold-runs", type=int, default=7, help="fresh processes of `alterbute edit`; 0: not measured")
    options = parser.parse_args()
    figures = measure(
        bundle_folder(options), steps=options.steps, runs=options.runs, warm_up=options.warm_up, threads=options.threads
    )
    if options.cold_runs:
        figures["cold_start"] = summary_ms(time_edit_process(options.cold_runs, options.steps, options.bundle))
    save_figures(options, figures)


if __name__ == "__main__":
    main()
