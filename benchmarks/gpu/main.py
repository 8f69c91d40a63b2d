"""Speed of an edit on this GPU with every backend, compared with torch. Needs no network.

    python benchmarks/gpu/main.py --out benchmarks/results/gpu            # all contenders that can run here
    python benchmarks/gpu/main.py --dry-run                               # print what would run and what is missing
    python benchmarks/gpu/main.py --smoke                                 # run the program on the CPU with a tiny model

Every contender is a backend of the same editor with the same weights, photo, noise and solver. Its output is first compared with
torch in fp32; a contender outside the limits is not timed. Then edits of SD1.5 at 512x512 and SDXL at 1024x1024 are timed, with 20
guided and with 4 unguided steps, of 1, 2, 4 and 8 images at once: whole edits (wall time), the step alone (CUDA events on the stream
that runs it), the time that the host adds, memory, and the share of the GPU's peak. Weights are random: times depend on sizes
only, and random weights make parity harder, not easier.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from alterbute.bundle import open_bundle
from alterbute.errors import AlterbuteError, DeviceError, EngineError

from benchmarks.gpu.cases import MODELS, SMOKE, GpuCase, Model, cases, make_model
from benchmarks.gpu.contenders import find_recipe, free_bytes, open_contender, prepare_bundle
from benchmarks.gpu.gpu_machine import CONTENDERS, GpuMachine, probe_machine
from benchmarks.gpu.measure import RunOutput, compare, measure_case, measure_graphs, open_editor, run_edit
from benchmarks.gpu.report import plot, table

_SMOKE_CONTENDERS: Final = ("torch-cpu", "onnxruntime")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0 if every contender ran without an error and within the parity limits, else 1."""
    options = _parse_options(arguments)
    machine = probe_machine()
    contenders = _SMOKE_CONTENDERS if options.smoke else _choose_contenders(options, machine)
    models = (SMOKE,) if options.smoke else tuple(model for model in MODELS if options.model in model.kind)
    _print_plan(machine, models, contenders, options)
    if options.dry_run:
        return 0
    if not contenders:
        return 1
    work = options.work or Path(tempfile.mkdtemp(prefix="alterbute-gpu-"))
    work.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    for model in models:
        checkpoint, bundle = make_model(model, work)
        reference: RunOutput | None = None
        for name in contenders:
            result, output = _measure_contender(name, model, checkpoint, bundle, machine, reference, options)
            reference = reference or output
            results.append(result)
            _save_results(options.out, machine, results)
    print(table(results))
    return 0 if all(result.get("parity", {}).get("passes", True) and "error" not in result for result in results) else 1


def _measure_contender(
    name: str,
    model: Model,
    checkpoint: Path,
    bundle: Path,
    machine: GpuMachine,
    reference: RunOutput | None,
    options: argparse.Namespace,
) -> tuple[dict[str, Any], RunOutput | None]:
    """Result of one contender on one model, and the output of its edit; an error becomes part of the result."""
    print(f"{model.name}: {name}", file=sys.stderr, flush=True)
    result: dict[str, Any] = {"model": model.name, "contender": name}
    try:
        start = time.monotonic()
        result["recipe"] = prepare_bundle(name, bundle, machine)
        result["build_s"] = round(time.monotonic() - start, 1)
        before, start = free_bytes(name), time.monotonic()
        backend = open_contender(name, bundle, checkpoint)
        result["open_s"] = round(time.monotonic() - start, 1)
    except (AlterbuteError, RuntimeError) as fault:
        return {**result, "error": str(fault)}, None
    try:
        editor = open_editor(backend, open_bundle(bundle))
        output = run_edit(editor, backend)
        if reference is not None:
            result["parity"] = compare(output, reference)
            if not result["parity"]["passes"]:
                return result, output
        result["graphs_ms"] = measure_graphs(backend, options.runs)
        selected_cases: tuple[GpuCase, ...] = cases((1, 2)) if options.smoke else cases()
        result["cases"], result["failed_cases"] = [], {}
        for case in selected_cases:
            try:
                result["cases"].append(measure_case(editor, backend, case, model, machine.peak_tflops, options.runs))
            except EngineError as fault:
                # A recipe for a small GPU has no bucket for a large batch.
                if isinstance(fault, DeviceError) and fault.is_fatal:
                    raise
                result["failed_cases"][case.name] = str(fault)
        after = free_bytes(name)
        result["memory_mb"] = round((before - after) / 1e6) if before is not None and after is not None else None
    except (AlterbuteError, RuntimeError) as fault:
        return {**result, "error": str(fault)}, None
    finally:
        backend.close()
    return result, output


def _choose_contenders(options: argparse.Namespace, machine: GpuMachine) -> tuple[str, ...]:
    """Contenders that can run, the reference torch-fp32 first."""
    runnable = [
        name
        for name in CONTENDERS
        if name not in machine.missing or (name == "tensorrt_rtx" and options.try_rtx and machine.driver.gpu)
    ]
    selected = [name for name in runnable if not options.only or name in (*options.only, "torch-fp32")]
    return tuple(sorted(selected, key=lambda name: name != "torch-fp32"))


def _print_plan(
    machine: GpuMachine, models: tuple[Model, ...], contenders: tuple[str, ...], options: argparse.Namespace
) -> None:
    gpu = machine.driver.gpu
    print(
        f"machine     {machine.cpu}, {machine.num_cpus} CPUs, load {machine.load}; {gpu.name if gpu else 'no GPU'}; CUDA {machine.driver.cuda}"
    )
    print(f"packages    {', '.join(f'{name} {number}' for name, number in machine.packages.items())}")
    for name in CONTENDERS:
        recipe = find_recipe(name, machine)
        print(f"{name:<19} {machine.missing.get(name) or ('runs' + (f', recipe {recipe}' if recipe else ''))}")
    for model in models:
        for case in cases((1, 2)) if options.smoke else cases():
            print(f"case        {model.name}, {case.name}: {case.rows} rows a launch, {options.runs} runs")
    print(f"contenders  {', '.join(contenders) or 'none can run on this machine'}")


def _save_results(out: Path | None, machine: GpuMachine, results: list[dict[str, Any]]) -> None:
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine.as_json(), "results": results}
    out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(table(results), encoding="utf-8")
    plot(results, out.with_suffix(".png"))


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="path without suffix of the results OUT.json, OUT.md and OUT.png")
    parser.add_argument("--work", type=Path, help="folder that keeps checkpoints, bundles and engines between runs")
    parser.add_argument("--runs", type=int, default=20, help="timed runs of each call")
    parser.add_argument("--model", default="", help="measure only models whose kind contains this: sd15 or sdxl")
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, help="measure only these contenders and the reference")
    parser.add_argument(
        "--try-rtx", action="store_true", help="run tensorrt_rtx on a GPU that its release notes do not list"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would run and what is missing")
    parser.add_argument("--smoke", action="store_true", help="run the whole program on the CPU with a tiny model")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
