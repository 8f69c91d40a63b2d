"""Time of an edit: by graph, by step, as a whole, and from a cold start.

    python -m benchmarks.latency --out benchmarks/results/latency.json
    python -m benchmarks.latency --bundle FOLDER --steps 2 --runs 2 --cold-runs 0 --out benchmarks/results/latency.json

Every number comes from whole edits through the public editor: nothing is timed on made-up inputs. Edits take turns: a first one, for
which nothing is cached, and a second one of the same photo with another prompt's seed, which runs steps and decode only. The edits
that fill memory and caches are reported apart. A file holds one entry per bundle; a run replaces its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alterbute.bundle import open_bundle

from benchmarks.cold_start import whole_edit
from benchmarks.common.bundle_options import bundle_parser, chosen_bundle, keep
from benchmarks.common.machine import machine_facts
from benchmarks.common.timing import Stopwatch, forget_encodings, open_timed, sample, summary_ms, time_calls


def measure(folder: Path, *, steps: int | None, runs: int, warm_up: int, threads: int | None) -> dict[str, Any]:
    """Measure the times of one bundle's graphs, steps and edits.

    Args:
        folder: The bundle's folder.
        steps: Denoising steps; None takes the bundle's default.
        runs: Edits that are counted.
        warm_up: Edits before them.
        threads: CPU threads; None takes the backend's default.
    """
    bundle = open_bundle(folder)
    editor, watch, open_s = open_timed(bundle, threads=threads)
    photo, mask, prompt = sample(bundle)
    seed = iter(range(1 << 30))

    def first() -> None:
        forget_encodings(editor)
        editor.edit(photo, mask, prompt, steps=steps, seed=next(seed))

    def second() -> None:
        editor.edit(photo, mask, prompt, steps=steps, seed=next(seed))

    with editor:
        warm, _ = time_calls(first, 0, warm_up)
        watch.reset()
        firsts: list[float] = []
        seconds: list[float] = []
        seen = Stopwatch()
        for _ in range(runs):
            firsts += time_calls(first, 1, 0)[1]
            for graph, times in watch.seconds.items():
                seen.seconds[graph] += times
            watch.reset()
            seconds += time_calls(second, 1, 0)[1]
            calls = watch.calls
            watch.reset()
    used = steps or bundle.manifest.defaults.steps
    return {
        "resolution": bundle.manifest.resolution,
        "steps": used,
        "rows_per_step": 2 if bundle.manifest.guidance.scale != 1 else 1,
        "open_s": round(open_s, 3),
        "warm_up_s": [round(value, 3) for value in warm],
        "first_edit": summary_ms(firsts),
        "second_edit": {**summary_ms(seconds), "graph_runs": calls},
        "graphs": {graph: summary_ms(times) for graph, times in sorted(seen.seconds.items())},
        "machine": machine_facts("onnxruntime", "numpy", "pillow"),
    }


def main() -> None:
    """Measure and write."""
    parser = bundle_parser(__doc__)
    parser.add_argument("--runs", type=int, default=60, help="of each kind of edit")
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--cold-runs", type=int, default=7, help="fresh processes of `alterbute edit`; 0 for none")
    options = parser.parse_args()
    figures = measure(
        chosen_bundle(options), steps=options.steps, runs=options.runs, warm_up=options.warm_up, threads=options.threads
    )
    if options.cold_runs:
        figures["cold_start"] = summary_ms(whole_edit(options.cold_runs, options.steps, options.bundle))
    keep(options, figures)


if __name__ == "__main__":
    main()
