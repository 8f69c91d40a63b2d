"""Speed of an edit on this GPU beside other ways of running it. One command, without a network.

    python benchmarks/gpu/main.py --out benchmarks/results/gpu            # everything that can be run here
    python benchmarks/gpu/main.py --dry-run                               # what would be run, and what is missing
    python benchmarks/gpu/main.py --smoke                                 # the same program on the CPU and a tiny model

Every contender runs under the same editor with the same weights, photo, noise and solver, and is first compared with torch
in fp32; one that fails parity is not timed. Then, for SD1.5 at 512x512 and SDXL at 1024x1024, 20 guided steps and 4 plain
ones, 1, 2, 4 and 8 images at once: whole edits (wall), the step alone (events on the right stream), what the host adds, memory, and
the achieved share of the GPU's peak. Weights are random: times depend on sizes alone, and parity is harder, not easier.
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
from benchmarks.gpu.contenders import free_bytes, open_contender, prepare_bundle, recipe_for
from benchmarks.gpu.gpu_machine import CONTENDERS, GpuMachine, look_at_machine
from benchmarks.gpu.measure import RunOutput, compare, measure_case, measure_graphs, open_editor, run_once
from benchmarks.gpu.report import plot, table

_SMOKE_CONTENDERS: Final = ("torch-cpu", "onnxruntime")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurements; the exit code is 0 when every contender that ran passed parity."""
    options = _parse(arguments)
    machine = look_at_machine()
    contenders = _SMOKE_CONTENDERS if options.smoke else _choose(options, machine)
    models = (SMOKE,) if options.smoke else tuple(model for model in MODELS if options.model in model.kind)
    _tell_plan(machine, models, contenders, options)
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
            result, outcome = _run(name, model, checkpoint, bundle, machine, reference, options)
            reference = reference or outcome
            results.append(result)
            _save(options.out, machine, results)
    print(table(results))
    return 0 if all(result.get("parity", {}).get("passes", True) and "error" not in result for result in results) else 1


def _run(
    name: str,
    model: Model,
    checkpoint: Path,
    bundle: Path,
    machine: GpuMachine,
    reference: RunOutput | None,
    options: argparse.Namespace,
) -> tuple[dict[str, Any], RunOutput | None]:
    """Measure one contender on one model; a failure is recorded as its result."""
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
        outcome = run_once(editor, backend)
        if reference is not None:
            result["parity"] = compare(outcome, reference)
            if not result["parity"]["passes"]:
                return result, outcome
        result["graphs_ms"] = measure_graphs(backend, options.runs)
        chosen: tuple[GpuCase, ...] = cases((1, 2)) if options.smoke else cases()
        result["cases"], result["failed_cases"] = [], {}
        for case in chosen:
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
    return result, outcome


def _choose(options: argparse.Namespace, machine: GpuMachine) -> tuple[str, ...]:
    """The contenders that can run, fp32 torch first, which the others are compared with."""
    can = [
        name
        for name in CONTENDERS
        if name not in machine.missing or (name == "tensorrt_rtx" and options.try_rtx and machine.driver.gpu)
    ]
    wanted = [name for name in can if not options.only or name in (*options.only, "torch-fp32")]
    return tuple(sorted(wanted, key=lambda name: name != "torch-fp32"))


def _tell_plan(
    machine: GpuMachine, models: tuple[Model, ...], contenders: tuple[str, ...], options: argparse.Namespace
) -> None:
    gpu = machine.driver.gpu
    print(
        f"machine     {machine.cpu}, {machine.num_cpus} CPUs, load {machine.load}; {gpu.name if gpu else 'no GPU'}; CUDA {machine.driver.cuda}"
    )
    print(f"packages    {', '.join(f'{name} {number}' for name, number in machine.packages.items())}")
    for name in CONTENDERS:
        recipe = recipe_for(name, machine)
        print(f"{name:<19} {machine.missing.get(name) or ('runs' + (f', recipe {recipe}' if recipe else ''))}")
    for model in models:
        for case in cases((1, 2)) if options.smoke else cases():
            print(f"case        {model.name}, {case.name}: {case.rows} rows a launch, {options.runs} runs")
    print(f"contenders  {', '.join(contenders) or 'none can run here'}")


def _save(out: Path | None, machine: GpuMachine, results: list[dict[str, Any]]) -> None:
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine.as_json(), "results": results}
    out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(table(results), encoding="utf-8")
    plot(results, out.with_suffix(".png"))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="results: OUT.json, OUT.md and OUT.png")
    parser.add_argument("--work", type=Path, help="where checkpoints, bundles and engines are kept between runs")
    parser.add_argument("--runs", type=int, default=20, help="timed runs of each call")
    parser.add_argument("--model", default="", help="only models whose kind holds this word: sd15 or sdxl")
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, help="only these contenders, and the reference")
    parser.add_argument(
        "--try-rtx", action="store_true", help="run tensorrt_rtx on a GPU that its release notes do not name"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be run and what is missing")
    parser.add_argument("--smoke", action="store_true", help="the whole program on the CPU and a tiny model")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
